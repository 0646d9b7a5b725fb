"""Policies: loaded, saved, exported, and made of arrays."""

from __future__ import annotations

import json
import os
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from trimtab import _enums
from trimtab._errors import ArgumentError
from trimtab._library import POLICIES, Single, call, ffi, floats_of, lib, text_of, to_bytes

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from trimtab._engine import Engine

Path = str | os.PathLike[str]


@dataclass(frozen=True)
class PolicyInfo:
    """What a policy is. The names are those of struct tt_policy_info in trimtab.h, which says what they mean."""

    name: str
    op: str
    op_sentence: str
    op_form: str
    when: str
    gate: str
    gate_form: str
    gate_sentence: str
    gate_pool: str
    change: str
    n_layers: int
    hidden_size: int
    n_directions: int
    weights: NDArray[np.float32]
    norms: NDArray[np.float32]
    observed: list[int]
    alpha: float
    threshold: float | None
    opens_below: bool
    learns_layers: bool
    n_units: int
    rule: str
    conditions: list[str]
    fingerprint: str
    weights_digest: str
    fitted_on: list[dict[str, Any]]
    created: str
    version: str


def describe(pointer: Any) -> PolicyInfo:
    info = ffi.new("struct tt_policy_info *")
    lib.tt_policy_describe(pointer, info)
    values: dict[str, Any] = {}
    for field in fields(PolicyInfo):
        value = getattr(info, field.name, None)
        is_text = isinstance(value, ffi.CData) and ffi.typeof(value).cname == "char *"
        values[field.name] = text_of(value) if is_text else value
    for name in ("weights", "norms"):
        values[name] = floats_of(getattr(info, name), [info.n_layers])
    for name, kind in (("when", "policy_when"), ("gate_pool", "gate_pool"), ("change", "change")):
        values[name] = _enums.word(f"enum tt_{kind}", getattr(info, name))
    return PolicyInfo(**values | {
        "op": text_of(info.op_word),
        "gate": text_of(info.gate_word),
        "observed": ffi.unpack(info.observed, info.n_observed) if info.n_observed else [],
        "threshold": info.threshold if info.has_threshold else None,
        "conditions": [text_of(info.conditions[k]) for k in range(info.n_conditions)],
        "fitted_on": json.loads(text_of(info.fitted_on) or "[]"),
    })


class Policy(Single):
    """A steering policy. It belongs to no engine until one takes it (Engine.add, or its first use)."""

    def __init__(self, pointer: Any) -> None:
        if not isinstance(pointer, ffi.CData):
            raise TypeError("policies are made by Policy.load, Policy.from_arrays and Engine.fit")
        self._pointer = ffi.gc(pointer, lib.tt_policy_free)

    def __repr__(self) -> str:
        info = self.info
        return f"<trimtab.Policy {info.name!r}: {info.op}, gate {info.gate}, when {info.when}>"

    @classmethod
    def load(cls, path: Path, *, layers: str | None = None) -> Policy:
        """A policy file, or a GGUF control vector. layers: the only ones to steer, such as "9-14"."""
        out = ffi.new("struct tt_policy **")
        call(lib.tt_policy_load, out, to_bytes(path, "path", path=True))
        policy = cls(out[0])
        if layers is not None:
            policy.keep_layers(layers)
        return policy

    def keep_layers(self, layers: str) -> None:
        """Steers no other layers than these. For a policy that no engine has taken yet."""
        with POLICIES:
            call(lib.tt_policy_keep_layers, self._pointer, to_bytes(layers, "layers"))

    def save(self, path: Path) -> None:
        with POLICIES:
            call(lib.tt_policy_save, self._pointer, to_bytes(path, "path", path=True))

    def export(self, path: Path) -> None:
        """Writes a GGUF control vector, for llama.cpp and others."""
        with POLICIES:
            call(lib.tt_policy_export, self._pointer, to_bytes(path, "path", path=True))

    @property
    def info(self) -> PolicyInfo:
        with POLICIES:
            return describe(self._pointer)

    def arrays(self) -> tuple[dict[str, NDArray[np.float32]], dict[str, str]]:
        """The tensors and the metadata of the policy's file, as docs/formats.md names them."""
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "policy.safetensors")
            self.save(path)
            with safe_open(path, framework="numpy") as file:
                return {name: file.get_tensor(name).copy() for name in file.keys()}, dict(file.metadata())

    @classmethod
    def from_arrays(cls, model: Engine, directions: Mapping[int, ArrayLike], *,
                    weights: Mapping[int, float] | Sequence[float] | None = None,
                    tensors: Mapping[str, ArrayLike] | None = None, **metadata: object) -> Policy:
        """A policy of arrays, which is checked as a file is.

        directions: by layer, [d] or [r, d]; weights: by layer, 0 to 1, or of every layer (absent: 1). metadata: the
        keys of docs/formats.md, with _ for a dot: op="ablate", when="generation", alpha=2, gate="probe",
        observe=[9, 12], gate_pool="mean", threshold=0.5, name="calm". tensors: what else the operation and the gate
        have, by their names there: {"gate.w": ..., "gate.b": [0]}."""
        layers = sorted(directions)
        n_layers = model.info.n_layers
        if not layers or layers[0] < 0 or layers[-1] >= n_layers:
            raise ArgumentError(f"directions must be of layers 0 to {n_layers - 1}, at least one")
        if weights is None:
            weights = dict.fromkeys(layers, 1.0)
        if isinstance(weights, Mapping):
            weights = [weights.get(layer, 0.0) for layer in range(n_layers)]
        arrays = {f"direction.{layer}": directions[layer] for layer in layers} | {"weight": weights}
        arrays |= dict(tensors or {})
        known = {"format": 4, "name": "policy", "fingerprint": model.info.fingerprint,
                 "weights_digest": model.info.weights_digest, "op": "add", "when": "all", "alpha": 1.0,
                 "gate": "always", "layers": ",".join(map(str, layers))}
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "policy.safetensors"
            save_file({name: to_array(array, name) for name, array in arrays.items()}, path,
                      metadata={key_of(name): value_of(value) for name, value in (known | metadata).items()})
            return cls.load(path)


def to_array(array: Any, name: str) -> NDArray[np.float32]:
    """Of lists, NumPy's arrays and PyTorch's tensors."""
    if hasattr(array, "detach"):
        array = array.detach().float().cpu().numpy()
    try:
        return np.ascontiguousarray(array, np.float32)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be an array of numbers") from None


def key_of(name: str) -> str:
    """trimtab.gate.pool of gate_pool."""
    whole = name in ("weights_digest", "fitted_on")
    return f"trimtab.{name if whole else name.replace('_', '.')}"


def value_of(value: object) -> str:
    if isinstance(value, (list, tuple, np.ndarray)):
        return ",".join(map(str, value))
    if isinstance(value, (float, np.floating)):
        return repr(float(value))
    return str(value)
