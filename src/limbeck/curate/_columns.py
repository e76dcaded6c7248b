"""Rows that stay in their Arrow table: texts read where they lie, and verdicts written into four columns.

    messages.content   "Tom has 12 apples ...Answer: 9" ...   one buffer of UTF-8; text t is a run of pieces of it
    dropped, labels, extra                                     rebuilt; all other columns are passed on as they are

A table of a million rows is a few gigabytes as `Row` objects and half a gigabyte so.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from limbeck.core.fingerprint import canonical
from limbeck.core.row import from_table
from limbeck.curate._keep import Keep, Part, texts
from limbeck.curate._near import Lists, Pieces

if TYPE_CHECKING:
    import pyarrow as pa


class Columns:
    """The texts of a table: rows that are dropped already have none."""

    def __init__(self, table: pa.Table, part: Part) -> None:
        self._part = part
        self._batches = [_Batch(batch, part) for batch in table.to_batches()]
        self._ends = np.cumsum([batch.sizes.size for batch in self._batches], dtype=np.int64)

    def sizes(self) -> NDArray[np.int64]:
        """Return the bytes of every text."""
        return np.concatenate([np.zeros(0, dtype=np.int64), *(batch.sizes for batch in self._batches)])

    def pieces(self, first: int, last: int) -> Pieces:
        """Return texts `first` to `last`; copied only where they reach from one batch into the next."""
        found = []
        for batch, end in zip(self._batches, self._ends.tolist(), strict=True):
            begin = end - batch.sizes.size
            if first < end and last > begin:
                found.append(batch.pieces(max(first - begin, 0), min(last, end) - begin))
        return found[0] if len(found) == 1 else _side_by_side(found)


class _Batch:
    """One record batch, with the places of the turns that are compared."""

    def __init__(self, batch: pa.RecordBatch, part: Part) -> None:
        self._batch, self._part = batch, part
        messages = batch.column("messages")
        offsets = np.asarray(messages.offsets).astype(np.int64)
        self._content, calls = (messages.values.field(name) for name in ("content", "tool_calls"))
        self._bounds = np.frombuffer(self._content.buffers()[1] or b"\0\0\0\0", dtype=np.int32)[self._content.offset :]
        self._plain = calls.null_count == len(calls)
        kept = np.asarray(batch.column("dropped").is_null())
        starts, ends = offsets[:-1], np.where(kept, offsets[1:], offsets[:-1])
        roles = messages.values.field("role").to_pylist() if part != "messages" else []
        if roles:
            answered = np.array([e > s and roles[e - 1] == "assistant" for s, e in zip(starts, ends, strict=True)])
            starts, ends = (starts, ends - answered) if part == "prompt" else (ends - answered, ends)
        self._starts, self._ends = starts, ends
        self._kept = kept
        bounds = self._bounds.astype(np.int64) if len(self._content) else np.zeros(1, dtype=np.int64)
        self.sizes: NDArray[np.int64] = bounds[ends] - bounds[starts]

    def pieces(self, first: int, last: int) -> Pieces:
        if not self._plain:  # text of tool calls lies in another buffer, so these rows are read one by one
            rows = from_table(_table(self._batch.slice(first, last - first)))
            return Lists([texts(row, self._part) if row.dropped is None else [] for row in rows]).pieces(0, len(rows))
        starts, ends = self._starts[first:last], self._ends[first:last]
        of = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(ends - starts)])
        turns = np.repeat(starts - of[:-1], ends - starts) + np.arange(of[-1])
        data = np.frombuffer(self._content.buffers()[2] or b"", dtype=np.uint8)
        return Pieces(data, self._bounds[turns].astype(np.int64), self._bounds[turns + 1].astype(np.int64), of)


def worths(table: pa.Table, keep: Keep, score: str) -> NDArray[np.float64]:
    """Return what every row is worth to the policy, as `_keep.worth` does."""
    import pyarrow.compute as pc

    found = np.zeros(table.num_rows)
    if keep == "longest":
        lengths = [
            np.add.reduceat(
                np.append(np.asarray(pc.utf8_length(m.values.field("content"))), 0), np.asarray(m.offsets)[:-1]
            )
            * (np.diff(np.asarray(m.offsets)) > 0)
            for m in table["messages"].chunks
            if len(m)
        ]
        found = np.concatenate([found[:0], *lengths]).astype(np.float64)
    elif keep == "best":
        values = [dict(scores or ()).get(score, math.nan) for scores in table["scores"].to_pylist()]
        found = np.nan_to_num(np.array(values, dtype=np.float64), nan=-math.inf, posinf=math.inf, neginf=-math.inf)
    return np.where(np.asarray(table["sealed"].fill_null(False)), math.inf, found)


def written(table: pa.Table, kept: Sequence[int], similarity: Sequence[float], reason: str) -> pa.Table:
    """Return the table with clusters, reasons and similarities written, as `_keep.settled` does."""
    import pyarrow as pa

    ids, sealed = table["id"].to_pylist(), table["sealed"].to_pylist()
    labels, dropped, extra = (table[name].to_pylist() for name in ("labels", "dropped", "extra"))
    for place, best in enumerate(kept):
        if dropped[place] is not None:
            continue
        labels[place] = sorted({**dict(labels[place] or ()), "cluster": ids[best]}.items())
        if place != best and not sealed[place]:
            dropped[place] = f"{reason} of {ids[best]}"
            more = {**json.loads(extra[place] or "{}"), "similarity": round(similarity[place], 3)}
            extra[place] = canonical(more)
    for name, column in (("labels", labels), ("dropped", dropped), ("extra", extra)):
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(at), pa.array(column, type=table.schema.field(at).type))
    return table


def _table(batch: pa.RecordBatch) -> Any:
    import pyarrow as pa

    return pa.Table.from_batches([batch])


def _side_by_side(parts: Sequence[Pieces]) -> Pieces:
    """Return one of several, only the bytes that are pointed at copied."""
    cut = [(int(p.starts.min()) if p.starts.size else 0, int(p.ends.max()) if p.ends.size else 0) for p in parts]
    bases = np.cumsum([0, *(end - begin for begin, end in cut)])
    shifts = [base - begin for base, (begin, _) in zip(bases.tolist(), cut, strict=False)]
    before = np.cumsum([0, *(p.starts.size for p in parts)])
    return Pieces(
        np.concatenate([np.zeros(0, dtype=np.uint8), *(p.data[a:b] for p, (a, b) in zip(parts, cut, strict=True))]),
        np.concatenate([np.zeros(0, dtype=np.int64), *(p.starts + s for p, s in zip(parts, shifts, strict=True))]),
        np.concatenate([np.zeros(0, dtype=np.int64), *(p.ends + s for p, s in zip(parts, shifts, strict=True))]),
        np.concatenate(
            [np.zeros(1, dtype=np.int64), *(p.of[1:] + n for p, n in zip(parts, before.tolist(), strict=False))]
        ),
    )
