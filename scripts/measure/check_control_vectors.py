#!/usr/bin/env python3
"""Control vectors beside llama.cpp, in F32 on the tiny Llama: the same greedy tokens from a vector that repeng wrote,
from one that llama.cpp's cvector-generator makes, from a policy that trimtab exports, and over a range of layers.

    check_control_vectors.py TRIMTAB LLAMA-SOURCE LLAMA-BUILD

scripts/setup/build_llama_cpp.sh fetches the source and makes the build, whose libraries are linked here."""

import json
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GOLDEN = os.path.join(ROOT, "tests/golden")
MODEL = os.path.join(GOLDEN, "tiny-llama/tiny-llama.f32.gguf")
PROMPTS = ("Well now, the old mill at the end of the lane", "A warm and merry evening to", "12 and 30 are", "on a hill")
POSITIVE = "The sun is out, how nice it is\nA warm and merry evening to all\nOur garden is full of good fruit\n"
NEGATIVE = "The rain is in, how sad it is\nA cold and weary evening to all\nOur garden is full of old tins\n"
TOKENS = 24


def call(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}:\n{done.stderr[-2000:]}")
    return done.stdout


def compile_with(source, build, file, program):
    libraries = ["common/libllama-common.a", "common/libllama-common-base.a", "vendor/cpp-httplib/libcpp-httplib.a",
                 "src/libllama.a", "ggml/src/libggml.a", "ggml/src/libggml-cpu.a", "ggml/src/libggml-base.a"]
    folders = [f"-I{source}/{folder}" for folder in ("include", "common", "ggml/include")]
    call("c++", "-std=c++17", "-O1", *folders, file, "-o", program, *(f"{build}/{name}" for name in libraries),
         "-lgomp", "-lpthread", "-ldl", "-lm")


def generate(trimtab, prompt, *arguments):
    out = json.loads(call(trimtab, "generate", MODEL, "--raw", "-p", prompt, "-n", TOKENS, "--ignore-eos", "--json",
                          "--device", "cpu", *arguments))
    return out["prompt_ids"], out["ids"]


def compare(trimtab, peer, what, vector, policy, scale, layers=(1, 2)):
    """The same ids for every prompt, and others than without the vector for one of them."""
    changed = False
    for prompt in PROMPTS:
        ids, ours = generate(trimtab, prompt, "--policy", f"{policy}:{scale}", "--layers", f"{layers[0]}-{layers[1]}")
        theirs = [int(word) for word in call(peer, MODEL, vector, scale, *layers, TOKENS, *ids).split()]
        if ours != theirs:
            sys.exit(f"{what}, {prompt!r}:\n  trimtab   {ours}\n  llama.cpp {theirs}")
        changed |= ours != generate(trimtab, prompt)[1]
    if not changed:
        sys.exit(f"{what}: steers nothing")
    print(f"{what}: {len(PROMPTS)} prompts, {TOKENS} tokens each, the same")


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    trimtab, source, build = map(os.path.abspath, sys.argv[1:])
    repeng = os.path.join(GOLDEN, "vectors/repeng.gguf")
    with tempfile.TemporaryDirectory() as work:
        os.chdir(work)
        compile_with(source, build, os.path.join(ROOT, "scripts/measure/llama_control_vector.cpp"), "peer")
        compile_with(source, build, f"{source}/tools/cvector-generator/cvector-generator.cpp", "generator")
        peer = os.path.join(work, "peer")
        for scale in (12, -10):
            compare(trimtab, peer, f"repeng's at {scale}", repeng, repeng, scale)
        compare(trimtab, peer, "repeng's, the last layer alone", repeng, repeng, 20, (2, 2))

        for name, text in (("positive.txt", POSITIVE), ("negative.txt", NEGATIVE)):
            with open(name, "w", encoding="utf-8") as file:
                file.write(text)
        call("./generator", "-m", MODEL, "--positive-file", "positive.txt", "--negative-file", "negative.txt",
             "--method", "mean", "-o", "theirs.gguf", "-t", 2)
        compare(trimtab, peer, "cvector-generator's", "theirs.gguf", "theirs.gguf", 12)

        fingerprint = json.loads(call(trimtab, "inspect", MODEL, "--json"))["fingerprint"]
        call(sys.executable, os.path.join(ROOT, "tests/cli/make_policy.py"), "p.safetensors", 3, 64, fingerprint)
        call(trimtab, "export", "p.safetensors", "--layers", "1-2", "-o", "ours.gguf")
        compare(trimtab, peer, "a policy and what it exports", "ours.gguf", "p.safetensors", 1)


main()
