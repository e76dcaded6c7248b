"""Exact duplicates: rows whose text is the same, letter for letter or after normalisation.

    5b1e  Start with 12. Add 5.     kept      labels {"cluster": "0f3c..."}
    77c0  start with 12.  add 5.    dropped   labels {"cluster": "0f3c..."}   "curate.exact: duplicate of 5b1e..."
    8a2d  Start with 12. Add 6.     kept      labels {"cluster": "b771..."}

Normalised means Unicode compatibility forms, case and white space; digits and punctuation are kept, because problems
that differ in a number are different problems; raised and lowered characters stay what they are, because 10² is not 102.
`normalise=False` compares letter for letter. Rows with the same `cluster` are declared duplicates, kept and dropped alike;
sealed rows (evaluation sets) are never dropped, and where a cluster holds some, every other row goes.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata

from limbeck.core.row import Message, Row
from limbeck.core.step import Whole
from limbeck.curate._keep import Keep, Part, kept_of, settled, turns, worth

# NFKC would make 10² the number 102
_RAISED = re.compile("[\u00b2\u00b3\u00b9\u2070-\u209c]")


class Exact(Whole):
    """Keep one row of each set of duplicates."""

    on: Part = "messages"
    """Which part of a conversation has to be the same."""
    normalise: bool = True
    """Whether case, white space and Unicode compatibility forms are disregarded."""
    keep: Keep = "first"
    """Which of the duplicates is kept: the first, the longest, or the one with the best `score`; ties go to the first."""
    score: str = "verified"
    """The score that `keep="best"` looks at; a row without it counts as the worst."""

    def key(self, row: Row) -> str:
        """Return the cluster: only duplicates have to be seen together."""
        return self._key(row)

    def whole(self, rows: list[Row]) -> list[Row]:
        """Return the rows with their clusters, all but one of each cluster dropped."""
        out = list(rows)
        places = [place for place, row in enumerate(rows) if row.dropped is None]
        keys = [self._key(rows[place]) for place in places]
        first: dict[str, int] = {}
        clusters = [first.setdefault(key, mine) for mine, key in enumerate(keys)]
        kept = kept_of(clusters, [worth(rows[place], self.keep, self.score) for place in places])
        reason = f"{self.called()}: duplicate"
        for mine, (place, key, best) in enumerate(zip(places, keys, kept, strict=True)):
            out[place] = settled(rows[place], rows[places[best]], mine == best, reason, cluster=key)
        return out

    def _key(self, row: Row) -> str:
        # a row that lacks the part is a duplicate of none
        content = json.dumps([self._turn(turn) for turn in turns(row, self.on)] or [row.id], ensure_ascii=True)
        return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()

    def _turn(self, turn: Message) -> list[str | None]:
        return [turn.role, self._text(turn.content), turn.tool_calls, turn.name]

    def _text(self, text: str) -> str:
        if not self.normalise:
            return text
        if not text.isascii():
            raised = _RAISED.findall(text)
            # normalised piece by piece between them
            parts = [unicodedata.normalize("NFKC", part) for part in _RAISED.split(text)]
            text = "".join(part + sign for part, sign in zip(parts, [*raised, ""], strict=True))
        return " ".join(text.casefold().split())
