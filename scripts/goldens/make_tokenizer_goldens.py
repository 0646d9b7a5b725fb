#!/usr/bin/env python3
"""Writes tests/golden/tokenizer: ids from Hugging Face's `tokenizers` that the tests compare with.

    pip install tokenizers==0.23.3 gguf==0.19.0
    scripts/goldens/make_tokenizer_goldens.py SmolLM2-135M-Instruct.Q4_1.gguf

smollm2.json has the ids of the real vocabulary, read from the GGUF file. The folders hold small tokenizers trained
here on the text below, each with a cases.json. A case has a text, ids (with special tokens parsed) and, if they differ,
plain (ids without parsing special tokens).
"""
import hashlib
import json
import os
import sys
from importlib.metadata import version

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

PINNED = {"tokenizers": "0.23.3"}
OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "golden", "tokenizer")

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

TRAINING = [
    "A trim tab is a small flap on a rudder. It turns the rudder, and the rudder turns the ship.",
    "The ship's captain said: \"We'll turn in 10 minutes, and they're ready; I've seen it, I'm sure, don't worry.\"",
    "for (int i = 0; i < n; i++) {\n\tsum += a[i] * b[i];\n}\nreturn sum;\n",
    "def steer(h, d, c):\n    return h + c * d  # the same bits when c == 0\n",
    "Das Ruder wird über eine kleine Klappe bewegt; größere Schiffe brauchen mehr Kraft. Dépêche-toi, le café est prêt.",
    "Маленький руль поворачивает большой корабль. الدفة الصغيرة تدير السفينة الكبيرة. 小さな舵が大きな船を動かす。小舵转动大船。",
    "In 1999, 2024 and 2025 there were 365, 366 and 365 days; pi is 3.14159 and e is 2.71828.",
    "the the the and and turn turning turned steer steering steered ship ships small smaller smallest",
] * 4

