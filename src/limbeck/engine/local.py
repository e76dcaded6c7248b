"""The local backend: one asyncio loop, threads for whole tables, worker processes for training.

Every unit of the recipe (a chain of streaming steps, or one barrier) starts as soon as the steps it reads are done;
independent branches run side by side. A step whose folder is complete under the same fingerprint is not run again.
Whatever interrupts a run (Ctrl-C, SIGKILL, a full disk), the same command goes on where it stopped: complete steps are
kept as folders, answers in the cache, training in its checkpoints.

A run that must stop (Ctrl-C, the budget, a dead endpoint, a broken step) lets no new request out, waits for those
under way, which are paid for, stores their answers, and only then ends. A second Ctrl-C does not wait.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from limbeck.core import models
from limbeck.core.errors import LimbeckError, StepError, UsageError
from limbeck.core.ledger import UNDER_WAY, Ledger, Total
from limbeck.core.prices import price_of, told_unknown
from limbeck.core.recipe import Recipe, after_of
from limbeck.core.row import Row, from_table, to_table
from limbeck.core.step import STEP_PREFIX, Each, Make, Source, Whole
from limbeck.engine import seal
from limbeck.engine.answer import Answerer
from limbeck.engine.cache import Cache, default_path
from limbeck.engine.context import LocalContext
from limbeck.engine.interrupt import Interrupted, interrupts
from limbeck.engine.limits import Limits
from limbeck.engine.plan import Node, chains, check_models, nodes, remote_models
from limbeck.engine.pool import Workers
from limbeck.engine.rundir import RowWriter, RunFolder, disk_at_fault, storage_error, storing
from limbeck.engine.stream import Chain, from_source
from limbeck.engine.threads import Threads, in_thread
from limbeck.engine.watch import Watch

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
        limits: Limits | None = None,
        budget: float | None = None,
        tolerate: float | None = None,
        retry_dropped: bool = False,
    ) -> None:
        self.recipe, self.folder = recipe, RunFolder(folder)
        self.listen, self.seed, self.limit, self.streaming_only = listen, seed, limit, streaming_only
        self.limits, self.tolerate, self.retry_dropped = limits or Limits.given(), tolerate, retry_dropped
        self.workers = Workers(workers or os.cpu_count() or 1)
        self.threads = Threads()
        self.ledger = Ledger(folder / "ledger.jsonl", cap=budget)
        self.nodes: dict[str, Node] = {}
        self.stopping = asyncio.Event()
        """Set when no new request may go out any more."""
        self._asked = asyncio.Event()
        self._hurry = asyncio.Event()

    async def run(self) -> None:
        """Do what is left to do. Raises the first error, after what was under way has ended in good order."""
        check_models(self.recipe)
        if self.ledger.cap is not None:
            self._check_prices()
        self.folder.open(self.recipe.to_json())
        try:
            self.nodes = nodes(self.recipe, self.folder)
            self.folder.retire(node.folder.path.name for node in self.nodes.values())
            if self.retry_dropped:
                _reopen(self.nodes)
            self.cache = Cache(default_path())
            await self.salvage()
            self._open_ledger()
            self.answerer = Answerer(
                self.cache,
                self.ledger,
                lambda name: self.artefact(name) / "student",
                run=self.folder.run,
                limits=self.limits,
                tolerate=self.tolerate or 0.0,
            )
            try:
                await self.opened()
                await self._run_units(self._wanted(chains(self.nodes)))
            finally:
                await self.closed()
        finally:
            self.folder.close()

    async def salvage(self) -> None:
        """Bring what a killed run on a cluster has bought into the cache, before the ledger asks what was spent."""
        shards = self.folder.path / ".shards"
        if (shards / "log").is_dir():
            from limbeck.engine.cluster.log import harvest
            from limbeck.engine.cluster.store import open_store

            await harvest(open_store(shards), self.cache, shards / "harvested.json")

    def _open_ledger(self) -> None:
        run = self.folder.run
        known = self.cache.spent(run)
        self.ledger.open(known, self.cache.leased(run))
        recovered = self.ledger.before.get(UNDER_WAY, Total()).at_risk - known.get(UNDER_WAY, Total()).at_risk
        if recovered > 0:
            self.cache.note((run, UNDER_WAY, Total(at_risk=recovered)))
            self.cache.end_lease(run)

    async def opened(self) -> None:
        """What a backend does before the first unit runs; the folder is locked."""

    def publish(self) -> None:
        """Put what was written after the last step (the report) where the run's results are; here they are there."""

    async def closed(self) -> None:
        """End what the run has started, in good order."""
        await self.workers.close()
        self.threads.close()
        await self.answerer.close()
        self.cache.end_lease(self.folder.run)
        self.cache.close()
        self.ledger.close()

    def artefact(self, name: str) -> Path:
        """Return the folder of a finished step, by its name with or without `step:`."""
        node = self.nodes.get(name.removeprefix(STEP_PREFIX))
        if node is None or not node.done:
            raise StepError(f"'{name}' is no finished step of this run.")
        return node.folder.path

    def lost(self) -> dict[str, dict[str, int]]:
        """Return by step how many rows were refused, failed or given up, and of how many (`in`)."""
        found = {}
        for name, node in self.nodes.items():
            summary = node.folder.summary()
            if summary.get("lost"):
                found[name] = {**summary["lost"], "in": summary["rows"]["in"]}
        return found

    def _check_prices(self) -> None:
        for identity in remote_models(self.recipe):
            if price_of(identity) is None:
                raise UsageError(f"A budget can only be kept where the price is known. {told_unknown(identity)}")

    def _wanted(self, units: list[list[Node]]) -> list[list[Node]]:
        """Leave out what a pilot does not run: artefacts, and what reads them."""
        if not self.streaming_only:
            return units
        left: set[str] = set()
        for node in self.nodes.values():
            if isinstance(node.step, Make) or left & node.inputs.keys():
                left.add(node.name)
        return [kept for unit in units if (kept := [n for n in unit if n.name not in left])]

    # -- running and stopping --------------------------------------------------------------------------------------

    async def _run_units(self, units: list[list[Node]]) -> None:
        missing = {node.name for unit in units for node in unit}
        self._announce(missing)
        finished = {name: asyncio.Event() for name in missing}
        tasks = [asyncio.create_task(self._run_unit(unit, finished), name=unit[0].name) for unit in units]
        try:
            with interrupts(self._interrupt):
                await self._all_or_stop(tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _all_or_stop(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        """Wait for all tasks; at the first failure or interrupt, wait for the requests under way instead."""
        stop = asyncio.create_task(self._asked.wait())
        waiting: set[asyncio.Task[Any]] = set(tasks)
        try:
            while waiting and not self._asked.is_set():
                done, _ = await asyncio.wait({*waiting, stop}, return_when=asyncio.FIRST_COMPLETED)
                waiting -= done
                failed = [task for task in done if task is not stop and task.exception() is not None]
                if failed:
                    await self.drain()
                    failed[0].result()
        finally:
            stop.cancel()
        if self._asked.is_set():
            await self.drain()
            raise Interrupted("Stopped. Every answer so far is kept; run the same command again to go on.")

    async def drain(self) -> None:
        """Let no new request out, and wait until those under way, which are paid for, have been answered."""
        first = not self.stopping.is_set()
        self.stopping.set()
        self.answerer.halt()
        if self.answerer.in_flight and first:
            self.listen({"event": "stopping", "in_flight": self.answerer.in_flight})
        while self.answerer.in_flight and not self._hurry.is_set():
            await asyncio.sleep(0.02)

    def _interrupt(self) -> None:
        """Ctrl-C: the first time finish what is under way, the second time stop now."""
        if self._asked.is_set():
            self._hurry.set()
        self._asked.set()

    def _announce(self, missing: set[str]) -> None:
        steps = list(self.nodes)
        self.listen({"event": "run", "recipe": self.recipe.name, "folder": str(self.folder.path), "steps": steps})
        for node in self.nodes.values():
            if node.name not in missing:
                rows = node.folder.summary().get("rows", {})
                self.listen({"event": "step", "name": node.name, "state": "reused", "rows": rows})

    async def _run_unit(self, unit: list[Node], finished: dict[str, asyncio.Event]) -> None:
        inside = {node.name for node in unit}
        needed = {name for node in unit for name in node.inputs} - inside
        for name in needed & finished.keys():
            await finished[name].wait()
        try:
            await (self.stream(unit) if isinstance(unit[0].step, Each | Source) else self._barrier(unit[0]))
        except Exception:
            for node in unit:
                self.listen({"event": "step", "name": node.name, "state": "failed"})
            raise
        for node in unit:
            finished[node.name].set()

    # -- streaming -------------------------------------------------------------------------------------------------

    async def stream(self, unit: list[Node]) -> None:
        """Run a chain of streaming steps, with or without a source at its head."""
        begun, cpu = time.monotonic(), time.process_time()
        for node in unit:
            self.begin(node)
        writers = [RowWriter(node.folder.path) for node in unit]
        head = unit[0].step
        source_first = isinstance(head, Source)
        unread = Counter[str]()
        watch = Watch(self.listen, self.ledger, lambda: self.answerer.endpoints.values())
        chain = self._chain(unit[source_first:])
        watch.follow([node.name for node in unit], writers, self.expected(head), lambda: chain.through)

        def emit(index: int, rows: Sequence[Row]) -> None:
            writer = writers[index + source_first]
            for row in rows:
                writer.add(row)

        def heads() -> Iterator[Row]:
            for row in self.rows_of(head):
                if source_first:
                    writers[0].add(row)
                if row.dropped is None:
                    watch.taken += 1
                    yield row
                else:
                    unread["unreadable"] += 1

        try:
            async with watch:
                await chain.run(heads(), emit)
            for writer in writers:
                writer.close()
        except BaseException:
            for writer in writers:
                writer.abandon()
            raise
        lost = [unread, *chain.lost] if source_first else chain.lost
        for place, (node, writer) in enumerate(zip(unit, writers, strict=True)):
            before = writers[place - 1].kept.count if place else writer.total if source_first else watch.taken
            self.finish(node, before, writer, begun, cpu=cpu, lost=lost[place])

    def _chain(self, unit: Sequence[Node]) -> Chain:
        steps = [node.step for node in unit if isinstance(node.step, Each)]
        window = max((self._window(step) for step in steps), default=0)
        names = [node.name for node in unit]
        return Chain(steps, names, self.answerer.answer, window=window, threads=self.threads, drain=self.drain)

    def _window(self, step: Each) -> int:
        """Return how many rows the step's teacher wants under way, or 0 where it has no wish."""
        spec = getattr(step, "teacher", None)
        if not isinstance(spec, str) or not spec or spec.startswith(STEP_PREFIX):
            return 0
        return int(getattr(self.answerer.teacher(spec), "window", 0))

    def expected(self, head: Any) -> int | None:
        """Return how many rows will come into a step, where that is known."""
        if isinstance(head, Source):
            return min((n for n in (self.limit, head.size()) if n is not None), default=None)
        return sum(self.nodes[n].folder.summary().get("rows", {}).get("kept", 0) for n in after_of(head)) or None

    def rows_of(self, head: Any) -> Iterator[Row]:
        """Yield the rows that come into a step: those a source makes, drops included, or those of the steps before it."""
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
        step = node.step
        if isinstance(step, Whole):
            await self.whole(node)
            return
        if not isinstance(step, Make):
            raise UsageError(f"{step.called()} is none of the three kinds of step.")
        if not step.reads_sealed:
            await self._check_seal(node)
        await (self._isolated(node, step) if step.isolated else self._make(node, step))

    async def whole(self, node: Node) -> None:
        """Run a step that sees all rows at once."""
        step = node.step
        assert isinstance(step, Whole)
        await self._in_thread(node, lambda rows: from_table(step.table(to_table(rows))))

    async def _make(self, node: Node, step: Make) -> None:
        context = LocalContext(self, node, asyncio.get_running_loop())
        await self._in_thread(node, lambda rows: list(step.make(rows, context)))

    async def _in_thread(self, node: Node, work: Callable[[list[Row]], list[Row]]) -> None:
        begun, cpu = time.monotonic(), time.process_time()
        self.begin(node)
        rows = list(self.rows_of(node.step))
        try:
            out = await in_thread(lambda: work(rows))
        except LimbeckError:
            raise
        except Exception as error:
            if disk_at_fault(error):
                raise storage_error(node.folder.path, error) from None
            called = node.step.called()
            raise StepError(f"Step '{node.name}' ({called}) failed: {type(error).__name__}: {error}") from error
        writer = RowWriter(node.folder.path)
        for row in out:
            writer.add(row)
        writer.close()
        self.finish(node, len(rows), writer, begun, cpu=cpu)

    async def _check_seal(self, node: Node) -> None:
        files = [f for n in self.nodes.values() if n.done for f in n.folder.path.glob("*.parquet")]
        read = [self.nodes[name].folder for name in node.step.needs()]
        rows = [*self.rows_of(node.step), *(row for folder in read for row in folder.read())]
        await asyncio.to_thread(seal.check, node.name, rows, files)

    async def _isolated(self, node: Node, step: Make) -> None:
        begun = time.monotonic()

        def started() -> None:
            nonlocal begun
            begun = time.monotonic()
            self.listen({"event": "step", "name": node.name, "state": "started"})

        node.folder.begin(node.fingerprint)
        log = node.folder.path / "worker.log"
        told = await self.workers.run(self._job(node, step), log, lambda p: self.told(node, p), started)
        rows_in = sum(self.nodes[n].folder.summary()["rows"]["kept"] for n in after_of(step))
        rows = {"in": rows_in, "kept": told["kept"], "dropped": told["dropped"]}
        self._summarise(node, rows, told["reasons"], begun, told["cpu_seconds"], {})

    def _job(self, node: Node, step: Make) -> dict[str, Any]:
        return {
            "use": step.called(),
            "fields": step.fields(),
            "rows": [str(self.nodes[n].folder.kept) for n in after_of(step)],
            "folder": str(node.folder.path),
            "folders": {n.name: str(n.folder.path) for n in self.nodes.values() if n.done},
            "seed": self.seed,
        }

    def told(self, node: Node, progress: list[Any]) -> None:
        """Pass on what a step says of its progress."""
        done, total, note = progress
        self.listen({"event": "progress", "name": node.name, "done": done, "total": total, "note": note})

    # -- the beginning and the end of a step -----------------------------------------------------------------------

    def begin(self, node: Node) -> None:
        """Make a step's folder ready, and tell the step where those are that it refers to."""
        models.give(node.step, {name: self.artefact(name) for name in node.step.needs()})
        node.folder.begin(node.fingerprint)
        self.listen({"event": "step", "name": node.name, "state": "started"})

    def finish(
        self,
        node: Node,
        rows_in: int,
        writer: RowWriter,
        begun: float,
        *,
        cpu: float,
        lost: Counter[str] | None = None,
    ) -> None:
        """Write what a step has done, and `done` last. `begun` and `cpu` are monotonic and process seconds at its begin."""
        rows = {"in": rows_in, "kept": writer.kept.count, "dropped": writer.dropped.count}
        self._summarise(node, rows, dict(writer.reasons), begun, time.process_time() - cpu, dict(lost or {}))

    def _summarise(
        self,
        node: Node,
        rows: dict[str, int],
        reasons: dict[str, int],
        begun: float,
        cpu_seconds: float,
        lost: dict[str, int],
    ) -> None:
        seconds = time.monotonic() - begun
        with storing(self.folder.path / "ledger.jsonl"):
            usage = self.ledger.close_step(node.name).record()
        summary = {**node.record(), "rows": rows, "reasons": reasons, "lost": lost, "usage": usage}
        summary |= {"seconds": round(seconds, 3), "cpu_seconds": round(cpu_seconds, 3)}
        node.folder.finish(summary, node.fingerprint)
        told = {"rows": rows, "reasons": reasons, "seconds": seconds}
        self.listen({"event": "step", "name": node.name, "state": "done", **told})


def _reopen(found: dict[str, Node]) -> None:
    """Take back the `done` of the steps that lost rows to an endpoint, and of all that read from them."""
    again: set[str] = set()
    for node in found.values():
        if node.folder.summary().get("lost") or again & node.inputs.keys():
            again.add(node.name)
            (node.folder.path / "done").unlink(missing_ok=True)
