"""The worker pool: processes for isolated steps, kept for the next one so that torch is imported once, not nine times.

A worker that failed, was interrupted, or has grown large is not used again. See `engine.work` for the other side.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from limbeck.core import errors
from limbeck.core.errors import StepError

RETIRE_MB = 1500

Told = Callable[[list[Any]], None]


class Workers:
    """At most `size` worker processes; each runs one job at a time with `threads` threads."""

    def __init__(self, size: int, threads: int = 1) -> None:
        self.threads = threads
        self._slots = asyncio.Semaphore(size)
        self._idle: list[asyncio.subprocess.Process] = []

    async def run(self, job: dict[str, Any], log: Path, told: Told, started: Callable[[], None]) -> dict[str, Any]:
        """Run a job when a slot is free; returns the worker's closing message, raises what the step raised.

        `log` receives what the step prints. `told` is called with `[done, total, note]`.
        """
        async with self._slots:
            started()
            process = self._idle.pop() if self._idle else await self._start()
            try:
                done = await _converse(process, {**job, "threads": self.threads, "log": str(log)}, told)
            except BaseException:
                await _end(process)
                raise
            if done["peak_mb"] > RETIRE_MB:
                await _end(process)
            else:
                self._idle.append(process)
            return done

    async def close(self) -> None:
        """End the idle workers."""
        while self._idle:
            await _end(self._idle.pop())

    async def _start(self) -> asyncio.subprocess.Process:
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads), "TOKENIZERS_PARALLELISM": "false"}
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "limbeck.engine.work",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches the engine only, which then ends the worker in good order
            limit=1 << 24,
        )


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


async def _converse(process: asyncio.subprocess.Process, job: dict[str, Any], told: Told) -> dict[str, Any]:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write((json.dumps(job) + "\n").encode())
    await process.stdin.drain()
    async for line in process.stdout:
        message = json.loads(line)
        if "progress" in message:
            told(message["progress"])
        elif "error" in message:
            kind, text = message["error"]
            raise getattr(errors, kind, StepError)(text)
        else:
            return message["done"]  # type: ignore[no-any-return]
    await process.wait()
    log = Path(job["log"])
    written = log.read_text(encoding="utf-8", errors="replace").strip() if log.is_file() else ""
    last = written.splitlines()[-1] if written else "it said nothing"
    raise StepError(f"{job['use']} ended with code {process.returncode}: {last} (whole text: {log})")
