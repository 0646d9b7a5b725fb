#!/usr/bin/env python3
"""Makes the goldens of penalties, with PyTorch and transformers on tiny-llama: greedy ids whose logits went through
transformers' RepetitionPenaltyLogitsProcessor, over prompt and answer, and then OpenAI's formula, over the answer.
Needs requirements.txt and make_goldens.py's tiny-llama. The same versions write the same bytes.

  make_penalty_goldens.py --out tests/golden
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from make_goldens import check_versions, forward
from transformers import AutoModelForCausalLM, RepetitionPenaltyLogitsProcessor

N_TOKENS = 24
MARGIN = 1e-3  # of the likeliest before the next, far above what another order of summation does
PENALTIES = [  # repetition, presence, frequency
    (1.0, 0.0, 0.0),
    (1.25, 0.0, 0.0),
    (0.75, 0.0, 0.0),
    (1.0, 1.5, 0.0),
    (1.0, 0.0, 0.5),
    (1.0, -1.0, -0.25),
    (1.125, 0.5, 0.375),
]


def openai(logits, answer, presence, frequency):
    """mu[j] -> mu[j] - c[j] * alpha_frequency - float(c[j] > 0) * alpha_presence, as OpenAI's reference has it."""
    c = np.bincount(answer, minlength=len(logits)).astype(np.float64)
    return logits - c * frequency - (c > 0) * presence


def answer(model, prompt, repetition, presence, frequency):
    """None if two ids are nearly as likely."""
    ids, said = list(prompt), []
    processor = RepetitionPenaltyLogitsProcessor(penalty=repetition)
    for _ in range(N_TOKENS):
        logits = forward(model, torch.tensor(ids))[0][-1:]
        scores = processor(torch.tensor([ids]), logits)[0].double().numpy()
        scores = openai(scores, np.array(said, dtype=np.int64), presence, frequency)
        order = np.argsort(-scores)
        if scores[order[0]] - scores[order[1]] < MARGIN:
            return None
        said.append(int(order[0]))
        ids.append(said[-1])
    return said


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="tests/golden")
    args = parser.parse_args()
    check_versions()
    torch.set_grad_enabled(False)
    model = AutoModelForCausalLM.from_pretrained(args.out / "tiny-llama", dtype=torch.float32)
    model.eval()
    rng, cases = np.random.default_rng(23), []
    while len(cases) < 2 * len(PENALTIES):
        # Some ids twice: a prompt's counts must not matter, only that it has them.
        prompt = [int(i) for i in rng.integers(3, 280, 9)] * 2
        said = [answer(model, prompt, *penalties) for penalties in PENALTIES]
        if any(ids is None for ids in said) or any(ids == said[0] for ids in said[1:]):
            continue
        for (repetition, presence, frequency), ids in zip(PENALTIES, said):
            cases.append({"prompt": prompt, "repetition_penalty": repetition, "presence_penalty": presence,
                          "frequency_penalty": frequency, "ids": ids})
    folder = args.out / "penalties"
    folder.mkdir(exist_ok=True)
    (folder / "cases.json").write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")


if __name__ == "__main__":
    main()
