"""`select.quota` with draw="halving": the odds of 2^-rank, and that nothing but the row and the seed decides."""

from __future__ import annotations

from collections import Counter

import pytest

from limbeck.core.errors import UsageError
from limbeck.core.row import Message, Row, new_row
from limbeck.select.quota import Quota


def row_of(name: str, value: float, kind: str = "a") -> Row:
    row = new_row(messages=(Message(role="user", content=name),), made_by={"name": name})
    return row.with_labels(domain=kind).with_scores(length=value)


def kept(rows: list[Row], **fields: object) -> list[Row]:
    step = Quota(label="domain", score="length", draw="halving", **fields)  # type: ignore[arg-type]
    return [row for row in step.whole(rows) if row.dropped is None]


def test_one_draw_falls_on_rank_r_with_odds_that_halve() -> None:
    rows = [row_of(f"q{i}", float(-i)) for i in range(6)]
    draws = 4000
    counts = Counter(kept(rows, most=1, seed=seed)[0].question for seed in range(draws))
    for rank in range(4):
        wanted = 0.5**rank / sum(0.5**r for r in range(6))
        assert counts[f"q{rank}"] / draws == pytest.approx(wanted, abs=0.03)


def test_two_draws_are_without_replacement() -> None:
    rows = [row_of(f"q{i}", float(-i)) for i in range(3)]
    draws = 4000
    pairs = Counter(frozenset(r.question for r in kept(rows, most=2, seed=seed)) for seed in range(draws))
    # weights 4, 2, 1: first q0 then q1, or first q1 then q0
    wanted = 4 / 7 * 2 / 3 + 2 / 7 * 4 / 5
    assert pairs[frozenset({"q0", "q1"})] / draws == pytest.approx(wanted, abs=0.03)


def test_every_domain_has_its_quota_and_domains_do_not_matter_to_each_other() -> None:
    rows = [row_of(f"{kind}{i}", float(i), kind) for kind in "abc" for i in range(50)]
    made = kept(rows, most=10, seed=1)
    assert Counter(row.labels["domain"] for row in made) == {"a": 10, "b": 10, "c": 10}
    alone = kept([row for row in rows if row.labels["domain"] == "b"], most=10, seed=1)
    assert alone == [row for row in made if row.labels["domain"] == "b"]
    assert kept(rows, most=10, seed=1) == made != kept(rows, most=10, seed=2)
    ranks = sorted(50 - row.scores["length"] for row in made)
    assert ranks[len(ranks) // 2] < 12, "mostly the longest"
    assert kept(rows, most=50) == rows


def test_a_draw_needs_a_rank() -> None:
    with pytest.raises(UsageError, match="needs a `score` to rank by"):
        Quota(label="domain", most=1, draw="halving")
