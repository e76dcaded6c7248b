"""Bringing shards together: the very files that the local backend writes, row group for row group.

    merged = Merge(folder)                      NN-step/kept.parquet and dropped.parquet
    for table in tables(store, names):          shards in the order of the source
        merged.add(table)
    merged.close()

What a `whole` step did in buckets comes back in the order its rows had: every row carries its `place`, each bucket is in
order, and `in_order` merges the buckets while it reads them. Rows stay in Arrow all the way.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from limbeck.core.row import schema
from limbeck.engine.cluster.shards import missing
from limbeck.engine.cluster.store import Store
from limbeck.engine.rundir import BATCH, RowWriter, short_reason, storing

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

PLACE = ("place", "turn")
"""A row's place among all rows that came in, and its turn among those that stem from the same one."""


class Merge(RowWriter):
    """Writes a step's two files from tables instead of rows, and counts the reasons."""

    kept: _File  # type: ignore[assignment]
    dropped: _File  # type: ignore[assignment]

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kept, self.dropped = _File(folder / "kept.parquet"), _File(folder / "dropped.parquet")
        self.reasons = Counter()

    def add_all(self, tables: Iterable[pa.Table]) -> None:
        """Write tables, one after the other."""
        for table in tables:
            self.add_table(table)

    def add_table(self, table: pa.Table) -> None:
        """Write the next rows, each to the file it belongs to."""
        import pyarrow.compute as pc

        kept = pc.is_null(table["dropped"])
        self.kept.add(table.filter(kept))
        dropped = table.filter(pc.invert(kept))
        self.dropped.add(dropped)
        for reason in dropped["dropped"].to_pylist():
            self.reasons[short_reason(reason)] += 1


class _File:
    """One Parquet file, in row groups of the usual size."""

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self.path, self.count = path, 0
        self._temporary = path.with_name(path.name + ".tmp")
        self._waiting: list[pa.Table] = []
        with storing(path):
            self._writer: pq.ParquetWriter = pq.ParquetWriter(self._temporary, schema(), compression="zstd")

    def add(self, table: pa.Table) -> None:
        if not len(table):
            return
        self.count += len(table)
        self._waiting.append(table)
        if sum(map(len, self._waiting)) >= BATCH:
            self._flush(whole_groups_only=True)

    def close(self) -> None:
        self._flush(whole_groups_only=False)
        self._writer.close()
        with self._temporary.open("rb") as file:
            os.fsync(file.fileno())
        self._temporary.replace(self.path)

    def abandon(self) -> None:
        with suppress(OSError):
            self._writer.close()
            self._temporary.unlink(missing_ok=True)

    def _flush(self, *, whole_groups_only: bool) -> None:
        import pyarrow as pa

        if not self._waiting:
            return
        rows = pa.concat_tables(self._waiting)
        end = len(rows) - len(rows) % BATCH if whole_groups_only else len(rows)
        with storing(self.path):
            for begin in range(0, end, BATCH):
                self._writer.write_table(rows.slice(begin, min(BATCH, end - begin)).combine_chunks())
        self._waiting = [rows.slice(end)] if end < len(rows) else []


def in_order(store: Store, names: Sequence[str]) -> Iterator[pa.Table]:
    """Yield the rows of all buckets by place; each bucket's file is in that order already.

    Holds a batch of each bucket in memory, and no more.
    """
    import pyarrow as pa

    buckets = [_Bucket(store, name) for name in names]
    try:
        while buckets:
            for bucket in buckets:
                bucket.fill()
            # nothing that is still to come lies before the last row read of any bucket that has more
            horizon = min((b.last for b in buckets if b.more), default=None)
            ready = pa.concat_tables([bucket.take(horizon) for bucket in buckets])
            if len(ready):
                order = ready.sort_by([(name, "ascending") for name in PLACE])
                yield order.select(schema().names).cast(schema())
            buckets = [bucket for bucket in buckets if bucket.more or len(bucket.rows)]
    finally:
        for bucket in buckets:
            bucket.close()


class _Bucket:
    """A bucket's file, read a batch at a time."""

    def __init__(self, store: Store, name: str) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            self._file: BinaryIO = store.open(name)
            parquet = pq.ParquetFile(self._file)
        except (FileNotFoundError, pa.ArrowInvalid) as error:
            raise missing(store, name, error) from None
        self._batches: Iterator[Any] = parquet.iter_batches(batch_size=BATCH)
        self.rows: pa.Table = parquet.schema_arrow.empty_table()
        self.more = True

    @property
    def last(self) -> int:
        """The place of the last row read."""
        return int(self.rows[PLACE[0]][-1].as_py())

    def fill(self) -> None:
        """Read the next batch if all that was read is taken."""
        import pyarrow as pa

        while self.more and not len(self.rows):
            batch = next(self._batches, None)
            if batch is None:
                self.close()
            else:
                self.rows = pa.Table.from_batches([batch])

    def take(self, horizon: int | None) -> pa.Table:
        """Take the rows up to a place; all if it is None."""
        import numpy as np

        places = self.rows[PLACE[0]].to_numpy()
        count = len(places) if horizon is None else int(np.searchsorted(places, horizon, side="right"))
        taken, self.rows = self.rows.slice(0, count), self.rows.slice(count)
        return taken

    def close(self) -> None:
        """Let go of the file."""
        self.more = False
        self._file.close()
