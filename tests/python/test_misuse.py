"""What a program does wrong, or is interrupted in: an exception that says so, never a crash, and the engine goes on."""

import contextlib
import copy
import gc
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
import weakref

import pytest
from conftest import ROOT, TINY, write_policy

import trimtab
from trimtab import _arguments, _engine


def in_child(code, expected=0, **keywords):
    """Runs a program in a process of its own. What a shell began in the background ignores interrupts, and so does what
    that begins: not this one."""
    listen = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)"
    done = subprocess.run([sys.executable, "-X", "faulthandler", "-c",
                           f"{listen}\nimport trimtab\nTINY = {str(TINY)!r}\n{code}"],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, **keywords)
    assert done.returncode == expected, done.stdout
    return done.stdout


# ---- Types and numbers


@pytest.mark.parametrize(("kind", "message", "arguments"), [
    (TypeError, "prompt must be a list of token ids", {"prompt": 5}),
    (TypeError, "prompt must be a list of token ids", {"prompt": None}),
    (TypeError, "prompt must be a list of token ids", {"prompt": [1.5, 2.0]}),
    (TypeError, "prompt must be a list of token ids", {"prompt": [[1, 2], [3, 4]]}),
    (TypeError, "not bytes", {"prompt": b"Hello"}),
    (TypeError, "messages.1. must be a dict", {"prompt": [{"role": "user", "content": "a"}, 3]}),
    (trimtab.Error, "content", {"prompt": [{"role": "user"}]}),
    (trimtab.ArgumentError, "the prompt is empty", {"prompt": []}),
    (trimtab.ArgumentError, "id 288 at 1 is not in the vocabulary of 288", {"prompt": [1, 288]}),
    (trimtab.ArgumentError, "id -1", {"prompt": [-1]}),
    (trimtab.ArgumentError, "a token id has 32 bits", {"prompt": [2**40]}),
    (trimtab.LimitError, "more than the context", {"prompt": [1] * 600}),
    (TypeError, "max_tokens must be a whole number, not str", {"max_tokens": "8"}),
    (TypeError, "max_tokens must be a whole number, not bool", {"max_tokens": True}),
    (trimtab.ArgumentError, "max_tokens is -1, which is out of its range", {"max_tokens": -1}),
    (trimtab.ArgumentError, "out of its range", {"seed": 2**64}),
    (TypeError, "temperature must be a number, not str", {"temperature": "hot"}),
    (trimtab.ArgumentError, "temperature", {"temperature": float("nan")}),
    (TypeError, "ignore_eos must be a bool, not int", {"ignore_eos": 1}),
    (TypeError, "'max_token' is not an option", {"max_token": 1}),
    (TypeError, "'ids' is not an option", {"ids": [1]}),
    (trimtab.ArgumentError, "when is 'always', not one of policy, generation, last, all", {"when": "always"}),
    (TypeError, "stop must be a list", {"stop": 3}),
    (TypeError, r"stop\[0\] must be a str", {"stop": [3]}),
    (trimtab.ArgumentError, "must not hold a NUL", {"stop": ["a\0b"]}),
    (trimtab.ArgumentError, "at most 16 stop strings", {"stop": ["a"] * 17}),
    (trimtab.ArgumentError, "layers 0 to 2, and not 3", {"keep_layers": [3]}),
    (trimtab.ArgumentError, "out of its range", {"keep_layers": [-1]}),
    (TypeError, "policies must be a Policy", {"policies": "refuse.safetensors"}),
    (TypeError, "policies must be trimtab.Policy, not int", {"policies": [3]}),
    (trimtab.ArgumentError, "not valid Unicode", {"prompt": "\ud800"}),
])
def test_requests_are_refused_by_name(engine, kind, message, arguments):
    with pytest.raises(kind, match=message):
        engine.submit(**{"prompt": "Hello"} | arguments)
    assert engine.generate("Hello", max_tokens=2).finish == "length"


