"""The till: the one small actor of a run on a cluster. It keeps what all tasks share.

    money       tasks lease slices of the budget and give back what they do not need:   spent + leased <= cap, always
    places      each task may have so many requests under way:                          the sum stays within the limit
    answers     who is buying which answer just now, and what the cache of the run holds already
    progress    how far each shard is, for whoever watches

A task says hello with its first `beat`, then beats a few times a second, and leaves when its shard is committed. A task whose
machine has died is noticed by its silence or by its shard's next attempt: its places and claims are free again, its lease
counts as spent until the run ends, because nobody knows what it has bought with it.

The till is an ordinary object with coroutines; `engine.ray` makes an actor of it, on the machine of the driver.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limbeck.core.errors import StorageError
from limbeck.core.ledger import Total
from limbeck.engine.cache import Cache
from limbeck.engine.cluster.log import Bought, Line, bring
from limbeck.engine.limits import Limits
from limbeck.engine.stored import to_json

LOST = (
    "The machine that keeps the run's budget and limits is gone. Everything that was answered is kept; run the same command "
    "again to go on."
)
Call = Callable[..., Awaitable[Any]]
"""`call("beat", …)`: how the till is reached, an actor on another machine or, in tests, an object beside its user."""
SILENT = 60.0
"""Seconds after which a task that does not beat is taken for dead."""
SHARES = 2
"""A lease is at most the rest of the budget divided by so many times the tasks."""


class TillLost(StorageError):
    """The till can not be reached from here: about the whole run or this whole machine, never about a row."""


@dataclass(slots=True, kw_only=True)
class Steps:
    """How far a shard is: rows done and dropped with their reasons, by step."""

    done: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, Counter[str]] = field(default_factory=dict)
    through: Counter[str] = field(default_factory=Counter)
    """Rows that came in and are finished, in any order, by the first step of a chain."""

    def add(self, other: Steps) -> None:
        """Count another shard in."""
        self.done.update(other.done)
        self.dropped.update(other.dropped)
        self.through.update(other.through)
        for step, reasons in other.reasons.items():
            self.reasons.setdefault(step, Counter()).update(reasons)


@dataclass(slots=True, kw_only=True)
class Report:
    """What a task tells with a beat: what has happened since the last one, and what it wishes."""

    lines: Sequence[Line] = ()
    """Replies it has bought and stored in its log."""
    recovered: Sequence[Line] = ()
    """Replies that earlier attempts had bought; they may or may not have been told."""
    spent: Mapping[str, Total] = field(default_factory=dict)
    give: float = 0.0
    """US dollars of its lease that it gives back."""
    want: float = 0.0
    """US dollars it would like to have on top; 0 for none."""
    least: float = 0.0
    """US dollars with which it could make its next request."""
    asks: bool = False
    """Whether it has requests to make at all."""
    in_flight: int = 0
    requests: int = 0
    """Requests answered so far, by this task."""
    retries: int = 0
    steps: Steps = field(default_factory=Steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What the till answers: money on top of what is leased already, and the task's share of the limits."""

    usd: float = 0.0
    refused: str = ""
    """Why no money will come any more, as a sentence; empty while some may."""
    short: bool = False
    """Somebody waits for money: give back what is not needed at once."""
    limits: Limits
    halt: bool = False
    """The run is stopping: let no new request out."""


@dataclass(slots=True, kw_only=True)
class State:
    """What the driver sees."""

    totals: dict[str, Total]
    spent: float
    forfeited: float
    """US dollars leased to machines that were lost: they may have been spent."""
    tasks: int
    in_flight: int
    requests: int
    retries: int
    steps: Steps


@dataclass(slots=True)
class _Task:
    shard: str
    heard: float
    lease: float = 0.0
    places: int = 0
    report: Report = field(default_factory=Report)


