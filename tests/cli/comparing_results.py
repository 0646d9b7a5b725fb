#!/usr/bin/env python3
"""bench/compare_results: on times that are drawn, on a row as llama-bench writes it, and on the program's own files:
comparing_results.py TRIMTAB GOLDEN [TEST]..."""

import itertools
import json
import math
import os
import random
import subprocess
import sys
import tempfile

import program
from program import check, here, works

COMPARE = os.path.join(here, "..", "..", "bench", "compare_results")
results = program.load_script(COMPARE)


def run(*arguments):
    return subprocess.run([sys.executable, "-B", COMPARE, *arguments], capture_output=True, text=True, check=False)


def row(n_prompt, n_gen, speeds, **more):
    """As llama-bench writes it, but for keys that nobody reads here."""
    return {"build_commit": "abc", "n_threads": 2, "type_k": "f16", "n_ubatch": 512, "n_prompt": n_prompt,
            "n_gen": n_gen, "n_depth": 0, "avg_ts": 0, "samples_ts": speeds} | more


def write(path, rows):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(rows, file)


def test_interval():
    """It covers the true ratio in about 95% of 1,000 pairs of runs of 9, of lopsided noise; and the table of U."""
    chance, covered = random.Random(1), 0
    for _ in range(1000):
        a, b = ([speed / math.exp(abs(chance.gauss(0, 0.1))) for _ in range(9)] for speed in (110, 100))
        ratio, low, high, _ = results.compare(a, b)
        check(low <= ratio <= high, f"{low} {ratio} {high}")
        covered += low <= 1.1 <= high
    check(935 <= covered <= 975, f"{covered} of 1000")
    # By counting: of the orders of 3 and 4 values, in how many U pairs are the wrong way round.
    counts = [0] * 13
    for places in itertools.combinations(range(7), 3):
        counts[sum(place - i for i, place in enumerate(places))] += 1
    check(results.chances(3, 4) == counts, f"{results.chances(3, 4)}")


def test_files():
    """Tests that both have, by what they are and not by their order; what differs is said."""
    fast, slow = [100 + i for i in range(9)], [80 + i for i in range(9)]
    write("a.json", [row(512, 0, fast, steered={"samples_ts": slow}), row(0, 128, fast), row(64, 0, fast)])
    write("b.json", [row(0, 128, slow, n_threads=4), row(512, 0, fast, n_threads=4, steered={"samples_ts": fast})])
    done = run("a.json", "b.json")
    lines = done.stdout.splitlines()
    check(done.returncode == 0 and lines[0] == "n_threads: 2 in A, 4 in B", done.stdout + done.stderr)
    for line, name, words in zip(lines[1:], ("pp512 ", "pp512 steered ", "tg128 "), (
            ("1.000 times", "no difference shown"), ("0.808 times", "B is faster"), ("1.238 times", "B is slower"))):
        check(line.startswith(name) and all(word in line for word in words), line)
    check("in A alone: pp64" in done.stdout and "Not measured in turns" in lines[-1], done.stdout)


def test_few():
    """Below 4 samples each no difference is called one; what their range covers is counted over all orders."""
    for n, m in ((1, 1), (2, 2), (3, 3), (3, 4), (4, 4), (2, 20)):
        orders = list(itertools.combinations(range(n + m), n))
        # The range misses where all of one side are beyond all of the other.
        missed = sum(order[-1] == n - 1 or order[0] == m for order in orders) / len(orders)
        coverage = results.compare(range(1, n + 1), range(1, m + 1))[3]
        check(abs(coverage - (1 - missed)) < 1e-12 if n < 4 and m < 5 else coverage >= 0.95, f"{n}, {m}: {coverage}")
    write("a.json", [row(512, 0, [100, 101, 102])])
    write("b.json", [row(512, 0, [50, 51, 52])])
    out = run("a.json", "b.json").stdout
    check("too few samples to tell (90%)" in out and "slower" not in out, out)


def test_conditions():
    """Rows of one file that differ in model, threads or batch are tests of their own; equal ones are one test."""
    fast, slow = [100 + i for i in range(9)], [50 + i for i in range(9)]
    for key, values in (("n_threads", (1, 2)), ("model_filename", ("m", "n")), ("n_ubatch", (1, 512))):
        write("a.json", [row(512, 0, slow, **{key: values[0]}), row(512, 0, fast, **{key: values[1]})])
        write("b.json", [row(512, 0, fast, **{key: values[1]})])
        out = run("a.json", "b.json").stdout
        check(f"pp512 {key}={values[1]} " in out and "1.000 times" in out and
              f"in A alone: pp512 {key}={values[0]}" in out, out)
    write("a.json", [row(512, 0, fast[:3]), row(512, 0, fast[3:])])
    write("b.json", [row(512, 0, fast)])
    check("9 and 9 samples" in run("a.json", "b.json").stdout, "two rows of one test")


def test_program():
    """What trimtab bench writes, as JSON and as lines."""
    for form in ("json", "jsonl"):
        with open(form, "w", encoding="utf-8") as file:
            file.write(works("-p", "8", "-n", "4", "-r", "3", "-t", "1", "-o", form, command="bench").stdout)
    done = run("json", "jsonl")
    check(done.returncode == 0 and [line.split("  ")[0].strip() for line in done.stdout.splitlines()[:4]] ==
          ["pp8", "pp8 steered", "tg4", "tg4 steered"], done.stdout + done.stderr)


def test_refused():
    write("a.json", [row(512, 0, [1, 2])])
    write("b.json", [row(0, 1, [1, 2])])
    write("c.json", [7])
    write("d.json", [row(512, 0, [1, 0])])
    write("e.json", [row(512, 0, ["fast"])])
    for files, why in ((("a.json", "b.json"), "no test in common"), (("a.json", "c.json"), "no rows"),
                       (("a.json", "d.json"), "above 0"), (("d.json", "a.json"), "above 0"),
                       (("a.json", "e.json"), "above 0"), (("a.json", COMPARE), "compare_results"),
                       (("a.json", "missing"), "missing")):
        done = run(*files)
        check(done.returncode == 2 and why in done.stderr and "Traceback" not in done.stderr, done.stderr)
    check(run("a.json").returncode == 2 and run("--help").returncode == 0, "usage")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as work:
        os.chdir(work)
        program.run_tests(dict(globals()), sys.argv[3:])
        os.chdir("/")
    program.end()