def test_scales_and_stacks_are_checked(engine, policy):
    for scale, kind in (("a", TypeError), (float("inf"), trimtab.ArgumentError)):
        with pytest.raises(kind, match="scale"):
            engine.submit("Hello", policies=(policy, scale))
    with pytest.raises(trimtab.ArgumentError, match="at most 4 policies"):
        engine.submit("Hello", policies=[policy] * 5)


def test_files_are_refused_with_the_librarys_line(tmp_path):
    (tmp_path / "text.gguf").write_text("no model")
    for path, kind in ((tmp_path / "none.gguf", trimtab.FileError), (tmp_path / "text.gguf", trimtab.FormatError)):
        with pytest.raises(kind, match=path.name) as caught:
            trimtab.Engine(path)
        assert isinstance(caught.value, trimtab.Error) and caught.value.code < 0
        with pytest.raises(kind):
            trimtab.Policy.load(path)
    with pytest.raises(TypeError, match="model must be a path, not int"):
        trimtab.Engine(3)
    with pytest.raises(trimtab.ArgumentError, match="NUL"):
        trimtab.Engine("a\0b")
    with pytest.raises(TypeError, match="'threads' is not an option; there are .*n_threads"):
        trimtab.Engine(TINY, threads=2)
    with pytest.raises(trimtab.Error, match="device"):
        trimtab.Engine(TINY, device="toaster")


def test_arrays_are_refused_with_the_files_line(engine):
    for keys, message in (({"op": "push"}, "push"), ({"gate": "probe"}, "trimtab.observe|trimtab.threshold|gate"),
                          ({"colour": "red"}, "trimtab.colour"), ({"alpha": "much"}, "alpha"),
                          ({"weights": [1.0]}, "there are 1 layers"), ({"tensors": {"gate.w": [0.0]}}, "gate.w")):
        with pytest.raises(trimtab.Error, match=message):
            trimtab.Policy.from_arrays(engine, {1: [1.0] * 64}, **keys)
    for directions in ({}, {3: [1.0] * 64}, {1: [1.0] * 63}, {1: [float("nan")] * 64}):
        with pytest.raises(trimtab.Error):
            engine.add(trimtab.Policy.from_arrays(engine, directions))
    with pytest.raises(TypeError, match="direction.1 must be an array"):
        trimtab.Policy.from_arrays(engine, {1: "abc"})


def test_policies_of_an_argument_are_joined_by_plus_unless_a_file_has_one(engine, policy_path, tmp_path):
    both, plus = tmp_path / "a.safetensors", tmp_path / "a+b.safetensors"
    for path in (both, plus):
        path.write_bytes(policy_path.read_bytes())
    for text, scales in (("", []), (f"{plus}", [1]), (f"{plus}:0.5", [0.5]), (f"{both}:0.5+{both}", [0.5, 1]),
                         (f"{both}:2+{both}:3", [2, 3])):
        assert [scale for _, scale in _arguments.load_policies(engine, text)] == scales
    with pytest.raises(trimtab.FileError, match="/a: "):
        _arguments.load_policies(engine, str(tmp_path / "a+c.safetensors"))


# ---- After the end


def test_nothing_is_used_after_it_was_closed(policy):
    engine = trimtab.Engine(TINY)
    request, text = engine.submit("Hello", policies=policy), engine.text
    next(request)
    engine.close()
    engine.close()
    assert not request._handle.out[0]  # an engine is closed after its requests were freed
    uses = [lambda: next(request), request.wait, request.answer, request.cancel, lambda: request.finish,
            lambda: engine.submit("Hello"), lambda: engine.text, lambda: text.encode("a"), lambda: text.decode([1]),
            lambda: text.render([]), lambda: text.piece(1), lambda: engine.stats, lambda: engine.add(policy),
            lambda: engine.remove(policy), engine.kill_steering, engine.resume_steering, lambda: engine.capture("a"),
            lambda: engine.score(perplexity=TINY), lambda: engine.fit(data="a"), engine.__enter__]
    for use in uses:
        with pytest.raises(trimtab.ClosedError):
            use()
    request.close()
    assert policy.info.name == "test" and "closed" in repr(engine)


