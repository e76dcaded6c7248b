"""Keeping rows whose score lies in a range.

Threshold()                                at least 1 in `verified`: what a verifier passed
Threshold(score="verified", most=0.0)      what it did not pass, for a second try
Threshold(score="ifd", least=0.3, most=0.9)
"""

from __future__ import annotations

from limbeck.core.row import Row
from limbeck.core.step import Drop, Each, Made
from limbeck.select._groups import NOT_SCORED, scored


class Threshold(Each):
    """Keep rows whose score is at least `least` and at most `most`; with neither given, at least 1."""

    score: str = "verified"
    """Which score decides."""
    least: float | None = None
    """The lowest score that is kept."""
    most: float | None = None
    """The highest score that is kept."""

    def each(self, row: Row) -> Made:
        """Return the row, or drop it."""
        if not scored(row, self.score):
            return Drop(NOT_SCORED)
        value = row.scores[self.score]
        least = 1.0 if self.least is None and self.most is None else self.least
        if least is not None and value < least:
            return Drop(f"{self.score} is {value:g}, under {least:g}")
        if self.most is not None and value > self.most:
            return Drop(f"{self.score} is {value:g}, over {self.most:g}")
        return row
