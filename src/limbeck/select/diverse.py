"""Keeping the n rows that stand best for all: diversity under a budget.

    Diverse(n=1000)                              facility location: of every kind of row, in proportion, its most typical ones
    Diverse(n=1000, method="k_center")           the rows farthest from one another: every corner, outliers first
    Diverse(n=1000, vector="embedding")          by embeddings in `extra`, instead of by words and pairs of words

    kept      labels {"diverse": "1"}            the order of choice: the first 100 are the choice of n=100
    dropped   "select.diverse: not among the 1000 rows that stand for all"

Facility location ignores outliers and k-center seeks them: k-center on unfiltered rows keeps the garbage. Superfiltering.D (Li
et al. 2024, arXiv 2402.00530) takes facility location, after a threshold on IFD; the choice is that of greedy, found lazily.

Rows without words (or of a zero vector) are like nothing and are dropped. Beyond `witnesses` rows, a fixed sample of them has
to be stood for; all rows can be chosen. Memory: rows times `dimensions` times 4 bytes."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Literal

import numpy as np
from pydantic import Field

from limbeck.core.classifier import embedding, text_of
from limbeck.core.ngrams import projected, unit
from limbeck.core.row import Row
from limbeck.core.step import Whole
from limbeck.select._diverse_greedy import Vectors, facility_location, k_center, whole_numbers


class Diverse(Whole):
    """Keep the `n` rows that together stand best for all rows."""

    n: int = Field(ge=1)
    """How many rows to keep."""
    method: Literal["facility_location", "k_center"] = "facility_location"
    """Stand well for all on average, or leave no row far from a kept one."""
    part: Literal["prompt", "response", "both"] = "both"
    """Which text of a row is compared: the last user turn, the last assistant turn, or both."""
    vector: str = ""
    """Compare embeddings, lists of numbers in this extra of the rows, instead of texts."""
    dimensions: int = Field(default=512, ge=8)
    """Length of the vectors that texts are hashed into; the error of a similarity is about 1/sqrt of it."""
    witnesses: int = Field(default=5000, ge=1)
    """How many rows at most have to be stood for in facility location; of more, a fixed sample."""

    def whole(self, rows: list[Row]) -> list[Row]:
        """Return the rows, all but the chosen ones dropped."""
        out = list(rows)
        places = [place for place, row in enumerate(rows) if row.dropped is None]
        vectors = self._vectors([rows[place] for place in places])
        empty = [not vector.any() for vector in vectors]
        usable = [place for place, bare in zip(places, empty, strict=True) if not bare]
        chosen = self._chosen(vectors[~np.array(empty, dtype=bool)], [rows[place] for place in usable])
        order = {usable[index]: rank for rank, index in enumerate(chosen, start=1)}
        for place, bare in zip(places, empty, strict=True):
            if place in order:
                out[place] = rows[place].with_labels(diverse=str(order[place]))
            else:
                why = "nothing to compare" if bare else f"not among the {self.n} rows that stand for all"
                out[place] = rows[place].drop(f"{self.called()}: {why}")
        return out

    def _vectors(self, rows: Sequence[Row]) -> Vectors:
        if not self.vector:
            return whole_numbers(projected((text_of(row, self.part) for row in rows), self.dimensions))
        size = len(embedding(rows[0], self.vector)) if rows else 1
        found = np.array([embedding(row, self.vector, size) for row in rows], dtype=np.float64).reshape(-1, size)
        return whole_numbers(unit(found).astype(np.float32))

    def _chosen(self, vectors: Vectors, rows: Sequence[Row]) -> list[int]:
        if self.method == "k_center":
            return k_center(vectors, self.n)
        return facility_location(vectors, vectors[self._witnesses(rows)], self.n)

    def _witnesses(self, rows: Sequence[Row]) -> list[int]:
        if len(rows) <= self.witnesses:
            return list(range(len(rows)))
        # by id: the sample is the same in whatever order the rows come
        drawn = sorted(range(len(rows)), key=lambda place: blake2b(rows[place].id.encode(), digest_size=8).digest())
        return sorted(drawn[: self.witnesses])
