#!/usr/bin/env python3
"""Compares this program with llama.cpp's llama-batched-bench, with the same file, threads and lengths: speed, peak
memory, and the share of the machine's multiply-adds that the products reach. The two run in turn, so that a slow moment
of the machine hits both.

    batched.py TRIMTAB-BATCHED LLAMA-BATCHED-BENCH MODEL [--rounds 9] [--threads N] [--case ROWS,PROMPT,GENERATE]...
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

NAMES = {"trimtab, kv f32": [], "trimtab, kv f16": ["--kv", "f16"],
         "trimtab, kv f16, q8": ["--kv", "f16", "--compute", "q8"], "llama.cpp": None}


def run(command):
    """Runs a program; returns its line of JSON, with its peak memory added."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=out, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        out.seek(0)
        lines = [line for line in out.read().decode(errors="replace").splitlines() if line.startswith("{")]
        if status or len(lines) != 1:
            log.seek(0)
            sys.exit(f"{command[0]} failed:\n" + log.read().decode(errors="replace")[-2000:])
    return json.loads(lines[0]) | {"mib": usage.ru_maxrss / 1024}


def command_of(name, arguments, rows, prompt, generate):
    threads = str(arguments.threads)
    lengths = ["-npp", str(prompt), "-ntg", str(generate), "-npl", str(rows)]
    if name == "llama.cpp":
        return [arguments.theirs, "-m", arguments.model, "-c", str(rows * (prompt + generate)), *lengths,
                "-t", threads, "-tb", threads, "--output-format", "jsonl"]
    ours = ("-" + word if word in ("-npp", "-ntg", "-npl") else word for word in lengths)
    return [arguments.ours, "--model", arguments.model, "--threads", threads, *ours, *NAMES[name]]


def show(key, unit, runs, better):
    """One line for each program: the median, all values, and the median of the ratios within a round."""
    for name, values in ((name, [run[key] for run in runs[name]]) for name in runs):
        line = f"  {name:20} {statistics.median(values):9.1f} {unit}   " + " ".join(f"{v:.1f}" for v in values)
        if name != "llama.cpp":
            ratios = [a / b[key] for a, b in zip(values, runs["llama.cpp"])]
            line += f"   {statistics.median(ratios):.2f} times llama.cpp "
            line += f"({min(ratios):.2f} to {max(ratios):.2f}, {better})"
            if f"share_{key}" in runs[name][0]:
                share = statistics.median(run[f"share_{key}"] for run in runs[name])
                line += f"; {100 * share:.0f}% of the f32 multiply-add peak"
        print(line)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ours")
    parser.add_argument("theirs")
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--case", action="append", help="default: 1,512,128 and 32,128,128")
    arguments = parser.parse_args()
    for case in arguments.case or ["1,512,128", "32,128,128"]:
        rows, prompt, generate = map(int, case.split(","))
        print(f"{rows} row(s), {prompt} prompt and {generate} generated tokens each, {arguments.threads} threads; "
              f"load {os.getloadavg()[0]:.2f}", flush=True)
        runs = {name: [] for name in NAMES}
        for i in range(arguments.rounds):
            for name in list(NAMES) if i % 2 else reversed(NAMES):  # each is first equally often
                runs[name].append(run(command_of(name, arguments, rows, prompt, generate)))
        print(" prefill")
        show("speed_pp", "tokens/s", runs, "more is better")
        print(" decoding")
        show("speed_tg", "tokens/s", runs, "more is better")
        print(" peak memory")
        show("mib", "MiB", runs, "less is better")


main()
