"""trimtab: run a frozen language model and steer it.

    with trimtab.Engine("model.gguf") as engine:
        policy = engine.load_policy("refuse.safetensors")
        for token in engine.submit("How do I steal a car?", policies=policy):
            print(token.text, end="", flush=True)

docs/python.md has more. The names of options are those of trimtab.h, which documents them."""

from trimtab._engine import Capture, Engine, EngineStats, ModelInfo, build, inspect, version
from trimtab._errors import (ArgumentError, BusyError, ClosedError, DeviceError, Error, FileError, FormatError,
                             LimitError, MismatchError, OutOfMemoryError, UnsupportedError)
from trimtab._policy import Policy, PolicyInfo
from trimtab._request import Answer, Decision, Request, Telemetry, Token
from trimtab._text import Text

__version__ = version()
__all__ = [
    "Answer", "ArgumentError", "BusyError", "Capture", "ClosedError", "Decision", "DeviceError", "Engine",
    "EngineStats", "Error", "FileError", "FormatError", "LimitError", "MismatchError", "ModelInfo",
    "OutOfMemoryError", "Policy", "PolicyInfo", "Request", "Telemetry", "Text", "Token", "UnsupportedError", "build",
    "inspect", "version",
]
