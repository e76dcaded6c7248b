"""What more samples would bring: pass@k and best-of-k for every k, from one batch of N scored samples a prompt.

    rows          8 samples of each of 200 prompts, with the score `verified`
    curves.json   {"score": "verified", "prompts": 200, "samples": 8, "left_out": 0,
                   "pass_at": {"1": {"mean": 0.41, "low": 0.36, "high": 0.46}, "2": {…}, … "8": {…}},
                   "best_of": {"1": {…}, …}, "sentences": ["…"]}

Both are unbiased estimates of what k fresh samples would give (Chen et al. 2021, arXiv 2107.03374, and its extension from
passing to any score), not the first k of the batch. Intervals count prompts and not samples. Dropped rows are not read: give
this step the scored samples, not what a selection left of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np

from limbeck.core.errors import InputError
from limbeck.core.row import Row
from limbeck.core.step import Context, Make
from limbeck.evaluate.stats import best_of_k, clustered, pass_at_k


class Curves(Make):
    """Write pass@k and best-of-k with intervals for every k up to the number of samples a prompt."""

    reads_sealed: ClassVar[bool] = True

    score: str = "verified"
    """Which score the samples carry."""
    least: float = 1.0
    """The score that passes."""

    def make(self, rows: list[Row], context: Context) -> Iterable[Row]:
        """Group the scores by prompt, estimate, and write `curves.json`."""
        groups: dict[str, list[float]] = {}
        unscored = 0
        for row in rows:
            if self.score in row.scores:
                groups.setdefault(row.group, []).append(row.scores[self.score])
            else:
                unscored += 1
        if not groups:
            raise InputError(f"No row has the score '{self.score}'; run a score step before, or name another score.")
        result = self._result(list(groups.values()), unscored)
        text = json.dumps(result, indent=1) + "\n"
        (context.folder / "curves.json").write_text(text, encoding="utf-8")
        return []

    def _result(self, groups: list[list[float]], unscored: int) -> dict[str, Any]:
        # a prompt with fewer samples than k has no unbiased estimate for k: all k are taken from the same prompts
        samples = max(len(scores) for scores in groups)
        whole = [scores for scores in groups if len(scores) == samples]
        passes = {
            k: clustered([pass_at_k(samples, self._right(s), k) for s in whole], 1 if k == samples else samples)
            for k in range(1, samples + 1)
        }
        return {
            "score": self.score,
            "prompts": len(whole),
            "samples": samples,
            "left_out": len(groups) - len(whole),
            "unscored": unscored,
            "pass_at": {str(k): interval.to_json() for k, interval in passes.items()},
            "best_of": {str(k): _mean([best_of_k(s, k) for s in whole]) for k in range(1, samples + 1)},
            "sentences": [
                f"pass@1 is {passes[1].mean:.1%} and pass@{samples} {passes[samples].mean:.1%} on {len(whole)} prompts."
            ],
        }

    def _right(self, scores: list[float]) -> int:
        return sum(score >= self.least for score in scores)


def _mean(values: list[float]) -> dict[str, float]:
    """Return the mean over prompts with the normal 95 % interval of that mean."""
    array = np.asarray(values)
    half = 1.959964 * float(array.std(ddof=1)) / len(array) ** 0.5 if len(array) > 1 else 0.0
    mean = float(array.mean())
    return {"mean": round(mean, 6), "low": round(mean - half, 6), "high": round(mean + half, 6)}
