"""The engine: a loaded model, its requests, and the long functions."""

from __future__ import annotations

import collections
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from trimtab import _callbacks, _options
from trimtab._errors import ArgumentError, BusyError, ClosedError, Error, UnsupportedError
from trimtab._library import POLICIES, Single, call, ffi, ids_of, lib, take_json, text_of, to_bytes
from trimtab._options import Calls, Options, Progress
from trimtab._policy import Path, Policy
from trimtab._request import Answer, Asked, Decision, Handle, Request
from trimtab._text import Message, Text
from trimtab._turn import Turn, same_process

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Unpack

    from trimtab._keywords import (AttackOptions, BatchOptions, CaptureDataOptions, EngineOptions, EvalOptions,
                                   FitOptions, RequestOptions, ScoreOptions, StackOptions)

Prompt = str | Sequence[Message] | Sequence[int] | np.ndarray
# One policy, or several that add up in this order; each alone or with the scale of its coefficient.
Steering = Policy | tuple[Policy, float] | Sequence[Policy | tuple[Policy, float]]
When = Literal["policy", "generation", "last", "all"]
assert _callbacks  # defines what the library calls


@dataclass(frozen=True)
class ModelInfo:
    """The names are those of struct tt_model_info in trimtab.h, which says what they mean."""

    architecture: str
    name: str
    backend: str
    mode: str
    device_note: str
    n_layers: int
    hidden_size: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    ffn_size: int
    vocab_size: int
    context: int
    model_context: int
    n_threads: int
    n_parameters: int
    n_weight_bytes: int
    kv_bytes: int
    device_weight_bytes: int
    rounded_weight_bytes: int
    fingerprint: str
    weights_digest: str
    n_ranks: int
    chat_template_sha256: str | None
    max_step_tokens: int


@dataclass(frozen=True)
class EngineStats:
    """Counters since the engine was opened: struct tt_engine_stats of trimtab.h."""

    n_steps: int
    n_prefill_tokens: int
    n_decode_tokens: int
    n_reruns: int
    n_shared: int
    n_preemptions: int
    n_wasted: int
    seconds: float
    n_launches: int
    n_graph_launches: int
    n_copies_in: int
    n_copies_out: int
    n_waits: int
    n_drains: int
    n_bytes_in: int
    n_bytes_out: int


@dataclass(frozen=True)
class Capture:
    """ids: [T]; hidden: by layer, [T - first, width], what the block wrote; logits: [T - first, vocabulary]."""

    ids: NDArray[np.int32]
    hidden: dict[int, NDArray[np.float32]]
    logits: NDArray[np.float32] | None
    decisions: list[Decision]


def taken(kind: Any, struct: Any) -> Any:
    values = {field.name: getattr(struct, field.name) for field in fields(kind)}
    return kind(**{name: text_of(value) if isinstance(value, ffi.CData) else value for name, value in values.items()})


def pairs_of(policies: Any) -> list[tuple[Policy, float]]:
    """Every form that `policies` may have as policies and scales."""
    if policies is None:
        return []
    if isinstance(policies, Policy) or isinstance(policies, tuple) and len(policies) == 2 and \
            not isinstance(policies[1], (Policy, tuple)):
        policies = [policies]
    if isinstance(policies, (str, bytes, Mapping)) or not isinstance(policies, Iterable):
        raise TypeError(f"policies must be a Policy, (Policy, scale) or a list of them, not {type(policies).__name__}")
    pairs = []
    for item in policies:
        policy, scale = item if isinstance(item, tuple) and len(item) == 2 else (item, 1.0)
        if not isinstance(policy, Policy):
            raise TypeError(f"policies must be trimtab.Policy, not {type(policy).__name__}")
        pairs.append((policy, _options.plain("float", "the scale", scale)))
    return pairs


