#!/usr/bin/env python3
"""The seeds of the fuzz targets, tests/fuzz/corpus/TARGET/seed_*: small valid files, each of another form.

What the fuzzer found lies beside them in TARGET.found (scripts/measure/fuzz_corpus.py)."""
import hashlib
import json
import pathlib
import struct

ROOT = pathlib.Path(__file__).resolve().parents[2]
CORPUS = ROOT / "tests/fuzz/corpus"
GOLDEN = ROOT / "tests/golden"
PART = b"\x1e"


def write(target, name, data):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"seed_{name}").write_bytes(data)


# ---- GGUF

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
PACK = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q", I64: "q", F64: "d"}
# GGUF's id of a type: elements and bytes of a block
BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 12: (256, 144),
          13: (256, 176), 14: (256, 210), 20: (32, 18), 30: (1, 2)}


def text(string):
    data = string.encode() if isinstance(string, str) else string
    return struct.pack("<Q", len(data)) + data


def scalar(kind, value):
    return text(value) if kind == STRING else struct.pack("<" + PACK[kind], value)


def gguf(values, tensors=(), version=3):
    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(values))
    for key, kind, value in values:
        if isinstance(kind, tuple):
            body = struct.pack("<IIQ", ARRAY, kind[1], len(value)) + b"".join(scalar(kind[1], v) for v in value)
        else:
            body = struct.pack("<I", kind) + scalar(kind, value)
        out += text(key) + body
    data = b""
    for name, kind, shape in tensors:
        n = 1
        for dimension in shape:
            n *= dimension
        elements, size = BLOCKS[kind]
        data += bytes(-len(data) % 32)
        out += text(name) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", d) for d in reversed(shape))
        out += struct.pack("<IQ", kind, len(data))
        data += bytes((i * 37 + 11) % 120 for i in range(n // elements * size))
    return out + bytes(-len(out) % 32) + data if tensors else out


def model_keys(arch, vocab):
    return [("general.architecture", STRING, arch), ("general.alignment", U32, 32), (f"{arch}.block_count", U32, 1),
            (f"{arch}.embedding_length", U32, 4), (f"{arch}.feed_forward_length", U32, 4),
            (f"{arch}.context_length", U32, 16), (f"{arch}.attention.head_count", U32, 1),
            (f"{arch}.attention.head_count_kv", U32, 1), (f"{arch}.attention.layer_norm_rms_epsilon", F32, 1e-5),
            (f"{arch}.rope.freq_base", F32, 10000.0), (f"{arch}.vocab_size", U32, vocab)]


def model_tensors(vocab, extra=(), kind=0):
    names = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]
    return [("token_embd.weight", kind, (vocab, 4)), ("output_norm.weight", 0, (4,)),
            ("blk.0.attn_norm.weight", 0, (4,)), ("blk.0.ffn_norm.weight", 0, (4,))] + [
                (f"blk.0.{name}.weight", kind, (4, 4)) for name in names] + list(extra)


TEMPLATE = "{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'] }}{% endfor %}"
GPT2 = ["a", "b", "ab", "\u0120", "</s>", "<s>"]


def gpt2_keys(pre="gpt-2"):
    return [("tokenizer.ggml.model", STRING, "gpt2"), ("tokenizer.ggml.pre", STRING, pre),
            ("tokenizer.ggml.tokens", (ARRAY, STRING), GPT2),
            ("tokenizer.ggml.token_type", (ARRAY, I32), [1, 1, 1, 1, 3, 4]),
            ("tokenizer.ggml.merges", (ARRAY, STRING), ["a b"]), ("tokenizer.ggml.bos_token_id", U32, 5),
            ("tokenizer.ggml.eos_token_id", U32, 4), ("tokenizer.ggml.add_bos_token", BOOL, True),
            ("tokenizer.chat_template", STRING, TEMPLATE)]


def llama_keys(model):
    tokens = ["<unk>", "<s>"] + [f"<0x{i:02X}>" for i in range(256)] + ["\u2581", "a", "b", "ab", "\u2581a"]
    types = [2, 3] + [6] * 256 + [1] * 5
    keys = [("tokenizer.ggml.model", STRING, model), ("tokenizer.ggml.tokens", (ARRAY, STRING), tokens),
            ("tokenizer.ggml.token_type", (ARRAY, I32), types), ("tokenizer.ggml.bos_token_id", U32, 1)]
    if model == "gemma4":
        return keys + [("tokenizer.ggml.merges", (ARRAY, STRING), ["a b", "\u2581 a"])]
    return keys + [("tokenizer.ggml.scores", (ARRAY, F32), [float(-i) for i in range(len(tokens))]),
                   ("tokenizer.ggml.add_space_prefix", BOOL, True)]


def make_gguf():
    write("gguf", "model", gguf(model_keys("llama", 6) + gpt2_keys(), model_tensors(6)))
    bias = [(f"blk.0.attn_{part}.bias", 1, (4,)) for part in ("q", "k", "v", "output")]
    bias += [(f"blk.0.ffn_{part}.bias", 30, (4,)) for part in ("gate", "up", "down")]
    scaling = [("llama.rope.scaling.type", STRING, "linear"), ("llama.rope.scaling.factor", F32, 2.0),
               ("llama.attention.key_length", U32, 4), ("llama.rope.dimension_count", U32, 4)]
    write("gguf", "biases", gguf(model_keys("llama", 6) + scaling, model_tensors(
        6, [("output.weight", 1, (6, 4)), ("rope_freqs.weight", 0, (2,))] + bias, 30), 2))
    norms = [("blk.0.attn_q_norm.weight", 0, (4,)), ("blk.0.attn_k_norm.weight", 0, (4,))]
    write("gguf", "qwen3", gguf(model_keys("qwen3", 6) + gpt2_keys("qwen2"), model_tensors(6, norms)))
    qkv = [(f"blk.0.attn_{part}.bias", 0, (4,)) for part in ("q", "k", "v")]
    write("gguf", "qwen2", gguf(model_keys("qwen2", 6) + gpt2_keys("qwen2"), model_tensors(6, qkv)))
    factors = [(f"rope_factors_{kind}.weight", 0, (2,)) for kind in ("short", "long")]
    fused = [("blk.0.attn_qkv.weight", 0, (12, 4)), ("blk.0.ffn_up.weight", 0, (8, 4))]
    split = ("attn_q", "attn_k", "attn_v", "ffn_gate", "ffn_up")
    keep = [t for t in model_tensors(6) if t[0].split(".")[-2] not in split]
    longrope = [("phi3.rope.scaling.attn_factor", F32, 1.25), ("phi3.rope.scaling.original_context_length", U32, 8),
                ("phi3.attention.sliding_window", U32, 16)]
    write("gguf", "phi3", gguf(model_keys("phi3", 6) + longrope + gpt2_keys(), keep + fused + factors))
    caps = [("attn_logit_softcapping", F32, 50.0), ("final_logit_softcapping", F32, 30.0),
            ("attention.sliding_window", U32, 4)]
    swa = [("attention.sliding_window", U32, 4), ("attention.sliding_window_pattern", U32, 2),
           ("rope.freq_base_swa", F32, 1e4), ("final_logit_softcapping", F32, 30.0)]
    post = [(f"blk.0.post_{part}_norm.weight", 0, (4,)) for part in ("attention", "ffw")]
    write("gguf", "gemma2", gguf(model_keys("gemma2", 6) + [("gemma2." + k, t, v) for k, t, v in caps],
                                 model_tensors(6, post)))
    write("gguf", "gemma3", gguf(model_keys("gemma3", 6) + [("gemma3." + k, t, v) for k, t, v in swa],
                                 model_tensors(6, post + norms)))
    write("gguf", "spm", gguf([("general.architecture", STRING, "phi3")] + llama_keys("llama")))
    write("gguf", "gemma4", gguf(llama_keys("gemma4")))
    write("gguf", "kinds", gguf([(f"k{kind}", kind, "s" if kind == STRING else 1) for kind in PACK | {STRING: ""}] + [
        (f"a{kind}", (ARRAY, kind), ["s", ""] if kind == STRING else [1, 0]) for kind in PACK | {STRING: ""}]))
    write("gguf", "types", gguf([], [(f"t{kind}", kind, (1, BLOCKS[kind][0] * 2)) for kind in BLOCKS]))


# ---- safetensors


def safetensors(tensors, metadata=None):
    header, data = {"__metadata__": metadata} if metadata else {}, b""
    for name, dtype, bits, shape in tensors:
        n = bits // 8
        for dimension in shape:
            n *= dimension
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(data), len(data) + n]}
        data += bytes((i * 29 + 7) % 64 for i in range(n))
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    return struct.pack("<Q", len(head)) + head + data


