"""The prefixes that distillation trains on: the rows' own responses, the student's writing, or some of each.

    plan     update 7: rows 12, 90, 4, 33          share 0.5, seeded by the update: 12 and 33 from the student
    take(7)  prompt 12 + what the student wrote just now · row 90 as it is · row 4 as it is · prompt 33 + ...

Which documents the student writes is drawn per document, from the seed and the update, not from a generator that one
process advances (TRL tosses one coin per micro-batch and rank). With `refresh` 4 the student writes for four updates at
a time, faster but with the weights of the first of the four; what is not yet used is part of every checkpoint.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from limbeck.core.row import Message, Row
from limbeck.train import _ranks
from limbeck.train.examples import Example

if TYPE_CHECKING:
    from limbeck.train._rollout import Rollout, Sampling
    from limbeck.train.student import LoadedStudent

SPREAD = 1e-4
"""Added to a group's standard deviation, so that equal rewards give advantages of 0 and not of 0/0."""


@dataclass(frozen=True, slots=True)
class Written(Example):
    """A document of which the student wrote the end."""

    advantage: float = 0.0
    """How much better its reward is than its group's mean, in standard deviations of the group (GRPO, 2402.03300)."""
    logprobs: tuple[float, ...] = ()
    """Of the written tokens, under the student that wrote them."""


