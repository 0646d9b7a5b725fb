"""The part of make_goldens.py that needs the models of `make models`: ids of prompts, greedy continuations and the top
logits on the way, from PyTorch in float32 on the weights that gguf-py dequantises."""

import gguf
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

import goldens_files as files
import reference_tokenizers as tokenizers
from goldens_smollm2 import greedy_case, write_cases

# Numbers, code, accents, other scripts and an emoji, which split differently where a tokenizer's pattern is wrong.
CHAT = [
    "In Python, what does [x * x for x in range(10, 16)] give, and why?",
    "Wie heißt die Hauptstadt von Österreich, und wie viele Menschen wohnten dort 2019?",
    "Complete this C function:\n\n```c\n/* Counts the set bits of x. */\nint popcount(unsigned x)\n{\n```",
    "把“我昨天在图书馆读书。”翻译成英文 🙂",
]
TEXT = [
    "The three largest moons of Jupiter are",
    "def fibonacci(n):\n    \"\"\"The first n numbers, from 0.\"\"\"\n    a, b = 0, 1\n",
    "Rezept für Apfelkuchen. Zutaten: 250 g Mehl, 125 g Butter, 3 Äpfel,",
    "東京は日本の首都です。大阪は 🙂",
]


def fields_of(path):
    return {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()
            if not name.startswith("GGUF.")}


def shape_of(fields, arch):
    """What both configurations have in common."""
    return {
        "vocab_size": len(fields["tokenizer.ggml.tokens"]),
        "hidden_size": fields[f"{arch}.embedding_length"],
        "num_hidden_layers": fields[f"{arch}.block_count"],
        "intermediate_size": fields[f"{arch}.feed_forward_length"],
        "num_attention_heads": fields[f"{arch}.attention.head_count"],
        "num_key_value_heads": fields[f"{arch}.attention.head_count_kv"],
        "max_position_embeddings": fields[f"{arch}.context_length"],
        "rms_norm_eps": fields[f"{arch}.attention.layer_norm_rms_epsilon"],
    }


def load_weights(model, path):
    """Every tensor of the file, and nothing else, becomes a parameter."""
    config = model.config.to_dict()
    read = files.read_gguf(path, config)
    missing, unexpected = model.load_state_dict(read, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    model.tie_weights()
    if missing:
        assert torch.equal(model.state_dict()["lm_head.weight"], read["model.embed_tokens.weight"])
    return model.eval()


def load_qwen(path):
    fields = fields_of(path)
    assert fields["tokenizer.ggml.pre"] == "qwen2"
    untied = any(tensor.name == "output.weight" for tensor in gguf.GGUFReader(path).tensors)
    config = Qwen2Config(**shape_of(fields, "qwen2"), rope_theta=fields["qwen2.rope.freq_base"],
                         tie_word_embeddings=not untied, attn_implementation="eager", use_sliding_window=False)
    assert config.rope_parameters["rope_theta"] == fields["qwen2.rope.freq_base"]
    tokens, types = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    tokenizer = tokenizers.byte_level_bpe(tokens, merges, "qwen2")
    for special, kind in ((True, gguf.TokenType.CONTROL), (False, gguf.TokenType.USER_DEFINED)):
        tokenizers.add_tokens(tokenizer, [t for t, k in zip(tokens, types) if k == kind], special)
    assert tokenizer.get_vocab_size() <= len(tokens)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=fields["tokenizer.chat_template"])
    return load_weights(Qwen2ForCausalLM(config), path), fast


def load_gemma(path):
    fields = fields_of(path)
    assert fields["tokenizer.ggml.model"] == "llama" and not fields["tokenizer.ggml.add_space_prefix"]
    config = Gemma3TextConfig(**shape_of(fields, "gemma3"), head_dim=fields["gemma3.attention.key_length"],
                              rope_theta=fields["gemma3.rope.freq_base"], rope_local_base_freq=10000.0,
                              sliding_window=fields["gemma3.attention.sliding_window"], query_pre_attn_scalar=256,
                              tie_word_embeddings=True, attn_implementation="eager")
    rope = config.rope_parameters
    assert rope["full_attention"]["rope_theta"] == fields["gemma3.rope.freq_base"]
    assert rope["sliding_attention"]["rope_theta"] == 10000.0
    assert config.layer_types.index("full_attention") == 5 and config.final_logit_softcapping is None
    tokens, types = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    merges = tokenizers.merges_of_scores(tokens, fields["tokenizer.ggml.scores"])
    tokenizer = tokenizers.sentencepiece_bpe(tokens, merges, "none")
    for special, kind in ((True, gguf.TokenType.CONTROL), (False, gguf.TokenType.USER_DEFINED)):
        tokenizers.add_tokens(tokenizer, [t for t, k in zip(tokens, types) if k == kind], special)
    tokenizers.add_bos(tokenizer, tokens[fields["tokenizer.ggml.bos_token_id"]])
    return load_weights(Gemma3ForCausalLM(config), path), PreTrainedTokenizerFast(tokenizer_object=tokenizer)


MODELS = {
    "qwen": ("Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf", load_qwen, CHAT),
    "gemma": ("gemma-3-270m.Q4_K_M.gguf", load_gemma, TEXT),
}


def encode(tokenizer, prompt):
    """As chat where the model has a template; else with what the tokenizer puts in front."""
    if not tokenizer.chat_template:
        return prompt, tokenizer.encode(prompt)
    text = tokenizer.apply_chat_template([{"role": "user", "content": prompt}], tokenize=False,
                                         add_generation_prompt=True)
    return text, tokenizer.encode(text, add_special_tokens=False)


def make_models(directory, folder):
    directory.mkdir(parents=True, exist_ok=True)
    for name, (file, load, prompts) in MODELS.items():
        model, tokenizer = load(folder / file)
        cases = []
        for prompt in prompts:
            text, ids = encode(tokenizer, prompt)
            cases.append(greedy_case(model, tokenizer, prompt, text, ids))
        write_cases(directory / f"{name}.json", cases)
    print(f"{directory}: {files.folder_bytes(directory)} bytes")