TEXTS = [
    "", " ", "  ", "\n", "\n\n", "\r\n", " \r\n \r\n", "\t\t x", "a", "Hello, world!", "Hello  world", " Hello", "Hello ",
    "hello   \n\n   world  ", "The ship's captain said we'll turn; they're ready, I've seen it, I'm sure, he'd go, don't.",
    "THE SHIP'S CAPTAIN: WE'LL, THEY'RE, I'VE, I'M, HE'D, DON'T", "it\u2019s a \u2018quote\u2019 and an \u017f: '\u017f x'\u017f",
    "'\u212a '\u212alvin 'S'T'RE'", "0 1 12 123 1234 12345 1234567890 3.14159 1,000,000", "abc123def456", " 2024-01-31T12:00:00Z",
    "\u0661\u0662\u0663 \u2167 \u00bd \u00b2\u00b3 \u2460 \u4e00\u4e8c \u0967\u0968",
    "a\u00a0\u00a0!b", "a\u00a0b \u00a0 c", "a\u180eb\u180e\u180e c", "a  \u180eb", "\U0001e030't \U00031350's 1\U00010d40's", "a\u200bb\u2003\u2003c\u3000d\u2028e\u2029f\u0085g\u202fh",
    "\ufeffBOM", "caf\u00e9 cafe\u0301 \u212bngstr\u00f6m A\u030angstro\u0308m", "q\u0323\u0307 q\u0307\u0323 \u1e0b\u0323",
    "\u1112\u1161\u11ab \ud55c\uad6d\uc5b4 \u1100\u1161", "\u0344 \u0958 \u2126 \ufb01 \ufb03 \uff21",
    "\u4f60\u597d\uff0c\u4e16\u754c\u3002\u5c0f\u8235\u8f6c\u52a8\u5927\u8239", "\u5c0f\u3055\u306a\u8235\u304c\u5927\u304d\u306a\u8239\u3092\u52d5\u304b\u3059",
    "\u0627\u0644\u062f\u0641\u0629 \u0627\u0644\u0635\u063a\u064a\u0631\u0629 \u062a\u062f\u064a\u0631 \u0627\u0644\u0633\u0641\u064a\u0646\u0629",
    "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e0a\u0e32\u0e27\u0e42\u0e25\u0e01", "\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e",
    "\u041c\u0430\u043b\u0435\u043d\u044c\u043a\u0438\u0439 \u0440\u0443\u043b\u044c", "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd", "\u1f00\u03b3\u03ac\u03c0\u03b7",
    "\U0001f600\U0001f602", "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 family", "\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7 \U0001f44d\U0001f3fd",
    "x\ufe0f\u20e3 \u2764\ufe0f", "\U0001d54f\U0001d552 \U0001d7d8\U0001d7d9", "\u0001\u0002\u0003\u0004\u0005\u0006\u0007\u0008\u000b\u000c\u000e\u0013\u0014\u0016\u001d\u007f",
    "\U00040000 plane 4 \U000e0041 \U0010ffff \ue000", "Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f\u0334\u0319\u0324\u031e\u0349\u035a\u032f\u031e\u0320\u034dA\u036b\u0357\u0334\u0362\u0335",
    "new letters: \U0001e030\U0001e031 \U00031350\U00031351 \U0002ebf0 \u1c89\u1c8a \ua7dc \U00010d4a\U00010d50",
    "new numbers: \U00010d40\U00010d41 \U000116d0\U000116d1 \U0001e4f0 \U0001ccf0\U0001ccf1 \U00011f50",
    "for (int i = 0; i < n; i++) {\n\tsum += a[i] * b[i];\n}\n", "def f(x):\n    if x:\n        return  x\n\n\n\treturn None\n",
    "#include <stdio.h>\r\n#define X 1\r\n\r\n", "https://example.org/a/b?c=d&e=f#g user@example.org", "{\"key\": [1, 2.5e-3, null, true]}",
    "!!!???...---***===", "((((()))))", "a.b.c...d", "snake_case camelCase PascalCase SCREAMING_CASE kebab-case", "\\n \\t \\\\ \"quoted\" 'single'",
    " " * 15 + "x", " " * 64, "\n" * 20 + "x", "\t" * 9, " \n" * 10, "x" + " " * 7 + "\n" + " " * 7 + "y", "a" * 70, "ab" * 60, "the" * 30,
    "turn" * 20 + "ing", "\u00fc" * 40, "\U0001f600" * 20, "smallestsmallersmall steeringsteeredsteer" * 3,
    "<|endoftext|>", "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "a<|im_start|>b<|im_end|>c", " <|im_end|> ", "<|im_start|",
    "<|im_start|><|im_start|>", "<<|im_start|>>", "<|IM_START|> <|im_start |>", "x <repo_name>y<file_sep>z", "<|begin_of_text|>Hi<|eot_id|>",
    "a <tool> b</tool>c<tool", "<to<tool>ol>", "a  <lstrip>  b", "a  <rstrip>  b <lstrip><rstrip>\n\n<lstrip> x", "\u00e9t\u00e9 e\u0301te\u0301 \u00e9te\u0301!",
    "abcabcabx abcab abcabcabcx", "\U00016ff4't a\U00016ff4\U00016ff5b\U00011de0 \U0001ecb0\ua94f \u3250\u3251", "e\u08dd\u0301 \u00e9\u08dd\u0301 \U00011935\U00011930",
]


def check_versions():
    for name, wanted in PINNED.items():
        if version(name) != wanted:
            sys.exit(f"{name} {version(name)} is installed, {wanted} is needed")


def digest(tokenizer):
    """SHA-256 over the bytes of all tokens, with the length before each (4 bytes, low byte first)."""
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in own]
    alphabet = {chr(b): b for b in own} | {chr(256 + i): b for i, b in enumerate(others)}
    added = tokenizer.get_added_tokens_decoder()
    sha = hashlib.sha256()
    for i in range(tokenizer.get_vocab_size()):
        piece = added[i].content.encode() if i in added else bytes(alphabet[c] for c in tokenizer.id_to_token(i))
        sha.update(len(piece).to_bytes(4, "little") + piece)
    return sha.hexdigest()


def replaced():
    """Bytes that are not UTF-8, and the text that Python decodes them to."""
    found = []
    parts = ["41", "c3a9", "e282ac", "f09f9880", "80", "bf", "c0", "c1", "c3", "e2", "e282", "e0", "e080", "e09f", "ed", "ed9f", "eda0"]
    parts += ["f0", "f09f", "f09f98", "f08f", "f4", "f48f", "f490", "f5", "fe", "ff"]
    for first in parts:
        for second in parts:
            data = bytes.fromhex(first + second)
            found.append([data.hex(), data.decode("utf-8", "replace")])
    return found


