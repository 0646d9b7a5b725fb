#!/usr/bin/env python3
"""Makes the whole-model goldens: tiny random models of each architecture with what PyTorch computes from them in
float32, and the greedy continuations of real ones. Needs requirements.txt. The same versions write the same bytes.

  make_goldens.py --out tests/golden --models models [--only tiny|smollm2|models]
"""

import argparse
from importlib.metadata import version
from pathlib import Path

import torch
import transformers
from gguf import GGMLQuantizationType
from transformers.utils import logging

import goldens_files as files
import goldens_fp8 as fp8
from goldens_models import make_models
from goldens_smollm2 import make_smollm2

PROMPT_LENGTH = 208  # thirteen KV pages of 16
GREEDY_PROMPT, GREEDY_TOKENS = 20, 24
# A greedy golden with two near-equal logits would test rounding, not the model.
GREEDY_MARGIN = 1e-2

COMMON = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 288,
    "hidden_size": 64,
    "hidden_act": "silu",
    "bos_token_id": 1,
    "eos_token_id": files.EOS,
}

GEMMA = {
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 64,
    "max_position_embeddings": 512,
    "hidden_activation": "gelu_pytorch_tanh",
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": True,
}

# name -> config.json as written, type of the weights, shards, seed. gguf: the type of a GGUF file to write as well, and
# what differs in the configuration of its model. lengths: of the prompts for logits and for greedy tokens, if the model
# does not compute the same for all lengths.
TINY = {
    "tiny-llama": {
        "config": COMMON | {
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 160,
            "max_position_embeddings": 512,
            "rms_norm_eps": 1e-5,
            "rope_theta": 100000.0,
            "tie_word_embeddings": True,
            "torch_dtype": "float32",
        },
        "dtype": torch.float32, "shards": 1, "seed": 1,
    },
    # Wavelengths of 6 to 35000 tokens: frequencies stay if their wavelength is below 16, are divided by 8 if it is
    # above 64, and are blended between.
    "tiny-llama3": {
        "config": COMMON | {
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "intermediate_size": 96,
            "max_position_embeddings": 512,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "rope_scaling": {
                "factor": 8.0,
                "high_freq_factor": 4.0,
                "low_freq_factor": 1.0,
                "original_max_position_embeddings": 64,
                "rope_type": "llama3",
            },
            "attention_bias": True,
            "mlp_bias": True,
            "eos_token_id": [0, files.EOS],
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
        },
        "dtype": torch.bfloat16, "shards": 2, "seed": 2,
    },
    "tiny-linear": {
        "config": COMMON | {
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "head_dim": 16,
            "intermediate_size": 96,
            "max_position_embeddings": 1024,
            "rms_norm_eps": 1e-6,
            "rope_parameters": {"factor": 4.0, "rope_theta": 10000.0, "rope_type": "linear"},
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": True,
            "dtype": "float16",
        },
        "dtype": torch.float16, "shards": 1, "seed": 3,
    },
    # Each head of q and k has a norm.
    "tiny-qwen3": {
        "config": COMMON | {
            "architectures": ["Qwen3ForCausalLM"],
            "model_type": "qwen3",
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 48,
            "intermediate_size": 96,
            "max_position_embeddings": 512,
            "rms_norm_eps": 1e-6,
            "rope_theta": 1000000.0,
            "attention_bias": False,
            "use_sliding_window": False,
            "sliding_window": None,
            "tie_word_embeddings": True,
            "torch_dtype": "bfloat16",
        },
        "dtype": torch.bfloat16, "shards": 1, "seed": 6,
        "gguf": ("q8_0", {}),
    },
    # All layers have a window, which is shorter than the prompts and not a multiple of a page.
    "tiny-mistral": {
        "config": COMMON | {
            "architectures": ["MistralForCausalLM"],
            "model_type": "mistral",
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "intermediate_size": 64,
            "max_position_embeddings": 512,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "sliding_window": 37,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
        },
        "dtype": torch.bfloat16, "shards": 1, "seed": 7,
    },
    # q, k and v have biases; only layers 1 and 2 have a window.
    "tiny-qwen2": {
        "config": COMMON | {
            "architectures": ["Qwen2ForCausalLM"],
            "model_type": "qwen2",
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "head_dim": 16,
            "intermediate_size": 64,
            "max_position_embeddings": 512,
            "rms_norm_eps": 1e-6,
            "rope_theta": 1000000.0,
            "use_sliding_window": True,
            "sliding_window": 29,
            "max_window_layers": 1,
            "tie_word_embeddings": True,
            "torch_dtype": "bfloat16",
        },
        "dtype": torch.bfloat16, "shards": 1, "seed": 8,
        # GGUF has no key for the window of a Qwen2.
        "gguf": ("q8_0", {"use_sliding_window": False}),
    },
    # One tensor for q, k and v, and one for gate and up; longrope, whose long factors apply to more than 128 positions;
    # a window.
    "tiny-phi3": {
        "config": COMMON | {
            "architectures": ["Phi3ForCausalLM"],
            "model_type": "phi3",
            "num_hidden_layers": 2,
            "hidden_size": 32,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "intermediate_size": 64,
            "max_position_embeddings": 512,
            "original_max_position_embeddings": 128,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "rope_scaling": {
                "rope_type": "longrope",
                "short_factor": [1.0, 1.05, 1.1, 1.2, 1.35, 1.5, 1.8, 2.2],
                "long_factor": [1.1, 1.4, 2.0, 3.5, 5.0, 8.0, 12.0, 16.0],
            },
            "sliding_window": 100,
            "pad_token_id": 0,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
        },
        "dtype": torch.bfloat16, "shards": 1, "seed": 9,
        "gguf": ("q8_0", {}),
        "lengths": {"": (120, GREEDY_PROMPT), ".long": (PROMPT_LENGTH, 140)},
    },
    # The caps are low enough to bend these scores and logits; every other layer has a window.
    "tiny-gemma2": {
        "config": COMMON | GEMMA | {
            "architectures": ["Gemma2ForCausalLM"],
            "model_type": "gemma2",
            "num_hidden_layers": 2,
            "rms_norm_eps": 1e-6,
            "rope_theta": 10000.0,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 1.5,
            "query_pre_attn_scalar": 24,
            "sliding_window": 37,
        },
        "dtype": torch.bfloat16, "shards": 1, "seed": 10,
        "gguf": ("q8_0", {"query_pre_attn_scalar": 16}), # GGUF has no key for it
    },
    # Layers with a window rotate with a base of their own; the others have scaled frequencies.
    "tiny-gemma3": {
        "config": COMMON | GEMMA | {
            "architectures": ["Gemma3ForCausalLM"],
            "model_type": "gemma3_text",
            "num_hidden_layers": 3,
            "rms_norm_eps": 1e-6,
            "rope_theta": 200000.0,
            "rope_local_base_freq": 5000.0,
            "rope_scaling": {"rope_type": "linear", "factor": 4.0},
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
            "query_pre_attn_scalar": 16,
            "sliding_window": 29,
            "sliding_window_pattern": 2,
        },
        "dtype": torch.bfloat16, "shards": 1, "seed": 11,
        "gguf": ("q8_0", {}),
    },
}

