"""Diversity: lazy greedy against plain greedy, k-center against its definition, ties, and what is kept of planted clusters."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.core.errors import InputError
from limbeck.core.row import Message, Row, new_row
from limbeck.select._diverse_greedy import (
    SCALE,
    facility_location,
    first_gains,
    gain_of,
    k_center,
    similarity,
    whole_numbers,
)
from limbeck.select.diverse import Diverse

THEMES = {
    "cook": ["onion", "soup", "butter", "salt", "bread", "oven", "bake", "stir", "pepper", "garlic"],
    "space": ["planet", "orbit", "star", "rocket", "moon", "gravity", "comet", "galaxy", "telescope", "light"],
    "sport": ["goal", "match", "team", "player", "ball", "score", "league", "coach", "win", "referee"],
}


def row_of(text: str, **made: object) -> Row:
    return new_row(messages=(Message(role="user", content=text),), made_by=made)


def vectors(count: int, size: int, seed: int) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(count, size))
    return whole_numbers((found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32))


def plain_greedy(table: np.ndarray, witnesses: np.ndarray, count: int) -> list[int]:
    """Look at every row each time and take the best, of equals the first."""
    best, chosen = np.zeros(len(witnesses), dtype=np.float32), []
    for _ in range(min(count, len(table))):
        columns = [similarity(witnesses, table[i : i + 1])[:, 0] for i in range(len(table))]
        gains = [-1.0 if i in chosen else gain_of(columns[i], best) for i in range(len(table))]
        chosen.append(int(np.argmax(gains)))
        best = np.maximum(best, columns[chosen[-1]])
    return chosen


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(2, 12), st.integers(1, 45), st.integers(0, 10**6), st.booleans())
def test_lazy_greedy_chooses_what_plain_greedy_chooses(n: int, size: int, count: int, seed: int, twins: bool) -> None:
    table = vectors(n, size, seed)
    if twins:
        table = np.concatenate([table, table[::-1]])  # ties everywhere
    chosen = facility_location(table, table, count)
    assert chosen == plain_greedy(table, table, count)
    assert len(set(chosen)) == len(chosen) == min(count, len(table))
    assert facility_location(table, table, max(1, count // 2)) == chosen[: max(1, count // 2)]


def test_greedy_is_near_the_best_there_is() -> None:
    table = vectors(11, 6, 5)
    alike = similarity(table, table)

    def worth(some: tuple[int, ...]) -> float:
        return float(alike[:, list(some)].max(axis=1).sum())

    best = max(worth(some) for some in itertools.combinations(range(11), 4))
    assert best >= worth(tuple(facility_location(table, table, 4))) >= (1 - 1 / np.e) * best


def test_similarities_are_exact_whatever_the_order_of_summation() -> None:
    table = vectors(30, 700, 1)
    wanted = np.maximum(table.astype(np.int64) @ table.astype(np.int64).T, 0)
    assert (similarity(table, table).astype(np.int64) == wanted).all()
    order = np.random.default_rng(0).permutation(700)
    assert (similarity(table[:, order], table[:, order]) == similarity(table, table)).all()
    assert first_gains(table, table) == wanted.sum(axis=1).tolist()
    assert wanted.max() < 2**24 and abs(wanted[0, 0] / SCALE**2 - 1) < 0.01


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 45), st.integers(0, 10**6))
def test_k_center_takes_the_farthest_and_halves_no_better_radius(n: int, count: int, seed: int) -> None:
    table = vectors(n, 4, seed)
    chosen = k_center(table, count)
    assert len(set(chosen)) == len(chosen) == min(count, n)
    for place in range(1, len(chosen)):
        rest = [i for i in range(n) if i not in chosen[:place]]
        near = similarity(table[rest], table[chosen[:place]]).max(axis=1)
        assert rest[int(np.argmin(near))] == chosen[place] or near[rest.index(chosen[place])] == near.min()


def clusters(sizes: dict[str, int]) -> list[Row]:
    rng = np.random.default_rng(0)
    rows = [row_of(" ".join(rng.choice(THEMES[theme], 7)), i=i) for theme, size in sizes.items() for i in range(size)]
    order = rng.permutation(len(rows))
    return [rows[i] for i in order]


def theme_of(row: Row) -> str:
    return next(theme for theme, words in THEMES.items() if row.question.split()[0] in words)


@pytest.mark.parametrize("method", ["facility_location", "k_center"])
def test_small_kinds_are_not_lost(method: str) -> None:
    rows = clusters({"cook": 150, "space": 40, "sport": 10})
    made = Diverse(n=12, method=method).whole(rows)
    kept = [row for row in made if row.dropped is None]
    assert len(kept) == 12 and {theme_of(row) for row in kept} == set(THEMES)
    assert sorted(int(row.labels["diverse"]) for row in kept) == list(range(1, 13))
    assert {row.dropped for row in made} == {None, "select.diverse: not among the 12 rows that stand for all"}
    assert [row.id for row in made] == [row.id for row in rows] and all(row.scores == {} for row in made)
    smaller = {row.id for row in Diverse(n=3, method=method).whole(rows) if row.dropped is None}
    assert smaller == {row.id for row in kept if int(row.labels["diverse"]) <= 3}


def test_what_stands_for_all_is_better_than_chance() -> None:
    rows = clusters({"cook": 60, "space": 60, "sport": 60})
    table = Diverse(n=9)._vectors(rows)
    alike = similarity(table, table)
    chosen = [i for i, row in enumerate(Diverse(n=9).whole(rows)) if row.dropped is None]
    rng = np.random.default_rng(1)
    random = [alike[:, rng.choice(180, 9, replace=False)].max(axis=1).sum() for _ in range(200)]
    assert alike[:, chosen].max(axis=1).sum() > max(random)


def test_a_sample_of_witnesses_is_fixed_and_nearly_as_good() -> None:
    rows = clusters({"cook": 80, "space": 80, "sport": 80})
    step = Diverse(n=6, witnesses=60)
    first = {row.id for row in step.whole(rows) if row.dropped is None}
    assert first == {row.id for row in step.whole(rows) if row.dropped is None}
    assert {theme_of(row) for row in rows if row.id in first} == set(THEMES)


def test_embeddings_instead_of_words() -> None:
    rows = [
        row_of(f"text {i}", i=i).with_extra(embedding=[1.0, 0.01 * i] if i < 5 else [0.0, 1.0 + i]) for i in range(7)
    ]
    kept = [row for row in Diverse(n=2, vector="embedding").whole(rows) if row.dropped is None]
    assert {row.question in ("text 5", "text 6") for row in kept} == {True, False}
    with pytest.raises(InputError, match="no list of numbers in extra"):
        Diverse(n=2, vector="embedding").whole([*rows, row_of("bare")])
    with pytest.raises(InputError, match="has 3 numbers"):
        Diverse(n=2, vector="embedding").whole([*rows, row_of("odd").with_extra(embedding=[1, 2, 3])])


def test_rows_without_words_and_dropped_rows() -> None:
    rows = [row_of("onion soup"), row_of(" "), row_of("goal").drop("score.x: bad"), row_of("moon")]
    kept, empty, gone, other = Diverse(n=5).whole(rows)
    assert kept.dropped is None and other.dropped is None and gone == rows[2]
    assert empty.dropped == "select.diverse: nothing to compare"
    assert Diverse(n=3).whole([]) == [] and Diverse(n=3, method="k_center").whole([rows[1]])[0].dropped
