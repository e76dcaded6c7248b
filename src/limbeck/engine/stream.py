"""Streaming: rows run through a chain of `each` steps with no barrier between them.

    source ──row──> sample ──rows──> math ──rows──> ...        every step writes its own kept and dropped rows
                      │
                      └ yields Ask, is sent Reply

Up to `WINDOW` source rows are under way at once; what they become is written in the order of the source, so the
files are the same whatever answered first. A step that fails on a row costs that row, with the reason; a step that
fails on every one of its first rows is broken and stops the run.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any

from limbeck.core.ask import Ask, Exec, Reply
from limbeck.core.errors import LimbeckError, RefusedError, StepError
from limbeck.core.row import Row, new_row
from limbeck.core.step import Drop, Each

WINDOW = 1024
GIVE_UP_AFTER = 20

Asker = Callable[[str, Ask], Any]
Emit = Callable[[int, Sequence[Row]], None]
"""Called with the index of a step in the chain and the rows that came out of it, in the order of the source."""


class Chain:
    """A chain of `each` steps and how it answers their asks."""

    def __init__(self, steps: Sequence[Each], names: Sequence[str], ask: Asker) -> None:
        self.steps = list(steps)
        self.names = list(names)
        self._ask = ask
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
            if time.monotonic() - breath > 0.02:  # the loop also serves other branches of the recipe
                await asyncio.sleep(0)
                breath = time.monotonic()

    async def _run_window(self, source: Iterable[Row], emit: Emit) -> None:
        flying: deque[asyncio.Task[list[list[Row]]]] = deque()
        try:
            for row in source:
                flying.append(asyncio.create_task(self._through(row)))
                while len(flying) >= WINDOW or (flying and flying[0].done()):
                    await self._land(flying, emit)
                if len(flying) % 64 == 0:
                    await asyncio.sleep(0)
            while flying:
                await self._land(flying, emit)
        finally:
            for task in flying:
                task.cancel()
            await asyncio.gather(*flying, return_exceptions=True)

    async def _land(self, flying: deque[asyncio.Task[list[list[Row]]]], emit: Emit) -> None:
        if not flying[0].done():
            # waited for and not awaited: when the run is stopped, all rows under way are stopped at once, and none of
            # them starts a new request in the place of another
            await asyncio.wait([flying[0]])
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
        except RefusedError as error:
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
            return [row.drop(f"{called}: failed: {type(error).__name__}: {error}")]

    async def _drive(self, name: str, asking: Generator[Ask | Exec, Any, Any]) -> Any:
        try:
            request = next(asking)
            while True:
                try:
                    reply = await self._reply(name, request)
                except RefusedError as error:
                    request = asking.throw(error)  # a step may catch it; most do not
                else:
                    request = asking.send(reply)
        except StopIteration as stop:
            return stop.value

    async def _reply(self, name: str, request: Ask | Exec) -> Reply:
        if isinstance(request, Ask):
            return await self._ask(name, request)  # type: ignore[no-any-return]
        raise StepError(f"{name} asked to run a program, but this version has no sandbox yet; nothing was run.")


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
