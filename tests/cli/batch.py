#!/usr/bin/env python3
"""Runs `trimtab batch` as its users and their machines do, and kills it: batch.py TRIMTAB GOLDEN [TEST]...

  batch.py TRIMTAB GOLDEN --kills N --lines M [--model MODEL] [--seed S]   only the killing, as long as you like
"""

import argparse
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import program
from batch_rows import (change_head, chat, check_completion_logprobs, completion, ids_of, mixed_rows, seal, text_of,
                        unseal)
from program import check, make_policy, read, read_rows, refused, run, tiny, trimtab, works, write_lines

parser = argparse.ArgumentParser()
parser.add_argument("trimtab")
parser.add_argument("golden")
parser.add_argument("tests", nargs="*")
parser.add_argument("--kills", type=int)
parser.add_argument("--lines", type=int, default=500)
parser.add_argument("--seed", type=int, default=int(time.time()))
parser.add_argument("--model")
options = parser.parse_args()


# ---- What is asked


def test_usage():
    write_lines("in.jsonl", [{"id": "1", "prompt": "x"}])
    make_policy("p.st")
    refused(2, "input is missing", "-o", "x")
    refused(2, "output is missing", "-i", "x")
    refused(2, "no name to call it by: NAME=a b.st", "-i", "in.jsonl", "-o", "x", "--policy", "a b.st")
    refused(2, "names no file", "-i", "in.jsonl", "-o", "x", "--policy", "p=")
    refused(2, "scales are given by rows and --sweep here", "-i", "in.jsonl", "-o", "x", "--policy", "p=p.st:2")
    refused(2, "is no name", "-i", "in.jsonl", "-o", "x", "--policy", "a@b=p.st")
    refused(2, "two policies", "-i", "in.jsonl", "-o", "x", "--policy", "p=p.st", "--policy", "p=p.st")
    for sweep, why in (("p", "is not NAME"), ("p@", "no number"), ("@1", "no policy given"), ("q@1", "no policy given"),
                       ("p@1,x", "no number"), ("p@inf", "no number"), ("p@0x1", "no number"), ("p@1,1", "twice"),
                       ("p,p@1", "twice"), ("p@1@2", "is not NAME"), ("p@1,", "no number"),
                       ("p@" + ",".join(map(str, range(1025))), "more than 1024")):
        refused(2, why, "-i", "in.jsonl", "-o", "x", "--policy", "p=p.st", "--sweep", sweep)
    refused(2, "both the input and the output", "-i", "in.jsonl", "-o", "in.jsonl")
    refused(2, "both the input and the output", "-i", "in.jsonl", "-o", "./in.jsonl")
    refused(2, "the telemetry", "-i", "in.jsonl", "-o", "x", "--telemetry", "x")
    refused(2, "the telemetry", "-i", "in.jsonl", "-o", "x", "--telemetry", "in.jsonl")
    refused(2, "from 1 to", "-i", "in.jsonl", "-o", "x", "--max-batch", "0")
    refused(1, "system: not UTF-8", "-i", "in.jsonl", "-o", "x", "--system", "\udcff")
    refused(1, "missing.jsonl", "-i", "missing.jsonl", "-o", "x")
    refused(1, "nowhere", "-i", "in.jsonl", "-o", "nowhere/x")
    refused(1, "not a regular file", "-i", ".", "-o", "x")
    refused(1, "not a regular file", "-i", "in.jsonl", "-o", "/dev/null")
    check(not os.path.exists("/dev/null.journal"), "a journal was made beside what cannot be written")
    refused(1, "missing.st", "-i", "in.jsonl", "-o", "x", "--policy", "p=missing.st")
    write_lines("empty.jsonl", ["", " "])
    refused(1, "no rows", "-i", "empty.jsonl", "-o", "x")
    check(not os.path.exists("x") and read("in.jsonl") == b'{"id": "1", "prompt": "x"}\n', "a refusal wrote something")
    check("NAME@SCALE" in works("--help").stdout, "--help does not teach the sweep")


