"""Where an endpoint is, which key it may see, and what its status codes mean for the run.

    address = Address("http://user:secret@localhost:8000/v1?tier=2")
    address.shown       "http://localhost:8000/v1"          the only form that is ever printed, hashed or stored
    address.url         "http://localhost:8000/v1/chat/completions?tier=2"

| status                            | error          | what the run does             |
|-----------------------------------|----------------|-------------------------------|
| 400 413 422                       | RefusedError   | drops this row, tried once    |
| 401 402 403 404, other 4xx, 3xx   | EndpointError  | stops: every row would fail   |
| 408 409 425 429, 5xx              | BusyError      | waits and tries again         |
"""

from __future__ import annotations

import email.utils
import json
import os
import re
import time
from base64 import b64encode
from contextlib import suppress
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from limbeck.core.errors import BusyError, EndpointError, RefusedError, UsageError

REFUSED = (400, 413, 422)
BUSY = (408, 409, 425, 429)
HINTS = {
    401: "the key is missing or wrong: put it into {key}",
    402: "the account has no credit",
    403: "the key in {key} may not use this model",
    404: "there is no such model or path: check both, and that the address ends as the server's documents say (often /v1)",
}


class Address:
    """An endpoint's base address, with its credentials kept apart."""

    def __init__(self, text: str) -> None:
        parts = _split(text)
        host = f"{parts.hostname}" if ":" not in str(parts.hostname) else f"[{parts.hostname}]"
        netloc = host if parts.port is None else f"{host}:{parts.port}"
        path = parts.path.rstrip("/")
        self.shown = urlunsplit((parts.scheme, netloc, path, "", ""))
        self.url = urlunsplit((parts.scheme, netloc, path + "/chat/completions", parts.query, ""))
        self._home = parts.scheme == "https" and parts.hostname == "api.openai.com"
        self._key_name = "OPENAI_API_KEY" if self._home else "LIMBECK_API_KEY"
        key = os.environ.get("LIMBECK_API_KEY") or (os.environ.get("OPENAI_API_KEY") if self._home else None)
        user = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}" if parts.username else ""
        basic = b64encode(user.encode()).decode()
        self._authorization = f"Bearer {key.strip()}" if key and key.strip() else f"Basic {basic}" if user else ""
        values = [v for _, _, v in (pair.partition("=") for pair in parts.query.split("&"))]
        secrets = [key, key and key.strip(), parts.password, unquote(parts.password or ""), user and basic, *values]
        self._secrets = sorted({s for s in secrets if s and len(s) > 3}, key=len, reverse=True)

    def headers(self) -> dict[str, str]:
        """Return the headers of a request. Raises EndpointError where a key is needed and there is none."""
        if self._home and not self._authorization:
            raise EndpointError("OPENAI_API_KEY is not set, and api.openai.com answers nobody without a key: set it.")
        headers = {"Content-Type": "application/json", "User-Agent": "limbeck"}
        return {**headers, "Authorization": self._authorization} if self._authorization else headers

    def check(self, status: int, retry_after: str | None, body: str) -> None:
        """Raise what a status other than 200 means."""
        if 200 <= status < 300:
            return
        said = self.clean(_message(body))
        if status in BUSY or status >= 500:
            if "insufficient_quota" in body:
                raise EndpointError(f"The account at {self.shown} has used up its quota: {said}")
            raise BusyError(f"{self.shown} is busy (status {status}): {said}", _seconds(retry_after))
        if status in REFUSED:
            raise RefusedError(f"{self.shown} refused the request (status {status}): {said}")
        if 300 <= status < 400:
            raise EndpointError(f"{self.shown} redirects elsewhere (status {status}): give the final address.")
        hint = HINTS.get(status, "check the address and the model").format(key=self._key_name)
        raise EndpointError(f"{self.shown} answered with status {status}: {hint}. It says: {said}")

    def check_inside(self, reply: Any) -> None:
        """Raise what an error means that some servers send with status 200."""
        error = reply.get("error") if isinstance(reply, dict) else None
        if error and not reply.get("choices"):
            code = error.get("code") if isinstance(error, dict) else None
            status = code if isinstance(code, int) and 300 <= code < 600 else 500
            self.check(status, None, json.dumps(reply))

    def clean(self, text: str) -> str:
        """Return a server's words without the credentials it may have echoed, and not too many of them."""
        for secret in self._secrets:
            text = text.replace(secret, "[removed]")
        text = re.sub(r"\b(sk|pk|key)-[\w*.\-]{6,}", "[removed]", text)
        text = re.sub(r"(?i)\b(bearer|basic)\s+[\w.+/=\-]{6,}", r"\1 [removed]", text)
        return text if len(text) <= 500 else text[:500] + " ..."


def _split(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 - reading it is what checks it
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError("The address after '@' must look like http://host:port/v1.")  # it may hold a key: not shown
    return parts


def _message(body: str) -> str:
    """Find the sentence in an error body: {"error": {"message": ...}}, {"message": ...}, {"detail": ...} or plain text."""
    try:
        found = json.loads(body)
    except ValueError:
        return " ".join(body.split()) or "nothing"
    while isinstance(found, dict):
        inner = next((found[name] for name in ("error", "message", "detail") if found.get(name)), None)
        if inner is None:
            break
        found = inner
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)


def _seconds(retry_after: str | None) -> float | None:
    """Read Retry-After: seconds, or a date."""
    if not retry_after:
        return None
    with suppress(ValueError):  # not a number: a date
        return max(0.0, float(retry_after))
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return None
