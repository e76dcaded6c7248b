"""The tool-call verifier: types told apart, nothing extra, nothing repaired."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driving import drive
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
    return drive(
        Tools(**fields), new_row(messages=(Message(role="user", content="?"), response), task=task, made_by={})
    )


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
    judged = drive(Tools(), new_row(messages=turns, task=task, made_by={}))
    assert judged.labels["verdict"] == "error" and judged.labels["detail"] and judged.labels["stage"] == "format"


def test_several_calls_keep_their_order_unless_told_otherwise() -> None:
    one, two = ({"name": "book", "arguments": {"guests": n}} for n in (1, 2))
    turns = (Message(role="user", content="?"), Message(role="assistant", content=json.dumps([two, one])))
    row = new_row(messages=turns, task={"tools": [TOOL], "reference": [one, two]}, made_by={})
    assert drive(Tools(), row).labels["verdict"] == "wrong"
    assert drive(Tools(order="any"), row).labels["verdict"] == "pass"


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


ADD = {
    "name": "add",
    "parameters": {
        "type": "object",
        "required": ["a", "b"],
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
    },
    "implementation": "kept = []\ndef add(a, b):\n    kept.append(a + b)\n    return sum(kept)",
}


def said(*turns: Message, task: dict[str, Any], replies: list[str] | None = None, **fields: Any) -> Row:
    row = new_row(messages=(Message(role="user", content="Add them."), *turns), task=task, made_by={})
    return drive(Tools(**fields), row, replies or ())


def call(name: str = "add", **arguments: Any) -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


def turn(*calls: dict[str, Any]) -> Message:
    return Message(role="assistant", content="", tool_calls=json.dumps(calls))


FORM_ONLY = {**ADD, "implementation": None}
SUM = Message(role="tool", content="3", name="add")


def test_turns_come_in_order_and_calls_within_a_turn_as_the_policy_says() -> None:
    one, two, three = call(a=1, b=2), call(a=3, b=4), call(a=5, b=6)
    task = {"tools": [FORM_ONLY], "reference": [[one], [two, three]]}
    done = Message(role="assistant", content="Done.")
    assert said(turn(one), SUM, turn(two, three), SUM, done, task=task).labels["verdict"] == "pass"
    assert said(turn(one), SUM, turn(three, two), task=task).labels["verdict"] == "wrong"
    assert said(turn(one), SUM, turn(three, two), task={**task, "order": "any"}).labels["verdict"] == "pass"
    assert said(turn(two, three), SUM, turn(one), task=task, order="any").labels["verdict"] == "wrong"
    assert said(turn(one, two, three), task=task, order="any").labels["verdict"] == "wrong"
    assert said(turn(one), SUM, turn(two), SUM, turn(three), task=task).labels["verdict"] == "wrong"


def test_an_answer_in_words_may_follow_the_call() -> None:
    task = {"tools": [FORM_ONLY], "reference": call(a=1, b=2)}
    done = Message(role="assistant", content="It is 3.")
    assert said(turn(call(a=1, b=2)), SUM, done, task=task).labels["verdict"] == "pass"
    assert said(turn(call(a=1, b=3)), SUM, turn(call(a=1, b=2)), SUM, done, task=task).labels["verdict"] == "wrong"
    again = Message(role="user", content="Again.")
    assert said(turn(call(a=1, b=2)), SUM, done, again, done, task=task).labels["verdict"] == "no-answer"


def test_any_of_several_references_is_right_and_nothing_between_them() -> None:
    task = {
        "tools": [FORM_ONLY],
        "reference": call(a=1, b=2),
        "alternatives": [call(a=2, b=1), [call(a=3, b=0), call(a=0, b=0)]],
    }
    for calls, verdict in (
        ([call(a=1, b=2)], "pass"),
        ([call(a=2, b=1)], "pass"),
        ([call(a=3, b=0), call(a=0, b=0)], "pass"),
        ([call(a=1, b=1)], "wrong"),
        ([call(a=1, b=2), call(a=2, b=1)], "wrong"),
        ([call(a=3, b=0)], "wrong"),
    ):
        assert said(turn(*calls), task=task).labels["verdict"] == verdict
    for broken in ({"alternatives": {"name": "add"}}, {"alternatives": ["x"]}, {"order": "same"}):
        assert said(turn(call(a=1, b=2)), task={**task, **broken}).labels["verdict"] == "unreadable-reference"


def test_where_no_call_is_wanted_none_must_be_made() -> None:
    task = {"tools": [FORM_ONLY], "reference": []}
    assert said(Message(role="assistant", content="I need more to go on."), task=task).labels["verdict"] == "pass"
    assert said(turn(call(a=1, b=2)), task=task).labels["verdict"] == "wrong"
    assert said(Message(role="assistant", content=""), task=task).scores["tools"] == 0.0


def test_without_a_reference_and_a_judge_a_row_can_fail_but_not_pass() -> None:
    task = {"tools": [FORM_ONLY]}
    assert said(turn(call(a=1, b="2")), task=task).scores == {"tools": 0.0, "verified": 0.0}
    passed = said(turn(call(a=1, b=2)), task=task)
    assert passed.scores == {} and passed.labels["verdict"] == "unreadable-reference"


def test_a_judge_has_the_last_word_and_must_speak_clearly() -> None:
    task = {"tools": [FORM_ONLY]}
    calls = turn(call(a=1, b=2))
    yes, no = '{"reason": "All of it.", "fits": true}', '{"reason": "Wrong numbers.", "fits": false}'
    assert said(calls, task=task, replies=[yes], judge="j").scores["verified"] == 1.0
    refused = said(calls, task=task, replies=[no], judge="j")
    assert (refused.scores["tools"], refused.labels["stage"], refused.labels["detail"]) == (
        0.0,
        "semantic",
        "Wrong numbers.",
    )
    for unclear in (
        "yes",
        '{"fits": true}',
        '{"reason": "", "fits": "true"}',
        '{"reason": "", "fits": 1}',
        f"{yes} {no}",
        f"{yes}!",
    ):
        lost = said(calls, task=task, replies=[unclear], judge="j")
        assert lost.scores == {} and lost.labels["verdict"] == "unreadable-judgement"


@pytest.mark.parametrize(
    ("rules", "value", "fits"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 5}, 5, True),
        ({"type": "integer", "minimum": 1, "maximum": 5}, 6, False),
        ({"type": "number", "exclusiveMinimum": 0}, 0, False),
        ({"type": "number", "multipleOf": 0.1}, 0.3, False),  # 0.3 is not three tenths in binary
        ({"type": "integer", "multipleOf": 5}, 15, True),
        ({"type": "string", "minLength": 2, "maxLength": 3}, "abcd", False),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 1}, [], False),
        ({"type": "array", "uniqueItems": True}, [1, True, 1.0, "1"], True),
        ({"type": "array", "uniqueItems": True}, [{"a": 1}, {"a": 1}], False),
        ({"type": "array", "prefixItems": [{"type": "string"}], "items": {"type": "integer"}}, ["a", 1], True),
        ({"type": "array", "prefixItems": [{"type": "string"}], "items": {"type": "integer"}}, [1, 1], False),
        ({"oneOf": [{"type": "integer"}, {"type": "string"}]}, True, False),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, 1, False),
        ({"allOf": [{"type": "integer"}, {"minimum": 3}]}, 2, False),
        ({"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}}, 2, True),
        ({"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}}, "2", False),
        ({"$ref": "#/$defs/missing"}, 2, False),
        ({"$ref": "https://example.invalid/x"}, 2, False),
        ({"$ref": "#"}, 2, False),  # a schema that refers to itself for ever
        ({"type": ["integer", "null"]}, None, True),
        (
            {"type": "object", "properties": {"a": {"type": "object", "properties": {"b": {"enum": [1]}}}}},
            {"a": {"b": True}},
            False,
        ),
    ],
)
def test_schema_words(rules: dict[str, Any], value: Any, fits: bool) -> None:
    assert (fault(value, rules, "x") == "") is fits


def test_a_schema_that_is_none_is_not_the_responses_fault() -> None:
    broken = {"name": "add", "parameters": {"properties": {"a": {"type": "integer", "minimum": "1"}}}}
    judged = said(turn(call(a=1)), task={"tools": [broken], "reference": call(a=1)})
    assert judged.scores == {} and judged.labels["verdict"] == "unreadable-reference"


def test_calls_run_one_after_the_other_in_the_sandbox() -> None:
    task = {"tools": [ADD], "reference": [call(a=1, b=2), call(a=3, b=4)], "results": [3, 10]}
    judged = said(turn(call(a=1, b=2), call(a=3, b=4)), task=task)
    assert judged.labels["verdict"] == "pass", judged.labels
    assert judged.extra["tool_results"] == [3, 10] and judged.labels["level"] != ""
    other = said(turn(call(a=1, b=2), call(a=3, b=4)), task={**task, "results": [3, 10.0]})
    assert (other.labels["verdict"], other.labels["stage"]) == ("wrong", "execution")


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        ("raise ValueError('no such city')", "error"),
        ("while True: pass", "timeout"),
        ("return {1, 2}", "error"),
        ("exit(0)", "error"),
        ("return float('nan')", "error"),
        ("x = 'a' * 10**10", "memory"),
    ],
)
def test_a_call_that_does_not_run_through_fails(body: str, verdict: str) -> None:
    tool = {**ADD, "implementation": f"def add(a, b):\n    {body}"}
    judged = said(turn(call(a=1, b=2)), task={"tools": [tool], "reference": call(a=1, b=2)}, seconds=1.0)
    assert judged.labels["verdict"] == verdict and judged.labels["stage"] == "execution", judged.labels
    assert judged.scores == {"tools": 0.0, "verified": 0.0}


def test_arguments_are_data_and_never_source() -> None:
    tool = {
        "name": "say",
        "parameters": {"properties": {"text": {"type": "string"}}},
        "implementation": "def say(text):\n    return text",
    }
    text = '\'); import os; os._exit(0) #\n"""'
    judged = said(
        turn(call("say", text=text)), task={"tools": [tool], "reference": call("say", text=text), "results": [text]}
    )
    assert judged.labels["verdict"] == "pass"
