"""Checking a final answer: numbers as exact fractions, formulas to hundreds of digits, the rest by math-verify.

    >>> final_answer("Half of 2 is 1. 2 + 1 = 3.\\nA: 3")
    '3'
    >>> equivalent("\\\\frac{1}{2}", "0.5"), equivalent("$1,000", "1000"), equivalent("50 cents", "$0.50")
    (True, True, True)
    >>> equivalent("\\\\sqrt{8}", "2\\\\sqrt{2}"), equivalent("(x+1)^2", "x^2+2x+1"), equivalent("x > 2", "(2, \\\\infty)")
    (True, True, True)
    >>> equivalent("0.333", "1/3"), equivalent("0.333", "1/3", tolerance=0.01)
    (False, True)
    >>> equivalent("1/2^99", "1/2^98"), equivalent("5 cents", "$5"), equivalent("x^2 = x^2", "x^2")
    (False, False, False)

The rules, where graders differ:

- Equality is exact. A decimal is the number it says, so 0.333 is not 1/3; `tolerance` is relative, and 0 by default.
- A unit on one side only is ignored (`18 dollars` answers 18); on both sides it must be the same one, or convert
  without rounding. `50%` equals 0.5, and 50 where the other side has no unit ("what percentage...?").
- Work left undone is no answer: `12 + 5` is not 17, and `2x = 10` is not `x = 5`; `2^{10}` and `\\sqrt{4}` are numbers.
- Several different candidates in one response are no answer; see `limbeck/score/_answers.py`.
- Nothing a model wrote is evaluated by Python or reaches a computer algebra system in this process. What takes one
  (integrals, sums, limits) goes to math-verify in a process that is killed at its deadline; where that is not
  installed, or finds no verdict in time, the row gets no score and says so, instead of a guess.
"""

from __future__ import annotations

import re
from functools import partial

from pydantic import Field

from limbeck.core.ask import Work
from limbeck.core.row import Message, Row, new_row
from limbeck.core.step import Asking, Each, Made
from limbeck.score._answers import find, states
from limbeck.score._math_compare import compare
from limbeck.score._math_verify import asked, installed
from limbeck.score._verdict import judged

SOMETHING = re.compile(r"[^\W_]|[^\x00-\x7f]")
NOT_INSTALLED = "these formulas take math-verify to compare, which is not installed: pip install 'limbeck[math]'"
NO_VERDICT = "math-verify found no verdict in its time"
WORKED = re.compile(r"####|\bA:|\banswer\b|\\boxed|\\fbox|</", re.IGNORECASE)


class Math(Each):
    """Compare the response's final answer with the task's reference; 1 for equal, 0 for wrong or none."""

    tolerance: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Relative difference that still counts as equal; 0 is exact."""

    def each(self, row: Row) -> Made | Asking:
        """Score one response. The reference may be an answer or a whole worked solution that ends in one."""
        reference = reference_answer(row.reference)
        if reference is None:
            return judged(row, "math", "unreadable-reference")
        answer = final_answer(row.response, truncated=row.labels.get("finish") == "length")
        if answer is None:
            return judged(row, "math", "no-answer")
        told = compare(answer, reference, self.tolerance)
        if told != "unread":
            return judged(row, "math", "pass" if told == "same" else "wrong", answer=answer)
        if not installed():
            return judged(row, "math", "harness-failure", answer=answer, detail=NOT_INSTALLED)
        return self._asked(row, answer, reference)

    def _asked(self, row: Row, answer: str, reference: str) -> Asking:
        """Ask math-verify from a thread, so that a formula it works on for long holds up nobody."""
        told = yield Work(partial(asked, patient=True), (answer, reference))
        if told == "undecided":
            return judged(row, "math", "harness-failure", answer=answer, detail=NO_VERDICT)
        by = "compared by math-verify"
        return judged(row, "math", "pass" if told == "same" else "wrong", answer=answer, detail=by)

    @classmethod
    def validate(cls) -> list[tuple[Row, float]]:  # type: ignore[override]
        """Return gold responses (1.0) and planted errors (0.0)."""
        return [(_example(response, reference), score) for response, reference, score in EXAMPLES]


def final_answer(response: str, *, truncated: bool = False) -> str | None:
    """Return the one final answer of a response, or None if it has none or several different ones."""
    answer = find(response, _agree, truncated=truncated)
    while answer is not None:  # "The answer is: Answer: 17" leads on to 17
        inner = find(answer, _agree)
        if inner is None and not states(answer):  # what would be no answer in a sentence may be one in a box: 1 and 2
            break
        if inner == answer:
            break
        answer = inner
    return answer if answer is not None and SOMETHING.search(answer) else None


def reference_answer(reference: str | None) -> str | None:
    """Return the answer that a reference gives: itself, or the final answer of a worked solution; None if unreadable."""
    if reference is None or not reference.strip():
        return None
    if WORKED.search(reference) or "\n" in reference.strip():
        return final_answer(reference)
    return reference.strip()


def equivalent(prediction: str, reference: str, *, tolerance: float = 0.0) -> bool:
    """Say whether two answers (not whole responses) are the same; what can not be compared is not the same.

    Returns within three seconds whatever the texts are; nearly always within a millisecond.
    """
    told = compare(prediction, reference, tolerance)
    return told == "same" or (told == "unread" and asked(prediction, reference) == "same")


def _agree(left: str, right: str) -> bool:
    return compare(left, right) == "same"


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
    ("It is \\boxed{2\\sqrt{2}}.", "\\sqrt{8}", 1.0),
    ("It is \\boxed{2\\sqrt{3}}.", "\\sqrt{8}", 0.0),
    ("So \\boxed{x = 2 \\text{ or } x = -2}.", "\\pm 2", 1.0),
    ("So \\boxed{x = 2}.", "\\pm 2", 0.0),
    ("So $\\boxed{(1, \\infty)}$.", "x > 1", 1.0),
    ("So $\\boxed{[1, \\infty)}$.", "x > 1", 0.0),
    ("The answer is $12 + 5$.", "17", 0.0),
    ("So \\boxed{2x = 10}.", "x = 5", 0.0),
    ("Answer: 2e-7", "1e-7", 0.0),
    ("So x must be > 5.", "5", 0.0),
    ("So \\boxed{9^{9^9}+1}.", "9^{9^9}", 0.0),
    ("I can not say.", "17", 0.0),
    ("", "17", 0.0),
)


def _example(response: str, reference: str) -> Row:
    turns = (Message(role="user", content="What is it?"), Message(role="assistant", content=response))
    return new_row(
        messages=turns, task={"kind": "math", "reference": reference}, made_by={"step": "score.math", "use": "validate"}
    )
