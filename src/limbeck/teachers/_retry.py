"""Patience with a busy endpoint: the same call again after 0.5, 1, 2, 4 ... seconds, or after what the server asks for.

Only BusyError is tried again; a refusal or a wrong address is final at once. The jitter that keeps a thousand waiting
requests from coming back together is taken from the request's own digest, so a run waits the same way every time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from limbeck.core.errors import BusyError
from limbeck.core.fingerprint import digest

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How often and how long to try."""

    tries: int = 6
    seconds: float = 120.0
    """No new try begins later than this after the first."""
    first: float = 0.5
    """The wait before the second try; it doubles from there."""
    longest: float = 30.0


async def patiently(call: Callable[[], Awaitable[Result]], request: str, patience: Patience) -> Result:
    """Await `call()` until it is not busy; `request` is the digest of the request. Raises the last BusyError."""
    begun = time.monotonic()
    attempt = 0
    while True:
        attempt += 1
        try:
            return await call()
        except BusyError as error:
            pause = wait(error, request, attempt, patience)
            if attempt >= patience.tries or time.monotonic() - begun + pause > patience.seconds:
                raise BusyError(f"{error} (tried {attempt} times)", error.retry_after) from None
        await asyncio.sleep(pause)


def wait(error: BusyError, request: str, attempt: int, patience: Patience) -> float:
    """Return the seconds to wait after the given attempt: at least what the server asked for, else exponential."""
    jitter = int(digest([request, attempt], 4), 16) / 2**32
    grown = min(patience.longest, patience.first * 2.0 ** (attempt - 1)) * (0.5 + jitter)
    return grown if error.retry_after is None else error.retry_after + 0.1 * grown
