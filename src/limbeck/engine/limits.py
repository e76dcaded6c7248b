"""How fast an endpoint may be asked: adaptive concurrency, request and token rates, and the pauses it asks for.

    gate = Gate(Limits(concurrency=256, rpm=3000))
    await gate.enter(tokens=800)            # waits for a free place, for the rates, for a pause to end
    try: …one request…
    finally: gate.leave()
    gate.passed(sent) or gate.busy(sent)    # what the gate learns from

Concurrency follows what the endpoint accepts. It starts at 64 and doubles every round trip while nothing is turned away.
When requests are turned away (429, 503, timeouts), the answers of one round are counted, and the limit becomes the share that
was accepted: a server that takes 100 of 160 gets 100 from then on, and one that turns away 3 of 100 at random is slowed
by 3 %, not by half. That is one decrease for a burst, however many requests it hits; what was sent before the
decrease teaches nothing more. Growth after it is fast (an eighth each round) up to nine tenths of where it broke, and one
place a round from there. A share that stays the same after the load was more than halved is not for the load: it becomes the
noise that is expected, and the limit goes back. (The idea is TCP's: Jacobson 1988; AIMD as in Chiu and Jain 1989.)
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from dataclasses import dataclass

from limbeck.core.errors import UsageError

START = 64
LONGEST_PAUSE = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the user allows for one endpoint and model; no part of what is asked, and so of no cache key."""

    concurrency: int = 256
    """Most requests under way at once; LIMBECK_CONCURRENCY."""
    rpm: float | None = None
    """Most requests a minute; LIMBECK_RPM."""
    tpm: float | None = None
    """Most tokens a minute, in and out, estimated before a request and corrected after it; LIMBECK_TPM."""

    @classmethod
    def given(cls, concurrency: int | None = None, rpm: float | None = None, tpm: float | None = None) -> Limits:
        """Return the limits given, or else those of the environment. Raises UsageError for what is no number."""
        most = concurrency if concurrency is not None else _number("LIMBECK_CONCURRENCY")
        return cls(
            concurrency=max(1, int(most)) if most is not None else cls().concurrency,
            rpm=rpm if rpm is not None else _number("LIMBECK_RPM"),
            tpm=tpm if tpm is not None else _number("LIMBECK_TPM"),
        )