# For GGUF files only: rows of 256, which the K types need.
TINY_K = COMMON | {
    "num_hidden_layers": 1,
    "hidden_size": 256,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "intermediate_size": 256,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_theta": 100000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "float32",
}
TINY_K_SEED = 5

# file suffix -> type of the matrices, type of the embedding (4-bit files keep theirs in Q8_0, as SmolLM2's does)
Q = GGMLQuantizationType
GGUF_TYPES = {
    "f32": (Q.F32, Q.F32),
    "f16": (Q.F16, Q.F16),
    "bf16": (Q.BF16, Q.BF16),
    "q8_0": (Q.Q8_0, Q.Q8_0),
    "q4_0": (Q.Q4_0, Q.Q8_0),
    "q4_1": (Q.Q4_1, Q.Q8_0),
    "q5_0": (Q.Q5_0, Q.Q5_1),
    "iq4_nl": (Q.IQ4_NL, Q.Q8_0),
}
K_TYPES = {
    "q4_k": (Q.Q4_K, Q.Q6_K),
    "q5_k": (Q.Q5_K, Q.Q6_K),
    "q6_k": (Q.Q6_K, Q.Q8_0),
}


def model_class(config):
    return getattr(transformers, config["architectures"][0])


def model_of(config, **options):
    return model_class(config)(model_class(config).config_class(**config, **options))


