"""The words of enumerations: the end of each constant's name. TT_FIT_CAST of enum tt_fit_mode is "cast"."""

from __future__ import annotations

import functools
import os
from typing import Any

from trimtab._errors import ArgumentError
from trimtab._library import ffi


@functools.cache
def words(kind: str) -> dict[str, int]:
    """The words of an enumeration (such as "enum tt_finish") and their numbers, in the header's order."""
    names = dict(sorted(ffi.typeof(kind).relements.items(), key=lambda item: item[1]))
    common = os.path.commonprefix(list(names))
    start = common.rfind("_") + 1
    return {name[start:].lower().removeprefix("finish_"): value for name, value in names.items()}


def number(kind: str, word: Any, what: str) -> int:
    if not isinstance(word, str):
        raise TypeError(f"{what} must be a str, not {type(word).__name__}")
    known = words(kind)
    if word.replace(",", "_") not in known:
        raise ArgumentError(f"{what} is {word!r}, not one of {', '.join(known)}")
    return known[word.replace(",", "_")]


def word(kind: str, value: int) -> str:
    return next(word for word, known in words(kind).items() if known == value)
