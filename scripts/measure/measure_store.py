#!/usr/bin/env python3
"""What a store of policies promises of a server, counted: measure_store.py TRIMTAB [--only PART,..]

  moves   moves of `production` while clients ask: no request under a version not in force (--moves, --requests)
  kill    the kill switch while so many streams run, then SIGKILL, then a restart (--streams, --kills; --model,
          --tokens, --within): what is asked for after its answer is never steered, nor a token that begins after it
  metrics a scrape of a server with 64 policies: its processor time; what `promtool check metrics` says of it; and under
          load, what Prometheus has of it, and of the families that vLLM's Grafana board reads

A JSON object a line. The model is the tests' tiny one. Prometheus and promtool are Debian's `prometheus`; without them
that part of metrics is left out."""

import argparse
import collections
import contextlib
import json
import os
import pathlib
import random
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("trimtab")
parser.add_argument("--only", help="parts, with commas between them")
parser.add_argument("--moves", type=int, default=1000)
parser.add_argument("--requests", type=int, default=100000)
parser.add_argument("--streams", type=int, default=256)
parser.add_argument("--kills", type=int, default=10)
parser.add_argument("--model", help="of kill, instead of the tiny one")
parser.add_argument("--tokens", type=int, default=200, help="of a stream of kill")
parser.add_argument("--within", type=float, default=0.25, help="seconds from all first tokens on in which it comes")
parser.add_argument("--prometheus", default="/usr/bin", help="the folder of prometheus and promtool")
options = parser.parse_args()

sys.path.insert(0, str(ROOT / "tests/cli"))
sys.argv = [sys.argv[0], str(pathlib.Path(options.trimtab).resolve()), str(ROOT / "tests/golden")]
import program  # noqa: E402
from program import check, make_policy  # noqa: E402
from serve_client import Answer, read_all  # noqa: E402
from serve_store import TEXT, Store, add_approved, add_people, body, policy, set_stack, test_moves  # noqa: E402

# The families that vLLM's board (examples/online_serving/prometheus_grafana/grafana.json at 004f771f3a6b) reads, by the
# forms of its queries.
BOARD = {
    "histogram_quantile(0.9, sum by(le) (rate(vllm:{}_bucket[1m])))": [
        "e2e_request_latency_seconds", "time_per_output_token_seconds", "time_to_first_token_seconds"],
    "rate(vllm:{}[1m])": ["prompt_tokens_total", "generation_tokens_total"],
    "vllm:{}": ["num_requests_running", "num_requests_waiting", "gpu_cache_usage_perc"],
    "sum by(le) (increase(vllm:{}_bucket[1m]))": ["request_prompt_tokens", "request_generation_tokens"],
    "sum by(finished_reason) (increase(vllm:{}[1m]))": ["request_success_total"],
    "rate(vllm:{}_sum[1m])": ["request_queue_time_seconds", "request_prefill_time_seconds",
                              "request_decode_time_seconds", "request_max_num_generation_tokens"],
}


def moves():
    return test_moves(options.moves, 8, options.requests)


class Stream:
    """A stream of one choice, and when each of its tokens came."""

    def __init__(self, server, i):
        self.connection = server.open(TEXT, body(prompt=f"{i}", max_tokens=options.tokens, ignore_eos=True, stream=True,
                                                 stream_options={"include_usage": True}))
        self.data, self.came = b"", []

    def read(self, piece):
        self.data += piece
        n = self.data.count(b'"choices":[{')  # of the whole, since a piece may end within one
        self.came += [time.monotonic()] * (n - len(self.came))

    def facts(self):
        """What the last event says of its steering, and the tokens of the prompt."""
        events = [json.loads(line[6:]) for line in self.data.split(b"\n") if line.startswith(b"data: {")]
        check(events and events[-1].get("usage") and len(self.came) == options.tokens, f"cut off: {self.data[-300:]}")
        return events[-1]["steering"][0], events[-1]["usage"]["prompt_tokens"]


def read_streams(streams, after_first):
    """Reads all of them to their ends; calls after_first once, on a thread, when each has a token."""
    selector, ends = selectors.DefaultSelector(), b"data: [DONE]"
    for stream in streams:
        selector.register(stream.connection, selectors.EVENT_READ, stream)
    thread, running = threading.Thread(target=after_first), len(streams)
    while running:
        for key, _ in selector.select(1):
            piece = key.fileobj.recv(1 << 16)
            key.data.read(piece)
            if not piece or ends in key.data.data[-200:]:
                selector.unregister(key.fileobj)
                running -= 1
        if thread.ident is None and all(stream.came for stream in streams):
            thread.start()
    thread.join()
    for stream in streams:
        stream.connection.close()


