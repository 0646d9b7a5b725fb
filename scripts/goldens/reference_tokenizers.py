"""Hugging Face's `tokenizers`, configured like the published tokenizer.json of each family."""

import json

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

SIGN = "\u2581"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
QWEN35 = QWEN2.replace(r"]?\p{L}+", r"]?[\p{L}\p{M}]+").replace(r"[^\s\p{L}\p{N}]", r"[^\s\p{L}\p{M}\p{N}]")
# Listed as in the published files.
DEEPSEEK_LETTERS = (
    "\\s?[A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-"
    "\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481"
    "\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b"
    "\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b"
    "\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb"
    "\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128"
    "\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4"
    "\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf"
    "\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8"
    "-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943]+"
)
DEEPSEEK_MARKS = (
    "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+"
)
DEEPSEEK_EAST = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"


def byte_level(use_regex=True):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def split(pattern):
    return pre_tokenizers.Split(Regex(pattern), "isolated", invert=False)


def sequence(*steps):
    return pre_tokenizers.Sequence(list(steps))


def digits():
    return pre_tokenizers.Digits(individual_digits=True)


# GGUF's tokenizer.ggml.pre -> pre-tokenizer, normalizer, ignore_merges
BYTE_LEVEL = {
    "gpt-2": (byte_level(), None, False),
    "mpt": (byte_level(), normalizers.NFC(), False),
    "smollm": (sequence(digits(), byte_level()), None, False),
    "starcoder": (sequence(digits(), byte_level()), None, False),
    "command-r": (sequence(digits(), byte_level()), normalizers.NFC(), False),
    "llama-bpe": (sequence(split(LLAMA3), byte_level(False)), None, True),
    "qwen2": (sequence(split(QWEN2), byte_level(False)), normalizers.NFC(), False),
    "qwen35": (sequence(split(QWEN35), byte_level(False)), None, False),
    "deepseek-llm": (
        sequence(split(r"[\r\n]"), split(DEEPSEEK_LETTERS), split(DEEPSEEK_MARKS), split(r"\s+$"),
                 split(DEEPSEEK_EAST), digits(), byte_level(False)),
        None, False),
    "deepseek-coder": (
        sequence(split(r"[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split(DEEPSEEK_EAST), digits(),
                 byte_level(False)),
        None, False),
    "falcon": (
        sequence(pre_tokenizers.Punctuation("contiguous"), byte_level(),
                 pre_tokenizers.Digits(individual_digits=False), split("[0-9][0-9][0-9]")),
        None, False),
}
BYTE_LEVEL["refact"] = BYTE_LEVEL["starcoder"]


def byte_level_bpe(tokens, merges, pre):
    pre_tokenizer, normalizer, ignore_merges = BYTE_LEVEL[pre]
    bpe = models.BPE({t: i for i, t in enumerate(tokens)}, merges, ignore_merges=ignore_merges)
    tokenizer = Tokenizer(bpe)
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def merges_of_scores(tokens, scores):
    """The merges that transformers makes from a SentencePiece model: each cut of a piece in two, best score first."""
    ids = {t: i for i, t in enumerate(tokens)}
    merges = []
    for piece, score in zip(tokens, scores):
        cuts = [(piece[:i], piece[i:]) for i in range(1, len(piece))]
        cuts = [(a, b, score) for a, b in cuts if a in ids and b in ids]
        merges += sorted(cuts, key=lambda cut: (ids[cut[0]], ids[cut[1]]))
    merges.sort(key=lambda cut: (cut[2], len(cut[0]), len(cut[1])), reverse=True)
    return [(a, b) for a, b, _ in merges]


# How a file says that a space is put before the text.
SPACES = {
    "prepend": (
        normalizers.Sequence([normalizers.Prepend(SIGN), normalizers.Replace(" ", SIGN)]), None, True),
    "metaspace": (None, pre_tokenizers.Metaspace(SIGN, prepend_scheme="first", split=False), True),
    "metaspace always": (None, pre_tokenizers.Metaspace(SIGN, prepend_scheme="always", split=True), True),
    "none": (normalizers.Replace(" ", SIGN), pre_tokenizers.Split(" ", "merged_with_previous"), False),
}


def sentencepiece_bpe(tokens, merges, spaces):
    bpe = models.BPE({t: i for i, t in enumerate(tokens)}, merges, unk_token="<unk>", fuse_unk=True,
                     byte_fallback=True)
    tokenizer = Tokenizer(bpe)
    normalizer, pre_tokenizer, strip = SPACES[spaces]
    if normalizer:
        tokenizer.normalizer = normalizer
    if pre_tokenizer:
        tokenizer.pre_tokenizer = pre_tokenizer
    steps = [decoders.Replace(SIGN, " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(steps + ([decoders.Strip(" ", 1, 0)] if strip else []))
    return tokenizer


def add_bos(tokenizer, bos):
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, tokenizer.token_to_id(bos))])


def add_tokens(tokenizer, texts, special, **attributes):
    added = [AddedToken(text, special=special, **{"normalized": False} | attributes) for text in texts]
    (tokenizer.add_special_tokens if special else tokenizer.add_tokens)(added)


def cases(tokenizer, texts):
    """The ids with special tokens parsed and not parsed, and the text of the ids if they are whole code points."""
    found = []
    for text in texts:
        for special in (True, False):
            tokenizer.encode_special_tokens = not special
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            case = {"text": text, "ids": ids, "special": special}
            decoded = tokenizer.decode(ids)
            if "\ufffd" not in decoded and "\0" not in decoded:
                case["decoded"] = decoded
            found.append(case)
    return found


def save(tokenizer, directory):
    directory.mkdir(parents=True, exist_ok=True)
    state = json.loads(tokenizer.to_str())
    (directory / "tokenizer.json").write_text(json.dumps(state, ensure_ascii=False), encoding="utf-8")
