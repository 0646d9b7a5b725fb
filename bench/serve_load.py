#!/usr/bin/env python3
"""What `trimtab serve` costs beside the engine: serve_load.py TRIMTAB MODEL [--streams N] [--tokens N] [--idle N]

  cpu    N streams at once: processor time of the event loop's thread for each token event, kernel included; how often
         the loop was woken for a step; and how many events went with each write
  gone   the time from a client's reset until the engine runs nothing of its request, over 20 of them
  idle   resident memory of each of N streams that wait for the engine, and the loop's share of a core meanwhile
  rate   32 streams beside the same rows of `trimtab batch`: its time over theirs, by the clock and of the processor

One JSON object a line. The loop's thread is the program's first, so /proc has its time apart from the engine's."""

import argparse
import json
import os
import re
import resource
import selectors
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time


class Server:
    def __init__(self, options, *arguments):
        command = [options.trimtab, "serve", options.model, "--port", "0", "--admin-port", "0", "--public-metrics",
                   "--behind-proxy", *map(str, arguments)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            found = re.search(r"serving http://127\.0\.0\.1:(\d+)/v1", line)
            if found:
                self.port = int(found[1])
                break

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()

    def processor_time(self):
        """Seconds of the loop's thread."""
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/schedstat", encoding="ascii") as file:
            return int(file.read().split()[0]) / 1e9

    def process_time(self):
        """Seconds of all threads."""
        total = 0
        for thread in os.listdir(f"/proc/{self.process.pid}/task"):
            with open(f"/proc/{self.process.pid}/task/{thread}/schedstat", encoding="ascii") as file:
                total += int(file.read().split()[0])
        return total / 1e9

    def resident(self):
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port))

    def stream(self, prompt, n_tokens, **keys):
        return self.ask({"prompt": prompt, "max_tokens": n_tokens, "ignore_eos": True, "stream": True, "seed": 1,
                         **keys})

    def ask(self, value):
        body = json.dumps(value).encode()
        connection = self.connect()
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                           b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        return connection

    def metrics(self):
        with self.connect() as connection:
            connection.sendall(b"GET /metrics HTTP/1.0\r\nHost: a\r\n\r\n")
            text = b""
            while piece := connection.recv(1 << 16):
                text += piece
        return {name.split("{")[0]: float(value) for name, value in
                (line.rsplit(" ", 1) for line in text.decode().splitlines() if re.match(r"[a-z]\S* ", line))}


def read(connections, until):
    """Reads all of them until each has ended or `until` says so; how many reads gave something."""
    selector = selectors.DefaultSelector()
    for connection in connections:
        connection.setblocking(False)
        selector.register(connection, selectors.EVENT_READ)
    n_events = n_reads = 0
    running = len(connections)
    while running and not until(n_events):
        for key, _ in selector.select(1):
            data = key.fileobj.recv(1 << 16)
            n_reads += 1
            n_events += data.count(b'"choices":[{')
            if b"data: [DONE]" in data or not data:
                selector.unregister(key.fileobj)
                running -= 1
    selector.close()
    return n_events, n_reads


