#!/usr/bin/env python3
"""Writes a small policy for the tests: an add at every layer, by the format in docs/formats.md and the standard library
alone, so that the program reads what it did not write.

  make_policy.py OUT LAYERS WIDTH FINGERPRINT [KEY=VALUE]...

KEY=VALUE: metadata to replace, or to leave out when VALUE is empty; gate.b=BIAS adds a probe that reads its bias alone,
and leaves the first layer to it; trimtab.op=rotate has a second row and a target; trimtab.gate=cosine has a condition
vector; trimtab.gate=rule has two, the first of which holds.
"""

import json
import struct
import sys

out, n_layers, width, fingerprint = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
metadata = {
    "trimtab.format": "1",
    "trimtab.name": "test",
    "trimtab.fingerprint": fingerprint,
    "trimtab.op": "add",
    "trimtab.when": "all",
    "trimtab.layers": f"0-{n_layers - 1}",
    "trimtab.alpha": "1.5",
    "trimtab.gate": "always",
}
for change in sys.argv[5:]:
    key, value = change.split("=", 1)
    metadata[key] = value
bias = metadata.pop("gate.b", None)
first = 0
if bias is not None:
    first = 1
    metadata |= {"trimtab.gate": "probe", "trimtab.observe": "0", "trimtab.threshold": "0.5",
                 "trimtab.layers": f"{first}-{n_layers - 1}"}
metadata = {key: value for key, value in metadata.items() if value}

# Any direction will do; it changes from layer to layer and has a -0.0 in it.
tensors = {f"direction.{l}": ([1, width], [(-0.0 if i == 3 else ((i * 7 + l * 13) % 11 - 5) / 3) for i in range(width)])
           for l in range(first, n_layers)}
if metadata["trimtab.op"] == "rotate":
    for name, (shape, values) in list(tensors.items()):
        second = [float((i * i + 3) % 7 - 3) for i in range(width)]
        tensors |= {name: ([2, width], values + second), name.replace("direction", "target"): ([2], [-1.0, 0.5])}
tensors["weight"] = ([n_layers], [0.0] * first + [1.0] * (n_layers - first))
if bias is not None:
    tensors |= {"gate.w": ([width], [0.0] * width), "gate.b": ([1], [float(bias)])}
if metadata["trimtab.gate"] == "cosine":
    tensors["gate.w"] = ([width], [float(i % 5 - 2) for i in range(width)])
if metadata["trimtab.gate"] == "rule":
    vectors = [float(i % 5 - 2) for i in range(width)] + [float(i % 3 - 1) for i in range(width)]
    tensors |= {"gate.w": ([2, width], vectors), "gate.thresholds": ([2], [-0.875, 0.875])}
header, data = {"__metadata__": metadata}, b""
for name, (shape, values) in tensors.items():
    packed = struct.pack(f"<{len(values)}f", *values)
    header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(packed)]}
    data += packed
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
with open(out, "wb") as file:
    file.write(struct.pack("<Q", len(text)) + text + data)
