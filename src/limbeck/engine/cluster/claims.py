"""Claims: before a task buys an answer it asks the till whether it is there already, or under way for another task.

    claims = Claims(ask, "9f3a/51bc/4be2", log)
    await claims.make(["77c0…-0", "77c0…-1"], limit=512)
    # now each of the two is in the log's memory, or is this task's to buy

Claims of the same moment go to the till in one call. Who finds that another is buying waits until that one has told what it
got, or has given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from limbeck.core.errors import LimbeckError
from limbeck.engine.cluster.log import ShardLog
from limbeck.engine.cluster.till import Call

GATHER = 0.002
"""Seconds in which claims are gathered into one call."""


class Claims:
    """What one task claims."""

    def __init__(self, ask: Call, task: str, log: ShardLog) -> None:
        self._ask, self._task, self._log = ask, task, log
        self._waiting: list[tuple[Sequence[str], int, asyncio.Future[None]]] = []
        self._keep: set[asyncio.Task[None]] = set()

    async def make(self, keys: Sequence[str], limit: int) -> None:
        """Bring what is known elsewhere into the log's memory, and claim the rest; waits for what others are buying."""
        done = asyncio.get_running_loop().create_future()
        if not self._waiting:
            self._later(self._claim_all())
        self._waiting.append((keys, limit, done))
        await done

    def give_up(self, keys: Sequence[str], limit: int) -> None:
        """Leave to others what could not be bought."""
        left = [key for key in keys if not self._log.get([key], limit)]
        if left:
            self._later(self._release(left, limit))

    async def _release(self, keys: Sequence[str], limit: int) -> None:
        await self._ask("release", keys, limit)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._keep.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._keep.discard(task)
        if not task.cancelled():
            task.exception()  # seen: the beats meet the same, and stop the shard

    async def _claim_all(self) -> None:
        await asyncio.sleep(GATHER)
        claims, self._waiting = self._waiting, []
        for limit in {limit for _, limit, _ in claims}:
            group = [(keys, done) for keys, own, done in claims if own == limit]
            try:
                flying = await self._claimed([key for keys, _ in group for key in keys], limit)
            except LimbeckError as error:
                for _, done in group:
                    _fail(done, error)
                continue
            for keys, done in group:
                waiting = [key for key in keys if key in flying]
                if waiting:
                    self._later(self._wait_for(waiting, limit, done))
                elif not done.done():
                    done.set_result(None)

    async def _claimed(self, keys: list[str], limit: int) -> set[str]:
        known, flying = await self._ask("claim", self._task, list(dict.fromkeys(keys)), limit)
        self._log.learn(known)
        return set(flying)

    async def _wait_for(self, keys: list[str], limit: int, done: asyncio.Future[None]) -> None:
        try:
            flying = set(keys)
            while flying:
                await self._ask("until_free", list(flying), limit)
                flying = await self._claimed(list(flying), limit)
        except LimbeckError as error:
            _fail(done, error)
            return
        if not done.done():
            done.set_result(None)


def _fail(done: asyncio.Future[None], error: Exception) -> None:
    if not done.done():
        done.set_exception(error)