def wait_for(holds, what, seconds=120):
    """Waits until it holds; what does not come ends the measurement."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise RuntimeError(f"{what} did not come in {seconds} s")
        time.sleep(0.05)


def measure_cpu(options):
    with Server(options, "--max-batch", options.streams, "-t", 1) as server:
        # All but the last tokens, so that every stream runs while it is measured.
        connections = [server.stream(f"{i}", options.tokens) for i in range(options.streams)]
        read(connections, lambda n: n >= options.streams)
        before, begun, steps = server.processor_time(), time.monotonic(), server.metrics()
        target = options.streams * (options.tokens - 40)
        n_events, n_reads = read(connections, lambda n: n >= target)
        spent, took = server.processor_time() - before, time.monotonic() - begun
        n_steps = server.metrics()["vllm:iteration_tokens_total_count"] - steps["vllm:iteration_tokens_total_count"]
        return {"measure": "cpu", "streams": options.streams, "events": n_events,
                "events_a_second": round(n_events / took), "steps_a_second": round(n_steps / took, 1),
                "us_an_event": round(1e6 * spent / n_events, 2), "events_a_read": round(n_events / n_reads, 2)}


def measure_gone(options):
    times = []
    with Server(options, "--max-batch", 8) as server:
        for _ in range(20):
            connection = server.stream("x", 10000)
            connection.recv(1000)
            begun = time.monotonic()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
            while server.metrics()["vllm:num_requests_running"]:
                pass
            times.append(1000 * (time.monotonic() - begun))
    return {"measure": "gone", "median_ms": round(statistics.median(times), 2), "most_ms": round(max(times), 2)}


def measure_idle(options):
    """One request of many choices has the engine to itself, a whole answer, so that the loop has nothing to do for it.
    It runs before too, so that the engine's pages and buffers are resident."""
    n_running = max(128, options.idle // 4 + 1)
    with Server(options, "--max-batch", n_running, "-t", 1) as server:
        def hold(n_tokens):
            return server.ask({"prompt": ["x"] * (n_running // 128 + 1), "n": 128, "max_tokens": n_tokens,
                               "ignore_eos": True, "seed": 1})
        with hold(2) as first:
            first.recv(1 << 16)
        held = hold(480)
        wait_for(lambda: server.metrics()["vllm:num_requests_running"] >= n_running, f"{n_running} that run")
        before = server.resident()
        connections = [server.stream("x", 16) for _ in range(options.idle)]
        wait_for(lambda: server.metrics()["vllm:num_requests_waiting"] >= options.idle, f"{options.idle} that wait")
        grown, spent, begun = server.resident() - before, server.processor_time(), time.monotonic()
        time.sleep(options.seconds)
        share = (server.processor_time() - spent) / (time.monotonic() - begun)
        told = server.metrics()
        held.close()
        for connection in connections:
            connection.close()
        return {"measure": "idle", "streams": options.idle, "waiting": told["vllm:num_requests_waiting"],
                "bytes_a_stream": round(grown / options.idle), "share_of_a_core": round(share, 5)}


def run_batch(options, path, out):
    """Seconds by the clock, and processor time, of a batch; the second with the loading of the model."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [options.trimtab, "batch", options.model, "-i", path, "-o", out, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return json.loads(done.stdout)["seconds"], spent


def write_batch(path, rows):
    with open(path, "w", encoding="utf-8") as file:
        for i, row in enumerate(rows):
            file.write(json.dumps({"custom_id": f"{i}", "url": "/v1/completions", "body": row}) + "\n")


def measure_rate(options):
    """32 streams beside the same rows of `trimtab batch`, in turn; a batch of one token has the loading's share."""
    clock, spent = [], []
    with Server(options, "--max-batch", 32) as server, tempfile.TemporaryDirectory() as folder:
        path, one = os.path.join(folder, "in.jsonl"), os.path.join(folder, "one.jsonl")
        write_batch(one, [{"prompt": "x", "max_tokens": 1}])
        for turn in range(options.rounds):
            # Not the prompts of an earlier turn, whose pages may be there still.
            rows = [{"prompt": f"{turn} {i} " + "word " * 20, "max_tokens": options.tokens, "ignore_eos": True,
                     "seed": 1} for i in range(32)]
            write_batch(path, rows)
            loading = run_batch(options, one, f"{one}.{turn}")[1]
            begun, before = time.monotonic(), server.process_time()
            read([server.stream(row["prompt"], options.tokens) for row in rows], lambda _: False)
            served, served_spent = time.monotonic() - begun, server.process_time() - before
            batch, batch_spent = run_batch(options, path, f"{path}.{turn}")
            clock.append(batch / served)
            spent.append((batch_spent - loading) / served_spent)
            print(f"round {turn}: {clock[-1]:.3f} by the clock, {spent[-1]:.3f} of the processor", file=sys.stderr)
    return {"measure": "rate", "rounds": options.rounds,
            **{f"{name}_{key}": round(value, 3) for name, values in (("clock", clock), ("processor", spent))
               for key, value in (("least", min(values)), ("median", statistics.median(values)),
                                  ("most", max(values)))}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trimtab")
    parser.add_argument("model")
    parser.add_argument("--streams", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--idle", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=5, help="of idle")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("cpu", "gone", "idle", "rate"))
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    for name, measure in (("cpu", measure_cpu), ("gone", measure_gone), ("idle", measure_idle),
                          ("rate", measure_rate)):
        if options.only in (None, name):
            print(json.dumps(measure(options)), flush=True)


main()
