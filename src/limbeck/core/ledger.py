"""The ledger: every call and what it cost, one line each, so that money, tokens and seconds can be accounted for.

    {"step": "sample", "teacher": "openai:m", "calls": 1, "cached": 0, "tokens_in": 41, "tokens_out": 12, "usd": 0.0, …}

Answers that come from the cache are counted as cached and cost nothing. The same interface (`reserve` before,
`commit` after) is made for caps on money and on privacy epsilon.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from limbeck.core.errors import BudgetReached
from limbeck.core.row import Usage


@dataclass(slots=True)
class Total:
    """What a step has cost so far."""

    calls: int = 0
    answers: int = 0
    cached: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    usd: float = 0.0
    seconds: float = 0.0

    def add(self, usage: Usage, *, answers: int, cached: int) -> None:
        """Count one ask: `answers` bought anew at `usage`, `cached` ones free."""
        self.calls += 1 if answers else 0
        self.answers += answers
        self.cached += cached
        self.tokens_in += usage.tokens_in
        self.tokens_out += usage.tokens_out
        self.usd += usage.usd
        self.seconds += usage.seconds


class Ledger:
    """Totals per step in memory, appended to `ledger.jsonl` when a step ends or the run stops.

    `cap` is in US dollars; None is no cap. A step that would pass it raises BudgetReached before the call.
    """

    def __init__(self, path: Path | None = None, cap: float | None = None) -> None:
        self.path = path
        self.cap = cap
        self.totals: dict[str, Total] = {}
        self._reserved = 0.0
        self._written: set[str] = set()

    @property
    def spent(self) -> float:
        """US dollars committed so far."""
        return sum(t.usd for t in self.totals.values())

    def reserve(self, usd: float) -> None:
        """Set aside what a call may cost. Raises BudgetReached if that would pass the cap."""
        if self.cap is not None and self.spent + self._reserved + usd > self.cap:
            raise BudgetReached(
                f"The budget of ${self.cap:g} is reached (${self.spent:.4f} spent). Everything is kept; "
                "run the same command with a higher --budget to go on."
            )
        self._reserved += usd

    def commit(self, step: str, usage: Usage, *, answers: int, cached: int, reserved: float = 0.0) -> None:
        """Replace a reservation by what the call did cost."""
        self._reserved -= reserved
        self.totals.setdefault(step, Total()).add(usage, answers=answers, cached=cached)

    def close_step(self, step: str) -> Total:
        """Write a step's total as one line, once, and return it."""
        total = self.totals.get(step, Total())
        if self.path is not None and (total.answers or total.cached) and step not in self._written:
            self._written.add(step)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **asdict(total)}) + "\n")
        return total

    def close(self) -> None:
        """Write the totals of the steps that did not end: what a stopped run has cost is not forgotten."""
        with suppress(OSError):  # a full disk has been reported by whatever met it first
            for step in self.totals:
                self.close_step(step)
