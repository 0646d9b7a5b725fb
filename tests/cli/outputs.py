#!/usr/bin/env python3
"""No command of the program writes over a file that it reads: outputs.py TRIMTAB GOLDEN [TEST]..."""

import json
import os
import shutil
import sys
import tempfile

import program
from program import check, make_policy, read, run, tiny, works, write_lines


def spellings(path, tag):
    """Ways to name a file that is there, made on the spot."""
    os.path.isdir("sub") or os.mkdir("sub")
    os.path.lexists("folder") or os.symlink(".", "folder")
    os.symlink(path, f"link.{tag}")
    os.link(path, f"hard.{tag}")
    return [path, f"./{path}", f"sub/../{path}", f"folder/{path}", os.path.abspath(path), f"link.{tag}", f"hard.{tag}"]


def snapshot():
    found = {}
    for folder, _, files in os.walk("."):
        for name in files:
            path = os.path.join(folder, name)
            found[path] = read(path) if os.path.exists(path) else os.readlink(path)
    return found


def test_outputs():
    """No command writes over a file that it reads, however that is spelled, nor one file as two; and a refusal makes
    none."""
    shutil.copytree(tiny, "model")
    shutil.copy(os.path.join(tiny, "tiny-llama.q8_0.gguf"), "m.gguf")
    shutil.copytree("model", "odd")  # shards that only the index names
    for name in os.listdir("odd"):
        if name.endswith(".gguf") or name == "chat_template.jinja":
            os.unlink(os.path.join("odd", name))
    os.rename("odd/model.safetensors", "odd/weights.bin")
    with open("odd/weights.bin", "rb") as file:
        names = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    with open("odd/model.safetensors.index.json", "w", encoding="utf-8") as file:
        json.dump({"weight_map": {name: "weights.bin" for name in names if name != "__metadata__"}}, file)
    shutil.copytree("model", "sharded")
    os.rename("sharded/model.safetensors", "sharded/model-00001-of-00001.safetensors")
    with open("sharded/model.safetensors.index.json", "w", encoding="utf-8") as file:
        shard = "model-00001-of-00001.safetensors"
        json.dump({"weight_map": {name: shard for name in names if name != "__metadata__"}}, file)
    make_policy("p.st")
    write_lines("in.jsonl", [{"id": "1", "prompt": "x", "label": "harmful"},
                             {"id": "2", "prompt": "y", "label": "benign"}])
    with open("prompt.txt", "w", encoding="utf-8") as file:
        file.write("x")
    os.symlink("nothing", "dangling")
    os.symlink("dangling", "dangling2")
    read_by = {path: spellings(path, i) for i, path in enumerate(["in.jsonl", "p.st", "m.gguf", "prompt.txt"])}
    config = ["model/config.json", "model/tokenizer.json", "./model/model.safetensors",
              "folder/model/tokenizer_config.json", "model/chat_template.jinja", "model/generation_config.json"]
    for name in ("chat_template.jinja", "generation_config.json"):  # not there: once made, they would be read
        os.path.exists(f"model/{name}") and os.unlink(f"model/{name}")
    os.symlink("model/config.json", "link.config")
    os.symlink("model/generation_config.json", "link.generation")
    config += ["link.config", "link.generation"]
    before = snapshot()

    def same(status, words, model, command, *arguments):
        for more in ([], ["--restart"]) if command == "batch" else ([],):
            done = run(*arguments, *more, model=model, command=command)
            check(done.returncode == status and not done.stdout and "would be both " + words in done.stderr,
                  f"{command} {model} {arguments} {more}: {done.returncode}: {done.stderr}")
        check(snapshot() == before, f"{command} {model} {arguments}: a file was touched or made")
        for path in set(snapshot()) ^ set(before):
            os.path.lexists(path) and os.unlink(path)

    batch = ["-i", "in.jsonl", "--policy", "p=p.st"]
    steer = ["--data", "in.jsonl", "--policy", "p.st:0.5"]
    for path, role in (("in.jsonl", "the input"), ("p.st", "a policy"), ("m.gguf", "the model")):
        for name in read_by[path]:
            same(2, f"{role} and the output", "m.gguf", "batch", *batch, "-o", name)
            same(2, f"{role} and the telemetry", "m.gguf", "batch", *batch, "-o", "o", "--telemetry", name)
    for name in config:
        same(2, "the model and the output", "model", "batch", *batch, "-o", name)
        same(2, "the model and the telemetry", "./folder/model/", "batch", *batch, "-o", "o", "--telemetry", name)
        same(2, "the model and the output", "model", "capture", "-p", "x", "-o", name)
        same(2, "the model and the policy", "model", "fit", "--data", "in.jsonl", "-o", name)
        same(2, "the model and the report", "model", "fit", "--data", "in.jsonl", "-o", "o", "--report", name)
        same(2, "the model and the page", "model", "eval", *steer, "--html", name)
        same(2, "the model and the completions", "model", "eval", *steer, "--completions", name)
    same(2, "the model and the output", "sharded", "batch", *batch, "-o", "./sharded/model-00001-of-00001.safetensors")
    same(1, "the model and the output", "odd", "batch", *batch, "-o", "odd/weights.bin")
    same(1, "the model and the output", "odd", "capture", "-p", "x", "-o", "folder/odd/weights.bin")
    for path, role in (("in.jsonl", "the data"), ("p.st", "a policy"), ("m.gguf", "the model")):
        for name in read_by[path]:
            same(2, f"{role} and the page", "m.gguf", "eval", *steer, "--html", name)
            same(2, f"{role} and the completions", "m.gguf", "eval", *steer, "--completions", name)
    for name in read_by["p.st"]:
        same(2, "a policy and the output", "m.gguf", "capture", "-p", "x", "--policy", "p.st", "-o", name)
    for name in read_by["prompt.txt"]:
        same(2, "the prompt and the output", "m.gguf", "capture", "-f", "prompt.txt", "-o", name)
    for name in read_by["m.gguf"]:
        same(2, "the model and the output", "m.gguf", "capture", "-p", "x", "-o", name)
        same(2, "the model and the policy", "m.gguf", "fit", "--data", "in.jsonl", "-o", name)
    for name in read_by["in.jsonl"]:
        same(2, "the data and the policy", "m.gguf", "fit", "--data", "in.jsonl", "-o", name)
        same(2, "the data and the report", "m.gguf", "fit", "--data", "in.jsonl", "-o", "o", "--report", name)
        same(2, "the data and the activations", "m.gguf", "fit", "--data", "in.jsonl", "-o", "o", "--activations", name)
    # Names that are made of others.
    # (The completions that only a page needs lie in a new folder, so that no name beside the page is written over.)
    for name in ("x.journal", "page.completions.jsonl", "done.partial", "page.completions.jsonl.partial"):
        shutil.copy("in.jsonl", name)
    before = snapshot()
    same(2, "the input and the journal", "m.gguf", "batch", "-i", "x.journal", "-o", "x")
    same(2, "the data and the completions while", "m.gguf", "eval", "--policy", "p.st", "--data", "./done.partial",
         "--completions", "done")
    for name in ("./page.completions.jsonl", "page.completions.jsonl.partial", "in.jsonl"):
        done = run("--policy", "p.st", "--data", name, "--html", "page", "-n", "2", model="m.gguf", command="eval")
        check(done.returncode == 0 and os.path.exists("page"), f"{name} and a page: {done.returncode}: {done.stderr}")
        os.path.exists("page") and os.unlink("page")
        check(snapshot() == before, f"{name} and a page: a file was touched or made")
    # Files that are not there yet.
    for a, b in (("o.jsonl", "./o.jsonl"), ("o.jsonl", "folder/o.jsonl"), ("sub/../o", os.path.abspath("o")),
                 ("nothing", "dangling"), ("dangling2", "nothing"), ("dangling", "dangling2")):
        same(2, "the output and the telemetry", "m.gguf", "batch", *batch, "-o", a, "--telemetry", b)
        same(2, "the policy and the report", "m.gguf", "fit", "--data", "in.jsonl", "-o", a, "--report", b)
        same(2, "the policy and the activations", "m.gguf", "fit", "--data", "in.jsonl", "-o", a, "--activations", b)
        same(2, "the policy and the candidates", "m.gguf", "fit", "--data", "in.jsonl", "-o", a, "--candidates", b)
        same(2, "the completions and the page", "m.gguf", "eval", *steer, "--completions", a, "--html", b)
    same(2, "the journal and the telemetry", "m.gguf", "batch", *batch, "-o", "o", "--telemetry", "o.journal")
    same(2, "the journal and the telemetry", "m.gguf", "batch", *batch, "-o", "o", "--telemetry", "folder/o.journal")
    os.symlink("z", "z.journal")
    before = snapshot()
    same(2, "the output and the journal", "m.gguf", "batch", *batch, "-o", "z")
    os.unlink("z.journal")
    # Files that only look alike are not refused.
    works(*batch, "-o", "model/o.jsonl", "--telemetry", "sub/o.jsonl", model="model")
    works(*batch, "-o", "model/o.jsonl", "--telemetry", "sub/o.jsonl", model="model")
    works("-p", "x", "-o", "model/c.safetensors", model="model", command="capture")
    check(read("p.st") == before["./p.st"], "a policy was changed")


with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    program.run_tests(globals(), sys.argv[3:])
    os.chdir("/")
program.end()
