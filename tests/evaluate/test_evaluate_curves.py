"""evaluate.curves and stats.best_of_k against brute force, and the curves of a batch whose truth is known."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck import api
from limbeck.core.errors import InputError
from limbeck.core.row import Message, Row, new_row
from limbeck.evaluate.curves import Curves
from limbeck.evaluate.stats import best_of_k, pass_at_k


@settings(deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=7), st.data())
def test_best_of_k_is_the_mean_of_the_best_of_all_draws(scores: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(scores)))
    best = [max(draw) for draw in itertools.combinations(scores, k)]
    assert best_of_k(scores, k) == pytest.approx(sum(best) / len(best), abs=1e-9)


@given(st.integers(1, 60), st.data())
def test_with_scores_of_0_and_1_it_is_pass_at_k(samples: int, data: st.DataObject) -> None:
    right, k = data.draw(st.integers(0, samples)), data.draw(st.integers(1, samples))
    assert best_of_k([1.0] * right + [0.0] * (samples - right), k) == pytest.approx(
        pass_at_k(samples, right, k), abs=1e-12
    )


def test_large_batches_are_stable_and_estimates_unbiased() -> None:
    assert pass_at_k(100_000, 1, 50_000) == pytest.approx(0.5)
    assert best_of_k(list(range(20_000)), 10_000) == pytest.approx(10_000 / 10_001 * 20_001 - 1)
    rng = np.random.default_rng(0)
    values = [best_of_k(list(rng.normal(size=8)), 4) for _ in range(8000)]
    assert np.mean(values) == pytest.approx(1.0294, abs=0.02)  # the expected largest of four standard normal numbers
    for k in (0, 4):
        with pytest.raises(ValueError, match="not defined"):
            best_of_k([1.0, 2.0, 3.0], k)


def sample(prompt: int, place: int, **scores: float) -> Row:
    turns = (Message(role="user", content=f"q{prompt}"), Message(role="assistant", content=f"a{place}"))
    return new_row(messages=turns, group=f"g{prompt}", made_by={"n": place}).with_scores(**scores)


def curves(rows: list[Row], out: Path, **fields: object) -> dict[str, dict[str, dict[str, float]]]:
    api.apply(Curves(**fields), rows, out=out)
    found: dict[str, dict[str, dict[str, float]]] = json.loads(next(out.glob("*-curves/curves.json")).read_text())
    return found


def test_curves_of_a_batch(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = [
        sample(p, n, verified=float(rng.random() < 0.3), reward=float(rng.random()))
        for p in range(300)
        for n in range(6)
    ]
    short = [sample(300, 0, verified=1.0)]
    found = curves([*rows, *short, sample(301, 0)], tmp_path / "a")
    assert (found["prompts"], found["samples"], found["left_out"], found["unscored"]) == (300, 6, 1, 1)
    for k in range(1, 7):
        interval = found["pass_at"][str(k)]
        assert interval["low"] <= 1 - 0.7**k <= interval["high"], k
        assert found["best_of"][str(k)]["mean"] == pytest.approx(interval["mean"], abs=1e-5)
    reward = curves(rows, tmp_path / "b", score="reward")
    for k in range(1, 7):
        assert (
            reward["best_of"][str(k)]["low"] <= k / (k + 1) <= reward["best_of"][str(k)]["high"]
        )  # largest of k uniform numbers


def test_rows_without_the_score_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No row has the score 'reward'"):
        curves([sample(0, 0, verified=1.0)], tmp_path, score="reward")