def test_bodies():
    """Each of these is refused for its own reason, and the good rows between them do not notice."""
    message = {"role": "user", "content": "x"}
    bad = [
        (chat("b", temperature="warm"), "temperature must be a number"), (chat("b", temperature=-1), "temperature"),
        (chat("b", top_p=0), "top_p"), (chat("b", top_p=1.1), "top_p"), (chat("b", max_tokens=0), "max_tokens"),
        (chat("b", max_tokens=1.5), "max_tokens"), (chat("b", max_completion_tokens=6), "differ"),
        (chat("b", n=0), "n must be"), (chat("b", n=129), "n must be"), (chat("b", seed=1.5), "seed"),
        (chat("b", stop=[""]), "stop"), (chat("b", stop=["a"] * 5), "more than 4 stop"), (chat("b", stop=3), "stop"),
        (chat("b", logprobs=3), "logprobs must be true or false"), (chat("b", top_logprobs=2), "needs logprobs"),
        (chat("b", logprobs=True, top_logprobs=21), "top_logprobs"), (completion("b", logprobs=True), "logprobs"),
        (chat("b", stream=True), "stream is not"), (chat("b", presence_penalty=2.1), "presence_penalty must be"),
        (chat("b", frequency_penalty=-3), "frequency_penalty must"), (chat("b", logit_bias={"5": 1}), "logit_bias"),
        (chat("b", tools=[{}]), "tools is not"), (chat("b", functions=[{}]), "functions is not"),
        (chat("b", response_format={"type": "json_object"}), "response_format"), (chat("b", surprise=1), "surprise"),
        (chat("b", prompt="x"), "prompt"), (completion("b", messages=[message]), "messages"),
        (completion("b", echo=1), "echo"), (completion("b", suffix="x"), "suffix"),
        (completion("b", max_tokens=0), "max_tokens"),
        (completion("b", best_of=3), "best_of"), (completion("b", prompt=["a", 1]), "must be a string"),
        (completion("b", prompt=3), "must be a string"), (completion("b", prompt=[1, -1]), "must be a string"),
        (completion("b", prompt=[1, 99999999]), "vocabulary"), (completion("b", prompt=[]), "empty"),
        (completion("b", prompt="Hello " * 600), "context"),
        (chat("b", messages=[]), "messages"), (chat("b", messages="x"), "messages"),
        (chat("b", messages=[{"role": "user"}]), "no content"), (chat("b", messages=[{"content": "x"}]), "no role"),
        (chat("b", messages=[message | {"tool_calls": []}]), "tool_calls"),
        (chat("b", [{"type": "image_url", "image_url": {}}]), "only text"),
        (chat("b", steering=3), "steering must be an object"), (chat("b", steering={}), "policies must be a list"),
        (chat("b", steering={"policies": [], "scale": 1}), "unknown key"),
        (chat("b", steering={"policies": [{"name": "p", "Scale": 1}]}), "unknown key"),
        (chat("b", steering={"policies": [{"name": "nobody"}]}), "nobody"),
        (chat("b", steering={"policies": [{"scale": 1}]}), "no name"),
        (chat("b", steering={"policies": [{"name": "p", "scale": "1"}]}), "scale"),
        (chat("b", steering={"policies": [{"name": "p", "scale": 1e7}]}), "scale"),
        (chat("b", steering={"policies": [{"name": "p"}] * 5}), "more than 4"),
        (chat("b", steering={"policies": ["p"]}), "objects"),
        (chat("b", steering={"policies": [{"name": "p"}], "when": "never"}), "when must be"),
        (chat("b") | {"url": "/v1/embeddings"}, "/v1/embeddings"), (chat("b") | {"method": "GET"}, "POST"),
        (chat("b") | {"body": None}, "body"), (chat("b") | {"priority": 1}, "priority"),
        ({"custom_id": "b"}, "url"), (chat(""), "custom_id"), (chat("x" * 513), "custom_id"), (chat(3), "custom_id"),
        ({"id": "b"}, "prompt"), ({"prompt": "x"}, "id must be"), ({"id": 3, "prompt": "x"}, "id must be"),
        ("{", "JSON"), ("nonsense", "JSON"), ("[1]", "not a JSON object"), ("\x00", "JSON"),
        ('{"id": "\\ud800"}', "JSON"),
        ('{"id": "b", "id": "c", "prompt": "x"}', "JSON"), ('{"id": "b", "prompt": NaN}', "JSON"),
        (chat("good 0"), "earlier line"), (completion("good 1"), "earlier line"),
        (json.dumps(chat("é" * 70, steering={"policies": [{"name": "é" * 70}]}), ensure_ascii=False), "not given"),
    ]
    lines = []
    for i, (row, _) in enumerate(bad):
        if isinstance(row, dict):
            row = {key: f"{value} {i}" if value == "b" and "id" in key else value for key, value in row.items()}
        lines += [row, chat("g" * 512 if i == 2 else f"good {i}", f"Hello {i}")]  # the longest that an id may be
    write_lines("bad.jsonl", lines)
    write_lines("good.jsonl", lines[1::2])
    make_policy("p.st")
    works("-i", "bad.jsonl", "-o", "bad.out", "--policy", "p=p.st")
    works("-i", "good.jsonl", "-o", "good.out")
    rows, alone = read_rows("bad.out"), read_rows("good.out")
    check(len(rows) == len(lines), f"{len(rows)} rows for {len(lines)} lines")
    for i, (row, (_, pattern)) in enumerate(zip(rows[0::2], bad)):
        error = row["error"]
        check(row["response"] is None and error and pattern in error["message"] and error["line"] == 2 * i + 1 and
              error["message"].startswith(f"line {2 * i + 1}: ") and row["id"].startswith("batch_req_"),
              f"the bad line {bad[i][0]}: {error} instead of '{pattern}'")
    for row, other in zip(rows[1::2], alone):
        check(row["error"] is None and row["response"]["status_code"] == 200 and text_of(row) == text_of(other),
              f"{row['custom_id']} is not what it is without bad lines")
    check(len({row["id"] for row in rows}) == len(rows), "two rows have one id")
    # Accepted, since they ask for nothing, or say nothing about the answer.
    neutral = {"stream": False, "presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}, "tools": [],
               "response_format": {"type": "text"}, "user": "me", "metadata": {"a": "b"}, "store": False,
               "service_tier": "default", "seed": None, "stop": None, "steering": None, "n": 1, "top_k": -1}
    write_lines("neutral.jsonl", [chat("a", **neutral), chat("b"), chat("c", [{"type": "text", "text": "Hel"},
                                                                             {"type": "text", "text": "lo"}])])
    works("-i", "neutral.jsonl", "-o", "neutral.out")
    texts = [text_of(row) for row in read_rows("neutral.out")]
    check(texts[0] == texts[1] == texts[2], f"neutral keys change the answer: {texts}")


