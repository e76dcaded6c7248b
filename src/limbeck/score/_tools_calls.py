"""Reading tool calls strictly: nothing is evaluated, nothing is repaired.

    '{"name": "f", "arguments": {"x": 1}}'                       [{"name": "f", "arguments": {"x": 1}}]
    '```json\\n[{"name": "f", …}, {"name": "g", …}]\\n```'         two calls
    '{"name": "f", "arguments": {"x": 1, "x": 2}}'               Malformed: the key 'x' stands twice in one object
    'Sure, I call f(1).'                                         None: it makes no call

A call may be the whole text, stand in fences or `<tool_call>` tags, or in the message's `tool_calls` as the OpenAI format has it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from limbeck.core.row import Message, Row
from limbeck.score._answers import visible
from limbeck.score._schema import fault, same_typed

Call = dict[str, Any]
"""`{"name": text, "arguments": object}`, and nothing else."""
MAX_TEXT = 100_000
"""Longer responses are refused unread."""
FENCE = re.compile(r"```[ \t]*(?:json)?[ \t]*\n?(.*?)```|<tool_call>(.*?)</tool_call>", re.DOTALL | re.IGNORECASE)


class Malformed(ValueError):
    """The response looks like a call but is not one; the message says why."""


def calls_in(message: Message) -> list[Call] | None:
    """Return the calls that one assistant turn makes; None if it makes none. Raises Malformed."""
    if message.tool_calls:
        return [call_from(item) for item in _listed(parsed(message.tool_calls))]
    text = visible(message.content)
    if text is None or not text.strip():
        return None
    fenced = [a or b for a, b in FENCE.findall(text) if (a or b).strip()]
    if fenced:
        return [call_from(item) for block in fenced for item in _listed(parsed(block))]
    return [call_from(item) for item in _listed(parsed(text))] if text.strip()[0] in "{[" else None


def turns_of(row: Row, *, whole: bool) -> list[list[Call]]:
    """Return the calls of every assistant turn that makes any: of the whole conversation, or since the last user turn.

    Raises Malformed for what is meant as a call and is not.
    """
    users = [at for at, message in enumerate(row.messages) if message.role == "user"]
    begin = 0 if whole or not users else users[-1]
    return [calls for m in row.messages[begin:] if m.role == "assistant" and (calls := calls_in(m))]


def references(given: Mapping[str, Any]) -> list[list[list[Call]]] | None:
    """Return everything that counts as right, as turns of calls: the reference and its alternatives; None if one is unreadable."""
    several = given.get("alternatives") or []
    if not isinstance(several, list):
        return None
    found = [reference_turns(value) for value in (given.get("reference"), *several) if value is not None]
    return None if any(turns is None for turns in found) else [turns for turns in found if turns is not None]


def reference_turns(value: Any) -> list[list[Call]] | None:
    """Return a reference as turns of calls: one call, a list of parallel calls, or a list of such lists; None if unreadable."""
    try:
        value = parsed(value) if isinstance(value, str) else value
        if value == []:
            return [[]]  # no call is wanted
        if isinstance(value, list) and value and all(isinstance(turn, list) for turn in value):
            return [[call_from(item) for item in _listed(turn)] for turn in value]
        return [[call_from(item) for item in _listed(value)]]
    except Malformed:
        return None


def schemas_of(tools: Any) -> dict[str, dict[str, Any]] | None:
    """Return parameter schemas by tool name, from plain or OpenAI definitions; none given is an empty dictionary."""
    if tools is None:
        return {}
    found: dict[str, dict[str, Any]] = {}
    for inner in definitions(tools):
        if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
            return None
        rules = inner.get("parameters") or {}
        if not isinstance(rules, dict):
            return None
        found[inner["name"]] = rules
    return found


def definitions(tools: Any) -> Iterator[Any]:
    """Yield the tool definitions, taken out of the OpenAI envelope where they are in one."""
    for tool in tools if isinstance(tools, list | tuple) else [None]:
        yield tool.get("function", tool) if isinstance(tool, dict) else None


def call_fault(call: Call, tools: dict[str, dict[str, Any]]) -> str:
    """Return what is wrong with a call under the tools' schemas, as a phrase, or the empty string."""
    if call["name"] not in tools:
        return f"there is no tool '{call['name']}'"
    return fault(call["arguments"], {"type": "object", **tools[call["name"]]}, "arguments")


def same_calls(calls: Sequence[Call], wanted: Sequence[Call], tools: dict[str, dict[str, Any]], order: str) -> bool:
    """Say whether the calls are the wanted ones, type by type, in the wanted order or in any."""

    def same(left: Call, right: Call) -> bool:
        rules = tools.get(right["name"], {})
        return bool(left["name"] == right["name"]) and same_typed(left["arguments"], right["arguments"], rules)

    if len(calls) != len(wanted):
        return False
    if order == "given":
        return all(map(same, calls, wanted))
    rest = list(wanted)
    for call in calls:
        match = next((at for at, other in enumerate(rest) if same(call, other)), None)
        if match is None:
            return False
        del rest[match]
    return True


def parsed(text: str) -> Any:
    """Read JSON strictly: no duplicate keys, no NaN, nothing behind it. Raises Malformed."""
    if len(text) > MAX_TEXT:
        raise Malformed(f"the call is longer than {MAX_TEXT} characters")
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except Malformed:
        raise
    except RecursionError:
        raise Malformed("the JSON nests too deeply") from None
    except ValueError as problem:
        raise Malformed(f"this is not JSON: {problem}") from None


def call_from(item: Any) -> Call:
    """Return `{"name", "arguments"}` from that form or from the OpenAI form, and from no other. Raises Malformed."""
    if isinstance(item, dict) and isinstance(item.get("function"), dict):
        item = item["function"]
        if isinstance(item.get("arguments"), str):
            item = {**item, "arguments": parsed(item["arguments"])}
    if not isinstance(item, dict) or set(item) != {"name", "arguments"}:
        raise Malformed("a call is an object with the keys 'name' and 'arguments' and no others")
    if not isinstance(item["name"], str) or not isinstance(item["arguments"], dict):
        raise Malformed("'name' must be a text and 'arguments' an object")
    return item


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise Malformed(f"the key '{twice}' stands twice in one object")
    return dict(pairs)


def _no_constant(word: str) -> Any:
    raise Malformed(f"{word} is not JSON")


def _listed(value: Any) -> list[Any]:
    if isinstance(value, list) and not value:
        raise Malformed("the list of calls is empty")
    return value if isinstance(value, list) else [value]
