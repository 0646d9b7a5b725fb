#!/usr/bin/env python3
"""Makes a GGUF control vector of steering vectors in a PyTorch file, which trimtab does not read, since a pickle can
run code. PyTorch reads it here as tensors and plain containers alone (weights_only), which runs none.

  vectors_to_gguf.py vectors.pt -o vectors.gguf                   a dictionary of layers and vectors
  vectors_to_gguf.py vectors.pt -o vectors.gguf --key directions  one inside another dictionary
  vectors_to_gguf.py vector.pt -o vector.gguf --layer 15          one vector for one layer
  vectors_to_gguf.py rows.pt -o rows.gguf                         a matrix with a row for each layer, from layer 0 on

A layer's vector is added to the output of that block, blocks counted from 0. Where a file counts hidden states instead,
of which the first is the embedding, --shift -1 makes blocks of them. Needs torch and gguf (pip install torch gguf).
"""

import argparse
import re
import sys

import gguf
import numpy as np
import torch


def layer_of(key):
    """15, "15", "layer_15" and "model.layers.15" are layer 15."""
    numbers = re.findall(r"\d+", str(key))
    if len(numbers) != 1:
        sys.exit(f"{key!r} does not name one layer")
    return int(numbers[0])


def vectors_of(data, layer):
    """{layer: vector}"""
    if torch.is_tensor(data):
        data = data.squeeze()
        if data.dim() == 1 and layer is None:
            sys.exit("one vector: --layer says for which layer")
        data = {layer: data} if data.dim() == 1 else dict(enumerate(data))
    if not isinstance(data, dict):
        sys.exit(f"a {type(data).__name__} holds no vectors by layer; --key names what does")
    out = {layer_of(key): torch.as_tensor(value).float().squeeze().numpy() for key, value in data.items()}
    if any(vector.ndim != 1 for vector in out.values()) or len({len(vector) for vector in out.values()}) != 1:
        sys.exit("not every layer has one vector of the same width")
    return {key: vector for key, vector in sorted(out.items()) if vector.any()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--key", help="of the dictionary in the file that has the vectors")
    parser.add_argument("--layer", type=int, help="of a file with one vector")
    parser.add_argument("--shift", type=int, default=0, help="added to the number of each layer")
    parser.add_argument("--hint", default="", help="the model's type, such as llama: a name for readers")
    args = parser.parse_args()
    data = torch.load(args.file, map_location="cpu", weights_only=True)
    vectors = vectors_of(data[args.key] if args.key else data, args.layer)
    vectors = {layer + args.shift: vector for layer, vector in vectors.items()}
    if not vectors or min(vectors) < 0:
        sys.exit("no vector for a block from 0 on")
    writer = gguf.GGUFWriter(args.output, "controlvector")
    writer.add_string("controlvector.model_hint", args.hint)
    writer.add_uint32("controlvector.layer_count", len(vectors))
    for layer, vector in vectors.items():
        writer.add_tensor(f"direction.{layer}", np.ascontiguousarray(vector, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(f"{args.output}: layers {', '.join(map(str, vectors))}")


main()
