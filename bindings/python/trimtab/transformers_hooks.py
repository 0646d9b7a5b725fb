"""Applies a policy file to a Transformers model by forward hooks: what trimtab does with it, in PyTorch alone, to
compare with or to take away. For `add`, and the gates always, probe, mlp and probe_mlp at the last token of the prompt.

    hooks, coef = steer(model, "refuse.safetensors", ids)     # the gate reads this prompt, ids: [1, T]
    model.generate(ids, do_sample=False)
    [hook.remove() for hook in hooks]
"""

from __future__ import annotations

from typing import Any

import torch
from safetensors import safe_open


def layers_of(text: str) -> list[int]:
    ends = [part.split("-") for part in text.split(",") if part]
    return [layer for end in ends for layer in range(int(end[0]), int(end[-1]) + 1)]


@torch.no_grad()  # type: ignore[untyped-decorator]
def steer(model: Any, path: str, ids: torch.Tensor, scale: float = 1.0) -> tuple[list[Any], torch.Tensor]:
    with safe_open(path, "pt") as file:
        t = {name: file.get_tensor(name) for name in file.keys()}
        meta = {key.removeprefix("trimtab."): value for key, value in file.metadata().items()}
    if meta["op"] != "add" or meta.get("norm", "free") != "free" or meta.get("gate.pool", "last") != "last":
        raise ValueError("only policies that add, with a gate that reads the last token")
    blocks, states = model.model.layers, {}

    def resid(out: Any) -> torch.Tensor:
        return out[0] if isinstance(out, tuple) else out

    taps = [blocks[l].register_forward_hook(lambda _, __, out, l=l: states.update({l: resid(out)[0, -1].double()}))
            for l in layers_of(meta.get("observe", ""))]
    model(ids)
    [tap.remove() for tap in taps]
    x = torch.cat([states[l] for l in sorted(states)]) if states else torch.zeros(0)
    d = {name: value.double() for name, value in t.items()}
    z = torch.zeros(1 + len(blocks)).double()
    if "gate.fc1.weight" in d:
        z = d["gate.fc2.weight"] @ torch.relu(d["gate.fc1.weight"] @ x + d["gate.fc1.bias"]) + d["gate.fc2.bias"]
    logit = z[0] + (d["gate.w"].flatten() @ x + d["gate.b"][0] if "gate.w" in d else 0)
    s = {"always": torch.ones(()), "mlp": z[0] if meta.get("gate.bound") == "none" else z[0].sigmoid()}.get(
        meta["gate"], (logit.sigmoid() > float(meta.get("threshold", 0))).double())
    learned = meta["gate"] == "mlp" or meta.get("gate.layers") == "learned"
    coef = scale * float(meta["alpha"]) * s * d["weight"] * (z[1:].sigmoid() if learned else 1)

    def push(layer: int) -> Any:
        def hook(_: Any, __: Any, out: Any) -> Any:
            h = resid(out)
            acts = torch.ones(h.shape[1], dtype=torch.bool)
            if h.shape[1] > 1 and meta["when"] != "all":  # the prompt
                acts[:] = False
                acts[-1] = meta["when"] == "last"
            c = coef[layer].to(h.dtype) * t[f"direction.{layer}"].flatten().to(h.dtype)
            h = torch.where(acts[:, None], h + c, h)
            return (h, *out[1:]) if isinstance(out, tuple) else h
        return blocks[layer].register_forward_hook(hook)

    return [push(l) for l in coef.nonzero().flatten().tolist()], coef.float()
