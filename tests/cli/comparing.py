#!/usr/bin/env python3
"""bench/compare: quiet on one build, loud on a slower one, by times that are drawn; and on the real program:
comparing.py TRIMTAB GOLDEN [TEST]..."""

import json
import os
import random
import subprocess
import sys
import tempfile

import program
from program import check, here, tiny, trimtab

COMPARE = os.path.join(here, "..", "..", "bench", "compare")
compare = program.load_script(COMPARE)


def ratios(chance, factor, n=25):
    """Of rounds on a busy machine: what slows it down slows both sides, and one a little more than the other; now and
    then a side is hit alone."""
    return [factor * (1 + chance.gauss(0, 0.008)) * (1.4 if chance.random() < 0.05 else 1) /
            (1.4 if chance.random() < 0.05 else 1) for _ in range(n)]


def test_quiet():
    """Of 200 comparisons of one build none, and of as many at half a percent, which is below the margin."""
    chance = random.Random(3)
    for factor in (1, 1.005, 0.995):
        loud = sum(compare.judge(ratios(chance, factor))[1] for _ in range(200))
        check(loud == 0, f"{loud} of 200 are loud at {factor}")


def test_loud():
    """A slowdown of 3%, in nearly all of 200, and by its name."""
    chance = random.Random(4)
    for factor, word in ((1.03, "SLOWER"), (0.97, "FASTER")):
        said = [compare.judge(ratios(chance, factor))[0] for _ in range(200)]
        check(sum(word in line for line in said) > 190, f"{factor}: {said[:3]}")


def test_interval():
    """The binomial distribution's: 11 values are the first to have one, and 25 leave out four at each end."""
    values = list(range(1, 26))
    check(compare.interval(values[:10], 0.999) is None and compare.interval(values[:11], 0.999) == (1, 11), "11")
    check(compare.interval(values, 0.999) == (5, 21), compare.interval(values, 0.999))


def run(*arguments):
    return subprocess.run([sys.executable, "-B", COMPARE, *map(str, arguments)], capture_output=True, text=True,
                          check=False)


def test_program():
    """On a model of no size, where what it says is chance."""
    done = run(trimtab, trimtab, tiny, "--rounds", 11, "--prompt", 16, "--generate", 4, "--threads", 1, "--json", "x")
    check(done.returncode in (0, 1) and "pp16: " in done.stdout and "tg4: " in done.stdout, done.stdout + done.stderr)
    with open("x", encoding="utf-8") as file:
        report = json.load(file)
    samples, said = report["samples_s"], subprocess.run([trimtab, "version", "--json"], capture_output=True, check=True)
    commit = json.loads(said.stdout)["commit"]
    check(report["old"]["commit"] == report["new"]["commit"] == commit and report["machine"]["cores"] > 0, report)
    check(len(samples["tg4"]["old"]) == len(samples["pp16"]["new"]) == 11, samples)
    for pattern, *arguments in (("too few", trimtab, trimtab, tiny, "--rounds", 10),
                                ("no-such-commit", trimtab, "no-such-commit", tiny),
                                ("missing.gguf", trimtab, trimtab, "missing.gguf")):
        done = run(*arguments)
        check(done.returncode == 2 and pattern in done.stderr, done.stderr)


with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    program.run_tests(globals(), program.sys.argv[3:])
    os.chdir("/")
program.end()
