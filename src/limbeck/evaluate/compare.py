"""Models against each other on the same prompts: which differences are real, and which are not resolved.

    Compare(arms={"base": ["step:eval-base"], "raw traces": ["step:eval-raw-1", "step:eval-raw-2", "step:eval-raw-3"]})

    compare.json  {"arms":  [{"name": "base", "accuracy": {"mean": 0.0, "low": 0.0, "high": 0.013}, "runs": [0.0], …}, …],
                   "pairs": [{"left": "base", "right": "raw traces", "difference": {"mean": 0.41, "low": 0.36, "high": 0.47},
                              "resolved": true, "sentence": "raw traces beats base by 41.0 points (…)."}, …],
                   "story": "base < answers only < raw traces ? verified traces", "sentences": […]}

An arm is one model, or one recipe trained with several seeds: one `evaluate.run` step each. In the story `<` and `>` stand
between arms whose difference is resolved (its 95% interval excludes 0), `?` between those where it is not. With `by`, the
arms are read from one table instead: the values of a label such as `source`, with correctness from a score.

Intervals come from a paired bootstrap over prompts, widened by how training seeds differ where an arm has several
(`stats.resample_prompts`, `stats.run_noise`). Two single runs are also given McNemar's exact test. Where several pairs are
compared, a difference that does not survive Holm's correction for their number is named.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from limbeck.core.errors import InputError, UsageError, nearest
from limbeck.core.fingerprint import digest
from limbeck.core.row import Row
from limbeck.core.step import Context, Make
from limbeck.evaluate.stats import (
    Rates,
    clustered,
    holm,
    mcnemar,
    percentiles,
    resample_prompts,
    run_noise,
    two_sided,
    widened,
)

ALL_PAIRS = 5
"""Up to so many arms every pair is compared; beyond, neighbours and the two ends."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One model or recipe: its share of right samples, `rates_RP[run, prompt]`, and the samples behind each share."""

    name: str
    rates_RP: Rates
    samples: int = 1

    @property
    def mean(self) -> float:
        """The mean accuracy over runs and prompts."""
        return float(self.rates_RP.mean())


@dataclass(frozen=True, slots=True)
class Table:
    """The arms on the prompts that they share."""

    arms: list[Arm]
    prompts: int
    notes: tuple[str, ...] = ()


class Compare(Make):
    """Compare models on the same prompts: paired differences with intervals, and the story in one line."""

    reads_sealed: ClassVar[bool] = True

    arms: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """From the name of an arm to its evaluate.run steps, each written `step:NAME`; several are training seeds."""
    by: str = ""
    """Instead of `arms`: the label (or field) of the rows whose values are the arms."""
    score: str = "verified"
    """With `by`: the score that says whether a row is right."""
    resamples: int = Field(default=10_000, ge=100)
    """Resamples of the bootstrap."""
    seed: int = 0
    """The bootstrap's seed."""

    @model_validator(mode="after")
    def _one_source(self) -> Compare:
        if bool(self.arms) == bool(self.by):
            raise ValueError("give either arms (evaluate.run steps by name) or by (a label of the rows)")
        if self.arms and (len(self.arms) < 2 or not all(self.arms.values())):
            raise ValueError("a comparison needs two arms or more, each with one evaluate.run step or more")
        return self

    def make(self, rows: list[Row], context: Context) -> Iterable[Row]:
        """Read the outcomes, resample them together, and write `compare.json`."""
        table = _from_rows(rows, self.by, self.score) if self.by else _from_steps(self.arms, context)
        means_BA = resample_prompts([a.rates_RP for a in table.arms], resamples=self.resamples, seed=self.seed)
        pairs = self._pairs(table, means_BA)
        story = _story(table.arms, pairs)
        result = {
            "arms": [_arm(arm, means_BA[:, i] + self._noise(arm)) for i, arm in enumerate(table.arms)],
            "pairs": pairs,
            "story": story,
            "sentences": [*(p["sentence"] for p in pairs), *_cautions(table, pairs)],
            "resamples": self.resamples,
            "seed": self.seed,
        }
        writing = context.folder / "compare.json.writing"
        writing.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        writing.replace(context.folder / "compare.json")
        return []

    def _pairs(self, table: Table, means_BA: NDArray[np.float64]) -> list[dict[str, Any]]:
        wanted = _wanted(len(table.arms))
        resampled = [
            means_BA[:, right] - means_BA[:, left] + self._noise(table.arms[left], table.arms[right])
            for left, right in wanted
        ]
        adjusted = holm([two_sided(d) for d in resampled])
        made = []
        for (left, right), differences, p_holm in zip(wanted, resampled, adjusted, strict=True):
            made.append(_pair(table.arms[left], table.arms[right], differences, p_holm, table.prompts))
        return made

    def _noise(self, *arms: Arm) -> NDArray[np.float64]:
        return run_noise([arm.rates_RP for arm in arms], resamples=self.resamples, seed=self.seed)


