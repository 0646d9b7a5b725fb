#!/usr/bin/env python3
"""A person in the loop: `eval --review`, and `fit --continue` on the verdicts: review.py TRIMTAB GOLDEN [TEST]..."""

import hashlib
import json
import os
import sys
import tempfile

import program
from program import check, golden, make_policy, read, read_rows, refused, works, write_lines

ROWS = os.path.join(golden, "policy/rows.jsonl")
SMALL = ["--judge-prompts", "2", "--judge-tokens", "4", "--max-candidates", "1"]
LABELS = ("harmful", "benign", "borderline")
WORDS = "cat hen rat hill field seven bites sings one two the on a".split()


def make():
    """A fitted policy, and prompts of three labels that it has not seen."""
    done = program.run("--data", ROWS, "-o", "rats.st", *SMALL, command="fit")
    check(done.returncode in (0, 3), f"fit: {done.returncode}: {done.stderr}")
    write_lines("seen.jsonl", [
        {"id": f"s{i}", "label": LABELS[i % 3], "source": "logs", "kind": "" if i % 2 else "odd", "more": i,
         "split": "val" if i % 5 == 0 else "train",
         "prompt": " ".join(WORDS[(i * (j + 3) + 5 * j) % len(WORDS)] for j in range(5)) + f" {i}"} for i in range(40)])


def review(*arguments):
    done = works("--policy", "rats.st", "--data", "seen.jsonl", "--review", "review.jsonl", *arguments, command="eval")
    return done, read_rows("review.jsonl")


def test_rows():
    """What is written of each row is its own, what the gate said, and why it is there; the same again."""
    make()
    done, rows = review("--max-tokens", "0", "--review-rows", "12", "--json")
    report = json.loads(done.stdout)
    check(len(rows) == 12 and len({row["id"] for row in rows}) == 12, f"{len(rows)} rows")
    seen = {row["id"]: row for row in read_rows("seen.jsonl")}
    works("--policy", "rats.st", "--data", "seen.jsonl", "-n", "3", "--completions", "done.jsonl", command="eval")
    done = {row["id"]: row for row in read_rows("done.jsonl")}
    counts = dict.fromkeys(("miss", "false", "outcome", "near"), 0)
    for row in rows:
        for key in ("prompt", "label", "split", "source"):
            check(row[key] == seen[row["id"]][key], f"{row['id']}: {key} is {row[key]}")
        check(row.get("kind", "") == seen[row["id"]]["kind"], f"{row['id']}: its kind")
        check(abs(row["gate"] - done[row["id"]]["gate"]) < 1e-6 and row["flagged"] == done[row["id"]]["flagged"],
              f"{row['id']}: another decision than beside completions")
        check(row["flagged"] == (row["gate"] > row["threshold"]), f"{row['id']}: flagged")
        harmful = row["label"] == "harmful"
        reason = "near" if harmful == row["flagged"] else "miss" if harmful else "false"
        check(row["reason"] == reason, f"{row['id']}: {row['reason']}, not {reason}")
        check(row["verdict"] == "" and "steered" not in row, f"{row['id']}: {row}")
        counts[row["reason"]] += 1
    check(report["review"] == counts, f"the report counts {report['review']}, not {counts}")
    check(counts["miss"] + counts["false"] > 2 and counts["near"] > 2, f"too few of a kind: {counts}")
    before = read("review.jsonl")
    done, _ = review("--max-tokens", "0", "--review-rows", "12")
    check(read("review.jsonl") == before, "another file the second time")
    check("To review: " in done.stdout and "refused" not in done.stdout, f"the table: {done.stdout}")


def test_outcomes():
    """With completions their texts are there, and a row whose outcome alone is wrong is offered too."""
    make()
    _, rows = review("-n", "4", "--completions", "done.jsonl")
    done = {row["id"]: row for row in read_rows("done.jsonl")}
    check(len(rows) == 40, "all rows, since there are fewer than 100")
    for row in rows:
        for key in ("unsteered", "steered", "refused_unsteered", "refused_steered"):
            check(row[key] == done[row["id"]][key], f"{row['id']}: {key}")
        right = (row["label"] == "harmful") == row["flagged"]
        outcome = right and (row["label"] == "harmful") != row["refused_steered"]
        check((row["reason"] == "outcome") == outcome, f"{row['id']}: {row['reason']}")
    check(any(row["reason"] == "outcome" for row in rows), "no outcome is wrong")


