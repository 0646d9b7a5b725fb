#!/usr/bin/env python3
"""score's report, beside its own rows: scoring.py TRIMTAB GOLDEN [TEST]..."""

import json
import os
import shutil
import tempfile

import program
from program import check, golden, make_policy, read, read_rows, refused, tiny, works

CHOICES = os.path.join(golden, "score", "choices.jsonl")
TEXT = os.path.join(golden, "score", "text.txt")
SIDES = ("unsteered", "steered")


def score(*arguments, **keywords):
    return json.loads(works("--json", *arguments, command="score", **keywords).stdout)


def test_rows():
    """The report follows from the rows, and both are the same whatever the threads."""
    make_policy("push.st")
    ways = [score("--choices", CHOICES, "--policy", "push.st:3", "--rows", f"rows{n}.jsonl", "--threads", n)
            for n in (1, 3)]
    check(ways[0] == ways[1] and read("rows1.jsonl") == read("rows3.jsonl"), "threads change the numbers")
    rows, report = read_rows("rows1.jsonl"), ways[0]["choices"]
    check(not os.path.exists("rows1.jsonl.partial") and len(rows) == report["n"] == 5, "rows")
    texts = {row["id"]: row["choices"] for row in read_rows(CHOICES)}
    for side in SIDES:
        for row in rows:
            logs = row[side]["logprobs"]
            by = [log / len(text) for log, text in zip(logs, texts[row["id"]])]
            check(row[side]["chosen"] == logs.index(max(logs)), f"{row['id']}: {side} chosen")
            check(row[side]["chosen_norm"] == by.index(max(by)), f"{row['id']}: {side} chosen_norm")
        for key, chosen in (("acc", "chosen"), ("acc_norm", "chosen_norm")):
            right = sum(row[side][chosen] == row["answer"] for row in rows)
            check(abs(report[key][side] - right / len(rows)) < 1e-8, f"{side} {key}")
    check(any(row["steered"]["logprobs"] != row["unsteered"]["logprobs"] for row in rows), "steering is not seen")
    tokens = ways[0]["tokens"]
    asked = sum((row["context_tokens"] + n) for row in rows for n in row["choice_tokens"])
    for side in SIDES:
        check(tokens["shared"][side] > 0 and tokens["computed"][side] + tokens["shared"][side] == asked,
              f"{tokens} of {asked} tokens")


def test_scale_0():
    """A policy of scale 0 gives the bits of none."""
    make_policy("push.st")
    score("--choices", CHOICES, "--policy", "push.st:0", "--rows", "rows.jsonl", "--letters", "--limit", 3)
    for row in read_rows("rows.jsonl"):
        check(all(row["steered"][key] == row["unsteered"][key] for key in row["unsteered"]), f"{row}")


def test_bos():
    """With a tokenizer that puts a token in front, each window begins with it, and every token is scored."""
    shutil.copytree(tiny, "with-bos")
    with open("with-bos/tokenizer.json", encoding="utf-8") as file:
        tokenizer = json.load(file)
    name = tokenizer["added_tokens"][1]["content"]
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing", "pair": [],
        "single": [{"SpecialToken": {"id": name, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "special_tokens": {name: {"id": name, "ids": [1], "tokens": [name]}}}
    with open("with-bos/tokenizer.json", "w", encoding="utf-8") as file:
        json.dump(tokenizer, file)
    front = json.loads(works("-p", "", command="tokenize", model="with-bos").stdout)
    check(len(front) == 1, f"{front} in front")
    arguments = ("--perplexity", TEXT, "--window", 50, "--stride", 30, "--rows", "rows.jsonl")
    report = score(*arguments, model="with-bos")["perplexity"]
    rows = read_rows("rows.jsonl")
    check(report["in_front"] == front and report["n_scored"] == report["n_tokens"], f"{report}")
    check(rows[0]["n_scored"] == rows[0]["to"] == 49 and rows[1]["from"] == 30 and rows[1]["to"] == 79, f"{rows[:2]}")
    without = score(*arguments, "--no-bos", model="with-bos")["perplexity"]
    check(without["in_front"] == [] and without["n_scored"] == without["n_tokens"] - 1, f"{without}")
    program.write_lines("given.jsonl", [{"context": "", "choices": ["a", "b"], "answer": 0}])
    works("--choices", "given.jsonl", command="score", model="with-bos")
    refused(1, "the context is empty", "--choices", "given.jsonl", "--no-bos", command="score", model="with-bos")


def test_tables():
    make_policy("push.st")
    done = works("--choices", CHOICES, "--policy", "push.st", command="score").stdout
    check("acc_norm" in done and "gained" in done and "5 questions, 15 choices" in done and "shared" in done, done)
    done = works("--perplexity", TEXT, "--window", 60, command="score").stdout
    check("perplexity" in done and "windows of 60, one every 30" in done and "steered over" not in done, done)


def test_refusals():
    """What cannot be, before the model is opened."""
    make_policy("push.st")
    shutil.copy(CHOICES, "c.jsonl")
    for pattern, *arguments in (
            ("neither --choices nor --perplexity",),
            ("exclude each other", "--choices", "c.jsonl", "--perplexity", TEXT),
            ("--window is for --perplexity", "--choices", "c.jsonl", "--window", "5"),
            ("--letters is for --choices", "--perplexity", TEXT, "--letters"),
            ("both the choices and the rows", "--choices", "c.jsonl", "--rows", "./c.jsonl"),
            ("both a policy and the rows", "--choices", "c.jsonl", "--policy", "push.st", "--rows", "push.st")):
        refused(2, pattern, *arguments, command="score", model="missing.gguf")


with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    program.run_tests(globals(), program.sys.argv[3:])
    os.chdir("/")
program.end()
