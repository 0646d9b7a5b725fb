#!/usr/bin/env python3
"""Makes the goldens of trimtab score, with PyTorch and transformers on tiny-llama: log-likelihoods of choices, encoded
as EleutherAI's lm-evaluation-harness does it (TemplateLM._encode_pair of 0.4.13), unsteered and steered by a hook;
those of a text in windows; and intervals of clustered means from scipy. Needs requirements.txt and make_goldens.py's
tiny-llama. The same versions write the same bytes.

  make_score_goldens.py --out tests/golden
"""

import argparse
import json
from pathlib import Path

import numpy as np
import scipy.stats
import torch
from make_goldens import check_versions, forward
from transformers import AutoModelForCausalLM, AutoTokenizer

# Of two measures each has an answer that the other has not, a context ends in white space, and texts have more bytes
# than characters.
ROWS = [
    {"id": "hens", "question": "Where do the hens walk?", "choices": ["in the field", "on seven hills", "home"]},
    {"id": "caf\u00e9", "question": "Was trinkt man im Caf\u00e9?", "choices": ["Kaffee", "\u00c4rger", "\u2603" * 2]},
    {"id": "rat", "question": "What did the rat bite?", "choices": ["the cat that ran away", "a hat"]},
    {"id": "given", "context": "The hen that walks on the hill sees \t", "choices": ["the rat", "a cat", "her"]},
    {"id": "bare", "context": "One and one is", "choices": [" two", " three", ", as all know, two", "."]},
]
TEXT = "".join(
    f"The hen {verb} {place}, and the rat {other} the hat \u2014 {n} times. "
    for n, (verb, place, other) in enumerate(
        [("walks", "on the hill", "bites"), ("sees", "the cat", "hates"), ("is", "at home", "takes")] * 6
    )
)
WINDOWS = [{"window": 48, "stride": 24}, {"window": 48, "stride": 48}, {"window": 70, "stride": 33}]


def steering(start):
    """What the test's policy does: h + 1.5 D in layers 1 and 2, from a position on."""

    def change(h, layer):
        if layer == 0:
            return h
        direction = torch.tensor([((i * 3 + layer) % 7 - 3) / 4 for i in range(h.shape[-1])])
        h = h.clone()
        h[:, start:] += 1.5 * direction
        return h

    return change


def encode_pair(tokenizer, context, continuation):
    """lm_eval's, for causal models."""
    n_spaces = len(context) - len(context.rstrip())
    if n_spaces > 0:
        continuation = context[-n_spaces:] + continuation
        context = context[:-n_spaces]
    whole, context = (tokenizer.encode(text, add_special_tokens=True) for text in (context + continuation, context))
    return context, whole[len(context) :]


def score(model, before, after, start=None):
    """The log-probability of each id of `after`, in float64 from float32 logits, and whether each is the likeliest."""
    ids = torch.tensor(before + after)
    logits, _ = forward(model, ids, None if start is None else steering(start))
    logs = logits.double().log_softmax(-1)[len(before) - 1 : -1]
    wanted = torch.tensor(after)
    gaps = logs.max(-1).values - logs.gather(1, wanted[:, None])[:, 0]
    assert not ((gaps > 0) & (gaps < 1e-4)).any(), "a near-tie"
    return logs.gather(1, wanted[:, None])[:, 0].tolist(), bool((gaps == 0).all())


def texts_of(row, form):
    if form == "letters":
        shown = [f"\n{letter}. {choice}" for letter, choice in zip("ABCD", row["choices"])]
        letters = list("ABCD")[: len(shown)]
        return row["question"] + "".join(shown) + "\nAnswer:", [f" {letter}" for letter in letters], letters
    if "context" in row:
        return row["context"], row["choices"], row["choices"]
    return f"Question: {row['question']}\nAnswer:", [f" {choice}" for choice in row["choices"]], row["choices"]


