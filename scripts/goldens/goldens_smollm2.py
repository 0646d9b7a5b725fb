"""SmolLM2's part of make_goldens.py: chat prompts, ids, greedy continuations and top logits, from the GGUF file."""

import json

import gguf
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

import goldens_files as files

TOKENS, TOP = 32, 10
# Digits, code, accents and an emoji, which split differently if the pattern of a tokenizer is wrong. No continuation
# ends within TOKENS, and no gap between the first two logits is below 0.004 (measured: float32 logits are within 6e-5
# of float64).
PROMPTS = [
    "Explain what 2048 bytes are in kilobytes and why computers use powers of two.",
    "Write a Python function that reverses a string.",
    "Translate 'Où est la bibliothèque ?' into English and explain the grammar.",
    "Describe what people mean when they send the emoji 🏔️ in a message.",
    "Write a short story about a lighthouse keeper who finds a message in a bottle.",
    "Give three reasons why the Roman Empire fell.",
]


def load_tokenizer(path):
    fields = gguf.GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    assert fields["tokenizer.ggml.pre"].contents() == "smollm"
    specials = [token for token, kind in zip(tokens, types) if kind == gguf.TokenType.CONTROL]
    tokenizer = files.byte_level_bpe(tokens, fields["tokenizer.ggml.merges"].contents(), specials)
    assert tokenizer.get_vocab_size() == len(tokens)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, chat_template=fields["tokenizer.chat_template"].contents()
    )


def load_model(path):
    """Loads with the library's own GGUF loader, and compares with the weights that gguf-py dequantises, where the rows
    of q and k are put back in order."""
    model = LlamaForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    config, fields = model.config, gguf.GGUFReader(path).fields
    assert config.rope_parameters["rope_theta"] == fields["llama.rope.freq_base"].contents()
    assert config.rope_parameters["rope_type"] == "default"
    assert abs(config.rms_norm_eps - fields["llama.attention.layer_norm_rms_epsilon"].contents()) < 1e-9
    read = files.read_gguf(path, config.to_dict())
    state = model.state_dict()
    for name, tensor in read.items():
        assert state[name].dtype == torch.float32 and torch.equal(state[name], tensor), f"{name} differs from gguf-py"
    assert torch.equal(state["lm_head.weight"], read["model.embed_tokens.weight"])
    print(f"  {path.name}: {len(read)} tensors equal to gguf-py's")
    return model


def continue_greedily(model, ids):
    """TOKENS arg-maxes and their top logits, computed with the library's cache."""
    out, top, cache, feed = [], [], None, torch.tensor([ids])
    for _ in range(TOKENS):
        step = model(feed, past_key_values=cache, use_cache=True)
        cache, best = step.past_key_values, step.logits[0, -1].topk(TOP)
        out.append(best.indices[0].item())
        top.append(best)
        feed = best.indices[None, :1]
    return out, top


def greedy_case(model, tokenizer, prompt, text, ids):
    """What a golden keeps of a prompt, whose text and ids are what the model reads."""
    greedy_ids, top = continue_greedily(model, ids)
    gaps = [(best.values[0] - best.values[1]).item() for best in top]
    case = {
        "prompt": prompt,
        "text": text,
        "ids": ids,
        "greedy_ids": greedy_ids,
        "greedy_text": tokenizer.decode(greedy_ids),
        "gap": [round(gap, 5) for gap in gaps],
        "top_ids": [best.indices.tolist() for best in top],
        "top_logits": [[round(v, 5) for v in best.values.tolist()] for best in top],
    }
    print(f"  {len(ids)} ids, smallest gap {min(gaps):.4f}: {case['greedy_text']!r}")
    return case


def make_smollm2(directory, path):
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer, model = load_tokenizer(path), load_model(path)
    cases = []
    for prompt in PROMPTS:
        messages = [{"role": "user", "content": prompt}]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert tokenizer.decode(ids) == text
        cases.append(greedy_case(model, tokenizer, prompt, text, ids))
        assert tokenizer.convert_tokens_to_ids("<|im_end|>") not in cases[-1]["greedy_ids"]
    write_cases(directory / "greedy.json", cases)
    print(f"{directory}: {files.folder_bytes(directory)} bytes")


def write_cases(path, cases):
    """Writes one line a field, so that a diff shows a change."""
    lines = []
    for case in cases:
        fields = [f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in case.items()]
        lines.append(" {\n" + ",\n".join(fields) + "\n }")
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
