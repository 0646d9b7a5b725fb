"""Requests: one sequence each, in flight or finished, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from trimtab import _enums
from trimtab._errors import ClosedError
from trimtab._library import Single, call, ffi, floats_of, lib

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trimtab._engine import Engine
    from trimtab._policy import Policy

RUNNING = "running"
NEVER = 2 ** (8 * ffi.sizeof("size_t")) - 1


@dataclass(frozen=True)
class Token:
    """A generated token. text: the characters that it completed, perhaps none; an end token has none."""

    id: int
    text: str
    logprob: float
    top: list[tuple[int, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Decision:
    """What a policy's gate said of a prompt, and what came of it. gate: what s was made from. coef: the coefficients of
    each layer, [L]; w: its weights. killed_from: the position from which on the kill switch let nothing steer."""

    policy: str
    scale: float
    s: float
    gate: float | None
    when: str
    coef: NDArray[np.float32]
    w: NDArray[np.float32]
    killed_from: int | None

    @property
    def steers(self) -> bool:
        return bool(np.any(self.coef))


@dataclass(frozen=True)
class Telemetry:
    """What steered each token that ran. ids: [T], prompt and generated tokens but the last one, which never ran; coef:
    [policies, T, L] the coefficients that acted on it; norms: [T, L, 2] the length of the residual stream before and
    after, 0 where no policy acts."""

    ids: NDArray[np.int32]
    coef: NDArray[np.float32]
    norms: NDArray[np.float32]


@dataclass(frozen=True)
class Answer:
    """What came of a request.

    finish: "stop", "length", "context", "cancelled", "deadline" or "failed". scores, hidden, logits and telemetry are
    there if they were asked for: score, keep_layers, keep_logits, telemetry of Engine.submit."""

    text: str
    finish: str
    prompt_ids: list[int]
    tokens: list[Token]
    decisions: list[Decision]
    scores: NDArray[np.float32] | None = None
    score_top: list[list[tuple[int, float]]] | None = None
    hidden: dict[int, NDArray[np.float32]] | None = None
    logits: NDArray[np.float32] | None = None
    telemetry: Telemetry | None = None

    @property
    def ids(self) -> list[int]:
        return [token.id for token in self.tokens]


class Handle:
    """The library's request, where the library itself writes it, so that no interrupt loses it. The engine keeps it
    until it is freed, and so frees it before it closes."""

    def __init__(self) -> None:
        self.out = ffi.new("struct tt_request **")

    def free(self) -> None:
        # Between these two lines Python handles no signal.
        pointer, self.out[0] = self.out[0], ffi.NULL
        lib.tt_request_free(pointer)


@dataclass
class Asked:
    """What a request was submitted with, as far as its answer needs it."""

    ids: NDArray[np.int32]
    steering: list[tuple[Policy, float]]
    layers: list[int] | None
    keep_from: int
    logits_from: int | None
    score_top: int
    telemetry: bool


class Request(Single):
    """A request in flight. Iterating gives its tokens as they come; other requests of the engine advance too. wait()
    goes to the end. Freed with the object: an abandoned one is cancelled."""

    def __init__(self, engine: Engine, handle: Handle, asked: Asked) -> None:
        self._engine, self._handle, self._asked = engine, handle, asked
        self._tokens: list[Token] = []
        self._given = 0

    def __repr__(self) -> str:
        return f"<trimtab.Request of {self._asked.ids.size} ids>"

    def __enter__(self) -> Request:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __del__(self) -> None:
        # Only noted: a destructor may run anywhere, also while this thread is inside the library.
        engine, handle = getattr(self, "_engine", None), getattr(self, "_handle", None)
        if engine is not None and handle is not None:
            engine._dead.append(handle)

    def _pointer(self) -> Any:
        self._engine._check()
        if not self._handle.out[0]:
            raise ClosedError("the request was closed")
        return self._handle.out[0]

    def _take(self) -> None:
        """Moves the tokens that there are to self._tokens. The turn is this thread's."""
        pointer, token = self._pointer(), ffi.new("struct tt_token *")
        while lib.tt_request_next(pointer, token):
            top = [(token.top_ids[k], token.top_logprobs[k]) for k in range(token.n_top)]
            text = ffi.buffer(token.text, token.n_text)[:].decode(errors="replace") if token.n_text else ""
            self._tokens.append(Token(token.id, text, token.logprob, top))

    def _advance(self, until: int | None) -> bool:
        """Steps once, unless there are more tokens than `until`; whether there may be more to come."""
        with self._engine._turn:
            self._take()
            if until is not None and len(self._tokens) > until:
                return True
            if lib.tt_request_finish(self._pointer()) != lib.TT_RUNNING:
                return False
            call(lib.tt_engine_step, self._engine._pointer)
            self._take()
            return True

    def __iter__(self) -> Iterator[Token]:
        return self

    def __next__(self) -> Token:
        while len(self._tokens) <= self._given:
            if not self._advance(self._given) and len(self._tokens) <= self._given:
                raise StopIteration
        self._given += 1
        return self._tokens[self._given - 1]

    @property
    def finish(self) -> str:
        """Why it ended, or "running"."""
        with self._engine._turn:
            return _enums.word("enum tt_finish", lib.tt_request_finish(self._pointer()))

    def wait(self) -> Answer:
        """Steps until the request has finished."""
        while self._advance(None):
            pass
        return self.answer()

    def cancel(self) -> None:
        """Ends it; what was generated stays readable."""
        with self._engine._turn:
            lib.tt_request_cancel(self._pointer())

    def close(self) -> None:
        """Cancels it if it has not finished, and frees it. A closed request may be closed again."""
        self._engine._free(self._handle)

    # ---- What came of it

    def answer(self) -> Answer:
        """What has come of it so far; reports of a request that still runs are not complete."""
        asked = self._asked
        with self._engine._turn:
            pointer = self._pointer()
            self._take()
            finish = _enums.word("enum tt_finish", lib.tt_request_finish(pointer))
            n, n_layers, width = asked.ids.size, self._engine.info.n_layers, self._engine.info.hidden_size
            hidden = logits = None
            if asked.layers is not None:
                hidden = {layer: floats_of(lib.tt_request_hidden(pointer, layer), [n - asked.keep_from, width])
                          for layer in asked.layers}
            if asked.logits_from is not None:
                logits = floats_of(lib.tt_request_logits(pointer),
                                   [n - asked.logits_from, self._engine.info.vocab_size])
            scores = lib.tt_request_scores(pointer)
            return Answer("".join(token.text for token in self._tokens), finish, asked.ids.tolist(),
                          list(self._tokens), self._decisions(pointer, n_layers),
                          floats_of(scores, [n]) if scores else None, self._score_top(pointer), hidden, logits,
                          self._telemetry(pointer, n_layers) if asked.telemetry else None)

    def _decisions(self, pointer: Any, n_layers: int) -> list[Decision]:
        found, decision = [], ffi.new("struct tt_decision *")
        for i, (policy, scale) in enumerate(self._asked.steering):
            if not lib.tt_request_decision(pointer, i, decision):
                break
            found.append(Decision(
                policy.info.name, scale, decision.s, None if decision.gate != decision.gate else decision.gate,
                _enums.word("enum tt_policy_when", decision.when), floats_of(decision.coef, [n_layers]),
                floats_of(decision.w, [n_layers]), decision.killed_from if decision.killed else None))
        return found

    def _score_top(self, pointer: Any) -> list[list[tuple[int, float]]] | None:
        if not self._asked.score_top:
            return None
        ids, logprobs, all_of_them = ffi.new("int32_t const **"), ffi.new("float const **"), []
        for index in range(self._asked.ids.size):
            n = lib.tt_request_score_top(pointer, index, ids, logprobs)
            all_of_them.append([(ids[0][k], logprobs[0][k]) for k in range(n)])
        return all_of_them

    def _telemetry(self, pointer: Any, n_layers: int) -> Telemetry:
        n_positions = ffi.new("size_t *")
        norms = lib.tt_request_norms(pointer, n_positions)
        n, steering = n_positions[0], self._asked.steering
        coef = np.zeros([len(steering), n, n_layers], np.float32)
        for i in range(len(steering)):
            for position in range(n):
                acted = lib.tt_request_coefficients(pointer, i, position)
                if acted:
                    coef[i, position] = floats_of(acted, [n_layers])
        ids = np.concatenate([self._asked.ids, np.array([token.id for token in self._tokens], np.int32)])[:n]
        return Telemetry(ids, coef, floats_of(norms, [n, n_layers, 2]))