def _wanted(count: int) -> list[tuple[int, int]]:
    """Neighbours first, then the other pairs: all of them, or only the first against the last."""
    neighbours = list(pairwise(range(count)))
    others = combinations(range(count), 2) if count <= ALL_PAIRS else [(0, count - 1)]
    return neighbours + [pair for pair in others if pair not in neighbours]


def _arm(arm: Arm, means_B: NDArray[np.float64]) -> dict[str, Any]:
    single = len(arm.rates_RP) == 1
    prompts = arm.rates_RP.shape[1]
    share = (
        clustered(arm.rates_RP[0], arm.samples)
        if single
        else widened(percentiles(arm.mean, means_B.clip(0, 1)), prompts).within(0.0, 1.0)
    )
    runs = [round(float(m), 6) for m in arm.rates_RP.mean(axis=1)]
    return {"name": arm.name, "accuracy": share.to_json(), "runs": runs, "prompts": prompts}


def _pair(left: Arm, right: Arm, differences_B: NDArray[np.float64], p_holm: float, prompts: int) -> dict[str, Any]:
    found = widened(percentiles(right.mean - left.mean, differences_B), prompts)
    resolved = found.low > 0 or found.high < 0
    counts = (len(left.rates_RP), len(right.rates_RP))
    pair: dict[str, Any] = {
        "left": left.name,
        "right": right.name,
        "difference": found.to_json(),
        "resolved": resolved,
        "p": round(two_sided(differences_B), 6),
        "p_holm": round(p_holm, 6),
        "runs": list(counts),
    }
    if counts == (1, 1) and left.samples == right.samples == 1:
        a, b = left.rates_RP[0] > 0.5, right.rates_RP[0] > 0.5
        only_left, only_right = int((a & ~b).sum()), int((b & ~a).sum())
        pair["mcnemar"] = {"left_only": only_left, "right_only": only_right, "p": mcnemar(only_left, only_right)}
    better, worse = (right.name, left.name) if found.mean >= 0 else (left.name, right.name)
    low, high = (found.low, found.high) if found.mean >= 0 else (-found.high, -found.low)
    size = f"{abs(found.mean) * 100:.1f} points (95% interval {low * 100:.1f} to {high * 100:.1f}; {prompts} prompts"
    size += f", {counts[0]} and {counts[1]} runs)" if max(counts) > 1 else ")"
    pair["sentence"] = (
        f"{better} beats {worse} by {size}."
        if resolved
        else f"{left.name} against {right.name} is not resolved: {better} is ahead by {size}."
        if found.mean
        else f"{left.name} against {right.name} is not resolved: the difference is {size}."
    )
    return pair


def _story(arms: Sequence[Arm], pairs: Sequence[Mapping[str, Any]]) -> str:
    """Write the arms in their order with what stands between neighbours."""
    story = arms[0].name
    for arm, pair in zip(arms[1:], pairs, strict=False):
        sign = "?" if not pair["resolved"] else "<" if pair["difference"]["mean"] > 0 else ">"
        story += f" {sign} {arm.name}"
    return story


