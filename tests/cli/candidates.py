#!/usr/bin/env python3
"""The policies of `fit --candidates`, against the report of the fit: candidates.py TRIMTAB GOLDEN [TEST]..."""

import json
import math
import os
import sys
import tempfile

import program
from program import check, golden, metadata, refused, tensor, works

ROWS = os.path.join(golden, "policy/rows.jsonl")
SMALL = ["--data", ROWS, "-o", "p.st", "--judge-prompts", "2", "--judge-tokens", "4", "--max-candidates", "6"]


def test_pushes():
    """There is a file for each candidate; what it adds has the length that the report states, and its gate is open."""
    done = program.run(*SMALL, "--report", "r.json", "--candidates", "c", command="fit")
    check(done.returncode in (0, 3), f"fit: {done.returncode}: {done.stderr}")
    with open("r.json", encoding="utf-8") as file:
        candidates = json.load(file)["candidates"]
    names = [candidate["policy"] for candidate in candidates]
    check(sorted(os.listdir("c")) == sorted(f"{name}.safetensors" for name in names) and len(names) == 6, f"{names}")
    for candidate in candidates:
        path = os.path.join("c", candidate["policy"] + ".safetensors")
        head, _ = metadata(path)
        check(head["trimtab.gate"] == "always" and head["trimtab.name"] == candidate["policy"], f"{head}")
        weights, length = tensor(path, "weight"), 0
        for layer, weight in enumerate(weights):
            inside = candidate["first_layer"] <= layer <= candidate["last_layer"]
            check(weight == (candidate["weights"][layer - candidate["first_layer"]] if inside else 0), f"{weights}")
            if weight:
                length += weight * math.sqrt(sum(x * x for x in tensor(path, f"direction.{layer}")))
        length *= float(head["trimtab.alpha"])
        check(math.isclose(length, candidate["push_length"], rel_tol=1e-5), f"{length}, {candidate['push_length']}")
    works("--policy", f"a=c/{names[0]}.safetensors", "--policy", f"b=c/{names[1]}.safetensors", "--sweep", "a,b@1",
          "--data", ROWS, "--limit", "1", "--max-tokens", "2", command="eval")


def test_folders():
    """A folder that holds something, or that cannot be made, is refused before any work; an empty one is taken."""
    os.mkdir("full")
    with open("full/candidate-00.safetensors", "w", encoding="utf-8") as file:
        file.write("kept")
    for folder in ("full", "full/candidate-00.safetensors", "none/below"):
        refused(1, f"{folder}: cannot be made", *SMALL, "--candidates", folder, command="fit")
        check(not os.path.exists("p.st"), f"{folder}: a policy was written")
    with open("full/candidate-00.safetensors", encoding="utf-8") as file:
        check(file.read() == "kept", "the file of the full folder")
    os.mkdir("empty")
    done = program.run(*SMALL, "--candidates", "empty", command="fit")
    check(done.returncode in (0, 3) and len(os.listdir("empty")) == 6, f"{done.returncode}: {done.stderr}")


with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    program.run_tests(globals(), sys.argv[3:])
    os.chdir("/")
program.end()