def make_safetensors():
    layer = "model.layers.0."
    parts = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj",
             "mlp.up_proj", "mlp.down_proj"]
    model = [("model.embed_tokens.weight", "F32", 32, (2, 4)), ("model.norm.weight", "F16", 16, (4,)),
             (layer + "input_layernorm.weight", "F32", 32, (4,)),
             (layer + "post_attention_layernorm.weight", "BF16", 16, (4,))] + [
                 (layer + part + ".weight", "BF16", 16, (4, 4)) for part in parts]
    write("safetensors", "model", safetensors(model, {"format": "pt"}))
    dtypes = {"F32": 32, "F16": 16, "BF16": 16, "I32": 32, "I64": 64, "U8": 8, "BOOL": 8, "F64": 64, "F8_E4M3": 8}
    write("safetensors", "dtypes", safetensors([(name, name, bits, (2,)) for name, bits in dtypes.items()] + [
        ("scalar", "F32", 32, ()), ("empty", "F32", 32, (0, 3))]))
    write("safetensors", "empty", safetensors([]))
    fp8 = [("model.embed_tokens.weight", "BF16", 16, (2, 32)), ("model.norm.weight", "F16", 16, (32,)),
           (layer + "input_layernorm.weight", "BF16", 16, (32,)),
           (layer + "post_attention_layernorm.weight", "BF16", 16, (32,)),
           (layer + "self_attn.o_proj.weight", "BF16", 16, (32, 2)),
           (layer + "mlp.down_proj.weight", "BF16", 16, (32, 4))]
    scales = [("self_attn.q_proj", 2, "_scale", "F32", 32, (2, 1)), ("self_attn.k_proj", 2, "_scale", "BF16", 16, ()),
              ("self_attn.v_proj", 2, "_scale_inv", "F32", 32, (1, 1)), ("mlp.gate_proj", 4, "_scale", "F16", 16, (4,)),
              ("mlp.up_proj", 4, "_scale", "F32", 32, (1,))]
    for part, rows, suffix, dtype, bits, shape in scales:
        name = layer + part + ".weight"
        fp8 += [(name, "F8_E4M3", 8, (rows, 32)), (name + suffix, dtype, bits, shape)]
    fp8.append((layer + "self_attn.q_proj.input_scale", "F32", 32, ()))
    write("safetensors", "fp8", safetensors(fp8))
    index = {"metadata": {}, "weight_map": {name: "a.safetensors" for name, _, _, _ in model}}
    write("safetensors", "index", json.dumps(index).encode() + PART + safetensors(model))