class Engine(Single):
    """A loaded model. Threads may share it: one at a time is inside the library, in the order of asking, and other
    Python threads run meanwhile. Close it, or use it in a with statement."""

    def __init__(self, model: Path, **options: Unpack[EngineOptions]) -> None:
        if hasattr(self, "_open"):
            raise ArgumentError("an engine is opened once; make another one")
        self._open, self._pid = False, os.getpid()
        self._alive = threading.Lock()  # held while the kill switch is thrown, and when the engine begins to close
        asked = Options("tt_engine_options", options)
        out = ffi.new("struct tt_engine **")
        call(lib.tt_engine_open, out, to_bytes(model, "model", path=True), asked.struct)
        self._pointer, self._open, self._turn = out[0], True, Turn()
        self._live: set[Handle] = set()
        self._dead: collections.deque[Handle] = collections.deque()
        self._policies: dict[int, Policy] = {}  # by id: all that the library may have
        self._added: set[int] = set()  # and those that it has
        self.info: ModelInfo = taken(ModelInfo, lib.tt_engine_info(self._pointer))
        self._text = lib.tt_engine_text(self._pointer)

    def __repr__(self) -> str:
        return f"<trimtab.Engine {self.info.name!r} on {self.info.backend}{'' if self._open else ', closed'}>"

    def __enter__(self) -> Engine:
        self._check_open()
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_live", None) is not None and self._open and os.getpid() == self._pid:
            self._release()  # nobody else has it, so that no turn is needed

    def _check_open(self) -> None:
        if not self._open:
            raise ClosedError("the engine was closed")
        same_process(self._pid)

    def _check(self) -> None:
        """With the turn: that the engine is there; and frees what was abandoned."""
        self._check_open()
        while self._dead:
            self._free_now(self._dead.popleft())

    def _free_now(self, handle: Handle) -> None:
        handle.free()
        self._live.discard(handle)

    def _free(self, handle: Handle) -> None:
        if self._open and os.getpid() == self._pid:
            try:
                with self._turn:
                    if self._open:
                        self._free_now(handle)
            except BusyError:  # a generator that is destroyed closes its requests, wherever that is
                self._dead.append(handle)

    def _release(self) -> None:
        with self._alive:
            self._open = False
        for handle in list(self._live):
            self._free_now(handle)
        lib.tt_engine_close(self._pointer)
        self._pointer = ffi.NULL
        self._policies.clear()

    def close(self) -> None:
        """Frees the model and all its requests. A closed engine may be closed again."""
        if self._open and os.getpid() == self._pid:
            with self._turn:
                if self._open:
                    self._release()

    @property
    def text(self) -> Text:
        """The model's tokenizer and chat template."""
        self._check_open()
        return Text.of_engine(self._text, self._turn, self._check)

    @property
    def stats(self) -> EngineStats:
        stats = ffi.new("struct tt_engine_stats *")
        with self._turn:
            self._check()
            lib.tt_engine_stats(self._pointer, stats)
        result: EngineStats = taken(EngineStats, stats)
        return result

    # ---- Policies

    def add(self, policy: Policy) -> Policy:
        """Makes a policy available. Requests do this for theirs; here it can be refused before there are any."""
        if not isinstance(policy, Policy):
            raise TypeError(f"policy must be a trimtab.Policy, not {type(policy).__name__}")
        with self._turn:
            self._check()
            self._add(policy)
        return policy

    def _add(self, policy: Policy) -> Any:
        if id(policy) not in self._added:
            warning = ffi.new("char const **")
            self._policies[id(policy)] = policy  # before the call, after which an interrupt may come
            try:
                with POLICIES:
                    call(lib.tt_engine_add_policy, self._pointer, policy._pointer, warning)
            except Error:
                del self._policies[id(policy)]
                raise
            self._added.add(id(policy))
            if warning[0]:
                warnings.warn(text_of(warning[0]), stacklevel=4)
        return policy._pointer

    def load_policy(self, path: Path, *, layers: str | None = None) -> Policy:
        """Policy.load and add."""
        return self.add(Policy.load(path, layers=layers))

    def remove(self, policy: Policy) -> None:
        """Requests that were submitted before go on with it."""
        with self._turn:
            self._check()
            if id(policy) not in self._policies:
                raise ArgumentError("the engine does not have this policy")
            self._added.discard(id(policy))  # adding one twice is no error
            call(lib.tt_engine_remove_policy, self._pointer, policy._pointer)
            del self._policies[id(policy)]

    def kill_steering(self) -> None:
        """From any thread, at once: no later step is steered. Requests that run now stay unsteered to their end."""
        with self._alive:
            self._check_open()
            lib.tt_engine_kill_steering(self._pointer)

    def resume_steering(self) -> None:
        """Later requests are steered again."""
        with self._alive:
            self._check_open()
            lib.tt_engine_resume_steering(self._pointer)

    # ---- Requests

    def encode(self, prompt: Prompt, *, system: str | None = None, raw: bool = False) -> tuple[list[int], int, int]:
        """The ids of a prompt, and from where to where they hold the last user message (0 and 0: all of it).

        A text is a user message, or with raw the text itself, as it is too where the model has no chat template; a
        list is a conversation or token ids."""
        if isinstance(prompt, str):
            if raw or system is None and not self.text.has_template:
                return self.text.encode(prompt), 0, 0
            messages = [{"role": "user", "content": prompt}]
            if system is not None:
                messages.insert(0, {"role": "system", "content": system})
            return self.text.encode_chat_span(messages)
        if isinstance(prompt, Sequence) and prompt and isinstance(prompt[0], Mapping):
            if system is not None or raw:
                raise ArgumentError("system and raw are for a prompt that is a text")
            return self.text.encode_chat_span(prompt)  # type: ignore[arg-type]
        return ids_of(prompt, "prompt").tolist(), 0, 0

    def submit(self, prompt: Prompt, *, policies: Steering | None = None, system: str | None = None, raw: bool = False,
               telemetry: bool = False, keep_layers: Iterable[int] | None = None,
               **options: Unpack[RequestOptions]) -> Request:
        """Queues a request. Iterate over what comes back for its tokens, or wait() for its answer.

        policies: what steers it. telemetry: report what acted on each token. keep_layers: keep the hidden states of
        these layers. The other options are members of struct tt_request_options in trimtab.h: max_tokens (default
        256), temperature (0: greedy), top_p, min_p, top_k, seed, stop, stop_ids, ignore_eos, timeout, n_top, when,
        score, score_from, score_top, n_prompt, keep_logits, logits_from, keep_from, mean_from, mean_to."""
        steering = pairs_of(policies)
        ids, mean_from, mean_to = self.encode(prompt, system=system, raw=raw)
        array = ids_of(ids)
        given: dict[str, Any] = {"max_tokens": 256, "mean_from": mean_from, "mean_to": mean_to} | dict(options)
        for refused in ("ids", "keep_layers", "trace"):
            if refused in options:
                raise TypeError(f"{refused!r} is not an option of a request")
        asked = Options("tt_request_options", given, paths=False)
        asked.struct.ids, asked.struct.n_ids = asked.array(array, "int32_t *"), array.size
        layers = None if keep_layers is None else sorted({int(layer) for layer in keep_layers})
        if layers is not None:
            mask = _options.layer_mask(layers, "keep_layers", self.info.n_layers)
            asked.struct.keep_layers = asked.array(mask, "uint64_t *")
        asked.struct.trace = telemetry
        handle = Handle()
        with self._turn:
            self._check()
            asked.steer((self._add(policy), scale) for policy, scale in steering)
            self._live.add(handle)
            try:
                call(lib.tt_request_submit, handle.out, self._pointer, asked.struct)
            except BaseException:
                self._dead.append(handle)
                raise
        struct = asked.struct
        return Request(self, handle, Asked(
            array, steering, layers, struct.keep_from, struct.logits_from if struct.keep_logits else None,
            struct.score_top if struct.score else 0, telemetry))

    def generate(self, prompt: Prompt, **options: Any) -> Answer:
        """submit, to its end."""
        with self.submit(prompt, **options) as request:
            return request.wait()

    def generate_all(self, prompts: Iterable[Prompt], *, window: int = 256, **options: Any) -> Iterator[Answer]:
        """The answers to many prompts in their order, each the same as alone. Up to `window` are in flight, of which
        the engine runs max_batch at the same time."""
        flying: collections.deque[Request] = collections.deque()
        try:
            for prompt in prompts:
                flying.append(self.submit(prompt, **options))
                if len(flying) >= window:
                    yield self._answer(flying.popleft())
            while flying:
                yield self._answer(flying.popleft())
        finally:
            for request in flying:
                request.close()

    @staticmethod
    def _answer(request: Request) -> Answer:
        with request:
            return request.wait()

    def loglikelihoods(self, pairs: Iterable[tuple[Sequence[int], Sequence[int]]], *,
                       policies: Steering | None = None,
                       when: When = "policy") -> Iterator[tuple[float, bool, list[Decision]]]:
        """For each context and continuation (ids): the log-probability of the continuation, whether each of its tokens
        is the likeliest, and the policies' decisions on the context. The figures are those of `trimtab score`."""
        flying: collections.deque[tuple[Request, int]] = collections.deque()
        for context, continuation in pairs:
            ids = np.concatenate([ids_of(context, "the context"), ids_of(continuation, "the continuation")])
            start = ids.size - len(continuation)
            flying.append((self.submit(ids, policies=policies, max_tokens=0, score=True, score_from=start, score_top=1,
                                       n_prompt=start, when=when), start))
            if len(flying) >= 256:
                yield self._sum(*flying.popleft())
        while flying:
            yield self._sum(*flying.popleft())

    def _sum(self, request: Request, start: int) -> tuple[float, bool, list[Decision]]:
        answer = self._answer(request)
        if answer.scores is None or answer.score_top is None:
            raise UnsupportedError("the engine gave no scores")
        scores, ids = answer.scores[start:], answer.prompt_ids[start:]
        greedy = all(top and top[0][0] == token for top, token in zip(answer.score_top[start:], ids, strict=True))
        return sum(map(float, scores)), greedy, answer.decisions

    def capture(self, prompt: Prompt, *, layers: Iterable[int] | None = None, first: int = 0, logits: bool = False,
                policies: Steering | None = None, system: str | None = None, raw: bool = False) -> Capture:
        """Runs a prompt and gives the hidden states of its layers (absent: all) from a position on (-1: of the last
        token alone)."""
        ids, mean_from, mean_to = self.encode(prompt, system=system, raw=raw)
        first = first if first >= 0 else len(ids) + first
        if not 0 <= first < max(1, len(ids)):
            raise ArgumentError(f"first is {first}, and the prompt has {len(ids)} tokens")
        answer = self.generate(ids, policies=policies, max_tokens=0, keep_from=first, mean_from=mean_from,
                               mean_to=mean_to, keep_logits=logits, logits_from=first if logits else 0,
                               keep_layers=range(self.info.n_layers) if layers is None else layers)
        return Capture(np.array(ids, np.int32), answer.hidden or {}, answer.logits, answer.decisions)

    # ---- Long functions

    def _run(self, function: Callable[..., int], asked: Options, *arguments: Any, steering: Any = None,
             progress: Progress | None = None, note: Callable[[str], Any] | None = None, report: bool = True) -> Any:
        """One of the library's long functions: its report."""
        calls = Calls(asked, progress, note)
        pairs = None if steering is None else pairs_of(steering)
        with self._turn:
            self._check()
            if pairs is not None:
                asked.steer((self._add(policy), scale) for policy, scale in pairs)
            try:
                result = None
                if report:
                    result = take_json(function, *arguments, self._pointer, asked.struct)
                else:
                    call(function, self._pointer, asked.struct, *arguments)
            except Exception:
                calls.reraise()
                raise
        calls.reraise()
        return result

    def batch(self, input: Path, output: Path, *, policies: Mapping[str, Path] | None = None,
              progress: Progress | None = None, note: Callable[[str], Any] | None = None,
              **options: Unpack[BatchOptions]) -> dict[str, Any]:
        """Answers a file of requests (docs/formats.md). Called again after it was stopped, it goes on. policies: files
        by the names that rows and `sweep` have for them."""
        asked = Options("tt_batch_options", dict(options) | {"input": input, "output": output})
        if policies is not None and not isinstance(policies, Mapping):
            raise TypeError(f"policies must be a dict of names and files, not {type(policies).__name__}")
        named = [{"name": asked.string(name, "the name of a policy"), "path": asked.string(path, "the policy's path")}
                 for name, path in (policies or {}).items()]
        asked.struct.policies = asked.keep(ffi.new("struct tt_batch_policy[]", named))
        asked.struct.n_policies = len(named)
        report = ffi.new("struct tt_batch_report *")
        self._run(lib.tt_batch, asked, report, progress=progress, note=note, report=False)
        return {name: getattr(report, name) for name, _ in ffi.typeof(report).item.fields}

    def capture_data(self, path: Path, *, policies: Steering | None = None, progress: Progress | None = None,
                     note: Callable[[str], Any] | None = None,
                     **options: Unpack[CaptureDataOptions]) -> dict[str, Any]:
        """Runs every row of a file (data) into one safetensors file, for more prompts than memory holds."""
        asked = Options("tt_capture_data_options", options)
        report = ffi.new("struct tt_capture_data_report *")
        self._run(lib.tt_capture_data, asked, to_bytes(path, "path", path=True), report, steering=policies or [],
                  progress=progress, note=note, report=False)
        return {name: getattr(report, name) for name, _ in ffi.typeof(report).item.fields}

    def score(self, *, policies: Steering | None = None, progress: Progress | None = None,
              **options: Unpack[ScoreOptions]) -> dict[str, Any]:
        """Multiple choice (choices=FILE) or a text (perplexity=FILE), unsteered and steered: the report of `trimtab
        score`."""
        asked = Options("tt_score_options", options)
        return self._report(lib.tt_score, asked, policies or [], progress)

    def evaluate(self, *, policies: Steering | None = None, arms: Mapping[str, Steering] | None = None,
                 progress: Progress | None = None, **options: Unpack[EvalOptions]) -> dict[str, Any]:
        """Labelled prompts (data=FILES), unsteered and steered, or under each of several arms: the report of `trimtab
        eval`."""
        asked = Options("tt_eval_options", options)
        named = {name: pairs_of(steering) for name, steering in (arms or {}).items()}
        for policy, _ in (pair for pairs in named.values() for pair in pairs):
            self.add(policy)
        table = asked.keep(ffi.new("struct tt_eval_arm[]", len(named)))
        for row, (name, pairs) in zip(table, named.items(), strict=True):
            if len(pairs) > lib.TT_MAX_STACK:
                raise ArgumentError(f"at most {lib.TT_MAX_STACK} policies on one request")
            row.name, row.n_steering = asked.string(name, "the name of an arm"), len(pairs)
            for i, (policy, scale) in enumerate(pairs):
                row.steering[i].policy, row.steering[i].scale = policy._pointer, scale
        asked.struct.arms, asked.struct.n_arms = table, len(named)
        return self._report(lib.tt_eval, asked, policies or [], progress)

    def attack(self, policy: Policy, *, progress: Progress | None = None,
               **options: Unpack[AttackOptions]) -> dict[str, Any]:
        """Searches words that get past a policy's gate: the report of `trimtab attack`."""
        asked = Options("tt_attack_options", options)
        asked.struct.policy = self.add(policy)._pointer
        return self._report(lib.tt_attack, asked, None, progress)

    def stack(self, policies: Steering, *, progress: Progress | None = None,
              **options: Unpack[StackOptions]) -> dict[str, Any]:
        """Measures policies on one request, alone and together: the report of `trimtab stack`."""
        return self._report(lib.tt_stack, Options("tt_stack_options", options), policies, progress)

    def _report(self, function: Callable[..., int], asked: Options, steering: Any,
                progress: Progress | None) -> dict[str, Any]:
        def run(*arguments: Any) -> int:
            *rest, report, error = arguments
            return function(*rest, report, error)

        report: dict[str, Any] = self._run(run, asked, steering=steering, progress=progress)
        return report

    def fit(self, *, progress: Progress | None = None,
            **options: Unpack[FitOptions]) -> tuple[Policy, dict[str, Any]]:
        """Fits a policy to labelled prompts (data=FILES) or to pairs of responses (mode="style", contrast=FILE); and
        the report of `trimtab fit`."""
        asked = Options("tt_fit_options", options)
        out = ffi.new("struct tt_policy **")
        try:
            report = self._run(lib.tt_fit, asked, out, progress=progress)
        except BaseException:
            lib.tt_policy_free(out[0])
            raise
        return Policy(out[0]), report


def inspect(path: Path, model: Path | None = None) -> dict[str, Any]:
    """Describes a model, policy or safetensors file, and with a model whether a policy fits it."""
    report: dict[str, Any] = take_json(lib.tt_inspect, to_bytes(path, "path", path=True),
                                       ffi.NULL if model is None else to_bytes(model, "model", path=True))
    return report


def version() -> str:
    """Of the library."""
    return text_of(lib.tt_version())


def build() -> dict[str, Any]:
    """version, commit, compiler, cpu and cuda of the library."""
    report: dict[str, Any] = take_json(lib.tt_describe_build)
    return report
