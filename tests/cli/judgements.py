#!/usr/bin/env python3
"""eval's requests to a judge, and the judgements it reads: judgements.py TRIMTAB GOLDEN [TEST]..."""

import json
import os
import sys
import tempfile

import program
from program import check, make_policy, read_rows, refused, run, works, write_lines

PROMPTS = [("1", "harmful"), ("2", "harmful"), ("3", "benign"), ("4\"#\\", "benign")]


def evaluate(*arguments):
    return works("--policy", "p.st", "--data", "in.jsonl", "-n", "4", "--json", *arguments, command="eval")


def answer(custom_id, text):
    return {"custom_id": custom_id, "error": None,
            "response": {"status_code": 200, "body": {"choices": [{"message": {"content": text}}]}}}


def make():
    make_policy("p.st")
    write_lines("in.jsonl", [{"id": id, "prompt": f"say \"{id}\"", "label": label} for id, label in PROMPTS])
    evaluate("--judge-requests", "ask.jsonl", "--completions", "done.jsonl")
    return read_rows("ask.jsonl")


def test_requests():
    """One for each completion, holding the prompt and the text, and the program's own batch answers them."""
    requests, done = make(), read_rows("done.jsonl")
    sides = ("unsteered", "steered")
    check([r["custom_id"] for r in requests] == [f"{row['id']}#{side}" for row in done for side in sides],
          "the requests' names and their order")
    for request, (row, side) in zip(requests, [(row, side) for row in done for side in sides]):
        content = request["body"]["messages"][0]["content"]
        check(row["prompt"] in content and row[side] in content and "REFUSED" in content and "FULFILLED" in content,
              f"{request['custom_id']} asks something else: {content}")
        check(row["verdict_unsteered"] is None and row["verdict_steered"] is None, "a verdict without judgements")
    works("-i", "ask.jsonl", "-o", "said.jsonl")
    check([row["error"] for row in read_rows("said.jsonl")] == [None] * 8, "the batch refuses a request")
    evaluate("--judgements", "said.jsonl")


def test_judgements():
    """Each verdict belongs to its row and side; what is no verdict is counted nowhere."""
    ids = [request["custom_id"] for request in make()]
    words = ["REFUSED", "Fulfilled.", "refused", "**REFUSED**", "no idea", "FULFILLED or REFUSED", "fulfilled",
             "Refused"]
    write_lines("said.jsonl", [answer(*pair) for pair in reversed(list(zip(ids, words)))] + ["", answer("other", "x")])
    report = json.loads(evaluate("--judgements", "said.jsonl", "--completions", "done.jsonl").stdout)
    labels = {group["label"]: group for group in report["labels"]}
    want = {"harmful": ((2, 1.0), (2, 0.5)), "benign": ((1, 0.0), (1, 1.0))}
    for label, sides in want.items():
        for side, (n, share) in zip(("unsteered", "steered"), sides):
            found = labels[label]["n_judged"][side], labels[label]["refused_by_judge"][side]
            check(found == (n, share), f"{label}, {side}: {found}, not {(n, share)}")
    verdicts = [row[f"verdict_{side}"] for row in read_rows("done.jsonl") for side in ("unsteered", "steered")]
    check(verdicts == ["refused", "fulfilled", "refused", "refused", None, None, "fulfilled", "refused"],
          f"verdicts: {verdicts}")
    # Shares of nothing are null; error rows are no verdicts.
    write_lines("said.jsonl", [{"custom_id": id, "response": None, "error": {"code": "x"}} for id in ids])
    report = json.loads(evaluate("--judgements", "said.jsonl").stdout)
    check(all(g["n_judged"]["steered"] == 0 and g["refused_by_judge"]["steered"] is None for g in report["labels"]),
          "error rows are verdicts")
    arguments = ("--policy", "p.st", "--data", "in.jsonl", "-n", "4", "--html", "page.html")
    table = works(*arguments, command="eval").stdout
    check("by judge" not in table and "by judge" not in open("page.html", encoding="utf-8").read(), "an empty column")
    write_lines("said.jsonl", [answer(*pair) for pair in zip(ids, words)])
    table = works(*arguments, "--judgements", "said.jsonl", command="eval").stdout
    check("by judge" in table and "by judge" in open("page.html", encoding="utf-8").read(), "no column of the judge")


def test_refusals():
    """Judgements of something else are refused before anything runs, and no file is written over."""
    ids = [request["custom_id"] for request in make()]
    arguments = ("--policy", "p.st", "--data", "in.jsonl", "-n", "4", "--judgements", "said.jsonl")
    write_lines("said.jsonl", [answer(id, "REFUSED") for id in ids[1:]])
    refused(1, "no line about 1#unsteered", *arguments, command="eval")
    write_lines("said.jsonl", [answer(id, "REFUSED") for id in ids + ids[:1]])
    refused(1, "custom_id 1#unsteered is there twice", *arguments, command="eval")
    write_lines("said.jsonl", [answer(id, "REFUSED") for id in ids] + ["", "{"])
    refused(1, "said.jsonl:10: row: not valid JSON", *arguments, command="eval")
    write_lines("said.jsonl", [{"response": {}}])
    refused(1, "said.jsonl:1: custom_id is missing", *arguments, command="eval")
    refused(1, "missing.jsonl", *arguments[:-1], "missing.jsonl", command="eval")
    write_lines("said.jsonl", [answer(id, "REFUSED") for id in ids])
    refused(2, "the judgements and the completions", *arguments, "--completions", "./said.jsonl", command="eval")
    refused(2, "the data and the requests to a judge", *arguments, "--judge-requests", "in.jsonl", command="eval")
    refused(2, "the completions and the requests to a judge", *arguments, "--completions", "x", "--judge-requests",
            "./x", command="eval")
    check(not os.path.exists("x"), "a refusal made a file")


with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    program.run_tests(globals(), sys.argv[3:])
    os.chdir("/")
program.end()
