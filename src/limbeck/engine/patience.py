"""Patience with an endpoint: what is tried again, how long, and when an endpoint is given up.

    what happened                       tried again                                 when that is used up
    400 413 422, content filter         never                                       the row is dropped
    401 402 404                         never                                       the run stops at once
    403                                 never                                       the row is dropped; if none pass, the run stops
    429 503 529                         30 times                                    the row is dropped
    500 and other 5xx, 408 409 425      6 times                                     the row is dropped
    timeout                             3 times                                     the row is dropped
    cut connection, broken JSON         6 times                                     the row is dropped
    nothing listens, no such host       30 times while others pass, else twice      the run stops

A row is never dropped for an endpoint that is down: when nothing at all has passed for `quiet` seconds, or when more than a
twentieth of the rows were given up, the run stops with everything kept, and the same command goes on.

Waiting doubles from half a second to 30, or follows Retry-After; its jitter comes from the request's own digest, so a run
waits the same way every time, and a thousand requests do not come back together.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from limbeck.core.errors import BusyError, EndpointError, RefusedError, TeacherError

TRIES = {"rate": 30, "overloaded": 30, "server": 6, "timeout": 3, "connection": 6, "garbled": 6, "unreachable": 30}
GIVEN_UP_SHARE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How often and how long to try."""

    tries: Mapping[str, int] = field(default_factory=lambda: TRIES)
    first: float = 0.5
    """Seconds before the second try; doubled for every further one."""
    longest: float = 30.0
    quiet: float = field(default_factory=lambda: float(os.environ.get("LIMBECK_PATIENCE", "300")))
    """Seconds without any answer after which an endpoint is given up; LIMBECK_PATIENCE."""

    def wait(self, error: BusyError, request: str, attempt: int) -> float:
        """Return the seconds to wait after the given attempt: at least what the server asked for, else exponential."""
        jitter = (int(request[:8], 16) * 2654435761 * (attempt + 1) % 2**32) / 2**32
        grown = min(self.longest, self.first * 2.0 ** min(attempt - 1, 20)) * (0.5 + jitter)
        return grown if error.retry_after is None else error.retry_after + 0.1 * min(grown, 2.0)


class Health:
    """What an endpoint has let pass in the current session, to tell a bad row from a bad endpoint."""

    def __init__(self, patience: Patience, tolerate: float) -> None:
        self.patience = patience
        self.passed = 0
        """Answers, also those of earlier sessions that the cache gave."""
        self.answered = False
        """Whether it has answered in the current session."""
        self.given_up = 0
        self._share = max(GIVEN_UP_SHARE, tolerate)
        self._failing_since: float | None = None

    def good(self) -> None:
        """Note an answer."""
        self.passed += 1
        self.answered = True
        self._failing_since = None

    def verdict(self, error: BusyError, attempt: int, pause: float) -> TeacherError | None:
        """Return None to try again after `pause` seconds, or the error that ends the row or the run."""
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        silent = now - self._failing_since
        if error.kind == "unreachable" and not self.answered and attempt >= 2:
            return EndpointError(str(error))
        if silent > self.patience.quiet and error.kind != "timeout":
            return EndpointError(
                f"Nothing has passed for {silent:.0f} seconds (LIMBECK_PATIENCE is {self.patience.quiet:g}); the last word: "
                f"{error} Everything is kept; run the same command again to go on."
            )
        if attempt < self.patience.tries.get(error.kind, 6) and pause <= self.patience.quiet:
            return None
        return self._give_up(error, attempt)

    def _give_up(self, error: BusyError, attempt: int) -> TeacherError:
        self.given_up += 1
        if self.given_up >= 20 and self.given_up > self._share * (self.passed + self.given_up):
            return EndpointError(
                f"{self.given_up} rows had to be given up and {self.passed} passed, so it is the endpoint and not the rows; "
                f"the last word: {error} Everything is kept; run the same command again to go on."
            )
        return GaveUp(f"gave up after {attempt} tries: {error}")


class GaveUp(RefusedError):
    """A row whose tries are used up: dropped like a refused one, under its own reason."""