def random_weights(config, seed):
    """Matrices have a standard deviation of 0.16 at a width of 64 (biases 0.2, norms 0.5 to 1.5). So attention is
    neither flat nor one-hot, and the residual stream soon forgets the input token, which a tied output would otherwise
    repeat for ever."""
    torch.manual_seed(seed)
    shapes = model_of(config).state_dict()
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name in sorted(shapes):
        noise = torch.randn(shapes[name].shape, generator=generator)
        if name == "lm_head.weight" and config["tie_word_embeddings"]:
            continue
        if "norm" in name:
            weights[name] = 0.5 * torch.tanh(noise) + (0 if files.is_gemma(config) else 1)
        elif name.endswith(".bias"):
            weights[name] = 0.2 * noise
        else:
            weights[name] = 0.16 * (64 / config["hidden_size"]) ** 0.5 * noise
        if files.is_gemma(config) and "embed" in name:
            weights[name] *= 0.4  # the model multiplies it by sqrt(hidden_size)
    return weights


def random_ids(seed, n):
    return torch.randint(3, 288, (n,), generator=torch.Generator().manual_seed(seed))


class Steering:
    """One operation on the outputs of some blocks, for positions from `start` on. `coef` is 0 on the other blocks."""

    def __init__(self, op, n_layers, width, coef, seed, unit):
        generator = torch.Generator().manual_seed(seed)
        self.op, self.coef, self.start = op, torch.tensor(coef), 0
        self.direction = torch.randn(n_layers, width, generator=generator)
        if unit:
            self.direction /= self.direction.norm(dim=1, keepdim=True)
        self.target = 4 * torch.randn(n_layers, generator=generator)

    def decide(self, model, prompt):
        """Sets coef for this prompt, if there is a gate."""

    def change(self, h, layer):
        u = self.direction[layer].to(h.dtype)
        along = (h @ u)[..., None]
        return {
            "add": lambda: u,
            "ablate": lambda: -along * u,
            "clamp": lambda: (self.target[layer].to(h.dtype) - along) * u,
            "one_sided": lambda: -torch.relu(along) * u,
        }[self.op]()

    def __call__(self, h, layer):
        c = self.coef[layer].to(h.dtype)
        steered = (torch.arange(h.shape[-2]) >= self.start)[:, None] & (c != 0)
        return torch.where(steered, h + c * self.change(h, layer), h)

    def tensors(self):
        out = {"coef": self.coef}
        for layer in self.coef.nonzero().flatten().tolist():
            out[f"direction.{layer}"] = self.direction[layer].clone()
            if self.op == "clamp":
                out[f"target.{layer}"] = self.target[layer : layer + 1].clone()
        return out


class Affine(Steering):
    """LoReFT: h + c * R^T (W h + b - R h), where R has orthonormal rows."""

    def __init__(self, n_layers, width, coef, seed, rank=4):
        super().__init__("affine", n_layers, width, coef, seed, unit=False)
        generator = torch.Generator().manual_seed(seed)
        self.direction = torch.linalg.qr(torch.randn(n_layers, width, rank, generator=generator)).Q.mT.contiguous()
        self.w = torch.randn(n_layers, rank, width, generator=generator) / width**0.5
        self.b = 2 * torch.randn(n_layers, rank, generator=generator)

    def change(self, h, layer):
        r, w, b = (t[layer].to(h.dtype) for t in (self.direction, self.w, self.b))
        return (h @ w.mT + b - h @ r.mT) @ r

    def tensors(self):
        out = super().tensors()
        for layer in self.coef.nonzero().flatten().tolist():
            out |= {f"affine.{layer}.W": self.w[layer].clone(), f"affine.{layer}.b": self.b[layer].clone()}
        return out


