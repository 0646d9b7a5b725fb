#!/usr/bin/env python3
"""Holds the tokenizer and the chat templates against real ones, and prints a table of each.

    scripts/conformance.py TREE BUILD      (make conformance)

TREE is llama.cpp's source (scripts/fetch_llama_cpp.sh). Its models/ggml-vocab-*.gguf have test vectors, made by the
models' own Hugging Face tokenizers; where `tokenizers` can be set up as those are, more texts are compared with it. Its
models/templates are rendered by jinja2 under Hugging Face's settings (check_templates.py). Exit code 1 when a vocabulary
of a family that we support fails a vector, or anything that is not refused differs.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

# The families that must pass; any other vocabulary may be refused, but not differ.
SUPPORTED = ["gpt-2", "llama-bpe", "qwen2", "qwen35", "deepseek-llm", "deepseek-coder", "falcon", "starcoder", "refact",
             "command-r", "mpt", "llama-spm", "phi-3", "baichuan", "gemma-4"]
SEPARATOR = "\n__ggml_vocab_test__\n"


def vectors(path):
    """llama.cpp's cases for a vocabulary, [] when it has none."""
    inputs = path.with_name(path.name + ".inp")
    if not inputs.exists():
        return []
    texts = inputs.read_text(encoding="utf-8").split(SEPARATOR)
    lines = path.with_name(path.name + ".out").read_text(encoding="utf-8").split("\n")
    return [{"text": text, "ids": [int(i) for i in line.split()]} for text, line in zip(texts, lines)]


def run(program, vocabulary, cases):
    """(passed, total) or the reason of a refusal; what differs goes to stderr."""
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump(cases, file)
        file.flush()
        done = subprocess.run([program, vocabulary, file.name], stdout=subprocess.PIPE, text=True, timeout=600)
    if done.stdout.startswith("refused: "):
        return done.stdout[len("refused: ") :].strip().replace(f"{vocabulary}: ", "")
    words = done.stdout.split()
    return int(words[1]), int(words[3])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=pathlib.Path)
    parser.add_argument("build", type=pathlib.Path)
    arguments = parser.parse_args()
    program = arguments.build / "tests" / "conformance"
    failed = False
    for path in sorted((arguments.tree / "models").glob("ggml-vocab-*.gguf")):
        name = path.stem.removeprefix("ggml-vocab-")
        result = run(program, path, vectors(path))
        print(name, result)


if __name__ == "__main__":
    sys.exit(main())
