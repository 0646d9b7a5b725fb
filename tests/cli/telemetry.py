#!/usr/bin/env python3
"""The telemetry of `trimtab batch`: which tokens and layers a line says were steered. telemetry.py TRIMTAB GOLDEN"""

import os
import re
import tempfile

import program
from batch_rows import completion
from program import check, make_policy, read, read_rows, refused, works, write_lines


def sparse(token):
    """The sparse line of a dense one."""
    line = {key: token[key] for key in ("custom_id", "index", "pos", "token")}
    if token["s"]:
        line |= {"s": token["s"], "gate": token["gate"]}
    steered = [{str(layer): c for layer, c in enumerate(coef) if c} for coef in token["coef"]]
    layers = sorted({int(layer) for coef in steered for layer in coef})
    if layers:
        line["coef"] = steered
        for key in ("norm_before", "norm_after"):
            line[key] = {str(layer): token[key][layer] for layer in layers}
    return line


def test_telemetry():
    """Where a policy acts: on which tokens, and on nothing else."""
    make_policy("p.st")
    make_policy("q.st", "trimtab.alpha=0.7", "trimtab.when=generation")
    whens = ["generation", "last", "all"]
    rows = [completion(f"p {when}", prompt="one two three", max_tokens=6,
                       steering={"policies": [{"name": "p"}], "when": when}) for when in whens]
    rows.append(completion("both", prompt="one two three", max_tokens=6, n=2, temperature=1,
                           steering={"policies": [{"name": "q", "scale": 2}, {"name": "p", "scale": 0.5}]}))
    rows.append(completion("none", prompt="one two three", max_tokens=6))
    write_lines("in.jsonl", rows)
    arguments = ["-i", "in.jsonl", "--policy", "p=p.st", "--policy", "q=q.st"]
    works(*arguments, "-o", "out", "--telemetry", "tokens", "--telemetry-dense")
    works(*arguments, "-o", "sparse.out", "--telemetry", "sparse")
    check(read_rows("sparse") == [sparse(token) for token in read_rows("tokens")], "sparse telemetry")
    check(len(read("sparse")) < len(read("tokens")), f"sparse: {len(read('sparse'))} bytes")
    answers = [re.sub(rb'"created":\d+', b"", read(name)) for name in ("out", "sparse.out")]
    check(answers[0] == answers[1], "the form of the telemetry changes answers")
    refused(1, '--telemetry-dense ("dense" there, "sparse" here)', *arguments, "-o", "out", "--telemetry", "tokens")
    out, by_id = read_rows("out"), {}
    for token in read_rows("tokens"):
        by_id.setdefault((token["custom_id"], token["index"]), []).append(token)
    n_prompt = out[0]["response"]["body"]["usage"]["prompt_tokens"]
    begins = {"generation": n_prompt, "last": n_prompt - 1, "all": 0}
    prompt = [token["token"] for token in by_id["none", 0]][:n_prompt]
    check(len(by_id) == 6 and n_prompt > 3, f"telemetry of {list(by_id)}")
    for (custom_id, _), tokens in by_id.items():
        check([token["token"] for token in tokens[:n_prompt]] == prompt, f"prompt tokens of {custom_id}")
        for token in tokens:
            pos = token["pos"]
            if custom_id == "both":
                expected = [[1.4 if pos >= n_prompt else 0] * 3, [0.75] * 3]
            else:
                expected = [] if custom_id == "none" else [[1.5 if pos >= begins[custom_id[2:]] else 0] * 3]
            acts = any(c for coef in expected for c in coef)
            same = all(abs(a - b) < 1e-6 for x, y in zip(token["coef"], expected) for a, b in zip(x, y))
            moved = any(abs(a - b) > 1e-3 for a, b in zip(token["norm_before"], token["norm_after"]))
            check(len(token["coef"]) == len(expected) and same and moved == acts and
                  len(token["w"]) == len(token["s"]) == len(token["gate"]) == len(expected), f"telemetry: {token}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        program.run_tests({"test_telemetry": test_telemetry})
        os.chdir("/")
    program.end()
