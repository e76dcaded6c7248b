"""Columns built by buffers hold what pyarrow's own would, and pandas stays where it is."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.core.columns import integers, lists, maps, numbers, structs, text, truths

WORDS = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
NUMBERS = st.floats(allow_nan=False)


def same(ours: pa.Array, values: Any, kind: pa.DataType) -> None:
    ours.validate(full=True)
    assert ours.cast(kind).equals(pa.array(values, kind))


@settings(deadline=None)
@given(st.lists(st.none() | WORDS), st.lists(st.none() | NUMBERS), st.lists(st.booleans()))
def test_plain_columns(words: list[str | None], values: list[float | None], flags: list[bool]) -> None:
    same(text(words), words, pa.string())
    same(numbers(values), values, pa.float64())
    same(truths(flags), flags, pa.bool_())


@settings(deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1)), st.lists(st.lists(WORDS, max_size=3)))
def test_integers_and_lists(values: list[int], words: list[list[str]]) -> None:
    same(integers(values), values, pa.int64())
    same(lists(words, text), words, pa.list_(pa.string()))


@settings(deadline=None)
@given(st.lists(st.dictionaries(WORDS, NUMBERS, max_size=3)))
def test_maps(values: list[dict[str, float]]) -> None:
    pairs = [list(v.items()) for v in values]
    same(maps(pairs, numbers), pairs, pa.map_(pa.string(), pa.float64()))


def test_structs_and_what_is_no_text() -> None:
    made = structs({"a": text(["x", None]), "b": integers([1, 2])})
    assert made.to_pylist() == [{"a": "x", "b": 1}, {"a": None, "b": 2}]
    with pytest.raises(TypeError):
        text([1])  # type: ignore[list-item]
    with pytest.raises(UnicodeEncodeError):
        text(["\ud83d"])


def test_writing_rows_does_not_import_pandas() -> None:
    code = (
        "import sys; from limbeck.core.row import Message, new_row, to_table\n"
        "rows = [new_row(messages=[Message(role='user', content='q')], made_by={'n': n}) for n in range(3)]\n"
        "table = to_table(rows); table.to_pylist(); sys.exit('pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
