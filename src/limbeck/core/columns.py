"""Arrow columns out of Python values, built buffer by buffer.

    text(["a", None, "bc"])                      a string column: offsets 0 1 1 3, data "abc", the second one null
    lists([["a"], []], text)                     a list column: offsets 0 1 1 over the column of all items

`pyarrow.array` would do the same, but it asks whether its argument is a pandas Series, and to ask that it imports pandas:
a quarter of a second and forty megabytes in every run of whoever has pandas installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

Column = Callable[[Sequence[Any]], "pa.Array"]


def text(values: Sequence[str | None]) -> pa.Array:
    """Return a string column. Raises UnicodeEncodeError for what is no Unicode, TypeError for what is no text."""
    import pyarrow as pa

    data = [b"" if value is None else str.encode(value) for value in values]
    buffers = [_validity(values), _offsets(map(len, data), len(data)), pa.py_buffer(b"".join(data))]
    return pa.Array.from_buffers(pa.string(), len(values), buffers)


def integers(values: Sequence[int]) -> pa.Array:
    """Return a column of 64-bit integers."""
    import pyarrow as pa

    return pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(np.array(values, np.int64))])


def numbers(values: Sequence[float | None]) -> pa.Array:
    """Return a column of 64-bit floats."""
    import pyarrow as pa

    plain = np.array([0.0 if value is None else value for value in values], np.float64)
    return pa.Array.from_buffers(pa.float64(), len(values), [_validity(values), pa.py_buffer(plain)])


def truths(values: Sequence[bool]) -> pa.Array:
    """Return a column of booleans."""
    import pyarrow as pa

    return pa.Array.from_buffers(pa.bool_(), len(values), [None, _bits(values)])


def lists(values: Sequence[Sequence[Any]], items: Column) -> pa.Array:
    """Return a list column over the column that `items` makes of all items."""
    import pyarrow as pa

    child = items(list(chain.from_iterable(values)))
    buffers = [None, _offsets(map(len, values), len(values))]
    return pa.Array.from_buffers(pa.list_(child.type), len(values), buffers, children=[child])


def maps(values: Sequence[Sequence[tuple[str, Any]]], items: Column) -> pa.Array:
    """Return a map column of text to what `items` makes; the pairs stay in their order."""
    import pyarrow as pa

    pairs = list(chain.from_iterable(values))
    offsets = pa.Array.from_buffers(pa.int32(), len(values) + 1, [None, _offsets(map(len, values), len(values))])
    return pa.MapArray.from_arrays(offsets, text([key for key, _ in pairs]), items([value for _, value in pairs]))


def structs(fields: dict[str, pa.Array]) -> pa.Array:
    """Return a struct column of columns of one length."""
    import pyarrow as pa

    return pa.StructArray.from_arrays(list(fields.values()), list(fields))


def _offsets(lengths: Iterable[int], count: int) -> pa.Buffer:
    import pyarrow as pa

    ends = np.zeros(count + 1, np.int64)
    np.cumsum(np.fromiter(lengths, np.int64, count), out=ends[1:])
    if ends[-1] >= 2**31:
        raise OverflowError("More than two gigabytes of text in one batch of rows.")
    return pa.py_buffer(ends.astype(np.int32))


def _validity(values: Sequence[Any]) -> pa.Buffer | None:
    return _bits([value is not None for value in values]) if None in values else None


def _bits(values: Sequence[bool]) -> pa.Buffer:
    import pyarrow as pa

    return pa.py_buffer(np.packbits(np.array(values, bool), bitorder="little"))
