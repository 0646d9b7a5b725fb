"""The files of make_goldens.py: Hugging Face directories, GGUF files, and a vocabulary small enough to commit."""

import json
import math
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from goldens_quantise import quantise

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = """Ġ t|h e|i n|r e|o n|Ġt he|e r|Ġ a|a t|o u|Ġ s|Ġ w|n d|i t|e s|Ġ o|in g|Ġa nd|Ġ c|o r|e n|Ġ b|a n|l l
Ġ f|o f|Ġ h|Ġ p|Ġ l""".replace("\n", "|").split("|")
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + "
    "'<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
EOS = 2


def byte_symbols():
    """The 256 bytes as GPT-2 writes them: printable ones as themselves, the others as characters from U+0100 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    symbols = {b: chr(b) for b in plain}
    for n, b in enumerate(b for b in range(256) if b not in symbols):
        symbols[b] = chr(0x100 + n)
    return [symbols[b] for b in range(256)]


def tiny_tokens():
    """Special tokens, bytes and merges: 288 tokens, in the order of their ids."""
    return SPECIALS + byte_symbols() + [merge.replace(" ", "") for merge in MERGES]


def byte_level_bpe(tokens, merges, specials):
    """A tokenizer with the splits that GGUF calls "smollm": each digit alone, then GPT-2's pattern."""
    bpe = models.BPE(
        vocab={token: i for i, token in enumerate(tokens)},
        merges=[tuple(merge.split(" ")) for merge in merges],
    )
    tokenizer = Tokenizer(bpe)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    return tokenizer


def write_json(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def save(tensors, path):
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)