def test_long_lines():
    lines = [chat("a"), '{"id": "long", "prompt": "' + "x" * (17 << 20) + '"}', chat("b")]
    write_lines("long.jsonl", lines)
    works("-i", "long.jsonl", "-o", "long.out")
    rows = read_rows("long.out")
    check(rows[1]["error"]["code"] == "line_too_long" and rows[1]["error"]["line"] == 2, f"long line: {rows[1]}")
    check(text_of(rows[0]) == text_of(rows[2]), "the line after a long one")
    with open("last.jsonl", "wb") as file:  # a byte order mark, CRLF, no newline at the end
        file.write(b"\xef\xbb\xbf" + json.dumps(chat("a")).encode() + b"\r\n\r\n" + json.dumps(chat("b")).encode())
    works("-i", "last.jsonl", "-o", "last.out")
    check([row["error"] for row in read_rows("last.out")] == [None, None], "the last line without its newline")


# ---- What is answered


def test_answers():
    make_policy("p.st")
    make_policy("q.st", "trimtab.alpha=0.7")
    rows = mixed_rows(61)
    write_lines("in.jsonl", rows)
    arguments = ["-i", "in.jsonl", "--policy", "p=p.st", "--policy", "q=q.st", "-n", "6"]
    works(*arguments, "-o", "out.jsonl", "--max-batch", "7")
    out = read_rows("out.jsonl")
    check([row["custom_id"] for row in out] == ids_of(rows), "the rows are not in the order of the input")
    given, n_placed = [row for row in rows if isinstance(row, dict) or row.strip()], 0
    for row, asked in zip(out, given):
        if row["error"]:
            continue
        body, n = row["response"]["body"], asked.get("body", {}).get("n", 1)
        is_chat = "choices" in body and "message" in body["choices"][0]
        usage = body["usage"]
        check(body["mode"] == "strict" and len(body["choices"]) == n and
              body["object"] == ("chat.completion" if is_chat else "text_completion") and
              body["id"].startswith("chatcmpl-" if is_chat else "cmpl-") and
              [c["index"] for c in body["choices"]] == list(range(n)) and
              all(c["finish_reason"] in ("stop", "length") for c in body["choices"]) and
              usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"], f"shape of {row}")
        limit = asked.get("body", {}).get("max_tokens", 6)
        for c in body["choices"]:
            if limit == 1 or c["finish_reason"] == "length":
                check(usage["completion_tokens"] <= n * limit, f"usage of {row['custom_id']}")
            if c["logprobs"] and is_chat:
                entries = c["logprobs"]["content"]
                whole = b"".join(bytes(e["bytes"]) for e in entries).decode("utf-8", "replace")
                check(c["finish_reason"] == "stop" or whole == c["message"]["content"], f"tokens of {row['custom_id']}")
                check(all(len(e["top_logprobs"]) == 1 and e["logprob"] <= e["top_logprobs"][0]["logprob"] <= 0
                          for e in entries), f"logprobs of {row['custom_id']}")
            elif c["logprobs"]:
                n_placed += check_completion_logprobs(c, row["custom_id"])
        policies = (asked.get("body", {}).get("steering") or {}).get("policies")
        steering = body["steering"]
        check(bool(policies) == bool(steering), f"steering of {row['custom_id']}")
        for entry, policy in zip(steering or [], policies or []):
            alpha = 1.5 if policy["name"] == "p" else 0.7
            scale = policy.get("scale", 1)
            expected = {str(l): alpha * scale for l in range(3)} if scale else {}
            close = entry["coef"].keys() == expected.keys() and all(
                abs(entry["coef"][l] - expected[l]) < 1e-6 for l in expected)
            check(entry["policy"] == policy["name"] and entry["s"] == 1 and close, f"decision {entry} of {policy}")
    check(n_placed > 0, "no completion had its tokens' places checked")
    created = {row["response"]["body"]["created"] for row in out if not row["error"]}
    check(len(created) == 1 and abs(created.pop() - time.time()) < 600, "created")
    for row, asked in list(zip(out, given))[:13]:  # what `generate` says to a plain prompt
        if "prompt" in asked:
            done = works("-p", asked["prompt"], "-n", "6", command="generate")
            check(done.stdout == text_of(row) + "\n", f"{row['custom_id']} is not what generate says")
    # A seed repeats, choices differ, and a row's own seed does not depend on where it stands.
    write_lines("seeds.jsonl", [chat("a", seed=5, temperature=5), chat("b", seed=5, temperature=5, n=3),
                                chat("c", seed=6, temperature=5), chat("d", temperature=5)])
    write_lines("seeds2.jsonl", ["", chat("d", temperature=5)])
    works("-i", "seeds.jsonl", "-o", "seeds.out")
    works("-i", "seeds2.jsonl", "-o", "seeds2.out")
    a, b, c, d = read_rows("seeds.out")
    choices = [choice["message"]["content"] for choice in b["response"]["body"]["choices"]]
    check(text_of(a) == choices[0] and len(set(choices)) == 3, f"choices: {choices}")
    check(text_of(c) != text_of(a) and text_of(d) == text_of(read_rows("seeds2.out")[0]), "seeds")


def test_stop():
    """The text ends before a stop string; what comes after it is not generated."""
    write_lines("in.jsonl", [completion("whole", prompt="abc", max_tokens=40)])
    works("-i", "in.jsonl", "-o", "whole.out")
    whole = text_of(read_rows("whole.out")[0])
    at = next(i for i in range(8, len(whole)) if whole.find(whole[i:i + 2]) == i)  # its first occurrence
    stop = whole[at:at + 2]
    write_lines("in.jsonl", [completion("a", prompt="abc", max_tokens=40, stop=stop),
                             completion("b", prompt="abc", max_tokens=40, stop=["never said", stop], n=2),
                             completion("c", prompt="abc", max_tokens=40, stop="never said"),
                             completion("d", prompt="abc", stop="x" * 300)])
    works("-i", "in.jsonl", "-o", "out")
    rows = read_rows("out")
    for row in rows[:2]:
        for choice in row["response"]["body"]["choices"]:
            check(choice["text"] == whole[:at] and choice["finish_reason"] == "stop", f"stop {stop!r}: {choice}")
    check(rows[0]["response"]["body"]["usage"]["completion_tokens"] < 40, "it went on after the stop string")
    check(text_of(rows[2]) == whole, "a stop string that never came")
    check("stop" in rows[3]["error"]["message"], f"a long stop string: {rows[3]}")


def test_sweep():
    make_policy("p.st")
    make_policy("q.st", "trimtab.alpha=0.7")
    lines = [chat("a", "Hello"), "{", {"id": "b", "prompt": "x y z"}, chat("c", steering={"policies": []}),
             chat("d", steering={"policies": [{"name": "p"}]})]
    write_lines("in.jsonl", lines)
    works("-i", "in.jsonl", "-o", "plain.out", "--policy", "p=p.st")
    works("-i", "in.jsonl", "-o", "out.jsonl", "--policy", "p=p.st", "--policy", "q=q.st", "--sweep", "q,p@0,1,-0.5",
          "--telemetry", "tokens.jsonl", "--telemetry-dense")
    rows, plain = read_rows("out.jsonl"), read_rows("plain.out")
    # One baseline a line: what p would be at 0 is what q is.
    cases = [("q", "0"), ("q", "1"), ("q", "-0.5"), ("p", "1"), ("p", "-0.5")]
    suffixes = [f"#{name}@{scale}" for name, scale in cases]
    expected = [i and i + s for i in ("a", None, "b", "c", "d") for s in suffixes]
    check([row["custom_id"] for row in rows] == expected, f"ids: {[row['custom_id'] for row in rows]}")
    own = [(i, name, float(scale)) for i in ("a", None, "b", "c", "d") for name, scale in cases]
    check([tuple(row["swept"].values()) for row in rows] == own, f"swept: {[row['swept'] for row in rows]}")
    check(not any("swept" in row for row in plain), "rows without a sweep say what they were swept by")
    check(all(row["error"]["line"] == 2 for row in rows[5:10]) and all("cannot be swept" in row["error"]["message"]
                                                                      for row in rows[20:]), "bad rows of a sweep")
    for i, line in enumerate((0, 2, 3)):
        texts = [text_of(row) for row in rows[5 * line:5 * line + 5]]
        check(texts[0] == text_of(plain[line]), f"scale 0 of row {line}: {texts}")
        check(len(set(texts)) > 2, f"steering changes nothing in row {line}: {texts}")
    scales = [(row["response"]["body"]["steering"][0]["policy"], row["response"]["body"]["steering"][0]["scale"])
              for row in rows[:5]]
    check(scales == [(name, float(scale)) for name, scale in cases], f"scales: {scales}")
    # Telemetry: a line for each token that ran.
    tokens = read_rows("tokens.jsonl")
    by_id = {}
    for token in tokens:
        by_id.setdefault(token["custom_id"], []).append(token)
    check(list(by_id) == [i for i in expected if i and not i.startswith("d")], "telemetry: ids")
    for row in rows[:5]:
        lines, usage = by_id[row["custom_id"]], row["response"]["body"]["usage"]
        check([token["pos"] for token in lines] == list(range(usage["total_tokens"] - 1)), "telemetry: positions")
        scale = row["response"]["body"]["steering"][0]["scale"]
        moved = any(abs(before - after) > 1e-6 for token in lines
                    for before, after in zip(token["norm_before"], token["norm_after"]))
        check(moved == (scale != 0), f"telemetry: norms of {row['custom_id']}")
        check(all(token["w"] == [[1, 1, 1]] and token["s"] == [1] and len(token["coef"][0]) == 3 for token in lines),
              f"telemetry of {row['custom_id']}")


# ---- What is survived


class Job:
    """A command, its files, and what an unbroken run makes of them."""

    def __init__(self, rows, *arguments, model=tiny, telemetry=True):
        write_lines("in.jsonl", rows)
        make_policy("p.st")
        make_policy("q.st", "trimtab.alpha=0.7")
        self.model = model
        self.arguments = [*arguments] if model != tiny else ["--policy", "p=p.st", "--policy", "q=q.st", *arguments]
        self.telemetry = telemetry
        self.files = ["out", "out.journal"] + (["tokens"] if telemetry else [])

    def command(self, name="out"):
        tokens = ["--telemetry", name.replace("out", "tokens")] if self.telemetry else []
        return ["-i", "in.jsonl", "-o", name, *tokens, *self.arguments]

    def unbroken(self):
        """An unbroken run of the same job: the same beginning of the journal, so the same time of creation."""
        with open("out.journal", encoding="utf-8") as file:
            head = file.readline()
        with open("whole.out.journal", "w", encoding="utf-8") as file:
            file.write(head)
        for path in ("whole.out", "whole.tokens"):
            open(path, "w", encoding="utf-8").close()
        works(*self.command("whole.out"), model=self.model)

    def same(self, what):
        check(read("out") == read("whole.out"), f"{what}: the output is not that of an unbroken run")
        if self.telemetry:
            check(read("tokens") == read("whole.tokens"), f"{what}: the telemetry is not that of an unbroken run")
        records, whole = ([line for line in read(path).splitlines(True) if b"synced" not in line]
                          for path in ("out.journal", "whole.out.journal"))
        check(records == whole, f"{what}: the journal is not that of an unbroken run")

    def finish(self, what):
        works(*self.command(), model=self.model)
        self.same(what)

    def finish_again(self, command):
        before = self.save()
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        check(done.returncode in (0, 4), f"{command}: {done.returncode}: {done.stderr[-300:]}")
        check(self.save() == before, "a run with nothing to do changed a file")

    def save(self):
        return {path: read(path) for path in self.files}

    def load(self, saved, **changed):
        for path, data in (saved | {key.replace("_", "."): value for key, value in changed.items()}).items():
            with open(path, "wb") as file:
                file.write(data)


def kill(job, n_kills, rng):
    """Starts and kills until n_kills have hit a run that was still going."""
    command = [trimtab, "batch", job.model, *job.command()]
    begun = time.monotonic()
    works(*job.command(), model=job.model)
    seconds = time.monotonic() - begun
    begun = time.monotonic()
    job.finish_again(command)
    start = time.monotonic() - begun  # what it takes to start and find nothing to do
    job.unbroken()
    job.same("a first run")
    for path in job.files:
        if path != "out.journal":
            os.unlink(path)
    head = change_head("out.journal", created=1700000000)  # the job has begun, long ago, and nothing is done
    job.unbroken()
    check(b'"created":1700000000' in read("whole.out"), "the rows do not say when the job was begun")
    hits = misses = 0
    progress = []
    while hits < n_kills:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0, start + 3 * max(seconds - start, 0) / n_kills))
        process.send_signal(signal.SIGKILL)
        if process.wait() == -signal.SIGKILL:
            hits += 1
            progress.append(read("out").count(b"\n") if os.path.exists("out") else 0)
        else:
            misses += 1
            with open("out.journal", "wb") as file:
                file.write(head)
            for path in ("out", "tokens"):
                if os.path.exists(path):
                    os.unlink(path)
    print(f"kills: {hits} hit a run at rows {progress}, {misses} came when it was done")
    job.finish("killed")


