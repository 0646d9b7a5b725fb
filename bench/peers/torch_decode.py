#!/usr/bin/env python3
"""Decodes with a plain PyTorch module of a dummy model's shapes: Llama-style, random bf16 weights, SDPA, a static
key-value cache. It runs eager with and without forward hooks that add a vector to every block's output, and
CUDA-graphed without them. gpu-check shows the times beside trimtab's. For each group it says "begin GROUP", then its
times, also as a line of JSON.

    torch_decode.py [--model NAME]... [--batch N]... [--seconds N] [--after GROUP] [--tiny]

Without a GPU it runs on the CPU; use --tiny there."""

import argparse
import contextlib
import json
import statistics
import sys
import time

import torch
from torch import nn
from torch.nn import functional

CONTEXT, PROMPT = 512, 2048
# layers, hidden, heads, key-value heads, head dimension, ffn, vocabulary: those of weights/dummy.c
SHAPES = {
    "llama-3.1-8b": (32, 4096, 32, 8, 128, 14336, 128256),
    "llama-3.2-1b": (16, 2048, 32, 8, 64, 8192, 128256),
    "smollm2-135m": (30, 576, 9, 3, 64, 1536, 49152),
    "tiny": (3, 64, 4, 2, 16, 96, 320),
}


def rms_norm(x, weight):
    return functional.rms_norm(x, (x.shape[-1],), weight, 1e-5)


class Block(nn.Module):
    def __init__(self, shape, batch, length, options):
        super().__init__()
        _, d, self.heads, self.kv_heads, self.dim, ffn, _ = shape
        self.qkv = nn.Linear(d, (self.heads + 2 * self.kv_heads) * self.dim, bias=False, **options)
        self.o = nn.Linear(self.heads * self.dim, d, bias=False, **options)
        self.gate_up = nn.Linear(d, 2 * ffn, bias=False, **options)
        self.down = nn.Linear(ffn, d, bias=False, **options)
        self.attn_norm = nn.Parameter(torch.ones(d, **options))
        self.ffn_norm = nn.Parameter(torch.ones(d, **options))
        self.keys = torch.randn(batch, self.kv_heads, length, self.dim, **options)
        self.values = torch.randn(batch, self.kv_heads, length, self.dim, **options)

    def rotate(self, x, cosine, sine):
        a, b = x.chunk(2, -1)
        return torch.cat((a * cosine - b * sine, b * cosine + a * sine), -1)

    def forward(self, h, cosine, sine, position, mask):
        batch, n, _ = h.shape
        q, k, v = self.qkv(rms_norm(h, self.attn_norm)).view(batch, n, -1, self.dim).transpose(1, 2).split(
            (self.heads, self.kv_heads, self.kv_heads), 1)
        self.keys.index_copy_(2, position, self.rotate(k, cosine, sine))
        self.values.index_copy_(2, position, v)
        x = functional.scaled_dot_product_attention(self.rotate(q, cosine, sine), self.keys, self.values,
                                                    attn_mask=mask, is_causal=mask is None, enable_gqa=True)
        h = h + self.o(x.transpose(1, 2).reshape(batch, n, -1))
        gate, up = self.gate_up(rms_norm(h, self.ffn_norm)).chunk(2, -1)
        return h + self.down(functional.silu(gate) * up)


class Model(nn.Module):
    """All rows are at the same position, which is kept on the device so that a graph can be captured."""

    def __init__(self, shape, batch, length, device):
        super().__init__()
        options = {"device": device, "dtype": torch.bfloat16}
        self.embedding = nn.Embedding(shape[6], shape[1], **options)
        self.blocks = nn.ModuleList(Block(shape, batch, length, options) for _ in range(shape[0]))
        self.norm = nn.Parameter(torch.ones(shape[1], **options))
        self.output = nn.Linear(shape[1], shape[6], bias=False, **options)
        self.frequencies = 10000.0 ** (-torch.arange(0, shape[4], 2, device=device) / shape[4])
        self.columns = torch.arange(length, device=device)

    def forward(self, ids, position, decode):
        angles = position[:, None] * self.frequencies
        cosine, sine = angles.cos().bfloat16(), angles.sin().bfloat16()
        mask = (self.columns <= position)[None, None, None] if decode else None
        h = self.embedding(ids)
        for block in self.blocks:
            h = block(h, cosine, sine, position, mask)
        return self.output(rms_norm(h[:, -1], self.norm)).argmax(-1)