def test_a_closed_request_says_so_and_may_be_closed_again(engine):
    with engine.submit("Hello") as request:
        next(request)
    request.close()
    for use in (lambda: next(request), request.wait, request.answer):
        with pytest.raises(trimtab.ClosedError):
            use()
    text = trimtab.Text(TINY)
    text.close()
    with pytest.raises(trimtab.ClosedError):
        text.encode("a")


def test_abandoned_requests_are_cancelled(engine):
    for _ in range(50):
        next(engine.submit("Hello", max_tokens=400))
    gc.collect()
    steps = engine.stats.n_decode_tokens
    engine.generate("Hello", max_tokens=4)
    assert engine.stats.n_decode_tokens - steps < 10


def test_nothing_is_copied_or_opened_twice(engine, policy):
    for thing in (engine, policy, engine.text, engine.submit("Hello")):
        for copied in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="neither copied nor pickled"):
                copied(thing)
    with pytest.raises(trimtab.ArgumentError):
        engine.__init__(TINY)
    with pytest.raises(TypeError):
        trimtab.Policy(3)


def test_programs_end_whatever_they_left_open():
    in_child("e = trimtab.Engine(TINY); r = e.submit('Hello'); next(r)")
    in_child("e = trimtab.Engine(TINY); r = e.submit('Hello'); next(r); r.me = r; e.me = e; e.request = r; del e, r\n"
             "import gc; gc.collect()")
    in_child("import threading\ne = trimtab.Engine(TINY)\n"
             "threading.Thread(target=lambda: [e.generate('Hello') for _ in range(99999)], daemon=True).start()")


def test_a_fork_says_that_the_engine_is_not_its_own():
    said = in_child("""
import os, sys
e = trimtab.Engine(TINY); r = e.submit("Hello"); next(r)
if os.fork() == 0:
    for use in (lambda: next(r), lambda: e.submit("a"), lambda: e.text.encode("a")):
        try:
            use()
            os._exit(1)
        except trimtab.ClosedError as error:
            assert "fork" in str(error)
    r.close(); e.close(); del r, e
    mine = trimtab.Engine(TINY)
    assert len(mine.generate("Hello", max_tokens=3).ids) == 3
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
print(len(r.wait().ids))
""")
    assert int(said) > 3


def test_a_fork_in_the_midst_of_another_threads_turn_says_so_too():
    """The thread that has the turn is not in the child, and never gives it back there."""
    in_child("""
import os, signal, threading
e = trimtab.Engine(TINY); r = e.submit("Hello"); next(r); mine, encode = trimtab.Text(TINY), e.text.encode
has_it, release = threading.Event(), threading.Event()

def hold():
    with e._turn, mine._turn:
        has_it.set()
        release.wait(60)

thread = threading.Thread(target=hold)
thread.start()
has_it.wait()
if os.fork() == 0:
    signal.alarm(20)
    for use in (lambda: next(r), lambda: e.submit("a"), lambda: encode("a"), lambda: e.stats, r.cancel):
        try:
            use()
            os._exit(1)
        except trimtab.ClosedError as error:
            assert "fork" in str(error)
    os._exit(7 if mine.encode("a") == mine.encode("a") else 2)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
release.set()
thread.join()
assert encode("a") == mine.encode("a")
""")


# ---- Callbacks and interrupts