def test_kills():
    kill(Job(mixed_rows(60), "-n", "12", "--max-batch", "2", "-t", "1"), 8, random.Random(options.seed))


def test_batch_size():
    """Neither the batch nor the threads change a byte; nor does a file that was begun otherwise."""
    job = Job(mixed_rows(40), "-n", "12", "--max-batch", "32", "-t", "2")
    works(*job.command())
    job.arguments = job.arguments[:-4] + ["--max-batch", "3", "-t", "1"]
    job.unbroken()
    job.same("another batch size")
    lines = read("out.journal").split(b"\n")
    saved = job.save()
    job.load(saved, out_journal=b"\n".join(lines[:10]) + b"\n", out=b"".join(saved["out"].splitlines(True)[:9]))
    job.finish("a run that goes on with another batch size")


def test_gates_and_batch_size():
    """Prompts that fit a step beside a small batch and not beside a large one: their gates read before the first layer
    that is steered, so the one is steered in the pass that decides, the other in chunks. The telemetry is the same."""
    rows = []
    lengths = (490, "shut"), (482, "shut"), (500, "open"), (487, "shut", "open"), (495, "shut")
    for i, (n, *names) in enumerate(lengths):
        steering = {"policies": [{"name": name} for name in names], "when": "all"}
        rows.append(completion(f"row {i}", prompt=[(7 * k + i) % 250 for k in range(n)], steering=steering))
    job = Job(rows, "--telemetry-dense", "--policy", "shut=shut.st", "--policy", "open=open.st", "--max-batch", "32")
    for name, bias in (("shut", -5), ("open", 5)):
        make_policy(f"{name}.st", f"gate.b={bias}")
    works(*job.command())
    job.arguments[-1] = "3"
    job.unbroken()
    job.same("another batch size")
    saved = job.save()
    for n_done in (1, 3):
        journal = b"".join(line for line in saved["out.journal"].splitlines(True) if b"synced" not in line)
        job.load(saved, out_journal=b"".join(journal.splitlines(True)[:1 + n_done]),
                 out=b"".join(saved["out"].splitlines(True)[:n_done]))
        job.finish(f"a run that goes on with row {n_done}")
    for token in read_rows("tokens"):
        acts = any(c for coef in token["coef"] for c in coef)
        check(acts == any(s for s in token["s"]) and all((norm != 0) == acts for norm in token["norm_before"]),
              f"telemetry of a gate: {token}")
    check({s for row in read_rows("tokens") for s in row["s"]} == {0, 1}, "no gate opened, or none stayed shut")


