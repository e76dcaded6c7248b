"""The teacher `anthropic` against a real server that speaks the Messages API: what is sent, what is read, what errors mean."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import pytest
from batch_server import message
from fault_server import FaultServer, Say
from hypothesis import given
from hypothesis import strategies as st

from limbeck.core.ask import Answer, Ask, Reply, Teacher
from limbeck.core.errors import BusyError, DeniedError, EndpointError, RefusedError, UsageError
from limbeck.core.row import Message
from limbeck.teachers import _anthropic_chat as chat
from limbeck.teachers._anthropic_api import pause
from limbeck.teachers.anthropic import Anthropic

KEY = "sk-ant-planted-0123456789abcdef"
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add.",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
    },
}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    for name in ("ANTHROPIC_API_KEY", "LIMBECK_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with FaultServer() as running:
        running.decide = lambda sent: say(sent)
        yield running


def say(sent: dict[str, Any], **more: Any) -> Say:
    return Say(text=json.dumps(message(sent, **more)))


def fail(status: int, kind: str, told: str, **headers: str) -> Say:
    error = {"type": "error", "error": {"type": kind, "message": told}, "request_id": "req_1"}
    return Say(status=status, text=json.dumps(error), headers=headers)


def question(text: str = "What is 2 + 2?", *before: Message, **options: Any) -> Ask:
    return Ask(messages=[*before, Message(role="user", content=text)], teacher="anthropic:m", **options)


def asked(server: FaultServer, ask: Ask) -> Reply:
    async def once() -> Reply:
        model = Anthropic(f"m@{server.url}")
        try:
            return await model.answer(ask, range(ask.n))
        finally:
            await model.close()

    return asyncio.run(once())


def sent(server: FaultServer) -> dict[str, Any]:
    return server.seen[-1]["body"]  # type: ignore[no-any-return]


def test_it_is_a_remote_teacher_whose_identity_names_endpoint_and_model(server):
    assert isinstance(Anthropic("m"), Teacher) and Anthropic.remote
    assert Anthropic("claude-x").identity == "https://api.anthropic.com/v1 claude-x"
    assert Anthropic("m@http://h:1").identity == Anthropic("m@http://h:1/v1/").identity == "http://h:1/v1 m"


def test_one_request_brings_one_answer_with_its_tokens(server):
    ask = question(
        "Hi", Message(role="system", content="Be brief."), n=3, temperature=0.5, max_tokens=9, stop=("END",), seed=4
    )
    reply = asked(server, ask)
    assert server.seen[0]["path"] == "/v1/messages"
    assert sent(server) == {
        "model": "m", "system": "Be brief.", "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 9, "temperature": 0.5, "stop_sequences": ["END"],
    }  # fmt: skip
    assert reply.answers == (Answer(text="answer to Hi", tokens_out=2),)
    assert (reply.usage.tokens_in, reply.usage.tokens_out, reply.tokens_cached, reply.pause) == (10, 2, 4, 0.0)


def test_a_top_p_that_does_nothing_is_left_out_and_another_is_sent(server):
    asked(server, question())
    assert "top_p" not in sent(server) and sent(server)["temperature"] == 1.0
    asked(server, question(top_p=0.9))
    assert sent(server)["top_p"] == 0.9


def test_tokens_written_to_the_prompt_cache_are_counted_in(server):
    used = {"input_tokens": 1, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 300, "output_tokens": 5}
    server.decide = lambda sent: say(sent, usage=used)
    reply = asked(server, question())
    assert (reply.usage.tokens_in, reply.usage.tokens_out, reply.tokens_cached) == (321, 5, 300)


def test_tools_and_their_results_are_translated_both_ways(server):
    calls = json.dumps(
        [
            {"id": "t1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}},
            {"id": "t2", "type": "function", "function": {"name": "add", "arguments": ""}},
        ]
    )
    turns = [
        Message(role="user", content="Add."),
        Message(role="assistant", content="Gladly.", tool_calls=calls),
        Message(role="tool", content="4"),
        Message(role="tool", content="0"),
    ]
    content = [
        {"type": "thinking", "thinking": "Once more.", "signature": "x"},
        {"type": "text", "text": "Again."},
        {"type": "tool_use", "id": "t3", "name": "add", "input": {"a": "ä"}},
    ]
    server.decide = lambda sent: say(sent, content=content, stop_reason="tool_use")
    answer = asked(server, question("And?", *turns, tools=[ADD])).answers[0]
    assert sent(server)["messages"] == [
        {"role": "user", "content": "Add."},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "Gladly."},
                {"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 2}},
                {"type": "tool_use", "id": "t2", "name": "add", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "4"},
                {"type": "tool_result", "tool_use_id": "t2", "content": "0"},
                {"type": "text", "text": "And?"},
            ],
        },
    ]
    assert sent(server)["tools"] == [
        {"name": "add", "description": "Add.", "input_schema": ADD["function"]["parameters"]}  # type: ignore[index]
    ]
    assert (answer.text, answer.finish, answer.reasoning) == ("Again.", "tool_calls", "Once more.")
    assert json.loads(answer.tool_calls or "") == [
        {"id": "t3", "type": "function", "function": {"name": "add", "arguments": '{"a": "ä"}'}}
    ]


@given(
    text=st.text(min_size=1),
    arguments=st.dictionaries(
        st.text(max_size=5), st.integers() | st.text(max_size=9) | st.lists(st.booleans(), max_size=3)
    ),
)
def test_a_call_that_was_answered_goes_back_as_it_came(text, arguments):
    blocks = [{"type": "text", "text": text}, {"type": "tool_use", "id": "t", "name": "f", "input": arguments}]
    ask = question()
    answer = chat.answer({"content": blocks, "stop_reason": "tool_use", "usage": {}}, ask)
    turn = Message(role="assistant", content=answer.text, tool_calls=answer.tool_calls)
    again = chat.body(question("next", Message(role="user", content="q"), turn), "m")["messages"][1]["content"]
    # a row holds no lone surrogates: they become visible escapes at its door
    clean = Message(role="assistant", content=text).content
    assert again == [{"type": "text", "text": clean}, {"type": "tool_use", "id": "t", "name": "f", "input": arguments}]


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
    ],
)
def test_why_an_answer_ended(server, reason, finish):
    server.decide = lambda sent: say(sent, stop_reason=reason)
    assert asked(server, question()).answers[0].finish == finish


def test_a_refusal_costs_its_row_and_says_why(server):
    details = {"type": "refusal", "category": "bio", "explanation": "Not this."}
    server.decide = lambda sent: say(sent, stop_reason="refusal", stop_details=details, content=[])
    with pytest.raises(RefusedError, match="The model refused: bio: Not this"):
        asked(server, question())


def test_a_stop_text_of_white_space_is_cut_here(server):
    server.decide = lambda sent: say(sent, content=[{"type": "text", "text": "one\n\ntwo"}], stop_reason="max_tokens")
    answer = asked(server, question(stop=("\n\n", "END"))).answers[0]
    assert (answer.text, answer.finish) == ("one", "stop") and sent(server)["stop_sequences"] == ["END"]


def test_a_schema_is_sent_as_output_format_with_its_objects_closed(server):
    schema = {"type": "object", "properties": {"xs": {"type": "array", "items": {"type": "object", "properties": {}}}}}
    asked(server, question(response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}))
    assert sent(server)["output_config"] == {
        "format": {
            "type": "json_schema",
            "schema": {
                "additionalProperties": False,
                "type": "object",
                "properties": {
                    "xs": {
                        "type": "array",
                        "items": {"additionalProperties": False, "type": "object", "properties": {}},
                    }
                },
            },
        }
    }
    assert "additionalProperties" not in schema


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"logprobs": 2}, "no log-probabilities"),
        ({"temperature": 1.2}, "temperature from 0 to 1"),
        ({"response_format": {"type": "json_object"}}, "no response_format of type 'json_object'"),
    ],
)
def test_what_the_api_lacks_is_said_before_anything_is_sent(server, options, said):
    with pytest.raises(EndpointError, match=said):
        asked(server, question(**options))
    assert not server.seen


def test_a_system_text_in_the_middle_costs_its_row(server):
    with pytest.raises(RefusedError, match="only before the first turn"):
        asked(server, question("q", Message(role="user", content="a"), Message(role="system", content="b")))


@pytest.mark.parametrize(
    ("status", "kind", "error", "busy"),
    [
        (400, "invalid_request_error", RefusedError, ""), (401, "authentication_error", EndpointError, ""),
        (402, "billing_error", EndpointError, ""), (403, "permission_error", DeniedError, ""),
        (404, "not_found_error", EndpointError, ""), (413, "request_too_large", RefusedError, ""),
        (429, "rate_limit_error", BusyError, "rate"), (500, "api_error", BusyError, "server"),
        (529, "overloaded_error", BusyError, "overloaded"),
    ],
)  # fmt: skip
def test_what_each_status_means(server, status, kind, error, busy):
    server.decide = lambda sent: fail(status, kind, "Told.")
    with pytest.raises(error, match=r"Told\.") as caught:
        asked(server, question())
    assert type(caught.value) is error and getattr(caught.value, "kind", "") == busy


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (400, "Your credit balance is too low to access the Anthropic API."),
        (400, "You have reached your specified API usage limits."),
        (429, "This organization has reached its spend limit."),
        (400, "temperature and top_p cannot both be specified for this model."),
        (400, "`temperature` is deprecated for this model."),
    ],
)
def test_a_400_about_the_account_or_the_settings_stops_the_run_instead_of_dropping_every_row(server, status, told):
    server.decide = lambda sent: fail(status, "invalid_request_error", told)
    with pytest.raises(EndpointError) as caught:
        asked(server, question())
    assert told.rstrip(".") in str(caught.value)


def test_a_used_up_allowance_asks_everybody_to_wait_until_its_reset(server):
    now = 1_800_000_000
    headers = {
        "Date": formatdate(now, usegmt=True),
        "anthropic-ratelimit-requests-remaining": "5",
        "anthropic-ratelimit-requests-reset": "2027-01-15T09:00:00Z",
        "anthropic-ratelimit-output-tokens-remaining": "0",
        "anthropic-ratelimit-output-tokens-reset": "2027-01-15T08:00:12Z",
    }
    assert pause(headers) == 12.0 and pause({}) == 0.0
    assert pause({"anthropic-ratelimit-tokens-remaining": "0", "anthropic-ratelimit-tokens-reset": "soon"}) == 0.0
    server.decide = lambda sent: fail(429, "rate_limit_error", "Slow down.", **headers)
    with pytest.raises(BusyError) as caught:
        asked(server, question())
    assert caught.value.retry_after == 12.0
    server.decide = lambda sent: fail(429, "rate_limit_error", "Slow down.", **headers, **{"Retry-After": "3"})
    with pytest.raises(BusyError) as caught:
        asked(server, question())
    assert caught.value.retry_after == 3.0
    server.decide = lambda sent: Say(text=json.dumps(message(sent)), headers=headers)
    assert asked(server, question()).pause == 12.0


@pytest.mark.parametrize(
    "text", ["<html>", "[]", "{}", '{"content": 5, "stop_reason": "end_turn"}', '{"type": "message"}']
)
def test_what_is_not_in_the_format_is_garbled(server, text):
    server.decide = lambda sent: Say(text=text)
    with pytest.raises(BusyError) as caught:
        asked(server, question())
    assert caught.value.kind == "garbled"


def test_keys_go_where_they_belong_and_nowhere_else(server, monkeypatch, caplog):
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    asked(server, question())
    assert KEY not in json.dumps(server.seen[-1]["headers"]), "it is for api.anthropic.com alone"
    monkeypatch.setenv("LIMBECK_API_KEY", "local-secret")
    asked(server, question())
    heads = {name.lower(): value for name, value in server.seen[-1]["headers"].items()}
    assert (heads["x-api-key"], heads["authorization"]) == ("local-secret", "Bearer local-secret")
    assert heads["anthropic-version"] == "2023-06-01"
    home = Anthropic("m")._api.headers()
    assert home["x-api-key"] == KEY and "Authorization" not in home
    server.decide = lambda sent: Say(status=400, echo_headers=True)
    with caplog.at_level(logging.DEBUG), pytest.raises(RefusedError) as caught:
        asked(server, question())
    assert "local-secret" not in str(caught.value) + caplog.text


def test_without_a_key_nothing_is_sent_home(monkeypatch):
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    with pytest.raises(EndpointError, match="ANTHROPIC_API_KEY is not set"):
        asyncio.run(Anthropic("m").answer(question(), [0]))
    with pytest.raises(UsageError, match="needs a model"):
        Anthropic("")
