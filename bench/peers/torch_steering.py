#!/usr/bin/env python3
"""llama-bench's tests in PyTorch and Transformers, with and without forward hooks that add a vector to every block's
output, in turn, for steering.py: a prompt, and generation token by token, each from an empty cache. The weights are a
GGUF file's, dequantised; SDPA attends. Loads them, and then, for every line of standard input, runs ROUNDS repetitions
and prints a line of JSON with the seconds of each. Needs scripts/goldens/requirements.txt.

    torch_steering.py MODEL PROMPT GENERATE ROUNDS THREADS [float32|bfloat16]"""

import json
import sys
import time
from pathlib import Path

import torch
from transformers import DynamicCache
from transformers.utils import logging

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts" / "goldens"))
import goldens_models  # noqa: E402  pylint: disable=wrong-import-position
import goldens_smollm2  # noqa: E402  pylint: disable=wrong-import-position


def load(path):
    for file, loader, _ in goldens_models.MODELS.values():
        if path.name == file:
            return loader(path)[0]
    return goldens_smollm2.load_model(path)


def prompt(model, n, generator):
    ids = torch.randint(model.config.vocab_size, (1, n), generator=generator)
    return model(ids, past_key_values=DynamicCache(config=model.config), use_cache=True, logits_to_keep=1).logits


def generate(model, n, generator):
    cache = DynamicCache(config=model.config)
    for _ in range(n):
        token = torch.randint(model.config.vocab_size, (1, 1), generator=generator)
        model(token, past_key_values=cache, use_cache=True)


class Steering:
    """Hooks that add a vector of unit length to what each block hands on."""

    def __init__(self, model):
        signs = torch.randint(2, (len(model.model.layers), model.config.hidden_size)) * 2 - 1
        self.vectors = (signs / model.config.hidden_size ** 0.5).to(model.dtype)
        self.model, self.handles = model, []

    def __enter__(self):
        for layer, vector in zip(self.model.model.layers, self.vectors):
            def add(_module, _inputs, output, vector=vector):
                return (output[0] + vector, *output[1:]) if isinstance(output, tuple) else output + vector
            self.handles.append(layer.register_forward_hook(add))

    def __exit__(self, *_):
        for handle in self.handles:
            handle.remove()
        self.handles = []


class Off:
    def __enter__(self):
        pass

    def __exit__(self, *_):
        pass


def run_pass(model, sides, tests, n_rounds, generator):
    samples = {test: {side: [] for side in sides} for test in tests}
    for i in range(n_rounds + 1):  # the first is not counted
        for test, (run, n) in tests.items():
            for side in list(sides) if i % 2 else reversed(sides):
                with sides[side]:
                    begun = time.perf_counter()
                    run(model, n, generator)
                    seconds = time.perf_counter() - begun
                if i:
                    samples[test][side].append(seconds)
    return samples


def main():
    path, n_prompt, n_gen, n_rounds, n_threads = Path(sys.argv[1]), *map(int, sys.argv[2:6])
    logging.disable_progress_bar()
    torch.set_num_threads(n_threads)
    print_to, sys.stdout = sys.stdout, sys.stderr
    model = load(path)
    model.set_attn_implementation("sdpa")
    model.to(getattr(torch, sys.argv[6] if len(sys.argv) > 6 else "float32"))
    sides = {"off": Off(), "steered": Steering(model)}
    tests = {f"pp{n_prompt}": (prompt, n_prompt), f"tg{n_gen}": (generate, n_gen)}
    generator = torch.Generator()
    with torch.inference_mode():
        seen = []
        for how in sides.values():
            with how:
                seen.append(prompt(model, n_prompt, generator.manual_seed(7)))
        assert not torch.equal(*seen), "the hooks changed nothing"
        for _ in sys.stdin:
            print(json.dumps(run_pass(model, sides, tests, n_rounds, generator)), file=print_to, flush=True)


main()
