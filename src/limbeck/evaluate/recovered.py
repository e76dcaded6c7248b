"""How much of the gap between a weak model and a strong one's ceiling a student recovers that learnt from the weak one.

    Recovered(weak=["step:eval-weak-1", …], ceiling=["step:eval-ceiling-1", …],
              students={"naive": ["step:eval-naive-1", …], "confident": ["step:eval-confident-1", …]})

    recovered.json  {"weak": 0.41, "ceiling": 0.93, "gap": {"mean": 0.52, "low": 0.46, "high": 0.58},
                     "students": [{"name": "naive", "accuracy": 0.55, "recovered": {"mean": 0.27, "low": 0.11, "high": 0.42}}, …],
                     "sentences": ["naive recovers 27% of the gap (95% interval 11% to 42%).", …]}

PGR = (student - weak) / (ceiling - weak), the performance gap recovered (Burns et al. 2023, 2312.09390): 1 is as good as having
learnt from true answers, 0 as good as the weak model, under 0 worse than it. The interval is that of the ratio under the paired
bootstrap over prompts, to which what other training seeds would have given is added, as in `evaluate.compare`, each arm by
itself. Where the gap's own interval reaches 0, the ratio means nothing, and none is given.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from limbeck.core.errors import UsageError
from limbeck.core.row import Row
from limbeck.core.step import Context, Make
from limbeck.evaluate.compare import Arm, _from_steps
from limbeck.evaluate.stats import percentiles, resample_prompts, run_noise


class Recovered(Make):
    """Say how much of the gap between weak and ceiling each student recovers (PGR), with intervals."""

    reads_sealed: ClassVar[bool] = True

    weak: tuple[str, ...]
    """The evaluate.run steps of the weak model, each written `step:NAME`; several are training seeds."""
    ceiling: tuple[str, ...]
    """Those of the strong model trained on true answers."""
    students: dict[str, tuple[str, ...]]
    """From a name to the evaluate.run steps of the strong model trained on the weak one's answers."""
    resamples: int = Field(default=10_000, ge=100)
    """Resamples of the bootstrap."""
    seed: int = 0
    """The bootstrap's seed."""

    @model_validator(mode="after")
    def _names(self) -> Recovered:
        if {"weak", "ceiling"} & set(self.students):
            raise ValueError("call the students neither weak nor ceiling: these are the two ends of the gap")
        return self

    def make(self, rows: list[Row], context: Context) -> Iterable[Row]:
        """Read the outcomes, resample them together, and write `recovered.json`."""
        if not (self.weak and self.ceiling and self.students):
            raise UsageError("evaluate.recovered needs evaluate.run steps for weak, for ceiling and for a student.")
        arms = _from_steps({"weak": self.weak, "ceiling": self.ceiling} | self.students, context).arms
        means_BA = resample_prompts([arm.rates_RP for arm in arms], resamples=self.resamples, seed=self.seed)
        means_BA = means_BA + np.stack([self._noise(arm, place) for place, arm in enumerate(arms)], axis=1)
        weak, ceiling = arms[0].mean, arms[1].mean
        gap = percentiles(ceiling - weak, means_BA[:, 1] - means_BA[:, 0])
        students = [
            self._told(arm, arms, means_BA, place, resolved=gap.low > 0) for place, arm in enumerate(arms) if place > 1
        ]
        result = {
            "weak": round(weak, 6),
            "ceiling": round(ceiling, 6),
            "gap": gap.to_json(),
            "students": [{k: v for k, v in told.items() if k != "sentence"} for told in students],
            "sentences": [told["sentence"] for told in students],
            "resamples": self.resamples,
            "seed": self.seed,
        }
        writing = context.folder / "recovered.json.writing"
        writing.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        writing.replace(context.folder / "recovered.json")
        return []

    def _noise(self, arm: Arm, place: int) -> NDArray[np.float64]:
        # arms were trained apart, so their draws are too
        return run_noise([arm.rates_RP], resamples=self.resamples, seed=self.seed + 1000 * place)

    def _told(
        self, arm: Arm, arms: list[Arm], means_BA: NDArray[np.float64], place: int, *, resolved: bool
    ) -> dict[str, Any]:
        told: dict[str, Any] = {"name": arm.name, "accuracy": round(arm.mean, 6), "recovered": None}
        if not resolved:
            told["sentence"] = f"What {arm.name} recovers can not be said: ceiling and weak are not resolved."
            return told
        weak_B, ceiling_B = means_BA[:, 0], means_BA[:, 1]
        ratio = (arm.mean - arms[0].mean) / (arms[1].mean - arms[0].mean)
        # a gap near 0 in a rare resample would give a huge ratio of either sign: quantiles do not mind
        found = percentiles(
            ratio, (means_BA[:, place] - weak_B) / np.where(ceiling_B == weak_B, np.nan, ceiling_B - weak_B)
        )
        told["recovered"] = found.to_json()
        told["sentence"] = (
            f"{arm.name} recovers {found.mean:.0%} of the gap (95% interval {found.low:.0%} to {found.high:.0%})."
        )
        return told
