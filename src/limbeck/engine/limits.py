"""How fast an endpoint may be asked: adaptive concurrency, request and token rates, and the pauses it asks for.

    gate = Gate(Limits(concurrency=256, rpm=3000))
    await gate.enter(tokens=800)            # waits for a free place, for the rates, for a pause to end
    try: …one request…
    finally: gate.leave()
    gate.passed(sent) or gate.busy(sent)    # what the gate learns from

Concurrency follows what the endpoint accepts. It starts at 64 and doubles every round trip while nothing is turned away.
When requests are turned away (429, 503, timeouts), the answers of one round are counted, and the limit becomes the share that
was accepted: a server that takes 100 of 160 gets 100 from then on. That is one decrease for a burst, however many requests it
hits; what was sent before the decrease teaches nothing more. Growth after it is fast (an eighth each round) up to nine tenths
of where it broke, and one place a round from there. (The idea is TCP's: Jacobson 1988; AIMD as in Chiu and Jain 1989.)

Some servers turn requests away at random, whatever the load; to slow down for that is to lose time for nothing. So the first
time that a share of requests is turned away (and each fourth time after) a `Trial` asks at half of what the server seems to
take, until a sequential test (Wald 1945) knows: if as many are turned away as before, that share is noise and the limit goes
back; else it was the load.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections import deque
from dataclasses import dataclass
from typing import Literal

from limbeck.core.errors import UsageError

START = 64
LONGEST_PAUSE = 120.0
ENOUGH = 8
"""So many have to be turned away, and most of those that came back, before it is taken for a refusal of all."""
TRIAL_EVERY = 4
"""Of so many times that a share is turned away, the first is put to a trial: a verdict may be wrong, or out of date."""


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
        self._trial: Trial | None = None
        self._breaks = 0
        """How often too large a share was turned away."""
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
        if self._trial is not None:
            self._judge(self._trial, False)
            return
        if self.in_flight + 1 >= int(self.limit):  # only a full gate shows that more would be taken
            self._grow()
        self._weigh()

    def busy(self, sent: float, retry_after: float | None) -> None:
        """Learn that a request sent at `sent` was turned away, and when the endpoint wants to see it again."""
        if sent < self._decreased:
            return
        self._turned_away += 1
        if self._trial is not None:
            self._judge(self._trial, True)
        if retry_after and self._turned_away >= ENOUGH and self._turned_away > self._accepted:
            self.pause(retry_after)
        if self._trial is None:
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
        refused_all = self._turned_away >= ENOUGH and not self._accepted
        if seen < self.limit and not refused_all:
            return
        share, spread = self._turned_away / seen, math.sqrt(self._noise * (1.0 - self._noise) / seen)
        if share <= self._noise + 0.02 + 3.0 * spread:
            self._noise += 0.1 * min(0.0, share - self._noise)  # never up: it would follow the load, step by step
        elif share <= 0.4 and self.limit >= 8 and self._breaks % TRIAL_EVERY == 0:
            self._breaks += 1
            self._trial = Trial(self.limit, share)
            self._lower_to(self._trial.limit)
        else:
            self._decrease(share)
        self._accepted = self._turned_away = 0

    def _judge(self, trial: Trial, turned_away: bool) -> None:
        verdict = trial.learn(turned_away)
        if verdict == "noise":
            self._noise, self.limit = trial.share, min(trial.broke_at, self._most)
        elif verdict == "load":
            self._ceiling = trial.capacity
            self._lower_to(0.9 * trial.capacity)
        elif verdict == "worse":
            self._decrease(1.0)
        if verdict:
            self._trial = None
            self._accepted = self._turned_away = 0
            self._wake()

    def _decrease(self, share: float) -> None:
        self._breaks += 1
        self._ceiling = max(self.limit, 1.0)
        self._lower_to(self.limit * max(0.5, 1.0 - share))

    def _lower_to(self, limit: float) -> None:
        self.limit = max(1.0, min(limit, self._most))
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


class Trial:
    """Whether a share of requests is turned away for the load or at random: ask for less, and see whether it falls.

    >>> trial = Trial(64.0, 0.25)               # at 64 requests under way one of four was turned away
    >>> trial.capacity, trial.limit             # so the server takes 48, if it is the load; 24 it should take with ease
    (48.0, 24.0)
    >>> [trial.learn(turned_away=True) for _ in range(2)]
    ['', 'noise']
    """

    RARE = 0.003
    """The share that a server turns away which is not at its limit."""
    SURE = math.log(50.0)
    """How many times likelier one of the two has to be."""

    def __init__(self, broke_at: float, share: float) -> None:
        self.broke_at = broke_at
        self.capacity = broke_at * (1.0 - share)
        self.limit = max(1.0, 0.5 * self.capacity)
        self._expected = max(share, 2 * self.RARE)
        self._likelier = 0.0
        self._seen = self._turned_away = 0

    @property
    def share(self) -> float:
        """The share that was turned away before and during the trial: the round before it counts as many requests as it had."""
        return (self._turned_away + self._expected * self.broke_at) / (self._seen + self.broke_at)

    def learn(self, turned_away: bool) -> Literal["", "noise", "load", "worse"]:
        """Count one request; return the verdict, once there is one. It is `worse` where more than half are turned away."""
        self._seen += 1
        self._turned_away += turned_away
        if self._turned_away >= ENOUGH and self._turned_away > 0.5 * self._seen:
            return "worse"
        before, rare = (self._expected, self.RARE) if turned_away else (1.0 - self._expected, 1.0 - self.RARE)
        self._likelier += math.log(before / rare)
        if self._likelier > self.SURE and self._turned_away > 1:  # one alone may be a coincidence
            return "noise"
        return "load" if self._likelier < -self.SURE else ""


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
