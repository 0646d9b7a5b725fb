#!/usr/bin/env python3
"""What steering costs this program, llama.cpp and PyTorch with Transformers, and how fast each is with it: one vector
added at every layer, in llama-bench's tests, with the same file, threads and lengths. Each program runs its two sides
in turn; the programs run in turn too. llama.cpp's way is its control vector, PyTorch's forward hooks on float32
weights, which it loads once for all passes. A peer that is missing is said and left out.

    steering.py TRIMTAB MODEL [--llama LLAMA-STEERING] [--torch PYTHON] [--prompt 512] [--generate 128] [--rounds 3]
        [--passes 3] [--threads N] [--json FILE]

--json writes every sample, with machine, build and commit, as bench/schema.json describes it. PYTHON: of a virtual
environment with scripts/goldens/requirements.txt."""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent


def output_of(command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{command[0]} failed:\n" + done.stderr[-2000:])
    return json.loads(done.stdout)


def ours(arguments):
    rows = output_of([arguments.ours, "bench", arguments.model, "-p", arguments.prompt, "-n", arguments.generate, "-r",
                      arguments.rounds, "-t", arguments.threads, "--kv", "f16", "-o", "json", "--report",
                      arguments.report])
    return {f"pp{row['n_prompt']}" if row["n_prompt"] else f"tg{row['n_gen']}":
            {"off": [ns / 1e9 for ns in row["samples_ns"]],
             "steered": [ns / 1e9 for ns in row["steered"]["samples_ns"]]} for row in rows}


def peer(*command):
    def run(arguments):
        return output_of([*command, arguments.model, arguments.prompt, arguments.generate, arguments.rounds,
                          arguments.threads])
    return run


class Torch:
    """The peer in PyTorch, which stays."""

    def __init__(self, arguments):
        self.errors = tempfile.TemporaryFile("w+")
        command = [arguments.torch, HERE / "torch_steering.py", arguments.model, arguments.prompt, arguments.generate,
                   arguments.rounds, arguments.threads]
        self.process = subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.errors, text=True)

    def __call__(self, _):
        print(file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            sys.exit("PyTorch failed:\n" + self.errors.read()[-2000:])
        return json.loads(line)


def summary(values):
    low, high, covered = interval(values)
    return {"n": len(values), "median": statistics.median(values), "low": low, "high": high, "coverage": covered,
            "min": min(values), "max": max(values)}


def write_report(arguments, samples):
    """By bench/schema.json; what is not a case is as in this program's own report of its last pass."""
    report = json.loads(Path(arguments.report).read_text(encoding="utf-8"))
    report.update(program="bench/peers/steering.py", command=sys.argv, cases=[])
    for program, tests in samples.items():
        for test, sides in tests.items():
            n, off = int(test[2:]), f"{program}, off"
            for side, seconds in sides.items():
                ratio = summary([b / a for a, b in zip(sides["off"], seconds)]) if side != "off" else None
                rates = {"unit": "tokens", "amount": n, "per_second": summary([n / one for one in seconds]),
                         "ceiling": None, "share": None}
                report["cases"].append(
                    {"group": test, "name": f"{program}, {side}", "note": None, "error": None, "calls_per_sample": 1,
                     "samples_s": seconds, "seconds": summary(seconds), "work": [rates],
                     "baseline": off if ratio else None, "ratio": ratio})
    Path(arguments.json).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def interval(values):
    """Of the median, by order statistics: the two that cover it with at least 95%, else all; and with how much."""
    values, n, best = sorted(values), len(values), 1
    covers = [1 - 2 * sum(math.comb(n, i) for i in range(k)) / 2 ** n for k in range(1, n // 2 + 1)] or [0]
    for k, covered in enumerate(covers, 1):
        best = k if covered >= 0.95 else best
    return values[best - 1], values[n - best], covers[best - 1]


def show(programs, samples, test):
    n = int(test[2:])
    print(f"\n| {test} | t/s | t/s steered | steered / off, time | beside this program: off | steered |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    first = {side: statistics.median(samples[programs[0]][test][side]) for side in ("off", "steered")}
    for program in programs:
        sides = samples[program][test]
        ratios = [b / a for a, b in zip(sides["off"], sides["steered"])]
        low, high, covered = interval(ratios)
        rates = {side: n / statistics.median(sides[side]) for side in sides}
        beside = [f"{first[side] / statistics.median(sides[side]):.2f}" for side in ("off", "steered")]
        print(f"| {program} | {rates['off']:.1f} | {rates['steered']:.1f} | {statistics.median(ratios):.3f} "
              f"({low:.3f} to {high:.3f}, {100 * covered:.0f}%) | {beside[0]} | {beside[1]} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ours")
    parser.add_argument("model", type=Path)
    parser.add_argument("--llama", default="build-llama.cpp/llama-steering")
    parser.add_argument("--torch")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--generate", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        arguments.report = os.path.join(folder, "report.json")
        measure(arguments)


def measure(arguments):
    runs = {"trimtab, kv f16": ours}
    if os.path.exists(arguments.llama):
        runs["llama.cpp"] = peer(arguments.llama)
    else:
        print(f"llama.cpp is left out: there is no {arguments.llama} (scripts/setup/build_llama_cpp.sh)")
    if arguments.torch:
        runs["PyTorch, float32"] = Torch(arguments)
    else:
        print("PyTorch is left out: --torch names no Python")
    samples = {}
    for i in range(arguments.passes):
        for program in list(runs) if i % 2 else reversed(runs):
            for test, sides in runs[program](arguments).items():
                for side, seconds in sides.items():
                    samples.setdefault(program, {}).setdefault(test, {}).setdefault(side, []).extend(seconds)
    print(f"{arguments.model.name}, {arguments.threads} threads, {arguments.passes} passes of {arguments.rounds} "
          f"repetitions; load {os.getloadavg()[0]:.2f}. Medians.")
    for test in samples[next(iter(runs))]:
        show(list(runs), samples, test)
    if arguments.json:
        write_report(arguments, samples)


if __name__ == "__main__":
    main()
