"""Options of the library as keyword arguments. Their names are those of the structs' members, which are looked up in
the header as it was compiled: a member that the header gains is an option here the same day.

Beside the members themselves:
  n_data, n_ids ...                  follow from the lists
  steering, n_steering               from `policies`
  sampling                           its members are keywords: temperature, top_p, min_p, top_k, seed
  enumerations                       words, such as when="all"
  size, user, progress, note ...     are this module's"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from trimtab import _enums
from trimtab._errors import ArgumentError
from trimtab._library import ffi, ids_of, lib, pointer_to, to_bytes

Progress = Callable[[str, int, int], Any]
OWN = {"size", "user", "steering", "n_steering"}


def members(kind: str) -> dict[str, Any]:
    """What may be given for a struct of options: member and type."""
    fields = dict(ffi.typeof(f"struct {kind}").fields)
    found: dict[str, Any] = {}
    for name, field in fields.items():
        if name in OWN or field.type.kind == "function":
            continue
        if name.startswith("n_") and name[2:] in fields:
            continue  # the length of a list
        if field.type.kind == "struct":
            found |= members(field.type.cname.removeprefix("struct "))
        else:
            found[name] = field.type
    return found


class Options:
    """A struct of options and all that it points to."""

    def __init__(self, kind: str, values: Mapping[str, Any], *, paths: bool = True) -> None:
        self.kind, self._paths = kind, paths
        self.struct = ffi.new(f"struct {kind} *")
        self._kept: list[Any] = []
        size = ffi.sizeof(f"struct {kind}")
        initialise = getattr(lib, f"{kind}_default_sized", None)
        if initialise:
            initialise(self.struct, size)
        else:
            self.struct.size = size
        known = members(kind)
        for name, value in values.items():
            if name not in known:
                raise TypeError(f"{name!r} is not an option; there are {', '.join(sorted(known))}")
            if value is not None:
                self._set(name, known[name], value)

    def keep(self, thing: Any) -> Any:
        """Keeps what the struct points to for as long as the struct."""
        self._kept.append(thing)
        return thing

    def _set(self, name: str, kind: Any, value: Any) -> None:
        target = self.struct
        if not hasattr(target, name):
            target = target.sampling
        if kind.kind == "primitive":
            setattr(target, name, plain(kind.cname, name, value))
        elif kind.kind == "enum":
            setattr(target, name, _enums.number(kind.cname, value, name))
        elif kind.cname == "char *":
            setattr(target, name, self.string(value, name))
        elif kind.cname in ("char * *", "float *", "int32_t *") or kind.kind == "array":
            self._set_list(name, kind, value)
        else:
            raise TypeError(f"{name!r} cannot be given as an option of this call")

    def string(self, value: Any, what: str) -> Any:
        return self.keep(ffi.new("char []", to_bytes(value, what, path=self._paths)))

    def _set_list(self, name: str, kind: Any, value: Any) -> None:
        if kind.cname == "int32_t *":
            pointer = self.array(ids_of(value, name), "int32_t *")
        elif kind.cname == "float *":
            pointer = self.array(np.ascontiguousarray(value, np.float32).ravel(), "float *")
        else:
            values = [value] if isinstance(value, (str, bytes, os.PathLike)) else list(listed(value, name))
            strings = [self.string(item, f"{name}[{i}]") for i, item in enumerate(values)]
            if kind.kind == "array":
                if len(strings) > kind.length:
                    raise ArgumentError(f"{name}: {kind.length} at most, not {len(strings)}")
                for i, string in enumerate(strings):
                    getattr(self.struct, name)[i] = string
                setattr(self.struct, f"n_{name}", len(strings))
                return
            setattr(self.struct, name, self.keep(ffi.new("char *[]", strings)))
            setattr(self.struct, f"n_{name}", len(strings))
            return
        setattr(self.struct, name, pointer)
        if hasattr(self.struct, f"n_{name}"):
            setattr(self.struct, f"n_{name}", len(self._kept[-1]))

    def array(self, array: np.ndarray, kind: str) -> Any:
        return pointer_to(self.keep(array), kind)

    def steer(self, steering: Iterable[tuple[Any, float]]) -> None:
        """The policies, as native pointers, and their scales."""
        pairs = list(steering)
        if len(pairs) > lib.TT_MAX_STACK:
            raise ArgumentError(f"at most {lib.TT_MAX_STACK} policies on one request")
        into = self.struct.steering
        if ffi.typeof(into).kind == "pointer":
            into = self.struct.steering = self.keep(ffi.new("struct tt_steering[]", max(1, len(pairs))))
        for i, (policy, scale) in enumerate(pairs):
            into[i].policy, into[i].scale = policy, scale
        self.struct.n_steering = len(pairs)


def listed(value: Any, name: str) -> Iterable[Any]:
    if not isinstance(value, Iterable):
        raise TypeError(f"{name} must be a list, not {type(value).__name__}")
    return value


def plain(kind: str, name: str, value: Any) -> Any:
    if kind == "_Bool":
        if not isinstance(value, (bool, np.bool_)):
            raise TypeError(f"{name} must be a bool, not {type(value).__name__}")
        return bool(value)
    if kind in ("float", "double"):
        try:
            if isinstance(value, (bool, str, bytes)):
                raise TypeError
            return float(value)
        except (TypeError, OverflowError):
            raise TypeError(f"{name} must be a number, not {type(value).__name__}") from None
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        whole = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, not {type(value).__name__}") from None
    try:
        ffi.new(f"{kind} *", whole)
    except OverflowError:
        raise ArgumentError(f"{name} is {whole}, which is out of its range") from None
    return whole


def layer_mask(layers: Any, name: str, n_layers: int) -> np.ndarray:
    """A bit for each layer, for as many layers as the model has."""
    mask = np.zeros((n_layers + 63) // 64, np.uint64)
    for layer in listed(layers, name):
        if plain("uint32_t", name, layer) >= n_layers:
            raise ArgumentError(f"{name}: the model has the layers 0 to {n_layers - 1}, and not {layer}")
        mask[int(layer) // 64] |= np.uint64(1) << np.uint64(int(layer) % 64)
    return mask


# ---- What long functions say while they run


class Calls:
    """A progress function and a note function for one call of the library. If one raises, the library is asked to stop,
    and what was raised goes on from `reraise`. Python looks for signals here, so that an interrupt stops the call."""

    def __init__(self, options: Options, progress: Progress | None, note: Callable[[str], Any] | None = None) -> None:
        self.progress, self.note, self.raised = progress, note, None
        options.struct.progress, options.struct.user = lib.trimtab_progress, options.keep(ffi.new_handle(self))
        if hasattr(options.struct, "note"):
            options.struct.note = lib.trimtab_note

    raised: BaseException | None

    def reraise(self) -> None:
        if self.raised:
            raise self.raised
