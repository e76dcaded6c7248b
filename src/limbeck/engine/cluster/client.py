"""A task's side of the till: leased money, claims, and a beat a few times a second.

    client = Client(call, "9f3a/51bc/4be2", "9f3a/51bc", LeaseLedger(capped=True), log)
    answerer = client.answerer(students, run="5d1e…")
    async with client:
        await client.during(chain.run(rows, emit))         # ends early when the run is stopping; raises when the till is gone

`call("beat", ...)` reaches the till, an actor on another machine or, in tests, an object beside it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from limbeck.core.ask import Answer, Ask, Teacher
from limbeck.core.errors import LimbeckError
from limbeck.engine.answer import Answerer
from limbeck.engine.cluster.claims import GATHER, Claims
from limbeck.engine.cluster.lease import LeaseLedger
from limbeck.engine.cluster.log import Line, ShardLog
from limbeck.engine.cluster.till import LOST, Call, Grant, Report, Steps, TillLost
from limbeck.engine.endpoint import Endpoint
from limbeck.engine.limits import Limits

BEAT = 0.25
"""Seconds between two beats."""
SLICE = 64
"""A lease is asked for so many requests at once."""


class Halted(Exception):
    """The run is stopping, and this shard was not finished."""


class ClusterAnswerer(Answerer):
    """An answerer that buys nothing that another task has bought or is buying."""

    client: Client

    def _endpoint(self, teacher: Teacher) -> Endpoint:
        new = teacher.identity not in self.endpoints
        endpoint = super()._endpoint(teacher)
        if new:
            self.client.poke()  # it has no share of the limits yet
        return endpoint

    async def _others(
        self, step: str, teacher: Teacher, ask: Ask, wanted: list[str], known: dict[str, Answer]
    ) -> dict[str, Answer]:
        missing = [key for key in wanted if key not in known]
        claims = self.client.claims
        await claims.make(missing, ask.max_tokens)
        found = self.cache.get(missing, ask.max_tokens)
        if found:
            self._count_known(step, teacher, len(found))
        if len(found) == len(missing):
            return found
        try:
            return found | await super()._others(step, teacher, ask, wanted, known | found)
        except BaseException:
            claims.give_up(missing, ask.max_tokens)
            raise


class Client:
    """Speaks with the till for one task."""

    def __init__(self, call: Call, name: str, shard: str, ledger: LeaseLedger, log: ShardLog | None) -> None:
        self.ledger = ledger
        self.steps = Steps()
        self._call, self._name, self._shard, self._log = call, name, shard, log
        self._answerer: Answerer | None = None
        self._recovered, self._give = list(log.found) if log is not None else [], 0.0
        self._answered = 0
        self._poked = asyncio.Event()
        self._limits, self._halted = Limits(concurrency=0), False
        self.ledger.wanted = self.poke
        if log is not None:
            self.claims = Claims(self.ask, name, log)

    def answerer(self, student: Callable[[str], Path], run: str, **options: Any) -> ClusterAnswerer:
        """Return the answerer of this task: its log for a cache, its lease for a budget."""
        assert self._log is not None
        made = ClusterAnswerer(self._log, self.ledger, student, run=run, limits=self._limits, **options)  # type: ignore[arg-type]
        made.client = self
        self._answerer = made
        return made

    def serve(self, answerer: Answerer) -> None:
        """Keep an ordinary answerer within its share: the driver's own, whose cache is the cache of the run."""
        answerer._limits = self._limits
        self._answerer = answerer

    def poke(self) -> None:
        """Beat soon."""
        self._poked.set()

    async def __aenter__(self) -> Self:
        await self._beat()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.ask("leave", self._name, self._shard, self._report())

    async def during(self, work: Coroutine[Any, Any, None]) -> None:
        """Beat while `work` is done. Raises Halted if the run was stopped before its end."""
        doing, beats = asyncio.ensure_future(work), asyncio.ensure_future(self.beat_forever())
        try:
            while not doing.done():
                await asyncio.wait({doing, beats}, timeout=BEAT, return_when=asyncio.FIRST_COMPLETED)
                if beats.done():
                    beats.result()
                if self._halted and self._answerer is not None and not self._answerer.in_flight and not doing.done():
                    raise Halted
            doing.result()
        finally:
            for task in (doing, beats):
                task.cancel()
            await asyncio.gather(doing, beats, return_exceptions=True)

    async def ask(self, method: str, *args: Any) -> Any:
        """Ask the till. Raises TillLost where it can not be reached."""
        try:
            return await self._call(method, *args)
        except LimbeckError:
            raise
        except Exception as error:
            raise TillLost(f"{LOST} ({type(error).__name__})") from error

    async def beat_forever(self) -> None:
        """Beat until cancelled, sooner when there is something to say. Raises when the till is gone."""
        while True:
            with suppress(TimeoutError):  # nothing to say: the beat comes all the same
                await asyncio.wait_for(self._poked.wait(), BEAT)
                await asyncio.sleep(GATHER)
            if await self._beat():  # others hold the money: ask again, but not at once
                await asyncio.sleep(BEAT / 5)

    async def _beat(self) -> bool:
        """Report and take what is granted; returns whether money was asked for in vain."""
        self._poked.clear()
        report = self._report()
        grant: Grant = await self.ask("beat", self._name, self._shard, report)
        ledger = self.ledger
        ledger.take(grant.usd, grant.refused)
        if grant.short:
            self._give = ledger.spare()
        self._limits = grant.limits
        if self._answerer is not None:
            self._share(self._answerer, grant.limits)
            if grant.halt and not self._halted:
                self._answerer.halt()
        self._halted = grant.halt
        return bool(report.want and not grant.usd)

    def _share(self, answerer: Answerer, limits: Limits) -> None:
        """Take over this task's share of the limits."""
        answerer._limits = limits
        for endpoint in answerer.endpoints.values():
            endpoint.gate.resize(limits)

    def _report(self) -> Report:
        ledger, log = self.ledger, self._log
        lines: list[Line] = []
        if log is not None:
            lines, log.fresh = log.fresh, []
        recovered, self._recovered = self._recovered, []
        least, ledger.least = ledger.least, 0.0
        give, self._give = self._give, 0.0
        return Report(
            lines=lines,
            recovered=recovered,
            spent=ledger.untold(),
            give=give,
            want=SLICE * least,
            least=least,
            asks=self._asks(),
            in_flight=self._answerer.in_flight if self._answerer is not None else 0,
            requests=sum(e.answered for e in self._endpoints()),
            retries=sum(e.retries for e in self._endpoints()),
            steps=self.steps,
        )

    def _asks(self) -> bool:
        """Whether there are requests under way, waiting for a place, or answered since the last beat."""
        answered = sum(endpoint.answered for endpoint in self._endpoints())
        before, self._answered = self._answered, answered
        return answered > before or any(e.gate.in_flight or e.gate._waiting for e in self._endpoints())

    def _endpoints(self) -> Iterable[Endpoint]:
        return self._answerer.endpoints.values() if self._answerer is not None else ()
