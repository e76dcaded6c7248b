"""Rollouts: what the student writes itself, in batches, for training on its own prefixes.

    prompts [[1, 40, 7, 3], [1, 22, 3]]   ->   [Rollout(tokens=(91, 5, 2), finished=True), Rollout(tokens=(17, …), …)]

Temperature, top_p and top_k are arguments and nothing else: a model's generation_config is not read (trl#6337: one with
top_p 0.95 silently cut what was sampled). Each rollout has a stream of random numbers of its own, seeded by the caller, so
that a resumed run writes the same, and a prompt's rollout does not depend on who shares its batch (but for rounding).

Rows that end leave at once and waiting prompts take their places; nothing is computed for rows that are done.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from limbeck.train._decoder import Decoder, decoder_for

REFILL = 4
"""Prompts join when this part (a quarter) of the rows is free: each entry costs a pass of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are drawn."""

    temperature: float = 1.0
    """0 takes the likeliest token."""
    top_p: float = 1.0
    """Draw among the likeliest tokens that hold this share of the probability; 1 is all."""
    top_k: int = 0
    """Draw among this many likeliest tokens; 0 is all."""
    max_tokens: int = 256
    """Where a rollout is cut that has not ended."""

    @property
    def plain(self) -> bool:
        """Whether tokens are drawn by chance among all."""
        return self.temperature > 0 and self.top_p == 1 and not self.top_k


@dataclass(frozen=True, slots=True)
class Rollout:
    """What was written after one prompt."""

    tokens: tuple[int, ...]
    """With the stop token that ended it."""
    logprobs: tuple[float, ...]
    """Of each token under the model itself: at temperature 1, all tokens allowed."""
    finished: bool
    """Whether it ended with a stop token; False where it was cut."""


@dataclass(slots=True)
class _Row:
    """A rollout under way."""

    place: int
    """Which of the prompts."""
    limit: int
    chances: np.ndarray[Any, Any]
    tokens: list[int]
    logprobs: list[float]


@torch.inference_mode()
def rollouts(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    sampling: Sampling,
    stops: Collection[int],
    seeds: Sequence[Sequence[int]],
    rows: int = 64,
    context: int = 0,
    decoder: Decoder | None = None,
) -> list[Rollout]:
    """Write one rollout after each prompt, `rows` at a time, in evaluation mode; the model's mode is put back.

    `stops` are the ids that end a rollout, `seeds[i]` seeds the random stream of rollout i, `context` is the most
    positions the model has (0: no limit). A prompt that fills it gets an empty rollout.
    """
    training = model.training
    model.eval()
    try:
        decoder = decoder or decoder_for(model, rows)
        return _written(decoder, prompts, sampling, frozenset(stops), seeds, rows, context)
    finally:
        model.train(training)


def _written(
    decoder: Decoder,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    stops: frozenset[int],
    seeds: Sequence[Sequence[int]],
    rows: int,
    context: int,
) -> list[Rollout]:
    limits = [min(sampling.max_tokens, context - len(p)) if context else sampling.max_tokens for p in prompts]
    done: dict[int, Rollout] = {i: Rollout((), (), False) for i, limit in enumerate(limits) if limit < 1}
    waiting = [i for i in reversed(range(len(prompts))) if i not in done]
    running: list[_Row] = []
    while waiting or running:
        logits = [decoder.step(_last(running))] if running else []
        free = rows - len(running)
        if waiting and (not running or (decoder.joins and free * REFILL >= rows)):
            entering = [waiting.pop() for _ in range(min(free, len(waiting)))]
            logits.append(decoder.admit([prompts[i] for i in entering]))
            running += [_Row(i, limits[i], _chances(seeds[i], limits[i]), [], []) for i in entering]
        _choose(decoder, torch.cat(logits), running, sampling)
        running = _leave(decoder, running, stops, done)
    return [done[i] for i in range(len(prompts))]


def _last(running: Sequence[_Row]) -> torch.Tensor:
    return torch.tensor([row.tokens[-1] for row in running])


def _chances(seed: Sequence[int], count: int) -> np.ndarray[Any, Any]:
    """Return the rollout's own random numbers in [0, 1), one for each token."""
    return np.random.default_rng(list(seed)).random(count)


def _choose(decoder: Decoder, logits_RV: torch.Tensor, running: Sequence[_Row], sampling: Sampling) -> None:
    chances_R = torch.tensor([row.chances[len(row.tokens)] for row in running], dtype=torch.double)
    own = getattr(decoder, "draw", None)  # a compiled decoder draws in one pass, where all tokens are allowed
    if own is not None and sampling.plain:
        tokens_R, scores_R = own(logits_RV, chances_R, sampling.temperature)
    else:
        tokens_R = draw(logits_RV, chances_R.to(logits_RV.device), sampling)
        scores_R = logits_RV.gather(1, tokens_R[:, None])[:, 0] - logits_RV.logsumexp(-1)
    for row, token, score in zip(running, tokens_R.tolist(), scores_R.tolist(), strict=True):
        row.tokens.append(token)
        row.logprobs.append(score)


def draw(logits_RV: torch.Tensor, chances_R: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Draw one token a row: the one in whose share of the line from 0 to 1 the row's random number falls."""
    if sampling.temperature == 0:
        return logits_RV.argmax(-1)
    allowed = _allowed(logits_RV / sampling.temperature, sampling)
    bounds_RV = allowed.softmax(-1).double().cumsum(-1)
    found_R = torch.searchsorted(bounds_RV, (chances_R * bounds_RV[:, -1])[:, None], right=True)[:, 0]
    return found_R.clamp_max_(logits_RV.shape[-1] - 1)


def _allowed(logits_RV: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Rule out what top_k and top_p leave out, as -inf; the likeliest token is always allowed."""
    if 0 < sampling.top_k < logits_RV.shape[-1]:
        least_R1 = logits_RV.topk(sampling.top_k).values[:, -1:]
        logits_RV = logits_RV.masked_fill(logits_RV < least_R1, float("-inf"))
    if sampling.top_p < 1:
        sorted_RV, order_RV = logits_RV.sort(descending=True, stable=True)
        share_RV = sorted_RV.softmax(-1)
        # a token is out when the likelier ones hold the share already
        out_RV = share_RV.cumsum(-1) - share_RV >= sampling.top_p
        out_RV[:, 0] = False
        logits_RV = logits_RV.masked_fill(torch.zeros_like(out_RV).scatter(1, order_RV, out_RV), float("-inf"))
    return logits_RV


def _leave(decoder: Decoder, running: list[_Row], stops: frozenset[int], done: dict[int, Rollout]) -> list[_Row]:
    """Take out the rows that have ended or reached their limit; the last rows fill the gaps."""
    over = [row.tokens[-1] in stops or len(row.tokens) >= row.limit for row in running]
    if not any(over):
        return running
    for row, ended in zip(running, over, strict=True):
        if ended:
            done[row.place] = Rollout(tuple(row.tokens), tuple(row.logprobs), row.tokens[-1] in stops)
    order = _filled(over)
    decoder.keep(order)
    return [running[place] for place in order]


def _filled(over: Sequence[bool]) -> list[int]:
    staying = [place for place, ended in enumerate(over) if not ended]
    movers = [place for place in staying if place >= len(staying)]
    return [movers.pop() if over[place] else place for place in range(len(staying))]
