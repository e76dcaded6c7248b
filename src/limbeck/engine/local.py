"""The local backend: one asyncio loop, threads for whole tables, worker processes for training.

Every unit of the recipe (a chain of streaming steps, or one barrier) starts as soon as the steps it reads are done;
independent branches run side by side. A step whose folder is complete under the same fingerprint is not run again.
Whatever interrupts a run (Ctrl-C, SIGKILL, a full disk), the same command goes on where it stopped: complete steps are
kept as folders, answers in the cache, training in its checkpoints.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from limbeck.core.errors import LimbeckError, StepError, UsageError
from limbeck.core.ledger import Ledger
from limbeck.core.recipe import Recipe, after_of
from limbeck.core.row import Row, from_table, to_table
from limbeck.core.step import STEP_PREFIX, Each, Make, Source, Whole
from limbeck.engine import seal
from limbeck.engine.answer import Answerer
from limbeck.engine.cache import Cache, default_path
from limbeck.engine.context import LocalContext, in_thread
from limbeck.engine.plan import Node, chains, check_models, nodes
from limbeck.engine.pool import Workers
from limbeck.engine.rundir import RowWriter, RunFolder, disk_at_fault, storage_error, storing
from limbeck.engine.stream import Chain, from_source

Event = dict[str, Any]
Listener = Callable[[Event], None]


class LocalRun:
    """One run of a recipe in a folder. `listen` is told what happens; `limit` cuts every source short (for pilots)."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        *,
        listen: Listener,
        seed: int = 0,
        workers: int | None = None,
        limit: int | None = None,
        streaming_only: bool = False,
    ) -> None:
        self.recipe, self.folder = recipe, RunFolder(folder)
        self.listen, self.seed, self.limit, self.streaming_only = listen, seed, limit, streaming_only
        self.workers = Workers(workers or os.cpu_count() or 1)
        self.ledger = Ledger(folder / "ledger.jsonl")
        self.nodes: dict[str, Node] = {}

    async def run(self) -> None:
        """Do what is left to do. Raises the first error, after everything else was stopped in good order."""
        check_models(self.recipe)
        self.folder.open(self.recipe.to_json())
        try:
            self.nodes = nodes(self.recipe, self.folder)
            self.folder.retire(node.folder.path.name for node in self.nodes.values())
            self.cache = Cache(default_path())
            self.answerer = Answerer(self.cache, self.ledger, lambda name: self.artefact(name) / "student")
            try:
                await self._run_units(self._wanted(chains(self.nodes)))
            finally:
                await self.workers.close()
                await self.answerer.close()
                self.cache.close()
                self.ledger.close()
        finally:
            self.folder.close()

    def artefact(self, name: str) -> Path:
        """Return the folder of a finished step, by its name with or without `step:`."""
        node = self.nodes.get(name.removeprefix(STEP_PREFIX))
        if node is None or not node.done:
            raise StepError(f"'{name}' is no finished step of this run.")
        return node.folder.path

    def _wanted(self, units: list[list[Node]]) -> list[list[Node]]:
        """Leave out what a pilot does not run: artefacts, and what reads them."""
        if not self.streaming_only:
            return units
        left: set[str] = set()
        for node in self.nodes.values():
            if isinstance(node.step, Make) or left & node.inputs.keys():
                left.add(node.name)
        return [kept for unit in units if (kept := [n for n in unit if n.name not in left])]

    async def _run_units(self, units: list[list[Node]]) -> None:
        missing = {node.name for unit in units for node in unit}
        self.listen(
            {"event": "run", "recipe": self.recipe.name, "folder": str(self.folder.path), "steps": list(self.nodes)}
        )
        for node in self.nodes.values():
            if node.name not in missing:
                self.listen(
                    {
                        "event": "step",
                        "name": node.name,
                        "state": "reused",
                        "rows": node.folder.summary().get("rows", {}),
                    }
                )
        finished = {name: asyncio.Event() for name in missing}
        tasks = [asyncio.create_task(self._run_unit(unit, finished), name=unit[0].name) for unit in units]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _run_unit(self, unit: list[Node], finished: dict[str, asyncio.Event]) -> None:
        inside = {node.name for node in unit}
        needed = {name for node in unit for name in node.inputs} - inside
        for name in needed & finished.keys():
            await finished[name].wait()
        try:
            await (self._stream(unit) if isinstance(unit[0].step, Each | Source) else self._barrier(unit[0]))
        except Exception:
            for node in unit:
                self.listen({"event": "step", "name": node.name, "state": "failed"})
            raise
        for node in unit:
            finished[node.name].set()

    # -- streaming -------------------------------------------------------------------------------------------------

    async def _stream(self, unit: list[Node]) -> None:
        begun, cpu = time.monotonic(), time.process_time()
        for node in unit:
            node.folder.begin(node.fingerprint)
            self.listen({"event": "step", "name": node.name, "state": "started"})
        writers = [RowWriter(node.folder.path) for node in unit]
        head = unit[0].step
        source_first = isinstance(head, Source)
        tell = _Throttle(self, unit, writers, self._expected(head))

        def emit(index: int, rows: Sequence[Row]) -> None:
            for row in rows:
                writers[index + source_first].add(row)
            tell()

        def heads() -> Iterator[Row]:
            for row in self._input(head):
                if source_first:
                    writers[0].add(row)
                if row.dropped is None:
                    tell.taken += 1
                    yield row

        steps = [node.step for node in unit[1 if source_first else 0 :]]
        chain = Chain(steps, [n.name for n in unit[source_first:]], self.answerer.answer)  # type: ignore[arg-type]
        try:
            await chain.run(heads(), emit)
            for writer in writers:
                writer.close()
        except BaseException:
            for writer in writers:
                writer.abandon()
            raise
        counts = [w.kept.count + w.dropped.count for w in writers]
        for index, (node, writer) in enumerate(zip(unit, writers, strict=True)):
            rows_in = (
                counts[0]
                if index == 0 and source_first
                else tell.taken
                if index == 0
                else writers[index - 1].kept.count
            )
            self._finish(node, rows_in, writer.kept.count, writer.dropped.count, dict(writer.reasons), begun, cpu)

    def _expected(self, head: Any) -> int | None:
        if isinstance(head, Source):
            return min((n for n in (self.limit, head.size()) if n is not None), default=None)
        return sum(self.nodes[n].folder.summary().get("rows", {}).get("kept", 0) for n in after_of(head)) or None

    def _input(self, head: Any) -> Iterator[Row]:
        if isinstance(head, Source):
            for index, row in enumerate(from_source(head.rows(), head.shown())):
                if self.limit is not None and index >= self.limit:
                    return
                yield row
            return
        names = after_of(head)
        for name in names:
            for row in self.nodes[name].folder.read():
                yield row.with_labels(branch=name) if len(names) > 1 else row

    # -- barriers --------------------------------------------------------------------------------------------------

    async def _barrier(self, node: Node) -> None:
        begun, cpu = time.monotonic(), time.process_time()
        step = node.step
        if isinstance(step, Make) and not step.reads_sealed:
            await self._check_seal(node)
        if isinstance(step, Make) and step.isolated:
            await self._isolated(node, step)
            return
        node.folder.begin(node.fingerprint)
        self.listen({"event": "step", "name": node.name, "state": "started"})
        rows_in, out = await self._in_thread(node)
        writer = RowWriter(node.folder.path)
        for row in out:
            writer.add(row)
        writer.close()
        self._finish(node, rows_in, writer.kept.count, writer.dropped.count, dict(writer.reasons), begun, cpu)

    async def _check_seal(self, node: Node) -> None:
        files = [f for n in self.nodes.values() if n.done for f in n.folder.path.glob("*.parquet")]
        read = [self.nodes[name].folder for name in node.step.needs()]
        rows = [*self._input(node.step), *(row for folder in read for row in folder.read())]
        await asyncio.to_thread(seal.check, node.name, rows, files)

    async def _in_thread(self, node: Node) -> tuple[int, list[Row]]:
        step, rows = node.step, list(self._input(node.step))
        try:
            if isinstance(step, Whole):
                return len(rows), from_table(await in_thread(lambda: step.table(to_table(rows))))
            if isinstance(step, Make):
                context = LocalContext(self, node, asyncio.get_running_loop())
                return len(rows), await in_thread(lambda: list(step.make(rows, context)))
        except LimbeckError:
            raise
        except Exception as error:
            if disk_at_fault(error):
                raise storage_error(node.folder.path, error) from None
            raise StepError(f"Step '{node.name}' ({step.called()}) failed: {type(error).__name__}: {error}") from error
        raise UsageError(f"{step.called()} is none of the three kinds of step.")

    async def _isolated(self, node: Node, step: Make) -> None:
        begun = time.monotonic()

        def started() -> None:
            nonlocal begun
            begun = time.monotonic()
            self.listen({"event": "step", "name": node.name, "state": "started"})

        node.folder.begin(node.fingerprint)
        log = node.folder.path / "worker.log"
        told = await self.workers.run(self._job(node, step), log, lambda p: self._told(node, p), started)
        rows_in = sum(self.nodes[n].folder.summary()["rows"]["kept"] for n in after_of(step))
        self._finish(node, rows_in, told["kept"], told["dropped"], told["reasons"], begun, None, told["cpu_seconds"])

    def _job(self, node: Node, step: Make) -> dict[str, Any]:
        return {
            "use": step.called(),
            "fields": step.fields(),
            "rows": [str(self.nodes[n].folder.kept) for n in after_of(step)],
            "folder": str(node.folder.path),
            "folders": {n.name: str(n.folder.path) for n in self.nodes.values() if n.done},
            "seed": self.seed,
        }

    def _told(self, node: Node, progress: list[Any]) -> None:
        done, total, note = progress
        self.listen({"event": "progress", "name": node.name, "done": done, "total": total, "note": note})

    def _finish(
        self,
        node: Node,
        rows_in: int,
        kept: int,
        dropped: int,
        reasons: dict[str, int],
        begun: float,
        cpu: float | None,
        cpu_seconds: float | None = None,
    ) -> None:
        rows = {"in": rows_in, "kept": kept, "dropped": dropped}
        seconds = time.monotonic() - begun
        used = cpu_seconds if cpu_seconds is not None else time.process_time() - (cpu or 0.0)
        with storing(self.folder.path / "ledger.jsonl"):
            usage = asdict(self.ledger.close_step(node.name))
        summary = {**node.record(), "rows": rows, "reasons": reasons, "usage": usage}
        summary |= {"seconds": round(seconds, 3), "cpu_seconds": round(used, 3)}
        node.folder.finish(summary, node.fingerprint)
        self.listen({"event": "step", "name": node.name, "state": "done", "rows": rows, "seconds": seconds})


class _Throttle:
    """Tells the listener about a chain at most four times a second."""

    def __init__(self, run: LocalRun, unit: list[Node], writers: list[RowWriter], total: int | None) -> None:
        self.run, self.unit, self.writers, self.total = run, unit, writers, total
        self.taken, self._last = 0, 0.0

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self._last < 0.25:
            return
        self._last = now
        before = self.total
        for node, writer in zip(self.unit, self.writers, strict=True):
            spent = self.run.ledger.totals.get(node.name)
            event = {"event": "progress", "name": node.name, "done": writer.kept.count + writer.dropped.count}
            event |= {"total": before, "dropped": writer.dropped.count}
            if spent is not None:
                event |= {"tokens_out": spent.tokens_out, "cached": spent.cached, "usd": spent.usd}
            self.run.listen(event)
            before = None
