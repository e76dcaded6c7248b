"""What one server makes of the common format: found out from its own replies, said once in the log, kept for the session.

    dialect = Dialect("https://api.example.org/v1", limit="max_tokens")
    dialect.corrected(request, 400, '{"error": {"param": "max_tokens", "message": "... Use \\'max_completion_tokens\\' instead."}}')
        True: dialect.limit is "max_completion_tokens" from now on, and the request is worth sending again
    dialect.gave(wanted=4, given=1)
        one choice a call from now on

| refused with 400 or 422                    | what is done                                                                |
|--------------------------------------------|-----------------------------------------------------------------------------|
| `max_tokens` or `max_completion_tokens`    | the other name is used: it means the same                                   |
| `seed`                                     | left out: the server draws its own, and the cache keeps what it gave        |
| `temperature` or `top_p` at 1              | left out: 1 is the distribution of the model itself                         |
| `response_format`                          | left out, and the schema is stated to the model and checked (see `_form.py`) |
| `n`                                        | one choice a call                                                           |
| anything else that was set by the user     | EndpointError: it is never left out in silence                              |

A refusal counts as one of a parameter only if it says that the parameter itself is unsupported or unknown. "Too many tokens in
this prompt" is about the row, and stays a refusal of the row.
"""

from __future__ import annotations

import json
import logging
import re
from typing import Any

from limbeck.core.errors import EndpointError

log = logging.getLogger("limbeck.teachers.openai")

MOST = 128
"""Choices in one request at most: more than this no server takes."""
OTHER_LIMIT = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
NEUTRAL = {"temperature": 1, "top_p": 1}
"""The values that change nothing."""
_UNSUPPORTED = re.compile(
    r"(?i)unsupported|(not|n't) support|unrecogni[sz]ed|unknown|unexpected|not permitted|extra_forbidden|not allowed"
    r"|only the default|unavailable|not available|not implemented|no longer"
)
_QUOTED = re.compile(r"['\"`](\w+)['\"`]")
_UNMISTAKABLE = re.compile(r"\b(max_tokens|max_completion_tokens|top_p|top_logprobs|response_format)\b")
_CONTENT = ("model", "messages", "prompt")


class Dialect:
    """What a server and model were found to take; `shown` is how messages call it."""

    def __init__(self, shown: str, limit: str) -> None:
        self.limit = limit
        """The server's name for the cap on answer tokens."""
        self.most = MOST
        """How many choices it gives to one call."""
        self.many = False
        """Whether it was seen to give several choices to one call."""
        self.states_form = False
        """Whether the response format is stated to the model, because the server does not keep to it."""
        self.left_out: set[str] = set()
        """Parameters that it does not take."""
        self._shown = shown
        self._first_limit = limit
        self._said: set[str] = set()

    def say(self, what: str) -> None:
        """Log what was found out, once."""
        if what not in self._said:
            self._said.add(what)
            log.warning("%s %s", self._shown, what)

    def gave(self, wanted: int, given: int) -> None:
        """Learn from how many choices came to a call for several."""
        if given >= wanted:
            self.many = True
        elif given < self.most:
            self.most = given
            each = "each answer is a call of its own" if given == 1 else f"a call asks for {given}"
            self.say(f"gave {given} of {wanted} answers to one call; from now on {each}.")

    def single(self) -> None:
        """Learn that only calls for one choice are taken."""
        self.most = 1
        self.say("refuses calls for several answers; from now on each answer is a call of its own.")

    def corrected(self, request: dict[str, Any], status: int, body: str) -> bool:
        """Learn from a refusal; returns whether the same request, written anew, may be taken.

        Raises EndpointError for a parameter that the user set and the server does not take.
        """
        name = _blamed(request, body) if status in (400, 422) else None
        if name is None:
            return False
        if name in OTHER_LIMIT:
            return self._rename(name)
        if name == "n" and request["n"] > 1:
            self.single()
        elif name == "response_format":
            self.left_out.add(name)
            self.ignores_form("refuses response_format")
        elif name in ("seed", "n") or (name in NEUTRAL and request[name] == NEUTRAL[name]):
            self.left_out.add(name)
            self.say(f"does not take the parameter `{name}`; it is left out from now on.")
        else:
            raise EndpointError(
                f"{self._shown} does not take the parameter `{name}`, which this step sets to {str(request[name])[:80]}: "
                f"change it, or use another model."
            )
        return True

    def leave_out(self, request: dict[str, Any]) -> None:
        """Take out of a request what the server does not take; a value that changes something stays, and is refused aloud."""
        for name in self.left_out:
            if name in request and (name not in NEUTRAL or request[name] == NEUTRAL[name]):
                del request[name]

    def ignores_form(self, why: str) -> None:
        """Learn that the response format has to be stated to the model, and say so."""
        if not self.states_form:
            self.states_form = True
            self.say(
                f"{why}; from now on the format is also stated to the model, before its prompt, and answers are checked."
            )

    def _rename(self, name: str) -> bool:
        if name == self._first_limit and self.limit == name:
            self.limit = OTHER_LIMIT[name]
            self.say(f"does not take `{name}`; the same limit is sent as `{self.limit}` from now on.")
        return self.limit != name


def _blamed(request: dict[str, Any], body: str) -> str | None:
    """Return the parameter of `request` that a refusal says is not supported, or None."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = body
    inner = found.get("error") or found.get("detail") or found.get("message") if isinstance(found, dict) else found
    if isinstance(
        inner, list
    ):  # FastAPI: [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": ..., "input": ...}]
        found = next((entry for entry in inner if isinstance(entry, dict)), {})
        names, said = [str(place) for place in found.get("loc") or ()][-1:], f"{found.get('type')} {found.get('msg')}"
    elif isinstance(inner, dict):
        names, said = [str(inner.get("param"))], f"{inner.get('code')} {inner.get('type')} {inner.get('message')}"
    else:
        names, said = [], str(inner)
    if not _UNSUPPORTED.search(said):
        return None
    names += _QUOTED.findall(said) + _UNMISTAKABLE.findall(said)
    return next((name for name in names if name in request and name not in _CONTENT), None)
