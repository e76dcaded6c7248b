"""What runs on the machines of the cluster: one shard of a chain, one shard or one bucket of a `whole` step.

    outcome = run_chain(job)        {"manifest": Manifest(...)}, {"error": ["EndpointError", "…"]} or {"halted": true}

These are ordinary functions over a store; `engine.ray` makes tasks of them. Ray runs a task again when its machine dies,
so each may run twice, even at the same time: it first looks for a manifest, writes only to files of its own attempt, and buys
nothing that a log holds. Errors come back as words, since those that Ray passes on are of its own kinds.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from limbeck.core.errors import LimbeckError, StepError
from limbeck.core.find import find_step
from limbeck.core.fingerprint import digest
from limbeck.core.row import Row, from_table, to_table
from limbeck.core.step import Each, Step, Whole
from limbeck.engine.cluster.buckets import Piece, gather, scatter
from limbeck.engine.cluster.client import Client, Halted
from limbeck.engine.cluster.lease import LeaseLedger
from limbeck.engine.cluster.log import ShardLog
from limbeck.engine.cluster.mirror import fetched
from limbeck.engine.cluster.shards import Shard, Work, new_attempt, read_table
from limbeck.engine.cluster.store import Folder, open_store
from limbeck.engine.cluster.till import Call, TillLost
from limbeck.engine.rundir import disk_at_fault, short_reason, storage_error
from limbeck.engine.stream import Chain

Outcome = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A step, as it is made again on another machine."""

    use: str
    fields: Mapping[str, Any]
    name: str

    @classmethod
    def of(cls, step: Step) -> Spec:
        """Describe a step."""
        return cls(use=step.called(), fields=step.fields(), name=step.name)

    def step(self) -> Any:
        """Make the step."""
        return find_step(self.use)(**self.fields, name=self.name)