def test_torn():
    """Files as a power cut leaves them, and as somebody changes them."""
    job = Job(mixed_rows(30), "-n", "8")
    works(*job.command())
    job.unbroken()
    job.same("a first run")
    whole = job.save()
    out, log, tokens = whole["out"], whole["out.journal"], whole["tokens"]
    log = b"".join(line for line in log.splitlines(True) if b"synced" not in line)  # nothing is known to be on disk
    records = log.splitlines(True)
    end = json.loads(records[12])["end"]
    for what, changed in {
            "a torn record": {"out_journal": log[:-30]},
            "a record without its newline": {"out_journal": log[:-1]},
            "an empty journal's head": {"out_journal": records[0], "out": b"", "tokens": b""},
            "a torn row": {"out": out[:end + 40]},
            "a row that is missing": {"out": out[:end]},
            "rows of zeros": {"out": out[:end] + bytes(len(out) - end)},
            "records of zeros": {"out_journal": b"".join(records[:13]) + bytes(300)},
            "a zero in a row": {"out": out[:end + 9] + b"\0" + out[end + 10:]},
            "records of other rows": {"out_journal": b"".join(records[:5] + records[9:])},
            "a row twice": {"out": out + out.splitlines(True)[-1]},
            "half a row without its record": {"out_journal": b"".join(records[:9]), "out": out[:end + 11]},
            "torn telemetry": {"tokens": tokens[:-100]},
            "telemetry of zeros": {"tokens": tokens[:200] + bytes(len(tokens) - 200)},
            "no output yet": {"out_journal": b"".join(records[:9]), "out": b""},
    }.items():
        job.load(whole, **({"out_journal": log} | changed))
        job.finish(what)
    # A row that was on disk and is another now was changed by somebody.
    for what, changed in {"a changed byte": {"out": out.replace(b"chat", b"Chat", 1)},
                          "a cut output": {"out": out[:end]},
                          "cut telemetry": {"tokens": tokens[:-1]}}.items():
        job.load(whole, **changed)
        before = job.save()
        changed = "tokens" if "telemetry" in what else "out"
        refused(1, f" of {changed} is no longer what was written", *job.command())
        check(job.save() == before, f"{what}: the files were touched")
    job.load(whole)
    os.unlink("out.journal")
    refused(1, "no journal", *job.command())
    check(read("out") == out and not os.path.exists("out.journal"), "an output without a journal was touched")


