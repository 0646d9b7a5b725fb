#!/usr/bin/env python3
"""Makes tests/golden/weights: the values that gguf-py, numpy, torch, safetensors and transformers read from the numbers
and files that weights/ reads. Versions: requirements.txt.

    python3 scripts/goldens/make_weights_goldens.py
"""

import hashlib
import json
import pathlib
import shutil

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Q
from safetensors.numpy import save_file as save_numpy
from safetensors.torch import save_file as save_torch
from transformers import LlamaConfig, LlamaForCausalLM

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "weights"
TYPES = [Q.F32, Q.F16, Q.BF16, Q.Q4_0, Q.Q4_1, Q.Q8_0]  # the types in tiny.gguf
NUMBERS = TYPES + [Q.Q5_0, Q.Q5_1, Q.Q4_K, Q.Q5_K, Q.Q6_K, Q.IQ4_NL]
# The offset of a block's f16 scale, and of its f16 minimum if it has one.
HALVES_AT = {Q.Q4_0: [0], Q.Q4_1: [0, 2], Q.Q5_0: [0], Q.Q5_1: [0, 2], Q.Q8_0: [0], Q.Q4_K: [0, 2], Q.Q5_K: [0, 2],
             Q.Q6_K: [208], Q.IQ4_NL: [0]}
rng = np.random.default_rng(3)

# Zero, subnormal, smallest normal, largest, infinity and NaN, each with both signs.
HALVES = [s | m for m in (0, 1, 0x3FF, 0x400, 0x7BFF, 0x7C00, 0x7E00) for s in (0, 0x8000)]


def random_blocks(kind):
    """Random bytes. In the first blocks, the scales and then the minima take all values of HALVES."""
    block, size = gguf.GGML_QUANT_SIZES[kind]
    n = {1: 48 * 32, 32: 48, 256: 30}[block]
    raw = rng.integers(0, 256, (n, size), dtype=np.uint8)
    special = np.array(HALVES, "<u2").view(np.uint8).reshape(-1, 2)
    for turn, at in enumerate(HALVES_AT.get(kind, [])):
        raw[turn * len(HALVES) : (turn + 1) * len(HALVES), at : at + 2] = special
        if turn:  # a minimum of 0 beside a special scale, so that inf - inf does not hide the scale
            raw[: len(HALVES), at : at + 2] = 0
    return raw


def numbers():
    out = {}
    for kind in NUMBERS:
        raw = random_blocks(kind)
        out[f"raw.{kind.name}"] = raw.reshape(-1)
        with np.errstate(all="ignore"):
            out[f"want.{kind.name}"] = gguf.dequantize(raw, kind).reshape(-1).astype(np.float32)
    # For rounding: random bits, floats near halves, and the exact midpoints between neighbouring halves.
    halves = rng.integers(0, 0x7C00, 600, dtype=np.uint16)
    exact = np.concatenate([halves, HALVES[:10]]).astype(np.uint16).view(np.float16).astype(np.float32)
    above = np.nextafter(halves.view(np.float16), np.float16(np.inf)).astype(np.float32)
    middle = (halves.view(np.float16).astype(np.float32) + np.where(np.isinf(above), 65536, above)) / np.float32(2)
    near = np.concatenate([np.nextafter(middle, np.float32(0)), middle, np.nextafter(middle, np.float32(np.inf))])
    bits = rng.integers(0, 1 << 32, 1000, dtype=np.uint32).view(np.float32)
    edges = np.array([65519.99, 65520, 65536, 2.0**-25, 2.0**-24, 2.0**-14, 3.4e38, np.inf, 1e-45], np.float32)
    value = np.concatenate([exact, near, -near, bits, edges, -edges]).astype(np.float32)
    with np.errstate(all="ignore"):
        out["round.f16"] = value.astype(np.float16)
    out["round.f32"] = value
    tensors = {name: torch.from_numpy(array.copy()) for name, array in out.items()}
    tensors["round.bf16"] = tensors["round.f32"].to(torch.bfloat16)
    save_torch(tensors, OUT / "numbers.safetensors")


def fp8_blocks():
    """Blocks of F8_E4M3 as weights/quant.h has them: every code but NaN with scales from 0 to the largest."""
    codes = np.array([c for c in range(256) if c & 0x7F != 0x7F] + [0, 0x80], np.uint8)
    scales = np.array([0, 1e-45, 1e-38, 2.0**-126, 3e-4, 0.1, 1, 255.99998], np.float32)
    scales = np.concatenate([scales, rng.uniform(0, 256, 8), rng.uniform(0, 0.01, 32)]).astype(np.float32)
    raw = np.concatenate([
        np.concatenate([scale.reshape(1).view(np.uint8), block])
        for scale in scales for block in codes.reshape(-1, 32)])
    numbers = torch.from_numpy(codes).view(torch.float8_e4m3fn).float()
    want = torch.from_numpy(scales)[:, None] * numbers
    save_torch({"raw.F8_E4M3": torch.from_numpy(raw), "want.F8_E4M3": want.reshape(-1)}, OUT / "fp8.safetensors")


