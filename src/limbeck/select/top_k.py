"""Keeping the k best rows, of each prompt or of all.

    TopK(score="reward", k=2)                      two samples of every prompt
    TopK(score="reward", k=1000, scope="overall")  the thousand best rows

The two are different tools: the overall best come from few, easy prompts (of 200 prompts with 16 samples each, the 200
best rows stem from about 41), so `overall` is a filter of difficulty in disguise. The default keeps every prompt.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from limbeck.core.row import Row
from limbeck.core.step import Whole
from limbeck.select._groups import groups, unscored_dropped


class TopK(Whole):
    """Keep the `k` rows with the highest score, of each group or overall; equal scores in the order they came."""

    k: int = Field(default=1, ge=1)
    """How many rows to keep."""
    scope: Literal["group", "overall"] = "group"
    """Whether `k` counts per prompt or over all rows."""
    score: str = "verified"
    """Which score decides."""
    lowest: bool = False
    """Whether the lowest scores are the best."""

    def key(self, row: Row) -> str:
        """Return the prompt's group; nothing where all rows compete with each other."""
        return row.group if self.scope == "group" else ""

    def whole(self, rows: list[Row]) -> list[Row]:
        """Return the rows, all but the best k dropped."""
        sign = 1.0 if self.lowest else -1.0
        out = unscored_dropped(rows, self.score, self.called())
        pools = groups(rows, self.score)
        if self.scope == "overall":
            pools = [sorted(place for places in pools for place in places)]
        for places in pools:
            ranked = sorted(places, key=lambda place: (sign * rows[place].scores[self.score], place))
            for place in ranked[self.k :]:
                of = "all rows" if self.scope == "overall" else "its group"
                out[place] = out[place].drop(f"{self.called()}: not among the best {self.k} of {of} by {self.score}")
        return out
