"""Checking a tool call against the tools' schemas and the call that was wanted, type by type.

    task      {"kind": "tools",
               "tools": [{"name": "set_alarm", "parameters": {"type": "object", "required": ["hour"],
                          "properties": {"hour": {"type": "integer"}, "label": {"type": "string"}}}}],
               "reference": {"name": "set_alarm", "arguments": {"hour": 7}}}
    response  {"name": "set_alarm", "arguments": {"hour": 7}}                     pass
              {"name": "set_alarm", "arguments": {"hour": "7"}}                   error: a text where a whole number belongs
              {"name": "set_alarm", "arguments": {"hour": 7, "label": "up"}}      wrong: more than was asked for

Graders in use delete punctuation before they compare (so "1.5" passes for "15"), let extra arguments through, or
evaluate the model's text. Here nothing is evaluated or repaired: JSON is read strictly (no duplicate keys, no NaN),
7, 7.0, "7" and true are four different values, and nested values are compared all the way down. One allowance: where
the schema says `number`, 20 and 20.0 are the same number. A call may also stand in the message's `tool_calls`.
"""

from __future__ import annotations

import json
import re
from typing import Any, Literal

from limbeck.core.row import Message, Row, new_row
from limbeck.core.step import Each, Made
from limbeck.score._answers import visible
from limbeck.score._schema import fault, same_typed
from limbeck.score._verdict import judged

MAX_TEXT = 100_000
"""Longer responses are refused unread."""
FENCE = re.compile(r"```[ \t]*(?:json)?[ \t]*\n?(.*?)```|<tool_call>(.*?)</tool_call>", re.DOTALL | re.IGNORECASE)


class Malformed(ValueError):
    """The response looks like a call but is not one; the message says why."""


class Tools(Each):
    """Compare the response's tool calls with the task's reference; 1 for equal, 0 otherwise."""

    order: Literal["given", "any"] = "given"
    """Whether several calls must come in the reference's order."""

    def each(self, row: Row) -> Made:
        """Score one response."""
        wanted, tools = _reference(row.task.get("reference")), _schemas(row.task.get("tools"))
        if wanted is None or tools is None:
            return judged(row, "tools", "unreadable-reference")
        try:
            calls = calls_of(row)
        except Malformed as problem:
            return judged(row, "tools", "error", detail=str(problem))
        if calls is None:
            return judged(row, "tools", "no-answer")
        answer = json.dumps(calls[0] if len(calls) == 1 else calls, ensure_ascii=False)
        for call in calls:
            if tools and (problem_text := _fault(call, tools)):
                return judged(row, "tools", "error", answer=answer, detail=problem_text)
        right = _same_calls(calls, wanted, tools, self.order)
        return judged(row, "tools", "pass" if right else "wrong", answer=answer)

    @classmethod
    def validate(cls) -> list[tuple[Row, float]]:  # type: ignore[override]
        """Return gold responses (1.0) and planted errors (0.0)."""
        return [(_example(response), score) for response, score in EXAMPLES]


def calls_of(row: Row) -> list[dict[str, Any]] | None:
    """Return the calls a response makes; None if it makes none. Raises Malformed for what is meant as one and is not."""
    structured = row.messages[-1].tool_calls if row.has_response else None
    if structured:
        return [_call(item) for item in _listed(_parse(structured))]
    text = visible(row.response)
    if text is None or not text.strip():
        return None
    fenced = [a or b for a, b in FENCE.findall(text) if (a or b).strip()]
    if fenced:
        return [_call(item) for block in fenced for item in _listed(_parse(block))]
    return [_call(item) for item in _listed(_parse(text))] if text.strip()[0] in "{[" else None


def _parse(text: str) -> Any:
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


def _call(item: Any) -> dict[str, Any]:
    """Return `{"name", "arguments"}` from that form or from the OpenAI form, and from no other."""
    if isinstance(item, dict) and isinstance(item.get("function"), dict):
        item = item["function"]
        if isinstance(item.get("arguments"), str):
            item = {**item, "arguments": _parse(item["arguments"])}
    if not isinstance(item, dict) or set(item) != {"name", "arguments"}:
        raise Malformed("a call is an object with the keys 'name' and 'arguments' and no others")
    if not isinstance(item["name"], str) or not isinstance(item["arguments"], dict):
        raise Malformed("'name' must be a text and 'arguments' an object")
    return item


