#!/usr/bin/env python3
"""Writes tests/golden/tokenizer/families: for each family of tokenizers, a small one that is trained here, as
tokenizer.json and as a GGUF vocabulary, with the ids and texts that Hugging Face's `tokenizers` makes with it.

    pip install tokenizers==0.23.3 gguf==0.19.0
    scripts/goldens/make_family_goldens.py
"""

import json
import pathlib
import shutil

import gguf
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

import reference_tokenizers as reference
from make_tokenizer_goldens import TEXTS, TRAINING, check_versions

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "tokenizer" / "families"
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
SPECIAL = ["<unk>", "<s>", "</s>"]
MARKERS = ["<|im_start|>", "<|im_end|>"]
MORE_TEXTS = ["\u2581", "a\u2581b \u2581", "<s>", " <s> a</s>b", "a<s>", "<unk>", "<0x41>", "a <0x0A>", "  the  ship",
              "<|im_end|>  \n the",
              "\u00b2\u00b3 \u00bd 1234 12a345", "$a+=<b>^c`|~ \u3002\u3001\uff01", "e\u0301\u0301 \u0e33\u0903",
              "корабль большой \u00b2", "l" * 71, "e" * 71, "ship" * 15 + "s" * 5]


def trained(pre_tokenizer, normalizer, size, alphabet):
    """(tokens, merges) of a model that is trained on TRAINING."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TRAINING, trainer)
    state = json.loads(tokenizer.to_str())["model"]
    return list(state["vocab"]), [tuple(merge) for merge in state["merges"]]


def write_gguf(path, model, tokens, types, **fields):
    writer = gguf.GGUFWriter(path, fields.get("architecture", "llama"))
    writer.add_tokenizer_model(model)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_bos_token_id(tokens.index(fields["bos"]))
    writer.add_add_bos_token(True)
    if "pre" in fields:
        writer.add_tokenizer_pre(fields["pre"])
        writer.add_token_merges([" ".join(merge) for merge in fields["merges"]])
    else:
        writer.add_token_scores(fields["scores"])
        writer.add_add_space_prefix(fields["space"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def write(name, tokenizer, bos, shows_special=False):
    """shows_special: a decoded text shows special tokens, since `tokenizers` does not leave out "normalized" ones."""
    reference.add_bos(tokenizer, bos)
    reference.save(tokenizer, OUT / name)
    found = []
    for parsed, plain in zip(*[iter(reference.cases(tokenizer, TEXTS + MORE_TEXTS))] * 2):
        case = {"text": parsed["text"], "ids": parsed["ids"]}
        if plain["ids"] != parsed["ids"]:
            case["plain"] = plain["ids"]
        if parsed.get("decoded", parsed["text"]) != parsed["text"]:
            case["decoded"] = parsed["decoded"]
        names = {tokenizer.id_to_token(i).removeprefix(reference.SIGN) for i in parsed["ids"]}
        special = not names.isdisjoint(SPECIAL + MARKERS)
        if "decoded" not in parsed or (shows_special and special):
            case["decoded"] = None  # not compared; nor if the bytes are not whole code points
        found.append(case)
    rows = ",\n".join(json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in found)
    bos_ids = json.dumps(tokenizer.encode("Hello").ids)
    text = f'{{"with_bos": {bos_ids}, "cases": [\n{rows}\n]}}\n'
    (OUT / name / "cases.json").write_text(text, encoding="utf-8")


def byte_level(pre):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    # Merges that GPT-2's splits allow. Some of them cross the splits of the family, and must not happen there.
    tokens, merges = trained(reference.byte_level(), None, 420, alphabet)
    tokenizer = reference.byte_level_bpe(tokens, merges, pre)
    reference.add_tokens(tokenizer, MARKERS, special=True)
    reference.add_tokens(tokenizer, ["<tool>"], special=False)
    (OUT / pre).mkdir(parents=True)
    write_gguf(OUT / pre / "vocabulary.gguf", "gpt2", tokens + MARKERS + ["<tool>"],
               [NORMAL] * len(tokens) + [CONTROL] * 2 + [USER_DEFINED], pre=pre, merges=merges, bos=MARKERS[0])
    write(pre, tokenizer, MARKERS[0])


def sentencepiece(name, form, rstrip=False, normalized=False):
    spaces = normalizers.Replace(" ", reference.SIGN)
    pieces, _ = trained(pre_tokenizers.Metaspace(split=True), spaces, 420, [])
    singles = [piece for piece in pieces if len(piece) == 1]
    pieces = [piece for piece in pieces if len(piece) > 1] + singles  # in SentencePiece's order
    tokens = SPECIAL + [f"<0x{byte:02X}>" for byte in range(256)] + pieces
    scores = [0.0] * (len(tokens) - len(pieces)) + [-float(i) for i in range(len(pieces))]
    tokenizer = reference.sentencepiece_bpe(tokens, reference.merges_of_scores(tokens, scores), form)
    reference.add_tokens(tokenizer, ["<unk>", "<s>"], special=True, normalized=normalized)
    reference.add_tokens(tokenizer, ["</s>"], special=True, rstrip=rstrip, normalized=normalized)
    reference.add_tokens(tokenizer, MARKERS, special=True, rstrip=rstrip)
    reference.add_tokens(tokenizer, ["<tool>"], special=False, rstrip=rstrip)
    (OUT / name).mkdir(parents=True)
    if form in ("prepend", "none") and not normalized:
        types = [UNKNOWN, CONTROL, CONTROL] + [BYTE] * 256 + [NORMAL] * len(pieces) + [CONTROL] * 2 + [USER_DEFINED]
        write_gguf(OUT / name / "vocabulary.gguf", "llama", tokens + MARKERS + ["<tool>"], types,
                   scores=scores + [-1000.0] * 3, space=form == "prepend", bos="<s>",
                   architecture="phi3" if rstrip else "llama")
    write(name, tokenizer, "<s>", shows_special=normalized)


def main():
    check_versions()
    shutil.rmtree(OUT, ignore_errors=True)
    for pre in ("deepseek-llm", "deepseek-coder", "falcon", "starcoder", "qwen35"):
        byte_level(pre)
    sentencepiece("llama-2", "prepend")
    sentencepiece("llama-2-normalized", "prepend", normalized=True)
    sentencepiece("mistral", "metaspace")
    sentencepiece("mistral-always", "metaspace always")
    sentencepiece("phi-3", "prepend", rstrip=True)
    sentencepiece("gemma", "none")


if __name__ == "__main__":
    main()
