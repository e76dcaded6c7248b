"""What every verifier writes: its score, `verified`, the verdict and the answer it read.

    judged(row, "math", "pass", answer="17")
        scores  {"math": 1.0, "verified": 1.0}
        labels  {"verdict": "pass", "answer": "17"}

With `unreadable-reference` no score is written: a row that can not be checked is not a wrong row.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from limbeck.core.row import Row

Verdict = Literal["pass", "wrong", "no-answer", "error", "unreadable-reference"]
MAX_LABEL = 2000
"""Characters of an answer or a detail that are kept as a label."""


def judged(row: Row, verifier: str, verdict: Verdict, *, answer: str | None = None, detail: str = "") -> Row:
    """Return the row with a verdict; labels of an earlier verdict are replaced, never mixed with the new one."""
    labels = {k: v for k, v in row.labels.items() if k not in ("verdict", "answer", "detail")}
    labels["verdict"] = verdict
    if answer is not None:
        labels["answer"] = answer[:MAX_LABEL]
    if detail:
        labels["detail"] = detail[:MAX_LABEL]
    scores = {k: v for k, v in row.scores.items() if k not in (verifier, "verified")}
    if verdict != "unreadable-reference":
        scores |= {verifier: float(verdict == "pass"), "verified": float(verdict == "pass")}
    return replace(row, labels=labels, scores=scores)