class Till:
    """Keeps the money, the places, the claims and the progress of one run."""

    def __init__(self, cache: str, run: str, cap: float | None, spent: float, limits: Limits) -> None:
        self._cache_path = Path(cache)
        self._cache: Cache | None = None
        self._run, self._cap, self._limits = run, cap, limits
        self._noted = 0.0
        self._spent = spent
        self._totals: dict[str, Total] = {}
        self._tasks: dict[str, _Task] = {}
        self._past: set[str] = set()
        """Tasks that have left, and attempts that others have replaced."""
        self._forfeited = 0.0
        self._claims: dict[tuple[str, int], str] = {}
        self._freed: dict[tuple[str, int], asyncio.Event] = {}
        self._finished = Steps()
        self._requests = self._retries = 0
        self._halted = False
        self._short = False

    # -- answers ---------------------------------------------------------------------------------------------------

    async def claim(self, task: str, keys: Sequence[str], limit: int) -> tuple[list[Bought], list[str]]:
        """Return the answers that are there already, and the keys that another task is buying just now.

        The rest is claimed by this task, which is to buy it.
        """
        known = self._store().get(keys, limit)
        flying = []
        for key in keys:
            if key not in known and self._claims.setdefault((key, limit), task) != task:
                flying.append(key)
        return [(key, limit, to_json(answer)) for key, answer in known.items()], flying

    async def until_free(self, keys: Sequence[str], limit: int) -> None:
        """Wait until nobody is buying one of these any more."""
        for key in keys:
            if (key, limit) in self._claims:
                await self._freed.setdefault((key, limit), asyncio.Event()).wait()

    async def release(self, keys: Sequence[str], limit: int) -> None:
        """Give up claims: what was claimed could not be bought, or has been told."""
        for key in keys:
            self._free((key, limit))

    def _free(self, claim: tuple[str, int]) -> None:
        self._claims.pop(claim, None)
        event = self._freed.pop(claim, None)
        if event is not None:
            event.set()

    # -- beats -----------------------------------------------------------------------------------------------------

    async def beat(self, name: str, shard: str, report: Report) -> Grant:
        """Take a task's report and say what it may do until the next."""
        self._bury(shard, name)
        # of an attempt that another has replaced, what it has spent counts, and nothing else
        task = _Task(shard, 0.0) if name in self._past else self._tasks.setdefault(name, _Task(shard, 0.0))
        task.heard, task.report = time.monotonic(), report
        await self._book(report.recovered, told=False)
        for step, total in report.spent.items():
            self._count(step, total)
            task.lease -= total.usd + total.at_risk
        task.lease = max(0.0, task.lease - report.give)
        await self._book(report.lines, told=True)
        if name in self._past:
            return Grant(limits=Limits(concurrency=0), halt=True)
        usd, refused = self._lease(task, report) if report.want else (0.0, "")
        await self._note()
        return Grant(usd=usd, refused=refused, short=self._short, limits=self._share(task), halt=self._halted)

    async def leave(self, name: str, shard: str, report: Report) -> None:
        """Take a task's last report; its lease, places and claims are free."""
        await self.beat(name, shard, report)
        if self._tasks.pop(name, None) is not None:
            self._finished.add(report.steps)
        self._requests += report.requests
        self._retries += report.retries
        self._past.add(name)
        self._unclaim(name)

    async def halt(self) -> None:
        """Tell all tasks, with their next beat, to let no new request out."""
        self._halted = True

    async def see(self) -> State:
        """Return what the driver wants to know."""
        steps = Steps()
        reports = [task.report for task in self._tasks.values()]
        for part in (self._finished, *(report.steps for report in reports)):
            steps.add(part)
        return State(
            totals=dict(self._totals),
            spent=self._spent,
            forfeited=self._forfeited,
            tasks=len(reports),
            in_flight=sum(report.in_flight for report in reports),
            requests=self._requests + sum(report.requests for report in reports),
            retries=self._retries + sum(report.retries for report in reports),
            steps=steps,
        )

    async def close(self) -> None:
        """Commit what is on its way into the cache."""
        if self._cache is not None:
            self._cache.close()
            self._cache = None

    def _store(self) -> Cache:
        if self._cache is None:
            self._cache = Cache(self._cache_path)
        return self._cache

    async def _book(self, lines: Sequence[Line], *, told: bool) -> None:
        """Bring lines into the cache; those of a dead attempt that it had no time to tell are counted now."""

        async def one(line: Line) -> None:
            new = await bring(self._store(), line)
            if new and not told and line.spent is not None:
                self._count(line.spent[1], line.spent[2])
            for key, limit, _ in line.answers:
                self._free((key, limit))

        await asyncio.gather(*(one(line) for line in lines))  # one group commit for all of them

    def _count(self, step: str, total: Total) -> None:
        self._totals.setdefault(step, Total()).add(total)
        self._spent += total.usd + total.at_risk

    # -- money -----------------------------------------------------------------------------------------------------

    def _lease(self, task: _Task, report: Report) -> tuple[float, str]:
        if self._cap is None:
            return report.want, ""
        leased = sum(t.lease for t in self._tasks.values()) + self._forfeited
        free = self._cap - self._spent - leased
        if free + 1e-12 >= report.least:
            slice_ = max(8 * report.least, min(self._cap / 100, free / (SHARES * len(self._tasks))))
            usd = min(report.want, slice_, max(free, report.least))
            task.lease += usd
            self._short = False
            return usd, ""
        if any(other.lease > 1e-12 for other in self._tasks.values() if other is not task):
            self._short = True  # the others give back what they do not need; ask again
            return 0.0, ""
        held = f", ${self._forfeited:.4f} may have been spent on a machine that was lost" if self._forfeited else ""
        return 0.0, (
            f"The budget of ${self._cap:g} is reached: ${self._spent:.4f} are spent{held}, and the next call may cost up to "
            f"${report.least + task.lease:.4f}. Everything is kept; run the same command with a higher --budget to go on."
        )

    async def _note(self) -> None:
        """Have on the disk what the tasks may spend, before they may: a killed run can not say what was under way."""
        if self._cap is None:
            return
        exposed = self._spent + self._forfeited + sum(task.lease for task in self._tasks.values())
        if exposed > self._noted:
            self._noted = min(self._cap, exposed + self._cap / 100)
            await self._store().lease(self._run, self._noted)

    # -- places ----------------------------------------------------------------------------------------------------

    def _share(self, task: _Task) -> Limits:
        """Divide the limits evenly among the tasks that ask; nobody gets a place before another has given it back."""
        if not task.report.asks:
            task.places = 0
            return Limits(concurrency=0)
        asking = [t for t in self._tasks.values() if t.report.asks]
        taken = sum(t.places for t in asking) - task.places
        fair = max(1, self._limits.concurrency // len(asking))
        task.places = max(min(fair, self._limits.concurrency - taken), min(task.report.in_flight, task.places), 0)
        part = task.places / self._limits.concurrency
        rpm, tpm = self._limits.rpm, self._limits.tpm
        return Limits(concurrency=task.places, rpm=rpm and rpm * part, tpm=tpm and tpm * part)

    # -- the dead --------------------------------------------------------------------------------------------------

    def _bury(self, shard: str, by: str) -> None:
        """Forget tasks that were silent too long, and earlier attempts at a shard that is done again."""
        now = time.monotonic()
        for name, task in list(self._tasks.items()):
            replaced = task.shard == shard and name != by and by not in self._past
            if replaced or now - task.heard > SILENT:
                del self._tasks[name]
                self._forfeited += task.lease
                self._unclaim(name)
                if replaced:
                    self._past.add(name)

    def _unclaim(self, name: str) -> None:
        for claim in [claim for claim, owner in self._claims.items() if owner == name]:
            self._free(claim)