def cases(tokenizer):
    found = []
    for text in TEXTS:
        tokenizer.encode_special_tokens = False
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        tokenizer.encode_special_tokens = True
        plain = tokenizer.encode(text, add_special_tokens=False).ids
        found.append({"text": text, "ids": ids} | ({"plain": plain} if plain != ids else {}))
    tokenizer.encode_special_tokens = False
    return {"versions": PINNED, "digest": digest(tokenizer), "with_bos": tokenizer.encode("Hello").ids, "cases": found}


def write(path, value):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        if "cases" in value:
            rows = ",\n".join(json.dumps(c, ensure_ascii=False, separators=(",", ":")) for c in value["cases"])
            head = json.dumps({k: v for k, v in value.items() if k != "cases"})[:-1]
            f.write(f'{head}, "cases": [\n{rows}\n]}}\n')
        else:
            json.dump(value, f, ensure_ascii=False, separators=(",", ":"))


def from_gguf(path):
    """The SmolLM2 tokenizer: its tokenizer.json has these steps (the file only says "smollm")."""
    import gguf

    fields = gguf.GGUFReader(path).fields
    get = lambda key: fields[f"tokenizer.ggml.{key}"].contents()
    assert get("model") == "gpt2" and get("pre") == "smollm"
    tokens, merges = get("tokens"), [tuple(m.split(" ")) for m in get("merges")]
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [t for t, kind in zip(tokens, get("token_type")) if kind == 3]
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in special])
    assert len(tokenizer.encode("1234567890").ids) == 10
    assert tokenizer.encode("<|im_start|>user").ids[0] == 1
    return tokenizer


def train(size, pre_tokenizer, full_alphabet, ignore_merges=False, normalizer=None):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet()) if full_alphabet else []
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TRAINING, trainer)
    return tokenizer


def byte_level(use_regex):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def split(pattern):
    return pre_tokenizers.Split(Regex(pattern), "isolated", invert=False)


def llama3():
    tokenizer = train(560, pre_tokenizers.Sequence([split(LLAMA3), byte_level(False)]), True, ignore_merges=True)
    # No merge builds this word, so only ignore_merges finds it.
    state = json.loads(tokenizer.to_str())
    state["model"]["vocab"]["\u0120quixotic"] = len(state["model"]["vocab"])
    state["model"]["vocab"]["Hello"] = len(state["model"]["vocab"])
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.add_special_tokens(["<|begin_of_text|>", "<|eot_id|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False), AddedToken("</tool>", normalized=True)])
    bos = tokenizer.token_to_id("<|begin_of_text|>")
    template = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A <|begin_of_text|> $B", special_tokens=[("<|begin_of_text|>", bos)]
    )
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    return tokenizer, {"bos_token": "<|begin_of_text|>", "eos_token": {"content": "<|eot_id|>", "special": True}}


def qwen2():
    pre = pre_tokenizers.Sequence([split(QWEN2), byte_level(False)])
    tokenizer = train(520, pre, True, normalizer=normalizers.NFC())
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False), AddedToken("\u00e9te\u0301", normalized=True)])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer, {"bos_token": None, "eos_token": "<|im_end|>"}


def smollm():
    pre = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level(True)])
    tokenizer = train(400, pre, False)
    strip = [AddedToken("<lstrip>", lstrip=True, special=True), AddedToken("<rstrip>", rstrip=True, special=True)]
    # Overlapping tokens: the leftmost wins, then the longest.
    overlap = [AddedToken(t, normalized=False) for t in ("abcab", "abcabcabc", "bx", "<|im_start")]
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>", *strip])
    tokenizer.add_tokens(overlap)
    return tokenizer, None


def old_merges(path):
    """Rewrites each merge as one string, as files from before tokenizers 0.20 have it."""
    with open(path, encoding="utf-8") as f:
        state = json.load(f)
    state["model"]["merges"] = [" ".join(m) for m in state["model"]["merges"]]
    write(path, state)


def main():
    check_versions()
    write(os.path.join(OUT, "replace.json"), {"replace": replaced()})
    if len(sys.argv) > 1:
        write(os.path.join(OUT, "smollm2.json"), cases(from_gguf(sys.argv[1])))
    for make in (llama3, qwen2, smollm):
        tokenizer, config = make()
        folder = os.path.join(OUT, make.__name__)
        write(os.path.join(folder, "tokenizer.json"), json.loads(tokenizer.to_str()))
        if config:
            write(os.path.join(folder, "tokenizer_config.json"), config)
        write(os.path.join(folder, "cases.json"), cases(tokenizer))
    old_merges(os.path.join(OUT, "qwen2", "tokenizer.json"))


if __name__ == "__main__":
    main()
