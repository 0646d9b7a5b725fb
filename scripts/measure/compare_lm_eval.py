#!/usr/bin/env python3
"""Compares trimtab score with EleutherAI's lm-evaluation-harness, which runs PyTorch in float32 on the same weights,
dequantised from the same GGUF file (SmolLM2's). Prints both's figures side by side and how far every log-likelihood
is; the exit code is 1 where one differs by more than 1e-4 a token of the choice, or an answer does by a larger gap.

  compare_lm_eval.py TRIMTAB MODEL NAME=FILE[:letters][:N] ...      such as arc=arc.jsonl:60 mmlu=mmlu.jsonl:letters

MODEL is that file, or a Hugging Face directory of any model.

FILE has question, choices and answer (docs/formats.md, Choices), of which the first N rows are taken. The tasks are
lm-eval's own for ARC and, with letters, MMLU, but that they read this file and have no description. Needs
scripts/goldens/requirements.txt and lm-eval-requirements.txt.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from choice_tasks import evaluate, parse_set, write_task

sys.path.append(str(Path(__file__).parent.parent / "goldens"))
from goldens_smollm2 import load_model, load_tokenizer

BOUND = 1e-4  # nats a token of the choice


def run_lm_eval(model_path, folder, names):
    from lm_eval.models.huggingface import HFLM

    if model_path.is_dir():
        harness = HFLM(pretrained=str(model_path), batch_size=1, device="cpu", dtype="float32")
    else:
        tokenizer = load_tokenizer(model_path)
        tokenizer.eos_token = "<|im_end|>"  # of which lm-eval wants to know; no text here is empty
        harness = HFLM(pretrained=load_model(model_path), tokenizer=tokenizer, batch_size=1, device="cpu",
                       dtype="float32")
    return evaluate(harness, folder, names)


def run_trimtab(program, model, data, letters, folder):
    rows = folder / "rows.jsonl"
    done = subprocess.run([program, "score", model, "--choices", data, "--rows", rows, "--json",
                           *(["--letters"] if letters else [])], check=True, stdout=subprocess.PIPE)
    lines = rows.read_text().splitlines()
    return json.loads(done.stdout), [json.loads(line)["unsteered"] | json.loads(line) for line in lines]


def compare(name, theirs, samples, report, rows):
    """Prints a table; returns whether all is within the bound."""
    worst, others, greedy = 0, [], 0
    for sample, row in zip(sorted(samples, key=lambda sample: sample["doc_id"]), rows, strict=True):
        figures = [float(response[0][0]) for response in sample["resps"]]
        gaps = [abs(a - b) / n for a, b, n in zip(figures, row["logprobs"], row["choice_tokens"], strict=True)]
        worst = max(worst, *gaps)
        greedy += sum(bool(response[0][1]) != mine for response, mine in zip(sample["resps"], row["greedy"]))
        chosen = max(range(len(figures)), key=lambda k: figures[k])
        if chosen != row["chosen"]:
            others.append((figures[chosen] - figures[row["chosen"]]) / row["choice_tokens"][chosen])
    ours = report["choices"]
    run, shared = (report["tokens"][key]["unsteered"] for key in ("computed", "shared"))
    print(f"{name}: {len(rows)} questions, {ours['n_choices']} choices; tokens run {run}, shared {shared}")
    print(f"{'':12}{'lm-eval':>12}{'trimtab':>12}")
    for key in ("acc", "acc_norm"):
        print(f"{key:12}{theirs[f'{key},none']:12.4f}{ours[key]['unsteered']:12.4f}")
    print(f"largest difference {worst:.2g} nats a token; other answers: {len(others)}"
          f"{' by at most %.2g' % max(others) if others else ''}; other greedy marks: {greedy}")
    return worst <= BOUND and all(gap <= BOUND for gap in others)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trimtab")
    parser.add_argument("model", type=Path)
    parser.add_argument("sets", nargs="+", type=parse_set)
    parser.add_argument("--threads", type=int, default=1, help="PyTorch's; more than idle cores make it slow")
    args = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)
    torch.set_num_threads(args.threads)
    good = True
    with tempfile.TemporaryDirectory() as temporary, torch.no_grad():
        folder = Path(temporary)
        data = {name: write_task(folder, name, *rest) for name, *rest in args.sets}
        begun = time.process_time()
        results = run_lm_eval(args.model, folder, data)
        print(f"lm-eval: {time.process_time() - begun:.0f} CPU seconds")
        for name, _, letters, _ in args.sets:
            report, rows = run_trimtab(args.trimtab, args.model, data[name], letters, folder)
            task = f"trimtab_{name}"
            good = compare(name, results["results"][task], results["samples"][task], report, rows) and good
    sys.exit(not good)


if __name__ == "__main__":
    main()
