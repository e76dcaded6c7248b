"""The row: whatever text goes in comes out, ids are stable, and the schema on disk never changes unnoticed.

The golden files were written once; `python tests/core/test_core_row.py` writes them anew after a deliberate change.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.core.row import Message, Row, Usage, from_table, new_row, schema, to_table

GOLDEN = Path(__file__).parent / "golden"

any_text = st.text(st.characters(exclude_categories=()), max_size=30)
"""Any code point at all: NUL, lone surrogates, private use, right-to-left marks."""
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=6,
)


def example() -> Row:
    row = new_row(
        messages=[
            Message(role="system", content="Reason step by step."),
            Message(role="user", content="Start with 12. Add 5. Σ→😀\x00"),
            Message(role="assistant", content="12 + 5 = 17.\nAnswer: 17", tool_calls='[{"id": "a"}]', name="bot"),
        ],
        parents=("93ab01cd",),
        group="93ab01cd",
        task={"kind": "math", "reference": "17", "tests": [[1, 2.5], None, True]},
        labels={"verdict": "pass", "family": "chains"},
        usage=Usage(tokens_in=14, tokens_out=11, usd=0.25, seconds=0.5),
        made_by={"step": "generate.sample", "temperature": 0.8, "sample": 3},
        sealed=True,
        extra={"attached": [{"by": "prompts.hint", "text": "Mind the sign."}], "naïve": "ü"},
    )
    return row.with_scores(verified=1.0, math=1.0).drop("select.first: not the first that passes")


def through_parquet(rows: list[Row], folder: Path) -> list[Row]:
    path = folder / "rows.parquet"
    pq.write_table(to_table(rows), path)
    return from_table(pq.read_table(path))


def plain(row: Row) -> dict[str, Any]:
    return json.loads(json.dumps(to_table([row]).to_pylist()[0], default=list))


def test_a_row_survives_parquet_whole(tmp_path: Path) -> None:
    assert through_parquet([example()], tmp_path) == [example()]


@settings(max_examples=150, deadline=None)
@given(
    content=any_text,
    name=any_text | st.none(),
    key=any_text,
    label=any_text,
    value=json_values,
    reason=any_text,
    score=st.floats(allow_nan=False),
    sealed=st.booleans(),
)
def test_any_text_at_all_makes_a_row_that_is_the_same_before_and_after_the_disk(
    content: str, name: str | None, key: str, label: str, value: Any, reason: str, score: float, sealed: bool
) -> None:
    row = new_row(
        messages=[Message(role="user", content=content, name=name, tool_calls=name)],
        made_by={"step": "test", "text": label},
        task={key: value},
        extra={"value": value},
        sealed=sealed,
    )
    row = row.with_labels(label=label).with_scores(score=score).drop(reason)
    back = from_table(to_table([row]))[0]
    assert back.messages == row.messages and back.task == row.task and back.extra == row.extra
    assert back.scores == row.scores and back.sealed is sealed and back.id == row.id and back.dropped is not None
    assert from_table(to_table([back])) == [back]
    child, child_of_back = (
        r.child([*r.messages, Message(role="assistant", content=content)], made_by={"step": "child"})
        for r in (row, back)
    )
    assert child.id == child_of_back.id, "a child made after a restart must have the id it would have had without one"


def test_half_an_emoji_becomes_its_visible_escape_at_the_door() -> None:
    assert Message(role="user", content="cut \ud83d").content == "cut \\ud83d"
    assert Message(role="user", content="whole 😀").content == "whole 😀"


def test_the_id_says_what_the_row_is_and_how_it_was_made() -> None:
    def make(**changes: Any) -> str:
        values: dict[str, Any] = {"messages": [Message(role="user", content="a")], "made_by": {"sample": 0}, **changes}
        return new_row(**values).id

    same = make()
    assert make() == same and make(labels={"a": "b"}) == same and make(usage=Usage(seconds=3)) == same
    others = [
        make(messages=[Message(role="user", content="b")]),
        make(messages=[Message(role="system", content="a")]),
        make(made_by={"sample": 1}),
        make(parents=("x",)),
        make(task={"reference": "1"}),
    ]
    assert len({same, *others}) == 6


def test_a_row_without_a_group_founds_its_own_and_its_children_share_it() -> None:
    prompt = new_row(messages=[Message(role="user", content="a")], made_by={})
    child = prompt.child([*prompt.messages, Message(role="assistant", content="b")], made_by={"sample": 0})
    assert prompt.group == prompt.id == child.group and child.parents == (prompt.id,)


def test_a_child_inherits_task_labels_seal_and_extra_but_no_scores() -> None:
    parent = example()
    child = parent.child(parent.messages, made_by={"x": 1})
    assert (child.task, child.labels, child.sealed, child.extra) == (parent.task, parent.labels, True, parent.extra)
    assert child.scores == {} and child.dropped is None and child.usage == Usage()


def test_what_a_row_says_of_itself() -> None:
    row = example()
    assert row.has_response and row.response.endswith("17") and row.question.startswith("Start")
    assert [m.role for m in row.prompt] == ["system", "user"] and row.reference == "17"
    bare = new_row(messages=[Message(role="user", content="q")], made_by={}, task={"reference": [1, 2]})
    assert not bare.has_response and bare.response == "" and bare.prompt == bare.messages and bare.reference == "[1,2]"
    empty = new_row(messages=[], made_by={})
    assert empty.question == "" and empty.reference is None


def test_the_first_reason_stays() -> None:
    assert example().drop("later: other").dropped == "select.first: not the first that passes"


def test_usages_add_up() -> None:
    total = Usage(tokens_in=1, tokens_out=2, usd=0.5, seconds=1.0) + Usage(tokens_in=3, usd=0.25)
    assert total == Usage(tokens_in=4, tokens_out=2, usd=0.75, seconds=1.0)


def test_equal_rows_give_equal_bytes_whatever_the_order_of_their_keys(tmp_path: Path) -> None:
    left = new_row(messages=[], made_by={"a": 1, "b": 2}, labels={"x": "1", "y": "2"}, extra={"p": 1, "q": 2})
    right = new_row(messages=[], made_by={"b": 2, "a": 1}, labels={"y": "2", "x": "1"}, extra={"q": 2, "p": 1})
    for name, row in (("left", left), ("right", right)):
        pq.write_table(
            to_table([row.with_scores(**dict.fromkeys("ab"[:: 1 if name == "left" else -1], 1.0))]), tmp_path / name
        )
    assert (tmp_path / "left").read_bytes() == (tmp_path / "right").read_bytes()


def test_no_rows_are_a_table_of_the_same_schema() -> None:
    assert to_table([]).schema == schema() == to_table([example()]).schema


@pytest.mark.parametrize("bad", [{"x": math.nan}, {"x": {1, 2}}, {"x": object()}])
def test_what_is_no_json_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        to_table([example().with_extra(**bad)])


def test_golden_schema() -> None:
    assert str(schema()) == (GOLDEN / "schema.txt").read_text(encoding="utf-8").rstrip("\n")


def test_golden_row() -> None:
    assert plain(example()) == json.loads((GOLDEN / "row.json").read_text(encoding="utf-8"))


def test_a_file_written_by_the_first_release_is_still_read() -> None:
    assert from_table(pq.read_table(GOLDEN / "rows.parquet")) == [example()]


def test_tables_of_other_writers_are_read_where_columns_are_null() -> None:
    record = dict.fromkeys(schema().names) | {"id": "x"}
    row = from_table(pa.Table.from_pylist([record], schema=schema()))[0]
    assert row == Row(id="x", group="x")


def write_golden() -> None:
    GOLDEN.mkdir(exist_ok=True)
    (GOLDEN / "schema.txt").write_text(str(schema()) + "\n", encoding="utf-8")
    (GOLDEN / "row.json").write_text(json.dumps(plain(example()), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    pq.write_table(to_table([example()]), GOLDEN / "rows.parquet")


if __name__ == "__main__":
    write_golden()