def choices(model, tokenizer, form):
    out = []
    for row in ROWS:
        if form == "letters" and "context" in row:
            continue
        context, continuations, choice_texts = texts_of(row, form)
        entry = {"id": row["id"], "context_ids": None, "choice_ids": []}
        sides = {name: {"logprobs": [], "greedy": []} for name in ("unsteered", "all", "generation")}
        for continuation in continuations:
            before, after = encode_pair(tokenizer, context, continuation)
            assert entry["context_ids"] in (None, before)
            entry["context_ids"] = before
            entry["choice_ids"].append(after)
            for name, start in (("unsteered", None), ("all", 0), ("generation", len(before))):
                logs, greedy = score(model, before, after, start)
                sides[name]["logprobs"].append(sum(logs))
                sides[name]["greedy"].append(greedy)
        for side in sides.values():
            lls = np.array(side["logprobs"])
            lengths = np.array([float(len(choice)) for choice in choice_texts])  # characters, as lm_eval has it
            side |= {"chosen": int(np.argmax(lls)), "chosen_norm": int(np.argmax(lls / lengths))}
        out.append(entry | sides)
    return out


def windows(model, tokenizer, window, stride):
    """transformers' "Perplexity of fixed-length models", but that its loss is summed by token: each is scored once, in
    the first window that holds it."""
    ids, end, out = tokenizer.encode(TEXT), 0, []
    for begin in range(0, len(ids), stride):
        to = min(begin + window, len(ids))
        first = max(end, begin + 1)
        if first < to:
            sums = [
                -sum(score(model, ids[begin:first], ids[first:to], start)[0]) for start in (None, 0, first - begin)
            ]
            out.append({"from": begin, "to": to, "n_scored": to - first,
                        "nll": dict(zip(("unsteered", "all", "generation"), sums))})
        end = to
        if end == len(ids):
            break
    return out


def cluster_mean(sums, counts):
    """The ratio estimator's variance between clusters, and Student's t."""
    sums, counts = np.array(sums), np.array(counts)
    n, mean = len(sums), sums.sum() / counts.sum()
    error = np.sqrt(((sums - mean * counts) ** 2).sum() * n / (n - 1)) / counts.sum()
    half = scipy.stats.t.ppf(0.975, n - 1) * error
    return [mean, mean - half, mean + half]


def intervals():
    rng, out = np.random.default_rng(17), []
    for n in (5, 6, 8, 12, 40, 300):
        counts = rng.integers(1, 200, n)
        sums = counts * (3 + rng.normal(size=n) / 2)
        out.append({"sums": sums.tolist(), "counts": counts.tolist(), "interval": cluster_mean(sums, counts)})
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="tests/golden")
    args = parser.parse_args()
    check_versions()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    tokenizer = AutoTokenizer.from_pretrained(args.out / "tiny-llama")
    model = AutoModelForCausalLM.from_pretrained(
        args.out / "tiny-llama", dtype=torch.float32, attn_implementation="eager"
    ).eval()
    folder = args.out / "score"
    folder.mkdir(exist_ok=True)
    with torch.no_grad():
        expected = {
            "text": choices(model, tokenizer, "text"),
            "letters": choices(model, tokenizer, "letters"),
            "perplexity": [spec | {"windows": windows(model, tokenizer, **spec)} for spec in WINDOWS],
            "n_tokens": len(tokenizer.encode(TEXT)),
            "intervals": intervals(),
        }
    # The answers are such that either measure is right somewhere and wrong somewhere.
    answers = [0, 2, 1, 2, 1]
    lines = [json.dumps(row | {"answer": answer}) + "\n" for row, answer in zip(ROWS, answers)]
    (folder / "choices.jsonl").write_text("".join(lines))
    # Steering makes one of these right and none wrong.
    questions = [row for row in ROWS if "question" in row]
    lettered = [row | {"answer": answer} for row, answer in zip(questions, "BCB", strict=True)]
    (folder / "letters.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lettered))
    (folder / "text.txt").write_text(TEXT)
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
