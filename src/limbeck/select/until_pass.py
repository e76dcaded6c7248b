"""Keeping the first sample of each prompt that passes, as if sampling had stopped there.

    group 93ab   verified 0.0  dropped  "select.until_pass: did not pass"
                 verified 1.0  kept     extra {"draws": {"needed": 2, "made": 4}}
                 verified 1.0  dropped  "select.until_pass: not needed: an earlier sample passed"
                 verified 0.0  dropped  "select.until_pass: not needed: an earlier sample passed"

The rule for verifiers that say only yes or no (Llama 3 sampled 10 to 30 times): one passing sample per prompt, not the
easy prompts many times over. `draws` on every kept row says how many samples sequential stopping would have needed, and
on the last row of a group without a pass that all of them were in vain.
"""

from __future__ import annotations

from limbeck.core.row import Row
from limbeck.core.step import Whole
from limbeck.select._groups import groups, unscored_dropped


class UntilPass(Whole):
    """Keep, of each group, the first row that passes; samples count in the order they came."""

    score: str = "verified"
    """Which score decides."""
    least: float = 1.0
    """The score that passes."""

    def key(self, row: Row) -> str:
        """Return the prompt's group."""
        return row.group

    def whole(self, rows: list[Row]) -> list[Row]:
        """Return the rows, all but the first passing one of each group dropped."""
        out = unscored_dropped(rows, self.score, self.called())
        for places in groups(rows, self.score):
            first = next((n for n, place in enumerate(places) if rows[place].scores[self.score] >= self.least), None)
            draws = {"needed": None if first is None else first + 1, "made": len(places)}
            marked = len(places) - 1 if first is None else first
            out[places[marked]] = out[places[marked]].with_extra(draws=draws)
            for n, place in enumerate(places):
                if n != first:
                    late = first is not None and n > first
                    why = "not needed: an earlier sample passed" if late else "did not pass"
                    out[place] = out[place].drop(f"{self.called()}: {why}")
        return out
