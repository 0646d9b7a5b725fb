#!/usr/bin/env python3
"""Makes the goldens of control vectors: one that repeng trained on the tiny Llama and wrote, the same as repeng writes
it in ascending order, one with the keys of llama.cpp's cvector-generator, and what the model computes when repeng
steers it. Needs requirements.txt, the goldens of make_goldens.py, and for repeng itself, which asks for older versions
of what is in requirements.txt, vector-requirements.txt without what it depends on:

  pip install --no-deps -r scripts/goldens/vector-requirements.txt
  make_vector_goldens.py --out tests/golden
"""

import argparse
from pathlib import Path

import gguf
import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import goldens_files as files

np.float_ = np.float64  # repeng 0.4.0 names it in a type hint, and numpy 2 no longer has it
from repeng import ControlModel, ControlVector, DatasetEntry  # noqa: E402

COEFFICIENTS = (12.0, -10.0)
GREEDY_TOKENS, GREEDY_MARGIN = 12, 1e-3
PAIRS = (("The sun is out, how nice it is", "The rain is in, how sad it is"),
    ("A warm and merry evening to all", "A cold and weary evening to all"),
    ("We like the song of the birds", "We hate the noise of the saws"),
    ("Our garden is full of good fruit", "Our garden is full of old tins"))


def train(model, tokenizer):
    dataset = [DatasetEntry(positive=a, negative=b) for a, b in PAIRS]
    return ControlVector.train(model, tokenizer, dataset, method="pca_diff")


def write_generator(path, vector):
    """As cvector-generator writes it: the count is an i32 and the model is named in GGUF's words."""
    writer = gguf.GGUFWriter(path, "controlvector")
    writer.add_string("controlvector.model_hint", "llama")
    writer.add_int32("controlvector.layer_count", 2)
    for layer in (1, 2):
        writer.add_tensor(f"direction.{layer}", vector.directions[layer] * np.float32(2))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def greedy(model, ids):
    """Arg-maxes, each from a full pass; a near-tie makes a poor golden."""
    prompt = len(ids)
    for _ in range(GREEDY_TOKENS):
        best = model(ids[None], use_cache=False).logits[0, -1].topk(2)
        assert best.values[0] - best.values[1] > GREEDY_MARGIN, "a near-tie: choose another prompt"
        ids = torch.cat([ids, best.indices[:1]])
    return ids[prompt:]


def steered(model, vector, ids):
    """The logits of the last position and the greedy text, unsteered and for each coefficient."""
    out = {"ids": ids.int(), "coefficients": torch.tensor(COEFFICIENTS), "greedy.off": greedy(model, ids).int()}
    for i, coefficient in enumerate(COEFFICIENTS):
        model.set_control(vector, coefficient)
        out[f"logits.{i}"] = model(ids[None], use_cache=False).logits[0, -1]
        out[f"greedy.{i}"] = greedy(model, ids).int()
        assert not torch.equal(out[f"greedy.{i}"], out["greedy.off"]), "the vector changes nothing"
    model.reset()
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    golden = parser.parse_args().out
    out = golden / "vectors"
    out.mkdir(exist_ok=True)
    torch.set_grad_enabled(False)
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(golden / "tiny-llama")
    tokenizer.pad_token_id = 0
    model = AutoModelForCausalLM.from_pretrained(golden / "tiny-llama", dtype=torch.float32,
        attn_implementation="eager").eval()
    model = ControlModel(model, [1, 2])
    vector = train(model, tokenizer)
    ascending = ControlVector(vector.model_type, dict(sorted(vector.directions.items())))
    vector.export_gguf(out / "repeng.gguf")
    ascending.export_gguf(out / "ascending.gguf")
    write_generator(out / "generator.gguf", vector)
    ids = torch.tensor(tokenizer("Well now, the old mill at the end of the lane").input_ids)
    files.save({k: v.contiguous() for k, v in steered(model, vector, ids).items()}, out / "steered.safetensors")
    for file in sorted(out.iterdir()):
        file.chmod(0o644)
        print(file, file.stat().st_size)


main()