def steered_share(server, n):
    """Of n requests side by side: how many were steered, and how many said that they were not because of the kill."""
    told = collections.Counter()

    def ask():
        status, answer = 429, None
        while status == 429:
            status, answer = server.ask(TEXT, body(max_tokens=2, prompt=str(random.random())))
        check(status == 200, f"{answer}")
        for one in answer["steering"]:
            told["killed"] += one["killed"]
            told["steered"] += any((one.get("coef") or {}).values())
    threads = [threading.Thread(target=ask) for _ in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return told


def kill():
    """Each round: streams run steered, one person kills at a random moment, requests follow, the streams end; then
    SIGKILL; the next server is asked, and an approver resumes. A stream's end says from which token on it was not
    steered. The token before that had begun when the kill was answered if the client had it by then, or the one before
    it: then it was under way. Of the tiny model some are still on their way to the client, which is slower than it."""
    draw = random.Random(1)
    ulf = add_people()
    make_policy("p.st", "trimtab.alpha=0.2", model=options.model)
    policy("label", "p", "production", add_approved("p", "p.st", "--floor", 0.5))
    set_stack("p:1")
    serves = {"model": options.model}
    before, after, again, streams_by, took, most_beyond = *(collections.Counter() for _ in range(4)), [], 0
    for _ in range(options.kills):
        with Store(ulf, "--max-batch", options.streams, "--behind-proxy", "-t", 1, **serves) as server:
            before += steered_share(server, 8)
            streams, answered = [Stream(server, i) for i in range(options.streams)], []

            def end_steering(server=server, answered=answered):
                time.sleep(draw.random() * options.within)
                begun = time.monotonic()
                server.admin("policy/kill", "olga")
                answered.append(time.monotonic())
                took.append(answered[0] - begun)
            read_streams(streams, end_steering)
            for stream in streams:
                facts, n_prompt = stream.facts()
                n_had = sum(at <= answered[0] for at in stream.came)
                n_steered = facts["killed_from"] - n_prompt if facts["killed"] else options.tokens
                beyond = max(0, n_steered - min(n_had + 1, options.tokens))
                check(beyond <= (0 if options.model else 16), f"{beyond} tokens beyond those that had begun: {facts}")
                streams_by["killed" if facts["killed"] else "had ended"] += 1
                most_beyond = max(most_beyond, beyond)
            after += steered_share(server, 32)
            server.dies()
        with Store(ulf, "--max-batch", options.streams, "--behind-proxy", "-t", 1, **serves) as server:
            again += steered_share(server, 32)
            server.admin("policy/resume", "bob")
            check(steered_share(server, 1)["steered"] == 1, "resumed")
    n = options.kills
    check(before["steered"] == 8 * n and before["killed"] == 0, f"before: {before}")
    check(after["steered"] == 0 and after["killed"] == 32 * n, f"after: {after}")
    check(again["steered"] == 0 and again["killed"] == 32 * n, f"after a restart: {again}")
    return {"kills": n, "streams": streams_by, "tokens_beyond_most": most_beyond,
            "median_ms": round(1e3 * sorted(took)[n // 2], 1), "most_ms": round(1e3 * max(took), 1),
            "asked_before": before, "asked_after": after, "restarted": again}


def scrape(server):
    with server.open("/metrics", port=server.admin_port) as connection:
        return Answer(read_all(connection)).body


def ask_prometheus(port, query):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?query={urllib.parse.quote(query)}") as answer:
        return json.load(answer)["data"]["result"]


def watch(server):
    """Half a minute of load under Prometheus' eyes: scrapes that failed, and families of the board that have data."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with open("prometheus.yml", "w", encoding="ascii") as file:
        json.dump({"global": {"scrape_interval": "2s"}, "scrape_configs": [
            {"job_name": "trimtab", "static_configs": [{"targets": [f"127.0.0.1:{server.admin_port}"]}]}]}, file)
    command = [f"{options.prometheus}/prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data",
               f"--web.listen-address=127.0.0.1:{port}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as prometheus:
        ends = time.monotonic() + 40
        while time.monotonic() < ends:
            steered_share(server, 16)
        up = ask_prometheus(port, "up")
        scrapes, good = (float(ask_prometheus(port, f"{of}_over_time(up[40s])")[0]["value"][1])
                         for of in ("count", "sum"))
        empty = [name for query, names in BOARD.items() for name in names
                 if not any(float(row["value"][1]) >= 0 for row in ask_prometheus(port, query.format(name)))]
        prometheus.terminate()
    check(up and scrapes == good > 5, f"{good} of {scrapes} scrapes")
    check(not empty, f"without data: {empty}")
    return {"scrapes": scrapes, "failed": scrapes - good, "families": sum(map(len, BOARD.values())) - len(empty)}


def metrics():
    ulf, out = add_people(), {}
    for i in range(64):
        make_policy("p.st", f"trimtab.alpha={1 + i / 100}", "gate.b=3")
        policy("label", f"p{i}", "production", add_approved(f"p{i}", "p.st"))
    set_stack("p0:1", "p1:0.5")
    with Store(ulf, "-t", 1, "--behind-proxy") as server:
        steered_share(server, 32)
        text, spent, took = scrape(server), [], []
        for _ in range(200):
            begun, before = time.monotonic(), server.processor_time()
            scrape(server)
            spent.append(server.processor_time() - before)
            took.append(time.monotonic() - begun)
        out |= {"bytes": len(text), "series": len([line for line in text.splitlines() if not line.startswith(b"#")]),
                "processor_ms": round(1e3 * statistics.median(spent), 2),
                "clock_ms": round(1e3 * statistics.median(took), 2)}
        if os.path.exists(f"{options.prometheus}/promtool"):
            done = subprocess.run([f"{options.prometheus}/promtool", "check", "metrics"], input=text,
                                  capture_output=True, check=False)
            said = [line for line in (done.stdout + done.stderr).decode().splitlines() if line.startswith("trimtab_")]
            check(not said, f"promtool: {said}")
            out |= {"promtool_of_trimtab": len(said), **watch(server)}
    check(statistics.median(spent) < .005, f"{out}")
    return out


def main():
    for part in (moves, kill, metrics):
        if options.only and part.__name__ not in options.only.split(","):
            continue
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            print(json.dumps({"measure": part.__name__, **part()}), flush=True)
            os.chdir("/")
    program.end()


main()