def test_sweep_torn():
    """A run that ended between two cases of one line, which is where its rows are not whole lines of the input."""
    job = Job([chat(f"row {i}", max_tokens=3 + i) for i in range(4)], "-n", "8", "--sweep", "p,q@0,1,-0.5")
    works(*job.command())
    job.unbroken()
    whole = job.save()
    records = [line for line in whole["out.journal"].splitlines(True) if b"synced" not in line]
    for n in (1, 4, 5, 6, 9, 14, 19):
        end = json.loads(records[n])
        job.load(whole, out=whole["out"][:end["end"]], tokens=whole["tokens"][:end["telemetry_end"]],
                 out_journal=b"".join(records[:n + 1]))
        job.finish(f"a sweep of 5 cases, {n} rows in")


def test_journal():
    """Every line shows whether it is what was written, and what decides the bytes of later rows is believed only so."""
    job = Job(mixed_rows(16), "-n", "8")
    works(*job.command())
    job.unbroken()
    whole = job.save()
    log, out = whole["out.journal"], whole["out"]
    lines = log.splitlines(True)
    # The format, from its description.
    head, check_of_head = unseal(lines[0])
    check(seal(head) == lines[0], "the first line's checksum")
    last = check_of_head
    for line in lines[1:]:
        record, own = unseal(line)
        check(seal(record, check_of_head if b"synced" in line else last) == line, f"the checksum of {line}")
        last = last if b"synced" in line else own
    # One byte of it is another one.
    created = lines[0].index(b'"created":') + 19
    rng = random.Random(5)
    synced = len(log) - len(lines[-1]) + len('{"synced":')
    places = [created, 18, len(lines[0]) - 5, len(lines[0]) - 1, synced, synced + 1, len(log) - 1]
    for at in places + rng.sample(range(len(log)), 60):
        job.load(whole, out_journal=log[:at] + bytes([log[at] ^ 1]) + log[at + 1:])
        before = job.save()
        done = run(*job.command())
        if done.returncode not in (0, 4):
            check(done.returncode == 1 and "trimtab: out.journal: " in done.stderr and job.save() == before and
                  "--restart" not in done.stderr, f"byte {at} of the journal: {done.stderr}")
        else:
            check(read("out") == out and read("tokens") == whole["tokens"], f"byte {at} of the journal was believed")
    # How far the disk had got, by one row more: not believed, and written anew.
    n = len(out.splitlines())
    job.load(whole, out_journal=log.replace(b'{"synced":%d,' % n, b'{"synced":%d,' % (n + 1)))
    check(read("out.journal") != log, "no record of what was synced")
    job.finish("a changed record of what was synced")
    check(read("out.journal") == log, "the record of what was synced")
    # A row's record before another's: on a slow disk there are records of what was synced between them.
    at = next(i for i in range(3, len(lines)) if b"synced" not in lines[i] + lines[i + 1])
    job.load(whole, out_journal=log.replace(lines[at], b"", 1))
    refused(1, f"out.journal: line {at + 1} is damaged; nothing was changed. The rows of out may be whole: move both "
               "away", *job.command())
    job.load(whole, out_journal=log[:created] + bytes([log[created] ^ 1]) + log[created + 1:])
    refused(1, "out.journal: its first line is damaged; nothing was changed. The rows of out may be whole",
            *job.command())
    refused(1, "out.journal: its first line is damaged", *job.command(), "--restart")
    check(read("out") == out, "--restart of a damaged journal")
    job.load(whole, out_journal=log[:90])
    refused(1, "out.journal: its first line is damaged", *job.command())
    job.load(whole, out_journal=b"my own notes\n")
    refused(1, "not the journal of a batch", *job.command())
    job.load(whole, out_journal=b"my own notes")
    refused(1, "not the journal of a batch", *job.command(), "--restart")
    check(read("out.journal") == b"my own notes", "a stranger's journal was touched")
    job.load(whole, out_journal=b'{"trimtab.batch":1,"created":1700000000,"job":{}}\n')
    refused(1, "an older trimtab", *job.command())
    check(read("out") == out, "an older journal's output was touched")
    # A refusal makes nothing.
    job.load(whole)
    os.unlink("out")
    os.unlink("tokens")
    refused(1, "--seed (0 there, 1 here)", *job.command(), "--seed", "1")
    refused(1, "row 1 of out is no longer", *job.command())
    check(sorted(os.listdir(".")) == sorted(["in.jsonl", "p.st", "q.st", "out.journal", "whole.out",
                                             "whole.out.journal", "whole.tokens"]),
          f"a refusal made a file: {os.listdir('.')}")


