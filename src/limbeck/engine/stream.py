"""Streaming: rows run through a chain of `each` steps with no barrier between them.

    source ──row──> sample ──rows──> math ──rows──> ...        every step writes its own kept and dropped rows
                      │
                      └ yields Ask, is sent Reply

Up to `WINDOW` source rows are under way at once; what they become is written in the order of the source, so the
files are the same whatever answered first. A slow row holds up the writing, not the work: up to `AHEAD` windows of rows
may be finished and waiting behind it. A step that fails on a row costs that row, with the reason; a step that fails on
every one of its first rows is broken and stops the run.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Sequence
from typing import Any

from limbeck.core.ask import Apply, Ask, Exec, Request, Work
from limbeck.core.errors import (
    BudgetReached,
    EndpointError,
    LimbeckError,
    RefusedError,
    StepError,
    StorageError,
    UsageError,
)
from limbeck.core.find import find_step
from limbeck.core.fingerprint import canonical
from limbeck.core.row import Row, new_row
from limbeck.core.step import Drop, Each
from limbeck.engine.patience import GaveUp
from limbeck.engine.threads import Threads

WINDOW = 1024
AHEAD = 8
GIVE_UP_AFTER = 20

Asker = Callable[[str, Ask], Any]
Drain = Callable[[], Awaitable[None]]
Emit = Callable[[int, Sequence[Row]], None]
"""Called with the index of a step in the chain and the rows that came out of it, in the order of the source."""


class Chain:
    """A chain of `each` steps and how it answers their asks."""

    def __init__(
        self,
        steps: Sequence[Each],
        names: Sequence[str],
        ask: Asker,
        *,
        window: int = 0,
        threads: Threads | None = None,
        drain: Drain | None = None,
    ) -> None:
        self.steps = list(steps)
        self.names = list(names)
        self.lost: list[Counter[str]] = [Counter() for _ in steps]
        """For each step how many rows were lost for no fault of their content: refused, failed, given up."""
        self._ask = ask
        self._threads = threads or Threads()
        self._window = window or WINDOW
        self._drain = drain
        self.through = 0
        """Rows whose way through the chain is finished, in any order; those written are fewer."""
        self._unfinished = 0
        self._broken: asyncio.Task[list[list[Row]]] | None = None
        self._change: asyncio.Future[None] | None = None
        self._applied: dict[str, Chain] = {}
        self._asking = [inspect.isgeneratorfunction(type(s).each) for s in steps]
        self._worked = [0] * len(steps)
        self._failed = [0] * len(steps)

    async def run(self, source: Iterable[Row], emit: Emit) -> None:
        """Run every row of `source` through the chain."""
        if any(self._asking):
            await self._run_window(source, emit)
        else:
            await self._run_straight(source, emit)

    async def _run_straight(self, source: Iterable[Row], emit: Emit) -> None:
        breath = time.monotonic()
        for row in source:
            for index, rows in enumerate(await self._through(row)):
                emit(index, rows)
            self.through += 1
            if time.monotonic() - breath > 0.02:  # the loop also serves other branches of the recipe
                await asyncio.sleep(0)
                breath = time.monotonic()

    async def _run_window(self, source: Iterable[Row], emit: Emit) -> None:
        flying: deque[asyncio.Task[list[list[Row]]]] = deque()
        try:
            for row in source:
                flying.append(self._start(row))
                while flying and (flying[0].done() or self._full(len(flying))):
                    await self._land(flying, emit)
                if len(flying) % 64 == 0:
                    await asyncio.sleep(0)
            while flying:
                await self._land(flying, emit)
        except Exception:
            if self._drain is not None:  # what is under way is paid for: it ends and is stored before all is cancelled
                await self._drain()
            raise
        finally:
            for task in flying:
                task.cancel()
            await asyncio.gather(*flying, return_exceptions=True)

    def _start(self, row: Row) -> asyncio.Task[list[list[Row]]]:
        task = asyncio.create_task(self._through(row))
        self._unfinished += 1
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[list[list[Row]]]) -> None:
        self._unfinished -= 1
        if not task.cancelled() and task.exception() is not None:
            self._broken = self._broken or task
        self.through += 1
        if self._change is not None and not self._change.done():
            self._change.set_result(None)

    def _full(self, flying: int) -> bool:
        return self._unfinished >= self._window or flying >= AHEAD * self._window

    async def _land(self, flying: deque[asyncio.Task[list[list[Row]]]], emit: Emit) -> None:
        """Write the first row if it is finished, else wait until any row is."""
        if self._broken is not None:  # whoever it is: the first row may be waiting for what will never come
            self._broken.result()
        if not flying[0].done():
            # waited for and not awaited: when the run is stopped, all rows under way are stopped at once, and none of
            # them starts a new request in the place of another
            self._change = asyncio.get_running_loop().create_future()
            await self._change
            return
        for index, rows in enumerate(flying.popleft().result()):
            emit(index, rows)

    async def _through(self, row: Row) -> list[list[Row]]:
        current, out = [row], []
        for index in range(len(self.steps)):
            if self._asking[index] and len(current) > 1:
                made = await asyncio.gather(*(self._one(index, r) for r in current))
            else:
                made = [await self._one(index, r) for r in current]
            rows = [r for part in made for r in part]
            out.append(rows)
            current = [r for r in rows if r.dropped is None]
        return out

    async def _one(self, index: int, row: Row) -> list[Row]:
        step, called = self.steps[index], self.steps[index].shown()
        try:
            made = step.each(row)
            if isinstance(made, Generator):
                made = await self._drive(self.names[index], made)
            parts = [made] if isinstance(made, Row | Drop) else list(made)
            settled = [_settle(part, row, called) for part in parts]
            self._worked[index] += 1
            return settled
        except GaveUp as error:
            self.lost[index]["gave up"] += 1
            return [row.drop(f"{called}: {error}")]
        except RefusedError as error:
            self.lost[index]["refused"] += 1
            return [row.drop(f"{called}: refused: {error}")]
        except LimbeckError:
            raise
        except Exception as error:
            self._failed[index] += 1
            if not self._worked[index] and self._failed[index] >= GIVE_UP_AFTER:
                raise StepError(
                    f"{called} failed on each of its first {GIVE_UP_AFTER} rows; the last time with "
                    f"{type(error).__name__}: {error}"
                ) from error
            self.lost[index]["failed"] += 1
            return [row.drop(f"{called}: failed: {type(error).__name__}: {error}")]

    async def _drive(self, name: str, asking: Generator[Request, Any, Any]) -> Any:
        try:
            request = next(asking)
            while True:
                try:
                    reply = await self._reply(name, request)
                except (EndpointError, BudgetReached, StorageError):
                    raise  # about the run, not about this row
                except Exception as error:  # noqa: BLE001 - thrown into the step, which is where it belongs
                    request = asking.throw(error)  # a step may catch it; most do not
                else:
                    request = asking.send(reply)
        except StopIteration as stop:
            return stop.value

    async def _reply(self, name: str, request: Request) -> Any:
        if isinstance(request, Ask):
            return await self._ask(name, request)
        if isinstance(request, Apply):
            return await self._apply(name, request)
        if isinstance(request, Work):
            return await self._threads.run(request.function, *request.args)
        if isinstance(request, Exec):
            return await self._threads.run(_run_program, request)
        raise TypeError(f"a step may yield Ask, Exec, Apply and Work, not {type(request).__name__}")

    async def _apply(self, name: str, request: Apply) -> list[Row]:
        """Run another streaming step over rows; what it asks counts as this step's."""
        key = canonical([request.step, dict(request.fields)])
        if key not in self._applied:
            step = find_step(request.step)(**request.fields)
            if not isinstance(step, Each):
                raise UsageError(
                    f"{request.step} can not be applied to rows from within '{name}': it is no streaming step."
                )
            self._applied[key] = Chain([step], [name], self._ask, threads=self._threads)
        chain = self._applied[key]
        made = [await chain._one(0, row) for row in request.rows]
        return [row for part in made for row in part]


def _run_program(request: Exec) -> Any:
    from limbeck import sandbox

    try:
        return sandbox.run(request.source, stdin=request.stdin, seconds=request.seconds, memory_mb=request.memory_mb)
    except sandbox.SandboxUnavailable as error:
        raise StepError(f"Programs can not be run safely here: {error}") from None


def from_source(rows: Iterator[Row | Drop], called: str) -> Iterator[Row]:
    """Give the drops of a source a row of their own, so that a bad record is seen in `dropped.parquet`."""
    count = 0
    try:
        for made in rows:
            if isinstance(made, Row):
                yield made
            else:
                yield new_row(messages=(), made_by={"step": called, "record": count}).drop(f"{called}: {made.why}")
            count += 1
    except LimbeckError:
        raise
    except Exception as error:
        raise StepError(f"{called} failed after {count:,} rows: {type(error).__name__}: {error}") from error


def _settle(part: Row | Drop, row: Row, called: str) -> Row:
    if isinstance(part, Drop):
        return row.drop(f"{called}: {part.why}")
    if not isinstance(part, Row):
        raise TypeError(f"a step must give rows or drops, not {type(part).__name__}")
    return part
