"""How long it will take: the pilot's throughput, and what the same latency gives with more requests in flight.

    asked(Asked(requests=Span(59784, ...), bought=128, latency=1.9, busy=4.1, remote=True), Limits(concurrency=256))
        -> Span(value=444, low=430, high=1920)      seconds

A remote endpoint: the estimate is Little's law (requests x latency / requests in flight: L = lambda W, Little 1961) at the
concurrency allowed, and never faster than the rate limits. Whether the endpoint holds its latency there nobody knows before; so
the upper end is the throughput that the pilot itself has seen, with no more in flight than the pilot's rows gave.

A teacher on this machine is as fast as it is: the estimate is the pilot's throughput from its first answer on, the upper end the
same with the start counted in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from limbeck.engine.forecast.totals import Span
from limbeck.engine.limits import Limits

LEAST_TO_RATE = 8
"""Answers after the first one that make a rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the pilot has seen of one step's requests, and how many there will be."""

    requests: Span
    tokens: Span
    bought: int
    """Requests that were really made; the others were in the cache."""
    latency: float
    """Mean seconds of one request."""
    spans: Sequence[tuple[float, float]]
    """When each ask went out and came back."""
    remote: bool


def asked(step: Asked, limits: Limits) -> Span | None:
    """Return how long the asks of a step will take; None where none was made, as all answers were in the cache."""
    if not step.bought or not step.spans:
        return None
    busy = max(end for _, end in step.spans) - min(begin for begin, _ in step.spans)
    slow = busy / step.bought
    quick = _at_full_width(step, limits) if step.remote else _warm(step)
    quick = min(quick, slow)
    wait = step.latency if step.remote else 0.0
    floor = [_at_rates(step, limits, i) if step.remote else 0.0 for i in range(3)]
    value, low, high = step.requests.value, step.requests.low, step.requests.high
    most = value if high is None else high
    least = value if low is None else low
    return Span(
        value=max(value * quick, wait, floor[0]),
        low=max(least * quick, wait, floor[1]),
        high=max(most * slow, wait, floor[2]),
    )


def _at_full_width(step: Asked, limits: Limits) -> float:
    """Return the seconds between two answers with as many requests in flight as allowed."""
    width = max(1.0, min(float(limits.concurrency), step.requests.value))
    return step.latency / width


def _at_rates(step: Asked, limits: Limits, which: int) -> float:
    """Return the seconds that the limits on requests and tokens a minute take at least, for the value, low and high."""
    requests, tokens = ((s.value, s.low or s.value, s.high or s.value)[which] for s in (step.requests, step.tokens))
    by_requests = 60 * requests / limits.rpm if limits.rpm else 0.0
    return max(by_requests, 60 * tokens / limits.tpm if limits.tpm else 0.0)


def _warm(step: Asked) -> float:
    """Return the seconds between two answers from the first answer on: a model's start is paid once."""
    ends = sorted(end for _, end in step.spans)
    later = [end for end in ends if end > ends[0] + 0.05]
    whole = (ends[-1] - min(begin for begin, _ in step.spans)) / step.bought
    if len(later) < LEAST_TO_RATE:
        return whole
    return (ends[-1] - ends[0]) / len(later) * len(ends) / step.bought
