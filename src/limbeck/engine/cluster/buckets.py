"""A `whole` step in buckets: rows that must be seen together meet in one bucket, and each bucket is done by itself.

    scatter    51bc….parquet      one input shard, its rows sorted by bucket, one row group for each; with their places
    gather     bucket 3 of all    the step over those rows; every row that comes out knows the place it belongs to

The bucket of a row is the hash of the step's `key` of it. What comes out of a bucket is in the order that its rows had;
rows that the step adds follow the row they come after. Steps that put rows into another order can not be done so, and
`gather` says it (`ordered: false`): they are then done in one piece, as are those with one key for all rows.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from limbeck.core.row import from_table, schema
from limbeck.core.step import Whole
from limbeck.engine.cluster.merge import PLACE
from limbeck.engine.cluster.shards import Manifest, Shard, Work, missing, read_table
from limbeck.engine.cluster.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

MOST_BUCKETS = 64

Piece = tuple[str, int, int]
"""A scattered file, the place of its first row, and the number of the row group to take; -1 for a whole input shard."""


def parts(step: Whole) -> bool:
    """Whether the step says what must be seen together, so that the rest can be done apart."""
    return type(step).key is not Whole.key


def bucket_of(key: str, buckets: int) -> int:
    """Return the bucket of a key: the same on every machine, whatever its hash seed."""
    return int.from_bytes(blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") % buckets


def scatter(store: Store, work: Work, shard: Shard, step: Whole, buckets: int, attempt: str) -> Manifest:
    """Sort an input shard by bucket, one row group for each bucket that has rows."""
    import numpy as np
    import pyarrow as pa

    table = read_table(store, shard.name)
    homes = np.array([bucket_of(step.key(row), buckets) for row in from_table(table)], dtype=np.int64)
    order = np.argsort(homes, kind="stable")
    sizes = Counter(homes.tolist())
    found = sorted(sizes)
    sorted_ = table.take(pa.array(order)).append_column(PLACE[0], pa.array(order, pa.int64()))
    return work.commit(shard.input, [sorted_], attempt, buckets=found, row_groups=[sizes[b] for b in found])


def pieces(manifests: Sequence[tuple[Shard, Manifest]], bucket: int) -> list[Piece]:
    """Return where the rows of a bucket lie."""
    return [
        (manifest.files[0], shard.begin, manifest.facts["buckets"].index(bucket))
        for shard, manifest in manifests
        if bucket in manifest.facts["buckets"]
    ]


def gather(store: Store, work: Work, name: str, of: Sequence[Piece], step: Whole, attempt: str) -> Manifest:
    """Do the step on a bucket, or on everything, and commit what comes out."""
    import pyarrow as pa

    table = pa.concat_tables([_piece(store, piece) for piece in of]) if of else schema().empty_table()
    if not of or of[0][2] < 0:
        return work.commit(name, [step.table(table)], attempt)
    before, places = table.drop_columns([PLACE[0]]), table[PLACE[0]].to_pylist()
    after = step.table(before)
    found = positions(before["id"].to_pylist(), places, after["id"].to_pylist())
    if found is None:
        return work.commit(name, [], attempt, ordered=False)
    for index, column in enumerate(PLACE):
        after = after.append_column(column, pa.array([place[index] for place in found], pa.int64()))
    return work.commit(name, [after], attempt, ordered=True)


def positions(before: Sequence[str], places: Sequence[int], after: Sequence[str]) -> list[tuple[int, int]] | None:
    """Return the place and the turn of each row that came out, or None if they are not in the order of the rows before.

    >>> positions(["a", "b", "c"], [4, 7, 9], ["a", "b", "b2", "c"])
    [(4, 0), (7, 0), (7, 1), (9, 0)]
    >>> positions(["a", "b"], [4, 7], ["b", "a"]) is None
    True
    """
    ahead: dict[str, deque[int]] = {}
    for index, name in enumerate(before):
        ahead.setdefault(name, deque()).append(index)
    found: list[tuple[int, int]] = []
    last, turn = -1, 0
    for name in after:
        own = ahead.get(name)
        if own is None:
            if last < 0:
                return None  # nothing to follow
            turn += 1
        else:
            while own and own[0] <= last:
                own.popleft()
            if not own:
                return None
            last, turn = own.popleft(), 0
        found.append((places[last], turn))
    return found


def _piece(store: Store, piece: Piece) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    name, begin, group = piece
    if group < 0:
        return read_table(store, name)
    try:
        with store.open(name) as file, pq.ParquetFile(file) as parquet:
            table: Any = parquet.read_row_group(group)
    except (FileNotFoundError, pa.ArrowInvalid) as error:
        raise missing(store, name, error) from None
    index = table.schema.get_field_index(PLACE[0])
    return table.set_column(index, PLACE[0], pc.add(table[PLACE[0]], begin))
