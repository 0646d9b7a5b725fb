"""A model provider for Inspect: inspect eval TASK --model trimtab/MODEL.gguf -M policy=FILE[:SCALE].

Model arguments (-M NAME=VALUE): policy (several joined by +), when, layers, and the options of trimtab.Engine, such as
n_threads, context, max_batch. What the gates decided is in each output's metadata and in the sample's, under
"steering". Without a temperature the answer is greedy."""

from __future__ import annotations

from typing import Any

import anyio.to_thread
from inspect_ai.model import (ChatCompletionChoice, ChatMessage, ChatMessageAssistant, GenerateConfig, Logprob,
                              Logprobs, ModelAPI, ModelOutput, ModelUsage, StopReason, TopLogprob, modelapi)
from inspect_ai.solver._task_state import sample_state
from inspect_ai.tool import ToolChoice, ToolInfo

from trimtab._arguments import load_policies
from trimtab._engine import Engine
from trimtab._errors import UnsupportedError
from trimtab._request import Answer, Token

ROLES = {"system": "system", "user": "user", "assistant": "assistant"}
STOPS: dict[str, StopReason] = {"stop": "stop", "length": "max_tokens", "context": "model_length"}


@modelapi(name="trimtab")
class TrimtabAPI(ModelAPI):
    def __init__(self, model_name: str, base_url: str | None = None, api_key: str | None = None,
                 config: GenerateConfig = GenerateConfig(), policy: str | None = None,  # noqa: B008
                 when: str = "policy", layers: str | None = None, **options: Any) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        self._engine = Engine(model_name, **options)
        self._policies, self._when = load_policies(self._engine, policy, layers), when
        self._max_batch = int(options.get("max_batch", 32))

    async def aclose(self) -> None:
        self._engine.close()

    def close(self) -> None:
        self._engine.close()

    def max_connections(self) -> int:
        """As many as the engine runs at the same time."""
        return self._max_batch

    def connection_key(self) -> str:
        return self.model_name

    async def generate(self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice,
                       config: GenerateConfig) -> ModelOutput:
        if tools:
            raise UnsupportedError("trimtab calls no tools")
        messages = [message_of(message) for message in input]
        given = {"temperature": config.temperature, "top_p": config.top_p, "top_k": config.top_k,
                 "presence_penalty": config.presence_penalty, "frequency_penalty": config.frequency_penalty}
        sampling: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        n_top = (config.top_logprobs or 0) if config.logprobs else 0
        requests = [self._engine.submit(
            messages, policies=self._policies, when=self._when,  # type: ignore[arg-type]
            max_tokens=config.max_tokens or 256, stop=config.stop_seqs or [], n_top=n_top,
            seed=(config.seed or 0) + i, **sampling)
            for i in range(config.num_choices or 1)]
        try:
            answers = [await anyio.to_thread.run_sync(request.wait, abandon_on_cancel=True) for request in requests]
        finally:
            for request in requests:
                request.close()
        return self._output(answers, bool(config.logprobs))

    def _output(self, answers: list[Answer], logprobs: bool) -> ModelOutput:
        steering = steering_of(answers[0])
        state = sample_state()
        if state is not None and steering:
            state.metadata["steering"] = steering
        n_in, n_out = len(answers[0].prompt_ids), sum(len(answer.tokens) for answer in answers)
        return ModelOutput(
            model=self._engine.info.name,
            choices=[ChatCompletionChoice(
                message=ChatMessageAssistant(content=answer.text, model=self._engine.info.name, source="generate"),
                stop_reason=STOPS.get(answer.finish, "unknown"),
                logprobs=Logprobs(content=[self._logprob(token) for token in answer.tokens]) if logprobs else None)
                for answer in answers],
            usage=ModelUsage(input_tokens=n_in, output_tokens=n_out, total_tokens=n_in + n_out),
            metadata={"steering": steering})

    def _logprob(self, token: Token) -> Logprob:
        text = self._engine.text
        top = [TopLogprob(token=text.piece(id).decode(errors="replace"), logprob=logprob, bytes=list(text.piece(id)))
               for id, logprob in token.top]
        piece = text.piece(token.id)
        return Logprob(token=piece.decode(errors="replace"), logprob=token.logprob, bytes=list(piece),
                       top_logprobs=top or None)


def message_of(message: ChatMessage) -> dict[str, str]:
    if message.role not in ROLES:
        raise UnsupportedError(f"a message of the role {message.role!r}")
    if not isinstance(message.content, str) and any(part.type not in ("text", "reasoning") for part in message.content):
        raise UnsupportedError("a message with more than text")
    return {"role": ROLES[message.role], "content": message.text}


def steering_of(answer: Answer) -> list[dict[str, Any]]:
    """What batch answers say of it: the coefficients of the layers that were steered."""
    return [{"policy": decision.policy, "scale": decision.scale, "when": decision.when, "s": decision.s,
             "gate": decision.gate, "steers": decision.steers,
             "coef": {str(layer): float(c) for layer, c in enumerate(decision.coef) if c}}
            for decision in answer.decisions]