def test_restart():
    """--restart throws away what an earlier run wrote, and nothing else."""
    job = Job(mixed_rows(12), "-n", "8")
    base = job.command()
    precious = b"precious\n"
    def put(path, data):
        with open(path, "wb") as file:
            file.write(data)
    def untouched(pattern, *paths):
        before = {path: read(path) for path in os.listdir(".")}
        refused(1, pattern, *base, "--restart")
        check({path: read(path) for path in os.listdir(".")} == before, f"--restart, '{pattern}': a file was touched")
        for path in paths:
            os.unlink(path)
    put("out", precious)
    untouched("out is there and has no journal")
    put("out.journal", b"")
    untouched("out is there and has no journal", "out", "out.journal")
    put("tokens", precious)
    untouched("tokens is there and has no journal", "tokens")
    for path in ("out", "tokens", "out.journal"):
        put(path, b"")
    works(*base, "--restart")  # empty files are nothing to lose
    job.unbroken()
    job.same("a restart over empty files")
    change_head("out.journal", created=1700000000)
    for path in ("out", "tokens"):
        put(path, b"")
    works(*base)
    before = job.save()
    check(b'"created":1700000000' in before["out"], "the journal's time of creation")
    works(*base, "--restart")
    check(b'"created":1700000000' not in read("out"), "--restart went on with the old rows")
    job.unbroken()
    job.same("a restart")
    works(*base, "-n", "9", "--restart")  # of another job
    check(len(read_rows("out")) == len(read("out").splitlines()) > 0, "a restart of another job")
    whole = job.save()
    for path in ("out", "tokens"):
        job.load(whole, **{path: precious + whole[path]})
        untouched(f"{path if path == 'tokens' else 'out'} is there and is not what out.journal speaks of")
    job.load(whole, out=b"", tokens=b"")
    works(*base, "--restart")
    # Telemetry of another name is not this job's, whatever is in it.
    synced = job.save()
    records = synced["out.journal"].splitlines(True)
    unsynced = b"".join(line for line in records if b"synced" not in line)
    for log in (synced["out.journal"], unsynced, records[0]):
        job.load(synced, out_journal=log)
        put("other", precious)
        before = job.save()
        for more in ([], ["--restart"]):
            refused(1, "other", *[arg if arg != "tokens" else "other" for arg in base], *more)
            check(read("other") == precious and job.save() == before, "telemetry of another name was touched")


def test_other_job():
    shutil.copytree(tiny, "tiny-llama")
    here = os.path.abspath("tiny-llama")
    job = Job(mixed_rows(12), "-n", "8", telemetry=False)
    works(*job.command(), model=here)
    before = job.save()
    base = job.command()
    def other(pattern, *more, model=here):
        refused(1, f"{pattern}; nothing was changed. Give it as it was there to go on, or name another output",
                *base, *more, model=model)
    other("which differs in --max-tokens (8 there, 9 here)", "-n", "9")
    other("--temperature (0.0 there, 0.7 here), --seed (0 there, 1 here)", "--seed", "1", "--temp", "0.7")
    other('--system (none there, "x" here)', "--system", "x")
    other("--raw (not given there, given here)", "--raw")
    other('--sweep (none there, "p@1" here)', "--sweep", "p@1")
    other("--telemetry (not given there, given here)", "--telemetry", "t")
    sha = {name: hashlib.sha256(read(f"{name}.st")).hexdigest()[:12] for name in "pq"}
    other(f"in --policy r (none there, {sha['q']}... here)", "--policy", "r=q.st")
    refused(1, f"in --policy q ({sha['q']}... there, none here); nothing", *base[:6], "-n", "8", model=here)
    works(*base, "--tp", "2", model=here)  # the same bits
    check(job.save() == before, "ranks: something was touched")
    other('which differs in --kv ("f32" there, "f16" here)', "--kv", "f16")
    other('which differs in --kv ("f32" there, "fp8" here)', "--kv", "fp8")
    other('which differs in --compute ("f32" there, "q8" here)', "--compute", "q8")
    other("which differs in --ctx-size (512 there, 100 here)", "-c", "100")
    refused(1, 'the model\'s name ("tiny-llama" there, "tiny-llama.q8_0.gguf" here), the model\'s weights (', *base,
            model=os.path.join(tiny, "tiny-llama.q8_0.gguf"))
    os.rename("tiny-llama", "renamed")
    other('which differs in the model\'s name ("tiny-llama" there, "renamed" here)', model=os.path.abspath("renamed"))
    os.rename("renamed", "tiny-llama")
    make_policy("q.st", "trimtab.alpha=0.8")
    other(f"in --policy q ({sha['q']}... there, {hashlib.sha256(read('q.st')).hexdigest()[:12]}... here)")
    make_policy("q.st", "trimtab.alpha=0.7")
    with open("in.jsonl", "a", encoding="utf-8") as file:
        file.write("\n")
    data = read("in.jsonl")
    sha["now"], sha["then"] = (hashlib.sha256(text).hexdigest()[:12] for text in (data, data[:-1]))
    other(f"in the input's SHA-256 ({sha['then']}... there, {sha['now']}... here)")
    check(job.save() == before and not os.path.exists("t"), "a refusal touched the files")
    works(*base, "--restart", model=here)
    # A message that has nothing to do with an earlier run does not name one.
    make_policy("wide.st", "trimtab.fingerprint=another")
    done = run("-i", "in.jsonl", "-o", "fresh", "--policy", "w=wide.st")
    named = "trimtab: wide.st: policy test was fitted on another model" in done.stderr
    check(done.returncode == 1 and named and "restart" not in done.stderr, f"a policy that does not fit: {done.stderr}")


