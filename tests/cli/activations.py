#!/usr/bin/env python3
"""The file of `fit --activations`, read as docs/formats.md describes it: activations.py TRIMTAB GOLDEN [TEST]..."""

import hashlib
import json
import os
import struct
import sys
import tempfile

import program
from program import check, golden, metadata, read, read_rows, refused, tensor, tiny, works

ROWS = os.path.join(golden, "policy/rows.jsonl")
WIDTH = 64
SMALL = ["--judge-prompts", "2", "--judge-tokens", "4", "--max-candidates", "1"]


def fit(*arguments, data=ROWS):
    done = program.run("--data", data, "-o", "p.st", "--report", "r.json", *SMALL, *arguments, command="fit")
    check(done.returncode in (0, 3), f"fit {arguments}: {done.returncode}: {done.stderr}")
    with open("r.json", encoding="utf-8") as file:
        return json.load(file)


def records(path):
    """The head, and the vectors by what was run and the layer, each with its checksum."""
    data = read(path)
    line, rest = data.split(b"\n", 1)
    n = 68 + 4 * WIDTH
    check(len(rest) % n == 0, f"{path}: {len(rest)} bytes of records")
    found = {}
    for at in range(0, len(rest), n):
        run, layer = struct.unpack_from("<32sI", rest, at)
        check(hashlib.sha256(rest[at:at + n - 32]).digest() == rest[at + n - 32:at + n], f"the record at {at}")
        found[run, layer] = struct.unpack_from(f"<{WIDTH}f", rest, at + 36), rest[at + n - 32:at + n]
    return json.loads(line), found


def key(ids, begin, end, layer):
    return hashlib.sha256(struct.pack(f"<QQ{len(ids)}i", begin, end, *ids)).digest(), layer


def test_records():
    """Each row's last token and mean in each layer are those of capture, in the template and as plain text; the
    policy's digest is that of the records."""
    report = fit("--activations", "cache")
    head, found = records("cache")
    check(head["trimtab.activations"] == 1 and head["hidden_size"] == WIDTH and head["numerics"]["kv"] == "f32",
          f"the first line: {head}")
    check(head["numerics"]["weights_digest"] == report["model"]["weights_digest"], "the model of the first line")
    layers = sorted({layer for _, layer in found})
    rows = read_rows(ROWS)
    check(len(found) == 2 * len(rows) * 2 * len(layers), f"{len(found)} records of {len(rows)} rows")
    checks = {}
    for row, form in ((row, form) for form in ((), ("--raw",)) for row in rows):
        works("--mean", *form, "-p", row["prompt"], "-o", "c.st", command="capture")
        ids = tensor("c.st", "ids")
        spans = [(len(ids) - 1, len(ids))] + [(a, b) for a in range(len(ids)) for b in range(a + 1, len(ids) + 1)
                                              if key(ids, a, b, layers[0]) in found and b - a > 1]
        check(len(spans) == 2, f"{row['id']}: the spans {spans}")
        checks[row["id"], form] = b""
        for begin, end in spans:
            for layer in layers:
                vector, seal = found[key(ids, begin, end, layer)]
                hidden, mean = tensor("c.st", f"hidden.{layer}"), tensor("c.st", f"mean.{layer}")
                want = mean if end - begin > 1 else hidden[-WIDTH:]
                exact = end - begin == 1
                check(all(a == b if exact else abs(a - b) < 1e-5 for a, b in zip(vector, want)),
                      f"{row['id']}, layer {layer}, ids {begin} to {end}: another vector than capture's")
                checks[row["id"], form] += seal
    order = [entry["id"] for entry in report["gate"]["held_out"]]  # the rows in the order of the features
    digest = hashlib.sha256(b"".join(checks[name, form] for form in ((), ("--raw",)) for name in order)).hexdigest()
    check(report["activations"] == {"sha256": digest, "n_from_file": 0, "n_run": 2 * len(rows)},
          f"{report['activations']}, not {digest}")
    last = json.loads(metadata("p.st")[0]["trimtab.fitted_on"])[-1]
    check(last == {"file": "activations", "sha256": digest, "rows": 2 * len(rows)}, f"the policy's digest: {last}")


def test_again():
    """The same policy but for the time, with nothing run; a torn file goes on."""
    fit()
    want = metadata("p.st")
    for begin, n_run in ((None, 40), (None, 0), (-100, 1)):
        if begin:
            os.truncate("cache", os.path.getsize("cache") + begin)
        report = fit("--activations", "cache")
        check(report["activations"]["n_run"] == n_run, f"{report['activations']}, not {n_run} rows run")
        now = metadata("p.st")
        now[0]["trimtab.created"] = want[0]["trimtab.created"]
        check(now == want, f"another policy with {n_run} rows run")


def test_refused():
    """By name, and untouched."""
    fit("--activations", "cache")
    before = read("cache")
    usual = ["--data", ROWS, "-o", "p.st", *SMALL, "--activations"]
    refused(1, "another --kv", *usual, "cache", "--kv", "f16", command="fit")
    refused(1, 'another --compute ("f32" there, "q8" here)', *usual, "cache", "--compute", "q8", command="fit")
    refused(1, "another model", *usual, "cache", command="fit", model=os.path.join(golden, "tiny-qwen2"))
    with open("cache", "r+b") as file:
        file.seek(len(before) // 2)
        file.write(b"damage")
    damaged = read("cache")
    refused(1, "is damaged", *usual, "cache", command="fit")
    check(read("cache") == damaged, "a damaged file was touched")
    with open("other", "wb") as file:
        file.write(b"a page of notes\n" * 1000)
    refused(1, "no file of activations", *usual, "other", command="fit")
    check(read("other") == b"a page of notes\n" * 1000, "another kind of file was touched")
    refused(2, "would be both the policy and the activations", *usual, "p.st", command="fit")
    refused(2, "would be both the data and the activations", *usual, ROWS, command="fit")
    refused(2, "would be both the model and the activations", *usual, os.path.join(tiny, "config.json"), command="fit")
    refused(1, "no-folder", *usual, "no-folder/cache", command="fit")


with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    program.run_tests(globals(), sys.argv[3:])
    os.chdir("/")
program.end()
