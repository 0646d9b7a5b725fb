"""Rows for the tests of `trimtab batch`, and what is read of its outputs and journals."""

import hashlib
import json
import random

from program import check, read


def chat(custom_id, content="Hello", **body):
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions",
            "body": {"model": "any", "messages": [{"role": "user", "content": content}], "max_tokens": 5,
                     "temperature": 0} | body}


def completion(custom_id, prompt="Hello", **body):
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/completions",
            "body": {"prompt": prompt, "max_tokens": 5, "temperature": 0} | body}


def seal(line, before=b""):
    """A line of a journal (bytes without the closing brace and the checksum) with its checksum; docs/formats.md."""
    return line + b',"check":"' + hashlib.sha256(before + line).hexdigest()[:16].encode() + b'"}\n'


def unseal(line):
    """The line without its checksum, and the checksum."""
    return line[:-29], line[-19:-3]


def change_head(path, **changes):
    """Rewrites the first line of a journal, and leaves the others out."""
    head = json.loads(read(path).splitlines()[0])
    del head["check"]
    with open(path, "wb") as file:
        file.write(seal(json.dumps(head | changes, separators=(",", ":")).encode()[:-1]))
    return read(path)


def text_of(row):
    choice = row["response"]["body"]["choices"][0]
    return choice["message"]["content"] if "message" in choice else choice["text"]


def mixed_rows(n, seed=7):
    """Rows of all kinds, bad ones among them, of lengths that make them finish in another order."""
    rows, rng = [], random.Random(seed)
    for i in range(n):
        length = rng.choice([1, 3, 8, 40])
        kind = i % 6
        if kind == 0:
            rows.append({"id": f"plain {i}", "prompt": "word " * rng.randrange(1, 40), "label": "benign"})
        elif kind == 1:
            rows.append(chat(f"row {i}", "naïve ✓ " * rng.randrange(1, 9), max_tokens=length, temperature=1.5))
        elif kind == 2:
            rows.append(completion(f"row {i}", "Hello", max_tokens=length, logprobs=2, n=2, temperature=0.8))
        elif kind == 3:
            rows.append(chat(f"row {i}", max_tokens=length, logprobs=True, top_logprobs=1,
                             steering={"policies": [{"name": "p", "scale": rng.choice([0, 0.5, 1])}]}))
        elif kind == 4:
            rows.append(chat(f"row {i}", max_tokens=length,
                             steering={"policies": [{"name": "q"}, {"name": "p", "scale": -0.25}], "when": "all"}))
        else:
            rows.append(rng.choice(["", "  ", "{", chat(f"row {i}", presence_penalty=3), completion("row 2"), "[]"]))
    return rows


def check_completion_logprobs(choice, custom_id):
    """The lists of /v1/completions: of one length, each token among its likeliest two and itself. True when the tokens'
    places were checked too."""
    lists = choice["logprobs"]
    tokens, own, top, offsets = (lists[k] for k in ("tokens", "token_logprobs", "top_logprobs", "text_offset"))
    check(len(tokens) == len(own) == len(top) == len(offsets) > 0, f"lists of {custom_id}")
    for token, logprob, likeliest in zip(tokens, own, top):
        check(1 <= len(likeliest) <= 3 and token in likeliest and max(likeliest.values()) >= logprob,
              f"{token!r} at {logprob} among {likeliest} of {custom_id}")
    if choice["text"] != "".join(tokens):  # pieces of characters, or special tokens
        return False
    places = [len("".join(tokens[:i])) for i in range(len(tokens))]
    check(offsets == places, f"places {offsets} of {tokens} of {custom_id}")
    return True


def ids_of(rows):
    """The names that the rows of the output must have."""
    ids = []
    for row in rows:
        if isinstance(row, dict):
            ids.append(row.get("custom_id", row.get("id")))
        elif row.strip():
            ids.append(None)
    return ids
