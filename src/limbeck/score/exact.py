"""Matching a response with a reference text, after both are normalised.

    reference  "New York"
    passes     "new  york."    "The answer is New York."    "<think>Boston?</think> New York"
    fails      "New York City"  "New York or Boston"

Normalised: Unicode compatibility forms, case, white space, quotes around and a full stop behind. Digits, signs and
inner punctuation count: "1.5" is not "15". A reference may be a list of texts, any of which is right.
"""

from __future__ import annotations

import unicodedata

from limbeck.core.row import Message, Row, new_row
from limbeck.core.step import Each, Made
from limbeck.score._answers import find, visible
from limbeck.score._verdict import judged


class Exact(Each):
    """Compare the whole response, or the answer it states, with the task's reference; 1 for equal, 0 otherwise."""

    case: bool = False
    """Whether capital and small letters differ."""

    def each(self, row: Row) -> Made:
        """Score one response."""
        references = self._references(row)
        if not references:
            return judged(row, "exact", "unreadable-reference")
        text = visible(row.response)
        if text is None or not text.strip():
            return judged(row, "exact", "no-answer")
        if self._normal(text) in references:
            return judged(row, "exact", "pass", answer=text.strip())
        stated = find(row.response, lambda a, b: self._normal(a) == self._normal(b))
        passes = stated is not None and self._normal(stated) in references
        return judged(row, "exact", "pass" if passes else "wrong", answer=stated or text.strip())

    def _references(self, row: Row) -> set[str]:
        value = row.task.get("reference")
        texts = value if isinstance(value, list) else [row.reference]
        return {self._normal(str(t)) for t in texts if t is not None} - {""}

    def _normal(self, text: str) -> str:
        text = " ".join(unicodedata.normalize("NFKC", text).split()).strip("\"'`* ").removesuffix(".").strip("\"'`* ")
        return text if self.case else text.casefold()

    @classmethod
    def validate(cls) -> list[tuple[Row, float]]:  # type: ignore[override]
        """Return gold responses (1.0) and planted errors (0.0)."""
        return [(_example(response, reference), score) for response, reference, score in EXAMPLES]


EXAMPLES = (
    ("New York", "New York", 1.0),
    ("  new  york.", "New York", 1.0),
    ("The answer is New York.", "New York", 1.0),
    ("<think>Boston?</think> New York", "New York", 1.0),
    ("<think>New York</think> Boston", "New York", 0.0),
    ("New York City", "New York", 0.0),
    ("New York or Boston", "New York", 0.0),
    ("1.5", "15", 0.0),
    ("-5", "5", 0.0),
    ("", "New York", 0.0),
)


def _example(response: str, reference: str) -> Row:
    turns = (Message(role="user", content="Which city is it?"), Message(role="assistant", content=response))
    return new_row(
        messages=turns,
        task={"kind": "exact", "reference": reference},
        made_by={"step": "score.exact", "use": "validate"},
    )