def test_continue():
    """The new policy decides as its report says, says of what it was made, and can be continued again."""
    make()
    _, rows = review("-n", "0", "--review-rows", "20")
    for i, row in enumerate(rows):
        row["verdict"] = ("keep", "benign", "", "harmful")[i % 4]
    write_lines("reviewed.jsonl", rows)
    usual = ("--continue", "rats.st", "--data", "reviewed.jsonl", "--replay", ROWS)
    done = works(*usual, "-o", "new.st", "--report", "report.json", command="fit")
    check("15 rows with a verdict; 5 without one" in done.stdout, f"the summary: {done.stdout}")
    with open("report.json", encoding="utf-8") as file:
        report = json.load(file)["continued"]
    labels = {row["id"]: row["label"] if row["verdict"] == "keep" else row["verdict"] for row in rows if row["verdict"]}
    flagged = {row["id"]: row["flagged"] for row in rows}
    missed = sum(label == "harmful" and not flagged[name] for name, label in labels.items())
    false = sum(label != "harmful" and flagged[name] for name, label in labels.items())
    before = report["before"]["reviewed"]
    check((before["n_missed"], before["n_false"]) == (missed, false), f"before: {before}, not {missed} and {false}")
    check(report["policy"] == "rats" and report["sha256"] == hashlib.sha256(read("rats.st")).hexdigest(),
          f"the policy that was continued: {report}")
    shown = json.loads(program.run("--json", model="new.st", command="inspect").stdout)
    entry = {"file": "continued from rats", "sha256": report["sha256"], "rows": 40}  # 20 of them plain
    check(entry in shown["fitted_on"] and shown["name"] == "new", f"inspect: {shown['fitted_on']}")
    works(*usual[2:], "--continue", "new.st", "-o", "newer.st", "--activations", "cache", command="fit")
    shown = json.loads(program.run("--json", model="newer.st", command="inspect").stdout)
    files = [entry["file"] for entry in shown["fitted_on"]]
    check(files == ["rows.jsonl", "continued from rats", "reviewed.jsonl", "continued from new", "activations"],
          f"after two rounds: {files}")
    works("-p", "a hen", "-n", "2", "--policy", "newer.st", command="generate")


def test_refusals():
    """Files and options that cannot be."""
    make()
    make_policy("push.st")
    _, rows = review("-n", "0")
    usual = ("--continue", "rats.st", "--data", "review.jsonl")
    refused(1, "review.jsonl: no row has a verdict", *usual, "--replay", ROWS, "-o", "new.st", command="fit")
    rows[2]["verdict"] = "maybe"
    write_lines("review.jsonl", rows)
    refused(1, "review.jsonl:3: verdict must be harmful, benign, borderline or keep", *usual, "--replay", ROWS, "-o",
            "new.st", command="fit")
    refused(1, "without rows that policy rats was fitted on (rows.jsonl)", *usual, "-o", "new.st", command="fit")
    refused(1, "its gate, always, is no detector", "--continue", "push.st", "--data", "review.jsonl", "--replay", ROWS,
            "-o", "new.st", command="fit")
    refused(1, "was fitted on another model", *usual, "--replay", ROWS, "-o", "new.st", command="fit",
            model=os.path.join(golden, "tiny-qwen2"))
    refused(2, "both the policy that is continued and the policy", *usual, "--replay", ROWS, "-o", "rats.st",
            command="fit")
    refused(2, "both the data to replay and the policy", *usual, "--replay", "seen.jsonl", "-o", "seen.jsonl",
            command="fit")
    refused(2, "--replay is for --continue", "--data", ROWS, "--replay", ROWS, "-o", "new.st", command="fit")
    refused(2, "stay those of the policy", *usual, "--replay", ROWS, "-o", "new.st", "--gate-reads", "last",
            command="fit")
    check(not os.path.exists("new.st"), "a policy was written")
    data = ("--policy", "rats.st", "--data", "seen.jsonl")
    refused(2, "both the data and the rows to review", *data, "--review", "./seen.jsonl", command="eval")
    refused(1, "there is nothing to judge", *data, "-n", "0", "--judge-requests", "c.jsonl", command="eval")
    refused(1, "a review is of one policy", *data, "--policy", "push.st", "--review", "r.jsonl", command="eval")
    refused(1, "a review needs a gate with a threshold, and that of", "--policy", "push.st", "--data", "seen.jsonl",
            "--review", "r.jsonl", command="eval")


with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    program.run_tests(globals(), sys.argv[3:])
    os.chdir("/")
program.end()
