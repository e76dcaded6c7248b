"""The statistics of evaluations: what a share of right answers says, and whether two models differ.

    wilson(41, 50)                           Interval(mean=0.82, low=0.692, high=0.902)
    pass_at_k(8, 3, 2)                       0.643      two draws of eight samples, three of them right
    best_of_k([0.1, 0.5, 0.9], 2)            0.767      the best of two draws of three samples
    difference(left, right)                  Interval(mean=0.042, low=0.011, high=0.073)
    mcnemar(12, 3)                           0.035      12 prompts only the left solved, 3 only the right

A model's answers to one prompt are alike, and two models find the same prompts hard. So samples of a prompt are never
counted as independent, and models are compared prompt by prompt. A model trained with several seeds is a random draw
too, and how its seeds differ widens its intervals.

Everything is a pure function of arrays; the resampling draws from an explicit seed. Rates lie in [0, 1]; `level` is the
confidence of two-sided intervals.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Rates = NDArray[np.float64]
"""The share of right samples: `runs_RP[r, p]` of run (training seed) r on prompt p."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and the ends of its confidence interval."""

    mean: float
    low: float
    high: float

    def within(self, least: float, most: float) -> Interval:
        """Return the interval with its ends kept between `least` and `most`."""
        return Interval(self.mean, max(least, self.low), min(most, self.high))

    def to_json(self, digits: int = 6) -> dict[str, float]:
        """Return the three numbers under their names."""
        return {"mean": round(self.mean, digits), "low": round(self.low, digits), "high": round(self.high, digits)}


def wilson(right: float, total: float, level: float = 0.95) -> Interval:
    """Return the share `right / total` with Wilson's score interval (Wilson 1927; Brown, Cai & DasGupta 2001).

    With p = right/total, n = total and z the normal quantile:
        (p + z²/2n ± z·sqrt(p(1−p)/n + z²/4n²)) / (1 + z²/n)
    It stays inside [0, 1] and has a width even at 0 of n, where the textbook interval p ± z·se has none.

    >>> wilson(0, 10).high
    0.2775327998628892
    """
    if total <= 0:
        raise ValueError("an interval needs at least one observation")
    p, z = right / total, _normal(level)
    centre, half = p + z * z / (2 * total), z * math.sqrt(p * (1 - p) / total + (z / (2 * total)) ** 2)
    scale = 1 + z * z / total
    # at the ends the exact bound is 0 or 1 and rounding must not move it past the mean
    return Interval(
        p, 0.0 if right <= 0 else (centre - half) / scale, 1.0 if right >= total else (centre + half) / scale
    )


def clustered(rates_P: Sequence[float] | Rates, samples: int = 1, level: float = 0.95) -> Interval:
    """Return the mean of per-prompt shares with an interval that counts prompts, not samples (Miller 2024, 2411.00640).

    The standard error is that of the mean over prompts, sd/sqrt(P), into which the likeness of a prompt's samples enters
    by itself. It is turned into an effective number of independent answers, n = p(1−p)/se², kept between P and P·samples,
    and Wilson's interval is taken at that n (Korn & Graubard 1998; Dean & Pagano 2015), so that it stays inside [0, 1]
    and keeps a width when every prompt is solved. With one sample a prompt it is Wilson's interval itself.
    """
    rates = np.asarray(rates_P, dtype=float)
    prompts, p = len(rates), float(rates.mean())
    most = prompts * samples
    variance = float(rates.var(ddof=1)) / prompts if prompts > 1 else 0.0
    effective = min(most, max(prompts, p * (1 - p) / variance)) if variance > 0 else prompts
    if samples == 1:
        effective = prompts
    return wilson(p * effective, effective, level)