@dataclass(slots=True)
class Tally:
    """Sums since the last line of the curve, and since the start."""

    rollouts: int = 0
    tokens: int = 0
    finished: int = 0
    surprise: float = 0.0
    reward: float = 0.0
    divergence: float = 0.0
    """Summed over the trained tokens, where the loss is made of it and a reward."""
    trained: int = 0
    all_rollouts: int = 0
    all_tokens: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Prefixes:
    """A stream of documents (`loop.Stream`) for a plan of updates."""

    student: LoadedStudent
    rows: Sequence[Row]
    prompts: Sequence[tuple[int, ...]]
    responses: Sequence[Example | None]
    """Each row's own document; None where it has none, and the student must write it."""
    plan: Sequence[Sequence[int]]
    sampling: Sampling
    share: float
    """The share of documents that the student writes: 0, 1, or between."""
    seed: int
    samples: int = 1
    """Rollouts of each prompt; a group, where there is a reward."""
    refresh: int = 1
    width: int = 64
    """Rollouts under way at once."""
    longest: int = 0
    reward: Callable[[Sequence[Row]], list[float]] | None = None
    tally: Tally = field(default_factory=Tally)
    buffer: dict[int, list[Written]] = field(default_factory=dict)
    """What has been written and not yet used, by update."""

    def take(self, update: int, planned: Sequence[int]) -> Sequence[Example]:
        """Return the documents of an update; write for it, and for those that follow it, where nothing is ready."""
        own = self._own(update)
        if any(own) and update not in self.buffer:
            self._write(range(update, min(update + self.refresh, len(self.plan))))
        written = self.buffer.pop(update, [])
        given = [self.responses[i] for i, mine in zip(planned, own, strict=True) if not mine]
        return [*(e for e in given if e is not None), *written]

    def noted(self) -> dict[str, float]:
        """Return length, share of finished ones, entropy and reward of the rollouts since the last line."""
        t = self.tally
        if not t.rollouts:
            return {}
        said = {
            "rollout_length": t.tokens / t.rollouts,
            "finished": t.finished / t.rollouts,
            # the mean surprise of what is sampled at temperature 1 is the entropy
            "entropy": t.surprise / max(1, t.tokens),
        }
        if self.reward:
            divergence, trained = _ranks.summed(t.divergence, t.trained)
            said |= {"reward": t.reward / t.rollouts, "divergence": divergence / max(1, trained)}
        t.rollouts, t.tokens, t.finished, t.trained = 0, 0, 0, 0
        t.surprise, t.reward, t.divergence = 0.0, 0.0, 0.0
        return said

    def state(self) -> dict[str, Any]:
        """Return the tally and the unused rollouts as plain values."""
        self._only_first(*_ranks.summed(self.tally.divergence, self.tally.trained))
        kept = {
            update: [[e.row, list(e.ids), sum(e.trained), e.advantage, list(e.logprobs)] for e in documents]
            for update, documents in self.buffer.items()
        }
        return {"tally": {name: getattr(self.tally, name) for name in Tally.__slots__}, "buffer": kept}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        for name, value in state["tally"].items():  # the objective holds the same tally
            setattr(self.tally, name, value)
        self._only_first(self.tally.divergence, self.tally.trained)
        self.buffer = {
            update: [
                _written(row, ids[:-new], ids[-new:], advantage, scores) for row, ids, new, advantage, scores in kept
            ]
            for update, kept in state["buffer"].items()
        }

    def _only_first(self, divergence: float, trained: float) -> None:
        # of all sums these alone are of one process's documents; what a checkpoint has summed up the first one keeps
        self.tally.divergence, self.tally.trained = (divergence, int(trained)) if _ranks.first() else (0.0, 0)

    def _own(self, update: int) -> list[bool]:
        """Say which documents of an update the student writes."""
        count = len(self.plan[update])
        if self.share in (0, 1):
            return [bool(self.share)] * count
        drawn = np.random.default_rng([self.seed, update, 1]).random(count) < self.share
        return [bool(mine) for mine in drawn]

    def _write(self, updates: range) -> None:
        from limbeck.train._rollout import rollouts
        from limbeck.train._spread import gathered_weights

        start = time.monotonic()
        places = [(u, i) for u in updates for i, mine in zip(self.plan[u], self._own(u), strict=True) if mine]
        jobs = [(u, i) for u, i in places for _ in range(self.samples)]

        def share(numbers: Sequence[int]) -> list[tuple[Rollout, float]]:
            mine = [jobs[n][1] for n in numbers]
            written = rollouts(
                self.student.model,
                [self.prompts[i] for i in mine],
                sampling=self.sampling,
                stops=self.student.stops,
                seeds=[[self.seed, updates.start, n] for n in numbers],
                rows=self.width,
                context=self.longest,
            )
            return list(zip(written, self._rewards(mine, written), strict=True))

        with gathered_weights(self.student.model):
            found = _ranks.dealt(range(len(jobs)), share)
        made, rewards = [rollout for rollout, _ in found], [reward for _, reward in found]
        documents = self._documents([i for _, i in jobs], made, rewards)
        for update in updates:
            self.buffer[update] = [d for (u, _), d in zip(jobs, documents, strict=True) if u == update]
        self._count(made, rewards)
        self.tally.seconds += time.monotonic() - start

    def _documents(self, rows: Sequence[int], made: Sequence[Rollout], rewards: Sequence[float]) -> list[Written]:
        advantages = _advantages(rewards, self.samples) if self.reward else [0.0] * len(made)
        return [
            _written(self.rows[i].id, self.prompts[i], r.tokens, a, r.logprobs)
            for i, r, a in zip(rows, made, advantages, strict=True)
        ]

    def _rewards(self, rows: Sequence[int], made: Sequence[Rollout]) -> list[float]:
        if not self.reward:
            return [0.0] * len(made)
        tokenizer, stops = self.student.tokenizer, self.student.stops
        texts = [
            tokenizer.decode([t for t in r.tokens if t not in stops], clean_up_tokenization_spaces=False) for r in made
        ]
        return self.reward(
            [answered(self.rows[i], text, r.finished) for i, text, r in zip(rows, texts, made, strict=True)]
        )

    def _count(self, made: Sequence[Rollout], rewards: Sequence[float]) -> None:
        t, tokens = self.tally, sum(len(r.tokens) for r in made)
        t.rollouts += len(made)
        t.all_rollouts += len(made)
        t.tokens += tokens
        t.all_tokens += tokens
        t.finished += sum(r.finished for r in made)
        t.surprise -= sum(sum(r.logprobs) for r in made)
        t.reward += sum(rewards)


def answered(row: Row, text: str, finished: bool) -> Row:
    """Return the row with `text` as its response, as a verifier reads it."""
    labels = {**row.labels, "finish": "stop" if finished else "length"}
    return replace(row, messages=(*row.prompt, Message(role="assistant", content=text)), labels=labels)


def _written(
    row: str, prompt: Sequence[int], tokens: Sequence[int], advantage: float, logprobs: Sequence[float]
) -> Written:
    trained = (*(False for _ in prompt), *(True for _ in tokens))
    return Written(row, (*prompt, *tokens), trained, advantage, tuple(logprobs))


def _advantages(rewards: Sequence[float], samples: int) -> list[float]:
    """Return each reward's distance from its group's mean, in the group's standard deviations.

    >>> [round(a, 2) for a in _advantages([1.0, 0.0, 1.0, 1.0], 2)]
    [1.0, -1.0, 0.0, 0.0]
    """
    found: list[float] = []
    for start in range(0, len(rewards), samples):
        group = rewards[start : start + samples]
        mean, spread = statistics.fmean(group), statistics.pstdev(group) + SPREAD
        found += [(reward - mean) / spread for reward in group]
    return found
