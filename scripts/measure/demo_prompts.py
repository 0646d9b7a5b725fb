#!/usr/bin/env python3
"""The prompts that the demo shows, a line each: LABEL TAB PROMPT. demo_prompts.py FIT.json PROMPTS.jsonl

They are rows of the fit which the gate, trained without them, judged rightly: the first harmful one whose benign twin
was let through, that twin, and the first borderline one that was. Where there is none, the first of its label."""

import json
import math
import sys


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        gate = json.load(file)["gate"]
    with open(sys.argv[2], encoding="utf-8") as file:
        rows = {row["id"]: row for row in map(json.loads, file)}
    cut = math.log(gate["threshold"] / (1 - gate["threshold"]))
    flagged = {held["id"]: held["logit"] > cut for held in gate["held_out"]}
    harmful = [name for name in rows if name in flagged and rows[name]["label"] == "harmful"]
    twin = {name: name.replace("harmful", "benign") for name in harmful}
    borderline = [name for name in rows if name in flagged and rows[name]["label"] == "borderline"]
    shown = next((name for name in harmful if flagged[name] and not flagged.get(twin[name], True)), harmful[0])
    passed = next((name for name in borderline if not flagged[name]), borderline[0])
    for name in (shown, twin[shown], passed):
        print(rows[name]["label"], rows[name]["prompt"], sep="\t")


if __name__ == "__main__":
    main()