def write_directory(directory, config, weights, n_shards):
    """Writes config.json and model.safetensors (or shards and their index) as given, and tiny_tokens()' tokenizer."""
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / "config.json", config)
    write_shards(directory, weights, n_shards)
    tokenizer = byte_level_bpe(tiny_tokens(), MERGES, SPECIALS)
    (directory / "tokenizer.json").write_text(tokenizer.to_str() + "\n", encoding="utf-8")
    tokenizer_config = {
        "add_bos_token": False,
        "bos_token": SPECIALS[1],
        "chat_template": CHAT_TEMPLATE,
        "eos_token": SPECIALS[EOS],
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    write_json(directory / "tokenizer_config.json", tokenizer_config)


def write_shards(directory, weights, n_shards):
    weights = {name: tensor.contiguous() for name, tensor in weights.items()}
    if n_shards == 1:
        save(weights, directory / "model.safetensors")
        return
    weight_map = {}
    names = sorted(weights)
    for shard in range(n_shards):
        file = f"model-{shard + 1:05d}-of-{n_shards:05d}.safetensors"
        part = names[shard * len(names) // n_shards : (shard + 1) * len(names) // n_shards]
        save({name: weights[name] for name in part}, directory / file)
        weight_map |= dict.fromkeys(part, file)
    total = sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    write_json(directory / "model.safetensors.index.json", index)


def permute(weight, n_heads):
    """The rows of q or k in llama.cpp's order: the two rows that RoPE rotates together become neighbours."""
    return weight.reshape(n_heads, 2, -1, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def unpermute(weight, n_heads):
    return weight.reshape(n_heads, -1, 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def heads_of(gguf_name, config):
    """The number of heads whose rows are permuted in this tensor, or 0. Only the converter of Llama permutes rows."""
    if config["model_type"] != "llama":
        return 0
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    return heads.get(gguf_name.split(".")[-2], 0)


def is_gemma(config):
    """Whether norms multiply by 1 + w. GGUF then has the sum."""
    return config["model_type"].startswith("gemma")


def gguf_names(config):
    """Hugging Face's tensor name -> GGUF's."""
    parts = {
        "input_layernorm": "attn_norm",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "post_attention_layernorm": "ffn_norm",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }
    if config["model_type"] in ("qwen3", "gemma3_text"):
        parts |= {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}
    if config["model_type"] == "phi3":
        for part in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj"):
            del parts[part]
        parts |= {"self_attn.qkv_proj": "attn_qkv", "mlp.gate_up_proj": "ffn_up"}
    if is_gemma(config):
        del parts["post_attention_layernorm"]
        parts |= {
            "post_attention_layernorm": "post_attention_norm",
            "pre_feedforward_layernorm": "ffn_norm",
            "post_feedforward_layernorm": "post_ffw_norm",
        }
    names = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    if not config["tie_word_embeddings"]:
        names["lm_head.weight"] = "output.weight"
    for layer in range(config["num_hidden_layers"]):
        for theirs, ours in parts.items():
            names[f"model.layers.{layer}.{theirs}.weight"] = f"blk.{layer}.{ours}.weight"
        if config["model_type"] == "qwen2":
            for part in "qkv":
                names[f"model.layers.{layer}.self_attn.{part}_proj.bias"] = f"blk.{layer}.attn_{part}.bias"
    return names


def write_gguf(path, config, weights, matrix_type, embedding_type):
    """Writes the model. Norms stay f32, as in every GGUF file; the matrices get the given types."""
    writer = gguf.GGUFWriter(path, config["model_type"].removesuffix("_text"))
    write_gguf_keys(writer, config, matrix_type)
    write_gguf_vocabulary(writer)
    for theirs, ours in gguf_names(config).items():
        data = weights[theirs].to(torch.float32).numpy()
        if heads := heads_of(ours, config):
            data = permute(data, heads)
        if data.ndim == 1 and is_gemma(config):
            data = data + 1
        kind = embedding_type if ours == "token_embd.weight" else matrix_type
        if data.ndim == 1:
            kind = gguf.GGMLQuantizationType.F32
        data = quantise(np.ascontiguousarray(data), kind)
        writer.add_tensor(ours, data, raw_dtype=kind)
    for name, factors in longrope_factors(config).items():
        writer.add_tensor(name, factors)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def longrope_factors(config):
    rope = config.get("rope_scaling", {})
    if rope.get("rope_type") != "longrope":
        return {}
    return {f"rope_factors_{n}.weight": np.array(rope[f"{n}_factor"], np.float32) for n in ("short", "long")}


def write_longrope_keys(writer, config):
    """Like llama.cpp's converter of Phi-3, writes the lengths and the attention factor, but no type."""
    original = config["original_max_position_embeddings"]
    scale = config["max_position_embeddings"] / original
    writer.add_rope_scaling_orig_ctx_len(original)
    writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(scale) / math.log(original)))
    writer.add_sliding_window(config["sliding_window"] or 0)


def write_gemma_keys(writer, config):
    """Like llama.cpp's converters. They do not write the pattern, because all Gemma 3 have 6, but readers read it."""
    writer.add_sliding_window(config["sliding_window"])
    if "sliding_window_pattern" in config:
        writer.add_sliding_window_pattern(config["sliding_window_pattern"])
    if config["attn_logit_softcapping"]:
        writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
    if config["final_logit_softcapping"]:
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    if rope := config.get("rope_scaling"):
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if "rope_local_base_freq" in config:
        writer.add_rope_freq_base_swa(config["rope_local_base_freq"])


def write_gguf_keys(writer, config, matrix_type):
    writer.add_name("tiny random " + config["model_type"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    if "head_dim" in config:
        writer.add_key_length(config["head_dim"])
        writer.add_value_length(config["head_dim"])
    else:
        writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    writer.add_vocab_size(config["vocab_size"])
    if config["model_type"] == "phi3":
        write_longrope_keys(writer, config)
    if is_gemma(config):
        write_gemma_keys(writer, config)
    name = matrix_type.name + ("_M" if matrix_type.name in ("Q4_K", "Q5_K") else "")
    file_type = "ALL_F32" if name == "F32" else f"MOSTLY_{name}"
    writer.add_file_type(gguf.LlamaFileType[file_type])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def write_gguf_vocabulary(writer):
    tokens = tiny_tokens()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in SPECIALS else 1 for token in tokens])
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(EOS)
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def read_gguf(path, config):
    """The weights of a GGUF file in f32 as gguf-py dequantises them, with Hugging Face's names and order of rows."""
    theirs = {ours: name for name, ours in gguf_names(config).items()}
    weights = {}
    for tensor in gguf.GGUFReader(path).tensors:
        if tensor.name in longrope_factors(config):
            continue
        data = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        if heads := heads_of(tensor.name, config):
            data = unpermute(data, heads)
        if data.ndim == 1 and is_gemma(config):
            data = data - 1
        weights[theirs.pop(tensor.name)] = torch.from_numpy(np.array(data, dtype=np.float32))
    assert not theirs, f"{path} lacks {sorted(theirs)}"
    return weights


def folder_bytes(path):
    return sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file())
