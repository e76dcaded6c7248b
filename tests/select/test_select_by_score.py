"""Selectors: they keep and drop by scores that are there, and never score."""

from __future__ import annotations

import math
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.core.row import Message, Row, new_row
from limbeck.core.step import Drop, Whole
from limbeck.select.best_of import BestOf
from limbeck.select.threshold import Threshold
from limbeck.select.top_k import TopK
from limbeck.select.until_pass import UntilPass


def sample(group: str, number: int, **scores: float) -> Row:
    return new_row(
        messages=(Message(role="user", content=group),), group=group, made_by={"sample": number}
    ).with_scores(**scores)


def rows(*groups: list[float | None]) -> list[Row]:
    return [
        sample(f"g{g}", n, **({} if v is None else {"verified": v}))
        for g, values in enumerate(groups)
        for n, v in enumerate(values)
    ]


def kept(step: Whole, given_: list[Row]) -> list[int]:
    out = step.whole(given_)
    assert [r.id for r in out] == [r.id for r in given_], "kept + dropped = in, in order"
    assert [r.scores for r in out] == [r.scores for r in given_], "a selector never scores"
    assert all(r.dropped is None or r.dropped.startswith(f"{step.called()}: ") for r in out)
    return [place for place, r in enumerate(out) if r.dropped is None]


def test_until_pass_keeps_the_first_that_passes() -> None:
    given_ = rows([0, 1, 1, 0], [0, 0], [1])
    assert kept(UntilPass(), given_) == [1, 6]
    out = UntilPass().whole(given_)
    assert out[0].dropped == "select.until_pass: did not pass"
    assert out[2].dropped == out[3].dropped == "select.until_pass: not needed: an earlier sample passed"
    assert out[1].extra["draws"] == {"needed": 2, "made": 4}
    assert out[5].extra["draws"] == {"needed": None, "made": 2}
    assert out[6].extra["draws"] == {"needed": 1, "made": 1}
    assert sum("draws" in r.extra for r in out) == 3


def test_groups_may_be_interleaved() -> None:
    given_ = rows([0, 1], [1, 1])
    assert kept(UntilPass(), [given_[0], given_[2], given_[1], given_[3]]) == [1, 2]


def test_best_of_and_ties() -> None:
    assert kept(BestOf(), rows([0.2, 0.9, 0.9], [0, 0])) == [1, 3]
    assert kept(BestOf(lowest=True), rows([0.2, 0.9, 0.2], [3, 2])) == [0, 4]


def test_top_k_per_group_and_overall() -> None:
    given_ = rows([0.1, 0.9, 0.5], [0.95, 0.2], [0.3])
    assert kept(TopK(k=2), given_) == [1, 2, 3, 4, 5]
    assert kept(TopK(k=2, scope="overall"), given_) == [1, 3]
    assert kept(TopK(k=2, scope="overall", lowest=True), given_) == [0, 4]
    assert kept(TopK(k=3), rows([1, 1, 1, 1])) == [0, 1, 2]


@pytest.mark.parametrize("step", [UntilPass(), BestOf(), TopK(k=5)])
def test_unscored_rows_are_dropped_as_not_scored(step: Whole) -> None:
    out = step.whole(rows([None, math.nan, 1.0]))
    assert [r.dropped and r.dropped.split(": ", 1)[1] for r in out] == [
        "not scored",
        "not scored",
        None,
    ]


@pytest.mark.parametrize("step", [UntilPass(), BestOf(), TopK(k=5)])
def test_rows_dropped_before_keep_their_reason_and_do_not_count(step: Whole) -> None:
    given_ = rows([1, 1])
    out = step.whole([given_[0].drop("x: gone"), given_[1]])
    assert [r.dropped for r in out] == ["x: gone", None]


def test_threshold() -> None:
    (row,) = rows([0.5])
    assert Threshold(least=0.5).each(row) is row
    assert Threshold(most=0.5).each(row) is row
    assert Threshold().each(row) == Drop("verified is 0.5, under 1")
    assert Threshold(least=0.2, most=0.4).each(row) == Drop("verified is 0.5, over 0.4")
    assert Threshold(score="judge").each(row) == Drop("not scored")


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0.0, 0.5, 1.0])), max_size=30), st.integers(1, 4))
def test_laws_of_selection(drawn: list[tuple[int, float]], k: int) -> None:
    given_ = [sample(f"g{g}", n, verified=v) for n, (g, v) in enumerate(drawn)]
    values = defaultdict(list)
    for g, v in drawn:
        values[f"g{g}"].append(v)
    best = [given_[p] for p in kept(BestOf(), given_)]
    assert {r.group: r.scores["verified"] for r in best} == {g: max(v) for g, v in values.items()}
    first = [given_[p] for p in kept(UntilPass(), given_)]
    assert sorted(r.group for r in first) == sorted(g for g, v in values.items() if 1.0 in v)
    top = [given_[p] for p in kept(TopK(k=k), given_)]
    for group, all_ in values.items():
        assert (
            sorted((r.scores["verified"] for r in top if r.group == group), reverse=True)
            == sorted(all_, reverse=True)[:k]
        )
    overall = [given_[p].scores["verified"] for p in kept(TopK(k=k, scope="overall"), given_)]
    assert sorted(overall, reverse=True) == sorted((v for _, v in drawn), reverse=True)[:k]
