"""One exchange over HTTP: a request goes out once, and either a whole answer comes back or a BusyError says what happened.

    session = Session("http://localhost:8000/v1")
    status, headers, text = await session.exchange("POST", url, b'{"model": ...}', {"Authorization": "Bearer ..."})
    await session.close()

A status of 500 or 401 is an answer like any other; what it means is for the caller to say. What never became an answer:

| what happened                                            | raised                         |
|----------------------------------------------------------|--------------------------------|
| nothing listens, no such host                            | BusyError(kind="unreachable")  |
| no connection in 30 s, no whole answer in LIMBECK_TIMEOUT | BusyError(kind="timeout")      |
| reset, cut, half-closed, an answer shorter than declared | BusyError(kind="connection")   |
| something that is not HTTP, a damaged compression        | BusyError(kind="garbled")      |
| this machine has no file handle or port left             | BusyError(kind="overloaded")   |
| a certificate that nobody vouches for, a proxy's refusal | EndpointError                  |

Nothing is tried twice here, and nothing waits in a queue: how many requests are under way is the engine's business. Messages
name the address as it may be shown and the kind of fault; never a header, which may hold a key.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from limbeck.core.errors import BusyError, EndpointError, TeacherError, UsageError

if TYPE_CHECKING:
    import aiohttp

CONNECT_SECONDS = 30.0
IDLE_SECONDS = 4.0
"""An unused connection is given up after this time: uvicorn, and so vLLM, closes it after 5, and what is sent just then is lost."""
LARGE = 1 << 20
"""Bodies from this many bytes on are handed over as a stream: aiohttp warns about long ones in one piece."""
_SPENT = {errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS}


class Heard(NamedTuple):
    """A whole answer; the names of `headers` may be looked up in any case."""

    status: int
    headers: Mapping[str, str]
    text: str


class Session:
    """The connections to one endpoint, opened on first use and kept between requests."""

    def __init__(self, shown: str) -> None:
        """Prepare for the endpoint that messages may call `shown`. Raises UsageError for a LIMBECK_TIMEOUT that is no time."""
        self.shown = shown
        self.seconds = _timeout()
        self._session: aiohttp.ClientSession | None = None

    async def exchange(
        self, method: str, url: str, data: bytes | None, headers: Mapping[str, str], *, seconds: float | None = None
    ) -> Heard:
        """Send one request and return the whole answer, whatever its status.

        `seconds` is the hard limit from the first byte of name resolution to the last byte of the answer; None for
        LIMBECK_TIMEOUT (300). Redirects are not followed: the next host has no right to the key.
        Raises BusyError or EndpointError as in the module's table.
        """
        body = io.BytesIO(data) if data is not None and len(data) >= LARGE else data
        limits = _limits(self.seconds if seconds is None else seconds)
        try:
            session = self._session or self._open()
            async with session.request(
                method, url, data=body, headers=headers, timeout=limits, allow_redirects=False
            ) as reply:
                raw = await reply.read()
                return Heard(reply.status, reply.headers, raw.decode("utf-8", "replace"))
        except (OSError, _client_error()) as error:
            raise self._meaning(error, seconds or self.seconds) from None

    async def close(self) -> None:
        """Close the connections; a later exchange opens new ones."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    def _open(self) -> aiohttp.ClientSession:
        import aiohttp

        from limbeck.teachers._connections import Connections

        # no limit: the engine decides how many requests go out, and waiting for a turn is no part of a request's time
        connector = Connections(limit=0, keepalive_timeout=IDLE_SECONDS)
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=_proxy(self.shown),
        )
        return self._session

    def _meaning(self, error: Exception, seconds: float) -> TeacherError:
        import aiohttp

        shown, name = self.shown, type(error).__name__
        if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
            return EndpointError(f"{shown} has no certificate that can be trusted: check the address.")
        if isinstance(error, aiohttp.ClientHttpProxyError):
            return EndpointError(
                f"The proxy on the way to {shown} answers with status {error.status}: check HTTPS_PROXY."
            )
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return BusyError(f"{shown} took no connection within {CONNECT_SECONDS:g} seconds.", kind="timeout")
        if isinstance(error, TimeoutError):
            return BusyError(f"{shown} gave no answer within {seconds:g} seconds (LIMBECK_TIMEOUT).", kind="timeout")
        if isinstance(error, OSError) and error.errno in _SPENT:
            said = f"This machine has no connection left for {shown} ({os.strerror(error.errno or 0)}): lower --concurrency"
            return BusyError(f"{said}, or raise `ulimit -n`.", kind="overloaded")
        if isinstance(error, aiohttp.ClientConnectorError):
            return BusyError(f"Nothing answers at {shown}: start the server or check the address.", kind="unreachable")
        if isinstance(error, aiohttp.InvalidURL):
            return EndpointError(f"{shown} is no address that a request can be sent to: check it.")
        if isinstance(error, aiohttp.ClientResponseError):
            return BusyError(f"{shown} answered with what is not HTTP ({name}).", kind="garbled")
        return BusyError(f"{shown} broke off the connection ({name}).", kind="connection")


def _client_error() -> type[Exception]:
    import aiohttp

    return aiohttp.ClientError


def _timeout() -> float:
    text = os.environ.get("LIMBECK_TIMEOUT") or "300"
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise UsageError(f"LIMBECK_TIMEOUT is '{text}': give the seconds that one request may take, for example 300.")
    return seconds


@lru_cache(maxsize=8)
def _limits(seconds: float) -> aiohttp.ClientTimeout:
    import aiohttp

    return aiohttp.ClientTimeout(total=seconds, sock_connect=min(CONNECT_SECONDS, seconds))


def _proxy(shown: str) -> str | None:
    """Return the proxy that HTTPS_PROXY, HTTP_PROXY and NO_PROXY name for an address; this machine is reached directly."""
    parts = urlsplit(shown)
    host = parts.hostname or ""
    return None if _here(host) or proxy_bypass(host) else getproxies().get(parts.scheme)


def _here(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
