#!/usr/bin/env python3
"""score's report, beside its own rows; and what batch says of prompts: scoring.py TRIMTAB GOLDEN [TEST]..."""

import json
import os
import shutil
import tempfile

import program
from batch_rows import chat, completion
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
    check(report["n_tokens"] == without["n_tokens"], f"{report['n_tokens']}, not {without['n_tokens']}")
    program.write_lines("given.jsonl", [{"context": "", "choices": ["a", "b"], "answer": 0}])
    works("--choices", "given.jsonl", command="score", model="with-bos")
    refused(1, "the context is empty", "--choices", "given.jsonl", "--no-bos", command="score", model="with-bos")


def answers(rows, *arguments, out="out.jsonl"):
    """The bodies of a batch's answers by custom_id; None for an error row."""
    program.write_lines("in.jsonl", rows)
    works("-i", "in.jsonl", "-o", out, "--restart", *arguments)
    bodies = {row["custom_id"]: row["response"] and row["response"]["body"] for row in read_rows(out)}
    for body in filter(None, bodies.values()):
        del body["created"]  # the second in which the job began
    return bodies


def ids_of(text):
    return json.loads(works("-p", text, command="tokenize").stdout)


def test_echo():
    """What was generated has the same numbers when it is given: generated, echoed, and in vLLM's form."""
    text = "The na\u00efve hen \u2603 walks"
    ids = ids_of(text)
    first = answers([completion("a", ids, logprobs=3, max_tokens=9, ignore_eos=True),
                     chat("c", logprobs=True, top_logprobs=2, prompt_logprobs=2)])
    wrote = first["a"]["choices"][0]["logprobs"]
    program.write_lines("ask.jsonl", [completion("a", ids, max_tokens=9, ignore_eos=True)])
    works("-i", "ask.jsonl", "-o", "o.jsonl", "--telemetry", "t.jsonl")
    tokens = [row["token"] for row in read_rows("t.jsonl")]  # all but the last
    check(tokens[:len(ids)] == ids, "telemetry's tokens")
    again = answers([
        completion("echo", tokens, echo=True, logprobs=3, max_tokens=0),
        completion("text", text, echo=True, logprobs=0, max_tokens=0),
        completion("one more", tokens, echo=True, logprobs=3, max_tokens=1),
        completion("vllm", tokens, prompt_logprobs=3, max_tokens=0),
        completion("from", tokens, prompt_logprobs=3, max_tokens=0, prompt_logprobs_from=len(ids)),
        completion("silent", text, echo=True, max_tokens=2),
    ])
    echo = again["echo"]["choices"][0]
    lists, n = echo["logprobs"], len(ids)
    check(echo["finish_reason"] == "length" and again["echo"]["usage"]["completion_tokens"] == 0, f"{echo}")
    check(all(len(lists[key]) == len(tokens) for key in lists), "an entry for each token of the prompt")
    check(lists["token_logprobs"][0] is None and lists["top_logprobs"][0] is None, "the first has no number")
    for key in ("tokens", "token_logprobs", "top_logprobs"):
        check(lists[key][n:] == wrote[key][:-1], f"{key}: {lists[key][n:]}, not {wrote[key][:-1]}")
        check(again["one more"]["choices"][0]["logprobs"][key][n:] == wrote[key], f"{key} with a token more")
    check(all(top[token] == number for token, number, top in
              zip(*(lists[key][1:] for key in ("tokens", "token_logprobs", "top_logprobs")))), "two numbers")
    told = again["text"]["choices"][0]
    check(told["text"] == text and told["logprobs"]["text_offset"][0] == 0, f"{told}")
    check(told["logprobs"]["token_logprobs"] == lists["token_logprobs"][:n], "a text and its ids")
    pieces = told["logprobs"]["tokens"]
    for piece, offset in zip(pieces, told["logprobs"]["text_offset"]):
        check(piece.startswith("bytes:") or text[offset:].startswith(piece), f"{piece} at {offset}")
    check(again["silent"]["choices"][0]["text"].startswith(text) and again["silent"]["choices"][0]["logprobs"] is None,
          f"{again['silent']}")
    vllm, later = (again[name]["choices"][0]["prompt_logprobs"] for name in ("vllm", "from"))
    check(vllm[0] is None and len(vllm) == len(tokens) and later == [None] * n + vllm[n:], "prompt_logprobs_from")
    for i in range(1, len(tokens)):
        own = vllm[i][str(tokens[i])]
        check(own["logprob"] == lists["token_logprobs"][i] and own["decoded_token"] == lists["tokens"][i], f"{own}")
        ranks = sorted(entry["rank"] for entry in vllm[i].values() if entry["rank"])
        check(ranks == [1, 2, 3] and len(vllm[i]) == 3 + (own["rank"] is None), f"{vllm[i]}")
    prompt = first["c"]["prompt_logprobs"]
    check(len(prompt) == first["c"]["usage"]["prompt_tokens"] and prompt[0] is None and len(prompt[1]) >= 2, "chat")