def _reference(value: Any) -> list[dict[str, Any]] | None:
    try:
        return [_call(i) for i in _listed(_parse(value) if isinstance(value, str) else value)]
    except Malformed:
        return None


def _schemas(tools: Any) -> dict[str, dict[str, Any]] | None:
    """Return parameter schemas by tool name, from plain or OpenAI definitions; none given is an empty dictionary."""
    if tools is None:
        return {}
    found: dict[str, dict[str, Any]] = {}
    for tool in tools if isinstance(tools, list | tuple) else [None]:
        inner = tool.get("function", tool) if isinstance(tool, dict) else None
        if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
            return None
        rules = inner.get("parameters") or {}
        if not isinstance(rules, dict):
            return None
        found[inner["name"]] = rules
    return found


def _fault(call: dict[str, Any], tools: dict[str, dict[str, Any]]) -> str:
    if call["name"] not in tools:
        return f"there is no tool '{call['name']}'"
    return fault(call["arguments"], {"type": "object", **tools[call["name"]]}, "arguments")


def _same_calls(calls: list[dict[str, Any]], wanted: list[dict[str, Any]], tools: dict[str, Any], order: str) -> bool:
    def same(left: dict[str, Any], right: dict[str, Any]) -> bool:
        rules = tools.get(right["name"], {})
        return left["name"] == right["name"] and same_typed(left["arguments"], right["arguments"], rules)

    if len(calls) != len(wanted):
        return False
    if order == "given":
        return all(map(same, calls, wanted))
    rest = list(wanted)
    for call in calls:
        match = next((other for other in rest if same(call, other)), None)
        if match is None:
            return False
        rest.remove(match)
    return True


GOLD = '{"name": "set_alarm", "arguments": {"hour": 7, "days": ["Monday"], "warmth": 20.0}}'
EXAMPLES = (
    (GOLD, 1.0),
    (f"```json\n{GOLD}\n```", 1.0),
    (f"<think>When?</think><tool_call>{GOLD}</tool_call>", 1.0),
    (GOLD.replace("20.0", "20"), 1.0),
    (GOLD.replace("7", "8"), 0.0),
    (GOLD.replace("7", '"7"'), 0.0),
    (GOLD.replace("7", "7.0"), 0.0),
    (GOLD.replace("7", "true"), 0.0),
    (GOLD.replace("20.0", "true"), 0.0),
    (GOLD.replace("20.0", "20.5"), 0.0),
    (GOLD.replace('"hour": 7', '"hour": 7, "label": "up"'), 0.0),
    (GOLD.replace('"hour": 7', '"hour": 7, "loud": true'), 0.0),
    (GOLD.replace('"hour": 7', '"hour": 8, "hour": 7'), 0.0),
    (GOLD.replace('"hour": 7, ', ""), 0.0),
    (GOLD.replace('"Monday"', '"Monday", "Monday"'), 0.0),
    (GOLD.replace("set_alarm", "set-alarm"), 0.0),
    (GOLD.replace("20.0", "NaN"), 0.0),
    (GOLD.replace('"', "'"), 0.0),
    (f"[{GOLD}, {GOLD}]", 0.0),
    (f"{GOLD} {GOLD}", 0.0),
    ("I would set the alarm.", 0.0),
    ("", 0.0),
)


def _example(response: str) -> Row:
    rules = {
        "type": "object", "required": ["hour"],
        "properties": {
            "hour": {"type": "integer"}, "label": {"type": "string"}, "warmth": {"type": "number"},
            "days": {"type": "array", "items": {"type": "string"}},
        },
    }  # fmt: skip
    task = {"kind": "tools", "tools": [{"name": "set_alarm", "parameters": rules}], "reference": json.loads(GOLD)}
    turns = (Message(role="user", content="Wake me at 7 on Monday."), Message(role="assistant", content=response))
    return new_row(messages=turns, task=task, made_by={"step": "score.tools", "use": "validate"})