def test_what_a_progress_function_raises_comes_out(engine, tmp_path):
    rows = tmp_path / "in"
    rows.write_text("".join(f'{{"id": "{i}", "prompt": "Hello {i}"}}\n' for i in range(200)))

    def stop(stage, done, total):
        if done:
            raise KeyError(f"{stage} {total}")

    with pytest.raises(KeyError, match="rows 200"):
        engine.batch(rows, tmp_path / "out", max_tokens=4, progress=stop)
    report = engine.batch(rows, tmp_path / "out", max_tokens=4)
    assert report["n_rows"] == 200 and 0 < report["n_earlier"] < 200
    with pytest.raises(trimtab.BusyError, match="progress function"):
        engine.batch(rows, tmp_path / "again", max_tokens=4, progress=lambda *_: engine.generate("Hello"))
    with pytest.raises(TypeError):
        engine.batch(rows, tmp_path / "third", max_tokens=4, progress=3)
    assert engine.generate("Hello", max_tokens=2).finish == "length"


@pytest.mark.parametrize("work", ["e.generate('Hello', ignore_eos=True, max_tokens=400)",
                                  "list(e.submit('Hello', ignore_eos=True, max_tokens=400))",
                                  "list(e.generate_all(['Hello', 'a'] * 40, ignore_eos=True, max_tokens=400))",
                                  "e.score(perplexity=TINY + '/tokenizer.json', window=64, stride=1)"])
def test_an_interrupt_stops_the_work_and_no_more(work):
    """A SIGINT a few milliseconds into the work, again and again. (Python drops one that comes in a destructor, so it
    is sent again after a while.)"""
    said = in_child(f"""
import os, signal, threading, time

def interrupt(delay, done):
    time.sleep(delay)
    os.kill(os.getpid(), signal.SIGINT)
    while not done.wait(30):
        os.kill(os.getpid(), signal.SIGINT)

e = trimtab.Engine(TINY)
text = e.generate("Hello", max_tokens=20).text
stopped = 0
for i in range(15):
    done = threading.Event()
    sender = threading.Thread(target=interrupt, args=(0.001 + 0.002 * i, done))
    try:
        sender.start()
        while True:
            {work}
    except KeyboardInterrupt:
        done.set()
        stopped += 1
    sender.join()
assert e.generate("Hello", max_tokens=20).text == text
e.close()
print(stopped)
""")
    assert said.split()[-1] == "15"


def test_a_signal_handler_in_the_midst_of_a_long_function_is_refused():
    """Its engine call comes while the library is in a callback of the same thread."""
    said = in_child("""
import signal
e = trimtab.Engine(TINY)
work = lambda: e.score(perplexity=TINY + "/tokenizer.json", window=64, stride=8, limit=400)
figures = lambda report: {key: value for key, value in report.items() if "second" not in key and "speed" not in key}
first, refused, let_in = figures(work()), [], []

def handle(*_):
    try:
        e.generate("Hello", max_tokens=2)
        let_in.append(1)
    except trimtab.BusyError:
        refused.append(1)

signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
again = figures(work())
signal.setitimer(signal.ITIMER_REAL, 0)
print(len(refused), len(let_in), again.keys() == first.keys(), len(e.generate("Hello", max_tokens=3).ids))
""").split()
    assert int(said[0]) > 0 and said[2:] == ["True", "3"]


def test_a_turn_is_refused_in_its_own_midst_and_recovered_where_it_leaked(engine):
    with engine._turn:
        for use in (lambda: engine.generate("Hello"), lambda: engine.text.encode("a"), lambda: engine.stats):
            with pytest.raises(trimtab.BusyError):
                use()
        assert engine._turn._owner == threading.get_ident()
    assert engine._turn._owner is None

    def leak():  # as an interrupt at the first instruction of __exit__ does
        engine._turn.__enter__()

    leak()
    assert len(engine.generate("Hello", max_tokens=3).ids) == 3 and engine._turn._owner is None


