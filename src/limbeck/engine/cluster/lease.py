"""A ledger whose budget is what the till has leased: a task spends out of its own slice, without asking for every request.

    ledger = LeaseLedger(capped=True)
    ledger.reserve(0.02)            False: nothing is leased yet; `wanted` was called, and the next beat asks for a slice
    ledger.take(1.0, refused="")    the till has granted one; whoever waits looks again
    ledger.reserve(0.02)            True

At every moment the lease covers what is set aside, and what was spent and not told yet has left it. So the sum of all leases
and of all that was told never passes the cap.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from limbeck.core.errors import BudgetReached
from limbeck.core.ledger import Ledger, Total


class LeaseLedger(Ledger):
    """A ledger whose budget is what the till has leased; `wanted` is called when that is too little."""

    def __init__(self, path: Path | None = None, cap: float | None = None, *, capped: bool | None = None) -> None:
        super().__init__(path, cap)
        self.capped = cap is not None if capped is None else capped
        self.lease = 0.0
        self.refused = ""
        self.least = 0.0
        self.wanted: Callable[[], None] = lambda: None
        self._set_aside = 0.0
        self._untold: dict[str, Total] = {}
        self._own: set[str] = set()

    def reserve(self, usd: float) -> bool:
        """Set aside what a call may cost at most, out of the lease; False if more has to come first.

        Raises BudgetReached if none will come and nothing is under way.
        """
        if not self.capped or self._set_aside + usd <= self.lease + 1e-12:
            self._set_aside += usd
            return True
        if self.refused and self._set_aside <= 1e-12:
            self._wake_all()
            raise BudgetReached(self.refused)
        self.least = max(self.least, self._set_aside + usd - self.lease)
        self.wanted()
        return False

    def release(self, reserved: float) -> None:
        """Give a reservation back to the lease."""
        self._set_aside = max(0.0, self._set_aside - reserved)
        self._wake_all()

    @property
    def exposure(self) -> float:
        """Nothing that this process would have to note: what it may spend, the till has noted."""
        return 0.0

    def take(self, usd: float, refused: str) -> None:
        """Add to the lease, or hear that no more will come; whoever waits for money looks again."""
        self.lease += usd
        self.refused = refused
        self._wake_all()

    def commit(self, step: str, total: Total) -> None:
        """Count what a call did cost."""
        super().commit(step, total)
        self._own.add(step)
        self._tell(step, total)
        if self.capped:
            self.lease -= total.usd + total.at_risk

    def cached(self, step: str, answers: int) -> None:
        """Count answers that were there already."""
        super().cached(step, answers)
        self._own.add(step)
        self._tell(step, Total(cached=answers))

    def set_total(self, step: str, total: Total, spent: float) -> None:
        """Take over from the till what the tasks of a step have spent, and what is spent in all."""
        if step not in self._own:
            self.totals[step] = total
        self._spent = spent

    def untold(self) -> dict[str, Total]:
        """Take what has been spent since this was last asked for."""
        told, self._untold = self._untold, {}
        return told

    def spare(self) -> float:
        """Take out of the lease what nothing is reserved for."""
        spare = max(0.0, self.lease - self._set_aside)
        self.lease -= spare
        return spare

    def _tell(self, step: str, total: Total) -> None:
        self._untold.setdefault(step, Total()).add(total)
