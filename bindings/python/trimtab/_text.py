"""Tokenizers and chat templates: of an engine (Engine.text), or opened alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from trimtab._errors import ClosedError
from trimtab._library import Single, call, ffi, ids_of, lib, pointer_to, take_ids, take_text, to_bytes
from trimtab._policy import Path
from trimtab._turn import Turn

Message = Mapping[str, Any]


class Text(Single):
    """The tokenizer and chat template of a GGUF file or a Hugging Face directory, without a model; or a .jinja file."""

    def __init__(self, path: Path) -> None:
        out = ffi.new("struct tt_text **")
        call(lib.tt_text_open, out, to_bytes(path, "path", path=True))
        self._pointer: Any = ffi.gc(out[0], lib.tt_text_close)
        self._turn = Turn(of_engine=False)
        self._check()

    @classmethod
    def of_engine(cls, pointer: Any, turn: Turn, check: Any) -> Text:
        """Borrowed: check raises once the engine is closed."""
        text = cls.__new__(cls)
        text._pointer, text._turn = pointer, turn
        text._check = check  # type: ignore[method-assign]
        return text

    def _check(self) -> None:
        if self._pointer is None:
            raise ClosedError("the text was closed")

    def close(self) -> None:
        """Frees a text that was opened alone. An engine's own goes with the engine."""
        with self._turn:
            self._pointer = None

    @property
    def has_tokenizer(self) -> bool:
        with self._turn:
            self._check()
            return bool(lib.tt_text_has_tokenizer(self._pointer))

    @property
    def has_template(self) -> bool:
        with self._turn:
            self._check()
            return bool(lib.tt_text_has_template(self._pointer))

    def encode(self, text: str, *, special: bool = True, bos: bool = True) -> list[int]:
        """special: text that spells a special token becomes it; bos: begin as the tokenizer itself begins a text."""
        if not isinstance(text, str):
            raise TypeError(f"text must be a str, not {type(text).__name__}")
        data = to_bytes(text.replace("\0", ""), "text") and text.encode()  # which may hold a NUL: it has a length
        flags = (lib.TT_TEXT_SPECIAL if special else 0) | (lib.TT_TEXT_BOS if bos else 0)
        ids, n = ffi.new("int32_t **"), ffi.new("size_t *")
        with self._turn:
            self._check()
            call(lib.tt_text_encode, self._pointer, data, len(data), flags, ids, n)
            return take_ids(ids, n)

    def decode(self, ids: Iterable[int]) -> str:
        """Without special tokens; what is no UTF-8 becomes U+FFFD."""
        array = ids_of(ids)
        if not array.size:
            return ""
        with self._turn:
            self._check()
            return take_text(lib.tt_text_decode, self._pointer, pointer_to(array, "int32_t *"), array.size)

    def piece(self, token: int) -> bytes:
        """The bytes of one token, perhaps only a part of a character; empty for an id that there is not."""
        n = ffi.new("size_t *")
        with self._turn:
            self._check()
            bytes_ = lib.tt_text_piece(self._pointer, int(ids_of([token])[0]), n)
            return bytes(ffi.buffer(bytes_, n[0])) if n[0] else b""

    def render(self, messages: Iterable[Message], *, generation_prompt: bool = True) -> str:
        """A conversation in the model's chat template."""
        data = messages_json(messages)
        with self._turn:
            self._check()
            return take_text(lib.tt_text_render, self._pointer, data, chat(generation_prompt))

    def encode_chat(self, messages: Iterable[Message], *, generation_prompt: bool = True) -> list[int]:
        return self.encode_chat_span(messages, generation_prompt=generation_prompt)[0]

    def encode_chat_span(self, messages: Iterable[Message], *,
                         generation_prompt: bool = True) -> tuple[list[int], int, int]:
        """The ids of a conversation, and from where to where they hold the last user message."""
        ids, n, span = ffi.new("int32_t **"), ffi.new("size_t *"), ffi.new("size_t[2]")
        data = messages_json(messages)
        with self._turn:
            self._check()
            call(lib.tt_text_encode_chat_span, self._pointer, data, chat(generation_prompt), ids, n, span, span + 1)
            return take_ids(ids, n), span[0], span[1]


def chat(generation_prompt: bool) -> Any:
    return ffi.new("struct tt_chat_options *", {"size": ffi.sizeof("struct tt_chat_options"),
                                                "no_generation_prompt": not generation_prompt})


def messages_json(messages: Iterable[Message]) -> bytes:
    if isinstance(messages, (str, bytes, Mapping)):
        raise TypeError(f"messages must be a list of messages, not {type(messages).__name__}")
    listed = list(messages)
    for i, message in enumerate(listed):
        if not isinstance(message, Mapping):
            raise TypeError(f"messages[{i}] must be a dict with role and content, not {type(message).__name__}")
    try:
        data = json.dumps([dict(message) for message in listed], ensure_ascii=False)
    except ValueError as error:
        raise TypeError(f"messages cannot be written as JSON: {error}") from None
    return to_bytes(data, "messages")
