"""Keeping at most so many rows of each kind: a mixture by counts.

    Quota(label="family", most=1000)                    the first thousand of every family
    Quota(label="family", most=1000, score="reward")    the thousand best of every family
    Quota(task="difficulty", most=50)                   by a field of the task
    Quota(label="domain", most=50, score="text_words", draw="halving")    mostly the longest of every domain, as s1 draws

`halving` draws without replacement, each row with a weight of 2^-rank, rank 0 the best: half of the first draws fall on the best
row, a quarter on the second, and a few far down. s1 (Muennighoff et al. 2025, arXiv 2501.19393) draws a domain at random each
time, then a question by the length of its trace; here every kind has the same quota, and ranks are those before the first draw.

Rows that lack the label or field are one kind of their own, the empty one.
"""

from __future__ import annotations

import math
from hashlib import blake2b
from typing import Literal

from pydantic import Field, model_validator

from limbeck.core.row import Row
from limbeck.core.step import Whole
from limbeck.select._groups import NOT_SCORED, scored


class Quota(Whole):
    """Keep at most `most` rows of each value of a label or of a task field: the first, or the best by a score."""

    label: str = ""
    """The label that says what kind a row is."""
    task: str = ""
    """The field of the task that says so, instead of a label."""
    most: int = Field(ge=1)
    """How many rows of each kind to keep."""
    score: str = ""
    """Which score decides; without one the first rows stay, in the order they come."""
    lowest: bool = False
    """Whether the lowest scores are the best."""
    draw: Literal["best", "halving"] = "best"
    """Keep the best, or draw at random with weights that halve from rank to rank."""
    seed: int = 0
    """Another seed is another draw; the best are always the same."""

    @model_validator(mode="after")
    def _one_of_two(self) -> Quota:
        if bool(self.label) == bool(self.task):
            raise ValueError("give either `label` or `task`: what says of which kind a row is")
        if self.draw == "halving" and not self.score:
            raise ValueError("a draw by rank needs a `score` to rank by")
        return self

    def key(self, row: Row) -> str:
        """Return the kind of the row."""
        return row.labels.get(self.label, "") if self.label else str(row.task.get(self.task, ""))

    def whole(self, rows: list[Row]) -> list[Row]:
        """Return the rows, those past their kind's quota dropped."""
        out = list(rows)
        kinds: dict[str, list[int]] = {}
        for place, row in enumerate(rows):
            if row.dropped is None and self.score and not scored(row, self.score):
                out[place] = row.drop(f"{self.called()}: {NOT_SCORED}")
            elif row.dropped is None:
                kinds.setdefault(self.key(row), []).append(place)
        sign = 1.0 if self.lowest else -1.0
        for kind, places in kinds.items():
            if self.score:
                places = sorted(places, key=lambda place: (sign * rows[place].scores[self.score], place))
            if self.draw == "halving":
                places = self._drawn(places, rows)
            for place in places[self.most :]:
                why = f"over the quota of {self.most} for {self.label or self.task} '{kind}'"
                out[place] = out[place].drop(f"{self.called()}: {why}")
        return out

    def _drawn(self, places: list[int], rows: list[Row]) -> list[int]:
        """Return the places in the order of the draw: the largest of log-weight plus Gumbel noise come first."""
        keys = {place: rank * math.log(2) - self._gumbel(rows[place].id) for rank, place in enumerate(places)}
        return sorted(places, key=lambda place: (keys[place], place))

    def _gumbel(self, row: str) -> float:
        # noise that belongs to the row: no other row changes it
        found = int.from_bytes(blake2b(f"{self.seed} {row}".encode(), digest_size=8).digest(), "big")
        return -math.log(-math.log((found + 0.5) / 2**64))
