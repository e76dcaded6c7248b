"""What a chain tells while it runs: an event for each of its steps, a few times a second.

    {"event": "progress", "name": "sample", "done": 812, "through": 840, "total": 1500, "dropped": 3,
     "reasons": {"generate.sample: refused: …": 3}, "tokens_in": 33000, "tokens_out": 91000, "cached": 0, "usd": 0.31,
     "unpriced": 0, "requests": 840, "in_flight": 64, "retries": 12, "spent": 0.38, "budget": 5.0}

Requests, retries and what is in flight are of all endpoints of the run; `spent` and `budget` of the whole run over all sessions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any

from limbeck.core.ledger import Ledger
from limbeck.engine.endpoint import Endpoint
from limbeck.engine.rundir import RowWriter

EVERY = 0.25


class Watch:
    """Tells a listener about a chain, as long as it is entered, and once when it is left."""

    def __init__(
        self, listen: Callable[[dict[str, Any]], None], ledger: Ledger, endpoints: Callable[[], Iterable[Endpoint]]
    ) -> None:
        self.taken = 0
        """Rows that the chain's head has taken in."""
        self._listen, self._ledger, self._endpoints = listen, ledger, endpoints
        self._names: Sequence[str] = ()
        self._writers: Sequence[RowWriter] = ()
        self._total: int | None = None
        self._through: Callable[[], int] = lambda: 0
        self._task: asyncio.Task[None] | None = None

    def follow(
        self, names: Sequence[str], writers: Sequence[RowWriter], total: int | None, through: Callable[[], int]
    ) -> None:
        """Say which steps to tell of; `total` is the number of rows that come into the first one, if it is known.

        `through` tells how many of them are finished, in any order.
        """
        self._names, self._writers, self._total, self._through = names, writers, total, through

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._forever())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._tell()

    async def _forever(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            self._tell()

    def _tell(self) -> None:
        total = self._total
        traffic = self._traffic()
        for name, writer in zip(self._names, self._writers, strict=True):
            rows = self._rows(writer, total)
            rows |= {"through": self._through()} if name == self._names[0] else {}
            self._listen({"event": "progress", "name": name, **rows, **self._cost(name), **traffic})
            total = None  # how many rows a later step will get is not known before

    def _rows(self, writer: RowWriter, total: int | None) -> dict[str, Any]:
        reasons = dict(writer.reasons)
        return {"done": writer.total, "total": total, "dropped": writer.dropped.count, "reasons": reasons}

    def _cost(self, name: str) -> dict[str, Any]:
        spent = self._ledger.totals.get(name)
        if spent is None:
            return {}
        told = ("tokens_in", "tokens_out", "cached", "usd", "unpriced")
        return {key: getattr(spent, key) for key in told}

    def _traffic(self) -> dict[str, Any]:
        endpoints = list(self._endpoints())
        told: dict[str, Any] = {"spent": self._ledger.spent, "budget": self._ledger.cap}
        if endpoints:
            told["requests"] = sum(e.answered for e in endpoints)
            told["in_flight"] = sum(e.gate.in_flight for e in endpoints)
            told["retries"] = sum(e.retries for e in endpoints)
        return told