class Timer:
    def __init__(self, device, rounds, until):
        self.device, self.rounds, self.until, self.cases = device, rounds, until, []

    def wait(self):
        if self.device == "cuda":
            torch.cuda.synchronize()

    def sample(self, call, context, n):
        with context():
            self.wait()
            began = time.perf_counter()
            for _ in range(n):
                call()
            self.wait()
            return (time.perf_counter() - began) / n

    def group(self, name, tokens, calls, baseline):
        """Runs the cases in turn, round by round, as bench/harness/run.c does; ratios are within a round."""
        samples = {case: [] for case in calls}
        for call in calls.values():
            self.sample(*call, 2)
        n = max(1, min(20, int(0.02 / self.sample(*calls[baseline], 1))))
        for _ in range(self.rounds):
            for case, call in calls.items():
                samples[case].append(self.sample(*call, n))
        for case, times in samples.items():
            ratios = [a / b for a, b in zip(times, samples[baseline])] if case != baseline else []
            self.cases.append({
                "group": name, "name": case, "note": None, "error": None, "samples_s": times, "seconds": summary(times),
                "work": [{"unit": "tokens", "amount": tokens, "per_second": summary([tokens / t for t in times]),
                          "share": None}],
                "baseline": baseline if ratios else None, "ratio": summary(ratios) if ratios else None,
            })
        for case in self.cases:
            print(f"{case['group']:36}{case['name']:28}{1e3 * case['seconds']['median']:10.3f} ms")
        print(json.dumps({"program": "torch_decode.py", "torch": torch.__version__, "device": self.device,
                          "cases": self.cases}), flush=True)
        self.cases = []


def summary(values):
    return {"n": len(values), "median": statistics.median(values), "low": min(values), "high": max(values)}


@contextlib.contextmanager
def steered(blocks, vectors):
    """Hooks that add a vector to each block's output, as steering libraries do."""
    hooks = [block.register_forward_hook(lambda _module, _inputs, h, v=v: h + v) for block, v in zip(blocks, vectors)]
    yield
    for hook in hooks:
        hook.remove()


def arms(model, call):
    """The calls to be timed, each with the context it runs in."""
    vectors = [torch.randn_like(block.attn_norm) for block in model.blocks]
    return {"eager": (call, contextlib.nullcontext),
            "eager, hooks at all layers": (call, lambda: steered(model.blocks, vectors))}


def graphed(call):
    """Captures the call as a CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def time_decode(timer, group, name, batch, context):
    model = Model(SHAPES[name], batch, context, timer.device)
    ids = torch.zeros(batch, 1, dtype=torch.long, device=timer.device)
    position = torch.full((1,), context - 1, device=timer.device)

    def step():
        ids.copy_(model(ids, position, True)[:, None])
    calls = arms(model, step)
    if timer.device == "cuda":
        calls["graphed"] = (graphed(step), contextlib.nullcontext)
    timer.group(group, batch, calls, "eager")


def time_prefill(timer, group, name, length):
    model = Model(SHAPES[name], 1, length, timer.device)
    ids = torch.randint(SHAPES[name][6], (1, length), device=timer.device)
    position = torch.arange(length, device=timer.device)

    def run():
        model(ids, position, False)
    timer.group(group, length, arms(model, run), "eager")


def groups(arguments):
    """(name, what to call with a timer), what says most first."""
    models = arguments.model or (["tiny"] if arguments.tiny else ["llama-3.1-8b", "llama-3.2-1b", "smollm2-135m"])
    batches = arguments.batch or ([1, 3] if arguments.tiny else [1, 64, 8, 256])
    prompt, context = (64, 48) if arguments.tiny else (PROMPT, CONTEXT)
    for name in models:
        found = [(f"{name} decode batch {batch}", time_decode, (name, batch, context)) for batch in batches]
        found.insert(2, (f"{name} prefill {prompt}", time_prefill, (name, prompt)))
        yield from found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=sorted(SHAPES))
    parser.add_argument("--batch", action="append", type=int)
    parser.add_argument("--seconds", type=float, default=600, help="no group is begun after that")
    parser.add_argument("--tiny", action="store_true", help="a tiny model and few rounds, to see that it runs")
    parser.add_argument("--after", metavar="GROUP", help="pass over the groups up to this one")
    arguments = parser.parse_args()
    torch.manual_seed(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    timer = Timer(device, 2 if arguments.tiny else 9, time.monotonic() + arguments.seconds)
    after = arguments.after
    with torch.inference_mode():
        for group, work, sizes in groups(arguments):
            if after:
                after = None if after == group else after
            elif time.monotonic() > timer.until:
                print(f"left out {group}", flush=True)
            else:
                print(f"begin {group}", flush=True)
                work(timer, group, *sizes)
                if device == "cuda":
                    torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
