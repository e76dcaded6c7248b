"""Mixing branches in declared proportions.

    Weights(after=("math", "chat", "code"), weights={"math": 2, "chat": 1, "code": 1}, total=4000)
        math 2000 rows, chat 1000, code 1000, drawn by the seed; the rest dropped with "mix.weights: not drawn: ..."

Counts are exact (largest remainder), and no row is used twice unless `repeats` says so: a branch that is too small is an
error with the numbers in it, not a silent repetition. Without `total` the mixture is as large as the smallest branch
allows. When a step reads several branches, each row knows its own by `labels["branch"]`; `by` mixes by another label.
"""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

from pydantic import Field, field_validator

from limbeck.core.errors import UsageError, nearest
from limbeck.core.fingerprint import digest
from limbeck.core.row import Row
from limbeck.core.step import Whole


class Weights(Whole):
    """Draw rows of each branch in proportion to its weight; the order of the rows stays as it was."""

    weights: dict[str, float]
    """Each branch's share, in any unit; 0 leaves a branch out."""
    total: int | None = Field(default=None, ge=1)
    """How many rows the mixture has; default: as many as the branches allow."""
    repeats: int = Field(default=1, ge=1)
    """How often one row may be used at most; every row is used once before any is used twice."""
    by: str = "branch"
    """Which label says where a row belongs."""
    seed: int = 0
    """Another seed draws other rows."""

    @field_validator("weights")
    @classmethod
    def _sensible(cls, value: dict[str, float]) -> dict[str, float]:
        if any(not math.isfinite(w) or w < 0 for w in value.values()) or not any(value.values()):
            raise ValueError("weights are finite, not negative, and not all zero")
        return value

    def whole(self, rows: list[Row]) -> list[Row]:
        """Return the rows, those not drawn dropped; repeated rows follow the row they repeat."""
        branches: dict[str, list[int]] = {}
        for place, row in enumerate(rows):
            if row.dropped is None:
                branches.setdefault(row.labels.get(self.by, ""), []).append(place)
        self._check(branches)
        counts = self._counts({name: len(members) for name, members in branches.items()})
        uses: dict[int, int] = {}  # by place: one row may stand in two branches
        for name, places in branches.items():
            uses |= self._drawn(rows, places, counts.get(name, 0))
        out: list[Row] = []
        for place, row in enumerate(rows):
            if not (times := uses.get(place, 0)) and row.dropped is None:
                branch = row.labels[self.by]
                why = f"not drawn: '{branch}' gives {counts.get(branch, 0)} of its {len(branches[branch])} rows"
                row = row.drop(f"{self.called()}: {why}")
            out.append(row)
            out.extend(self._again(row, turn) for turn in range(2, times + 1))
        return out

    def _check(self, branches: dict[str, list[int]]) -> None:
        if "" in branches:
            raise UsageError(
                f"mix.weights: {len(branches[''])} rows have no label '{self.by}'. Let the step read several steps, "
                "after=('one', 'other'), or name another label with by=."
            )
        for name in branches:
            if name not in self.weights:
                raise UsageError(
                    f"mix.weights: '{name}' has rows but no weight; give it one, or 0.{nearest(name, self.weights)}"
                )
        empty = [name for name, weight in self.weights.items() if weight > 0 and name not in branches]
        if empty:
            raise UsageError(f"mix.weights: '{empty[0]}' has a weight but no rows.{nearest(empty[0], branches)}")

    def _counts(self, sizes: dict[str, int]) -> dict[str, int]:
        """Return how many rows each branch gives: exact, by largest remainder."""
        whole = sum(map(Fraction, self.weights.values()))
        shares = {name: Fraction(weight) / whole for name, weight in sorted(self.weights.items()) if weight > 0}
        room = {name: sizes[name] * self.repeats for name in shares}
        most = min(math.floor(room[name] / share) for name, share in shares.items())
        total = self.total if self.total is not None else max(most, 1)
        counts = {name: math.floor(total * share) for name, share in shares.items()}
        for name in sorted(shares, key=lambda n: (counts[n] - total * shares[n], n))[: total - sum(counts.values())]:
            counts[name] += 1
        short = [name for name, count in counts.items() if count > room[name]]
        if short:
            name, needed = short[0], math.ceil(counts[short[0]] / sizes[short[0]])
            raise UsageError(
                f"mix.weights: '{name}' has {sizes[name]} rows, and the mixture of {total} needs {counts[name]} of them. "
                f"Ask for total={most} at most, or allow repeats={needed}."
            )
        return counts

    def _drawn(self, rows: list[Row], places: list[int], count: int) -> dict[int, int]:
        order = sorted(places, key=lambda place: (digest([self.seed, rows[place].id], 8), place))
        rounds, rest = divmod(count, len(places))
        return {place: rounds + (rank < rest) for rank, place in enumerate(order)}

    def _again(self, row: Row, turn: int) -> Row:
        copy = row.child(row.messages, made_by=self.made(repeat=turn))
        return replace(copy, scores=dict(row.scores)).with_labels(repeat=str(turn))
