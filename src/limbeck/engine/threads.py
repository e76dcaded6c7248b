"""Threads for what would block the event loop: whole tables, checks in the sandbox, slow libraries.

    made = await in_thread(lambda: step.table(table))      a thread of its own, for a barrier
    verdict = await threads.run(check_program, source, cases)    one of a few, for the rows of a stream

Neither keeps the process from ending: `asyncio.to_thread` waits for its threads at the end of the loop, so Ctrl-C during a
table of a million rows would be answered when the table is done.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar, cast

Made = TypeVar("Made")
_Job = tuple[Callable[[], Any], asyncio.Future[Any]]


async def in_thread(work: Callable[[], Made]) -> Made:
    """Do work in a thread of its own and return what it makes, or raise what it raises."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    threading.Thread(target=_do, args=((work, future),), name="limbeck-barrier", daemon=True).start()
    return cast("Made", await future)


class Threads:
    """As many threads as cores, started when first needed; they end with `close`, or with the process."""

    def __init__(self, size: int | None = None) -> None:
        self._size = size or os.cpu_count() or 1
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._started = 0
        self._busy = 0

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function in one of the threads."""
        if self._busy >= self._started and self._started < self._size:
            self._started += 1
            threading.Thread(target=self._serve, name=f"limbeck-work-{self._started}", daemon=True).start()
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._busy += 1
        try:
            self._jobs.put((lambda: function(*args), future))
            return await future
        finally:
            self._busy -= 1

    def close(self) -> None:
        """Let the threads end when they have done what was begun."""
        for _ in range(self._started):
            self._jobs.put(None)
        self._started = 0

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            if not job[1].cancelled():
                _do(job)


def _do(job: _Job) -> None:
    work, future = job
    made, failure = None, None
    try:
        made = work()
    except BaseException as error:  # noqa: BLE001 - handed to the loop, which raises it
        failure = RuntimeError("StopIteration") if isinstance(error, StopIteration) else error
    with suppress(RuntimeError):  # the loop has ended, and nobody waits any more
        future.get_loop().call_soon_threadsafe(_settle, future, made, failure)


def _settle(future: asyncio.Future[Any], made: Any, failure: BaseException | None) -> None:
    if not future.done():
        future.set_result(made) if failure is None else future.set_exception(failure)
