"""The ray backend: the same steps over shards, on many machines.

    limbeck run rejection_sampling --backend ray                                   a cluster on this machine, all its cores
    limbeck run rejection_sampling --backend ray --ray-address auto --out /shared/first
    limbeck run rejection_sampling --backend ray --out s3://bucket/first

The driver makes the rows of the sources and cuts them into shards; a fused chain of streaming steps runs as one task for
each shard, a `whole` step in buckets of the rows that must be seen together; a `make` step runs on the driver as it always
does. What comes back is written, in the order of the rows, into the very files that the local backend writes: report,
status, export and resume do not know the difference, and a run begun with one backend can be finished with the other.

Committed shards, and the logs of what was paid for, lie in `.shards/` of the run folder (or `shards/` of its address); see
`engine.cluster.shards`. Budget and limits of the whole cluster are kept by the till; see `engine.cluster.till`.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from limbeck.core.fingerprint import digest
from limbeck.core.ledger import UNDER_WAY, Total
from limbeck.core.recipe import Recipe
from limbeck.core.row import Row, to_table
from limbeck.core.step import Each, Source, Whole
from limbeck.engine.cache import default_path
from limbeck.engine.cluster.buckets import MOST_BUCKETS, Piece, parts, pieces
from limbeck.engine.cluster.client import Client
from limbeck.engine.cluster.lease import LeaseLedger
from limbeck.engine.cluster.log import harvest
from limbeck.engine.cluster.machines import Cluster
from limbeck.engine.cluster.merge import Merge, in_order
from limbeck.engine.cluster.mirror import files_of, mirrored, pull, push
from limbeck.engine.cluster.overview import Overview
from limbeck.engine.cluster.shards import FOLDER, ROWS, Manifest, Shard, Work, put_input, read_table, unit_print
from limbeck.engine.cluster.store import Store, is_url, open_store
from limbeck.engine.cluster.tasks import Job, Place, Spec, run_chain, run_gather, run_scatter
from limbeck.engine.cluster.till import Call, State, TillLost
from limbeck.engine.local import Listener, LocalRun
from limbeck.engine.plan import Node
from limbeck.engine.rundir import RowWriter
from limbeck.engine.threads import in_thread
from limbeck.engine.watch import Watch


class RayRun(LocalRun):
    """One run of a recipe on a Ray cluster; `out` is a folder that all its machines see, or an address such as s3://bucket/run."""

    def __init__(
        self,
        recipe: Recipe,
        out: str | Path,
        *,
        listen: Listener,
        address: str | None = None,
        shard_rows: int = ROWS,
        budget: float | None = None,
        **settings: Any,
    ) -> None:
        self._remote: Store | None = None
        folder = Path(out)
        if is_url(out):
            self._remote, folder = mirrored(str(out))
        super().__init__(recipe, folder, listen=listen, budget=budget, **settings)
        self._ledger = self.ledger = LeaseLedger(folder / "ledger.jsonl", cap=budget)
        self._shard_rows, self._cluster = max(1, shard_rows), Cluster(address)
        self._overview = Overview(self._ledger)
        self._call: Call | None = None
        self._beats: asyncio.Task[None] | None = None

    # -- the beginning and the end ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Do what is left to do; what another machine has finished at the same address is fetched first."""
        self._store = self._shards_at()
        self._cluster.start()
        try:
            remote = self._remote
            if remote is not None:
                await in_thread(lambda: pull(remote, self.folder.path))
            await super().run()
        finally:
            self._cluster.stop()

    async def salvage(self) -> None:
        """Bring what earlier sessions have bought into the cache, before the ledger asks what was spent."""
        await harvest(self._store, self.cache, self.folder.path / FOLDER / "harvested.json")

    async def opened(self) -> None:
        """Start the till, and the driver's own beats."""
        await self._publish([node for node in self.nodes.values() if node.done])
        cache, ledger = str(default_path().absolute()), self.ledger
        self._call = self._cluster.till(cache, self.folder.run, ledger.cap, ledger.spent, self.limits)
        self._client = Client(self._call, "driver", "driver", self._ledger, None)
        self._client.serve(self.answerer)
        self._beats = asyncio.create_task(self._client.beat_forever())
        self._overview.begin(self._call)

    async def closed(self) -> None:
        """Take the last figures from the till, and end everything in good order."""
        if self._call is not None and self._beats is not None:
            self._beats.cancel()
            await asyncio.gather(self._beats, return_exceptions=True)
            await self._overview.end()
            self._count_unknown(await self._till_closed())
        await super().closed()

    async def _till_closed(self) -> float:
        """Close the till; returns the US dollars of which nobody can know whether they were spent."""
        try:
            state = await self._state()
            await self._client.ask("close")
        except TillLost:  # the run has been told; what the till had leased stands in the cache
            return self.cache.leased(self.folder.run) - self.ledger.spent
        return state.forfeited

    def _count_unknown(self, usd: float) -> None:
        if usd > 1e-9:
            total = Total(at_risk=usd)
            self.ledger.commit(UNDER_WAY, total)
            self.cache.note((self.folder.run, UNDER_WAY, total))

    async def drain(self) -> None:
        """Let no new request out anywhere, and wait until those under way have been answered."""
        first = not self.stopping.is_set()
        self.stopping.set()
        with suppress(TillLost):
            if self._beats is not None:
                await self._client.ask("halt")
                await self._until_idle(first)
        await super().drain()

    async def _until_idle(self, first: bool) -> None:
        """Wait until all tasks have heard it and left; their last requests are answered and stored by then."""
        while not self._hurry.is_set():
            state = await self._state()
            if state.tasks <= 1:  # the driver's own
                return
            if first and state.in_flight:
                first = False
                self.listen({"event": "stopping", "in_flight": state.in_flight})
            await asyncio.sleep(0.05)

    def publish(self) -> None:
        """Bring the run's own files, the report among them, to its address."""
        if self._remote is not None:
            push(self._remote, self.folder.path, [f.name for f in self.folder.path.iterdir() if f.name != ".lock"])

    # -- streaming -------------------------------------------------------------------------------------------------

    async def stream(self, unit: list[Node]) -> None:
        """Run a chain of streaming steps over shards; a source by itself is done by the driver."""
        source_first = isinstance(unit[0].step, Source)
        if len(unit) == source_first:
            await super().stream(unit)
        else:
            await self._chain_of_shards(unit, source_first)
        await self._publish(unit)

    async def _chain_of_shards(self, unit: list[Node], source_first: bool) -> None:
        begun, cpu = time.monotonic(), time.process_time()
        for node in unit:
            self.begin(node)
        rest = unit[source_first:]
        source = RowWriter(unit[0].folder.path) if source_first else None
        merges = [Merge(node.folder.path) for node in rest]
        writers: list[RowWriter] = [*([source] if source is not None else []), *merges]
        watch = Watch(self.listen, self.ledger, self._overview.endpoints)
        seen = [*([source] if source is not None else []), *(self._overview.of(node.name) for node in rest)]
        watch.follow(
            [node.name for node in unit],
            seen,
            self.expected(unit[0].step),
            lambda: self._overview.steps.through[rest[0].name],
        )
        cut = _Cut(self, unit[0].step, source)
        lost = [Counter[str]() for _ in rest]
        try:
            async with watch:
                cpu -= await self._merged(rest, cut, merges, lost)
                self._overview.book(await self._state(), rest)
            for writer in writers:
                writer.close()
        except BaseException:
            for writer in writers:
                writer.abandon()
            raise
        unread = [Counter(unreadable=cut.unread)] if source_first and cut.unread else [Counter[str]()] * source_first
        for place, (node, writer, missed) in enumerate(zip(unit, writers, [*unread, *lost], strict=True)):
            before = writers[place - 1].kept.count if place else writer.total if source_first else cut.taken
            self.finish(node, before, writer, begun, cpu=cpu, lost=missed)

    async def _merged(
        self, unit: Sequence[Node], cut: _Cut, merges: Sequence[Merge], lost: Sequence[Counter[str]]
    ) -> float:
        """Have every shard done and bring them together in their order; returns the processor seconds they took."""
        job = self._job_of(unit)
        work = job.work("chains")
        tasks: dict[str, asyncio.Task[Manifest]] = {}
        order: asyncio.Queue[Shard | None] = asyncio.Queue()
        seconds = 0.0

        async def submit() -> None:
            async for shard in cut.shards(self._store):
                if shard.input not in tasks:
                    tasks[shard.input] = asyncio.create_task(self._one_shard(job, work, shard, unit))
                order.put_nowait(shard)
            order.put_nowait(None)

        submitting = asyncio.create_task(submit())
        try:
            while (shard := await _first(order.get(), submitting, *tasks.values())) is not None:
                manifest = await _first(asyncio.shield(tasks[shard.input]), submitting, *tasks.values())
                seconds += manifest.seconds
                await in_thread(lambda m=manifest: self._merge(m, merges))  # type: ignore[misc]
                for count, missed in zip(lost, manifest.facts["lost"], strict=True):
                    count.update(missed)
            await submitting
        finally:
            for task in (submitting, *tasks.values()):
                task.cancel()
            await asyncio.gather(submitting, *tasks.values(), return_exceptions=True)
        return seconds

    async def _one_shard(self, job: Job, work: Work, shard: Shard, unit: Sequence[Node]) -> Manifest:
        found = await in_thread(lambda: work.committed(shard.input))
        if found is not None and not (self.retry_dropped and found.lost):
            self._overview.reused(unit, found, shard.rows)
            return found
        return await self._do(run_chain, job.on(shard), self._call)

    def _merge(self, manifest: Manifest, merges: Sequence[Merge]) -> None:
        for name, merge in zip(manifest.files, merges, strict=True):
            merge.add_table(read_table(self._store, name))

    # -- whole tables ----------------------------------------------------------------------------------------------

    async def whole(self, node: Node) -> None:
        """Run a step that sees all rows at once: in buckets where it says what must be seen together, else as one task."""
        begun, cpu = time.monotonic(), time.process_time()
        self.begin(node)
        cut = _Cut(self, node.step, None)
        shards = [shard async for shard in cut.shards(self._store)]
        assert isinstance(node.step, Whole)
        done = await self._in_buckets(node, shards) if parts(node.step) and len(shards) > 1 else None
        files = [name for manifest in done or () for name in manifest.files]
        if done is None:
            whole = await self._gather(node, [(shard.name, shard.begin, -1) for shard in shards])
            done, files = [whole], list(whole.files)
            tables: Iterator[Any] = (read_table(self._store, name) for name in files)
        else:
            tables = in_order(self._store, files)
        merge = Merge(node.folder.path)
        try:
            await in_thread(lambda: merge.add_all(tables))
            merge.close()
        except BaseException:
            merge.abandon()
            raise
        self.finish(node, cut.taken, merge, begun, cpu=cpu - sum(manifest.seconds for manifest in done))
        await self._publish([node])

    async def _in_buckets(self, node: Node, shards: Sequence[Shard]) -> list[Manifest] | None:
        """Return the manifests of all buckets, or None if the step can not be done so."""
        buckets = min(len(shards), MOST_BUCKETS)
        job = self._job_of([node], buckets=buckets)
        once = {shard.input: shard for shard in shards}
        scattered = dict(
            zip(once, await self._all(self._do(run_scatter, job.on(s)) for s in once.values()), strict=True)
        )
        laid = [(shard, scattered[shard.input]) for shard in shards]
        used = sorted({bucket for _, manifest in laid for bucket in manifest.facts["buckets"]})
        done = await self._all(self._gather(node, pieces(laid, bucket)) for bucket in used)
        return done if all(manifest.facts["ordered"] for manifest in done) else None

    async def _gather(self, node: Node, of: Sequence[Piece]) -> Manifest:
        name = digest([list(piece) for piece in of])
        return await self._do(run_gather, self._job_of([node]).part(name, of))

    async def _all(self, work: Iterable[Any]) -> list[Any]:
        tasks = [asyncio.ensure_future(each) for each in work]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # -- artefacts -------------------------------------------------------------------------------------------------

    async def _barrier(self, node: Node) -> None:
        await super()._barrier(node)
        if not isinstance(node.step, Whole):
            await self._publish([node])

    # -- shared ----------------------------------------------------------------------------------------------------

    async def _do(self, function: Any, job: Job, *args: Any) -> Manifest:
        """Do a piece of work on the cluster; ends with a sentence when the till is gone."""
        assert self._beats is not None
        doing = asyncio.ensure_future(self._cluster.do(function, job, *args))
        try:
            await asyncio.wait({doing, self._beats}, return_when=asyncio.FIRST_COMPLETED)
            if not doing.done():
                self._beats.result()
            outcome = doing.result()
        finally:
            doing.cancel()
        if outcome.get("halted"):
            await asyncio.get_running_loop().create_future()  # for ever: the run is stopping, and will cancel this
        manifest: Manifest = outcome["manifest"]
        return manifest

    async def _state(self) -> State:
        state: State = await self._client.ask("see")
        return state

    def _job_of(self, unit: Sequence[Node], **more: Any) -> Job:
        needed = {name for node in unit for name in node.step.needs()}
        return Job(
            store=self._store.address,
            step=unit_print(unit, **more),
            steps=[Spec.of(node.step) for node in unit],
            place=Place.here(),
            run=self.folder.run,
            capped=self.ledger.cap is not None,
            tolerate=self.tolerate or 0.0,
            window=max((self._window(node.step) for node in unit if isinstance(node.step, Each)), default=0),
            retry_dropped=self.retry_dropped,
            students={name: self._student_at(name) for name in needed},
            buckets=more.get("buckets", 1),
        )

    def _student_at(self, name: str) -> str:
        folder = self.artefact(name).absolute() / "student"
        return f"{self._remote.address}/{folder.parent.name}/student" if self._remote is not None else str(folder)

    def _shards_at(self) -> Store:
        if self._remote is not None:
            return open_store(f"{self._remote.address}/{FOLDER.removeprefix('.')}")
        return open_store(self.folder.path.absolute() / FOLDER)

    async def _publish(self, done: Sequence[Node]) -> None:
        """Bring finished steps to the run's address, if it has one."""
        remote, root = self._remote, self.folder.path
        if remote is None:
            return

        def go() -> None:
            for node in done:
                mark = f"{node.folder.path.name}/done"
                if not remote.exists(mark) or remote.read(mark) != (root / mark).read_bytes():
                    push(remote, root, files_of(root, node.folder.path))
            push(remote, root, ["recipe.json", "env.json", "ledger.jsonl"])

        await in_thread(go)


