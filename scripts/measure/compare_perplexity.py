#!/usr/bin/env python3
"""The perplexity of the first windows of a text by trimtab in each --compute, by llama.cpp and by PyTorch in float32 on
the dequantised weights, over the same ids.

  compare_perplexity.py TRIMTAB MODEL.gguf TEXT [--llama build-llama.cpp/llama-perplexity-of-ids] [--windows 16]

Windows are of --window tokens, cut apart; what the tokenizer puts in front stands in front of each and counts in its
length. A window's first token is not scored. PyTorch runs the models of `make models`
(scripts/goldens/requirements.txt); where it is not installed, or for another model, its line is left out. llama.cpp's
KV cache is f16, its default; --kv is trimtab's. The exit code is 1 where trimtab's f32 is further than 1e-4 nats a
token from PyTorch's.
"""

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path

BOUND = 1e-4  # nats a token
sys.path.append(str(Path(__file__).parent.parent / "goldens"))


def tokenize(program, model, text, *options):
    done = subprocess.run([program, "tokenize", model, *options], input=text, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def windows_of(args):
    in_front = tokenize(args.trimtab, args.model, b"", "-f", "-")
    ids = tokenize(args.trimtab, args.model, b"", "-f", args.text, "--no-bos")
    step = args.window - len(in_front)
    return step, [in_front + ids[i * step:(i + 1) * step] for i in range(args.windows)]


def by_trimtab(args, compute, stride):
    command = [args.trimtab, "score", args.model, "--perplexity", args.text, "--window", str(args.window), "--stride",
               str(stride), "--limit", str(args.windows), "--compute", compute, "--kv", args.kv, "--json", "-q"]
    report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["perplexity"]
    return report["nll"]["unsteered"], report["n_scored"]


def by_llama(program, args, windows):
    lines = "".join(" ".join(map(str, window)) + "\n" for window in windows)
    command = [program, args.model, str(args.threads)]
    done = subprocess.run(command, input=lines, check=True, stdout=subprocess.PIPE, text=True)
    return sum(map(float, done.stdout.split())) / sum(len(window) - 1 for window in windows)


def torch_model(path):
    """The model as the goldens have it; None where that is not known, or PyTorch is not installed."""
    try:
        import goldens_models
        import goldens_smollm2
    except ImportError as error:
        print(f"without PyTorch: {error}", file=sys.stderr)
        return None
    for name, load, _ in goldens_models.MODELS.values():
        if path.name == name:
            return load(path)[0]
    return goldens_smollm2.load_model(path) if path.name.startswith("SmolLM2") else None


def by_torch(model, windows):
    import torch

    total = 0.0
    with torch.no_grad():
        for window in windows:
            ids = torch.tensor([window])
            logs = model(ids).logits[0, :-1].double().log_softmax(-1)
            total -= logs.gather(1, ids[0, 1:, None]).sum().item()
    return total / sum(len(window) - 1 for window in windows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trimtab")
    parser.add_argument("model", type=Path)
    parser.add_argument("text")
    parser.add_argument("--llama", help="llama-perplexity-of-ids")
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--windows", type=int, default=16)
    parser.add_argument("--kv", default="f32")
    parser.add_argument("--threads", type=int, default=1, help="PyTorch's and llama.cpp's")
    args = parser.parse_args()
    stride, windows = windows_of(args)
    n_scored = sum(len(window) - 1 for window in windows)
    found = {}
    for compute in ("f32", "q8"):
        found[f"trimtab {compute}"], n = by_trimtab(args, compute, stride)
        assert n == n_scored, f"trimtab scored {n} tokens, not {n_scored}"
    if args.llama:
        found["llama.cpp"] = by_llama(args.llama, args, windows)
    model = torch_model(args.model)
    if model is not None:
        import torch

        torch.set_num_threads(args.threads)
        found["PyTorch"] = by_torch(model, windows)
    print(f"{args.model.name}: {len(windows)} windows of {args.window}, {n_scored} tokens scored")
    for name, nll in found.items():
        gap = f"{nll - found['PyTorch']:+.2e} nats a token from PyTorch's" if "PyTorch" in found else ""
        print(f"{name:14}{math.exp(nll):10.4f}  {gap}")
    sys.exit("PyTorch" in found and abs(found["trimtab f32"] - found["PyTorch"]) > BOUND)


if __name__ == "__main__":
    main()
