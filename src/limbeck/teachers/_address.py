"""Where an endpoint is, and which key it may see.

    address = Address("http://user:secret@localhost:8000/v1?tier=2")
    address.shown                       "http://localhost:8000/v1"     the only form that is ever printed, hashed or stored
    address.at("/chat/completions")     "http://localhost:8000/v1/chat/completions?tier=2"
    address.headers()                   {"Content-Type": "application/json", ..., "Authorization": "Basic dXNlcjpzZWNyZXQ="}

| the endpoint                        | its key                                                                         |
|-------------------------------------|---------------------------------------------------------------------------------|
| its maker's own (api.openai.com)    | the maker's variable (OPENAI_API_KEY), which is sent nowhere else               |
| any other, say llm.example.org      | LIMBECK_API_KEY_LLM_EXAMPLE_ORG, or LIMBECK_API_KEY, which any other server gets |

What a server's status means is in `_status.py`; the methods `check` and `check_inside` say it with this address's words.
"""

from __future__ import annotations

import os
import re
from base64 import b64encode
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from limbeck.core.errors import EndpointError, UsageError
from limbeck.teachers import _status

COMMON_KEY = "LIMBECK_API_KEY"
_LOOKS_SECRET = re.compile(r"\b(sk|pk|key)-[\w*.\-]{6,}")
_SCHEME = re.compile(r"(?i)\b(bearer|basic)\s+[\w.+/=\-]{6,}")


class Address:
    """An endpoint's base address, with its credentials kept apart."""

    def __init__(self, text: str, *, home: str = "api.openai.com", key: str = "OPENAI_API_KEY") -> None:
        """Take an address apart; at the host `home`, over https, the variable `key` holds the key. Raises UsageError."""
        parts = _split(text)
        name = str(parts.hostname)
        host = f"[{name}]" if ":" in name else name
        netloc = host if parts.port is None else f"{host}:{parts.port}"
        self._base = (parts.scheme, netloc, parts.path.rstrip("/"), parts.query)
        self.shown = urlunsplit((*self._base[:3], "", ""))
        self.home = parts.scheme == "https" and name == home
        self._azure = name.endswith(".azure.com")
        self.key_name, self.key = _key(name, key if self.home else None)
        user = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}" if parts.username else ""
        self._basic = b64encode(user.encode()).decode() if user else ""
        values = [v for _, _, v in (pair.partition("=") for pair in parts.query.split("&"))]
        secrets = [self.key, parts.password, unquote(parts.password or ""), self._basic, *values]
        self._secrets = sorted({s for s in secrets if s and len(s) > 3}, key=len, reverse=True)

    def at(self, path: str) -> str:
        """Return the address to send to: `path` below the base, with the options after `?`. Never print it."""
        scheme, netloc, base, query = self._base
        return urlunsplit((scheme, netloc, base + path, query, ""))

    def headers(self, *, key_header: str = "Authorization") -> dict[str, str]:
        """Return the headers of a request: the key as a bearer's, or bare under another `key_header`.

        Raises EndpointError where a key is needed and there is none, or the key can not stand in a header.
        """
        headers = {"Content-Type": "application/json", "User-Agent": "limbeck"}
        if self.home and not self.key:
            host = self._base[1]
            raise EndpointError(f"{self.key_name} is not set, and {host} answers nobody without a key: set it.")
        if not (self.key.isascii() and (self.key.isprintable() or not self.key)):
            raise EndpointError(f"The key in {self.key_name} holds a character that no key has: copy it anew.")
        if self._azure:
            key_header = "api-key"
        if self.key:
            return headers | {key_header: f"Bearer {self.key}" if key_header == "Authorization" else self.key}
        return headers | {"Authorization": f"Basic {self._basic}"} if self._basic else headers

    def check(self, status: int, headers: Mapping[str, str] | None, body: str) -> None:
        """Raise what a status other than 2xx means: RefusedError, DeniedError, EndpointError or BusyError."""
        if not 200 <= status < 300:
            raise _status.error(self, status, headers or {}, body)

    def check_inside(self, reply: Any) -> None:
        """Raise what an error means that some servers send with status 200."""
        error = reply.get("error") if isinstance(reply, dict) else None
        if error and not reply.get("choices"):
            raise _status.error_inside(self, reply)

    def clean(self, text: str) -> str:
        """Return a server's words in one line, without the credentials it may have echoed, and not too many of them."""
        for secret in self._secrets:
            text = text.replace(secret, "[removed]")
        text = _SCHEME.sub(r"\1 [removed]", _LOOKS_SECRET.sub("[removed]", text))
        text = " ".join("".join(c if c.isprintable() else " " for c in text[:2000]).split())
        return text if len(text) <= 500 else text[:500] + " ..."


def _key(host: str, at_home: str | None) -> tuple[str, str]:
    """Return the variable that holds the key for a host, and the key or an empty text."""
    own = f"{COMMON_KEY}_{re.sub(r'[^A-Z0-9]', '_', host.upper())}"
    name = at_home or (own if os.environ.get(own) else COMMON_KEY)
    return name, (os.environ.get(name) or "").strip()


def _split(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 - reading it is what checks it
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError("The address after '@' must look like http://host:port/v1.")  # it may hold a key: not shown
    return parts
