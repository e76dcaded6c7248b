"""Worker processes that answer for a local model; started on demand, gone when the parent is, whatever ends it.

    pool = Pool(folder, workers=2)
    outcomes = await pool.answer(ask.payload(), samples=[0, 1, 2, 3])
    await pool.close()

A request goes to the worker with the least to do. A second worker is started only when the first has its hands full, so
that one question costs one process.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limbeck.core.errors import EndpointError, RefusedError

FULL = 32
"""So many samples keep a worker busy; with more waiting for each, another worker is started."""

Outcomes = list[dict[str, Any]]


@dataclass(slots=True)
class _Waiting:
    """A request under way: who waits for it, on which loop, and what has come so far."""

    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Outcomes]
    wanted: int
    outcomes: Outcomes = field(default_factory=list)


class Pool:
    """Up to `workers` processes, each with the model in `folder` on `threads` threads."""

    def __init__(self, folder: Path, workers: int, threads: int = 1) -> None:
        self._folder, self._most, self._threads = folder, workers, threads
        self._workers: list[_Worker] = []
        self._numbers = 0

    async def answer(self, payload: Mapping[str, Any], samples: Sequence[int]) -> Outcomes:
        """Return what became of each sample, in the order asked. Raises EndpointError when the model can not run."""
        self._numbers += 1
        request = {"number": self._numbers, "payload": payload, "samples": list(samples)}
        return await self._worker().ask(request)

    async def close(self) -> None:
        """End the processes."""
        workers, self._workers = self._workers, []
        await asyncio.gather(*(asyncio.to_thread(worker.close) for worker in workers))

    def _worker(self) -> _Worker:
        for worker in [worker for worker in self._workers if not worker.alive]:
            self._workers.remove(worker)
            worker.close()
        least = min(self._workers, key=lambda worker: worker.load, default=None)
        if least is None or (least.load >= FULL and len(self._workers) < self._most):
            least = _Worker(self._folder, self._threads)
            self._workers.append(least)
        return least


class _Worker:
    """One process, and the thread that reads its answers."""

    def __init__(self, folder: Path, threads: int) -> None:
        self.load = 0
        self.alive = True
        self._folder = folder
        self._waiting: dict[int, _Waiting] = {}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "limbeck.teachers._worker", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(threads),
            process_group=0,  # an interrupt from the keyboard reaches the parent alone
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    async def ask(self, request: dict[str, Any]) -> Outcomes:
        """Send a request and wait for all its samples."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(loop, loop.create_future(), len(request["samples"]))
        self._waiting[request["number"]] = waiting
        self.load += waiting.wanted
        try:
            self._write(request)
            outcomes = await waiting.future
        finally:
            self.load -= waiting.wanted
            self._waiting.pop(request["number"], None)
        order = {sample: place for place, sample in enumerate(request["samples"])}
        return sorted(outcomes, key=lambda outcome: order[outcome["sample"]])

    def close(self) -> None:
        """End the process; it ends by itself when its input does."""
        self.alive = False
        self._process.terminate()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                _shut(pipe)

    def _write(self, request: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # the process is gone: the reader finds out why and tells whoever waits
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        why = ""
        for line in self._process.stdout:
            message = json.loads(line)
            if "failed" in message:
                why = message["failed"]
            else:
                self._arrived(message)
        self.alive = False
        code = self._process.wait()
        why = why or f"The process that runs the model in {self._folder} ended with code {code}; is memory short?"
        for waiting in list(self._waiting.values()):
            _tell(waiting, EndpointError(why))

    def _arrived(self, outcome: dict[str, Any]) -> None:
        waiting = self._waiting.get(outcome["job"])
        if waiting is None:
            return  # nobody waits any more
        waiting.outcomes.append(outcome)
        if outcome["refused"]:
            _tell(waiting, RefusedError(outcome["refused"]))
        elif len(waiting.outcomes) == waiting.wanted:
            _tell(waiting, None)


def _tell(waiting: _Waiting, error: Exception | None) -> None:
    def settle() -> None:
        if waiting.future.done():
            return
        if error is None:
            waiting.future.set_result(waiting.outcomes)
        else:
            waiting.future.set_exception(error)

    try:
        waiting.loop.call_soon_threadsafe(settle)
    except RuntimeError:
        return  # the loop is closed: the run is over


def _shut(pipe: Any) -> None:
    try:
        pipe.close()
    except BrokenPipeError:
        return  # what was left to send has nobody to read it


def _environment(threads: int) -> dict[str, str]:
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    kept = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}  # a model has no use for keys
    return {**kept, **dict.fromkeys(names, str(threads)), "PYTHONPATH": path, "TOKENIZERS_PARALLELISM": "false"}
