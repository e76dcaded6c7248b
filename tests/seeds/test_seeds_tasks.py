"""Rows from the task families."""

from __future__ import annotations

from typing import Any

import pytest

from limbeck.core.errors import UsageError
from limbeck.core.row import Row
from limbeck.seeds.families import families, split_of
from limbeck.seeds.tasks import Tasks


def rows(**fields: Any) -> list[Row]:
    return list(Tasks(**fields).rows())


def test_families_take_turns_and_share_the_count() -> None:
    made = rows(family=("chains", "tools", "programs"), count=8)
    assert [r.labels["family"] for r in made] == ["chains", "tools", "programs"] * 2 + ["chains", "tools"]
    assert all(not r.has_response and r.reference is not None and r.group == r.id for r in made)


def test_the_same_fields_give_the_same_rows() -> None:
    assert rows(count=20, seed=3) == rows(count=20, seed=3)
    assert rows(count=20, seed=3) != rows(count=20, seed=4)
    assert len({r.id for r in rows(family=tuple(families()), count=200)}) == 200


def test_test_problems_are_sealed_and_apart() -> None:
    train, test = rows(count=100), rows(count=100, split="test")
    assert not any(r.sealed for r in train) and all(r.sealed for r in test)
    assert not {r.question for r in train} & {r.question for r in test}
    assert all(split_of(r.question) == "test" for r in test)
    assert not any(r.sealed for r in rows(count=5, split="test", sealed=False))


def test_solved_rows_carry_the_true_response() -> None:
    assert all(r.response.endswith(f"Answer: {r.reference}") for r in rows(count=10, solved=True))


def test_difficulty() -> None:
    assert {r.task["difficulty"] for r in rows(family="chains", count=30, difficulty=(2, 3))} == {2, 3}


def test_wrong_fields_are_explained() -> None:
    with pytest.raises(UsageError, match="the families are chains"):
        Tasks(family=("chans",))
    with pytest.raises(UsageError, match=r"can not draw from 'chains': the difficulty of chains goes from 2 to 5"):
        rows(family="chains", difficulty=(7, 9))
    with pytest.raises(UsageError, match="count"):
        Tasks(count=0)