class Rotate(Steering):
    """Angular steering: turns the part of h in the plane of two orthonormal rows by a share of the shortest way to an
    angle."""

    def __init__(self, n_layers, width, coef, seed):
        super().__init__("rotate", n_layers, width, coef, seed, unit=False)
        generator = torch.Generator().manual_seed(seed)
        self.direction = torch.linalg.qr(torch.randn(n_layers, width, 2, generator=generator)).Q.mT.contiguous()
        self.target = torch.randn(n_layers, 2, generator=generator)

    def __call__(self, h, layer):
        basis, target, share = (t[layer].to(h.dtype) for t in (self.direction, self.target, self.coef))
        along = h @ basis.mT
        plane, goal = torch.view_as_complex(along), torch.view_as_complex(target)
        way = torch.remainder(goal.angle() - plane.angle() + torch.pi, 2 * torch.pi) - torch.pi
        turned = torch.view_as_real(torch.polar(plane.abs(), plane.angle() + share * way))
        steered = (torch.arange(h.shape[-2]) >= self.start)[:, None] & (share != 0)
        return torch.where(steered, h - along @ basis + turned @ basis, h)

    def tensors(self):
        layers = self.coef.nonzero().flatten().tolist()
        return super().tensors() | {f"target.{layer}": self.target[layer].clone() for layer in layers}


class Keep(Steering):
    """An add that keeps the length of h."""

    def change(self, h, layer):
        c = self.coef[layer].to(h.dtype)
        added = h + c * super().change(h, layer)
        return (added * (h.norm(dim=-1, keepdim=True) / added.norm(dim=-1, keepdim=True)) - h) / c


class MlpGated(Affine):
    """An affine policy gated by the paper's controller: an MLP on the last prompt token's states, without steering."""

    ALPHA, UNITS = 2.0, 24

    def __init__(self, n_layers, width, weight, observed, bounded, seed):
        super().__init__(n_layers, width, weight, seed)
        generator = torch.Generator().manual_seed(seed + 1)
        self.weight, self.observed, self.bounded = torch.tensor(weight), observed, bounded
        self.fc1, self.fc2 = (
            torch.nn.Linear(len(observed) * width, self.UNITS).double(),
            torch.nn.Linear(self.UNITS, 1 + n_layers).double(),
        )
        for layer in (self.fc1, self.fc2):
            for parameter in layer.parameters():
                noise = torch.randn(parameter.shape, generator=generator) / parameter.shape[-1] ** 0.5
                parameter.copy_(noise.double())

    def decide(self, model, prompt):
        hidden = forward(model, prompt)[1]
        x = torch.cat([hidden[layer][-1] for layer in self.observed]).double()
        z = self.fc2(torch.relu(self.fc1(x)))
        self.output, self.s = z[:1].float(), (z[:1].sigmoid() if self.bounded else z[:1]).float()
        self.coef = (self.ALPHA * self.s * self.weight * z[1:].sigmoid()).float()

    def tensors(self):
        out = super().tensors()
        for name, layer in (("fc1", self.fc1), ("fc2", self.fc2)):
            out |= {f"gate.{name}.{k}": v.detach().float() for k, v in layer.named_parameters()}
        return out | {"weight": self.weight, "output": self.output, "s": self.s}


def forward(model, ids, steering=None):
    """Logits [T,V] and the outputs of the blocks [L][T,d]. Hooks take the outputs, because the last hidden state of the
    library comes after the norm."""
    hidden = []

    def hook(_module, _args, output):
        assert torch.is_tensor(output)
        output = steering(output, len(hidden)) if steering else output
        hidden.append(output[0].clone())
        return output

    handles = [layer.register_forward_hook(hook) for layer in model.model.layers]
    try:
        logits = model(ids[None], use_cache=False).logits[0]
    finally:
        for handle in handles:
            handle.remove()
    return logits, hidden


