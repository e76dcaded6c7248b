"""The statistics against exact values, against each other, and by simulation: do 95 % intervals hold the truth 95 % of the time?"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.evaluate.stats import (
    clustered,
    difference,
    holm,
    mcnemar,
    pass_at_k,
    resample_prompts,
    run_noise,
    run_variance,
    two_sided,
    wilson,
)


def test_wilson_agrees_with_published_values():
    # Newcombe 1998 (Statistics in Medicine 17), table I, method 3
    for right, total, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:
        found = wilson(right, total)
        assert (round(found.low, 4), round(found.high, 4)) == (low, high)


@settings(deadline=None)
@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_the_inverse_of_the_score_test(case):
    """Its ends are the rates p at which (p̂ − p)² = z²·p(1−p)/n; it stays in [0, 1], holds p̂ and is symmetric."""
    right, total = case
    found, mirrored = wilson(right, total), wilson(total - right, total)
    assert 0 <= found.low <= found.mean <= found.high <= 1 and found.high > found.low
    assert found.low == pytest.approx(1 - mirrored.high, abs=1e-12)
    for end in (found.low, found.high):
        if 0 < end < 1:
            assert (found.mean - end) ** 2 == pytest.approx(1.959963984540054**2 * end * (1 - end) / total, rel=1e-6)


def test_wilson_covers_the_truth_exactly_computed():
    """The coverage is a finite sum over all outcomes; for n = 50 it averages close to 95 % over rates."""
    covers = []
    for p in np.linspace(0.05, 0.95, 91):
        inside = [k for k in range(51) if wilson(k, 50).low <= p <= wilson(k, 50).high]
        covers.append(sum(math.comb(50, k) * p**k * (1 - p) ** (50 - k) for k in inside))
    assert 0.945 < np.mean(covers) < 0.965 and min(covers) > 0.9


def test_clustered_with_one_sample_is_wilson():
    rates = [1.0] * 30 + [0.0] * 20
    assert clustered(rates) == wilson(30, 50)


def test_clustered_counts_prompts_where_samples_agree_and_samples_where_they_are_independent():
    alike = [1.0] * 30 + [0.0] * 20
    assert clustered(alike, samples=8) == wilson(30, 50)
    rng = np.random.default_rng(0)
    mixed = clustered(rng.binomial(8, 0.6, 50) / 8, samples=8)
    assert mixed.high - mixed.low < 0.6 * (wilson(30, 50).high - wilson(30, 50).low)
    assert clustered([1.0] * 10, samples=8).low < 1, "a width even where all are solved"


def test_clustered_covers():
    rng, hits = np.random.default_rng(1), 0
    for _ in range(1000):
        hard = rng.beta(1.2, 0.8, 60)
        found = clustered(rng.binomial(4, hard) / 4, samples=4)
        hits += found.low <= 0.6 <= found.high
    assert 0.93 < hits / 1000 < 0.98


@settings(deadline=None)
@given(st.integers(1, 7).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_is_the_share_of_draws_with_a_right_one(case):
    samples, right, k = case
    draws = list(itertools.combinations([1] * right + [0] * (samples - right), k))
    assert pass_at_k(samples, right, k) == pytest.approx(sum(any(d) for d in draws) / len(draws))


def test_pass_at_k_is_unbiased():
    rng, p = np.random.default_rng(0), 0.3
    values = [pass_at_k(10, int(c), 4) for c in rng.binomial(10, p, 20_000)]
    assert np.mean(values) == pytest.approx(1 - (1 - p) ** 4, abs=0.005)
    with pytest.raises(ValueError, match="pass@5"):
        pass_at_k(4, 2, 5)


def test_mcnemar_exact_values():
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(5, 5) == 1.0
    assert mcnemar(6, 0) == pytest.approx(2 / 64)
    assert mcnemar(12, 3) == mcnemar(3, 12) == pytest.approx(2 * sum(math.comb(15, i) for i in range(4)) / 2**15)
    # far beyond what a float holds, near the normal approximation
    assert mcnemar(5000, 5200) == pytest.approx(math.erfc(199 / math.sqrt(10200) / math.sqrt(2)), rel=0.01)


def test_holm():
    assert holm([]) == []
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.9]) == [1.0, 1.0]


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_the_order_and_lies_between_raw_and_bonferroni(values):
    adjusted = holm(values)
    assert all(v <= a <= min(1, v * len(values)) + 1e-12 for v, a in zip(values, adjusted, strict=True))
    assert [a for _, a in sorted(zip(values, adjusted, strict=True))] == sorted(adjusted)


def arm(rng, hard, shift, runs, spread):
    logits = hard + shift + rng.normal(0, spread, (runs, 1)) + rng.normal(0, 0.7, (runs, len(hard)))
    return (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(float)


def test_resampling_prompts_has_the_textbook_variance_and_pairs():
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 2, 200)
    left, right = arm(rng, hard, 0, 1, 0), arm(rng, hard, 0.5, 1, 0)
    means = resample_prompts([left, right], resamples=20_000, seed=1)
    assert means.shape == (20_000, 2)
    assert means[:, 0].mean() == pytest.approx(left.mean(), abs=0.002)
    assert means[:, 0].std() == pytest.approx(left.std() / math.sqrt(200), rel=0.03)
    paired = (right - left)[0].std() / math.sqrt(200)
    assert (means[:, 1] - means[:, 0]).std() == pytest.approx(paired, rel=0.03)
    assert paired < 0.9 * math.hypot(left.std(), right.std()) / math.sqrt(200), "pairing narrows"


def test_same_seed_same_numbers_and_chunks_do_not_matter(monkeypatch):
    left, right = np.eye(50)[:1], np.ones((1, 50))
    assert difference(left, right, seed=3) == difference(left, right, seed=3)
    one = resample_prompts([left], resamples=500, seed=0)
    assert np.array_equal(one, resample_prompts([left, right], resamples=500, seed=0)[:, :1])


def test_run_variance_finds_the_spread_of_runs_and_not_the_chance_of_answers():
    rng = np.random.default_rng(0)
    found = [run_variance(arm(rng, rng.normal(0, 1.5, 300), 0, 5, 0.6))[0] * 5 for _ in range(200)]
    means = [
        (1 / (1 + np.exp(-(rng.normal(0, math.hypot(1.5, 0.7), 20_000) + s)))).mean() for s in rng.normal(0, 0.6, 300)
    ]
    truth = np.var(means)
    assert np.mean(found) == pytest.approx(truth, rel=0.2)
    none = [run_variance(arm(rng, rng.normal(0, 1.5, 300), 0, 5, 0.0)) for _ in range(200)]
    assert np.mean([n[0] for n in none]) < 0.6 * np.mean([n[1] for n in none])
    assert run_variance(np.ones((1, 9))) == (0.0, 0.0)
    assert not run_noise([np.ones((1, 9))], resamples=10).any()


@pytest.mark.parametrize(
    ("runs", "prompts", "spread"), [((1, 1), 60, 0.0), ((3, 3), 150, 0.0), ((3, 3), 150, 0.3), ((2, 4), 150, 0.3)]
)
def test_intervals_of_differences_cover_the_truth(runs, prompts, spread):
    """Simulated experiments: the interval holds the true difference in about 95 of 100 of them."""
    big = np.random.default_rng(5)
    hard = big.normal(0, math.sqrt(1.5**2 + 0.7**2 + spread**2), 1_000_000)
    truth = (1 / (1 + np.exp(-hard - 0.5))).mean() - (1 / (1 + np.exp(-hard))).mean()
    hits, total = 0, 600
    for experiment in range(total):
        rng = np.random.default_rng(experiment)
        hard = rng.normal(0, 1.5, prompts)
        found = difference(
            arm(rng, hard, 0, runs[0], spread), arm(rng, hard, 0.5, runs[1], spread), resamples=500, seed=experiment
        )
        hits += found.low <= truth <= found.high
    # three standard errors of a share of 600 around .95, and a little more below for percentile intervals
    assert 0.915 < hits / total < 0.985


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_no_difference_is_resolved_in_about_one_of_twenty(seed):
    rng = np.random.default_rng(seed)
    hits = 0
    for k in range(40):
        hard = rng.normal(0, 1.5, 100)
        found = difference(arm(rng, hard, 0, 1, 0), arm(rng, hard, 0, 1, 0), resamples=300, seed=k)
        hits += found.low > 0 or found.high < 0
    assert hits <= 9


def test_two_sided():
    assert two_sided(np.array([0.1, 0.2, 0.3, -0.1])) == 0.8
    assert two_sided(np.full(99, 0.5)) == 0.02
    assert two_sided(np.zeros(99)) == 1.0


def test_outcomes_that_are_all_alike_still_leave_room() -> None:
    """Resampling equal outcomes shows no spread at all; that is not certainty."""
    same = np.zeros((3, 100))
    found = difference(same, same, resamples=200)
    assert found.mean == 0.0
    assert found.low < 0.0 < found.high < 0.05
    won = difference(same, np.ones((3, 100)), resamples=200)
    assert 0.9 < won.low < won.high == 1.0
