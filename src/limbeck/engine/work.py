"""The worker: runs one isolated `make` step in a process of its own, and speaks JSON lines with the engine.

    engine -> worker   {"use": "train.sft", "fields": {...}, "rows": ["…/kept.parquet"], "folder": "…", ...}
    worker -> engine   {"progress": [120, 400, "loss 0.31"]}   {"done": {"cpu_seconds": 9.8}}   {"error": ["UsageError", "…"]}

Training takes memory that only ends with its process, and two students train side by side on two cores. The worker
watches its standard input: when the engine dies, however it dies, the input closes and the worker ends too.
"""

from __future__ import annotations

import json
import os
import queue
import resource
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from limbeck.core import errors
from limbeck.core.find import find_step
from limbeck.core.row import Row
from limbeck.core.step import STEP_PREFIX, Make
from limbeck.engine.answer import model_folder
from limbeck.engine.rundir import RowWriter, disk_at_fault, read_rows, storage_error


class WorkerContext:
    """The context of an isolated step: everything but `apply`."""

    def __init__(self, job: dict[str, Any], out: TextIO) -> None:
        self.folder = Path(job["folder"])
        self.seed = int(job["seed"])
        self._folders: dict[str, str] = job["folders"]
        self._out = out
        self._told = 0.0

    def apply(self, step: str, rows: Sequence[Row], **fields: Any) -> list[Row]:
        """Not to be had here."""
        raise errors.StepError(f"An isolated step can not apply {step}: it runs in a process of its own.")

    def model(self, spec: str) -> Path:
        """Return the folder of weights that `spec` names."""
        return self.artefact(spec) / "student" if spec.startswith(STEP_PREFIX) else model_folder(spec)

    def artefact(self, name: str) -> Path:
        """Return the folder of a finished step."""
        return Path(self._folders[name.removeprefix(STEP_PREFIX)])

    def rows(self, name: str) -> list[Row]:
        """Return the kept rows of a finished step."""
        return list(_read([str(self.artefact(name) / "kept.parquet")]))

    def progress(self, done: int, total: int, note: str = "") -> None:
        """Tell the engine, a few times a second at most."""
        now = time.monotonic()
        if now - self._told > 0.2 or done >= total:
            self._told = now
            _say(self._out, {"progress": [done, total, note]})


def main() -> None:
    """Read jobs from standard input, do one after the other, and say how each went."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    jobs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(jobs,), daemon=True).start()
    while True:
        job = jobs.get()
        with Path(job["log"]).open("wb") as log:
            for stream in (1, 2):  # what a library prints must not be mistaken for the protocol
                os.dup2(log.fileno(), stream)
        if not _do(job, out):
            return


def _do(job: dict[str, Any], out: TextIO) -> bool:
    """Do one job; returns whether this worker is fit for another."""
    try:
        _say(out, {"done": _work(job, out)})
    except errors.LimbeckError as error:
        _say(out, {"error": [type(error).__name__, str(error)]})
        return False
    except Exception as error:
        if not disk_at_fault(error):
            raise  # the traceback goes to the step's worker.log, its last line to the engine
        _say(out, {"error": ["StorageError", str(storage_error(Path(job["folder"]), error))]})
        return False
    return True


def _cpu_seconds() -> float:
    """Return the processor time of this process and of those that it has started and that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _work(job: dict[str, Any], out: TextIO) -> dict[str, Any]:
    cpu = _cpu_seconds()
    if "torch" in sys.modules or job["use"].startswith("train."):
        import torch

        torch.set_num_threads(int(job["threads"]))
    step = find_step(job["use"])(**job["fields"])
    if not isinstance(step, Make):
        raise errors.UsageError(f"{job['use']} makes no artefact.")
    context = WorkerContext(job, out)
    writer = RowWriter(context.folder)
    for row in step.make(list(_read(job["rows"])), context):
        writer.add(row)
    writer.close()
    return {
        "cpu_seconds": _cpu_seconds() - cpu,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "kept": writer.kept.count,
        "dropped": writer.dropped.count,
        "reasons": dict(writer.reasons),
    }


def _read(paths: Sequence[str]) -> Iterator[Row]:
    for path in paths:
        yield from read_rows(Path(path))


def _say(out: TextIO, message: dict[str, Any]) -> None:
    out.write(json.dumps(message) + "\n")
    out.flush()


def _listen(jobs: queue.SimpleQueue[dict[str, Any]]) -> None:
    # unbuffered: a buffered reader that waits holds a lock, over which the interpreter aborts at its own end
    with open(0, "rb", buffering=0, closefd=False) as stream:
        for line in stream:
            jobs.put(json.loads(line))
    os._exit(1)  # the engine is gone, however it went


if __name__ == "__main__":
    main()
