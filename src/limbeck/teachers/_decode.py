"""Sampling many answers at once, such that no answer depends on which others were sampled beside it.

    decoder = Decoder(model, words)
    decoder.add(Job(number=1, payload=ask.payload(), samples=[0, 1]))
    while decoder.busy:
        for outcome in decoder.step():
            ...     # Outcome(job=1, sample=0, text="3 + 4 = 7.", finish="stop", tokens_in=12, tokens_out=9)

Why it holds. In single precision a logit changes in its last digits with the shape of the batch, and one token in some
thousands falls on the other side of a boundary; the rest of that answer is then another one. Fixed shapes would help on one
machine only, double precision for everything costs twice the time. Here single precision *proposes* and a lone row in
double precision *decides* the close calls:

    u = 0.41872...                  the sample's own random number for this token: from the digest of (request, index)
    token = first with cdf > u      in single precision, in whatever batch the row happens to stand
    |u - nearest boundary| < MARGIN the call is close: compute this one row again, alone, exactly; take that token

MARGIN is a hundred times the usual error of single precision and ten times the largest we have seen (2e-5 of probability in
the embedded teacher), so an open call comes out the same in every batch, and a close one is settled without the batch. About
one token in two hundred is close, which costs a tenth of the time. (A large model decides in its own precision, but alone:
that holds on one machine.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from limbeck.core.errors import RefusedError
from limbeck.core.fingerprint import digest
from limbeck.teachers._words import Words

Array = NDArray[Any]

MARGIN = 2e-4
"""How near to a boundary, in probability (for greedy decoding in logits, tenfold), a call is close."""


class Model(Protocol):
    """What the decoder needs of a model; see `_llama.py` for the meaning."""

    context: int
    joins: bool

    def admit(self, prompts: Sequence[Sequence[int]], counts: Sequence[int]) -> Array: ...

    def step(self, tokens: Array) -> Array: ...

    def keep(self, rows: Sequence[int]) -> None: ...

    def exact(self, tokens: Sequence[int]) -> Array: ...


@dataclass(slots=True)
class Job:
    """One request: the ask's payload and the sample indices wanted."""

    number: int
    payload: Mapping[str, Any]
    samples: list[int]
    prompt: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one sample; with `refused`, the sentence why there is no answer."""

    job: int
    sample: int
    text: str = ""
    finish: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    logprobs: list[tuple[str, float, dict[str, float]]] | None = None
    refused: str = ""


@dataclass(slots=True)
class _Running:
    """One row of the batch."""

    job: Job
    sample: int
    limit: int
    chances: Array
    tokens: list[int] = field(default_factory=list)


class Decoder:
    """Decodes jobs in rows that come and go; at most `rows` at a time."""

    def __init__(self, model: Model, words: Words, rows: int = 64) -> None:
        self._model, self._words, self._rows = model, words, rows
        self._waiting: deque[Job] = deque()
        self._running: list[_Running] = []
        self.close_calls = 0

    @property
    def busy(self) -> bool:
        """Whether anything is left to do."""
        return bool(self._waiting or self._running)

    def add(self, job: Job) -> None:
        """Put a job in the queue."""
        self._waiting.append(job)

    def step(self) -> list[Outcome]:
        """Let new rows in, give every row one token, and return the answers that this finished."""
        outcomes: list[Outcome] = []
        logits = []
        if self._running:
            logits.append(self._model.step(np.array([row.tokens[-1] for row in self._running])))
        entering = self._entering(outcomes)
        if entering:
            prompts, counts = zip(*((job.prompt, len(rows)) for job, rows in entering), strict=True)
            logits.append(self._model.admit(prompts, counts))
            self._running += [row for _, rows in entering for row in rows]
        if logits:
            self._choose(np.concatenate(logits))
            outcomes += self._leave()
        return outcomes

    def _entering(self, outcomes: list[Outcome]) -> list[tuple[Job, list[_Running]]]:
        """Take from the queue what fits, once a quarter of the rows is free: each entry costs a pass of its own."""
        free = self._rows - len(self._running)
        if self._running and (not self._model.joins or free < self._rows // 4):
            return []
        entering = []
        while self._waiting and free:
            job = self._waiting[0]
            taken, job.samples = job.samples[:free], job.samples[free:]
            if not job.samples:
                self._waiting.popleft()
            rows = self._prepared(job, taken, outcomes)
            free -= len(rows)
            entering += [(job, rows)] if rows else []
        return entering

    def _prepared(self, job: Job, samples: list[int], outcomes: list[Outcome]) -> list[_Running]:
        try:
            job.prompt = job.prompt or self._words.encode(job.payload["messages"], job.payload["tools"])
            limit = min(job.payload["max_tokens"], self._model.context - len(job.prompt))
            if limit < 1 or not job.prompt:
                raise RefusedError(
                    f"The prompt has {len(job.prompt)} tokens and the model's context is {self._model.context}: "
                    "there is no room for an answer. Shorten the prompt or take another model."
                )
        except RefusedError as error:
            outcomes += [Outcome(job=job.number, sample=sample, refused=str(error)) for sample in samples]
            return []
        return [_Running(job, sample, limit, chances(job.payload, sample, limit)) for sample in samples]

    def _choose(self, logits: Array) -> None:
        rows = self._running
        heat = np.array([row.job.payload["temperature"] for row in rows], dtype=logits.dtype)
        nucleus = np.array([row.job.payload["top_p"] for row in rows])
        chance = np.array([row.chances[len(row.tokens)] for row in rows])
        tokens, close = draw(logits, chance, heat, nucleus)
        for place in np.flatnonzero(close):
            row, one = rows[place], slice(place, place + 1)
            exact = self._model.exact([*row.job.prompt, *row.tokens])[-1:]
            tokens[place] = draw(exact, chance[one], heat[one], nucleus[one])[0][0]
            self.close_calls += 1
        for row, token in zip(rows, tokens.tolist(), strict=True):
            row.tokens.append(token)

    def _leave(self) -> list[Outcome]:
        outcomes, staying = [], []
        for place, row in enumerate(self._running):
            outcome = self._outcome(row)
            if outcome is None:
                staying.append(place)
            else:
                outcomes.append(outcome)
        if outcomes:
            order = _filled(staying, len(self._running))
            self._model.keep(order)
            self._running = [self._running[place] for place in order]
        return outcomes

    def _outcome(self, row: _Running) -> Outcome | None:
        """Return the answer if the row has come to its end: an end token, a stop text, or the limit."""
        ended = row.tokens[-1] in self._words.ends
        body = row.tokens[:-1] if ended else row.tokens
        stops = row.job.payload["stop"]
        text = self._words.decode(body) if ended or stops or len(row.tokens) >= row.limit else ""
        cut = min((at for at in (text.find(stop) for stop in stops) if at >= 0), default=-1)
        if not ended and cut < 0 and len(row.tokens) < row.limit:
            return None
        return Outcome(
            job=row.job.number,
            sample=row.sample,
            text=text if cut < 0 else text[:cut],
            finish="stop" if ended or cut >= 0 else "length",
            tokens_in=len(row.job.prompt),
            tokens_out=len(row.tokens),
            logprobs=self._logprobs(row, body),
        )

    def _logprobs(self, row: _Running, body: list[int]) -> list[tuple[str, float, dict[str, float]]] | None:
        """Return each token's log-probability before temperature, from one exact pass over the finished answer."""
        top = row.job.payload["logprobs"]
        if top is None or not body:
            return None if top is None else []
        logits = self._model.exact([*row.job.prompt, *body[:-1]])[-len(body) :].astype(np.float64)
        scores = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
        name = self._words.name
        found = []
        for token, score in zip(body, scores, strict=True):
            best = np.argsort(-score, kind="stable")[:top].tolist()
            found.append((name(token), float(score[token]), {name(other): float(score[other]) for other in best}))
        return found