# ---- the rest


def make_config():
    for path in sorted(GOLDEN.glob("tiny-*/config.json")):
        write("config", path.parent.name, path.read_bytes())
    tiny = GOLDEN / "weights/tiny"
    write("config", "three", PART.join((tiny / f"{name}.json").read_bytes()
                                       for name in ("config", "generation_config", "tokenizer_config")))


def small(config):
    """The same tokenizer with a vocabulary of two and one merge."""
    model = config["model"]
    model["vocab"], model["merges"] = {"a": 0, "b": 1, "ab": 2}, [["a", "b"]]
    config["added_tokens"] = [{"id": 3, "content": "<s>", "special": True, "normalized": False}]
    if config.get("post_processor"):
        config["post_processor"] = None
    return json.dumps(config, ensure_ascii=False, separators=(",", ":")).encode()


def make_tokenizer():
    named = json.dumps({"bos_token": {"content": "<s>"}, "eos_token": "<s>", "chat_template": TEMPLATE}).encode()
    folders = [GOLDEN / "tokenizer" / name for name in ("llama3", "qwen2", "smollm")]
    folders += sorted((GOLDEN / "tokenizer/families").iterdir())
    for folder in folders:
        config = json.loads((folder / "tokenizer.json").read_text())
        if not config["model"].get("byte_fallback"):
            write("tokenizer", folder.name, small(config) + PART + named)
    spm = json.loads((GOLDEN / "tokenizer/families/llama-2/tokenizer.json").read_text())
    write("tokenizer", "llama-2", json.dumps(spm, ensure_ascii=False, separators=(",", ":")).encode())
    write("tokenizer", "tiny", PART.join((GOLDEN / "tiny-llama" / name).read_bytes()
                                         for name in ("tokenizer.json", "tokenizer_config.json")) + PART + b"ab 12\n")


