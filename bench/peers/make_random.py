#!/usr/bin/env python3
"""Writes a GGUF file with the widths of a known model, few layers, and random weights in the types that llama.cpp's
Q4_K_M gives them: speed does not depend on what weights are, so that a machine can be measured on the shapes of models
that are too large for it. The text that comes out is noise, in tokens of single bytes and of made-up names.

    make_random.py llama-1b|llama-8b OUT [--layers 4] [--vocab 32000]
"""
import argparse
import os
import random
import struct

# hidden, feed-forward, heads, key heads, head, tied embedding
WIDTHS = {"llama-1b": (2048, 8192, 32, 8, 64, True), "llama-8b": (4096, 14336, 32, 8, 128, False)}
F32, Q4_K, Q6_K = 0, 12, 14
BLOCK_BYTES = {Q4_K: 144, Q6_K: 210}
UINT32, FLOAT32, STRING, ARRAY = 4, 6, 8, 9
ALIGNMENT = 32
POOL_BLOCKS = 4096  # random blocks that are written again and again


def text(s):
    return struct.pack("<Q", len(s.encode())) + s.encode()


def pair(key, kind, value):
    return text(key) + struct.pack("<I", kind) + (
        text(value) if kind == STRING else struct.pack("<f" if kind == FLOAT32 else "<I", value))


def array(key, kind, values):
    packed = b"".join(text(v) if kind == STRING else struct.pack("<i", v) for v in values)
    return text(key) + struct.pack("<IIQ", ARRAY, kind, len(values)) + packed


def vocabulary(n):
    """GPT-2's 256 characters for bytes, one merge, an end token, and names for the rest."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    characters = [chr(b) for b in plain] + [chr(256 + i) for i in range(256 - len(plain))]
    return characters + ["th", "<end>"] + [f"t{i}" for i in range(258, n)]


def block(kind, scale, generator):
    """256 weights of about scale: the factors are set, all other bits are random."""
    bits = bytearray(generator.randbytes(BLOCK_BYTES[kind]))
    if kind == Q4_K:  # d * 6-bit scale * 0..15 - dmin * 6-bit minimum
        bits[0:4] = struct.pack("<ee", scale / 32 / 8, scale / 32)
    else:  # d * 8-bit scale * -32..31
        bits[208:210] = struct.pack("<e", scale / 64 / 32)
    return bytes(bits)


def more_bits(layer, n_layers):
    """The layers whose wv and ffn_down llama.cpp gives Q6_K instead of Q4_K."""
    return layer < n_layers // 8 or layer >= 7 * n_layers // 8 or (layer - n_layers // 8) % 3 == 2


def tensors(widths, n_layers, vocab):
    """Name, type, width of a row, rows."""
    hidden, ffn, heads, kv_heads, head, tied = widths
    yield "token_embd.weight", Q6_K if tied else Q4_K, hidden, vocab
    for i in range(n_layers):
        q6 = Q6_K if more_bits(i, n_layers) else Q4_K
        for name, kind, n_in, n_out in (
                ("attn_norm", F32, hidden, 1), ("attn_q", Q4_K, hidden, heads * head),
                ("attn_k", Q4_K, hidden, kv_heads * head), ("attn_v", q6, hidden, kv_heads * head),
                ("attn_output", Q4_K, heads * head, hidden), ("ffn_norm", F32, hidden, 1),
                ("ffn_gate", Q4_K, hidden, ffn), ("ffn_up", Q4_K, hidden, ffn), ("ffn_down", q6, ffn, hidden)):
            yield f"blk.{i}.{name}.weight", kind, n_in, n_out
    yield "output_norm.weight", F32, hidden, 1
    if not tied:
        yield "output.weight", Q6_K, hidden, vocab


def n_bytes(kind, n_in, n_out):
    size = n_out * (n_in * 4 if kind == F32 else n_in // 256 * BLOCK_BYTES[kind])
    return (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


def write_tensor(out, kind, n_in, n_out, generator):
    start = out.tell()
    if kind == F32:
        out.write(struct.pack("<f", 1) * n_in)
    else:
        pool = [block(kind, n_in ** -0.5, generator) for _ in range(POOL_BLOCKS)]
        left = n_in // 256 * n_out
        while left:
            generator.shuffle(pool)
            out.write(b"".join(pool[:left]))
            left -= min(left, POOL_BLOCKS)
    out.write(bytes(start + n_bytes(kind, n_in, n_out) - out.tell()))


def write(path, name, n_layers, vocab):
    widths = WIDTHS[name]
    hidden, ffn, heads, kv_heads, head, _ = widths
    pairs = [pair(*row) for row in (
        ("general.architecture", STRING, "llama"), ("general.name", STRING, f"random {name}"),
        ("llama.block_count", UINT32, n_layers), ("llama.context_length", UINT32, 8192),
        ("llama.embedding_length", UINT32, hidden), ("llama.feed_forward_length", UINT32, ffn),
        ("llama.attention.head_count", UINT32, heads), ("llama.attention.head_count_kv", UINT32, kv_heads),
        ("llama.attention.layer_norm_rms_epsilon", FLOAT32, 1e-5), ("llama.rope.freq_base", FLOAT32, 500000.0),
        ("llama.rope.dimension_count", UINT32, head), ("llama.vocab_size", UINT32, vocab),
        ("general.file_type", UINT32, 15), ("tokenizer.ggml.model", STRING, "gpt2"),
        ("tokenizer.ggml.pre", STRING, "gpt-2"), ("tokenizer.ggml.eos_token_id", UINT32, 257))]
    pairs.append(array("tokenizer.ggml.tokens", STRING, vocabulary(vocab)))
    pairs.append(array("tokenizer.ggml.token_type", 5, [3 if i == 257 else 1 for i in range(vocab)]))
    pairs.append(array("tokenizer.ggml.merges", STRING, ["t h"]))
    all_tensors = list(tensors(widths, n_layers, vocab))
    infos, at = [], 0
    for tensor, kind, n_in, n_out in all_tensors:
        shape = [n_in] if kind == F32 else [n_in, n_out]
        infos.append(text(tensor) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, at))
        at += n_bytes(kind, n_in, n_out)
    generator = random.Random(name)
    with open(path + ".part", "wb") as out:
        out.write(b"GGUF" + struct.pack("<IQQ", 3, len(all_tensors), len(pairs)) + b"".join(pairs + infos))
        out.write(bytes(-out.tell() % ALIGNMENT))
        for _, kind, n_in, n_out in all_tensors:
            write_tensor(out, kind, n_in, n_out, generator)
    os.replace(path + ".part", path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=WIDTHS)
    parser.add_argument("out")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--vocab", type=int, default=32000, help="at least 258: bytes and two marks")
    arguments = parser.parse_args()
    write(arguments.out, arguments.name, arguments.layers, arguments.vocab)


main()
