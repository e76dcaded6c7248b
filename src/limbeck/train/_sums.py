"""Running sums of what a stream notes of its micro-batches, for the lines of the curve and for checkpoints.

sums.add(pairs=8, accuracy=7, margin=3.2)     sums.add(pairs=8, accuracy=8, margin=4.0)
sums.means("pairs")                           {"accuracy": 0.9375, "margin": 0.45}; and they begin anew
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from limbeck.train import _ranks


@dataclass(slots=True)
class Sums:
    """Sums by name, of this process until they are asked for, then of all."""

    values: dict[str, float] = field(default_factory=dict)

    def add(self, **found: float) -> None:
        """Add to the sums."""
        self.values = {name: self.values.get(name, 0.0) + value for name, value in found.items()}

    def means(self, by: str) -> dict[str, float]:
        """Return the sums of all processes divided by the sum called `by`, and begin anew."""
        found = _ranks.totals(self.values)
        count = found.pop(by, 0.0)
        self.values = {}
        return {name: value / count for name, value in found.items()} if count else {}

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps; the first process has it from then on."""
        found = _ranks.totals(self.values)
        self.restore({"sums": found})
        return {"sums": found}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.values = dict(state["sums"]) if _ranks.first() else {}