SETTINGS = ("LIMBECK_TIMEOUT", "LIMBECK_PATIENCE", "LIMBECK_BATCH_POLL")
"""What a task takes over from the driver's environment; never a key: each machine has its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The driver's surroundings, as far as they change what a step does."""

    cwd: str
    """The folder in which the run was started; relative paths in the options of steps start there."""
    settings: Mapping[str, str]
    prices: tuple[str, str] | None
    """The user's own table of prices: the file's ending and its text."""

    @classmethod
    def here(cls) -> Place:
        """Describe the surroundings of this process."""
        own = os.environ.get("LIMBECK_PRICES")
        prices = (Path(own).suffix, Path(own).read_text(encoding="utf-8")) if own else None
        return cls(cwd=str(Path.cwd()), settings={k: os.environ[k] for k in SETTINGS if k in os.environ}, prices=prices)

    def enter(self) -> None:
        """Make this process's surroundings alike; it may have served another run before."""
        if Path(self.cwd).is_dir():
            os.chdir(self.cwd)
        for name in SETTINGS:
            os.environ.pop(name, None)
        os.environ.update(self.settings)
        os.environ["LIMBECK_PRICES"] = self._prices()

    def _prices(self) -> str:
        if self.prices is None:
            return ""
        suffix, text = self.prices
        # named after its content: prices are remembered by the name of their file
        path = Path(tempfile.gettempdir()) / f"limbeck-prices-{digest(text, 8)}{suffix}"
        if not path.exists():
            path.write_text(text, encoding="utf-8")
        return str(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a task is told."""

    store: str
    """The address of the shards."""
    step: str
    """The fingerprint of the unit of work."""
    steps: Sequence[Spec]
    place: Place
    """The driver's surroundings."""
    shard: Shard | None = None
    run: str = ""
    capped: bool = False
    tolerate: float = 0.0
    window: int = 0
    """How many rows the steps' teachers want under way; 0 where they have no wish."""
    retry_dropped: bool = False
    """Whether a shard that lost rows is done again."""
    students: Mapping[str, str] = field(default_factory=dict)
    """Where the weights lie that steps of this run have made, by name."""
    name: str = ""
    pieces: Sequence[Piece] = ()
    buckets: int = 1

    def on(self, shard: Shard) -> Job:
        """Return the job for a shard."""
        return replace(self, shard=shard)

    def part(self, name: str, pieces: Sequence[Piece]) -> Job:
        """Return the job for a bucket."""
        return replace(self, name=name, pieces=pieces)

    def work(self, kind: str) -> Work:
        """Return the place of the manifests."""
        return Work(open_store(self.store), kind, self.step)


def run_chain(job: Job, call: Call) -> Outcome:
    """Run one shard through a chain of streaming steps."""
    return _guarded(job, lambda: _chain(job, call))


def run_scatter(job: Job) -> Outcome:
    """Sort one shard into buckets."""
    assert job.shard is not None
    shard, work = job.shard, job.work("buckets")

    def go() -> Outcome:
        found = work.committed(shard.input)
        step = job.steps[0].step()
        assert isinstance(step, Whole)
        return {"manifest": found or scatter(work.store, work, shard, step, job.buckets, new_attempt())}

    return _guarded(job, go)


def run_gather(job: Job) -> Outcome:
    """Do a `whole` step on one bucket, or on everything."""
    work = job.work("wholes")

    def go() -> Outcome:
        found = work.committed(job.name)
        step = job.steps[0].step()
        assert isinstance(step, Whole)
        return {"manifest": found or gather(work.store, work, job.name, job.pieces, step, new_attempt())}

    return _guarded(job, go)


def _guarded(job: Job, go: Callable[[], Outcome]) -> Outcome:
    """Do the work; an error is an outcome, in the words that the local backend would use."""
    try:
        job.place.enter()
        return go()
    except Halted:
        return {"halted": True}
    except TillLost:
        # a machine that is cut off must not speak for its shard: as a dead process, it is done again elsewhere; and if it
        # is the till that has died, the driver knows it by itself
        os._exit(1)
    except LimbeckError as error:
        return {"error": [type(error).__name__, str(error)]}
    except Exception as error:  # noqa: BLE001 - said in words
        if disk_at_fault(error):
            return {"error": ["StorageError", str(storage_error(Path(job.store), error))]}
        step = job.steps[0]
        told = f"Step '{step.name}' ({step.use}) failed: {type(error).__name__}: {error}"
        return {"error": [StepError.__name__, told]}


def _chain(job: Job, call: Call) -> Outcome:
    assert job.shard is not None
    work, shard = job.work("chains"), job.shard
    found = work.look(shard.input)
    again = found is not None and job.retry_dropped and found.lost
    if found is not None and not again and all(work.store.exists(name) for name in found.files):
        return {"manifest": found}
    attempt, cpu = new_attempt(), time.process_time()
    steps = [spec.step() for spec in job.steps]
    rows = from_table(read_table(work.store, shard.name))
    out, lost = asyncio.run(_stream(job, steps, rows, call, attempt))
    tables = [_table(step, made) for step, made in zip(steps, out, strict=True)]
    used = time.process_time() - cpu
    reasons = [Counter(short_reason(row.dropped) for row in made if row.dropped is not None) for made in out]
    facts = {"lost": [dict(each) for each in lost], "reasons": [dict(each) for each in reasons]}
    return {"manifest": work.commit(shard.input, tables, attempt, used, **facts)}


async def _stream(
    job: Job, steps: Sequence[Each], rows: Sequence[Row], call: Call, attempt: str
) -> tuple[list[list[Row]], list[Counter[str]]]:
    assert job.shard is not None
    store = open_store(job.store)
    if isinstance(
        store, Folder
    ):  # the journal of a batch teacher lies beside the cache: on the disk that all machines see
        os.environ["LIMBECK_CACHE"] = str(store.path / "journal" / job.shard.input / "calls.sqlite")
    names, out = [spec.name for spec in job.steps], [list[Row]() for _ in steps]
    shard = f"{job.step}/{job.shard.input}"
    log = ShardLog(store, job.shard.input, attempt)
    try:
        client = Client(call, f"{shard}/{attempt}", shard, LeaseLedger(capped=job.capped), log)
        answerer = client.answerer(_students(job), run=job.run, tolerate=job.tolerate)
        async with client:
            chain = Chain(steps, names, answerer.answer, window=job.window)

            def emit(index: int, made: Sequence[Row]) -> None:
                out[index].extend(made)
                client.steps.done[names[index]] += len(made)
                client.steps.through[names[0]] = chain.through
                for row in made:
                    if row.dropped is not None:
                        client.steps.dropped[names[index]] += 1
                        client.steps.reasons.setdefault(names[index], Counter())[short_reason(row.dropped)] += 1

            try:
                await client.during(chain.run(rows, emit))
            finally:
                await answerer.close()
                await log.flush()
            return out, chain.lost
    finally:
        log.close()


def _students(job: Job) -> Callable[[str], Path]:
    def folder(name: str) -> Path:
        return fetched(job.students[name.removeprefix("step:")])

    return folder


def _table(step: Step, rows: Sequence[Row]) -> Any:
    try:
        return to_table(rows)
    except (TypeError, ValueError):
        for row in rows:
            try:
                to_table([row])
            except (TypeError, ValueError) as error:
                raise StepError(
                    f"{step.name}: row {row.id} can not be stored: {error}. What a step writes into "
                    "task and extra must be JSON: text, finite numbers, lists, dictionaries."
                ) from error
        raise
