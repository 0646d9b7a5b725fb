#!/usr/bin/env python3
"""What `trimtab serve` promises of its connections, counted: measure_wire.py TRIMTAB [--only PART,..]

  drain     SIGTERM at random moments under load (--rounds): streams that had begun and are not whole
  takeover  servers that follow each other on one inherited listener (--rounds): connections refused, answers broken
  slow      readers that do not read, headers and bodies that drip: when they are cut, and what others see of it
  capacity  the time to the first token at ten times what is taken, over that where nobody is refused
  gone      clients that leave while they wait, in their prompt, and in their answer: until nothing of it is left
  soak      requests one after another on 64 connections (--requests), with the audit log: what grows

A JSON object a line. The model is the tests' tiny one, on one thread."""

import argparse
import collections
import json
import os
import pathlib
import random
import re
import selectors
import socket
import statistics
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
    check(told["broken"] == 0 and told["whole"] > 0 and set(told) <= {"whole", "503", "429", "nothing"}, f"{told}")
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


class Gaps(threading.Thread):
    """Streams that are read as they come, until told to end: the times between their tokens."""

    def __init__(self, server, n):
        super().__init__()
        self.connections = [server.open(TEXT, body(f"{i}", 400, n=64, stream=True)) for i in range(n)]
        self.gaps, self.ends = [], False

    def run(self):
        selector, last = selectors.DefaultSelector(), {}
        for connection in self.connections:
            selector.register(connection, selectors.EVENT_READ)
        while not self.ends:
            for key, _ in selector.select(1):
                key.fileobj.recv(1 << 16)
                now = time.monotonic()
                if key.fileobj in last:
                    self.gaps.append(now - last[key.fileobj])
                last[key.fileobj] = now
        selector.close()
        for connection in self.connections:
            connection.close()


def gaps_beside(server, call):
    reader = Gaps(server, 16)
    reader.start()
    call()
    reader.ends = True
    reader.join()
    return quantile(reader.gaps, .99)


def slow():
    """In turns: four seconds of 16 streams alone, and beside 150 clients that drip or do not read."""
    late, ratios, seconds = [], [], {"header": 2, "body": 3}
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

        def attack():
            unread = [server.open(TEXT, body("x", 400, n=8, logprobs=20, stream=True)) for _ in range(30)]
            threads = [thread for kind in seconds for thread in together(60, lambda _, kind=kind: drip(kind))]
            for thread in threads:
                thread.join()
            for connection in unread:
                connection.close()
        for _ in range(options.rounds // 4 or 1):
            alone = gaps_beside(server, lambda: time.sleep(4))
            beside = gaps_beside(server, attack)
            ratios.append(beside / alone)
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
    return {"cut": len(late), "latest_after_deadline": round(max(late), 3), "unread_cut_after": round(unread, 1),
            "p99_gap_ratios": [round(ratio, 3) for ratio in ratios]}


def first_tokens(server):
    """The server's own counts of the time to the first token, by the upper end of their bucket."""
    counts = {}
    for name, value in server.metrics().items():
        found = re.match(r'vllm:time_to_first_token_seconds_bucket.*le="([^"]+)"', name)
        if found:
            counts[float(found[1])] = value
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
    """The same 400 threads ask, first 40 at a time (8 run and 32 wait), then all. The threads share one interpreter, so
    what they see is told beside what the server says."""
    clients, server_p99, statuses = {}, {}, collections.Counter()
    with Server("--max-batch", 8, "-t", 1, "--behind-proxy") as server:
        for name, at_once in (("capacity", 40), ("overload", 400)):
            gate, first, before = threading.Semaphore(at_once), [], first_tokens(server)

            def ask(i, gate=gate, first=first):
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
            clients[name] = round(quantile(first, .99), 4)
            server_p99[name] = round(quantile_between(before, first_tokens(server), .99), 4)
    check(set(statuses) <= {"200", "429"}, f"{statuses}")
    return {"statuses": statuses, "p99_of_clients": clients, "p99_of_server": server_p99,
            "ratio_of_server": round(server_p99["overload"] / server_p99["capacity"], 3)}


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


def soak():
    requests = []
    for i in range(64):
        text = json.dumps(body(f"Hello {i}", 1)).encode()
        requests.append(POST + b"Content-Length: %d\r\n\r\n%b" % (len(text), text))
    with Server("--max-batch", 64, "-t", 1, "--state", "soak") as server:
        selector, seen, done, sent = selectors.DefaultSelector(), [], 0, 0
        data = {server.connect(): b"" for _ in range(64)}
        begun, spent = time.monotonic(), server.processor_time()
        for i, connection in enumerate(data):
            selector.register(connection, selectors.EVENT_READ)
            connection.sendall(requests[i])
            sent += 1
        while done < options.requests:
            for key, _ in selector.select(60):
                connection = key.fileobj
                data[connection] += connection.recv(1 << 16)
                head, end, rest = data[connection].partition(b"\r\n\r\n")
                length = re.search(rb"Content-Length: (\d+)", head) if end else None
                if not length or len(rest) < int(length[1]):
                    continue
                if not head.startswith(b"HTTP/1.1 200"):
                    raise RuntimeError(head)
                data[connection] = b""
                done += 1
                if done % (options.requests // 10) == 0:
                    seen.append({"requests": done, **look(server, "soak")})
                    print(json.dumps(seen[-1]), file=sys.stderr, flush=True)
                if sent < options.requests:
                    connection.sendall(requests[sent % 64])
                    sent += 1
        took, spent = time.monotonic() - begun, server.processor_time() - spent
        for connection in data:
            connection.close()
    grown = seen[-1]["resident"] / seen[0]["resident"] - 1
    check(grown < .05, f"memory grew by {grown:.3f}")
    check(seen[-1]["files"] <= seen[0]["files"] and seen[-1]["wal"] <= 1.5 * max(one["wal"] for one in seen[:3]),
          f"{seen}")
    return {"requests": done, "requests_a_second": round(done / took), "us_of_processor": round(1e6 * spent / done, 1),
            "memory_grown": round(grown, 4), "first": seen[0], "last": seen[-1]}


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
