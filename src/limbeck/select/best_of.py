"""Keeping the best sample of each prompt: best-of-N.

    group 93ab   reward 0.2  dropped  "select.best_of: not the best of its group (reward 0.2, the best has 0.9)"
                 reward 0.9  kept

Equal scores are decided by sample order, so that the result does not depend on chance. Best-of-N on a learned or a
judged score also selects what that score likes by mistake, such as length: look at `audit` before training.
"""

from __future__ import annotations

from limbeck.core.row import Row
from limbeck.core.step import Whole
from limbeck.select._groups import groups, unscored_dropped


class BestOf(Whole):
    """Keep, of each group, the one row with the highest score."""

    score: str = "verified"
    """Which score decides."""
    lowest: bool = False
    """Whether the lowest score is the best, as with a perplexity."""

    def key(self, row: Row) -> str:
        """Return the prompt's group."""
        return row.group

    def whole(self, rows: list[Row]) -> list[Row]:
        """Return the rows, all but the best of each group dropped."""
        sign = -1.0 if self.lowest else 1.0
        out = unscored_dropped(rows, self.score, self.called())
        for places in groups(rows, self.score):
            best = max(places, key=lambda place: (sign * rows[place].scores[self.score], -place))
            top = rows[best].scores[self.score]
            for place in places:
                if place != best:
                    own = rows[place].scores[self.score]
                    why = f"not the best of its group ({self.score} {own:g}, the best has {top:g})"
                    out[place] = out[place].drop(f"{self.called()}: {why}")
        return out
