"""What is seen of a run on a cluster: the figures of the till, in the shape in which a local run shows its own.

overview.of("sample").total              rows of all shards, those that were found committed among them
overview.endpoints()                     one entry that stands for all connections of all tasks
overview.book(state, nodes)              what the tasks have spent, brought into the run's ledger
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from limbeck.engine.cluster.lease import LeaseLedger
from limbeck.engine.cluster.shards import Manifest
from limbeck.engine.cluster.till import Call, State, Steps
from limbeck.engine.watch import EVERY

if TYPE_CHECKING:
    from limbeck.engine.plan import Node


@dataclass(slots=True)
class _Count:
    count: int


class _Rows:
    """How far a step is; what `Watch` reads of a writer."""

    def __init__(self, overview: Overview, name: str) -> None:
        self._overview, self._name = overview, name

    @property
    def total(self) -> int:
        """Rows written so far, kept and dropped."""
        return self._overview.steps.done[self._name]

    @property
    def dropped(self) -> _Count:
        """Rows dropped so far."""
        return _Count(self._overview.steps.dropped[self._name])

    @property
    def reasons(self) -> Counter[str]:
        """Why."""
        return self._overview.steps.reasons.get(self._name, Counter())


@dataclass(slots=True)
class _Traffic:
    """All connections of all tasks; what `Watch` reads of an endpoint."""

    answered: int
    retries: int
    in_flight: int

    @property
    def gate(self) -> _Traffic:
        """Where `in_flight` is looked for."""
        return self


class Overview:
    """Asks the till a few times a second and remembers what it said."""

    def __init__(self, ledger: LeaseLedger) -> None:
        self._ledger = ledger
        self._state: State | None = None
        self._found = Steps()
        self._call: Call | None = None
        self._task: asyncio.Task[None] | None = None

    def begin(self, call: Call) -> None:
        """Begin to ask."""
        self._call = call
        self._task = asyncio.create_task(self._forever())

    async def end(self) -> None:
        """Ask once more, if the till is still there, and bring everything into the ledger."""
        assert self._task is not None and self._call is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        with suppress(Exception):  # gone: what it knew of money stands in the cache
            self._take(await self._call("see"))

    @property
    def steps(self) -> Steps:
        """How far all shards are."""
        steps = Steps()
        steps.add(self._found)
        if self._state is not None:
            steps.add(self._state.steps)
        return steps

    def of(self, name: str) -> Any:
        """Return how far a step is, in the shape of a writer."""
        return _Rows(self, name)

    def endpoints(self) -> Iterable[Any]:
        """Return one entry for all connections, in the shape of an endpoint; none before the first request."""
        state = self._state
        if state is None or not (state.requests or state.in_flight or state.retries):
            return []
        return [_Traffic(state.requests, state.retries, state.in_flight)]

    def reused(self, unit: Sequence[Node], manifest: Manifest, rows_in: int) -> None:
        """Count a shard that was found committed."""
        self._found.through[unit[0].name] += rows_in
        for node, rows, reasons in zip(unit, manifest.rows, manifest.facts["reasons"], strict=True):
            self._found.done[node.name] += rows
            self._found.dropped[node.name] += sum(reasons.values())
            self._found.reasons.setdefault(node.name, Counter()).update(reasons)

    def book(self, state: State, nodes: Iterable[Node]) -> None:
        """Bring what steps have spent on the cluster into the ledger."""
        self._state = state
        for node in nodes:
            if node.name in state.totals:
                self._ledger.set_total(node.name, state.totals[node.name], state.spent)

    def _take(self, state: State) -> None:
        self._state = state
        for name, total in state.totals.items():
            self._ledger.set_total(name, total, state.spent)

    async def _forever(self) -> None:
        assert self._call is not None
        while True:
            self._take(await self._call("see"))
            await asyncio.sleep(EVERY)
