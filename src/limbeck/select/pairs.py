"""Preference pairs: of the samples of one prompt, a better one with a worse one.

    group 93ab   reward 0.9   kept     extra {"rejected": [{"role": "assistant", "content": "…"}],
                                              "pair": {"rejected_id": "77c0…", "shared": 1, "score": "reward",
                                                       "chosen_score": 0.9, "rejected_score": 0.2}}
                 reward 0.5   dropped  "select.pairs: not needed: its group has its 1 pair"
                 reward 0.2   dropped  "select.pairs: the rejected side of 5b1e…"

A pair is one row: `messages` is the chosen conversation, so that everything that reads conversations reads it, and
`extra["rejected"]` holds the turns that the rejected one has in place of the chosen one's after the `shared` first turns:
`messages[:shared]`, `messages[shared:]` and `extra["rejected"]` are the prompt, chosen and rejected that trainers ask for.

The best is paired with the worst, the second best with the second worst, and so on inwards, as long as the two scores
differ by at least `margin`; every sample stands in one pair at most. Equal scores never make a pair: a tie says nothing.
Among equals the earlier sample goes first, so that the result does not depend on chance. UltraFeedback as it was trained on
(Zephyr, arXiv 2310.16944) pairs the best with a random other one: `against="random"`.
"""

from __future__ import annotations

import random
from typing import Literal

from pydantic import Field

from limbeck.core.row import Row
from limbeck.core.step import Whole
from limbeck.select._groups import groups, unscored_dropped


class Pairs(Whole):
    """Make at most `k` preference pairs of each group, of samples whose scores differ by `margin` or more."""

    score: str = "verified"
    """Which score decides."""
    lowest: bool = False
    """Whether the lowest score is the best, as with a perplexity."""
    margin: float = Field(default=0.0, ge=0.0)
    """The least difference of the two scores; at 0 any difference will do, and equal scores still make no pair."""
    k: int = Field(default=1, ge=1)
    """The most pairs of a group."""
    against: Literal["worst", "closest", "random"] = "worst"
    """Which of the worse samples is rejected: the worst, the best of those that are worse by the margin, or any of these."""
    seed: int = 0
    """Another seed draws other random partners."""

    def key(self, row: Row) -> str:
        """Return the prompt's group."""
        return row.group

    def whole(self, rows: list[Row]) -> list[Row]:
        """Return the rows: the chosen ones carry the rejected turns, all others are dropped."""
        out = unscored_dropped(rows, self.score, self.called())
        for places in groups(rows, self.score):
            pairs = self._pairs(rows, places)
            sides = {place: pair for pair in pairs for place in pair}
            for place in places:
                if place not in sides:
                    out[place] = out[place].drop(f"{self.called()}: {self._why(len(pairs))}")
            for chosen, rejected in pairs:
                out[chosen] = self._joined(rows[chosen], rows[rejected])
                out[rejected] = out[rejected].drop(f"{self.called()}: the rejected side of {rows[chosen].id}")
        return out

    def _why(self, made: int) -> str:
        if made == self.k:
            return f"not needed: its group has its {self.k} pair{'s' if self.k > 1 else ''}"
        more = f" by {self.margin:g} or more" if self.margin else ""
        return f"no partner: no other sample of its group differs in {self.score}{more}"

    def _pairs(self, rows: list[Row], places: list[int]) -> list[tuple[int, int]]:
        """Return (chosen, rejected) places of one group, the best chosen first."""
        sign = 1.0 if self.lowest else -1.0
        free = sorted(places, key=lambda place: (sign * rows[place].scores[self.score], place))
        draw = random.Random(f"{self.seed} {rows[places[0]].group}")
        pairs: list[tuple[int, int]] = []
        while free and len(pairs) < self.k:
            chosen = free.pop(0)
            worse = [place for place in free if self._apart(rows[chosen], rows[place])]
            if worse:
                rejected = self._rejected(rows, worse, draw)
                free.remove(rejected)
                pairs.append((chosen, rejected))
        return pairs

    def _rejected(self, rows: list[Row], worse: list[int], draw: random.Random) -> int:
        if self.against == "random":
            return draw.choice(worse)
        sign = 1.0 if (self.against == "worst") != self.lowest else -1.0
        return min(worse, key=lambda place: (sign * rows[place].scores[self.score], place))

    def _apart(self, better: Row, worse: Row) -> bool:
        difference = better.scores[self.score] - worse.scores[self.score]
        difference = -difference if self.lowest else difference
        return difference > 0 and difference >= self.margin and _shared(better, worse) is not None

    def _joined(self, chosen: Row, rejected: Row) -> Row:
        shared = _shared(chosen, rejected) or 0
        pair = {
            "rejected_id": rejected.id,
            "shared": shared,
            "score": self.score,
            "chosen_score": chosen.scores[self.score],
            "rejected_score": rejected.scores[self.score],
        }
        turns = [{k: v for k, v in m.record().items() if v is not None} for m in rejected.messages[shared:]]
        return chosen.with_extra(rejected=turns, pair=pair)


def _shared(one: Row, other: Row) -> int | None:
    """Return how many first turns two conversations share; None if they do not part with an answer of the assistant's."""
    if not (one.has_response and other.has_response):
        return None
    pairs = zip(one.messages, other.messages, strict=False)
    shared = next((place for place, (a, b) in enumerate(pairs) if a != b), None)
    if shared is None or shared == 0:
        return None
    return shared if one.messages[shared].role == other.messages[shared].role == "assistant" else None
