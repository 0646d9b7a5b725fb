"""The options by their types, for type checkers alone. tests/python holds them to the header; trimtab.h says what they
mean."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal, TypedDict

Path = str | os.PathLike[str]
Paths = Path | Sequence[Path]


class EngineOptions(TypedDict, total=False):
    device: str
    n_threads: int
    max_batch: int
    max_step_tokens: int
    context: int
    kv_tokens: int
    no_prefix_sharing: bool
    kv_f16: bool
    fast: bool
    strict_model: bool
    compute: Literal["f32", "q8"]
    kv: Literal["default", "f32", "f16", "bf16", "q8", "fp8"]
    n_ranks: int
    chat_template: Path


class RequestOptions(TypedDict, total=False):
    n_prompt: int
    mean_from: int
    mean_to: int
    max_tokens: int
    ignore_eos: bool
    stop_ids: Sequence[int]
    stop: Sequence[str] | str
    timeout: float
    seed: int
    temperature: float
    top_p: float
    min_p: float
    top_k: int
    n_top: int
    when: Literal["policy", "generation", "last", "all"]
    score: bool
    score_from: int
    score_top: int
    keep_logits: bool
    logits_from: int
    keep_from: int
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float


class BatchOptions(TypedDict, total=False):
    telemetry: Path
    sweep: str
    restart: bool
    max_tokens: int
    temperature: float
    seed: int
    system: str
    raw: bool
    max_batch: int
    layers: str
    shard: int
    n_shards: int
    telemetry_dense: bool


class CaptureDataOptions(TypedDict, total=False):
    data: Path
    layers: str
    positions: Literal["last", "all", "response"]
    logits: bool
    system: str
    raw: bool
    restart: bool


class ScoreOptions(TypedDict, total=False):
    choices: Path
    perplexity: Path
    letters: bool
    chat: bool
    no_bos: bool
    no_special: bool
    limit: int
    window: int
    stride: int
    when: Literal["policy", "generation", "last", "all"]
    rows: Path


class EvalOptions(TypedDict, total=False):
    data: Paths
    positive_label: str
    negative_label: str
    split: str
    limit: int
    max_tokens: int
    variants: str
    seed: int
    temperature: float
    top_p: float
    min_p: float
    top_k: int
    price_false_refusal: float
    price_miss: float
    when: Literal["policy", "generation", "last", "all"]
    completions: Path
    judge_requests: Path
    judgements: Path
    review: Path
    n_review_rows: int


class AttackOptions(TypedDict, total=False):
    data: Paths
    positive_label: str
    negative_label: str
    split: str
    limit: int
    n_words: int
    budget: int
    seed: int
    out: Path


class StackOptions(TypedDict, total=False):
    scales: Sequence[float]
    data: Paths
    positive_label: str
    negative_label: str
    split: str
    limit: int
    contrast: Paths
    choices: Path
    max_tokens: int


class FitOptions(TypedDict, total=False):
    data: Paths
    positive_label: str
    negative_label: str
    contrast: Path
    name: str
    mode: Literal["contrast", "paper", "released", "style", "pca", "mean", "affine", "cast"]
    op: Literal["add", "ablate", "clamp", "affine", "one_sided", "rotate"]
    rank: int
    n_direction_prompts: int
    n_gate_prompts: int
    n_judge_prompts: int
    judge_tokens: int
    max_candidates: int
    layer_weights: Literal["site", "search", "prompt"]
    max_false_positives: float
    max_borderline_positives: float
    pool: Literal["last", "mean", "last_mean"]
    rule: str
    linear_gate: bool
    gate: Literal["of_mode", "none", "detector"]
    max_loss_ratio: float
    when: Literal["policy", "generation", "last", "all"]
    continued: Path
    replay: Paths
    activations: Path
    candidates: Path
    seed: int
