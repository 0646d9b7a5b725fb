"""The controller of arXiv 2505.20309 as its authors' code saves it: a state dict of fc1 and fc2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from trimtab._errors import ArgumentError
from trimtab._policy import Policy, to_array

if TYPE_CHECKING:
    from trimtab._engine import Engine

KEYS = ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")


def policy_of_controller(model: Engine, state: Mapping[str, Any], direction: Any, *,
                         form: Literal["paper", "released"] = "released", observe: Sequence[int] | None = None,
                         alpha: float | None = None, name: str = "controller") -> Policy:
    """A policy of a controller's state dict, which torch.load(path, weights_only=True) reads, and of d_steer, the one
    direction of all layers.

    form: "released" is what the code does: the last four layers are read (negative numbers count from the end), alpha
    is 4, the last layer is pushed from the last prompt token on. "paper": the last third is read, alpha is 2, and all
    layers are pushed at generated tokens. Either way s is the network's first output, not bounded."""
    missing = [key for key in KEYS if key not in state]
    if missing or len(state) != len(KEYS):
        raise ArgumentError(f"a controller's state dict has {', '.join(KEYS)}, not {', '.join(map(str, state))}")
    if form not in ("paper", "released"):
        raise ArgumentError(f"form is {form!r}, not paper or released")
    n = model.info.n_layers
    first = max(n - 4, 0) if form == "released" else min((2 * n + 2) // 3, n - 1)
    read = sorted(layer % n for layer in observe) if observe is not None else list(range(first, n))
    pushed = [n - 1] if form == "released" else list(range(n))
    d = to_array(direction, "direction").ravel()
    return Policy.from_arrays(
        model, dict.fromkeys(pushed, d), tensors={f"gate.{key}": to_array(state[key], key) for key in KEYS},
        alpha=alpha if alpha is not None else 4.0 if form == "released" else 2.0,
        when="last" if form == "released" else "generation", gate="mlp", gate_bound="none", observe=read, name=name)