def pass_at_k(samples: int, right: int, k: int) -> float:
    """Return the chance that at least one of `k` draws without replacement is right (Chen et al. 2021, 2107.03374).

    1 − C(n−c, k)/C(n, k): unbiased for the pass@k of fresh samples, unlike 1 − (1 − c/n)^k, which is biased low.

    >>> pass_at_k(8, 3, 2)
    0.6428571428571429
    """
    if not 1 <= k <= samples or not 0 <= right <= samples:
        raise ValueError(f"pass@{k} of {right} right among {samples} samples is not defined")
    return 1.0 - math.comb(samples - right, k) / math.comb(samples, k)


def best_of_k(scores: Sequence[float], k: int) -> float:
    """Return the expected best score of `k` draws without replacement from a prompt's samples.

    With the n scores in order, s₁ ≤ … ≤ sₙ, the i-th is the best of the k with probability C(i−1, k−1)/C(n, k): unbiased for
    the best of k fresh samples, for any k from one batch of n. With scores of 0 and 1 it is `pass_at_k`. The weights are
    taken one from the next, wᵢ₋₁ = wᵢ·(i−k)/(i−1) from wₙ = k/n, so that no large binomial is ever formed.

    >>> best_of_k([0.0, 1.0, 2.0], 2)
    1.6666666666666665
    """
    n = len(scores)
    if not 1 <= k <= n:
        raise ValueError(f"the best of {k} among {n} samples is not defined")
    ordered, weight, total = sorted(scores), k / n, 0.0
    for i in range(n, k - 1, -1):
        total += weight * ordered[i - 1]
        weight *= (i - k) / (i - 1) if i > 1 else 0.0
    return total


def mcnemar(left_only: int, right_only: int) -> float:
    """Return the exact two-sided p-value that two single runs differ (McNemar 1947, the binomial form).

    Only prompts that exactly one of the two solved say anything; under equality each is a fair coin:
    p = min(1, 2·P(Binomial(b + c, 1/2) ≤ min(b, c))).

    >>> round(mcnemar(12, 3), 4)
    0.0352
    """
    total, fewer = left_only + right_only, min(left_only, right_only)
    tail = term = 1
    for i in range(fewer):
        term = term * (total - i) // (i + 1)
        tail += term
    # by logarithms, which Python takes of integers of any size: 2**total overflows a float from 1024 on
    return min(1.0, math.exp(math.log(2 * tail) - total * math.log(2)))


def resample_prompts(arms: Sequence[Rates], *, resamples: int = 10_000, seed: int = 0) -> NDArray[np.float64]:
    """Return mean accuracies under resampled prompts, `means_BA[b, a]`, of arms whose runs met the same prompts.

    Each resample draws P prompts with replacement, the same ones for every arm and run, which is what makes the
    differences between arms paired. A draw is kept as the count of each prompt, so that all arms cost one product.
    """
    rng = np.random.default_rng(seed)
    prompts = arms[0].shape[1]
    means_PA = np.stack([arm.mean(axis=0) for arm in arms], axis=1)
    chunks = []
    for count in _chunks(resamples, prompts):
        drawn = rng.integers(0, prompts, (count, prompts)) + prompts * np.arange(count)[:, None]
        counts_CP = np.bincount(drawn.ravel(), minlength=count * prompts).reshape(count, prompts)
        chunks.append(counts_CP @ means_PA / prompts)
    return np.concatenate(chunks)


def run_variance(rates_RP: Rates) -> tuple[float, float]:
    """Return the variance of an arm's mean that comes from its training runs alone, and the raw variance between runs.

    With s² the variance of the runs' means, and e² that of what is left in the runs-by-prompts table when the means of its
    rows and columns are taken out, the runs themselves vary by s² − e²/P (never under 0): the rest is the chance of each
    single answer, which resampling the prompts counts already (Davison & Hinkley 1997, section 3.8). Both are divided
    by R. One run says nothing of other runs: 0.
    """
    runs, prompts = rates_RP.shape
    if runs == 1 or prompts == 1:
        return 0.0, 0.0
    run_means = rates_RP.mean(axis=1)
    left = rates_RP - run_means[:, None] - rates_RP.mean(axis=0) + rates_RP.mean()
    between = float(run_means.var(ddof=1))
    chance = float((left**2).sum()) / ((runs - 1) * (prompts - 1))
    return max(0.0, between - chance / prompts) / runs, between / runs


