#!/usr/bin/env python3
"""Holds the tokenizer and the chat templates against real ones, and prints a table of each.

    scripts/measure/conformance.py TREE BUILD      (make conformance)

TREE is llama.cpp's source (scripts/setup/fetch_llama_cpp.sh). Its models/ggml-vocab-*.gguf have test vectors, made by
the models' own Hugging Face tokenizers; where `tokenizers` can be set up as those are, more texts are compared with it.
Its models/templates are rendered by jinja2 under Hugging Face's settings (check_templates.py). SmolLM2's vocabulary is
read from models/, Mistral's from the package mistral-common. Exit code 1 when a vocabulary of a family that we support
is missing or fails a vector, or anything that is not refused differs.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

from conformance_vocabularies import from_sentencepiece, mistral_models, references, vectors

# The families that must pass; any other vocabulary may be refused, but not differ.
SUPPORTED = ["gpt-2", "llama-bpe", "qwen2", "qwen35", "deepseek-llm", "deepseek-coder", "falcon", "starcoder", "refact",
             "command-r", "mpt", "llama-spm", "phi-3", "baichuan", "gemma-4", "smollm", "mistral-v1", "mistral-v3"]


def run(program, vocabulary, cases):
    """"47/47", or the reason of a refusal; what differs goes to stderr."""
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump(cases, file)
        file.flush()
        done = subprocess.run([program, vocabulary, file.name], stdout=subprocess.PIPE, text=True, timeout=600)
    if done.stdout.startswith("refused: "):
        return done.stdout.strip().replace(f"{vocabulary}: ", "")
    words = done.stdout.split()
    return f"{words[1]}/{words[3]}" if len(words) == 4 else f"exit code {done.returncode}"


def passed(result):
    return "/" in result and len(set(result.split("/"))) == 1


def vocabularies(tree, folder):
    """(name, GGUF file, label of its own vectors, those)"""
    for path in sorted((tree / "models").glob("ggml-vocab-*.gguf")):
        yield path.stem.removeprefix("ggml-vocab-"), path, "llama.cpp's", vectors(path)
    for model in sorted(pathlib.Path("models").glob("SmolLM2*.gguf"))[:1]:
        yield "smollm", model, "", []
    for model in mistral_models():
        name = f"mistral-{model.suffix.removeprefix('.')}"
        path = folder / f"{name}.gguf"
        yield name, path, "sentencepiece's", from_sentencepiece(model, path)


def check_vocabularies(tree, program):
    """True when all is well."""
    failed, families = set(), set()
    print(f"{'vocabulary':16} {'ids and texts of':32} {'passed':>8}")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for name, path, label, own in vocabularies(tree, folder):
            rows = [(label, path, own)] if own else []
            rows += references(path, folder)
            for label, vocabulary, cases in rows or [("", path, [{"text": "", "ids": []}])]:
                result = run(program, vocabulary, cases)
                refused = result.startswith("refused")
                families |= set() if refused else {name}
                failed |= set() if passed(result) or (refused and name not in SUPPORTED) else {name}
                print(f"{name:16} {label:32} {result:>8}", flush=True)
    failed |= set(SUPPORTED) - families
    print(f"{len(families - failed)} of {len(families | set(SUPPORTED))} vocabularies pass every vector"
          + (f"; these fail: {', '.join(sorted(failed))}" if failed else ""))
    return not failed


def check_templates(tree, build):
    script = pathlib.Path(__file__).with_name("check_templates.py")
    command = [sys.executable, script, tree / "models" / "templates", build / "trimtab"]
    return subprocess.run(command).returncode == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=pathlib.Path)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--only", choices=["vocabularies", "templates"])
    arguments = parser.parse_args()
    good = True
    if arguments.only != "templates":
        good &= check_vocabularies(arguments.tree, arguments.build / "tests" / "conformance")
    if arguments.only != "vocabularies":
        good &= check_templates(arguments.tree, arguments.build)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
