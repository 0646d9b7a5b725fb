#!/usr/bin/env python3
"""capture --data as a person calls it, and kills it: capturing.py TRIMTAB GOLDEN [TEST]..."""

import json
import os
import random
import signal
import subprocess
import tempfile
import time

import program
from program import check, make_policy, metadata, read, refused, tensor, tiny, trimtab, works, write_lines

ROWS = [{"id": f"row {i}", "prompt": [(7 * i + k) % 200 for k in range(1 + i % 40)]} for i in range(300)]


def captures(*arguments):
    return works("--data", "rows.jsonl", *arguments, command="capture")


def test_files():
    """The last positions of all rows, steered; against capture of a prompt alone."""
    make_policy("push.st")
    write_lines("rows.jsonl", [{"prompt": "Two and two"}, {"id": "b", "prompt": "a b c", "label": "benign"}])
    done = captures("--raw", "--layers", "1-2", "--policy", "push.st:0.5", "-o", "all.st")
    check("2 rows, 2 positions" in done.stdout and "tokens/s" in done.stdout, done.stdout)
    facts, _ = metadata("all.st")
    check(facts["trimtab.format"] == "captures 1" and facts["trimtab.layers"] == "1-2" and
          facts["trimtab.positions"] == "last" and facts["trimtab.steering"].endswith(":0.5"), facts)
    for i, prompt in enumerate(("Two and two", "a b c")):
        works("--raw", "-p", prompt, "--policy", "push.st:0.5", "-o", "one.st", command="capture")
        for name in ("hidden.1", "hidden.2"):
            check(tensor("all.st", name)[64 * i:64 * i + 64] == tensor("one.st", name)[-64:], f"{prompt}: {name}")
    check(captures("--raw", "--layers", "1-2", "--policy", "push.st:0.5", "-o", "all.st").stdout.endswith(
        "2 rows were there already\n"), "a complete file is not known")


def test_template():
    """Files say nothing of the model's own template, as those from before there was another; both ways another is
    refused by name, also where the ids that are run are the same."""
    write_lines("rows.jsonl", ROWS[:3])
    captures("-o", "own.st")
    captures("--chat-template", "phi3", "-o", "phi3.st")
    facts, other = metadata("own.st")[0], metadata("phi3.st")[0]
    check("trimtab.chat_template" not in facts and facts["trimtab.compute"] == "", f"{facts}")
    check(len(other.pop("trimtab.chat_template")) == 64 and other == facts, f"{other}")
    for path, template, why in (("own.st", ["--chat-template", "phi3"], "another --chat-template (none there"),
                                ("phi3.st", [], "there, none here")):
        refused(1, why, "--data", "rows.jsonl", *template, "-o", path, command="capture")


def test_killed():
    """By SIGKILL at random moments: the same bytes, and what was done is not done again."""
    write_lines("rows.jsonl", ROWS)
    options = "--data", "rows.jsonl", "--layers", "0-2", "--positions", "all"
    captures(*options[2:], "-o", "whole.st")
    chance, n_kills = random.Random(5), 0
    for _ in range(200):
        run = subprocess.Popen([trimtab, "capture", tiny, *options, "-o", "killed.st"], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
        until = os.path.getsize("killed.st.journal") if os.path.exists("killed.st.journal") else 0
        wanted = until + 32 * chance.randrange(1, 120)
        while run.poll() is None and (not os.path.exists("killed.st.journal") or
                                      os.path.getsize("killed.st.journal") < wanted):
            time.sleep(0.001)
        run.send_signal(signal.SIGKILL)
        n_kills += run.wait() == -signal.SIGKILL
        if os.path.exists("killed.st"):
            break
        check(os.path.getsize("killed.st.journal") >= until, "rows that were done are lost")
    check(n_kills > 1, f"only {n_kills} kills")
    check(read("killed.st") == read("whole.st"), "other bytes after kills")
    check(not os.path.exists("killed.st.journal") and not os.path.exists("killed.st.partial"), "something is left")


def test_refusals():
    """What cannot be, before the model is opened; and what would be lost."""
    write_lines("rows.jsonl", [json.dumps(row) for row in ROWS[:3]])
    for pattern, *arguments in (
            ("--output is missing", "--data", "rows.jsonl"), ("--layers is for --data", "--layers", "1", "-o", "x"),
            ("--positions is for --data", "--positions", "all", "-o", "x"), ("--logits is for", "--logits", "-o", "x"),
            ("--data and --prompt exclude", "--data", "rows.jsonl", "-p", "x", "-o", "x"),
            ("--data and --mean exclude", "--data", "rows.jsonl", "--mean", "-o", "x"),
            ("--data and --ids exclude", "--data", "rows.jsonl", "--ids", "1", "-o", "x"),
            ("--raw and --system", "--data", "rows.jsonl", "--raw", "--system", "x", "-o", "x"),
            ("both the data and the output", "--data", "rows.jsonl", "-o", "./rows.jsonl")):
        refused(2, pattern, *arguments, command="capture", model="missing.gguf")
    captures("-o", "x")
    before = read("x")
    refused(1, "another --layers", "--data", "rows.jsonl", "--layers", "0", "-o", "x", command="capture")
    write_lines("rows.jsonl", [{"prompt": 3}])
    refused(1, "rows.jsonl:1: prompt must", "--data", "rows.jsonl", "-o", "y", command="capture")
    check(read("x") == before and sorted(os.listdir(".")) == ["rows.jsonl", "x"], os.listdir("."))


with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    program.run_tests(globals(), program.sys.argv[3:])
    os.chdir("/")
program.end()
