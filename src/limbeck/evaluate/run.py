"""A model on prompts whose answers can be checked: sampled, scored, and reported with its uncertainty.

    Run(model="step:student", label="verified traces")          over 300 sealed test prompts, greedy

    results.json   {"model": "step:student", "label": "verified traces", "prompts": 300, "samples": 1, "temperature": 0.0,
                    "accuracy": {"mean": 0.62, "low": 0.564, "high": 0.673, "n": 300},
                    "pass_at": {"1": 0.62}, "by_family": {"chains": {…}}, "by_difficulty": {"2": {…}}, "refused": 0, …}
    outcomes.jsonl {"prompt": "93ab…", "family": "chains", "difficulty": 2, "scores": [1.0]}    one line per prompt, in order
    kept rows      the scored samples, with labels["model"] = label

The step that samples and the verifiers are the ones of generation (`generate.sample`, `score.<kind>`), so an answer
that counts as right here is one that would have been selected there. A prompt that the model refuses is a wrong answer
(leaving it out would reward refusing what is hard), and the report says how many there were. A prompt whose own
reference can not be read says nothing about the model: it is left out, and counted out loud too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from limbeck.core.errors import InputError, UsageError
from limbeck.core.row import Row
from limbeck.core.step import Context, Make
from limbeck.evaluate.stats import clustered, pass_at_k

CHECKABLE = ("reference", "cases")
"""What a task must hold, one of them, for a verifier to have something to check against."""


@dataclass(slots=True)
class Outcome:
    """What became of one prompt: a score for each sample asked for; a refused sample scores 0."""

    prompt: Row
    scores: list[float] = field(default_factory=list)
    unscored: bool = False
    unchecked: int = 0
    """Answers on which the verifier came to no verdict."""

    @property
    def rate(self) -> float:
        """The share of right samples."""
        return sum(self.scores) / len(self.scores)


class Run(Make):
    """Put prompts to a model, check the answers, and write accuracy with intervals, by family and by difficulty."""

    reads_sealed: ClassVar[bool] = True

    model: str
    """Which model: a teacher such as `embedded` or `openai:MODEL`, or `step:NAME` for a student of this run."""
    label: str = ""
    """How reports name the model; default: `model` itself."""
    samples: int = Field(default=1, ge=1)
    """Answers to each prompt; more than one gives pass@k and needs a temperature above 0."""
    temperature: float = Field(default=0.0, ge=0)
    """0 is greedy."""
    max_tokens: int = Field(default=512, ge=1)
    """Longest answer; a longer one is cut, and usually wrong."""
    system: str = ""
    """A system message for prompts that have none."""
    kind: str = ""
    """The verifier (`math`, `exact`, `program`, `tools`) of rows whose task names none."""
    seed: int = 0
    """Another seed is another set of samples."""

    def make(self, rows: list[Row], context: Context) -> Iterable[Row]:
        """Sample, score, count and write; return the scored samples, and the refused prompts as dropped rows."""
        kinds = self._kinds(rows)
        sampled = context.apply(
            "generate.sample",
            rows,
            teacher=self.model,
            n=self.samples,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            system=self.system,
            seed=self.seed,
        )
        answered, refused = [r for r in sampled if r.dropped is None], [r for r in sampled if r.dropped is not None]
        scored = _scored(answered, kinds, context)
        outcomes = self._outcomes(rows, scored)
        if all(o.unscored for o in outcomes):
            raise InputError("No answer could be scored: none of the references can be read by its verifier.")
        _write(
            context.folder / "outcomes.jsonl", "".join(json.dumps(_line(o)) + "\n" for o in outcomes if not o.unscored)
        )
        _write(context.folder / "results.json", json.dumps(self._results(outcomes, scored, refused), indent=1) + "\n")
        return [*(row.with_labels(model=self.label or self.model) for row in scored), *refused]

    def _kinds(self, rows: Sequence[Row]) -> dict[str, str]:
        """Return each prompt's verifier, by row id. Raises a sentence before anything is asked where there is none."""
        if not rows:
            raise UsageError("There is nothing to evaluate on: no prompt reached this step.")
        if self.samples > 1 and self.temperature == 0:
            raise UsageError("Greedy samples are all alike: set a temperature above 0, or samples to 1.")
        kinds: dict[str, str] = {}
        for row in rows:
            kind = str(row.task.get("kind") or self.kind)
            if not kind:
                raise UsageError(
                    f"Row {row.id} does not say how it is checked; set kind to math, exact, program or tools."
                )
            if all(row.task.get(name) in (None, "", []) for name in CHECKABLE):
                raise InputError(
                    f"Row {row.id} has no reference answer, so nothing can be counted right or wrong; "
                    "map the column that holds it (--map reference=COLUMN), or leave such rows out."
                )
            kinds[row.id] = kind
        return kinds

    def _outcomes(self, rows: Sequence[Row], scored: Sequence[Row]) -> list[Outcome]:
        """Gather the scores by prompt, in the prompts' order; samples that never came are wrong ones."""
        found = {row.id: Outcome(row) for row in rows}
        for row in scored:
            outcome, score = found[row.parents[0]], row.scores.get("verified")
            if score is None and row.labels.get("verdict") != "unreadable-reference":
                outcome.unchecked += 1  # no verdict on this answer: it counts as wrong, and is said
            elif score is None:
                outcome.unscored = True
            else:
                outcome.scores.append(score)
        for outcome in found.values():
            outcome.scores += [0.0] * (self.samples - len(outcome.scores))
        return list(found.values())

    def _results(self, outcomes: Sequence[Outcome], scored: Sequence[Row], refused: Sequence[Row]) -> dict[str, Any]:
        counted = [o for o in outcomes if not o.unscored]
        return {
            "model": self.model,
            "label": self.label or self.model,
            "prompts": len(counted),
            "samples": self.samples,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "accuracy": self._accuracy(counted),
            "pass_at": {str(k): _pass_at(counted, k) for k in _draws(self.samples)},
            "by_family": self._by(counted, "family"),
            "by_difficulty": self._by(counted, "difficulty"),
            "refused": len(refused),
            "unscored": len(outcomes) - len(counted),
            "cut": sum(row.labels.get("finish") == "length" for row in scored),
            "tokens_out_mean": round(sum(r.usage.tokens_out for r in scored) / max(1, len(scored)), 2),
            "sentences": self._sentences(outcomes, refused),
        }

    def _accuracy(self, outcomes: Sequence[Outcome]) -> dict[str, float]:
        return clustered([o.rate for o in outcomes], self.samples).to_json() | {"n": len(outcomes)}

    def _by(self, outcomes: Sequence[Outcome], key: str) -> dict[str, dict[str, float]]:
        groups: dict[str, list[Outcome]] = {}
        for outcome in outcomes:
            if outcome.prompt.task.get(key) is not None:
                groups.setdefault(str(outcome.prompt.task[key]), []).append(outcome)
        return {name: self._accuracy(groups[name]) for name in sorted(groups)}

    def _sentences(self, outcomes: Sequence[Outcome], refused: Sequence[Row]) -> list[str]:
        counted = [o for o in outcomes if not o.unscored]
        share = clustered([o.rate for o in counted], self.samples)
        said = [
            f"{self.label or self.model} answers {share.mean:.1%} of {len(counted)} prompts right "
            f"(95% interval {share.low:.1%} to {share.high:.1%})."
        ]
        if refused:
            said.append(f"{len(refused)} of them got no answer and count as wrong: {refused[0].dropped}.")
        if unchecked := sum(o.unchecked for o in counted):
            said.append(
                f"{unchecked} answers could not be checked and count as wrong; the reasons are in kept.parquet."
            )
        if len(counted) < len(outcomes):
            said.append(f"{len(outcomes) - len(counted)} more were left out: their reference can not be read.")
        return said


