"""Keep the first samples of each prompt, whatever they are worth: the unselected arm that every selection is held against.

group 93ab: samples 0 1 2 3  ->  0 kept; 1 2 3 dropped, "select.first: a later sample of its prompt"
"""

from __future__ import annotations

from collections import Counter

from pydantic import Field

from limbeck.core.row import Row
from limbeck.core.step import Whole


class First(Whole):
    """Keep the first `k` rows of each group, in the order they come."""

    k: int = Field(default=1, ge=1)
    """How many to keep of each prompt."""

    def key(self, row: Row) -> str:
        """Return the prompt's group."""
        return row.group

    def whole(self, rows: list[Row]) -> list[Row]:
        """Mark all but the first `k` of each group as dropped."""
        seen: Counter[str] = Counter()
        out = []
        for row in rows:
            seen[row.group] += 1
            late = seen[row.group] > self.k
            out.append(row.drop("select.first: a later sample of its prompt") if late else row)
        return out
