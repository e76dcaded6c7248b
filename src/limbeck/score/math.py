"""Checking a final answer exactly: numbers as fractions, everything else as normalised text.

    >>> final_answer("Half of 2 is 1. 2 + 1 = 3.\\nA: 3")
    '3'
    >>> equivalent("\\\\frac{1}{2}", "0.5"), equivalent("$1,000", "1000"), equivalent("50 cents", "$0.50")
    (True, True, True)
    >>> equivalent("0.333", "1/3"), equivalent("0.333", "1/3", tolerance=0.01)
    (False, True)
    >>> equivalent("1/2^99", "1/2^98"), equivalent("5 cents", "$5"), equivalent("x^2 = x^2", "x^2")
    (False, False, False)

The rules, where graders differ:

- Equality is exact. A decimal is the number it says, so 0.333 is not 1/3; `tolerance` is relative, and 0 by default.
- A unit on one side only is ignored (`18 dollars` answers 18); on both sides it must be the same one, or convert
  without rounding. `50%` equals 0.5, and 50 where the other side has no unit ("what percentage...?").
- Several different candidates in one response are no answer; see `limbeck/score/_answers.py`.
- Nothing is evaluated and nothing reaches a computer algebra system: `12 + 5` is not 17, `x(x+1)` is not `x^2+x`.
"""

from __future__ import annotations

import re

from pydantic import Field

from limbeck.core.row import Message, Row, new_row
from limbeck.core.step import Each, Made
from limbeck.score._answers import find
from limbeck.score._numbers import MAX_TEXT, quantity, same
from limbeck.score._plain import plain, spelling
from limbeck.score._verdict import judged

LISTS = {"(": ")", "[": "]", "{": "}", r"\{": r"\}"}
WORKED = re.compile(r"####|\bA:|\banswer\b|\\boxed|\\fbox|</", re.IGNORECASE)


class Math(Each):
    """Compare the response's final answer with the task's reference; 1 for equal, 0 for wrong or none."""

    tolerance: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Relative difference that still counts as equal; 0 is exact."""

    def each(self, row: Row) -> Made:
        """Score one response. The reference may be an answer or a whole worked solution that ends in one."""
        reference = reference_answer(row.reference)
        if reference is None:
            return judged(row, "math", "unreadable-reference")
        answer = final_answer(row.response, truncated=row.labels.get("finish") == "length")
        if answer is None:
            return judged(row, "math", "no-answer")
        right = equivalent(answer, reference, tolerance=self.tolerance)
        return judged(row, "math", "pass" if right else "wrong", answer=answer)

    @classmethod
    def validate(cls) -> list[tuple[Row, float]]:  # type: ignore[override]
        """Return gold responses (1.0) and planted errors (0.0)."""
        return [(_example(response, reference), score) for response, reference, score in EXAMPLES]


def final_answer(response: str, *, truncated: bool = False) -> str | None:
    """Return the one final answer of a response, or None if it has none or several different ones."""
    answer = find(response, equivalent, truncated=truncated)
    while answer is not None:  # "The answer is: Answer: 17" leads on to 17
        inner = find(answer, equivalent)
        if inner is None or inner == answer:
            return inner
        answer = inner
    return None


def reference_answer(reference: str | None) -> str | None:
    """Return the answer that a reference gives: itself, or the final answer of a worked solution; None if unreadable."""
    if reference is None or not reference.strip():
        return None
    if WORKED.search(reference) or "\n" in reference.strip():
        return final_answer(reference)
    return reference.strip()


def equivalent(prediction: str, reference: str, *, tolerance: float = 0.0) -> bool:
    """Say whether two answers (not whole responses) are the same."""
    return _equivalent(prediction, reference, tolerance, 0)


def _equivalent(prediction: str, reference: str, tolerance: float, depth: int) -> bool:
    if not prediction.strip() or not reference.strip():
        return False
    left, right = quantity(prediction), quantity(reference)
    if left is not None and right is not None:
        return same(left, right, tolerance)
    if (left is None) != (right is None):
        return False
    if max(len(prediction), len(reference)) > MAX_TEXT:
        return prediction.split() == reference.split()
    items, others = _items(prediction), _items(reference)
    if items and others and depth < 3:
        return _same_items(items, others, tolerance, depth)
    return spelling(prediction) == spelling(reference) != ""


def _items(text: str) -> tuple[str, list[str]] | None:
    """Split a list, a tuple, an interval or a set into its brackets and its items; None for anything else."""
    text = plain(text)
    opening = next((o for o in (r"\{", "(", "[", "{") if text.startswith(o)), "")
    closing = next((c for c in (r"\}", ")", "]", "}") if text.endswith(c)), "") if opening else ""
    inner = text[len(opening) : len(text) - len(closing)] if opening and closing else text
    parts, depth, start = [], 0, 0
    for at, letter in enumerate(inner):
        depth += (letter in "([{") - (letter in ")]}")
        if depth < 0:
            return None
        if letter == "," and depth == 0:
            parts.append(inner[start:at])
            start = at + 1
    parts.append(inner[start:])
    brackets = (opening + closing).replace("\\", "") if inner is not text else ""
    return (brackets, parts) if len(parts) > 1 and all(p.strip() for p in parts) else None


def _same_items(left: tuple[str, list[str]], right: tuple[str, list[str]], tolerance: float, depth: int) -> bool:
    if left[0] != right[0] or len(left[1]) != len(right[1]):
        return False
    if left[0] != "{}":
        return all(_equivalent(a, b, tolerance, depth + 1) for a, b in zip(left[1], right[1], strict=True))
    rest = list(right[1])  # a set: in any order
    for item in left[1]:
        match = next((other for other in rest if _equivalent(item, other, tolerance, depth + 1)), None)
        if match is None:
            return False
        rest.remove(match)
    return True


EXAMPLES = (
    ("1. Start with 12: 12.\n2. Add 5: 12 + 5 = 17.\nAnswer: 17", "17", 1.0),
    ("1. Start with 12: 12.\n2. Add 5: 12 + 5 = 18.\nAnswer: 18", "17", 0.0),
    ("She sells 9 eggs.\nShe makes 9 * 2 = $<<9*2=18>>18 a day.\n#### 18", "A day has 24 hours ...\nA: 18", 1.0),
    ("<think>\\boxed{3}</think> It is \\boxed{4}.", "4", 1.0),
    ("<think>\\boxed{3}</think> It is \\boxed{4}.", "3", 0.0),
    ("Either \\boxed{3} or \\boxed{4}.", "3", 0.0),
    ("It is not \\boxed{3}, it is 4.", "3", 0.0),
    ("The answer is 3 or 4.", "3", 0.0),
    ("Answer: 3\nAnswer: 4", "3", 0.0),
    ("\\boxed{x^2 = x^2}", "x^2", 0.0),
    ("The answer is $1{,}234.50$.", "1234.5", 1.0),
    ("So the share is \\boxed{\\dfrac{3}{4}}.", "75%", 1.0),
    ("I can not say.", "17", 0.0),
    ("", "17", 0.0),
)


def _example(response: str, reference: str) -> Row:
    turns = (Message(role="user", content="What is it?"), Message(role="assistant", content=response))
    return new_row(
        messages=turns, task={"kind": "math", "reference": reference}, made_by={"step": "score.math", "use": "validate"}
    )
