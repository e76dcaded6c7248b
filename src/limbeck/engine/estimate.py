"""What a plan says: the estimates for each step and in all, with their intervals. `forecast` makes it.

Plan(recipe="rejection_sampling", steps=[Estimate(step="prompts", rows=7473, ...), ...], total=Estimate(step="total", ...), ...)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What one step is expected to take in all; `low` and `high` are the ends of the 95 % intervals, by the same names.

    `usd` is None where a price is unknown, `seconds` where all answers were in the cache. `measured` is False where a pilot can
    not tell.
    """

    step: str
    use: str = ""
    measured: bool = True
    rows: int = 0
    calls: int = 0
    answers: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    usd: float | None = 0.0
    seconds: float | None = 0.0
    low: Mapping[str, float] = field(default_factory=dict)
    high: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a recipe will take; a plan is walked as its steps."""

    recipe: str
    steps: Sequence[Estimate]
    total: Estimate
    first_pass: Sequence[Estimate] = ()
    """The steps that change if sampling stops at the first answer that passes; empty where nothing is selected so."""
    first_pass_total: Estimate | None = None
    samples: Mapping[str, float] = field(default_factory=dict)
    """`made`: answers to a prompt as the recipe stands; `needed`, `low`, `high`: with stopping at the first pass."""
    pilot: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """How many rows of each source were tried, and how many there are."""
    paid: float | None = 0.0
    """US dollars that the pilot's answers have cost, now or when they were bought; None where a price is unknown."""
    unknown: Sequence[str] = ()
    """Sentences about teachers whose price is unknown."""
    notes: Sequence[str] = ()

    def __iter__(self) -> Iterator[Estimate]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    def record(self) -> dict[str, Any]:
        """Return the plan, JSON-able."""
        return asdict(self)
