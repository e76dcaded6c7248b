"""Exact duplicates."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.core.row import Message, Row, new_row
from limbeck.curate.exact import Exact


def row(question: str, response: str | None = None, **scores: float) -> Row:
    turns = [Message(role="user", content=question)] + (
        [] if response is None else [Message(role="assistant", content=response)]
    )
    row.count = getattr(row, "count", 0) + 1  # type: ignore[attr-defined]
    return new_row(messages=turns, made_by={"n": row.count}).with_scores(**scores)  # type: ignore[attr-defined]


def kept(rows: list[Row], **fields: Any) -> list[int]:
    out = Exact(**fields).whole(rows)
    assert [r.id for r in out] == [r.id for r in rows]
    names = {r.labels["cluster"]: r.id for r in out if r.dropped is None}
    for r in out:
        assert r.dropped is None or r.dropped == f"curate.exact: duplicate of {names[r.labels['cluster']]}"
    return [place for place, r in enumerate(out) if r.dropped is None]


def test_normalised_and_raw() -> None:
    rows = [row("Start with 12."), row("start  with 12. "), row("Start with 13."), row("ｓtart with 12.")]
    assert kept(rows) == [0, 2]
    assert kept(rows, normalise=False) == [0, 1, 2, 3]


def test_digits_signs_and_order_are_kept_apart() -> None:
    assert kept([row("1.5"), row("15"), row("-15"), row("51"), row("1 5")]) == [0, 1, 2, 3, 4]


def test_parts_of_a_conversation() -> None:
    rows = [row("A", "x"), row("A", "y"), row("B", "x"), row("A", "x"), row("A")]
    assert kept(rows) == [0, 1, 2, 4]
    assert kept(rows, on="prompt") == [0, 2]
    assert kept(rows, on="response") == [0, 1, 4]
    assert kept([row("A"), row("B")], on="response") == [0, 1], (
        "rows without a response are no duplicates of each other"
    )


def test_roles_and_turn_boundaries_count() -> None:
    joined = new_row(messages=(Message(role="user", content="a"), Message(role="user", content="b")), made_by={})
    spoken = new_row(messages=(Message(role="assistant", content="a b"),), made_by={})
    assert kept([row("a b"), joined, spoken]) == [0, 1, 2]


@pytest.mark.parametrize(("keep", "place"), [("first", 0), ("longest", 1), ("best", 2)])
def test_which_is_kept(keep: str, place: int) -> None:
    rows = [row("a b", verified=0.0), row("A   B"), row("a b", verified=1.0), row("a b", verified=1.0)]
    assert kept(rows, keep=keep) == [place]


def test_dropped_rows_do_not_stand_in_for_others() -> None:
    gone = row("a").drop("x: y")
    out = Exact().whole([gone, row("a")])
    assert out[0] == gone and out[1].dropped is None


@given(st.lists(st.sampled_from(["a", "A", "b", " b", "1", "2"]), max_size=20))
def test_one_of_each_remains_and_a_second_pass_changes_nothing(texts: list[str]) -> None:
    rows = [row(t) for t in texts]
    places = kept(rows)
    assert [texts[p].strip().lower() for p in places] == list(dict.fromkeys(t.strip().lower() for t in texts))
    assert kept([rows[p] for p in places]) == list(range(len(places)))


def test_raised_numbers_are_not_numbers() -> None:
    assert kept([row("10² is"), row("102 is"), row("10² IS"), row("１02 is")]) == [0, 1]


def test_sealed_rows_are_never_dropped_and_take_the_place_of_others() -> None:
    def sealed(question: str) -> Row:
        return dataclasses.replace(row(question), sealed=True)

    out = Exact(keep="longest").whole([row("A"), sealed("a"), row("B"), sealed("A"), row("a")])
    assert [r.dropped is None for r in out] == [False, True, True, True, False]
    assert out[0].dropped == f"curate.exact: duplicate of {out[1].id}"


def test_rows_with_one_id_are_duplicates_too() -> None:
    same = row("A")
    assert [r.dropped is None for r in Exact().whole([same, same])] == [True, False]