def test_ids_alone():
    """A model's folder without a tokenizer has no text to echo, and the same numbers."""
    shutil.copytree(tiny, "ids-alone", ignore=shutil.ignore_patterns("*.gguf", "tokenizer*", "golden*", "steered*"))
    program.write_lines("in.jsonl", [completion("a", [5, 90, 17], echo=True, logprobs=1, max_tokens=0)])
    for model in (tiny, "ids-alone"):
        works("-i", "in.jsonl", "-o", f"{os.path.basename(model)}.jsonl", model=model)
    whole, alone = (read_rows(f"{name}.jsonl")[0]["response"]["body"]["choices"][0]
                    for name in (os.path.basename(tiny), "ids-alone"))
    check(alone["text"] == "" and alone["logprobs"]["token_logprobs"] == whole["logprobs"]["token_logprobs"],
          f"{alone}, with a tokenizer {whole}")


def test_lists():
    """A list of prompts has the choices of its prompts alone, in their order, and the same in any batch."""
    make_policy("push.st")
    steering = {"policies": [{"name": "p", "scale": 2}]}
    prompts, more = ["Hello", "The hen", "a"], {"logprobs": 1, "n": 2, "temperature": 0.9, "seed": 5, "max_tokens": 4}
    ids = [ids_of(prompt) for prompt in prompts]
    rows = [completion("all", prompts, echo=True, steering=steering, **more),
            completion("ids", ids, echo=True, steering=steering, **more), completion("none", [])]
    rows += [completion(f"{i}", prompt, echo=True, steering=steering, **more) for i, prompt in enumerate(prompts)]
    rows += [completion("long", ["a", [5] * 600]), completion("foreign", [[5], [288]]),
             completion("from", ids, prompt_logprobs=1, max_tokens=0, prompt_logprobs_from=[1, 2, 1])]
    policy = ("--policy", "p=push.st")
    first = answers(rows, *policy)
    check(first == answers(rows, *policy, "--max-batch", "1", "--threads", "1", out="one.jsonl"), "the batch's size")
    errors = {row["custom_id"]: row["error"] for row in read_rows("out.jsonl") if row["error"]}
    check(set(errors) == {"none", "long", "foreign"}, f"{errors}")
    check(errors["long"]["code"] == "context_length_exceeded" and "prompt[1]" in errors["long"]["message"], f"{errors}")
    choices = first["all"]["choices"]
    check([choice["index"] for choice in choices] == list(range(6)), "indices")
    for i in range(3):
        for k, alone in enumerate(first[f"{i}"]["choices"]):
            of_list = choices[2 * i + k]
            check(of_list.pop("steering") == first[f"{i}"]["steering"], "steering")
            check(of_list | {"index": k} == alone, f"choice {k} of prompt {i}: {of_list}, not {alone}")
    check(first["all"]["usage"]["prompt_tokens"] == sum(map(len, ids)), f"{first['all']['usage']}")
    numbers = [[choice["logprobs"]["token_logprobs"] for choice in first[name]["choices"]] for name in ("all", "ids")]
    check(numbers[0] == numbers[1], "texts and their ids")
    for choice, start in zip(first["from"]["choices"], (1, 2, 1)):
        nulls = [entry is None for entry in choice["prompt_logprobs"]]
        check(nulls == [k < start for k in range(len(nulls))], f"from {start}: {nulls}")


def test_one_number():
    """score's sum is that of batch's numbers, steered and not, where the context ends at the same place."""
    make_policy("push.st")
    score("--choices", CHOICES, "--policy", "push.st:2", "--rows", "rows.jsonl")
    row = next(row for row in read_rows("rows.jsonl") if row["id"] == "bare")
    texts = next(given for given in read_rows(CHOICES) if given["id"] == "bare")
    whole = [ids_of(texts["context"] + choice) for choice in texts["choices"]]
    asked = {"prompt_logprobs": 0, "max_tokens": 0, "prompt_logprobs_from": row["context_tokens"]}
    got = answers([completion("unsteered", whole, **asked),
                   completion("steered", whole, steering={"policies": [{"name": "p", "scale": 2}]}, **asked)],
                  "--policy", "p=push.st")
    for side in SIDES:
        for k, choice in enumerate(got[side]["choices"]):
            told = zip(choice["prompt_logprobs"], whole[k])
            numbers = [entry[str(token)]["logprob"] for entry, token in told if entry]
            check(len(numbers) == row["choice_tokens"][k], f"{side} {k}: {len(numbers)} numbers")
            check(abs(sum(numbers) - row[side]["logprobs"][k]) < 1e-6, f"{side} {k}: {sum(numbers)}")


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
