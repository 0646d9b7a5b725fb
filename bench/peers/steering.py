#!/usr/bin/env python3
"""What steering costs this program, llama.cpp and PyTorch with Transformers, and how fast each is with it: one vector
added at every layer, in llama-bench's tests, with the same file, threads and lengths. Each program runs its two sides
in turn; the programs run in turn too. llama.cpp's way is its control vector, PyTorch's forward hooks on float32
weights. A peer that is missing is said and left out.

    steering.py TRIMTAB MODEL [--llama LLAMA-STEERING] [--torch PYTHON] [--prompt 512] [--generate 128] [--rounds 3]
        [--passes 3] [--threads N]

PYTHON: of a virtual environment with scripts/goldens/requirements.txt."""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def output_of(command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{command[0]} failed:\n" + done.stderr[-2000:])
    return json.loads(done.stdout)


def ours(arguments):
    rows = output_of([arguments.ours, "bench", arguments.model, "-p", arguments.prompt, "-n", arguments.generate, "-r",
                      arguments.rounds, "-t", arguments.threads, "--kv", "f16", "-o", "json"])
    return {f"pp{row['n_prompt']}" if row["n_prompt"] else f"tg{row['n_gen']}":
            {"off": [ns / 1e9 for ns in row["samples_ns"]],
             "steered": [ns / 1e9 for ns in row["steered"]["samples_ns"]]} for row in rows}


def peer(*command):
    def run(arguments):
        return output_of([*command, arguments.model, arguments.prompt, arguments.generate, arguments.rounds,
                          arguments.threads])
    return run


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
    arguments = parser.parse_args()
    runs = {"trimtab, kv f16": ours}
    if os.path.exists(arguments.llama):
        runs["llama.cpp"] = peer(arguments.llama)
    else:
        print(f"llama.cpp is left out: there is no {arguments.llama} (scripts/setup/build_llama_cpp.sh)")
    if arguments.torch:
        runs["PyTorch, float32"] = peer(arguments.torch, HERE / "torch_steering.py")
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


if __name__ == "__main__":
    main()
