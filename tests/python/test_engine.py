"""The package against the program and against PyTorch's goldens: python -m pytest tests/python, where it is installed.
TRIMTAB names the program of the same tree; tests that compare with it skip without."""

import json
import os
import subprocess
import sys
import threading
import time
import typing

import numpy as np
import pytest
from conftest import ROOT, TINY, write_policy
from safetensors.numpy import load_file

import trimtab
from trimtab import _enums, _keywords, _options

PROGRAM = os.environ.get("TRIMTAB")
needs_program = pytest.mark.skipif(not PROGRAM, reason="TRIMTAB names no program")
PROMPTS = ["Hello there", "What is a trim tab?", "a", "Rudders and ships", "Ümlaut 漢字"]


def run(*arguments):
    subprocess.run([PROGRAM, *map(str, arguments)], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def read_rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


# ---- Requests


@needs_program
def test_streamed_text_steered_and_not_is_that_of_the_programs_batch(engine, policy, policy_path, tmp_path):
    rows = write_rows(tmp_path / "in", [{"id": str(i), "prompt": prompt} for i, prompt in enumerate(PROMPTS)])
    for scale in (0, 1, 0.25):
        out = tmp_path / f"out{scale}"
        run("batch", TINY, "-i", rows, "-o", out, "--policy", f"p={policy_path}", "--sweep", f"p@{scale}", "-n", "16")
        for prompt, row in zip(PROMPTS, read_rows(out), strict=True):
            request = engine.submit(prompt, policies=(policy, scale), max_tokens=16)
            body = row["response"]["body"]
            assert "".join(token.text for token in request) == body["choices"][0]["message"]["content"]
            facts, decision = body["steering"][0], request.answer().decisions[0]
            assert facts["gate"] == pytest.approx(decision.gate, abs=1e-7) and facts["s"] == decision.s
            assert [(int(layer), c) for layer, c in facts["coef"].items()] == [
                (layer, pytest.approx(float(c), rel=1e-6)) for layer, c in enumerate(decision.coef) if c]


def test_tokens_come_one_by_one_and_end(engine):
    request = engine.submit("Hello", max_tokens=5)
    first = next(request)
    assert request.finish == "running" and isinstance(first.id, int) and first.logprob < 0
    rest = list(request)
    assert len(rest) == 4 and request.finish == "length" and next(request, None) is None
    assert [first.id, *[token.id for token in rest]] == request.answer().ids


def test_a_request_has_the_same_bits_alone_and_among_others(engine, policy):
    alone = [engine.generate(prompt, policies=policy, max_tokens=12) for prompt in PROMPTS]
    together = list(engine.generate_all(PROMPTS * 3, window=7, policies=policy, max_tokens=12))
    assert [answer.ids for answer in together] == [answer.ids for answer in alone] * 3
    assert [t.logprob for t in together[-1].tokens] == [t.logprob for t in alone[-1].tokens]


def test_options_reach_the_request(engine):
    greedy = engine.generate("Hello", max_tokens=8)
    assert engine.generate("Hello", max_tokens=8, temperature=5.0, top_k=1, seed=3).ids == greedy.ids
    assert engine.generate("Hello", max_tokens=8, temperature=5.0, seed=3).ids != greedy.ids
    top = engine.generate("Hello", max_tokens=2, n_top=3).tokens[0].top
    assert len(top) == 3 and top[0][0] == greedy.ids[0] and top[0][1] >= top[1][1]
    stopped = engine.generate("Hello", max_tokens=8, stop_ids=[greedy.ids[2]])
    assert stopped.finish == "stop" and stopped.ids == greedy.ids[:3]
    text = engine.generate("Hello", max_tokens=8).text
    assert engine.generate("Hello", max_tokens=8, stop=[text[3]]).text == text[:text.index(text[3])]
    assert engine.generate("Hello", max_tokens=8, timeout=1e-9, ignore_eos=True).finish == "deadline"


def test_prompts_are_texts_conversations_and_ids(engine):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    ids, start, end = engine.encode("Hello", system="Be brief.")
    assert ids == engine.encode(messages)[0] == engine.text.encode_chat(messages)
    assert engine.text.decode(ids[start:end]) == "Hello"
    assert engine.generate(messages, max_tokens=4).prompt_ids == engine.generate(np.array(ids), max_tokens=4).prompt_ids
    assert engine.encode("Hello", raw=True)[0] == engine.text.encode("Hello") != ids


# ---- Against PyTorch


def test_hidden_states_and_logits_are_pytorchs(engine):
    golden = load_file(TINY / "golden.safetensors")
    capture = engine.capture(golden["ids"], logits=True)
    assert capture.hidden.keys() == {0, 1, 2}
    pairs = [(capture.logits[golden["positions_logits"]], golden["logits"])]
    pairs += [(h[golden["positions_hidden"]], golden[f"hidden.{layer}"]) for layer, h in capture.hidden.items()]
    for ours, theirs in pairs:  # relative error in float32, over three layers
        assert ours.shape == theirs.shape and np.linalg.norm(ours - theirs) <= 1e-5 * np.linalg.norm(theirs)
    last = engine.capture(golden["ids"], layers=[2], first=-1)
    assert np.array_equal(last.hidden[2][0], capture.hidden[2][-1]) and last.hidden.keys() == {2}


# ---- Policies


def test_a_policy_of_arrays_is_the_one_of_the_file(engine, policy, tmp_path):
    tensors, metadata = policy.arrays()
    directions = {int(name.split(".")[1]): value for name, value in tensors.items() if name.startswith("direction")}
    gate = {name: value for name, value in tensors.items() if name.startswith("gate")}
    again = trimtab.Policy.from_arrays(engine, directions, weights=tensors["weight"], tensors=gate, alpha=1.5,
                                       gate="probe", observe=[0], threshold=0.5, name="test")
    again.save(tmp_path / "again.safetensors")
    policy.save(tmp_path / "first.safetensors")
    ours, theirs = (load_file(tmp_path / f"{name}.safetensors") for name in ("again", "first"))
    assert ours.keys() == theirs.keys() and all(np.array_equal(ours[name], theirs[name]) for name in ours)
    assert again.arrays()[1] == metadata
    a, b = (engine.generate("Hello", policies=p, max_tokens=12) for p in (policy, again))
    assert a.ids == b.ids != engine.generate("Hello", max_tokens=12).ids
    assert again.info.name == "test" and again.info.observed == [0] and again.info.alpha == 1.5


def test_policies_are_kept_to_layers_exported_and_loaded(engine, info, tmp_path):
    path = write_policy(tmp_path / "always.safetensors", info)
    some = trimtab.Policy.load(path, layers="1-2")
    assert list(some.info.weights) == [0, 1, 1]
    some.export(tmp_path / "vector.gguf")
    vector = trimtab.Policy.load(tmp_path / "vector.gguf")
    a, b = (engine.generate("Hello", policies=p, max_tokens=12) for p in (some, vector))
    assert a.ids == b.ids
    assert trimtab.inspect(path, TINY)["policy"] if "policy" in trimtab.inspect(path, TINY) else True
    engine.remove(some)
    with pytest.raises(trimtab.ArgumentError, match="does not have this policy"):
        engine.remove(some)


def test_a_stack_adds_up_and_the_kill_switch_ends_it(engine, policy):
    plain = engine.generate("Hello", max_tokens=12)
    assert engine.generate("Hello", policies=[(policy, 0.5), (policy, 0.5)], max_tokens=12).decisions[1].scale == 0.5
    request = engine.submit("Hello", policies=policy, max_tokens=12)
    next(request)
    engine.kill_steering()
    answer = request.wait()
    assert answer.decisions[0].killed_from is not None
    assert engine.generate("Hello", policies=policy, max_tokens=12).ids == plain.ids
    engine.resume_steering()
    assert engine.generate("Hello", policies=policy, max_tokens=12).ids != plain.ids


def test_a_policy_of_other_weights_warns(info, tmp_path, engine):
    path = write_policy(tmp_path / "other.safetensors", info, f"trimtab.weights_digest={'ab' * 32}")
    with pytest.warns(UserWarning, match="other weights"):
        engine.load_policy(path)
    with trimtab.Engine(TINY, strict_model=True) as strict, pytest.raises(trimtab.MismatchError):
        strict.load_policy(path)


# ---- Reports


@needs_program
@pytest.mark.parametrize("when", ["all", "last", "generation"])
def test_telemetry_is_that_of_the_programs_batch(engine, info, when, tmp_path):
    path = write_policy(tmp_path / "p.safetensors", info, "gate.b=3", f"trimtab.when={when}")
    rows = write_rows(tmp_path / "in", [{"id": "a", "prompt": "Hello there"}])
    run("batch", TINY, "-i", rows, "-o", tmp_path / "out", "--telemetry", tmp_path / "telemetry", "--telemetry-dense",
        "--policy", f"p={path}", "--sweep", "p@1", "-n", "6")
    ours = engine.generate("Hello there", policies=engine.load_policy(path), max_tokens=6, telemetry=True).telemetry
    theirs = read_rows(tmp_path / "telemetry")
    assert len(theirs) == len(ours.ids) and [row["token"] for row in theirs] == ours.ids.tolist()
    for i, row in enumerate(theirs):
        assert np.allclose(row["coef"][0], ours.coef[0, i], rtol=1e-6)
        assert np.allclose(row["norm_before"], ours.norms[i, :, 0], rtol=1e-6)
        assert np.allclose(row["norm_after"], ours.norms[i, :, 1], rtol=1e-6)


@needs_program
def test_batches_are_the_programs_byte_for_byte_but_for_when(engine, policy_path, tmp_path):
    rows = write_rows(tmp_path / "in", [{"id": str(i), "prompt": prompt} for i, prompt in enumerate(PROMPTS)])
    heard = []
    report = engine.batch(rows, tmp_path / "ours", policies={"p": policy_path}, sweep="p@0,1", max_tokens=8,
                          progress=lambda *step: heard.append(step))
    assert report["n_rows"] == 2 * len(PROMPTS) and report["n_errors"] == 0 and heard[-1] == ("rows", 10, 10)
    run("batch", TINY, "-i", rows, "-o", tmp_path / "theirs", "--policy", f"p={policy_path}", "--sweep", "p@0,1",
        "-n", "8")
    ours, theirs = (read_rows(tmp_path / name) for name in ("ours", "theirs"))
    for row in ours + theirs:
        row["response"]["body"].pop("created")
    assert ours == theirs


@pytest.mark.parametrize("when", ["policy", "last", "generation"])
def test_loglikelihoods_are_those_of_score(engine, policy, when, tmp_path):
    rows = [{"id": f"q{i}", "question": f"What is {i} and {i}?", "choices": [str(2 * i), str(3 * i), "none"],
             "answer": 0} for i in range(6)]
    data = write_rows(tmp_path / "choices", rows)
    report = engine.score(choices=data, policies=(policy, 0.75), when=when, rows=tmp_path / "rows")
    scored = read_rows(tmp_path / "rows")
    assert report["choices"]["n"] == 6 and len(scored) == 6
    for row, line in zip(rows, scored, strict=True):
        context = engine.text.encode(f"Question: {row['question']}\nAnswer:")
        pairs = [(context, engine.text.encode(f"Question: {row['question']}\nAnswer: {choice}")[len(context):])
                 for choice in row["choices"]]
        for side, steering in (("unsteered", None), ("steered", (policy, 0.75))):
            ours = list(engine.loglikelihoods(pairs, policies=steering, when=when))
            assert [float(f"{value:.9g}") for value, _, _ in ours] == line[side]["logprobs"]
            if steering:  # without policies the scorer asks for no likeliest tokens
                assert [greedy for _, greedy, _ in ours] == line[side]["greedy"]


def test_captures_of_files_hold_the_same_as_those_of_prompts(engine, tmp_path):
    rows = write_rows(tmp_path / "in", [{"id": str(i), "prompt": prompt} for i, prompt in enumerate(PROMPTS)])
    report = engine.capture_data(tmp_path / "states.safetensors", data=rows, layers="1", positions="last")
    states = load_file(tmp_path / "states.safetensors")["hidden.1"]
    assert report["n_rows"] == len(PROMPTS) == len(states)
    for prompt, state in zip(PROMPTS, states, strict=True):
        assert np.array_equal(engine.capture(prompt, layers=[1], first=-1).hidden[1][0], state)


def test_reports_of_evaluate_attack_and_stack(engine, policy, tmp_path):
    data = write_rows(tmp_path / "data", [{"id": str(i), "prompt": prompt, "label": ("harmful", "benign")[i % 2]}
                                          for i, prompt in enumerate(PROMPTS)])
    report = engine.evaluate(data=data, max_tokens=4, arms={"half": (policy, 0.5), "whole": policy})
    assert "half" in json.dumps(report) and engine.evaluate(data=[data], max_tokens=4, policies=policy)
    assert engine.attack(policy, data=data, budget=8, n_words=2)
    assert engine.stack([policy, trimtab.Policy.load(policy_of(policy, tmp_path))], data=data, max_tokens=4)


def policy_of(policy, folder):
    policy.save(folder / "saved.safetensors")
    return folder / "saved.safetensors"


# ---- The header


def test_type_hints_have_the_options_of_the_header():
    hinted = {name: hint for name, hint in vars(_keywords).items() if name.endswith("Options")}
    left = {"RequestOptions": {"ids", "keep_layers", "trace"}, "BatchOptions": {"input", "output", "policies"},
            "EvalOptions": {"arms"}, "AttackOptions": {"policy"}}
    assert len(hinted) == 9
    for name, hint in hinted.items():
        kind = "tt_" + "".join(f"_{c.lower()}" if c.isupper() else c for c in name)[1:]
        members = _options.members(kind)
        hints = typing.get_type_hints(hint)
        assert members.keys() - left.get(name, set()) == hints.keys(), name
        for option, type_ in hints.items():
            if members[option].kind == "enum":
                assert set(typing.get_args(type_)) == set(_enums.words(members[option].cname)), (name, option)


def test_the_versions_are_one():
    assert trimtab.__version__ == trimtab.version() == trimtab.build()["version"]
    assert f'#define TT_VERSION "{trimtab.version()}"' in (ROOT / "runtime/trimtab.h").read_text()


def test_threads_share_an_engine(engine, policy):
    alone = [engine.generate(prompt, policies=policy, max_tokens=24).ids for prompt in PROMPTS]
    found = {}

    def use(i):
        found[i] = [engine.generate(prompt, policies=policy, max_tokens=24).ids for prompt in PROMPTS]

    threads = [threading.Thread(target=use, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(found.values()) == [alone] * 8


def test_the_interpreters_lock_is_given_up_inside_the_library(engine):
    """No thread is made to give it up for 1000 seconds, so that another runs only where this one gives it up itself."""
    steps, done = [], threading.Event()

    def count():
        while not done.is_set():
            steps.append(1)
            time.sleep(0.0001)

    interval = sys.getswitchinterval()
    thread = threading.Thread(target=count)
    try:
        sys.setswitchinterval(1000)
        thread.start()
        before = len(steps)
        assert sum(i % 7 for i in range(300000)) and len(steps) <= before + 1
        before = len(steps)
        engine.score(perplexity=TINY / "tokenizer.json", limit=20)
        assert len(steps) > before + 10
    finally:
        sys.setswitchinterval(interval)
        done.set()
        thread.join()
