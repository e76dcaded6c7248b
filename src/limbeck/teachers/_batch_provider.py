"""What every provider of batches can do, and how it is talked to.

    provider.line("9c41…", ask, [0, 1])     b'{"custom_id": "9c41…", "method": "POST", "url": "/v1/chat/completions", "body": {…}}'
    await provider.create(entry, lines)     "batch_abc": from now on it costs
    await provider.state("batch_abc")       State(ended=False, done=120, failed=1, total=2000)
    provider.pieces(b'{"custom_id": …}', ask, [0, 1])      [Piece(Answer("4"), 12, 0), Piece(Answer("four"), 0, 0)]

What happened to one request is read by itself: `pieces` raises RefusedError or DeniedError where that is final for the row, and
BusyError where the request expired, was cancelled or failed on the provider's side: it is asked again.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from limbeck.core.ask import Answer, Ask
from limbeck.core.errors import BusyError, DeniedError, EndpointError, LimbeckError, RefusedError, UsageError
from limbeck.teachers._address import Address
from limbeck.teachers._batch_journal import Entry
from limbeck.teachers._http import Session

BULK_SECONDS = 1800.0
"""How long one upload or one download may take."""
TRIES = 8
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 300.0
CHUNK = 1 << 20
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """How far a batch is. `problem` says why a provider took none of it; `crowded` that it may when others are done."""

    ended: bool
    done: int = 0
    failed: int = 0
    total: int = 0
    problem: str = ""
    crowded: bool = False
    results: tuple[str, ...] = ()
    """Where the results are to be had, below the endpoint's address."""


class Piece(NamedTuple):
    """One answer with its share of the tokens."""

    answer: Answer
    tokens_in: int
    tokens_cached: int


class Provider(Protocol):
    """A batch API for one model."""

    identity: str
    """That of the teacher which asks the same model live: answers serve both."""
    most: int
    """Requests in one batch."""
    most_bytes: int
    """Bytes in one batch."""
    caller: Caller
    """How it is talked to."""
    sure: bool
    """Whether `find` names only batches that are certainly the entry's."""

    @property
    def most_samples(self) -> int:
        """Answers to one request."""
        ...

    def line(self, custom_id: str, ask: Ask, samples: Sequence[int]) -> bytes:
        """Return one request. Raises RefusedError or EndpointError for what the API can not be asked."""
        ...

    async def newest(self) -> str:
        """Return the id of the newest batch of the account, or an empty text."""
        ...

    async def upload(self, lines: Sequence[bytes]) -> str:
        """Bring the requests there, where the API has files, and return the file's id; nothing is bought by that."""
        ...

    async def create(self, entry: Entry, lines: Sequence[bytes]) -> str:
        """Begin a batch, which is to buy it, and return its id."""
        ...

    async def find(self, entry: Entry) -> list[str]:
        """Return the batches in the provider's list that are the entry's, or may be."""
        ...

    async def state(self, batch: str) -> State:
        """Return how far a batch is."""
        ...

    def pieces(self, raw: bytes, ask: Ask, samples: Sequence[int]) -> list[Piece]:
        """Read one line of the results as the live teacher would; it may hold fewer answers than were asked for.

        Raises RefusedError or DeniedError for the row, BusyError to ask again, EndpointError for what would be the same again,
        and ValueError, KeyError, TypeError or AttributeError for what is no such line.
        """
        ...


class Caller(Session):
    """Exchanges with an endpoint whose answers are JSON, or files; `pause` is the first wait where one is tried again."""

    def __init__(
        self,
        address: Address,
        headers: Callable[[], dict[str, str]],
        check: Callable[[int, Mapping[str, str], str], None],
        pause: float,
    ) -> None:
        super().__init__(address.shown)
        self._address = address
        self._headers = headers
        self._check = check
        self._pause = min(FIRST_PAUSE, pause)
        self._reached = False

    async def json(
        self, method: str, path: str, data: bytes | None = None, *, kind: str = "application/json"
    ) -> dict[str, Any]:
        """Make one exchange and return the object that came back; `kind` is the data's media type.

        Raises as `Address.check` and `Session.exchange`.
        """
        headers = self._headers() | {"Content-Type": kind}
        seconds = BULK_SECONDS if data is not None else None
        status, heard, text = await self.exchange(method, self._url(path), data, headers, seconds=seconds)
        self._reached = True
        self._check(status, heard, text)
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise BusyError(f"{self.shown} answered with what is not a JSON object.", kind="garbled")
        return found

    async def insist(self, call: Callable[[], Awaitable[Result]]) -> Result:
        """Await `call()`, which buys nothing, until the endpoint is not busy; what ends it is an EndpointError.

        It is tried eight times, with waits that double, or are what the server asks for; an endpoint that was never there
        is tried twice.
        """
        attempt = 0
        while True:
            attempt += 1
            try:
                return await call()
            except BusyError as error:
                never = error.kind == "unreachable" and not self._reached
                if attempt >= (2 if never else TRIES):
                    raise EndpointError(f"{error} (tried {attempt} times)") from None
                await asyncio.sleep(self.wait(error, attempt))
            except (RefusedError, DeniedError) as error:
                raise EndpointError(str(error)) from None

    def wait(self, error: BusyError, attempt: int) -> float:
        """Return the seconds to wait before the try after `attempt`."""
        return min(LONGEST_PAUSE, error.retry_after or self._pause * 2.0 ** (attempt - 1))

    async def save(self, path: str, target: Path) -> None:
        """Append what is at `path` to a file, without holding it in memory."""
        import aiohttp

        session, headers = self._session or self._open(), self._headers()
        try:
            limit = aiohttp.ClientTimeout(total=BULK_SECONDS)
            async with session.get(self._url(path), headers=headers, allow_redirects=False, timeout=limit) as reply:
                if reply.status != 200:
                    self._check(reply.status, reply.headers, await reply.text(errors="replace"))
                with target.open("ab") as file:
                    async for chunk in reply.content.iter_chunked(CHUNK):
                        file.write(chunk)
        except LimbeckError:
            raise
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
            raise self._meaning(error, BULK_SECONDS) from None

    def _url(self, path: str) -> str:
        target, mark, options = path.partition("?")
        url = self._address.at(target)
        return f"{url}{'&' if '?' in url else '?'}{options}" if mark else url


def poll_seconds() -> float:
    """Return LIMBECK_BATCH_POLL, the seconds between two looks at a batch; 30 where it is not set. Raises UsageError."""
    text = os.environ.get("LIMBECK_BATCH_POLL") or "30"
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise UsageError(
            f"LIMBECK_BATCH_POLL is '{text}': give the seconds between two looks at a batch, for example 30."
        )
    return seconds