def run_noise(arms: Sequence[Rates], *, resamples: int = 10_000, seed: int = 0) -> NDArray[np.float64]:
    """Return draws, around 0, of what other training seeds would have added to a sum or difference of arms' means.

    Three runs are too few to resample: bootstrap intervals of them were right in 88 % of simulated experiments, not in 95.
    So the draws are Student's t, scaled by the runs' variance, with the degrees of freedom of Welch & Satterthwaite
    (1947), (Σv)²/Σ(v²/(R−1)); with 2 to 5 runs and 300 prompts the intervals were then right in 93 to 96 %.
    """
    found = [(*run_variance(arm), len(arm)) for arm in arms]
    own, raw = sum(v for v, _, _ in found), sum(r for _, r, _ in found)
    if own == 0.0:
        return np.zeros(resamples)
    freedom = raw**2 / sum(r * r / (runs - 1) for _, r, runs in found if runs > 1)
    return math.sqrt(own) * np.random.default_rng([seed, 1]).standard_t(freedom, resamples)


def _chunks(resamples: int, prompts: int) -> Iterator[int]:
    # about 16 MB of counts at a time, however many prompts there are
    size = max(1, 2_000_000 // prompts)
    while resamples > 0:
        yield min(size, resamples)
        resamples -= size


def percentiles(mean: float, resampled_B: NDArray[np.float64], level: float = 0.95) -> Interval:
    """Return the percentile interval of resampled estimates (Efron & Tibshirani 1993, chapter 13) around `mean`."""
    low, high = np.quantile(resampled_B, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high))


def widened(found: Interval, prompts: int, level: float = 0.95) -> Interval:
    """Return the interval, never of no width: where every prompt had the same outcome, resampling can not see a spread.

    Nothing in `prompts` trials bounds a rate by Wilson's upper limit at 0 of n; that much is added on either side.

    >>> widened(Interval(0.0, 0.0, 0.0), 100).high
    0.03699349820698566
    """
    if found.high > found.low:
        return found
    room = wilson(0, prompts, level).high
    return Interval(found.mean, found.mean - room, found.mean + room).within(-1.0, 1.0)


def difference(left: Rates, right: Rates, *, resamples: int = 10_000, seed: int = 0, level: float = 0.95) -> Interval:
    """Return right − left with the paired hierarchical interval, over prompts and over training runs.

    Both have shape [runs, prompts] and share their prompts; the numbers of runs may differ.
    """
    means_BA = resample_prompts([left, right], resamples=resamples, seed=seed)
    draws_B = means_BA[:, 1] - means_BA[:, 0] + run_noise([left, right], resamples=resamples, seed=seed)
    return widened(percentiles(float(right.mean() - left.mean()), draws_B, level), left.shape[1], level)


def two_sided(resampled_B: NDArray[np.float64]) -> float:
    """Return the bootstrap p-value of "the difference is 0": twice the smaller tail, at least 1/(B+1).

    >>> two_sided(np.array([0.1, 0.2, 0.3, -0.1]))
    0.8
    """
    count = len(resampled_B)
    tail = min(int((resampled_B <= 0).sum()), int((resampled_B >= 0).sum()))
    return min(1.0, 2 * (tail + 1) / (count + 1))


def holm(values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number (Holm 1979): the i-th smallest times (m − i), made monotone.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(values)), key=lambda i: values[i])
    adjusted, least = [0.0] * len(values), 0.0
    for place, index in enumerate(order):
        least = max(least, min(1.0, (len(values) - place) * values[index]))
        adjusted[index] = least
    return adjusted


def _normal(level: float) -> float:
    return NormalDist().inv_cdf((1 + level) / 2)
