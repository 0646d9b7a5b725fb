"""Weights of eight bits as Hugging Face files have them: E4M3 numbers and scales, in the three forms that files come
in, and an embedding and an output of them. A weight is its number times its scale, in float32."""

import torch
from transformers.integrations.finegrained_fp8 import _dequantize_fp8_weight

import goldens_files as files

SPAN = 128
LARGEST = torch.finfo(torch.float8_e4m3fn).max

BASE = {
    "vocab_size": 288,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "hidden_act": "silu",
    "bos_token_id": 1,
    "eos_token_id": files.EOS,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}

# form: of the scales; every: of embedding and output too. No width is a multiple of 128 in the first model,
# so its last blocks are smaller.
MODELS = {
    "tiny-fp8-block": {
        "form": "block", "seed": 21,
        "config": BASE | {
            "architectures": ["Qwen3ForCausalLM"],
            "model_type": "qwen3",
            "hidden_size": 160,
            "num_hidden_layers": 2,
            "head_dim": 48,
            "intermediate_size": 288,
            "rms_norm_eps": 1e-6,
            "quantization_config": {
                "activation_scheme": "dynamic",
                "fmt": "e4m3",
                "quant_method": "fp8",
                "weight_block_size": [SPAN, SPAN],
            },
        },
    },
    "tiny-fp8-channel": {
        "form": "channel", "seed": 22,
        "config": BASE | {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": 64,
            "num_hidden_layers": 1,
            "intermediate_size": 160,
            "rms_norm_eps": 1e-5,
            "quantization_config": {
                "config_groups": {
                    "group_0": {
                        "input_activations": {"dynamic": True, "num_bits": 8, "strategy": "token", "type": "float"},
                        "targets": ["Linear"],
                        "weights": {"dynamic": False, "num_bits": 8, "strategy": "channel", "type": "float"},
                    },
                },
                "format": "float-quantized",
                "ignore": ["lm_head"],
                "kv_cache_scheme": None,
                "quant_method": "compressed-tensors",
                "quantization_status": "compressed",
            },
        },
    },
    "tiny-fp8-tensor": {
        "form": "tensor", "seed": 23,
        "config": BASE | {
            "architectures": ["Qwen2ForCausalLM"],
            "model_type": "qwen2",
            "hidden_size": 64,
            "num_hidden_layers": 1,
            "intermediate_size": 96,
            "rms_norm_eps": 1e-6,
            "quantization_config": {"activation_scheme": "static", "quant_method": "fp8"},
        },
    },
    "tiny-fp8-output": {
        "form": "channel", "seed": 24, "every": True,
        "config": BASE | {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": 64,
            "num_hidden_layers": 1,
            "intermediate_size": 96,
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": False,
            "compression_config": {"format": "float-quantized", "quant_method": "compressed-tensors"},
        },
    },
}


def spread(scales, shape):
    """The scales of blocks, one for each weight."""
    return scales.repeat_interleave(SPAN, 0)[: shape[0]].repeat_interleave(SPAN, 1)[:, : shape[1]]


def block_scales(weight):
    padded = torch.nn.functional.pad(weight.abs(), (0, -weight.shape[1] % SPAN, 0, -weight.shape[0] % SPAN))
    return padded.unflatten(1, (-1, SPAN)).unflatten(0, (-1, SPAN)).amax((1, 3)) / LARGEST


def quantise_one(name, weight, form):
    """What the file has in place of one matrix, and its weights as float32."""
    if form == "block":
        scales = block_scales(weight)
        each = spread(scales, weight.shape)
    elif form == "channel":
        scales = (weight.abs().amax(1, keepdim=True) / LARGEST).bfloat16()
        each = scales.float()
    else:
        scales = each = weight.abs().max() / LARGEST
    numbers = (weight / each).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn)
    stored = {name: numbers, name + ("_scale_inv" if form == "block" else "_scale"): scales}
    if form == "tensor":
        stored[name.removesuffix("weight") + "input_scale"] = torch.tensor(0.25)
    whole = numbers.float() * each
    if form == "block":
        theirs = _dequantize_fp8_weight(numbers, scales, [SPAN, SPAN], torch.float32)
        assert torch.equal(whole, theirs), f"{name}: transformers makes other weights of it"
    return stored, whole


def quantise(weights, form, every):
    """The tensors of the file, and the weights that they stand for in float32. Norms and biases stay, and embedding and
    output but for every."""
    stored, whole = {}, {}
    for name, weight in weights.items():
        if "_proj.weight" in name or (every and weight.dim() == 2):
            parts, whole[name] = quantise_one(name, weight, form)
            stored |= parts
        else:
            stored[name] = weight.bfloat16()
            whole[name] = stored[name].float()
    return stored, whole