def make_template():
    for path in sorted((GOLDEN / "templates").glob("*.jinja")):
        write("template", path.stem, path.read_bytes())
    # The features of the goldens, some in one input: alone they are hundreds of files.
    cases = json.loads((GOLDEN / "templates/features.json").read_text())
    cases = cases if isinstance(cases, list) else cases["cases"]
    for i in range(0, len(cases), 24):
        sources = [case.get("template") or case.get("source") for case in cases[i:i + 24]]
        write("template", f"features_{i // 24:02}", "\n".join(s for s in sources if s).encode())


def make_policy():
    for path in sorted((GOLDEN / "policy").glob("*.safetensors")):
        if "expected" not in path.name:
            write("policy", path.stem, path.read_bytes())
    for path in sorted((GOLDEN / "vectors").glob("*.gguf")):
        write("policy", f"vector_{path.stem}", path.read_bytes())


def record(number, values, check=None):
    body = hashlib.sha256(b"%d" % number).digest() + struct.pack("<I2f", number, *values)
    return body + (check or hashlib.sha256(body).digest())


def make_activations():
    whole = [record(i, (i, -i)) for i in range(3)]
    write("activations", "records", b"@" + b"".join(whole))
    write("activations", "torn", b"@" + b"".join(whole)[:-5])
    write("activations", "damaged_end", b"@" + whole[0] + record(1, (1, 2), bytes(32)))
    write("activations", "damaged", b"@" + whole[0] + record(1, (1, 2), bytes(32)) + whole[2])
    write("activations", "twice", b"@" + whole[0] + record(0, (3, 4)) + whole[1])
    write("activations", "no_number", b"@" + record(1, (float("nan"), 0)) + whole[0])
    head = {"trimtab.activations": 1, "version": "0.1.0", "hidden_size": 2, "numerics": {"backend": "cpu", "kv": "f32"}}
    for name, change in (("format", {"trimtab.activations": 2}), ("version", {"version": []}),
                         ("width", {"hidden_size": 3}), ("kv", {"numerics": {"backend": "cpu", "kv": "f16"}})):
        write("activations", name, json.dumps(head | change, separators=(",", ":")).encode() + b"\n")
    write("activations", "spaces", json.dumps(head).encode().replace(b" ", b"", 1) + b"\n")