def _scored(answered: Sequence[Row], kinds: dict[str, str], context: Context) -> list[Row]:
    """Score every sample by the verifier of its prompt; the rows come back in the order they had."""
    found: dict[str, Row] = {}
    for kind in dict.fromkeys(kinds.values()):
        own = [row for row in answered if kinds[row.parents[0]] == kind]
        for before, after in zip(own, context.apply(f"score.{kind}", own) if own else [], strict=True):
            found[before.id] = after
    return [found[row.id] for row in answered]


def _draws(samples: int) -> list[int]:
    """The k of pass@k: powers of two, and all samples."""
    return sorted({2**i for i in range(samples.bit_length()) if 2**i <= samples} | {samples})


def _pass_at(outcomes: Sequence[Outcome], k: int) -> float:
    each = [pass_at_k(len(o.scores), round(sum(o.scores)), k) for o in outcomes]
    return round(sum(each) / len(each), 6)


def _line(outcome: Outcome) -> dict[str, Any]:
    task = outcome.prompt.task
    about = {key: task[key] for key in ("family", "difficulty") if task.get(key) is not None}
    return {"prompt": outcome.prompt.id, **about, "scores": outcome.scores}


def _write(path: Path, text: str) -> None:
    writing = path.with_name(path.name + ".writing")
    writing.write_text(text, encoding="utf-8")
    writing.replace(path)
