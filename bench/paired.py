"""Paired timing: two ways of doing the same work, in turn, A B A B ..., compared round by round in CPU seconds.

Machines are shared and drift; the ratio inside a round is what can be trusted. CPU time counts children that have ended.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable

Work = Callable[[], object]


def cpu_seconds(work: Work) -> float:
    """Return the CPU seconds of this process and of its finished children that `work` takes."""
    before = os.times()
    work()
    after = os.times()
    return sum(after[:4]) - sum(before[:4])


def paired(name: str, ours: Work, theirs: Work, rounds: int = 5) -> None:
    """Print our CPU seconds, theirs, and the ratio ours/theirs: median, smallest and largest of `rounds` rounds."""
    ours(), theirs()  # the first call pays for imports and caches
    pairs = [(cpu_seconds(ours), cpu_seconds(theirs)) for _ in range(rounds)]
    ratios = sorted(a / b for a, b in pairs)
    a, b = (statistics.median(side) for side in zip(*pairs, strict=True))
    spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
    print(
        f"{name:58} {a:8.3f} s  {b:8.3f} s  ratio {statistics.median(ratios):5.2f}  ({spread}, {rounds} rounds)",
        flush=True,
    )