def test_disk_full():
    """A limit on the size of a file fails writes in the same way as a full disk, and needs no rights."""
    for limit, telemetry in ((0, False), (1000, True), (5000, False), (9001, True), (20000, False), (90000, True)):
        job = Job(mixed_rows(40), "-n", "12", telemetry=telemetry)
        for path in ("out", "out.journal", "tokens", "whole.tokens"):
            if os.path.exists(path):
                os.unlink(path)
        refused(1, "cannot write: File too large", *job.command(),
                before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY)))
        if limit < 1000:
            continue  # the job itself found no room
        for path in job.files:
            check(read(path).endswith(b"\n") or not read(path), f"{path} ends in half a line at a limit of {limit}")
        works(*job.command())
        job.unbroken()
        job.same(f"a disk of {limit} bytes")


def test_interrupt():
    job = Job(mixed_rows(200), "-n", "40")
    process = subprocess.Popen([trimtab, "batch", job.model, *job.command()], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not os.path.exists("out") or not read("out"):
        time.sleep(0.01)
    # A second run of the same job waits for nobody. The first one stands still meanwhile, or it might be done by then.
    process.send_signal(signal.SIGSTOP)
    refused(1, "another run", *job.command())
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGCONT)
    _, message = process.communicate()
    check(process.returncode == 130 and "the same command continues" in message, f"interrupt: {message}")
    job.unbroken()
    job.finish("interrupted")


def test_terminate():
    """SIGTERM is as an interrupt, with its own status."""
    job = Job(mixed_rows(200), "-n", "40")
    process = subprocess.Popen([trimtab, "batch", job.model, *job.command()], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not os.path.exists("out") or not read("out"):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, message = process.communicate()
    check(process.returncode == 143 and "the same command continues" in message, f"terminate: {message}")
    job.unbroken()
    job.finish("terminated")


def test_streams():
    """- is standard input and standard output: the same texts, and nothing is left behind."""
    write_lines("in.jsonl", [{"id": "a", "prompt": "the mill"}, "no JSON", {"id": "b", "prompt": "on a hill"}])
    options = ("--raw", "-n", "3")
    works("-i", "in.jsonl", "-o", "out.jsonl", *options)
    want = [row["response"] and row["response"]["body"].get("choices") for row in read_rows("out.jsonl")]
    os.mkdir("temporary")
    for source, target in (("-", "-"), ("in.jsonl", "-"), ("-", "piped.jsonl")):
        with open("in.jsonl", "rb") as file:
            done = subprocess.run([trimtab, "batch", program.tiny, "-i", source, "-o", target, *options], stdin=file,
                                  capture_output=True, text=True, check=False,
                                  env=os.environ | {"TMPDIR": os.path.abspath("temporary")})
        check(done.returncode == 4, f"{source} {target}: {done.returncode} {done.stderr}")
        lines = done.stdout.splitlines() if target == "-" else read(target).decode().splitlines()
        rows = [json.loads(line) for line in lines]
        got = [row["response"] and row["response"]["body"].get("choices") for row in rows]
        check(got == want, f"{source} {target}: {lines}")
        check(("3 rows, 1 of them errors" in done.stderr) == (target == "-"), done.stderr)
        check(os.listdir("temporary") == [], f"left: {os.listdir('temporary')}")


def test_memory():
    """The file is 24 times as long, the memory is the same. Bad rows, so that it does not take for ever."""
    def peak(n):
        write_lines("in.jsonl", (chat(f"row {i}", "x" * 2000, surprise=1) for i in range(n)))
        before = "import resource, subprocess, sys; " \
                 "subprocess.run(sys.argv[1:], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL); " \
                 "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        done = subprocess.run([sys.executable, "-c", before, trimtab, "batch", tiny, "-i", "in.jsonl", "-o", "out",
                               "--restart"], capture_output=True, text=True, check=True, env=os.environ | sanitizer)
        return int(done.stdout)
    # The address sanitizer keeps what was freed, up to this much.
    sanitizer = {"ASAN_OPTIONS": ":".join(filter(None, [os.environ.get("ASAN_OPTIONS"), "quarantine_size_mb=1"]))}
    small, large = peak(500), peak(12000)
    check(large - small < 4096, f"{small} KiB for 500 rows, {large} KiB for 12000")


def main():
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        print(f"seed {options.seed}")
        if options.kills:
            model = os.path.abspath(options.model) if options.model else tiny
            job = Job(mixed_rows(options.lines), "-n", "12", "--max-batch", "8", model=model)
            kill(job, options.kills, random.Random(options.seed))
        else:
            program.run_tests(globals(), options.tests)
        os.chdir("/")
    program.end()


main()