class _Cut:
    """Cuts the rows that come into a step into shards, in a thread: sources may take their time."""

    def __init__(self, run: RayRun, step: Any, source: RowWriter | None) -> None:
        self.taken = self.unread = 0
        self._rows = run.rows_of(step)
        self._size, self._source = run._shard_rows, source

    async def shards(self, store: Store) -> AsyncIterator[Shard]:
        """Yield the shards, each as soon as it is stored."""
        begin = 0
        while (shard := await in_thread(lambda at=begin: self._next(store, at))) is not None:  # type: ignore[misc]
            begin += shard.rows
            yield shard

    def _next(self, store: Store, begin: int) -> Shard | None:
        rows = list(islice(self._kept(), self._size))
        return put_input(store, to_table(rows), begin) if rows else None

    def _kept(self) -> Iterator[Row]:
        for row in self._rows:
            if self._source is not None:
                self._source.add(row)
            if row.dropped is None:
                self.taken += 1
                yield row
            else:
                self.unread += 1


async def _first(wanted: Any, *others: asyncio.Task[Any]) -> Any:
    """Wait for one thing; raise at once what any other has failed with."""
    own = asyncio.ensure_future(wanted)
    try:
        while not own.done():
            waiting = {own, *(task for task in others if not task.done())}
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {own}:
                task.result()
        return own.result()
    finally:
        own.cancel()