def make_batch():
    chat = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {
        "model": "m", "messages": [{"role": "developer", "content": "a"}, {"role": "user", "content": [
            {"type": "text", "text": "b"}]}], "max_completion_tokens": 4, "temperature": 0.5, "top_p": 0.9, "top_k": -1,
        "min_p": 0.1, "seed": 7, "stop": ["x", "y"], "n": 2, "logprobs": True, "top_logprobs": 3,
        "ignore_eos": False, "response_format": {"type": "text"}, "steering": {
            "when": "all", "policies": [{"name": "a", "scale": 0.5}, {"name": "b.c"}]}, "tools": [], "user": "u"}}
    completion = {"custom_id": "2", "url": "/v1/completions", "body": {
        "prompt": [1, 2, 3], "max_tokens": 3, "logprobs": 2, "best_of": 1, "echo": False, "stop": "z"}}
    plain = {"id": "3", "prompt": "hello", "label": "benign"}
    lines = "\n".join(json.dumps(row) for row in (chat, completion, plain)).encode()
    write("batch", "lines", lines + b"\n\n \n")
    write("batch", "sweep", b"a,b.c@0,0.5,-1e2" + PART + json.dumps(plain).encode() + b"\r\n" + b"\xef\xbb\xbf{}\n[")
    write("batch", "strings", json.dumps({"custom_id": "4", "url": "/v1/completions", "body": {
        "prompt": ["one <|im_start|>"], "seed": None, "stop": None, "steering": None}}).encode())


def make_http():
    """A byte that says in which pieces, then what a client sends."""
    head = b"POST /v1/completions HTTP/1.1\r\nHost: a:80\r\nContent-Type: application/json\r\n"
    again = b"GET http://a/health?b HTTP/1.0\r\nHost: a\r\n\r\n"
    write("http", "length", b"\0" + head + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n{}" + again)
    write("http", "chunks", b"\x06" + head + b"Transfer-Encoding: chunked\r\n\r\n"
          b"1\r\n{\r\n1;a=b\r\n}\r\n0\r\n\r\n" + again)
    write("http", "upgrade", b"\x0fHEAD / HTTP/1.1\r\nHost: [::1]\r\n"
          b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n" + again)


def make_job():
    """Lines without their seals, which the target makes; and one that is no job file."""
    head = {"trimtab.job": 1, "created": 1700000000, "lines": 300, "cases": 1, "job": {"input": "in.jsonl"}}
    swept = head | {"lines": 2, "cases": 3, "job": {"policies": {"a": "0" * 64}, "sweep": "a@0,1,2", "baselines": 1}}
    units = [{"unit": 0, "offset": 0, "number": 0, "repeated": [7, 250]},
             {"unit": 1, "offset": 9000, "number": 256, "repeated": []}]

    def unsealed(*lines):
        return b"@" + b"".join(json.dumps(line, separators=(",", ":")).encode()[:-1] + b"\n" for line in lines)
    write("job", "whole", unsealed(head, *units))
    write("job", "sweep", unsealed(swept, units[0] | {"repeated": []}))
    write("job", "twice", unsealed(head, units[0] | {"repeated": [7, 7]}, units[1]))
    write("job", "units", unsealed(head | {"lines": 3000}, *units))
    write("job", "many", unsealed(head | {"lines": 1 << 62, "cases": 1 << 8}, *units))
    write("job", "bare", json.dumps(head).encode() + b"\n")


def make_ring():
    """Steps as they are, and with the command's length, a slot's or a page's number, or the plan's size changed."""
    def change(word, value):
        return struct.pack("<HI", word, value)
    for step in range(0, 24, 4):
        write("ring", f"step_{step}", bytes([step]))
    write("ring", "long", b"\0" + change(2, 0xffffffff))
    write("ring", "short", b"\0" + change(2, 64))
    write("ring", "kind", b"\1" + change(0, 4))
    for word in range(3, 60, 3):
        write("ring", f"word_{word}", bytes([word % 20]) + change(word, 0x7fffffff))


for make in (make_gguf, make_safetensors, make_config, make_tokenizer, make_template, make_policy, make_batch,
             make_activations, make_http, make_job, make_ring):
    make()