def greedy(model, prompt, steering=None, start=0):
    """GREEDY_TOKENS arg-maxes, each from a full pass over all tokens before it, steered from position `start` on.
    None if they would make a poor golden: a near-tie, a loop or an end token."""
    ids = prompt
    if steering:
        steering.decide(model, prompt)
        steering.start = start
    for _ in range(GREEDY_TOKENS):
        best = forward(model, ids, steering)[0][-1].topk(2)
        ids = torch.cat([ids, best.indices[:1]])
        if best.values[0] - best.values[1] < GREEDY_MARGIN or best.indices[0] in (0, files.EOS):
            ids = None
            break
    if steering:
        steering.start = 0
    return None if ids is None or len(set(ids[len(prompt) :].tolist())) < 8 else ids[len(prompt) :]


def greedy_goldens(model, seed, steering, n):
    """The first prompt, from this seed on, whose continuations all make good goldens."""
    starts = {"greedy_ids": 0}
    if steering:
        starts = {"greedy_ids.all": 0, "greedy_ids.last": n - 1, "greedy_ids.generation": n}
    for attempt in range(200):
        prompt = random_ids(seed + 1000 + attempt, n)
        out = {"greedy_prompt": prompt}
        for name, start in starts.items():
            out[name] = greedy(model, prompt, steering, start)
            if out[name] is None:
                break
        else:
            different = {tuple(out[name].tolist()) for name in starts}
            if len(different) == len(starts):
                return {name: ids.int() for name, ids in out.items()}
    raise RuntimeError("no prompt gives good greedy goldens: choose another seed for the weights")


def positions(n, step):
    return torch.unique(torch.cat([torch.arange(0, n, step), torch.tensor([n - 1])]))


def record(model, seed, what, steering=None, logits_step=8, lengths=(PROMPT_LENGTH, GREEDY_PROMPT)):
    """The tensors of one golden file."""
    ids = random_ids(seed, lengths[0])
    if steering:
        steering.decide(model, ids)
    logits, hidden = forward(model, ids, steering)
    exact = forward(model.double(), ids, steering)
    model.float()
    rel = [((a - b).norm() / b.norm()).item() for a, b in zip([logits, *hidden], [exact[0], *exact[1]])]
    at_logits, at_hidden = positions(len(ids), logits_step), positions(len(ids), 16)
    out = {
        "ids": ids.int(),
        "positions_logits": at_logits.int(),
        "logits": logits[at_logits],
        "positions_hidden": at_hidden.int(),
    }
    out |= {f"hidden.{layer}": h[at_hidden] for layer, h in enumerate(hidden)}
    if steering:
        out |= steering.tensors()
    if lengths[1]:
        out |= greedy_goldens(model, seed, steering, lengths[1])
    print(f"  {what}: logits std {logits.std():.2f}, float32 against float64 {max(rel):.1e} relative")
    return out


def write_golden(path, tensors):
    files.save({name: tensor.contiguous() for name, tensor in tensors.items()}, path)


def make_tiny(out, name):
    spec = TINY[name]
    directory, config = out / name, spec["config"]
    weights = random_weights(config, spec["seed"])
    files.write_directory(directory, config, {k: w.to(spec["dtype"]) for k, w in weights.items()}, spec["shards"])
    # Read the files back: the golden is what the library makes of the files, not of what was meant to be in them.
    model = model_class(config).from_pretrained(directory, dtype=torch.float32, attn_implementation="eager").eval()
    check_loaded(model, config, weights, spec["dtype"])
    record_lengths(directory / "golden", model, spec, name)
    if name == "tiny-llama":
        make_steered(directory, model, spec)
        for suffix, types in GGUF_TYPES.items():
            make_gguf(directory / f"tiny-llama.{suffix}.gguf", types, config, weights, spec)
    if name == "tiny-gemma2":
        steering = Steering("add", 2, config["hidden_size"], [0.75, -1.5], spec["seed"] + 100, unit=False)
        golden = record(model, spec["seed"], "steered add", steering, logits_step=16, lengths=(PROMPT_LENGTH, 0))
        write_golden(directory / "steered_add.safetensors", golden)
    if "gguf" in spec:
        suffix, changes = spec["gguf"]
        make_gguf(directory / f"{name}.{suffix}.gguf", GGUF_TYPES[suffix], config | changes, weights, spec)
    print(f"{directory}: {files.folder_bytes(directory)} bytes")


