"""Asking a judge for one JSON object and reading it strictly: what is not exactly what was asked for is no judgement.

    object_in('{"rating": 4, "why": "…"}', {"rating": int, "why": str})         {"rating": 4, "why": "…"}
    object_in('Rating: 4', …)          Unjudged: the judge's reply is not one JSON object
    object_in('{"rating": "4"}', …)    Unjudged: 'rating' is missing or of another type

No number is ever fished out of a text: that is how a public set of 2,628 judgements of 1 became 10 ("1/10" read from behind).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from limbeck.core.row import Message, Row
from limbeck.score._answers import visible
from limbeck.score._format_text import unfenced

MAX_SHOWN = 20_000
"""Characters of a response that are shown to a judge; what is longer is cut in the middle, and the judge is told."""


class Unjudged(ValueError):
    """A judge's reply that can not be read; the message says why."""


def object_in(reply: str, wanted: Mapping[str, type]) -> dict[str, Any]:
    """Return the one JSON object that a reply consists of, with these keys and types and no others. Raises Unjudged."""
    text = visible(reply)
    try:
        value = json.loads(unfenced(text or ""), object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise Unjudged("the judge's reply is not one JSON object") from None
    if not isinstance(value, dict):
        raise Unjudged("the judge's reply is not one JSON object")
    for key, kind in wanted.items():
        if type(value.get(key)) is not kind:  # a truth value is no number, a text no rating
            raise Unjudged(f"'{key}' is missing or of another type")
    if extra := [key for key in value if key not in wanted]:
        raise Unjudged(f"the judge's reply has '{extra[0]}', which was not asked for")
    return value


def conversation(row: Row) -> str:
    """Return the turns before the response as text, for a judge to read."""
    return "\n\n".join(f"[{m.role}]\n{shown(m.content + (m.tool_calls or ''))}" for m in row.prompt)


def shown(text: str) -> str:
    """Return a text cut to what a judge is shown."""
    half = MAX_SHOWN // 2
    return (
        text
        if len(text) <= MAX_SHOWN
        else f"{text[:half]}\n[... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"
    )


def question(*parts: str) -> tuple[Message, ...]:
    """Return a single user turn made of parts; what is judged stands between marks, so that orders inside it read as quoted."""
    return (Message(role="user", content="\n\n".join(part for part in parts if part)),)


def quoted(name: str, text: str) -> str:
    """Return a text between marks that it can not close itself."""
    inner = text.replace(f"</{name}", f"< /{name}")
    return f"<{name}>\n{inner}\n</{name}>"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return dict(pairs)


def _refuse(word: str) -> float:
    raise ValueError(f"{word} is not JSON")