class Gate:
    """The places for requests at one endpoint; knows nothing of HTTP."""

    def __init__(self, limits: Limits) -> None:
        self.limit = float(min(START, limits.concurrency))
        self.in_flight = 0
        self.closed = False
        """No request enters any more: the run is stopping."""
        self._most = float(limits.concurrency)
        self._ceiling = float("inf")
        self._decreased = 0.0
        self._noise = 0.0
        """The share that is turned away whatever the load."""
        self._broke_at: tuple[float, float] | None = None
        """The limit, and the share turned away, at the first of the decreases that follow each other."""
        self._accepted = self._turned_away = 0
        self._open_at = 0.0
        self._requests = _Rate(limits.rpm)
        self._tokens = _Rate(limits.tpm)
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def enter(self, tokens: int, *, again: bool = False) -> None:
        """Wait for a place for a request of about so many tokens; on a closed gate, for ever.

        A request that is made `again` goes before those that were not made yet: rows wait behind it.
        """
        if (again or not self._waiting) and self._free():
            self._take(tokens)
            return
        place = asyncio.get_running_loop().create_future()
        (self._waiting.appendleft if again else self._waiting.append)((place, tokens))
        self._wake()
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.leave()
            raise

    def leave(self) -> None:
        """Give the place back."""
        self.in_flight -= 1
        if self._waiting:
            self._wake()

    def correct(self, tokens: int) -> None:
        """Count tokens that the estimate of `enter` missed (or, negative, those it had too many)."""
        self._tokens.take(tokens, time.monotonic())

    def passed(self, sent: float) -> None:
        """Learn that a request sent at `sent` (monotonic seconds) was answered."""
        if sent < self._decreased:
            return
        self._accepted += 1
        if self.in_flight + 1 >= int(self.limit):  # only a full gate shows that more would be taken
            self._grow()
        self._weigh()

    def busy(self, sent: float, retry_after: float | None) -> None:
        """Learn that a request sent at `sent` was turned away, and when the endpoint wants to see it again."""
        if sent < self._decreased:
            return
        self._turned_away += 1
        if retry_after and self._turned_away >= 3 and self._turned_away > self._accepted:
            self.pause(retry_after)
        self._weigh()

    def pause(self, seconds: float) -> None:
        """Let nobody enter for so long, at most two minutes."""
        self._open_at = max(self._open_at, time.monotonic() + min(seconds, LONGEST_PAUSE))

    def resize(self, limits: Limits) -> None:
        """Allow more or less from now on; a concurrency of 0 lets nobody in."""
        grown = self._most < 1 <= limits.concurrency
        self._most = float(limits.concurrency)
        self.limit = min(float(START) if grown else self.limit, self._most)
        self._requests.set(limits.rpm)
        self._tokens.set(limits.tpm)
        self._wake()

    def _grow(self) -> None:
        if self._ceiling == float("inf"):
            self.limit += 1.0
        elif self.limit < 0.9 * self._ceiling:
            self.limit += 0.125
        else:
            self.limit += 1.0 / self.limit
            if self.limit > 1.2 * self._ceiling:  # what turned requests away is long over
                self._ceiling = float("inf")
        self.limit = min(self.limit, self._most)

    def _weigh(self) -> None:
        """At the end of a round, or of a burst that nothing survives, become what was accepted of it."""
        seen = self._accepted + self._turned_away
        refused_all = self._turned_away >= 8 and not self._accepted
        if seen < self.limit and not refused_all:
            return
        share = self._turned_away / seen
        if share > 2 * self._noise + 0.02:
            self._decrease(share)
        else:
            self._noise += 0.1 * (share - self._noise)
            self._broke_at = None if share == 0.0 else self._broke_at
        self._accepted = self._turned_away = 0

    def _decrease(self, share: float) -> None:
        if self._broke_at is not None:
            limit, before = self._broke_at
            capacity = limit * (1.0 - before)
            if_load = max(0.0, 1.0 - capacity / self.limit)  # what a server of that capacity turns away now
            if self.limit <= 0.4 * limit and abs(share - before) < abs(share - if_load):
                self._noise, self.limit, self._broke_at = share, limit, None
                return
        if self._broke_at is None:
            self._broke_at = (self.limit, share)
        self._ceiling = max(self.limit, 1.0)
        self.limit = max(1.0, self.limit * max(0.5, 1.0 - share))
        self._decreased = time.monotonic()

    def _free(self) -> bool:
        return not self.closed and self.in_flight < int(self.limit) and self._wait() <= 0.0

    def _wait(self) -> float:
        now = time.monotonic()
        return max(self._open_at - now, self._requests.wait(now), self._tokens.wait(now))

    def _take(self, tokens: int) -> None:
        now = time.monotonic()
        self.in_flight += 1
        self._requests.take(1, now)
        self._tokens.take(tokens, now)

    def _wake(self) -> None:
        while self._waiting and self._free():
            place, tokens = self._waiting.popleft()
            if not place.done():
                self._take(tokens)
                place.set_result(None)
        if self._waiting and not self.closed and self.in_flight < int(self.limit) and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(max(0.001, self._wait()), self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._wake()


class _Rate:
    """So many a minute, evenly, with one second's worth saved up (the leaky bucket as GCRA)."""

    def __init__(self, per_minute: float | None) -> None:
        self._next = 0.0
        self.set(per_minute)

    def set(self, per_minute: float | None) -> None:
        """Allow so many a minute from now on; None is no limit."""
        self._each = 60.0 / per_minute if per_minute else 0.0

    def wait(self, now: float) -> float:
        """Return the seconds until one may go."""
        return self._next - 1.0 - now if self._each else 0.0

    def take(self, count: float, now: float) -> None:
        """Count what goes."""
        if self._each:
            self._next = max(self._next, now) + count * self._each


def _number(name: str) -> float | None:
    text = os.environ.get(name, "").strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if value <= 0:
        raise UsageError(f"{name} is '{text}', which is no positive number; unset it or give one.")
    return value
