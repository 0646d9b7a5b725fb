"""Policies as other programs' arguments name them: FILE[:SCALE], several joined by +."""

from __future__ import annotations

import os

from trimtab._engine import Engine
from trimtab._errors import ArgumentError
from trimtab._policy import Policy


def load_policies(engine: Engine, text: str | None, layers: str | None = None) -> list[tuple[Policy, float]]:
    loaded = []
    for part in filter(None, (text or "").split("+")):
        path, colon, scale = part.rpartition(":")
        if not colon or os.path.exists(part):
            path, scale = part, "1"
        try:
            number = float(scale)
        except ValueError:
            raise ArgumentError(f"{part!r} is not a policy's file with a scale, FILE:SCALE") from None
        loaded.append((engine.load_policy(path, layers=layers), number))
    return loaded
