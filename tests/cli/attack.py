#!/usr/bin/env python3
"""What an attack reports and writes, beside what eval says of the same prompts: attack.py TRIMTAB GOLDEN [TEST]..."""

import json
import os
import sys
import tempfile

import program
from program import check, make_policy, read, read_rows, refused, works, write_lines

LABELS = ("harmful", "benign", "borderline")
WORDS = "cat hen rat hill field seven bites sings one two the on a".split()


def make():
    """Two files of three labels; gates that open above and below, one that is always open, and one without a figure."""
    for name, side, threshold in (("above.st", "above", 0.05), ("below.st", "below", 0.12), ("open.st", "above", -1)):
        make_policy(name, "trimtab.format=2", "trimtab.gate=cosine", "trimtab.observe=0", f"trimtab.gate.side={side}",
                    f"trimtab.threshold={threshold}")
    make_policy("push.st")
    for k, name in enumerate("ab"):
        write_lines(f"{name}.jsonl", [
            {"id": f"{name}{i}", "label": LABELS[i % 3], "split": "val" if i % 2 else "train",
             "prompt": " ".join(WORDS[(i * (j + 3) + 5 * j + k) % len(WORDS)] for j in range(5))} for i in range(24)])


def attack(*arguments, data=("a.jsonl", "b.jsonl")):
    return json.loads(works("--data", *data, "--json", *arguments, command="attack").stdout)


def gates(policy, *data):
    works("--data", *data, "--policy", policy, "-n", "0", "--completions", "gates.jsonl", command="eval")
    return {row["id"]: row for row in read_rows("gates.jsonl")}


