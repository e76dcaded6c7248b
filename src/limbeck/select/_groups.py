"""What the selectors share: rows by group, and a score that is there and is a number.

A row without the score is dropped as "not scored": it is neither good nor bad, and must not be taken for either.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from limbeck.core.row import Row

NOT_SCORED = "not scored"


def scored(row: Row, score: str) -> bool:
    """Say whether the row has the score, as a number."""
    return score in row.scores and not math.isnan(row.scores[score])


def groups(rows: Sequence[Row], score: str) -> list[list[int]]:
    """Return the places of the kept, scored rows, group by group, in the order they came."""
    found: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        if row.dropped is None and scored(row, score):
            found.setdefault(row.group, []).append(place)
    return list(found.values())


def unscored_dropped(rows: Sequence[Row], score: str, called: str) -> list[Row]:
    """Return the rows, those without the score dropped."""
    return [row if scored(row, score) else row.drop(f"{called}: {NOT_SCORED}") for row in rows]
