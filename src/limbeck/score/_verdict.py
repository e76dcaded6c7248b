"""What every verifier writes: its score, `verified`, the verdict and the answer it read.

    judged(row, "math", "pass", answer="17")
        scores  {"math": 1.0, "verified": 1.0}
        labels  {"verdict": "pass", "answer": "17"}

With `unreadable-reference`, `unreadable-judgement` and `harness-failure` no score is written: a row that can not be checked is not
a wrong row. Verdicts that rest on running code carry the sandbox's level, `labels["level"]`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from limbeck.core.row import Row

Verdict = Literal[
    "pass", "wrong", "no-answer", "error", "timeout", "output-limit", "memory", "refused",
    "harness-failure", "unreadable-reference", "unreadable-judgement",
]  # fmt: skip
UNSCORED = ("harness-failure", "unreadable-reference", "unreadable-judgement")
"""Verdicts about the machine, the reference or the judge, not about the response."""
MAX_LABEL = 2000
"""Characters of an answer or a detail that are kept as a label."""


def judged(
    row: Row,
    verifier: str,
    verdict: Verdict,
    *,
    answer: str | None = None,
    detail: str = "",
    level: str = "",
    stage: str = "",
) -> Row:
    """Return the row with a verdict; labels of an earlier verdict are replaced, never mixed with the new one.

    `level` is how strictly the code that decided was confined; `stage` is where a check in stages ended.
    """
    given = {"verdict": verdict, "answer": answer, "detail": detail, "level": level, "stage": stage}
    labels = {k: v for k, v in row.labels.items() if k not in given}
    # an empty answer is an answer; the others are left out when there is nothing to say
    labels |= {k: v[:MAX_LABEL] for k, v in given.items() if v or (k == "answer" and v is not None)}
    scores = {k: v for k, v in row.scores.items() if k not in (verifier, "verified")}
    if verdict not in UNSCORED:
        scores |= {verifier: float(verdict == "pass"), "verified": float(verdict == "pass")}
    return replace(row, labels=labels, scores=scores)