def _cautions(table: Table, pairs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say what the intervals do not include."""
    said = list(table.notes)
    lost = [p for p in pairs if p["resolved"] and p["p_holm"] > 0.05]
    for pair in lost:
        said.append(
            f"{pair['left']} against {pair['right']} does not survive Holm's correction for {len(pairs)} comparisons "
            f"(adjusted p = {pair['p_holm']:.3f}); take it as a hint."
        )
    counts = {len(a.rates_RP) for a in table.arms}
    if counts != {1} and 1 in counts:
        single = ", ".join(a.name for a in table.arms if len(a.rates_RP) == 1)
        said.append(
            f"One run only: {single}. Intervals with them leave out how much training itself varies, if it was trained."
        )
    return said


# -- where the arms come from ----------------------------------------------------------------------------------------


def _from_steps(arms: Mapping[str, Sequence[str]], context: Context) -> Table:
    """Read the outcomes of the evaluate.run steps; all must have met the same prompts."""
    read = {name: [_outcomes(step, context) for step in steps] for name, steps in arms.items()}
    first = next(iter(read.values()))[0]
    for name, runs in read.items():
        for step, run in zip(arms[name], runs, strict=True):
            if set(run) != set(first):
                raise UsageError(
                    f"'{step}' (arm '{name}') was evaluated on other prompts than '{next(iter(arms.values()))[0]}': they share "
                    f"{len(set(run) & set(first))} of {len(first)}. Evaluate all arms on the rows of the same step."
                )
    made = [_as_arm(name, [[run[prompt] for prompt in first] for run in runs]) for name, runs in read.items()]
    return Table(made, len(first))


def _outcomes(step: str, context: Context) -> dict[str, list[float]]:
    path = context.artefact(step) / "outcomes.jsonl"
    if not path.is_file():
        raise UsageError(
            f"'{step}' is no evaluate.run step: it wrote no outcomes.jsonl. An arm lists evaluate.run steps."
        )
    lines = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return {line["prompt"]: line["scores"] for line in lines}


def _as_arm(name: str, runs: Sequence[Sequence[Sequence[float]]]) -> Arm:
    rates = np.array([[sum(scores) / len(scores) for scores in run] for run in runs], dtype=float)
    return Arm(name, rates, samples=max(len(scores) for run in runs for scores in run))


def _from_rows(rows: Sequence[Row], by: str, score: str) -> Table:
    """Read the arms from one table: rows of equal label are an arm, rows of equal group answer the same prompt."""
    if not rows:
        raise UsageError("There is nothing to compare: no row reached this step.")
    arms = [_value(row, by) for row in rows]
    names = list(dict.fromkeys(arms))
    if len(names) < 2:
        raise UsageError(f"All rows have the same '{by}' ('{names[0]}'); a comparison needs two or more.")
    if not any(score in row.scores for row in rows):
        known = {name for row in rows for name in row.scores}
        raise UsageError(
            f"No row has the score '{score}'; score the rows first (score.math, …).{nearest(score, known)}"
        )
    keys = _prompts(rows, arms, names)
    found: dict[str, dict[str, list[float]]] = {name: {} for name in names}
    unscored = {key for key, row in zip(keys, rows, strict=True) if score not in row.scores}
    for row, arm, key in zip(rows, arms, keys, strict=True):
        if key not in unscored:
            found[arm].setdefault(key, []).append(row.scores[score])
    shared = list(found[names[0]])
    if not shared:
        raise UsageError(f"No prompt has the score '{score}' in every arm; score the rows of all arms first.")
    notes = [f"{len(unscored)} prompts were left out: a row of theirs has no score '{score}'."] if unscored else []
    return Table([_as_arm(n, [[found[n][key] for key in shared]]) for n in names], len(shared), tuple(notes))


def _value(row: Row, by: str) -> str:
    value = row.labels.get(by, row.extra.get(by, row.task.get(by)))
    if value is None:
        raise InputError(f"Row {row.id} has no label '{by}'.{nearest(by, [*row.labels, *row.extra])}")
    return str(value)


def _prompts(rows: Sequence[Row], arms: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return each row's prompt identity: its group, or the text of the prompt where groups are each row's own."""
    for keys in ([row.group for row in rows], [digest([[m.role, m.content] for m in row.prompt]) for row in rows]):
        sets = [{key for key, arm in zip(keys, arms, strict=True) if arm == name} for name in names]
        if all(s == sets[0] for s in sets):
            return keys
    counts = ", ".join(f"{name}: {len(s)}" for name, s in zip(names, sets, strict=True))
    raise UsageError(
        f"The arms did not answer the same prompts ({counts}; all share {len(set.intersection(*sets))}), so they can not "
        "be compared prompt by prompt. Keep the rows of the prompts that all of them answered."
    )
