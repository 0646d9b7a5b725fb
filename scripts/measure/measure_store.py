#!/usr/bin/env python3
"""What a store of policies promises of a server, counted: measure_store.py TRIMTAB [--only PART,..]

  moves   moves of `production` while clients ask: no request under a version not in force (--moves, --requests)
  kill    the kill switch while so many streams run, then SIGKILL, then a restart (--streams, --kills): what is asked
          for after its answer is never steered, and of a running stream no choice that begins after one that was not
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


class Reader(threading.Thread):
    """A stream of many short choices, which the engine begins one after the other."""

    def __init__(self, server, i):
        super().__init__()
        self.connection = server.open(TEXT, body(prompt=f"{i}", n=64, max_tokens=12, ignore_eos=True, stream=True))
        self.data = b""

    def run(self):
        with contextlib.suppress(ConnectionResetError):
            while piece := self.connection.recv(1 << 16):
                self.data += piece
        self.connection.close()

    def killed(self):
        """Of each choice that has begun, in their order, whether its first event says that it was killed; None: it says
        that, and that it was steered all the same."""
        first = {}
        for line in self.data.split(b"\n"):
            with contextlib.suppress(ValueError):  # what was cut off
                event = json.loads(line[6:]) if line.startswith(b"data: {") else {"choices": []}
                for choice in event["choices"]:
                    if choice["index"] not in first:
                        first[choice["index"]] = event["steering"]
        told = [first[i] for i in sorted(first)]
        return [None if one["killed"] and any((one.get("coef") or {}).values()) else one["killed"] for one, in told]


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
    """Each round: streams run steered, one person kills at a random moment, requests follow, then SIGKILL; the next
    server is asked, and an approver resumes."""
    draw = random.Random(1)
    ulf = add_people()
    make_policy("p.st", "trimtab.alpha=0.2")
    policy("label", "p", "production", add_approved("p", "p.st", "--floor", 0.5))
    set_stack("p:1")
    before, after, again, choices, took = *(collections.Counter() for _ in range(4)), []
    for _ in range(options.kills):
        with Store(ulf, "--max-batch", options.streams, "--behind-proxy") as server:
            before += steered_share(server, 8)
            readers = [Reader(server, i) for i in range(options.streams)]
            for reader in readers:
                reader.start()
            while sum(b"data: {" in reader.data for reader in readers) < options.streams // 4:
                time.sleep(0.01)
            time.sleep(draw.random() / 4)
            begun = time.monotonic()
            server.admin("policy/kill", "olga")
            took.append(time.monotonic() - begun)
            choices["streams that ran then"] += sum(reader.is_alive() for reader in readers)
            after += steered_share(server, 32)
            time.sleep(draw.random() / 10)
            server.dies()
            for reader in readers:
                reader.join()
                told = reader.killed()
                n_before = told.index(True) if True in told else len(told)
                check(told == [False] * n_before + [True] * (len(told) - n_before), f"in a stream: {told}")
                choices.update({"begun before": n_before, "begun after": len(told) - n_before})
        with Store(ulf, "--max-batch", options.streams, "--behind-proxy") as server:
            again += steered_share(server, 32)
            server.admin("policy/resume", "bob")
            check(steered_share(server, 1)["steered"] == 1, "resumed")
    n = options.kills
    check(before["steered"] == 8 * n and before["killed"] == 0, f"before: {before}")
    check(after["steered"] == 0 and after["killed"] == 32 * n, f"after: {after}")
    check(again["steered"] == 0 and again["killed"] == 32 * n, f"after a restart: {again}")
    return {"kills": n, "streams": choices, "median_ms": round(1e3 * sorted(took)[n // 2], 1),
            "most_ms": round(1e3 * max(took), 1), "asked_before": before, "asked_after": after, "restarted": again}


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
