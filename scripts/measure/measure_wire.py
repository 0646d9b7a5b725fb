#!/usr/bin/env python3
"""What `trimtab serve` promises of its connections, counted: measure_wire.py TRIMTAB [--only PART,..]

  drain     SIGTERM at random moments under load (--rounds): streams that had begun and are not whole
  takeover  servers that follow each other on one inherited listener (--rounds): connections refused, answers broken
  slow      readers that do not read, headers and bodies that drip: when they are cut, and what others see of it
  capacity  the time to the first token at ten times what is taken, over that where nobody is refused: by the clock, by
            the engine's steps and by the tokens that it computed meanwhile, which a busy machine does not change
  gone      clients that leave while they wait, in their prompt, and in their answer: until nothing of it is left
  soak      requests one after another on 64 connections (--requests, or --minutes), with the audit log: what grows;
            the log has all of them and verifies

A JSON object a line. The model is the tests' tiny one, on one thread."""

import argparse
import collections
import json
import multiprocessing
import os
import pathlib
import random
import re
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("trimtab")
parser.add_argument("--only", help="parts, with commas between them")
parser.add_argument("--rounds", type=int, default=20)
parser.add_argument("--requests", type=int, default=1000000)
parser.add_argument("--minutes", type=float, help="of soak, instead of a number of requests")
options = parser.parse_args()

sys.path.insert(0, str(ROOT / "tests/cli"))
sys.argv = [sys.argv[0], os.path.abspath(options.trimtab), str(ROOT / "tests/golden")]
import program  # noqa: E402
from program import check  # noqa: E402
from serve_client import Answer, Server, read_all, read_until, soon  # noqa: E402
from serve_wire import POST  # noqa: E402

TEXT = "/v1/completions"


def body(prompt, n_tokens, **keys):
    return {"prompt": prompt, "max_tokens": n_tokens, "ignore_eos": True, "seed": 1, **keys}


