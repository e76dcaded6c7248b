"""What every step cost over all sessions: calls, tokens, seconds and dollars, folded like the picture, and per kept row.

    lines(knots) -> [Cost(title="sample", step="generate.sample", calls=6000, cached=0, tokens_out=412000, usd=None, ...)]

A price that nobody told is unknown (None) and makes the sum unknown; a model that ran on this machine charged nothing.
Seconds are not added up: steps that stream run at the same time, and each of them reports the time of its whole chain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from limbeck.view.graph import Knot
from limbeck.view.run_folder import Stage

OWN_MACHINE = ("embedded", "hf", "echo", "replay", "step")
"""Kinds of teacher that charge nothing."""
SUMMED = ("calls", "answers", "cached", "tokens_in", "tokens_out", "tokens_cached", "retries", "lost")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """One line of the table."""

    title: str
    step: str
    times: int
    calls: int
    answers: int
    cached: int
    tokens_in: int
    tokens_out: int
    tokens_cached: int
    retries: int
    lost: int
    usd: float | None
    at_risk: float
    """US dollars that lost requests may have cost at most; not in `usd`."""
    seconds: float | None
    cpu_seconds: float | None
    kept: int

    @property
    def asked(self) -> bool:
        """Whether a model was asked at all."""
        return bool(self.calls or self.answers or self.cached)

    @property
    def tokens_per_row(self) -> float | None:
        """Tokens written by models per kept row."""
        return self.tokens_out / self.kept if self.kept and self.tokens_out else None

    @property
    def usd_per_row(self) -> float | None:
        """Dollars per kept row, where they are known."""
        return self.usd / self.kept if self.usd is not None and self.kept else None

    @property
    def seconds_per_row(self) -> float | None:
        """Seconds per kept row, where they are known."""
        return self.seconds / self.kept if self.seconds is not None and self.kept else None


def lines(knots: Sequence[Knot]) -> list[Cost]:
    """Return a line for every knot that has begun."""
    return [_line(knot) for knot in knots if any(stage.state != "not started" for stage in knot.stages)]


def total(costs: Sequence[Cost], other: Sequence[Mapping[str, Any]] = ()) -> Cost:
    """Return the sum; seconds and rows stay empty, because they do not add up.

    `other` is what belongs to no step: requests under way when a session was killed.
    """
    prices = [cost.usd for cost in costs]
    return Cost(
        title="all steps",
        step="",
        times=1,
        **{name: sum(getattr(cost, name) for cost in costs) for name in SUMMED},
        usd=None if None in prices else sum(p for p in prices if p is not None),
        at_risk=sum(cost.at_risk for cost in costs) + sum(float(usage.get("at_risk") or 0) for usage in other),
        seconds=None,
        cpu_seconds=None,
        kept=0,
    )


def _line(knot: Knot) -> Cost:
    prices = [price(stage) for stage in knot.stages]
    return Cost(
        title=knot.title,
        step=knot.stages[0].step,
        times=knot.count,
        **{name: sum(int(stage.usage.get(name) or 0) for stage in knot.stages) for name in SUMMED},
        usd=None if None in prices else sum(p for p in prices if p is not None),
        at_risk=sum(float(stage.usage.get("at_risk") or 0) for stage in knot.stages),
        seconds=_sum([stage.seconds for stage in knot.stages]),
        cpu_seconds=_sum([stage.cpu_seconds for stage in knot.stages]),
        kept=sum(stage.kept for stage in knot.stages),
    )


def price(stage: Stage) -> float | None:
    """Return what a stage cost in dollars: None where the price of an answer is unknown."""
    told = stage.usage.get("usd", 0.0)
    if "unpriced" in stage.usage:
        return None if stage.usage["unpriced"] else float(told or 0.0)
    if told is None:
        return None
    paid = int(stage.usage.get("calls") or 0) and not told  # a run of before prices were kept
    return None if paid and not _own(stage) else float(told)


def _own(stage: Stage) -> bool:
    names = [str(stage.fields.get(key) or "") for key in ("teacher", "model", "judge")]
    return all(name.split(":")[0] in OWN_MACHINE for name in names if name)


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