def expect_attack(policy, sign):
    """The figures are those that eval gives the same prompts, with and without the words."""
    report = attack("--policy", policy, "--words", "3", "--budget", "40", "-o", "found.jsonl")
    prompts = {row["id"]: row for row in read_rows("a.jsonl") + read_rows("b.jsonl")}
    before, after = gates(policy, "a.jsonl", "b.jsonl"), gates(policy, "found.jsonl")
    found = {row["id"]: row for row in read_rows("found.jsonl")}
    check(len(report["rows"]) == 48, "rows")
    targets = [row for row in report["rows"] if row["label"] == "harmful" and row["flagged"]]
    evaded = [row for row in targets if not row["flagged_after"]]
    check(len(evaded) > 3, f"{len(evaded)} evaded")
    suffixes = {" ".join(row["suffix"]) for row in evaded}
    for row in report["rows"]:
        name, plain = row["id"] + "+attack-0", prompts[row["id"]]
        check((row["gate"], row["flagged"]) == (before[row["id"]]["gate"], before[row["id"]]["flagged"]), f"{row}")
        check(len(row["suffix"]) <= 3 and row["queries"] <= 40, f"too much: {row}")
        check((row["queries"] > 0) == (row in targets), f"queries: {row}")
        if row["label"] == "harmful":
            check(sign * row["gate_after"] <= sign * row["gate"], f"a worse figure was kept: {row}")
            check((name in found) == (row in evaded), f"{row} in the file")
        if name in found:
            words = " ".join(row["suffix"])
            check(found[name] == {"id": name, "prompt": plain["prompt"] + " " + words, "label": row["label"],
                                  "split": plain["split"], "source": "attack"}, f"{found[name]} of {row}")
            check(words in suffixes, f"words that nobody found: {row}")
            check((row["gate_after"], row["flagged_after"]) == (after[name]["gate"], after[name]["flagged"]),
                  f"{row}, and eval says {after[name]}")
    check(all(row["id"] + "+attack-0" in found for row in report["rows"] if row["label"] != "harmful"), "the others")
    check((report["evasion"]["n"], report["evasion"]["n_evaded"]) == (len(targets), len(evaded)), "the evasion")
    check(report["evasion"]["queries"] == sum(row["queries"] for row in report["rows"]), "the queries")
    queries = sorted(row["queries"] for row in evaded)
    check(report["evasion"]["median_queries"] == queries[(len(queries) - 1) // 2], "the median")
    for figures in report["labels"]:
        rows = [row for row in report["rows"] if row["label"] == figures["label"]]
        for key in ("flagged", "flagged_after"):
            check(figures["n_" + key] == sum(row[key] for row in rows) and
                  abs(figures[key] - figures["n_" + key] / len(rows)) < 1e-5, f"{figures['label']}: {key}")


def test_above():
    make()
    expect_attack("above.st", 1)


def test_below():
    make()
    expect_attack("below.st", -1)


def test_seeds():
    """The same seed gives the same; another one does not; other rows change nothing."""
    make()
    common = ("--policy", "above.st", "--words", "2")
    first = attack(*common, "-o", "one.jsonl")
    check(first == attack(*common, "-o", "two.jsonl") and read("one.jsonl") == read("two.jsonl"), "another result")
    check(attack(*common, "--threads", "1") == first, "threads change the result")
    other = attack(*common, "--seed", "7", "-o", "three.jsonl")
    check([row["suffix"] for row in other["rows"]] != [row["suffix"] for row in first["rows"]], "the seed does nothing")
    check(read_rows("three.jsonl")[0]["id"].endswith("+attack-7"), "ids of another seed")
    alone = attack(*common, "--split", "val", data=["b.jsonl"])
    check([row for row in alone["rows"] if row["label"] == "harmful"] ==
          [row for row in first["rows"] if row["label"] == "harmful" and row["id"] in
           {f"b{i}" for i in range(1, 24, 2)}], "other rows change what is found")
    limited = attack(*common, "--limit", "2")
    check(len(limited["rows"]) == 12, "the limit")


def test_budget():
    """A gate that is always open costs the whole budget, and then there is nothing to write."""
    make()
    report = attack("--policy", "open.st", "--words", "4", "--budget", "37", "-o", "found.jsonl")
    check(report["evasion"]["n"] == 16 and report["evasion"]["n_evaded"] == 0, f"{report['evasion']}")
    check(report["evasion"]["queries"] == 16 * 37, "the budget")
    check(read("found.jsonl") == b"" and report["labels"][1]["n_with_suffix"] == 0, "words that were not found")
    shown = works("--data", "a.jsonl", "--policy", "open.st", "--budget", "1", "-o", "found.jsonl", command="attack")
    check("Of 8 harmful prompts that the gate flagged, words got 0 past it: 0.0%" in shown.stdout and
          "so there are no rows" in shown.stdout, shown.stdout)


def test_fit():
    """The next fit reads the rows."""
    make()
    attack("--policy", "above.st", "--words", "2", "-o", "found.jsonl")
    works("--data", "a.jsonl", "found.jsonl", "-o", "next.st", "--judge-prompts", "2", "--judge-tokens", "4",
          "--max-candidates", "2", "--report", "fit.json", command="fit")
    with open("fit.json", encoding="utf-8") as file:
        rows = json.load(file)["gate"]["held_out"]
    check(sum("+attack-0" in row["id"] for row in rows) == len(read_rows("found.jsonl")), "rows that were not read")


def test_own_labels():
    """What is written has the words that the data have, which the next fit reads beside them."""
    make()
    words = {"harmful": "spam", "benign": "ham", "borderline": "borderline"}
    write_lines("own.jsonl", [{**row, "label": words[row["label"]]} for row in read_rows("a.jsonl")])
    attack("--policy", "above.st", "--words", "2", "-o", "found.jsonl", "--positive-label", "spam", "--negative-label",
           "ham", data=("own.jsonl",))
    labels = {row["label"] for row in read_rows("found.jsonl")}
    check("spam" in labels and labels <= set(words.values()), f"{labels}")


def test_refusals():
    make()
    data = ("--data", "a.jsonl")
    refused(2, "--policy is missing", *data, command="attack")
    refused(2, "one policy", *data, "--policy", "above.st", "--policy", "below.st", command="attack")
    refused(2, "--data is missing", "--policy", "above.st", command="attack")
    refused(2, "both a policy and the rows", *data, "--policy", "above.st", "-o", "./above.st", command="attack")
    refused(2, "both the data and the rows", *data, "--policy", "above.st", "-o", "a.jsonl", command="attack")
    refused(1, "no gate that gives one figure", *data, "--policy", "push.st", command="attack")
    refused(1, "no row to run in split all", *data, "--policy", "above.st", "--split", "all", command="attack")
    refused(2, "words", *data, "--policy", "above.st", "--words", "33", command="attack")
    # Eight words have no room behind a prompt that fits: refused before the search, and nothing is written.
    small = ("--policy", "open.st", "--ctx-size", "64", "-o", "found.jsonl")
    works(*data, "--policy", "open.st", "--ctx-size", "64", "-n", "0", command="eval")
    works(*data, *small, "--words", "1", "--budget", "2", command="attack")
    refused(1, "a0: ", *data, *small, command="attack")


with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    program.run_tests(globals(), sys.argv[3:])
    os.chdir("/")
program.end()
