"""A model of EleutherAI's lm-evaluation-harness: lm_eval --model trimtab --model_args model=FILE,policy=FILE[:SCALE].

Arguments: model, policy (several joined by +), when, layers, and the options of trimtab.Engine, such as n_threads,
context, max_batch, compute. The log-likelihoods are those of `trimtab score`, to the bit. What counts as generated is
the continuation: gates read the context, and policies steer from where they say."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import get_model, register_model
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm import tqdm

from trimtab._arguments import load_policies
from trimtab._engine import Engine
from trimtab._errors import UnsupportedError
from trimtab._library import lib

MAX_GENERATED = 256


class TrimtabLM(TemplateLM):  # type: ignore[misc]
    def __init__(self, model: str, policy: str | None = None, when: str = "policy", layers: str | None = None,
                 batch_size: Any = None, max_batch_size: Any = None, device: str | None = None,
                 **options: Any) -> None:
        """batch_size and max_batch_size are lm-eval's own; the engine fills its steps by itself (max_batch). So is
        device, whose "cuda:0" is what lm-eval says where nobody chose one: a GPU if there is one, then."""
        super().__init__()
        if device not in (None, "cuda", "cuda:0"):
            options["device"] = device
        self.engine = Engine(model, **options)
        self.policies, self.when = load_policies(self.engine, policy, layers), when
        self._chat = False
        self._n_decided = self._n_steered = 0

    # ---- Text

    @property
    def max_length(self) -> int:
        return self.engine.info.context

    @property
    def max_gen_toks(self) -> int:
        return MAX_GENERATED

    @property
    def tokenizer_name(self) -> str:
        return self.engine.info.name

    @property
    def eot_token_id(self) -> int:
        """What stands before a text whose context is empty."""
        front = self.engine.text.encode("")
        if not front:
            raise UnsupportedError(
                "the context is empty, and the tokenizer of this model puts nothing in front of a text")
        return int(front[0])

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        bos = not self._chat if add_special_tokens is None else add_special_tokens
        return self.engine.text.encode(string, bos=bos)

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        return "the model's own" if chat_template else None

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        self._chat = True  # the template writes what stands in front
        return self.engine.text.render(chat_history, generation_prompt=add_generation_prompt)

    # ---- Scores

    def _count(self, decisions: Iterable[Any]) -> None:
        decided = list(decisions)
        self._n_decided += bool(decided)
        self._n_steered += any(decision.steers for decision in decided)

    def _loglikelihood_tokens(self, requests: list[tuple[Any, list[int], list[int]]], disable_tqdm: bool = False,
                              **_: Any) -> list[tuple[float, bool]]:
        def cut() -> Iterable[tuple[list[int], list[int]]]:
            """As lm-eval cuts what is too long: on the left."""
            for _, context, continuation in requests:
                room = max(1, self.max_length - len(continuation))
                yield context[-room:], continuation[-(self.max_length - 1):]

        found: list[tuple[float, bool]] = []
        scored = self.engine.loglikelihoods(cut(), policies=self.policies, when=self.when)  # type: ignore[arg-type]
        for (pair, _, _), (value, greedy, decisions) in zip(tqdm(requests, disable=disable_tqdm), scored, strict=True):
            found.append((value, greedy))
            self._count(decisions)
            if pair is not None:
                self.cache_hook.add_partial("loglikelihood", pair, (value, greedy))
        return found

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Windows as lm-eval has them: each token once, after what stands in front or the window before. A first token
        that nothing stands in front of is not scored, as in `trimtab score --perplexity`."""
        sums = []
        for request in tqdm(requests, disable=disable_tqdm):
            ids = self.tok_encode(request.args[0], add_special_tokens=True)
            windows = [make_disjoint_window(window) for window in get_rolling_token_windows(
                ids[1:], ids[0], self.max_length - 1, 1)] if len(ids) > 1 else []
            found = self._loglikelihood_tokens([(None, *window) for window in windows], disable_tqdm=True)
            sums.append(sum(value for value, _ in found))
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, sums[-1])
        return sums

    # ---- Texts

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        def submit(context: str, keys: dict[str, Any]) -> tuple[Any, list[str]]:
            until = keys.get("until") or []
            until = [until] if isinstance(until, str) else [text for text in until if text]
            n = int(keys.get("max_gen_toks") or self.max_gen_toks)
            sampling = {name: keys[name] for name in ("temperature", "top_p", "top_k", "min_p") if keys.get(name)}
            if keys.get("do_sample") is False:
                sampling = {}
            ids = self.tok_encode(context)[-max(1, self.max_length - n):]
            known = [text for text in until if len(text.encode()) <= lib.TT_MAX_STOP_BYTES][:lib.TT_MAX_STOPS]
            return self.engine.submit(ids, policies=self.policies, when=self.when,  # type: ignore[arg-type]
                                      max_tokens=n, stop=known, **sampling), until

        texts: list[str] = []
        flying = []
        bar = tqdm(total=len(requests), disable=disable_tqdm)
        for i, request in enumerate(requests):
            flying.append(submit(*request.args))
            while flying and (len(flying) == 256 or i + 1 == len(requests)):
                sent, until = flying.pop(0)
                with sent:
                    answer = sent.wait()
                text = answer.text
                for stop in until:
                    text = text.split(stop)[0]
                self._count(answer.decisions)
                self.cache_hook.add_partial("generate_until", requests[len(texts)].args, text)
                texts.append(text)
                bar.update()
        bar.close()
        return texts

    def get_model_info(self) -> dict[str, Any]:
        """For the results' file: what steered, and how often."""
        info = self.engine.info
        return {"model_name": info.name, "fingerprint": info.fingerprint, "weights_digest": info.weights_digest,
                "policies": [{"policy": policy.info.name, "scale": scale} for policy, scale in self.policies],
                "when": self.when, "n_decided": self._n_decided, "n_steered": self._n_steered}


def register() -> None:
    try:
        get_model("trimtab")
    except Exception:  # its kind differs from version to version
        register_model("trimtab")(TrimtabLM)


register()
