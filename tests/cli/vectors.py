#!/usr/bin/env python3
"""Control vectors in every command that takes a policy, import and export, and what is refused: vectors.py TRIMTAB
GOLDEN [TEST]..."""

import json
import os
import sys
import tempfile

from program import (check, end, golden, make_policy, metadata, read, read_rows, refused, run_tests, tensor, works,
                     write_lines)

VECTOR = os.path.join(golden, "vectors/repeng.gguf")
PROMPT = ["--raw", "-p", "Well now, the old mill at the end of the lane", "--ignore-eos", "-n", "12"]
WANT = os.path.join(golden, "vectors/steered.safetensors")
ROWS = os.path.join(golden, "policy/rows.jsonl")


def generated(*arguments):
    return json.loads(works(*PROMPT, "--json", *arguments, command="generate").stdout)


def test_generate():
    """repeng's greedy texts, at scales as of policies; without the vector, as unsteered."""
    for i, scale in enumerate((12, -10)):
        out = generated("--policy", f"{VECTOR}:{scale}")
        check(tuple(out["ids"]) == tensor(WANT, f"greedy.{i}"), f"{scale}: {out['ids']}")
        check(out["decision"][0]["coef"] == [0, scale, scale], f"{out['decision']}")
    for options in ((), ("--policy", f"{VECTOR}:0")):
        check(tuple(generated(*options)["ids"]) == tensor(WANT, "greedy.off"), f"{options}")


def test_layers():
    """Only the layers that are named, in every command; none of the vector's is an error."""
    check(generated("--policy", f"{VECTOR}:12", "--layers", "2")["decision"][0]["coef"] == [0, 0, 12], "--layers 2")
    check(generated("--policy", f"{VECTOR}:12", "--layers", "1-30")["decision"][0]["coef"] == [0, 12, 12], "1-30")
    refused(1, "--layers: policy repeng steers none of \"0\"", *PROMPT, "--policy", VECTOR, "--layers", "0",
            command="generate")
    refused(1, "not a list of layers", *PROMPT, "--policy", VECTOR, "--layers", "2..3", command="generate")
    works("--policy", f"{VECTOR}:12", "--steer-layers", "2", "--ids", "5,6", "-o", "c.st", command="capture")
    check(set(tensor("c.st", "coef")) == {0, 12} and tensor("c.st", "coef")[:3] == (0, 0, 12), "capture --layers")


def test_commands():
    """eval, score, stack and batch take it; a batch remembers its layers."""
    policy = ("--policy", f"{VECTOR}:12")
    done = works(*policy, "--data", ROWS, "--limit", "1", "--max-tokens", "2", "--json", command="eval")
    check("repeng" in done.stdout, "eval")
    with open("t.txt", "w", encoding="utf-8") as file:
        file.write("the old mill at the end of the lane and the new one")
    works(*policy, "--perplexity", "t.txt", "--json", command="score")
    write_lines("in.jsonl", [{"id": "a", "prompt": "the mill"}])
    batch = ("-i", "in.jsonl", "-o", "out.jsonl", "--raw", "-n", "4", "--policy", f"v={VECTOR}", "--sweep", "v@0,12")
    works(*batch, "--layers", "1")
    rows = read_rows("out.jsonl")
    check(rows[1]["response"]["body"]["steering"][0]["coef"] == {"1": 12}, f"{rows[1]}")
    refused(1, "--layers", *batch, "--layers", "2")
    refused(1, "--layers", *batch)
    works(*batch, "--layers", "1")