def chances(payload: Mapping[str, Any], sample: int, count: int) -> Array:
    """Return the sample's own random numbers, one for each token: raw 64-bit words, a stream that numpy keeps stable."""
    stream = np.random.PCG64(int(digest([payload, sample]), 16))
    return np.asarray((stream.random_raw(count) >> np.uint64(11)) * 2.0**-53)


def draw(logits: Array, chance: Array, temperature: Array, top_p: Array) -> tuple[Array, Array]:
    """Choose one token a row; also say which choices are close calls (see the module)."""
    sampled = temperature > 0
    heat = np.where(sampled, temperature, 1).astype(logits.dtype)[:, None]
    scaled = logits / heat
    mass = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    near = np.zeros(len(logits), dtype=bool)
    for row in np.flatnonzero(sampled & (top_p < 1)):
        mass[row], near[row] = _nucleus(mass[row], top_p[row], MARGIN / min(1.0, heat[row, 0]))
    bounds = np.cumsum(mass, axis=1, dtype=np.float64)
    target = chance * bounds[:, -1]
    tokens = np.minimum((bounds <= target[:, None]).sum(axis=1), bounds.shape[1] - 1)
    every = np.arange(len(tokens))
    above = bounds[every, tokens] - target
    distance = np.minimum(above, mass[every, tokens] - above) / bounds[:, -1]
    near |= distance * np.minimum(1, heat[:, 0]) < MARGIN
    for row in np.flatnonzero(~sampled):
        second, first = np.partition(logits[row], -2)[-2:]
        tokens[row], near[row] = np.argmax(logits[row]), first - second < 10 * MARGIN
    return tokens, near


def _nucleus(mass: Array, top_p: float, margin: float) -> tuple[Array, bool]:
    """Keep the smallest set of likeliest tokens that holds `top_p` of the mass; say whether its edge is a close call."""
    order = np.argsort(-mass, kind="stable")
    share = np.cumsum(mass[order], dtype=np.float64)
    share /= share[-1]
    size = min(int(np.searchsorted(share, top_p)) + 1, len(order))
    kept = np.zeros_like(mass)
    kept[order[:size]] = mass[order[:size]]
    edge = np.abs(share[max(size - 2, 0) : size] - top_p).min() < margin
    last, out = mass[order[size - 1]], mass[order[size]] if size < len(order) else 0.0
    return kept, bool(edge or last - out < 10 * margin * last)


def _filled(staying: list[int], count: int) -> list[int]:
    """Return the order of rows after the others left, with as few moves as possible: the last rows fill the gaps."""
    order, left = list(range(len(staying))), set(staying)
    movers = [row for row in staying if row >= len(staying)]
    for place in order:
        if place not in left:
            order[place] = movers.pop()
    return order
