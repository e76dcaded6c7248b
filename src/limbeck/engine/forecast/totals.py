"""From what a few rows took to what all of them will take, with an interval; and what stopping at the first pass saves.

    total([Stratum(size=7473, values=[212.0, 180.0, 305.0, ...])])      Span(value=1.71e6, low=1.52e6, high=1.90e6)

The pilot's rows are a sample without replacement of each source. The total is the mean of their values times the number of
rows; the interval is Student's t at 95 % with the finite-population correction (Cochran, Sampling Techniques, 1977, chapter
2), sources as strata. It is never below what the pilot itself has taken, and it is a point where the pilot was all rows.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

_QUANTILES = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
_NORMAL = 1.959964


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """An estimate and its 95 % interval; `low` and `high` are None where one row was tried and says nothing of others."""

    value: float
    low: float | None = None
    high: float | None = None

    def times(self, factor: float) -> Span:
        """Return the span in other units."""
        return Span(
            value=self.value * factor,
            low=None if self.low is None else self.low * factor,
            high=None if self.high is None else self.high * factor,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stratum:
    """The rows of one source: how many there are, and the value of each that was tried."""

    size: int
    values: Sequence[float]


def total(strata: Sequence[Stratum]) -> Span:
    """Return the sum over all rows of all sources."""
    value = variance = seen = 0.0
    freedom, certain = 0, True
    for stratum in strata:
        tried, size = len(stratum.values), stratum.size
        if not tried:
            certain = certain and not size
            continue
        value += size * statistics.fmean(stratum.values)
        seen += math.fsum(stratum.values)
        if tried >= size:
            continue
        certain = certain and tried > 1
        freedom += tried - 1
        variance += size * size * (1 - tried / size) * _variance(stratum.values) / tried
    if not certain:
        return Span(value=value)
    half = student(freedom) * math.sqrt(variance) if freedom else 0.0
    return Span(value=value, low=min(value, max(seen, value - half)), high=value + half)


def _variance(values: Sequence[float]) -> float:
    return statistics.variance(values) if len(values) > 1 else 0.0


def student(freedom: int) -> float:
    """Return the 97.5 % point of Student's t; Cornish and Fisher's expansion from 10 degrees on."""
    if freedom in _QUANTILES:
        return _QUANTILES[freedom]
    z = _NORMAL
    terms = (z, (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384)
    return math.fsum(term / float(freedom**power) for power, term in enumerate(terms))


def draws_to_pass(samples: int, passing: int) -> float:
    """Return the expected number of samples until the first that passes, at most `samples`, given how many passed.

    Every order of the samples was equally likely, so the number of draws is averaged over all orders: with c of n passing
    the first k all fail in C(n-c, k) of C(n, k) orders, and the sum over k from 0 to n-1 is (n + 1) / (c + 1), or n where
    none passed. That is unbiased for a prompt of any difficulty (each C(n-c, k) / C(n, k) is, for (1 - p)^k; it is the
    idea of the pass@k estimator of Chen et al. 2021, arXiv 2107.03374), and so is its mean over prompts. Putting the mean
    pass rate into 1 / p is not: hard prompts draw long.

    >>> draws_to_pass(8, 0), draws_to_pass(8, 2), draws_to_pass(8, 8)
    (8.0, 3.0, 1.0)
    """
    return float(samples) if passing == 0 else (samples + 1) / (passing + 1)


def drawn(passed: Sequence[bool]) -> list[float]:
    """Return for each sample the share of orders in which it is drawn before the first pass, or is that first pass.

    >>> drawn([False, True, False])
    [0.5, 1.0, 0.5]
    """
    count = sum(passed)
    return [1 / count if ok else 1 / (count + 1) for ok in passed]