def test_a_signal_handler_in_a_thread_that_waits_is_refused(engine):
    has_it, release, refused = threading.Event(), threading.Event(), []

    def hold():
        with engine._turn:
            has_it.set()
            release.wait(60)

    def handle(*_):
        try:
            assert engine._turn._queue.count(threading.get_ident()) == 1
            engine.generate("Hello", max_tokens=2)
        except trimtab.BusyError:
            refused.append(1)
        finally:
            release.set()

    thread, before = threading.Thread(target=hold), signal.signal(signal.SIGALRM, handle)
    thread.start()
    try:
        has_it.wait()
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        assert engine.stats.n_steps == 0 and refused == [1]
    finally:
        signal.signal(signal.SIGALRM, before)
        release.set()
        thread.join()


def test_a_generator_that_ends_in_the_midst_frees_its_requests_later(engine):
    answers = engine.generate_all(["Hello"] * 4, window=2, max_tokens=400)
    next(answers)
    with engine._turn:
        answers.close()
        assert len(engine._live) == 1
    engine.generate("Hello", max_tokens=2)
    assert not engine._live


@pytest.mark.parametrize("after", [True, False])
def test_a_policy_whose_adding_is_interrupted_stays_alive(engine, policy_path, monkeypatch, after):
    """The library may have it by then, and finds policies by their address."""
    policy, call = trimtab.Policy.load(policy_path), _engine.call
    kept = weakref.ref(policy)

    def interrupted(*arguments):
        if after:
            call(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(_engine, "call", interrupted)
    with pytest.raises(KeyboardInterrupt):
        engine.add(policy)
    monkeypatch.undo()
    del policy
    gc.collect()
    assert kept() is not None
    plain = engine.generate("Hello", max_tokens=12).ids
    assert engine.generate("Hello", policies=kept(), max_tokens=12).ids != plain
    engine.remove(kept())
    gc.collect()
    assert kept() is None


def test_a_policy_that_is_refused_is_not_kept(info, tmp_path):
    path = write_policy(tmp_path / "other.safetensors", info, f"trimtab.weights_digest={'ab' * 32}")
    with trimtab.Engine(TINY, strict_model=True) as strict:
        with pytest.raises(trimtab.MismatchError):
            strict.load_policy(path)
        assert not strict._policies


# ---- Threads


def test_threads_use_close_and_abandon_at_random(policy_path):
    """What each gets is an answer or one of the package's exceptions."""
    wrong = []
    for round in range(4):
        engine = trimtab.Engine(TINY, n_threads=1)
        policy = engine.load_policy(policy_path)
        expected = engine.generate("Hello", policies=policy, max_tokens=10).ids
        ready = threading.Barrier(6)

        def use(seed, engine=engine, policy=policy, expected=expected, ready=ready):
            choose = random.Random(seed)
            ready.wait()
            try:
                for _ in range(60):
                    deed = choose.randrange(6)
                    if deed == 0 and engine.generate("Hello", policies=policy, max_tokens=10).ids != expected:
                        wrong.append("other tokens")
                    elif deed == 1:
                        next(engine.submit("Hello", max_tokens=300))
                    elif deed == 2:
                        engine.text.encode("Hello")
                    elif deed == 3:
                        engine.capture("Hello", layers=[1])
                    elif deed == 4:
                        engine.submit("Hello").close()
                    elif deed == 5 and choose.random() < 0.02:
                        engine.close()
            except trimtab.ClosedError:
                pass
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=use, args=(round * 10 + i,)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        engine.close()
    assert not wrong


def test_a_thread_that_steps_lets_others_in(engine):
    """One that generates without a pause gets no more than every other turn: another's short request has about 12
    turns, of encoding, submitting, stepping and closing. In the order in which a lock pleases it is up to 60."""
    stop = threading.Event()

    def hog():
        while not stop.is_set():
            engine.generate("Hello", ignore_eos=True, max_tokens=300)

    thread = threading.Thread(target=hog)
    thread.start()
    try:
        before = engine.stats.n_steps
        for _ in range(20):
            engine.generate("a", max_tokens=2)
        assert engine.stats.n_steps - before < 20 * 24
    finally:
        stop.set()
        thread.join()