def together(n, call):
    threads = [threading.Thread(target=call, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    return threads


def quantile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def verdict(data, n_tokens):
    """What a client has got, all of the bytes."""
    if not data:
        return "nothing"
    status = Answer(data).status
    if status == 200:
        whole = data.count(b'"choices":[{') == n_tokens and b"data: [DONE]" in data and b'"error"' not in data
        return "whole" if whole else "broken"
    return str(status)


def drain():
    """Streams in their prompt, in their answer, and waiting; new ones come until nobody listens any more."""
    draw, told = random.Random(1), collections.Counter()
    for round_ in range(options.rounds):
        server = Server("--max-batch", 32, "-t", 1, "--behind-proxy")

        def ask(i, server=server, round_=round_):
            for k in range(1000):
                n = 20 + (i * 7 + k) % 60
                try:
                    with server.open(TEXT, body(f"{round_} {i} {k} " + "x" * (i * 5), n, stream=True)) as connection:
                        told[verdict(read_all(connection), n)] += 1
                except ConnectionRefusedError:
                    return
                except (ConnectionResetError, BrokenPipeError):  # it came when nobody listened any more
                    told["nothing"] += 1
        threads = together(64, ask)
        time.sleep(draw.uniform(.3, 1))
        server.signal()
        server.ends()
        for thread in threads:
            thread.join()
    check(told["whole"] > 0 and set(told) <= {"whole", "503", "429"}, f"{told}")
    return told


def takeover():
    told, ends = collections.Counter(), threading.Event()
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        port = listener.getsockname()[1]

        def start():
            return Server("--host", f"fd:{listener.fileno()}", "--max-batch", 32, "-t", 1, "--behind-proxy",
                          pass_fds=[listener.fileno()])

        def ask(i):
            k = 0
            while not ends.is_set():
                n, k = 5 + (i * 7 + k) % 60, k + 1
                text = json.dumps(body(f"{i} {k}", n, stream=True)).encode()
                try:
                    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
                        connection.sendall(POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" %
                                           (len(text), text))
                        told[verdict(read_all(connection), n)] += 1
                except OSError as error:
                    told[type(error).__name__] += 1
        server = start()
        threads = together(32, ask)
        for _ in range(options.rounds):
            following = start()
            server.signal()
            server.ends()
            server = following
        ends.set()
        for thread in threads:
            thread.join()
        server.signal()
        server.ends()
    check(set(told) == {"whole"}, f"{told}")
    return {"takeovers": options.rounds, **told}


def read_gaps(server, pipe, n):
    """Of n streams that are read as they come, and followed by others, until told to end: the times between their
    tokens, which are one of the engine's steps each."""
    selector, last, gaps, n_asked = selectors.DefaultSelector(), {}, [], 0

    def ask():
        nonlocal n_asked
        n_asked += 1
        selector.register(server.open(TEXT, body(f"{n_asked}", 400, stream=True)), selectors.EVENT_READ)
    for _ in range(n):
        ask()
    selector.register(pipe, selectors.EVENT_READ)
    while True:
        ready = [key.fileobj for key, _ in selector.select(1)]
        if pipe in ready:
            break
        for connection in ready:
            piece, now = connection.recv(1 << 16), time.monotonic()
            if connection in last and b"choices" in piece:
                gaps.append(now - last[connection])
            last[connection] = now
            if not piece:
                selector.unregister(connection)
                connection.close()
                del last[connection]
                ask()
    pipe.send(quantile(gaps, .99))


def loop_turns(server):
    """Turns of the server's loop, by the upper end of their bucket of seconds."""
    return {float(name.split('"')[1]): value for name, value in server.metrics().items()
            if name.startswith("trimtab_loop_lag_seconds_bucket")}


def reader(server, n):
    """A process of its own that reads n streams, and what it is told to end by."""
    pipe, other = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=read_gaps, args=(server, other, n))
    process.start()
    return process, pipe


def end(process, pipe):
    """The 99th percentile of the gaps."""
    pipe.send(None)
    gap = pipe.recv()
    process.join()
    return gap


def gaps_beside(server, call):
    """The 99th percentiles of the gaps of 16 streams, and of the loop's turns, while it is called."""
    before, process = loop_turns(server), reader(server, 16)
    call()
    return end(*process), quantile_between(before, loop_turns(server), .99)


def slow():
    """In turns: four seconds of 16 streams beside 30 others that are read as well; and beside 30 that are not read, and
    120 clients that drip."""
    late, ratios, turns, seconds = [], [], [], {"header": 2, "body": 3}
    head = POST + b"Content-Length: 1000\r\n\r\n"
    with Server("--max-batch", 64, "-t", 1, "--behind-proxy", "--header-seconds", 2, "--body-seconds", 3) as server:
        def drip(kind):
            first, more, limit = {"header": (b"GET / HTTP/1.1\r\n", b"A: b\r\n", 2), "body": (head, b"x", 3)}[kind]
            with server.send(first) as connection:
                begun, ends = time.monotonic(), False
                connection.settimeout(0.1)
                while not ends:
                    try:
                        ends = b"HTTP/1.1 408" in connection.recv(1000)
                    except TimeoutError:
                        connection.sendall(more)
                    except OSError:
                        ends = True
                late.append(time.monotonic() - begun - limit)

        def read_well():
            others = reader(server, 30)
            time.sleep(4)
            end(*others)

        def attack():
            unread = [server.open(TEXT, body("x", 400, logprobs=20, stream=True)) for _ in range(30)]
            threads = [thread for kind in seconds for thread in together(60, lambda _, kind=kind: drip(kind))]
            for thread in threads:
                thread.join()
            for connection in unread:
                connection.close()
        for _ in range(options.rounds // 4 or 1):
            alone, alone_turn = gaps_beside(server, read_well)
            beside, beside_turn = gaps_beside(server, attack)
            ratios.append(beside / alone)
            turns.append((round(1e3 * alone_turn, 2), round(1e3 * beside_turn, 2)))
        stuck = server.open(TEXT, body("x", 400, n=64, logprobs=20, stream=True))
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        begun = time.monotonic()
        soon_gone = 'trimtab_http_slow_clients_total'
        before = server.metrics()[soon_gone]
        while server.metrics()[soon_gone] == before and time.monotonic() - begun < 90:
            time.sleep(.05)
        unread = time.monotonic() - begun
        stuck.close()
    check(max(late) < 1, f"cut {max(late):.2f} s late")
    check(statistics.median(ratios) <= 1.2, f"others wait {ratios} times as long for their tokens, 99th percentiles")
    return {"cut": len(late), "latest_after_deadline": round(max(late), 3), "unread_cut_after": round(unread, 1),
            "p99_gap_ratios": [round(ratio, 3) for ratio in ratios],
            "p99_of_the_loops_turns_ms": turns}


# Of the time to the first token: what the server counts.
FIRST = {"seconds": "vllm:time_to_first_token_seconds", "steps": "trimtab_first_token_steps",
         "work": "trimtab_first_token_work"}


def first_tokens(server):
    """Its counts of these, by the upper ends of their buckets."""
    counts, told = {name: {} for name in FIRST}, server.metrics()
    for name, family in FIRST.items():
        for label, value in told.items():
            found = re.match(family + r'_bucket.*le="([^"]+)"', label)
            if found:
                counts[name][float(found[1])] = value
    return counts


def quantile_between(before, after, share):
    """As Prometheus has it: linear within a bucket."""
    ends = sorted(after)
    counts = [after[end] - before[end] for end in ends]
    wanted, low, n_low = share * counts[-1], 0, 0
    for end, n in zip(ends, counts):
        if n >= wanted:
            return low + (end - low) * (wanted - n_low) / (n - n_low) if end < float("inf") else low
        low, n_low = end, n
    return low


def capacity():
    """The same 400 threads ask, first 40 at a time (8 run and 32 wait), then all. They give way to the server, as they
    would if they were elsewhere; what they see themselves is told, and is as much theirs."""
    clients, p99, statuses = {}, collections.defaultdict(dict), collections.Counter()
    with Server("--max-batch", 8, "-t", 1, "--behind-proxy") as server:
        for name, at_once in (("capacity", 40), ("overload", 400)):
            gate, first, before = threading.Semaphore(at_once), [], first_tokens(server)

            def ask(i, gate=gate, first=first):
                os.nice(19)  # of this thread
                for k in range(20):
                    with gate:
                        begun = time.monotonic()
                        with server.open(TEXT, body(f"{i} {k}", 64, stream=True)) as connection:
                            piece = connection.recv(20)
                            if b" 200" in piece:
                                first.append(time.monotonic() - begun)
                            statuses[piece[9:12].decode()] += 1
                            read_all(connection)
            for thread in together(400, ask):
                thread.join()
            clients[name], after = round(quantile(first, .99), 4), first_tokens(server)
            for kind in FIRST:
                p99[kind][name] = round(quantile_between(before[kind], after[kind], .99), 4)
    ratios = {kind: round(values["overload"] / values["capacity"], 3) for kind, values in p99.items()}
    check(set(statuses) <= {"200", "429"}, f"{statuses}")
    check(max(ratios["steps"], ratios["work"]) <= 2, f"{p99}")
    return {"statuses": statuses, "p99_of_clients": clients, "p99_of_server": p99, "ratios_of_server": ratios}


def gone():
    out, labels = {}, '{model_name="tiny-llama",engine="0"}'
    with Server("--max-batch", 1, "--max-step-tokens", 16, "-t", 1) as server:
        def n_of(*states):
            told = server.metrics()
            return sum(told[f"vllm:num_requests_{state}{labels}"] for state in states)

        def leave(connection, *states):
            """Milliseconds until there is nothing in these states."""
            begun = time.monotonic()
            connection.close()
            while n_of(*states):
                check(time.monotonic() - begun < 5, "something is left")
            return 1e3 * (time.monotonic() - begun)

        def of_queue(i):
            with server.open(TEXT, body(f"{i}", 400, n=64, stream=True)) as before:
                read_until(before, b"data: ")
                waits = server.open(TEXT, body(f"waits {i}", 400))
                soon(lambda: n_of("waiting"), "it waits")
                took = leave(waits, "waiting")
            soon(lambda: not n_of("running", "waiting"), "the others")
            return took

        def of_prompt(i):
            reads = server.open(TEXT, body([f"{i} {k} " + "x" * 460 for k in range(64)], 1))
            soon(lambda: n_of("running"), "it reads its prompt")
            return leave(reads, "running", "waiting")

        def of_answer(i):
            writes = server.open(TEXT, body(f"{i}", 400, n=64, stream=True))
            read_until(writes, b"data: ")
            return leave(writes, "running", "waiting")
        for name, call in (("queue", of_queue), ("prompt", of_prompt), ("answer", of_answer)):
            times = [call(i) for i in range(20)]
            out[name] = {"median_ms": round(statistics.median(times), 2), "most_ms": round(max(times), 2)}
    return out


def look(server, state):
    """What a server has taken, once nothing runs."""
    wal = pathlib.Path(state) / "trimtab.db-wal"
    told = server.metrics()
    usage = next(value for name, value in told.items() if name.startswith("vllm:kv_cache_usage_perc"))
    return {"resident": server.memory(), "files": len(os.listdir(f"/proc/{server.process.pid}/fd")),
            "pages": round(usage, 4), "wal": wal.stat().st_size}


def verify(state):
    done = subprocess.run([program.trimtab, "audit", "verify", "--json", "--state", state], capture_output=True,
                          text=True, check=False)
    check(done.returncode == 0, done.stderr)
    return json.loads(done.stdout)


class Asker:
    """A connection that asks the same again and again."""

    def __init__(self, server, i):
        text = json.dumps(body(f"Hello {i}", 1)).encode()
        self.request = POST + b"Content-Length: %d\r\n\r\n%b" % (len(text), text)
        self.connection, self.data = server.connect(), b""
        self.connection.sendall(self.request)

    def has_answer(self):
        piece = self.connection.recv(1 << 16)
        if not piece:
            raise RuntimeError(f"the connection ended in an answer: {self.data[-300:]}")
        self.data += piece
        head, end, rest = self.data.partition(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head) if end else None
        if not length or len(rest) < int(length[1]):
            return False
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(head)
        self.data = b""
        return True


def soak():
    def share_done(done, took):
        return took / (60 * options.minutes) if options.minutes else done / options.requests
    with Server("--max-batch", 64, "-t", 1, "--state", "soak") as server:
        selector, seen, done = selectors.DefaultSelector(), [], 0
        begun, spent = time.monotonic(), server.processor_time()
        askers = [Asker(server, i) for i in range(64)]
        for asker in askers:
            selector.register(asker.connection, selectors.EVENT_READ, asker)
        running = len(askers)
        while running:
            for key, _ in selector.select(60):
                if not key.data.has_answer():
                    continue
                done += 1
                share = share_done(done, time.monotonic() - begun)
                if share * 10 >= len(seen) + 1:
                    seen.append({"requests": done, **look(server, "soak")})
                    print(json.dumps(seen[-1]), file=sys.stderr, flush=True)
                if share < 1:
                    key.data.connection.sendall(key.data.request)
                else:
                    running -= 1
        took, spent = time.monotonic() - begun, server.processor_time() - spent
        for asker in askers:
            asker.connection.close()
    report = verify("soak")
    grown = seen[-1]["resident"] / seen[0]["resident"] - 1
    check(grown < .05, f"memory grew by {grown:.3f}")
    check(seen[-1]["files"] <= seen[0]["files"] and seen[-1]["wal"] <= 1.5 * max(one["wal"] for one in seen[:3]),
          f"{seen}")
    check(report["entries"] == 2 * done + 2 and report["open"] == 0, f"{report}")  # and its beginning and its end
    return {"requests": done, "seconds": round(took), "requests_a_second": round(done / took),
            "us_of_processor": round(1e6 * spent / done, 1), "memory_grown": round(grown, 4), "first": seen[0],
            "last": seen[-1], "entries": report["entries"]}


def main():
    parts = [drain, takeover, slow, capacity, gone, soak]
    chosen = options.only.split(",") if options.only else [part.__name__ for part in parts]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for part in parts:
            if part.__name__ in chosen:
                print(json.dumps({"measure": part.__name__, **part()}), flush=True)
        os.chdir("/")
    program.end()


main()