def make_vision(out):
    """The model of tiny-gemma3 as the text part of a model with vision: transformers' own logits without an image. They
    do not depend on the vision tower, so all of it but one tensor is left out."""
    spec = TINY["tiny-gemma3"]
    directory, seed = out / "tiny-gemma3-vision", spec["seed"]
    text = {k: v for k, v in spec["config"].items() if k not in ("architectures", "eos_token_id", "torch_dtype")}
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1,
        "image_size": 8, "patch_size": 4, "model_type": "siglip_vision_model"}
    config = {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "model_type": "gemma3",
        "text_config": text,
        "vision_config": vision,
        "mm_tokens_per_image": 1,
        "image_token_index": 1,
        "boi_token_index": 3,
        "eoi_token_index": 4,
        "eos_token_id": spec["config"]["eos_token_id"],
        "torch_dtype": "bfloat16",
    }
    weights = random_weights(spec["config"], seed)
    stored = {f"language_model.{k}": w.to(spec["dtype"]) for k, w in weights.items()}
    stored["multi_modal_projector.mm_input_projection_weight"] = torch.zeros(16, 32, dtype=spec["dtype"])
    files.write_directory(directory, config, stored, 1)
    model = model_class(config).from_pretrained(directory, dtype=torch.float32, attn_implementation="eager").eval()
    state = model.model.language_model.state_dict()
    for name, tensor in weights.items():
        assert torch.equal(state[name.removeprefix("model.")], tensor.to(spec["dtype"]).float()), name
    ids = random_ids(seed, PROMPT_LENGTH)
    at = positions(len(ids), 16)
    logits = model(input_ids=ids[None], use_cache=False).logits[0]
    write_golden(directory / "golden.safetensors",
        {"ids": ids.int(), "positions_logits": at.int(), "logits": logits[at]})
    print(f"{directory}: {files.folder_bytes(directory)} bytes")


def check_loaded(model, config, weights, dtype):
    rope = model.config.rope_parameters
    expected = config.get("rope_parameters") or config.get("rope_scaling") or {"rope_type": "default"}
    if "full_attention" in rope:  # given by type of layer
        assert rope["sliding_attention"] == {"rope_type": "default", "rope_theta": config["rope_local_base_freq"]}
        rope = rope["full_attention"]
    expected = {"rope_theta": config.get("rope_theta", rope["rope_theta"])} | expected
    assert {k: rope[k] for k in expected} == expected, f"RoPE was read as {rope}"
    state = model.state_dict()
    for name, tensor in weights.items():
        assert torch.equal(state[name], tensor.to(dtype).float()), f"{name} was read differently"


def make_steered(directory, model, spec):
    n_layers, width = spec["config"]["num_hidden_layers"], spec["config"]["hidden_size"]
    # `add` leaves the middle block alone. `ablate` and `clamp` leave the last one alone, so only its input is steered.
    seed = spec["seed"] + 100
    steerings = {
        op: Steering(op, n_layers, width, coef, seed, unit=op != "add")
        for op, coef in {
            "add": [0.75, 0.0, -1.5],
            "ablate": [1.0, 1.0, 0.0],
            "clamp": [1.0, 0.5, 0.0],
            "one_sided": [1.0, 1.5, 0.0],
        }.items()
    }
    steerings["affine"] = Affine(n_layers, width, [0.5, 0.0, 1.0], seed)
    steerings["rotate"] = Rotate(n_layers, width, [1.0, 0.5, 0.0], seed)
    steerings["add_keep"] = Keep("add", n_layers, width, [0.75, 0.0, -1.5], seed, unit=False)
    # One gate reads before the layers that it steers, the other reads after them as well.
    steerings["mlp"] = MlpGated(n_layers, width, [0.0, 1.0, 0.5], (0,), True, seed)
    steerings["mlp_unbounded"] = MlpGated(n_layers, width, [1.0, 0.0, 0.75], (0, 2), False, seed)
    for op, steering in steerings.items():
        golden = record(model, spec["seed"], f"steered {op}", steering, logits_step=16)
        write_golden(directory / f"steered_{op}.safetensors", golden)


