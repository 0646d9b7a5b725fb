"""The library's functions, called: errors become exceptions, and what it hands out becomes Python's own."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from trimtab import _errors
from trimtab._native import ffi, lib

__all__ = ["ffi", "lib"]

# Read and written by the library, one thread at a time, like an engine's; a control vector becomes a policy of the
# first model that it is added to.
POLICIES = threading.RLock()


class Single:
    """What holds a pointer of the library's is not copied: two objects would free it."""

    def __reduce_ex__(self, _: Any) -> Any:
        raise TypeError(f"a trimtab.{type(self).__name__} can be neither copied nor pickled")


def call(function: Callable[..., int], *arguments: Any) -> None:
    """Calls a function whose last argument is the error."""
    error = ffi.new("struct tt_error *")
    status = function(*arguments, error)
    if status != lib.TT_OK:
        raise _errors.BY_CODE.get(status, _errors.Error)(ffi.string(error.message).decode(errors="replace"))


def to_bytes(value: Any, what: str, *, path: bool = False) -> bytes:
    """Text, or the name of a file, as the library takes it: terminated, so that it may not hold a NUL."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, (str, bytes)):
        raise TypeError(f"{what} must be a {'path' if path else 'str'}, not {type(value).__name__}")
    try:
        data = value if isinstance(value, bytes) else os.fsencode(value) if path else value.encode()
    except UnicodeEncodeError as error:
        raise _errors.ArgumentError(f"{what} is not valid Unicode: {error}") from None
    if b"\0" in data:
        raise _errors.ArgumentError(f"{what} must not hold a NUL character")
    return data


def text_of(pointer: Any) -> str:
    """A string that is borrowed; "" for NULL."""
    return ffi.string(pointer).decode(errors="replace") if pointer else ""


def take_text(function: Callable[..., int], *arguments: Any) -> str:
    """Of a function that hands out a string before the error; its memory is freed here."""
    out = ffi.new("char **")
    try:
        call(function, *arguments, out)
        return text_of(out[0])
    finally:
        lib.tt_free(out[0])


def take_json(function: Callable[..., int], *arguments: Any) -> Any:
    return json.loads(take_text(function, *arguments))


def take_ids(out: Any, n: Any) -> list[int]:
    ids = ffi.unpack(out[0], n[0]) if n[0] else []
    lib.tt_free(out[0])
    return ids


def ids_of(values: Any, what: str = "ids") -> np.ndarray:
    """Token ids as the library reads them."""
    if isinstance(values, (str, bytes)):
        raise TypeError(f"{what} must be a list of token ids, not {type(values).__name__}")
    try:
        array = np.asarray(values if isinstance(values, np.ndarray) else list(values))
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"{what} must be a list of token ids") from None
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise TypeError(f"{what} must be a list of token ids, not of shape {array.shape} and {array.dtype}")
    if array.size and not (-(2**31) <= int(array.min()) and int(array.max()) < 2**31):
        raise _errors.ArgumentError(f"{what}: a token id has 32 bits")
    return np.ascontiguousarray(array, np.int32)


def pointer_to(array: np.ndarray, kind: str) -> Any:
    """The array's own memory: it must be kept for as long as the pointer is used."""
    return ffi.cast(kind, ffi.from_buffer(array)) if array.size else ffi.NULL


def floats_of(pointer: Any, shape: Sequence[int]) -> np.ndarray:
    """A copy of floats that the library lends."""
    n = int(np.prod(shape, dtype=np.int64))
    if not pointer or n == 0:
        return np.zeros(shape, np.float32)
    return np.frombuffer(ffi.buffer(pointer, n * 4), np.float32).reshape(shape).copy()
