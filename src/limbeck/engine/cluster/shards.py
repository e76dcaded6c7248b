"""Shards: a step's work cut into pieces that many machines do, each committed by a manifest that is written last.

    .shards/  input/51bc….parquet                         1,000 rows that go into a chain of steps, named by their hash
              chains/9f3a…/51bc….4be2….0.parquet          what its first step made of them, in attempt 4be2…
              chains/9f3a…/51bc….4be2….1.parquet          what its second step made of that
              chains/9f3a…/51bc….json                     the manifest: {"input": "51bc…", "step": "9f3a…", "rows": […], …}
              log/51bc…/4be2….jsonl                       the answers that were paid for while doing it

A shard is found again by what went into it and by what was done (the fingerprint of the steps, without their names): after
a change only the shards that are missing or different are done again. Two attempts at one shard never write to the same
file, and the manifest names the files of the attempt that came first to its end.

How rows are cut depends on the rows alone, never on the cluster: `rows` to a shard, in their order.
"""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from limbeck.core.errors import StorageError
from limbeck.core.fingerprint import digest
from limbeck.engine.cluster.store import Store
from limbeck.engine.plan import applied
from limbeck.engine.rundir import BATCH

if TYPE_CHECKING:
    import pyarrow as pa

    from limbeck.engine.plan import Node

FOLDER = ".shards"
ROWS = 1000


@dataclass(frozen=True, slots=True)
class Shard:
    """One piece of the rows that go into a unit of work: its hash, how many rows, and the place of the first of them."""

    input: str
    rows: int
    begin: int

    @property
    def name(self) -> str:
        """The file of its rows."""
        return f"input/{self.input}.parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What says that a piece of work is done: written last, after all of its files."""

    input: str
    step: str
    attempt: str
    rows: Sequence[int]
    """Rows in each of the files."""
    files: Sequence[str]
    seconds: float = 0.0
    """Processor seconds that the attempt took."""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def lost(self) -> int:
        """How many rows were refused, failed or given up."""
        return sum(sum(counts.values()) for counts in self.facts.get("lost", ()))

    def to_json(self) -> bytes:
        """Return the manifest as it is stored."""
        return json.dumps({name: getattr(self, name) for name in _FIELDS}, indent=1).encode()


_FIELDS = ("input", "step", "attempt", "rows", "files", "seconds", "facts")


def unit_print(nodes: Sequence[Node], **more: Any) -> str:
    """Return what names the work of a unit: its steps' fields and code, their models, and `more` that decides the rows.

    What the steps read is no part of it; that is in the hash of the shard's input. So when a source grows at its end, the
    shards before are found again.
    """
    prints = [
        [n.step.fingerprint(), n.models, applied(n.step), {name: n.inputs[name] for name in n.step.needs()}]
        for n in nodes
    ]
    return digest([prints, more])


def new_attempt() -> str:
    """Return a name for an attempt that no other attempt has."""
    return uuid.uuid4().hex[:12]


def put_input(store: Store, table: pa.Table, begin: int) -> Shard:
    """Write rows as an input shard, unless the same rows are there already."""
    data = parquet(table)
    shard = Shard(blake2b(data, digest_size=16).hexdigest(), len(table), begin)
    if not store.exists(shard.name):
        store.write(shard.name, data)
    return shard


def parquet(table: pa.Table, row_groups: Sequence[int] = ()) -> bytes:
    """Return a table as a Parquet file: row groups of the usual size, or of the sizes given."""
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    with pq.ParquetWriter(sink, table.schema, compression="zstd") as writer:
        begin = 0
        for size in row_groups or [BATCH] * -(-len(table) // BATCH):
            writer.write_table(table.slice(begin, size))
            begin += size
    return sink.getvalue()


def read_table(store: Store, name: str) -> pa.Table:
    """Return the rows of a shard's file. Raises StorageError if it is gone or damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with store.open(name) as file:
            return pq.read_table(file)
    except (FileNotFoundError, pa.ArrowInvalid) as error:
        raise missing(store, name, error) from None


def missing(store: Store, name: str, error: Exception) -> StorageError:
    """Return the sentence for a shard's file that can not be read."""
    why = "is gone" if isinstance(error, FileNotFoundError) else f"is damaged ({str(error).splitlines()[0]})"
    return StorageError(
        f"The shard {store.address}/{name} {why}. Delete the manifest beside it (the .json of the same number) and run the "
        "same command again: the shard is made anew, from the answers in its log."
    )


class Work:
    """What is done of one unit: the manifests under its fingerprint."""

    def __init__(self, store: Store, kind: str, step: str) -> None:
        self.store, self.step = store, step
        self.folder = f"{kind}/{step}"
        self._there: set[str] | None = None

    def committed(self, name: str) -> Manifest | None:
        """Return the manifest of a piece of work, if it is there with all of its files."""
        if self._there is None:  # one listing for all shards
            self._there = set(self.store.names(self.folder))
        if self._manifest(name) not in self._there:
            return None
        manifest = self.look(name)
        return manifest if manifest is not None and self._there.issuperset(manifest.files) else None

    def look(self, name: str) -> Manifest | None:
        """Return the manifest of a piece of work as it is now, without looking for its files."""
        try:
            found = json.loads(self.store.read(self._manifest(name)))
            return Manifest(**{key: found[key] for key in _FIELDS})
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):  # half written by a machine without rename: not committed
            return None

    def commit(
        self, name: str, tables: Sequence[pa.Table], attempt: str, seconds: float = 0.0, **facts: Any
    ) -> Manifest:
        """Write the files of an attempt, and then the manifest that makes them count."""
        files = []
        for index, table in enumerate(tables):
            files.append(f"{self.folder}/{name}.{attempt}.{index}.parquet")
            self.store.write(files[-1], parquet(table, facts.get("row_groups", ())))
        manifest = Manifest(
            input=name,
            step=self.step,
            attempt=attempt,
            rows=[len(table) for table in tables],
            files=files,
            seconds=round(seconds, 3),
            facts=facts,
        )
        self.store.write(self._manifest(name), manifest.to_json())
        return manifest

    def _manifest(self, name: str) -> str:
        return f"{self.folder}/{name}.json"


def tables(store: Store, names: Sequence[str]) -> Iterator[pa.Table]:
    """Yield the tables of several files, one after the other."""
    for name in names:
        yield read_table(store, name)