def record_lengths(stem, model, spec, what, **options):
    for suffix, lengths in spec.get("lengths", {"": (PROMPT_LENGTH, GREEDY_PROMPT)}).items():
        golden = record(model, spec["seed"], what + suffix, lengths=lengths, **options)
        write_golden(stem.with_name(f"{stem.name}{suffix}.safetensors"), golden)


def make_gguf(path, types, config, weights, spec):
    """Writes the file, and for each type but f32 (which has the directory's golden) a golden from its dequantised
    weights."""
    files.write_gguf(path, config, weights, *types)
    read = files.read_gguf(path, config)
    rel = max(((read[k] - weights[k]).norm() / weights[k].norm()).item() for k in weights)
    print(f"  {path.name}: weights {rel:.1e} relative from f32")
    if types[0] == Q.F32:
        assert rel == 0, "q and k were not permuted and unpermuted alike"
        return
    model = model_of(config, attn_implementation="eager").eval()
    model.load_state_dict(read, strict=False)
    model.tie_weights()
    stem = path.with_name(path.stem.replace(path.parent.name, "golden"))
    record_lengths(stem, model, spec, path.name, logits_step=16)


def make_k(out):
    """A model for the K types. It has no directory, so the only goldens are those of the files."""
    directory = out / "tiny-k"
    directory.mkdir(parents=True, exist_ok=True)
    weights = random_weights(TINY_K, TINY_K_SEED)
    for suffix, types in K_TYPES.items():
        make_gguf(directory / f"tiny-k.{suffix}.gguf", types, TINY_K, weights, {"seed": TINY_K_SEED})
    print(f"{directory}: {files.folder_bytes(directory)} bytes")


def make_fp8(out, name):
    spec = fp8.MODELS[name]
    directory, config = out / name, spec["config"]
    stored, weights = fp8.quantise(random_weights(config, spec["seed"]), spec["form"], "every" in spec)
    files.write_directory(directory, config, stored, 1)
    model = model_of(config, attn_implementation="eager").eval()
    model.load_state_dict(weights, strict=False)
    model.tie_weights()
    record_lengths(directory / "golden", model, spec, name, logits_step=16)
    print(f"{directory}: {files.folder_bytes(directory)} bytes")


def check_versions():
    for line in (Path(__file__).parent / "requirements.txt").read_text().splitlines():
        if "==" in line and not line.startswith("#"):
            name, pinned = line.split("==")
            found = version(name).split("+")[0]
            assert found == pinned, f"{name} is {found}, requirements.txt says {pinned}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="tests/golden")
    parser.add_argument("--models", type=Path, help="the folder that `make models` fills")
    parser.add_argument("--only", choices=["tiny", "smollm2", "models"])
    args = parser.parse_args()
    check_versions()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    with torch.no_grad():
        if args.only in (None, "tiny"):
            for name in TINY:
                make_tiny(args.out, name)
            make_vision(args.out)
            make_k(args.out)
            for name in fp8.MODELS:
                make_fp8(args.out, name)
        if args.only != "tiny" and args.models is None:
            parser.error("--models is needed, or --only tiny")
        if args.only in (None, "smollm2"):
            make_smollm2(args.out / "smollm2", args.models / "SmolLM2-135M-Instruct.Q4_1.gguf")
        if args.only in (None, "models"):
            make_models(args.out / "models", args.models)


if __name__ == "__main__":
    main()