def test_import_and_export():
    """A policy of the model, with the same text; and back, the bytes that repeng writes."""
    works("--model", os.path.join(golden, "tiny-llama"), "-o", "p.safetensors", model=VECTOR, command="import")
    head, _ = metadata("p.safetensors")
    check(head["trimtab.name"] == "repeng" and head["trimtab.gate"] == "always" and head["trimtab.when"] == "all" and
          head["trimtab.layers"] == "1-2" and head["trimtab.fingerprint"].startswith("llama L=3 "), f"{head}")
    check(tuple(generated("--policy", "p.safetensors:12")["ids"]) == tensor(WANT, "greedy.0"), "imported")
    works("-o", "back.gguf", model="p.safetensors", command="export")
    check(read("back.gguf") == read(os.path.join(golden, "vectors/ascending.gguf")), "exported")
    works("-o", "one.gguf", "--layers", "2", model="p.safetensors", command="export")
    check(generated("--policy", "one.gguf:12")["decision"][0]["coef"] == [0, 0, 12], "exported layers")
    refused(2, "--model is missing", "-o", "q.safetensors", model=VECTOR, command="import")
    refused(2, "--output is missing", "--model", "x", model=VECTOR, command="import")
    refused(1, "of width 64 there, 32 here", "--model", os.path.join(golden, "tiny-qwen2"), "-o", "q.safetensors",
            model=VECTOR, command="import")
    check(not os.path.exists("q.safetensors"), "a file was written")
    refused(2, "would be both the input and the output", "-o", "p.safetensors", model="p.safetensors", command="export")


def test_what_is_refused():
    """By name: policies that a control vector cannot say, models, and pickles."""
    make_policy("gated.safetensors", "gate.b=1")
    refused(1, "has a gate (probe)", "-o", "g.gguf", model="gated.safetensors", command="export")
    make_policy("first.safetensors")
    refused(1, "steers layer 0", "-o", "g.gguf", model="first.safetensors", command="export")
    works("-o", "g.gguf", "--layers", "1-2", model="first.safetensors", command="export")
    make_policy("turned.safetensors", "trimtab.format=2", "trimtab.op=rotate")
    refused(1, "is of operation rotate", "-o", "h.gguf", model="turned.safetensors", command="export")
    make_policy("late.safetensors", "trimtab.when=generation")
    refused(1, "steers when generation", "-o", "h.gguf", "--layers", "1", model="late.safetensors", command="export")
    check(not os.path.exists("h.gguf"), "a file was written")
    tiny = os.path.join(golden, "tiny-llama/tiny-llama.q8_0.gguf")
    refused(1, "no control vector, but perhaps a model", *PROMPT, "--policy", tiny, command="generate")
    with open("vectors.pt", "wb") as file:
        file.write(b"PK\3\4" + bytes(26) + b"archive/data.pkl")
    refused(1, "vectors_to_gguf.py makes a control vector", *PROMPT, "--policy", "vectors.pt", command="generate")


def test_inspect():
    tiny = os.path.join(golden, "tiny-llama/tiny-llama.q8_0.gguf")
    done = works("--json", model=VECTOR, command="inspect")
    report = json.loads(done.stdout)
    check(report["kind"] == "control vector" and report["model_hint"] == "llama" and report["last_layer"] == 2 and
          [d["name"] for d in report["directions"]] == ["direction.2", "direction.1"], done.stdout)
    model = os.path.join(golden, "tiny-llama")
    report = json.loads(works("--json", "--model", model, model=VECTOR, command="inspect").stdout)["on_model"]
    check(report["fits"] and [layer["layer"] for layer in report["layers"]] == [1, 2], f"{report}")
    report = json.loads(works("--json", "--model", os.path.join(golden, "tiny-qwen2"), model=VECTOR,
                              command="inspect").stdout)["on_model"]
    check(not report["fits"] and "width 64" in report["why_not"], f"{report}")
    # A type that no GGUF has is an unknown one there, whatever is of that type here.
    for path, name, n_dims in ((VECTOR, b"direction.2", 1), (tiny, b"blk.0.attn_q.weight", 2)):
        data = read(path)
        at = data.index(name) + len(name) + 4 + 8 * n_dims
        with open("other.gguf", "wb") as file:
            file.write(data[:at] + bytes([63, 0, 0, 0]) + data[at + 4:])
        if path == VECTOR:
            refused(1, "direction.2 is of type ?;", model="other.gguf", command="inspect")
    report = json.loads(works("--json", model="other.gguf", command="inspect").stdout)
    check(report["tensor_types"]["?"]["tensors"] == 1 and "F8_E4M3" not in report["tensor_types"], f"{report}")


with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    run_tests(globals(), sys.argv[3:])
    os.chdir("/")
end()
