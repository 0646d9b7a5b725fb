"""Policies as other programs' arguments name them: FILE[:SCALE], several joined by +. A file whose name has a + stands
alone."""

from __future__ import annotations

import os

from trimtab._engine import Engine
from trimtab._errors import ArgumentError
from trimtab._policy import Policy


def parts_of(text: str) -> tuple[str, str]:
    """A policy's file and its scale."""
    path, colon, scale = text.rpartition(":")
    return (path, scale) if colon and not os.path.exists(text) else (text, "1")


def load_policies(engine: Engine, text: str | None, layers: str | None = None) -> list[tuple[Policy, float]]:
    text, loaded = text or "", []
    whole, scale = parts_of(text)
    for part in filter(None, [text] if os.path.exists(whole) and "+" not in scale else text.split("+")):
        path, scale = parts_of(part)
        try:
            number = float(scale)
        except ValueError:
            raise ArgumentError(f"{part!r} is not a policy's file with a scale, FILE:SCALE") from None
        loaded.append((engine.load_policy(path, layers=layers), number))
    return loaded
