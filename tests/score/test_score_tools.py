"""The tool-call verifier: types told apart, nothing extra, nothing repaired."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.core.row import Message, Row, new_row
from limbeck.score._schema import fault, same_typed
from limbeck.score.tools import Tools

TOOL = {
    "name": "book",
    "parameters": {
        "type": "object",
        "required": ["guests"],
        "properties": {
            "guests": {"type": "integer"},
            "day": {"type": "string", "enum": ["Monday", "Friday"]},
            "price": {"type": "number"},
            "quiet": {"type": "boolean"},
            "where": {"type": "object", "properties": {"floor": {"type": "integer"}}},
        },
    },
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def verdict(arguments: dict[str, Any], wanted: dict[str, Any], *, openai: bool = False, **fields: Any) -> Row:
    tools = [{"type": "function", "function": TOOL}] if openai else [TOOL]
    task = {"tools": tools, "reference": {"name": "book", "arguments": wanted}}
    calls = json.dumps(
        [{"id": "1", "type": "function", "function": {"name": "book", "arguments": json.dumps(arguments)}}]
    )
    response = (
        Message(role="assistant", content="", tool_calls=calls)
        if openai
        else Message(role="assistant", content=json.dumps({"name": "book", "arguments": arguments}))
    )
    judged = Tools(**fields).each(
        new_row(messages=(Message(role="user", content="?"), response), task=task, made_by={})
    )
    assert isinstance(judged, Row)
    return judged


@pytest.mark.parametrize("openai", [False, True])
@pytest.mark.parametrize(
    ("given_", "wanted", "expected"),
    [
        ({"guests": 4}, {"guests": 4}, "pass"),
        ({"guests": 4}, {"guests": 5}, "wrong"),
        ({"guests": 4.0}, {"guests": 4}, "error"),
        ({"guests": "4"}, {"guests": 4}, "error"),
        ({"guests": True}, {"guests": 1}, "error"),
        ({"guests": 4, "day": "Friday"}, {"guests": 4}, "wrong"),
        ({"guests": 4, "hour": 7}, {"guests": 4}, "error"),
        ({"guests": 4, "day": "Sunday"}, {"guests": 4, "day": "Friday"}, "error"),
        ({"guests": 4, "day": "friday"}, {"guests": 4, "day": "Friday"}, "error"),
        ({"guests": 4, "price": 20}, {"guests": 4, "price": 20.0}, "pass"),
        ({"guests": 4, "price": True}, {"guests": 4, "price": 1}, "error"),
        ({"guests": 4, "price": "1.5"}, {"guests": 4, "price": 1.5}, "error"),
        ({"guests": 4, "where": {"floor": 1}}, {"guests": 4, "where": {"floor": 1}}, "pass"),
        ({"guests": 4, "where": {"floor": 1.0}}, {"guests": 4, "where": {"floor": 1}}, "error"),
        ({"guests": 4, "where": {"floor": 1, "room": 2}}, {"guests": 4, "where": {"floor": 1}}, "error"),
        ({"day": "Friday"}, {"guests": 4}, "error"),
        ({"guests": None}, {"guests": 4}, "error"),
    ],
)
def test_arguments(given_: dict[str, Any], wanted: dict[str, Any], expected: str, openai: bool) -> None:
    assert verdict(given_, wanted, openai=openai).labels["verdict"] == expected


def test_faults_are_told() -> None:
    told = verdict({"guests": True}, {"guests": 1}).labels["detail"]
    assert told == "arguments.guests is a truth value, not an integer"


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "book", "name": "book", "arguments": {"guests": 4}}',
        '{"name": "book", "arguments": {"guests": 4}, "why": "x"}',
        '{"name": "book", "arguments": {"guests": NaN}}',
        '{"name": "book"}',
        '{"name": 3, "arguments": {}}',
        "[]",
        '{"name": "book", "arguments": []}',
        "{'name': 'book', 'arguments': {'guests': 4}}",
        '{"name": "book", "arguments": {"guests": 4}} trailing',
    ],
)
def test_malformed_calls_are_errors(text: str) -> None:
    task = {"tools": [TOOL], "reference": {"name": "book", "arguments": {"guests": 4}}}
    turns = (Message(role="user", content="?"), Message(role="assistant", content=text))
    judged = Tools().each(new_row(messages=turns, task=task, made_by={}))
    assert isinstance(judged, Row) and judged.labels["verdict"] == "error" and judged.labels["detail"]


def test_several_calls_keep_their_order_unless_told_otherwise() -> None:
    one, two = ({"name": "book", "arguments": {"guests": n}} for n in (1, 2))
    turns = (Message(role="user", content="?"), Message(role="assistant", content=json.dumps([two, one])))
    row = new_row(messages=turns, task={"tools": [TOOL], "reference": [one, two]}, made_by={})
    given_, any_ = Tools().each(row), Tools(order="any").each(row)
    assert isinstance(given_, Row) and given_.labels["verdict"] == "wrong"
    assert isinstance(any_, Row) and any_.labels["verdict"] == "pass"


@given(JSON, JSON)
def test_typed_equality_is_equality_of_the_json_text(left: Any, right: Any) -> None:
    assert same_typed(left, left)
    if same_typed(left, right):
        # -0.0 and 0.0 are one number in two spellings
        assert json.dumps(left, sort_keys=True).replace("-0.0", "0.0") == json.dumps(right, sort_keys=True).replace(
            "-0.0", "0.0"
        )


@given(JSON)
def test_a_schema_never_raises(value: Any) -> None:
    assert isinstance(fault(value, TOOL["parameters"], "arguments"), str)
    assert isinstance(fault({"guests": value}, TOOL["parameters"], "arguments"), str)
