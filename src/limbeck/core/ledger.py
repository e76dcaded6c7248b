"""The ledger: what every step has cost, so that money, tokens and seconds can be accounted for, and capped.

`ledger.jsonl` has one line for each session of a run and each step in it; the sum over the lines is the truth:

    {"session": 1, "step": "sample", "calls": 40, "answers": 160, "cached": 0, "tokens_in": 1640, "usd": 0.0031, …}
    {"session": 2, "step": "sample", "calls": 10, "answers": 40, "cached": 160, "tokens_in": 410, "usd": 0.0008, …}

Answers that come from the cache are counted as cached and cost nothing. What a killed session has spent is found in
the cache, where it was stored together with the answers, and gets its line when the run goes on (`"recovered": true`).

The cap is kept by `reserve` before a call, for the most it can cost, and `commit` after it, for what it did cost.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from limbeck.core.errors import BudgetReached, StorageError
from limbeck.core.row import Usage


@dataclass(slots=True)
class Total:
    """What a step has cost so far."""

    calls: int = 0
    """Requests that brought answers."""
    answers: int = 0
    """Answers bought."""
    cached: int = 0
    """Answers that were there already."""
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    """Those of `tokens_in` that the provider took from its own prompt cache."""
    usd: float = 0.0
    """US dollars, of the answers whose price is known."""
    unpriced: int = 0
    """Answers whose price is not known."""
    seconds: float = 0.0
    """Seconds that requests were under way, added up; many are under way at once."""
    retries: int = 0
    lost: int = 0
    """Requests whose reply never came, though the provider may have charged for them."""
    at_risk: float = 0.0
    """US dollars that those may have cost at most; counted against the cap."""

    def add(self, other: Total) -> None:
        """Count another total in."""
        self.calls += other.calls  # written out: this runs for every answer
        self.answers += other.answers
        self.cached += other.cached
        self.tokens_in += other.tokens_in
        self.tokens_out += other.tokens_out
        self.tokens_cached += other.tokens_cached
        self.usd += other.usd
        self.unpriced += other.unpriced
        self.seconds += other.seconds
        self.retries += other.retries
        self.lost += other.lost
        self.at_risk += other.at_risk

    def record(self) -> dict[str, int | float]:
        """Return the fields as a dictionary, dollars and seconds rounded to what can matter."""
        return {name: _rounded(getattr(self, name)) for name in FIELDS}


FIELDS = tuple(field.name for field in fields(Total))
UNDER_WAY = "(under way when killed)"
"""The name under which money stands that requests may have cost whose run was killed."""
PAID = tuple(name for name in FIELDS if name != "cached")


def bought(usage: Usage, answers: int, *, tokens_cached: int = 0, retries: int = 0) -> Total:
    """Return the total of one request that brought `answers`."""
    unknown = usage.usd is None
    return Total(
        calls=1,
        answers=answers,
        tokens_in=usage.tokens_in,
        tokens_out=usage.tokens_out,
        tokens_cached=tokens_cached,
        usd=usage.usd or 0.0,
        unpriced=answers if unknown else 0,
        seconds=usage.seconds,
        retries=retries,
    )


class Ledger:
    """Totals per step: of the current session in memory, of the sessions before from `ledger.jsonl`.

    `cap` is in US dollars for all sessions of the run together; None is no cap.
    """

    def __init__(self, path: Path | None = None, cap: float | None = None) -> None:
        self.path = path
        self.cap = cap
        self.totals: dict[str, Total] = {}
        self.before: dict[str, Total] = {}
        self._spent = 0.0
        self._reserved = 0.0
        self._session = 1
        self._written: set[str] = set()
        self.wake: list[Callable[[], None]] = []
        """Called when money becomes free, or when it is clear that none will."""

    def open(self, known: Mapping[str, Total], leased: float = 0.0) -> None:
        """Read the sessions before, and add a line for what one of them has spent and could not write down.

        `known` is what the cache says that this run has paid, per step; `leased` what a killed session was about to spend
        at most: the difference may have been charged for requests that were under way when it was killed.
        """
        if self.path is None:
            return
        _repair(self.path)
        lines = _lines(self.path)
        self.before = _sums(lines)
        self._session = 1 + max((int(line.get("session", 0)) for line in lines), default=0)
        recovered = len(lines)
        for step, total in known.items():
            missing = _missing(total, self.before.get(step, Total()))
            if missing.answers or missing.lost or missing.at_risk:
                self._recover(step, missing)
        self._spent = sum(t.usd + t.at_risk for t in self.before.values())
        if leased > self._spent + 1e-9:
            self._recover(UNDER_WAY, Total(at_risk=leased - self._spent))
            self._spent = leased
        self._session += len(_lines(self.path)) > recovered

    def _recover(self, step: str, missing: Total) -> None:
        self._append({"session": self._session, "step": step, "recovered": True, **missing.record()})
        self.before.setdefault(step, Total()).add(missing)

    @property
    def exposure(self) -> float:
        """US dollars spent, and set aside for calls under way."""
        return self._spent + self._reserved

    @property
    def spent(self) -> float:
        """US dollars of all sessions so far, with what lost requests may have cost."""
        return self._spent

    def reserve(self, usd: float) -> bool:
        """Set aside what a call may cost at most; False if calls under way have to end first.

        Raises BudgetReached if the call does not fit under the cap and nothing is under way.
        """
        if self.cap is not None and self._spent + self._reserved + usd > self.cap + 1e-12:
            if self._reserved > 1e-12:
                return False
            self._wake_all()
            raise BudgetReached(
                f"The budget of ${self.cap:g} is reached: ${self._spent:.4f} are spent, and the next call may cost up to "
                f"${usd:.4f}. Everything is kept; run the same command with a higher --budget to go on."
            )
        self._reserved += usd
        return True

    def release(self, reserved: float) -> None:
        """Give a reservation back: the call was not made, or cost nothing."""
        self._reserved = max(0.0, self._reserved - reserved)
        self._wake_all()

    def _wake_all(self) -> None:
        for wake in self.wake:
            wake()

    def commit(self, step: str, total: Total) -> None:
        """Count what a call did cost."""
        self._spent += total.usd + total.at_risk
        self.totals.setdefault(step, Total()).add(total)

    def cached(self, step: str, answers: int) -> None:
        """Count answers that were in the cache."""
        self.totals.setdefault(step, Total()).cached += answers

    def so_far(self, step: str) -> Total:
        """Return a step's total over all sessions; `cached` is that of the current session, or of the last that had any."""
        before, now = self.before.get(step, Total()), self.totals.get(step, Total())
        total = Total()
        total.add(before)
        total.add(now)
        total.cached = now.cached
        return total

    def close_step(self, step: str) -> Total:
        """Write a step's line of the current session, once, and return its total over all sessions."""
        total = self.totals.get(step)
        if self.path is not None and total is not None and step not in self._written:
            self._written.add(step)
            if any(getattr(total, name) for name in FIELDS):
                self._append({"session": self._session, "step": step, **total.record()})
        return self.so_far(step)

    def close(self) -> None:
        """Write the lines of the steps that did not end: what a stopped run has cost is not forgotten."""
        with suppress(OSError):  # a full disk has been reported by whatever met it first; the cache knows the sums
            for step in self.totals:
                self.close_step(step)

    def _append(self, line: Mapping[str, Any]) -> None:
        assert self.path is not None
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def read(path: Path) -> dict[str, Total]:
    """Return what each step has cost over all sessions, from `ledger.jsonl`; empty if there is no such file.

    Raises StorageError for a damaged file.
    """
    return _sums(_lines(path))


def _repair(path: Path) -> None:
    """Take off a line that a kill has torn; only the run that holds the folder may do that."""
    if path.is_file() and (text := path.read_bytes()) and not text.endswith(b"\n"):
        path.write_bytes(text[: text.rfind(b"\n") + 1])


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    whole = text[: text.rfind("\n") + 1]  # a kill can tear the last line
    try:
        lines = [json.loads(line) for line in whole.splitlines() if line.strip()]
    except ValueError as error:
        raise StorageError(f"{path} is damaged ({error}): repair the line, or move the file away.") from None
    return [line for line in lines if isinstance(line, dict)]


def _sums(lines: list[dict[str, Any]]) -> dict[str, Total]:
    sums: dict[str, Total] = {}
    for line in lines:
        total = Total(**{name: line[name] for name in FIELDS if name in line})
        known = sums.setdefault(str(line.get("step")), Total())
        known.cached = 0  # what a session finds in the cache, the next one finds again: only the last one counts
        known.add(total)
    return sums


def _missing(known: Total, written: Total) -> Total:
    gap = {name: max(0, getattr(known, name) - getattr(written, name)) for name in PAID}
    return Total(**gap)


def _rounded(value: int | float) -> int | float:
    return round(value, 9) if isinstance(value, float) else value
