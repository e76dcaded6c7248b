"""Mixtures: exact counts, nothing repeated unless declared, the same draw for the same seed."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from limbeck.core.errors import UsageError
from limbeck.core.row import Message, Row, new_row
from limbeck.mix.weights import Weights


def rows(**sizes: int) -> list[Row]:
    return [
        new_row(
            messages=(Message(role="user", content=f"{name} {n}"),), made_by={}, labels={"branch": name}
        ).with_scores(verified=1.0)
        for name, size in sizes.items()
        for n in range(size)
    ]


def mixed(given_: list[Row], weights: dict[str, float], **fields: Any) -> list[Row]:
    return [r for r in Weights(weights=weights, **fields).whole(given_) if r.dropped is None]


def counts(given_: list[Row]) -> dict[str, int]:
    return dict(Counter(r.labels["branch"] for r in given_))


def test_counts_are_exact() -> None:
    assert counts(mixed(rows(math=100, chat=100), {"math": 3, "chat": 1}, total=40)) == {"math": 30, "chat": 10}
    assert counts(mixed(rows(a=9, b=9, c=9), {"a": 1, "b": 1, "c": 1}, total=10)) == {"a": 4, "b": 3, "c": 3}


def test_without_a_total_the_smallest_branch_decides() -> None:
    assert counts(mixed(rows(math=100, chat=5), {"math": 2, "chat": 1})) == {"math": 10, "chat": 5}


def test_nothing_is_lost_and_the_reason_tells() -> None:
    given_ = rows(math=4, chat=2)
    out = Weights(weights={"math": 1, "chat": 1}).whole(given_)
    assert [r.id for r in out] == [r.id for r in given_]
    assert [r.dropped for r in out if r.dropped] == ["mix.weights: not drawn: 'math' gives 2 of its 4 rows"] * 2


def test_the_seed_decides_the_draw_and_the_order_stays() -> None:
    given_ = rows(a=50, b=50)
    one, other = (mixed(given_, {"a": 1, "b": 1}, total=20, seed=s) for s in (1, 2))
    assert one == mixed(given_, {"a": 1, "b": 1}, total=20, seed=1) != other
    assert [given_.index(r) for r in one] == sorted(given_.index(r) for r in one)


def test_a_branch_that_is_too_small_is_said_with_its_numbers() -> None:
    with pytest.raises(UsageError) as error:
        mixed(rows(math=100, chat=5), {"math": 1, "chat": 1}, total=20)
    assert "'chat' has 5 rows, and the mixture of 20 needs 10" in str(error.value)
    assert "total=10 at most, or allow repeats=2" in str(error.value)


def test_declared_repeats_are_children_and_come_after_every_row_was_used() -> None:
    out = mixed(rows(math=20, chat=4), {"math": 1, "chat": 1}, total=20, repeats=3)
    chat = [r for r in out if r.labels["branch"] == "chat"]
    assert len(chat) == 10 and len({r.id for r in chat}) == 10
    assert Counter(r.question for r in chat).most_common()[-1][1] == 2
    copies = [r for r in chat if "repeat" in r.labels]
    assert len(copies) == 6 and all(r.parents and r.scores == {"verified": 1.0} for r in copies)


def test_the_same_row_in_two_branches_counts_in_both() -> None:
    (row,) = rows(a=1)
    out = mixed([row, row.with_labels(branch="b")], {"a": 1, "b": 1}, total=2)
    assert counts(out) == {"a": 1, "b": 1}


def test_zero_leaves_a_branch_out_and_another_label_may_decide() -> None:
    assert counts(mixed(rows(a=4, b=4), {"a": 1, "b": 0})) == {"a": 4}
    families = [r.with_labels(family=r.labels.pop("branch")) for r in rows(x=2, y=4)]  # type: ignore[attr-defined]
    assert Counter(r.labels["family"] for r in mixed(families, {"x": 1, "y": 1}, by="family")) == {"x": 2, "y": 2}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"math": 1}, "'chat' has rows but no weight"),
        ({"math": 1, "chat": 1, "chta": 1}, "'chta' has a weight but no rows. Did you mean 'chat'"),
        ({"math": -1, "chat": 1}, "not negative"),
        ({"math": 0, "chat": 0}, "not all zero"),
        ({"math": float("nan"), "chat": 1}, "finite"),
    ],
)
def test_wrong_weights_are_explained(weights: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        mixed(rows(math=2, chat=2), weights)


def test_rows_without_a_branch_are_explained() -> None:
    with pytest.raises(UsageError, match="have no label 'branch'"):
        mixed([new_row(messages=(), made_by={})], {"a": 1})


@given(
    st.dictionaries(st.sampled_from("abcd"), st.tuples(st.integers(1, 30), st.integers(1, 9)), min_size=1),
    st.integers(1, 40),
)
def test_shares_are_within_one_row_of_the_weights(branches: dict[str, tuple[int, int]], total: int) -> None:
    weights = {name: float(w) for name, (_, w) in branches.items()}
    whole = sum(weights.values())
    assume(all(size >= total * weights[name] / whole + 1 for name, (size, _) in branches.items()))
    out = counts(mixed(rows(**{name: size for name, (size, _) in branches.items()}), weights, total=total))
    assert sum(out.values()) == total
    assert all(abs(out.get(name, 0) - total * w / whole) < 1 for name, w in weights.items())