def all_halves():
    """SHA-256 over the floats of all halves, with every NaN as 0x7fc00000."""
    value = np.arange(65536, dtype=np.uint32).astype(np.uint16).view(np.float16).astype(np.float32)
    value[np.isnan(value)] = np.uint32(0x7FC00000).view(np.float32)
    return hashlib.sha256(value.tobytes()).hexdigest()


def tiny_gguf():
    """A model with every number type. Returns its digest as weights/model.h defines it."""
    d, ffn, heads, kv, vocab, layers = 32, 64, 2, 1, 40, 2
    head_dim = d // heads
    w = gguf.GGUFWriter(OUT / "tiny.gguf", "llama")
    w.add_custom_alignment(64)
    w.add_block_count(layers)
    w.add_context_length(128)
    w.add_embedding_length(d)
    w.add_feed_forward_length(ffn)
    w.add_head_count(heads)
    w.add_head_count_kv(kv)
    w.add_rope_dimension_count(head_dim)
    w.add_rope_freq_base(50000.0)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_vocab_size(vocab)
    w.add_tokenizer_model("gpt2")
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_eot_token_id(3)
    w.add_add_bos_token(True)
    w.add_uint8("test.u8", 200)
    w.add_int8("test.i8", -7)
    w.add_uint16("test.u16", 60000)
    w.add_int16("test.i16", -300)
    w.add_int32("test.i32", -70000)
    w.add_uint64("test.u64", (1 << 64) - 1)
    w.add_int64("test.i64", -(1 << 40))
    w.add_float64("test.f64", 0.1)
    w.add_string("test.string", "naïve")
    w.add_array("test.strings", ["a", "", "bcd"])
    w.add_array("test.ints", [5, -6, 7])
    w.add_array("test.floats", [0.5, -2.25])
    w.add_array("test.bools", [True, False, True])

    want, order, turn = {}, {}, 0

    def add(name, shape, kind):
        data = gguf.quantize((rng.standard_normal(shape) * 0.1).astype(np.float32), kind)
        w.add_tensor(name, data, raw_dtype=kind)
        raw = data.tobytes()
        head = np.array([kind.value, len(shape)], "<u4").tobytes() + np.array(shape, "<u8").tobytes()
        if name != "rope_freqs.weight":
            order[name] = name.encode() + b"\0" + head + raw[:4096]
        want[name] = gguf.dequantize(data, kind).astype(np.float32).reshape(shape)

    def matrix(name, rows, columns):
        nonlocal turn
        add(name + ".weight", (rows, columns), TYPES[turn % len(TYPES)])
        turn += 1

    factors = np.linspace(1, 8, head_dim // 2, dtype=np.float32)
    w.add_tensor("rope_freqs.weight", factors)
    want["rope_freqs.weight"] = factors
    matrix("token_embd", vocab, d)
    matrix("output", vocab, d)
    add("output_norm.weight", (d,), Q.F32)
    for i in range(layers):
        add(f"blk.{i}.attn_norm.weight", (d,), Q.F32)
        add(f"blk.{i}.ffn_norm.weight", (d,), Q.F16)
        matrix(f"blk.{i}.attn_q", heads * head_dim, d)
        matrix(f"blk.{i}.attn_k", kv * head_dim, d)
        matrix(f"blk.{i}.attn_v", kv * head_dim, d)
        matrix(f"blk.{i}.attn_output", d, heads * head_dim)
        matrix(f"blk.{i}.ffn_gate", ffn, d)
        matrix(f"blk.{i}.ffn_up", ffn, d)
        matrix(f"blk.{i}.ffn_down", d, ffn)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    save_numpy(want, OUT / "tiny_want.safetensors")
    return hashlib.sha256(b"".join(order[name] for name in sorted(order))).hexdigest()


def big_endian_gguf():
    w = gguf.GGUFWriter(OUT / "big_endian.gguf", "llama", endianess=gguf.GGUFEndian.BIG)
    w.add_block_count(1)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()


def tiny_directory():
    """Embeddings are not tied, attention and MLP have biases, and head_dim is not hidden_size / heads."""
    torch.manual_seed(4)
    config = LlamaConfig(
        vocab_size=24, hidden_size=16, intermediate_size=20, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=4, attention_bias=True, mlp_bias=True, eos_token_id=2,
        max_position_embeddings=64, rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 20000.0})
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.1)
    model.generation_config.eos_token_id = [2, 5]
    path = OUT / "tiny"
    model.save_pretrained(path)
    (path / "tokenizer_config.json").write_text('{"add_bos_token": true}\n')
    return sum(p.numel() for p in model.parameters())


def frequencies():
    out = {}
    for name, head_dim, parameters in [
        ("none", 64, {"rope_type": "default", "rope_theta": 100000.0}),
        ("linear", 32, {"rope_type": "linear", "rope_theta": 10000.0, "factor": 3.0}),
        ("llama3", 128, {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
                         "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}),
    ]:
        config = LlamaConfig(
            vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
            head_dim=head_dim, rope_parameters=parameters)
        out[name] = LlamaForCausalLM(config).model.rotary_emb.inv_freq.numpy().astype(np.float32)
    save_numpy(out, OUT / "frequencies.safetensors")


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    numbers()
    frequencies()
    big_endian_gguf()
    expected = {"all_halves": all_halves(), "tiny_digest": tiny_gguf(), "tiny_parameters": tiny_directory()}
    fp8_blocks()
    (OUT / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
