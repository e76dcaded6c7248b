"""What a `make` step is handed that runs in the engine's own process, in a thread of its own.

    step.make(rows, LocalContext(run, node, loop))              context.apply("score.math", rows), context.model("step:sft")

The context of an isolated step is another one: `engine.work.WorkerContext`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck.core.errors import UsageError
from limbeck.core.find import find_step
from limbeck.core.row import Row, from_table, to_table
from limbeck.core.step import STEP_PREFIX, Each, Whole
from limbeck.engine.answer import model_folder
from limbeck.engine.rundir import read_rows
from limbeck.engine.stream import Chain

if TYPE_CHECKING:
    from limbeck.engine.local import LocalRun
    from limbeck.engine.plan import Node


class LocalContext:
    """What a `make` step that runs in a thread is handed; see `core.step.Context`."""

    def __init__(self, run: LocalRun, node: Node, loop: asyncio.AbstractEventLoop) -> None:
        self.folder, self.seed = node.folder.path, run.seed
        self._run, self._node, self._loop = run, node, loop

    def apply(self, step: str, rows: Sequence[Row], **fields: Any) -> list[Row]:
        """Run a streaming step over rows; its asks are answered and cached like any other."""
        made = find_step(step)(**fields)
        if isinstance(made, Whole):
            return from_table(made.table(to_table(rows)))
        if not isinstance(made, Each):
            raise UsageError(f"{step} can not be applied to rows from within another step.")
        out: list[Row] = []

        async def go() -> None:
            chain = Chain([made], [self._node.name], self._run.answerer.answer, threads=self._run.threads)
            done = 0

            def emit(_: int, rows_out: Sequence[Row]) -> None:
                nonlocal done
                done += 1
                out.extend(rows_out)
                self.progress(done, len(rows), step)

            await chain.run(rows, emit)

        asyncio.run_coroutine_threadsafe(go(), self._loop).result()
        return out

    def model(self, spec: str) -> Path:
        """Return the folder of weights that `spec` names."""
        return self.artefact(spec) / "student" if spec.startswith(STEP_PREFIX) else model_folder(spec)

    def artefact(self, name: str) -> Path:
        """Return the folder of a finished step."""
        return self._run.artefact(name)

    def rows(self, name: str) -> list[Row]:
        """Return the kept rows of a finished step."""
        return list(read_rows(self.artefact(name) / "kept.parquet"))

    def progress(self, done: int, total: int, note: str = "") -> None:
        """Pass progress on to whoever listens."""
        if done == total or done % 50 == 0:
            self._run.told(self._node, [done, total, note])
