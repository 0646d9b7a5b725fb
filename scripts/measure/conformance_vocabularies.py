"""The vocabularies that conformance.py runs: llama.cpp's own, with its vectors, and the same again as `tokenizers` sees
them, once from the GGUF file and once from a tokenizer.json. Mistral's come with mistral-common, as SentencePiece
models."""

import importlib.util
import pathlib
import random
import sys

import gguf
import sentencepiece

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "goldens"))
import reference_tokenizers as reference
from make_tokenizer_goldens import TEXTS

SEPARATOR = "\n__ggml_vocab_test__\n"
SPECIAL = (2, 3)
USER_DEFINED = 4


def vectors(path):
    """llama.cpp's cases for a vocabulary, [] when it has none."""
    inputs = path.with_name(path.name + ".inp")
    if not inputs.exists():
        return []
    texts = inputs.read_text(encoding="utf-8").split(SEPARATOR)
    lines = path.with_name(path.name + ".out").read_text(encoding="utf-8").split("\n")
    return [{"text": text, "ids": [int(i) for i in line.split()]} for text, line in zip(texts, lines)]


def random_texts(n=300):
    """Mixtures of scripts, spaces, digits, marks and newlines."""
    pick = random.Random(7)
    parts = ["the", " ship", "Ruder", " größer", "руль", " корабль", "小さな舵", "舵", "한국어", "الدفة", "नमस्ते", "e\u0301",
             "é", "😀", "👩‍👧", " ", "  ", "\n", "\r\n", "\t", "\u3000", "\u00a0", "1", "23", "456", "٣", "²",
             "½", "!", "...",
             "?!", "_", "'s", "'RE", "$", "+=", "`", "。", "，", "«", "”", "\u2581", "<s>", "</s>", "<|user|>", "<0x41>",
             "\u0301", "ſ", "ß"]
    return ["".join(pick.choice(parts) for _ in range(pick.randint(1, 12))) for _ in range(n)]


def read(path):
    fields = gguf.GGUFReader(path).fields
    keys = ("model", "pre", "tokens", "token_type", "scores", "merges")
    found = {key: fields[f"tokenizer.ggml.{key}"].contents() if f"tokenizer.ggml.{key}" in fields else None
             for key in keys}
    found["architecture"] = fields["general.architecture"].contents()
    found["special"] = [t for t, kind in zip(found["tokens"], found["token_type"]) if kind in SPECIAL]
    found["user"] = [t for t, kind in zip(found["tokens"], found["token_type"]) if kind == USER_DEFINED]
    found["merges"] = found["merges"] and [tuple(merge.split(" ", 1)) for merge in found["merges"]]
    return found


def mistral_models():
    """The files of mistral-common, which need not be importable."""
    spec = importlib.util.find_spec("mistral_common")
    if not spec:
        return []
    data = pathlib.Path(spec.submodule_search_locations[0]) / "data"
    return sorted([*data.glob("tokenizer.model.v*"), *data.glob("*.model.v3")])


def from_sentencepiece(model, path):
    """Writes the GGUF vocabulary of a SentencePiece model, and returns the cases that the model itself gives."""
    processor = sentencepiece.SentencePieceProcessor(str(model))
    ids = range(processor.vocab_size())
    kinds = [(processor.is_unknown, 2), (processor.is_control, 3), (processor.is_unused, 5), (processor.is_byte, 6)]
    types = [next((kind for test, kind in kinds if test(i)), 1) for i in ids]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("llama")
    writer.add_token_list([processor.id_to_piece(i) for i in ids])
    writer.add_token_scores([processor.get_score(i) for i in ids])
    writer.add_token_types(types)
    writer.add_bos_token_id(processor.bos_id())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return [{"text": text, "ids": processor.encode(text)} for text in TEXTS + random_texts()]


def byte_level(v):
    tokenizer = reference.byte_level_bpe(v["tokens"], v["merges"], v["pre"])
    reference.add_tokens(tokenizer, v["special"], special=True)
    reference.add_tokens(tokenizer, v["user"], special=False)
    return {"": tokenizer}


def characters(v):
    """A GGUF file is the "prepend" one; the others are forms of tokenizer.json."""
    merges = v["merges"] or reference.merges_of_scores(v["tokens"], v["scores"])
    forms = ["none"] if v["model"] == "gemma4" else ["prepend", "metaspace", "metaspace always"]
    plain = {"<unk>", "<s>", "<|endoftext|>"}
    found = {}
    for form in forms:
        tokenizer = reference.sentencepiece_bpe(v["tokens"], merges, form)
        strips = v["architecture"] == "phi3"
        for text in v["special"]:
            reference.add_tokens(tokenizer, [text], special=True, rstrip=strips and text not in plain)
        for text in v["user"]:
            reference.add_tokens(tokenizer, [text], special=False, rstrip=strips)
        found["" if form == forms[0] else form] = tokenizer
    return found


def references(path, folder):
    """(label, vocabulary, cases) for each way to read the file at path that `tokenizers` can be set up for."""
    v = read(path)
    if v["model"] in ("llama", "gemma4"):
        tokenizers = characters(v)
    elif v["model"] == "gpt2" and v["pre"] in reference.BYTE_LEVEL:
        tokenizers = byte_level(v)
    else:
        return
    texts = TEXTS + random_texts()
    for form, tokenizer in tokenizers.items():
        cases = reference.cases(tokenizer, texts)
        if not form:
            yield "GGUF", path, cases
        directory = folder / f"{path.stem} {form}".strip()
        reference.save(tokenizer, directory)
        yield f"tokenizer.json {form}".strip(), directory, cases
