"""Exact duplicates: rows whose text is the same, letter for letter or after normalisation.

    5b1e  Start with 12. Add 5.     kept      labels {"cluster": "0f3c..."}
    77c0  start with 12.  add 5.    dropped   labels {"cluster": "0f3c..."}   "curate.exact: duplicate of 5b1e..."
    8a2d  Start with 12. Add 6.     kept      labels {"cluster": "b771..."}

Normalised means Unicode compatibility forms, case and white space; digits and punctuation are kept, because problems
that differ in a number are different problems. Rows with the same `cluster` are declared duplicates, kept and dropped alike.
"""

from __future__ import annotations

import hashlib
import json
import math
import unicodedata
from typing import Literal

from limbeck.core.row import Message, Row
from limbeck.core.step import Whole


class Exact(Whole):
    """Keep one row of each set of duplicates."""

    on: Literal["messages", "prompt", "response"] = "messages"
    """Which part of a conversation has to be the same."""
    normalise: bool = True
    """Whether case, white space and Unicode compatibility forms are disregarded."""
    keep: Literal["first", "longest", "best"] = "first"
    """Which of the duplicates is kept: the first, the longest, or the one with the best `score`; ties go to the first."""
    score: str = "verified"
    """The score that `keep="best"` looks at; a row without it counts as the worst."""

    def whole(self, rows: list[Row]) -> list[Row]:
        """Return the rows with their clusters, all but one of each cluster dropped."""
        out, clusters = list(rows), dict[str, list[int]]()
        for place, row in enumerate(rows):
            if row.dropped is None:
                key = self._key(row)
                out[place] = row.with_labels(cluster=key)
                clusters.setdefault(key, []).append(place)
        for places in clusters.values():
            kept = max(places, key=lambda place: (self._worth(rows[place]), -place))
            for place in places:
                if place != kept:
                    out[place] = out[place].drop(f"{self.called()}: duplicate of {rows[kept].id}")
        return out

    def _key(self, row: Row) -> str:
        turns = {
            "messages": row.messages,
            "prompt": row.prompt,
            "response": row.messages[-1:] if row.has_response else (),
        }[self.on]
        # a row that lacks the part is a duplicate of none
        content = json.dumps([self._turn(t) for t in turns] or [row.id], ensure_ascii=True)
        return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()

    def _turn(self, turn: Message) -> list[str | None]:
        return [turn.role, self._text(turn.content), turn.tool_calls, turn.name]

    def _text(self, text: str) -> str:
        if not self.normalise:
            return text
        text = text if text.isascii() else unicodedata.normalize("NFKC", text)
        return " ".join(text.casefold().split())

    def _worth(self, row: Row) -> float:
        if self.keep == "longest":
            return float(sum(len(m.content) for m in row.messages))
        value = row.scores.get(self.score, -math.inf) if self.keep == "best" else 0.0
        return -math.inf if math.isnan(value) else value
