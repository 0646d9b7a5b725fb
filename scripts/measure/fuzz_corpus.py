#!/usr/bin/env python3
"""Many small inputs of a fuzz target in one file: each after its length in four bytes, low byte first.

fuzz_corpus.py unpack FILE FOLDER    writes the inputs, each under the SHA-256 of its bytes, as libFuzzer's corpora
                                     want them
fuzz_corpus.py pack FOLDER FILE      the other way; at most 100000 bytes"""
import hashlib
import pathlib
import sys


def unpack(path, folder):
    data, at = pathlib.Path(path).read_bytes(), 0
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    while at < len(data):
        n = int.from_bytes(data[at:at + 4], "little")
        text = data[at + 4:at + 4 + n]
        if len(text) != n:
            sys.exit(f"{path}: an input runs past the end of the file")
        (folder / hashlib.sha256(text).hexdigest()[:16]).write_bytes(text)
        at += 4 + n


def pack(folder, path):
    inputs = sorted((file.read_bytes() for file in pathlib.Path(folder).iterdir()), key=lambda text: (len(text), text))
    data = b"".join(len(text).to_bytes(4, "little") + text for text in inputs)
    if len(data) > 100000:
        sys.exit(f"{folder}: {len(data)} bytes, more than 100000: merge it first")
    pathlib.Path(path).write_bytes(data)
    print(f"{path}: {len(inputs)} inputs, {len(data)} bytes")


if len(sys.argv) != 4 or sys.argv[1] not in ("pack", "unpack"):
    sys.exit(__doc__)
{"pack": pack, "unpack": unpack}[sys.argv[1]](sys.argv[2], sys.argv[3])
