"""What a status other than 200 means for the run, and what an endpoint's headers ask of everybody.

| status                                  | error                        | what the run does                      |
|-----------------------------------------|------------------------------|----------------------------------------|
| 400 413 422                             | RefusedError                 | drops this row, tried once             |
| 403                                     | DeniedError                  | drops it if other rows pass, else stops |
| 401 402 404, other 4xx, 3xx             | EndpointError                | stops: every row would fail            |
| 429                                     | BusyError(kind="rate")       | waits, sends less, tries again         |
| 503 529, 498                            | BusyError(kind="overloaded") | the same                               |
| 408 409 425 424 499, other 5xx          | BusyError(kind="server")     | waits and tries again                  |
| 429 with insufficient_quota             | EndpointError                | stops: waiting brings no credit        |

424 is what text-generation-inference says of a generation that failed half-way, 498 what Groq says when it is full, 499 what a
proxy says when its own client left: none is about the row or the endpoint.

    seconds({"Retry-After": "2"})                                                    2.0
    seconds({"retry-after-ms": "150"})                                               0.15
    pause({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m2.5s"})      62.5
"""

from __future__ import annotations

import email.utils
import json
import math
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from limbeck.core.errors import BusyError, DeniedError, EndpointError, RefusedError, TeacherError

if TYPE_CHECKING:
    from limbeck.teachers._address import Address

REFUSED = (400, 413, 422)
BUSY = {
    408: "server",
    409: "server",
    424: "server",
    425: "server",
    429: "rate",
    498: "overloaded",
    499: "server",
    503: "overloaded",
    529: "overloaded",
}
HINTS = {
    401: "the key is missing or wrong: put it into {key}",
    402: "the account has no credit",
    404: "there is no such model or path: check both, and that the address ends as the server's documents say (often /v1)",
}
NO_QUOTA = ("insufficient_quota", "billing_hard_limit_reached", "credit balance is too low")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


def error(address: Address, status: int, headers: Mapping[str, str], body: str) -> TeacherError:
    """Return the error that a status other than 2xx stands for; `body` is what the server said with it."""
    shown, said = address.shown, _sentence(address.clean(message(body)))
    if status == 429 and any(sign in body for sign in NO_QUOTA):
        return EndpointError(f"The account at {shown} has used up its quota: {said}")
    if status in BUSY or status >= 500:
        kind, wanted = BUSY.get(status, "server"), seconds(headers)
        wanted = pause(headers) or None if wanted is None else wanted
        return BusyError(f"{shown} is busy (status {status}): {said}", wanted, kind)
    if status in REFUSED:
        return RefusedError(f"{shown} refused the request (status {status}): {said}")
    if status == 403:
        return DeniedError(
            f"{shown} denied the request (status 403): the key in {address.key_name} may not use this model, "
            f"or the provider does not answer this prompt. It says: {said}"
        )
    if 300 <= status < 400:
        return EndpointError(f"{shown} redirects elsewhere (status {status}): give the final address.")
    hint = HINTS.get(status, "check the address and the model").format(key=address.key_name)
    return EndpointError(f"{shown} answered with status {status}: {hint}. It says: {said}")


def _sentence(said: str) -> str:
    return said if said.endswith((".", "!", "?")) else said + "."


def error_inside(address: Address, reply: Mapping[str, Any]) -> TeacherError:
    """Return the error that stands inside an answer with status 200; without a code of its own it counts as a 500."""
    found = reply["error"]
    code = found.get("code") if isinstance(found, dict) else None
    with suppress(TypeError, ValueError):
        code = int(code)  # type: ignore[arg-type]
    return error(address, code if isinstance(code, int) and 300 <= code < 600 else 500, {}, json.dumps(reply))


def message(body: str) -> str:
    """Find the sentence in an error body: {"error": {"message": ...}}, {"message": ...}, {"detail": ...} or plain text."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return " ".join(body.split()) or "nothing"
    while isinstance(found, dict):
        inner = next((found[name] for name in ("error", "message", "detail") if found.get(name)), None)
        if inner is None:
            break
        found = inner
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)


def seconds(headers: Mapping[str, str]) -> float | None:
    """Return for how long the server asks to be left alone: `retry-after-ms`, or Retry-After in seconds or as a date."""
    milliseconds, retry_after = headers.get("retry-after-ms"), headers.get("Retry-After")
    if milliseconds is not None and (found := _number(milliseconds)) is not None:
        return found / 1000
    if not retry_after or (found := _number(retry_after)) is not None:
        return found if retry_after else None
    until, now = _moment(retry_after), _moment(headers.get("Date"))  # by the server's own clock, if it tells it
    return None if until is None else max(0.0, until - (time.time() if now is None else now))


def pause(headers: Mapping[str, str]) -> float:
    """Return the seconds until an endpoint whose allowance is used up (`x-ratelimit-remaining-*` is 0) gives it anew."""
    return max(_reset(headers, what) for what in ("requests", "tokens"))


def _reset(headers: Mapping[str, str], what: str) -> float:
    remaining = headers.get(f"x-ratelimit-remaining-{what}")
    if remaining is None or remaining.strip() not in ("0", "0.0"):
        return 0.0
    return span(headers.get(f"x-ratelimit-reset-{what}") or "")


def span(text: str) -> float:
    """Read a span of time in seconds: `6m0s`, `12ms`, `1h2m3.5s`, or a bare number of seconds; 0 for anything else.

    >>> span("1m2.5s"), span("250ms"), span("7"), span("soon")
    (62.5, 0.25, 7.0, 0.0)
    """
    if (number := _number(text)) is not None:
        return number
    found = _SPAN.findall(text)
    whole = "".join(number + unit for number, unit in found) == text.replace(" ", "")
    return sum(float(number) * _UNITS[unit] for number, unit in found) if whole else 0.0


def _moment(text: str | None) -> float | None:
    with suppress(ValueError):
        return email.utils.parsedate_to_datetime(text).timestamp() if text else None
    return None


def _number(text: str) -> float | None:
    with suppress(ValueError):
        value = float(text)
        return max(0.0, value) if math.isfinite(value) else None
    return None
