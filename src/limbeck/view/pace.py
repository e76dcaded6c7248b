"""How fast something goes now, and when it will be over: from the recent past, and without jumping.

    pace = Pace(now=0.0)
    pace.see(10.0, 95)
    pace.rate(10.0)             9.5 a second
    pace.left(10.0, 905)        95 seconds

Rows come in bursts (they are written in the order of their source, so one slow answer holds back fast ones), a resumed run begins
with thousands of rows from the cache, and an endpoint may get slower by the hour. So the rate is that of the last half minute, or
of the last twenty rows where they are slower; it is the mean of up to ten equal slices of that time without the fastest and the
slowest. What is shown as time left follows it gently.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from itertools import pairwise

WINDOW = 30.0
FEW = 20
SLICES, LEAST_SLICES = 10, 4


class Pace:
    """Follows a count that grows. Times are monotonic seconds."""

    def __init__(self, now: float) -> None:
        self.begun = self.moved = now
        self.count = 0.0
        self._marks: deque[tuple[float, float]] = deque([(now, 0.0)])
        self._left: tuple[float, float] | None = None
        """When the time left was last told, and what was told."""

    def see(self, now: float, count: float) -> None:
        """Note the count as it is now."""
        if count <= self.count:
            return
        self.count, self.moved = count, now
        self._marks.append((now, count))
        while len(self._marks) > 2 and self._marks[1][0] <= now - WINDOW and self._marks[1][1] <= count - FEW:
            self._marks.popleft()

    def rate(self, now: float) -> float | None:
        """Return the growth a second; None in the first second, and as long as nothing has come."""
        times, counts = [time for time, _ in self._marks], [count for _, count in self._marks]
        begin = max(times[0], min(now - WINDOW, self._time_of(self.count - FEW)))
        span, grown = now - begin, self.count - counts[0]
        if now - self.begun < 1.0 or grown <= 0 or span <= 0:
            return None
        slices = min(SLICES, len(times) // 4)
        if grown < FEW or slices < LEAST_SLICES:
            return grown / (now - times[0])
        edges = [_between(times, counts, begin + span * k / slices) for k in range(slices + 1)]
        parts = sorted(after - before for before, after in pairwise(edges))
        return sum(parts[1:-1]) / (span * (slices - 2) / slices) or sum(parts) / span

    def left(self, now: float, remaining: float) -> float | None:
        """Return the seconds until `remaining` more have come, or None where that can not be said."""
        rate = self.rate(now)
        if rate is None or remaining <= 0 or (now - self.begun < 10.0 and len(self._marks) < 4 * LEAST_SLICES):
            return None
        fresh = remaining / rate
        if self._left is not None:
            then, told = self._left
            expected = max(0.0, told - (now - then))
            alike = 0.5 * expected <= fresh <= 2 * expected
            patience = min(15.0, max(3.0, 0.02 * fresh)) if alike else 3.0
            fresh = expected + (fresh - expected) * (1 - math.exp(-(now - then) / patience))
        self._left = (now, fresh)
        return fresh

    def still(self, now: float) -> float:
        """Return for how many seconds nothing has come."""
        return now - self.moved

    def _time_of(self, count: float) -> float:
        return next((time for time, seen in reversed(self._marks) if seen <= count), self._marks[0][0])


def _between(times: Sequence[float], counts: Sequence[float], time: float) -> float:
    """Return the count at `time`, which grows evenly between two marks and stands still after the last one."""
    after = bisect_right(times, time)
    if after == 0 or after == len(times):
        return counts[max(0, after - 1)]
    share = (time - times[after - 1]) / (times[after] - times[after - 1])
    return counts[after - 1] + share * (counts[after] - counts[after - 1])
