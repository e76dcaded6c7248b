"""Where Anthropic's API is, what it must be told with every request, and what its errors mean for the run.

    api = Api("claude-x@http://localhost:4000")     any server that speaks the Messages format
    api.identity                    "http://localhost:4000/v1 claude-x"
    api.address.at("/messages")     "http://localhost:4000/v1/messages"
    api.headers()                   {"x-api-key": ..., "anthropic-version": "2023-06-01", ...}

Errors are those of `_status.py`, but two kinds of 400 are about the account or the settings and not about the row, so that the
run must stop instead of dropping every row: no credit, and a parameter that the model does not take (newer models take no
`temperature` but 1, and no `top_p`). The API says how much of an allowance is left in headers of its own:

    anthropic-ratelimit-requests-remaining: 0
    anthropic-ratelimit-requests-reset: 2026-11-21T07:00:12Z        -> everybody waits until then
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Mapping
from datetime import UTC, datetime

from limbeck.core.errors import BusyError, EndpointError, UsageError
from limbeck.teachers._address import Address
from limbeck.teachers._status import message, seconds

HOST = "api.anthropic.com"
HOME = f"https://{HOST}/v1"
VERSION = "2023-06-01"
ALLOWANCES = ("requests", "tokens", "input-tokens", "output-tokens")
NO_CREDIT = ("credit balance", "api usage limits", "spend limit", "spend_limit")
NOT_TAKEN = ("`temperature`", "`top_p`", "temperature and top_p", "temperature is deprecated")


class Api:
    """A model at Anthropic's endpoint or a compatible one: address, key and errors."""

    def __init__(self, rest: str) -> None:
        model, at, address = rest.partition("@http")
        if not model:
            raise UsageError("anthropic: needs a model: anthropic:MODEL or anthropic:MODEL@http://host:port.")
        self.model = model
        self.address = Address(_with_version("http" + address if at else HOME), home=HOST, key="ANTHROPIC_API_KEY")
        self.identity = f"{self.address.shown} {model}"

    def headers(self) -> dict[str, str]:
        """Return the headers of a request; a server other than Anthropic's gets the key in the two usual forms."""
        headers = self.address.headers(key_header="x-api-key")
        both = headers if self.address.home else headers | self.address.headers()
        return both | {"anthropic-version": VERSION}

    def check(self, status: int, headers: Mapping[str, str], body: str) -> None:
        """Raise what a status other than 2xx means."""
        said = message(body)
        if status in (400, 429) and any(sign in body.lower() for sign in NO_CREDIT):
            raise EndpointError(f"The account at {self.address.shown} may spend no more: {self.address.clean(said)}")
        if status == 400 and any(sign in said for sign in NOT_TAKEN):
            raise EndpointError(
                f"{self.model} does not take the sampling that was asked for: {self.address.clean(said)} Newer models "
                "of Anthropic take temperature 1 and top_p 1 only: set these, or choose another model."
            )
        wait = pause(headers)
        if status == 429 and seconds(headers) is None and wait:
            raise BusyError(f"{self.address.shown} is busy (status 429): {self.address.clean(said)}", wait, "rate")
        self.address.check(status, headers, body)


def pause(headers: Mapping[str, str]) -> float:
    """Return the seconds until an allowance that is used up is given anew; 0 when there is some left of each."""
    return max(_reset(headers, what) for what in ALLOWANCES)


def _reset(headers: Mapping[str, str], what: str) -> float:
    if headers.get(f"anthropic-ratelimit-{what}-remaining", "").strip() != "0":
        return 0.0
    try:
        until = datetime.fromisoformat(headers.get(f"anthropic-ratelimit-{what}-reset", ""))
    except ValueError:
        return 0.0
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0.0, until.timestamp() - _now(headers))


def _now(headers: Mapping[str, str]) -> float:
    """Return the time by the server's clock, which is the one the reset was told by; by ours where it does not say."""
    try:
        return email.utils.parsedate_to_datetime(headers.get("Date", "")).timestamp()
    except ValueError:
        return time.time()


def _with_version(address: str) -> str:
    """Let an address end with `/v1`: the makers of compatible servers name it sometimes with and sometimes without."""
    base, mark, query = address.partition("?")
    base = base.rstrip("/")
    return (base if base.endswith("/v1") else f"{base}/v1") + mark + query
