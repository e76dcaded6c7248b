"""The OpenAI-compatible teacher against a real server: good answers, faults of every class, and no key anywhere."""

from __future__ import annotations

import asyncio
import email.utils
import json
import logging
import pickle
import time
import traceback

import pytest
from fault_server import FaultServer, Say

from limbeck.core.ask import Ask, Reply, Teacher
from limbeck.core.errors import BusyError, EndpointError, LimbeckError, RefusedError, UsageError
from limbeck.core.row import Message
from limbeck.teachers._chat import body
from limbeck.teachers._retry import Patience, wait
from limbeck.teachers.openai import OpenAI

QUICK = Patience(tries=4, seconds=5, first=0.01)
KEY = "sk-planted-0123456789abcdef"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("LIMBECK_API_KEY", raising=False)
    with FaultServer() as running:
        yield running


def question(text: str = "What is 2 + 2?", **options) -> Ask:
    return Ask(messages=[Message(role="user", content=text)], teacher="openai:m", **options)


def asked(server: FaultServer, ask: Ask, samples: list[int] | None = None, teacher: OpenAI | None = None) -> Reply:
    async def once() -> Reply:
        model = teacher or OpenAI(f"m@{server.url}", patience=QUICK)
        try:
            return await model.answer(ask, samples if samples is not None else list(range(ask.n)))
        finally:
            await model.close()

    return asyncio.run(once())


def test_four_samples_are_one_call_with_every_parameter_sent(server):
    ask = question(n=4, temperature=0.7, top_p=0.9, max_tokens=33, stop=("\n\n",), seed=5)
    reply = asked(server, ask)
    sent = server.seen[0]["body"]
    assert len(server.seen) == 1 and server.seen[0]["path"] == "/v1/chat/completions"
    assert [a.text for a in reply.answers] == [f"answer {sent['seed'] + i}" for i in range(4)]
    assert {k: sent[k] for k in ("model", "n", "temperature", "top_p", "max_tokens", "stop")} == {
        "model": "m", "n": 4, "temperature": 0.7, "top_p": 0.9, "max_tokens": 33, "stop": ["\n\n"],
    }  # fmt: skip
    assert reply.usage.tokens_in == 7 and reply.usage.tokens_out == 12 and reply.usage.seconds > 0
    assert sum(a.tokens_out for a in reply.answers) == 12


def test_it_is_a_teacher(server):
    assert isinstance(OpenAI("m@http://localhost:1/v1"), Teacher)


def test_defaults_are_sent_and_nothing_that_was_not_asked(server):
    asked(server, question())
    assert set(server.seen[0]["body"]) == {"model", "messages", "n", "temperature", "top_p", "max_tokens", "seed"}


def test_a_server_that_ignores_n_is_topped_up_and_remembered(server, caplog):
    server.script = [Say(choices=1)]
    teacher = OpenAI(f"m@{server.url}", patience=QUICK)

    async def both() -> list[Reply]:
        found = [await teacher.answer(question(n=3), [0, 1, 2]), await teacher.answer(question("again", n=2), [0, 1])]
        await teacher.close()
        return found

    with caplog.at_level(logging.WARNING):
        first, second = asyncio.run(both())
    assert [entry["body"]["n"] for entry in server.seen] == [3, 1, 1, 1, 1]
    assert len({a.text for a in first.answers}) == 3, "each single call has a seed of its own"
    assert len(second.answers) == 2
    assert [r.getMessage() for r in caplog.records if "limbeck" in r.name] == [
        f"{server.url} gave 1 of 3 answers to one call; from now on each answer is a call of its own."
    ]


def test_a_server_that_refuses_n_gets_single_calls(server):
    server.decide = lambda sent: (
        Say(status=400, text='{"error": {"message": "n must be 1"}}') if sent["n"] > 1 else Say()
    )
    assert len(asked(server, question(n=3)).answers) == 3
    assert [entry["body"]["n"] for entry in server.seen] == [3, 1, 1, 1]


def test_only_the_missing_samples_are_asked_for(server):
    reply = asked(server, question(n=5), [1, 4])
    assert server.seen[0]["body"]["n"] == 2 and len(reply.answers) == 2


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 529])
def test_a_busy_server_is_asked_again(server, status):
    server.script = [Say(status=status, text="wait"), Say(status=status), Say()]
    assert asked(server, question()).text == "answer 0"
    assert len(server.seen) == 3


def test_retry_after_is_obeyed_in_seconds_and_as_a_date(server):
    for date in (False, True):
        until = int(time.time()) + 2 if date else time.time() + 0.3  # a date has whole seconds only
        header = email.utils.formatdate(until, usegmt=True) if date else "0.3"
        server.seen.clear()
        server.script = [Say(status=429, headers={"Retry-After": header}), Say()]
        asked(server, question())
        assert time.time() >= until and len(server.seen) == 2, "the second request came before it was welcome"


def test_patience_ends_and_the_last_error_is_told(server):
    server.script = [Say(status=503, text='{"message": "overloaded"}', headers={"Retry-After": "0"})]
    with pytest.raises(BusyError, match=r"busy \(status 503\): overloaded \(tried 4 times\)") as caught:
        asked(server, question())
    assert len(server.seen) == 4 and caught.value.retry_after == 0
    server.script = [Say(status=429, headers={"Retry-After": "3600"})]
    with pytest.raises(BusyError):
        asked(server, question())
    assert len(server.seen) == 5, "nobody waits an hour"


def test_the_back_off_grows_is_jittered_and_repeatable():
    busy = BusyError("busy")
    waits = [wait(busy, "request", attempt, Patience()) for attempt in range(1, 6)]
    assert waits == [wait(busy, "request", attempt, Patience()) for attempt in range(1, 6)]
    assert all(0.25 * 2**k <= w <= 0.75 * 2**k for k, w in enumerate(waits))
    assert wait(busy, "another", 1, Patience()) != waits[0]
    assert sum(waits) < 60


@pytest.mark.parametrize(
    ("say", "what"),
    [
        (Say(text='{"choices": []}'), "without any choices"),
        (Say(text='{"choices": ['), "not JSON"),
        (Say(text="[]"), "without any choices"),
        (Say(text='{"choices": [{"text": "x"}]}'), "not in the chat format"),
        (Say(text='{"error": {"message": "loading", "code": 503}}'), "loading"),
        (Say(cut=True), "broke off"),
    ],
    ids=["empty", "half-json", "list", "no-message", "error-200", "cut"],
)
def test_an_answer_that_is_none_is_tried_again(server, say, what):
    server.script = [say, Say()]
    assert asked(server, question()).text == "answer 0"
    server.seen.clear()
    server.script = [say]
    with pytest.raises(BusyError, match=what):
        asked(server, question())
    assert len(server.seen) == 4


def test_a_silent_server_is_busy_after_the_timeout(server, monkeypatch):
    monkeypatch.setenv("LIMBECK_TIMEOUT", "0.2")
    server.script = [Say(seconds=1), Say()]
    assert asked(server, question()).text == "answer 0"
    assert len(server.seen) == 2


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_request_is_tried_once(server, status):
    server.script = [Say(status=status, text='{"error": {"message": "too long a prompt"}}')]
    with pytest.raises(RefusedError, match=f"refused the request .status {status}.: too long a prompt"):
        asked(server, question())
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("status", "what"),
    [
        (401, "LIMBECK_API_KEY"),
        (403, "may not use"),
        (404, "no such model"),
        (402, "credit"),
        (307, "redirects"),
        (405, "405"),
    ],
)
def test_a_fault_of_the_endpoint_stops_at_once(server, status, what):
    server.script = [Say(status=status, headers={"Location": "http://elsewhere/"}, text='{"detail": "no"}')]
    with pytest.raises(EndpointError, match=what):
        asked(server, question())
    assert len(server.seen) == 1


def test_a_used_up_quota_is_not_waited_for(server):
    server.script = [Say(status=429, text='{"error": {"message": "pay first", "code": "insufficient_quota"}}')]
    with pytest.raises(EndpointError, match="used up its quota: pay first"):
        asked(server, question())
    assert len(server.seen) == 1


def test_nobody_there(server):
    url = server.url.replace("127.0.0.1", "localhost").rsplit(":", 1)[0] + ":9/v1"
    for address in (url, "http://no-such-host.invalid/v1"):
        with pytest.raises(EndpointError, match=r"Nothing answers at http.*start the server or check the address"):
            asked(server, question(), teacher=OpenAI(f"m@{address}", patience=QUICK))


def test_a_content_filter_refuses_the_row(server):
    for say in (
        Say(choice={"finish_reason": "content_filter"}),
        Say(message={"content": None, "refusal": "I will not."}),
    ):
        server.script, server.seen = [say], []
        with pytest.raises(RefusedError, match="content filter"):
            asked(server, question())


@pytest.mark.parametrize(
    ("given", "meant"),
    [("stop", "stop"), ("length", "length"), ("tool_calls", "tool_calls"), (None, "stop"), ("eos", "stop")],
)
def test_finish_reasons(server, given, meant):
    server.script = [Say(choice={"finish_reason": given})]
    assert asked(server, question()).answers[0].finish == meant


def test_tool_calls_and_thoughts_are_kept(server):
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}}
    server.script = [Say(message={"content": None, "tool_calls": [call], "reasoning_content": "hm"})]
    tools = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
    answer = asked(server, question(tools=tools, response_format={"type": "json_object"})).answers[0]
    assert json.loads(answer.tool_calls or "") == [call]
    assert (answer.text, answer.finish, answer.reasoning) == ("", "tool_calls", "hm")
    assert server.seen[0]["body"]["tools"] == tools
    assert server.seen[0]["body"]["response_format"] == {"type": "json_object"}


def test_a_tool_result_names_the_call_it_answers():
    calls = json.dumps([{"id": "a", "function": {}}, {"id": "b", "function": {}}])
    turns = [
        Message(role="user", content="q"),
        Message(role="assistant", content="", tool_calls=calls),
        Message(role="tool", content="1"),
        Message(role="tool", content="2"),
    ]
    sent = body(Ask(messages=turns, teacher="t"), "m", n=1, seed=0)["messages"]
    assert [m.get("tool_call_id") for m in sent] == [None, None, "a", "b"]
    assert sent[1]["tool_calls"] == json.loads(calls)


def test_both_shapes_of_logprobs_are_read(server):
    new = {"content": [{"token": "4", "logprob": -0.5, "top_logprobs": [{"token": "5", "logprob": -1.5}]}]}
    old = {"tokens": ["4"], "token_logprobs": [-0.5], "top_logprobs": [{"5": -1.5}]}
    mixed = {**new, "tokens": ["4"], "token_logprobs": None, "top_logprobs": None}
    for shape in (new, old, mixed):
        server.script, server.seen = [Say(choice={"logprobs": shape})], []
        found = asked(server, question(logprobs=1)).answers[0].logprobs
        assert found is not None and [(t.token, t.logprob, dict(t.top)) for t in found] == [("4", -0.5, {"5": -1.5})]
    assert (server.seen[0]["body"]["logprobs"], server.seen[0]["body"]["top_logprobs"]) == (True, 1)


def test_logprobs_that_silently_do_not_come_are_an_error(server):
    for shape in (None, {}, {"content": None, "token_logprobs": None}):
        server.script = [Say(choice={"logprobs": shape})]
        with pytest.raises(EndpointError, match="without log-probabilities, though they were asked for"):
            asked(server, question(logprobs=2))


def shown(error: LimbeckError) -> str:
    return "".join(traceback.format_exception(error)) + repr(error) + pickle.dumps(error).decode("latin-1")


@pytest.mark.parametrize("status", [200, 400, 401, 404, 429, 500])
def test_a_planted_key_is_nowhere_even_when_the_server_echoes_it(server, monkeypatch, caplog, status):
    monkeypatch.setenv("LIMBECK_API_KEY", KEY)
    teacher = OpenAI(f"m@{server.url}", patience=Patience(tries=2, first=0.01))
    server.script = [Say(status=status, echo_headers=True)]
    with caplog.at_level(logging.DEBUG), pytest.raises(LimbeckError) as caught:
        asked(server, question(), teacher=teacher)
    assert server.seen[0]["headers"]["Authorization"] == f"Bearer {KEY}"
    assert "no use for" in str(caught.value)
    for text in (shown(caught.value), repr(teacher), teacher.identity, caplog.text):
        assert KEY not in text and "0123456789" not in text


def test_credentials_in_the_address_are_used_and_never_shown(server):
    address = server.url.replace("http://", "http://me:pass%2Fword1@") + "?api-key=tok3n4"
    teacher = OpenAI(f"m@{address}", patience=QUICK)
    server.script = [Say(status=400, echo_headers=True)]
    with pytest.raises(RefusedError) as caught:
        asked(server, question(), teacher=teacher)
    assert server.seen[0]["headers"]["Authorization"] == "Basic bWU6cGFzcy93b3JkMQ=="
    assert server.seen[0]["path"].endswith("?api-key=tok3n4")
    assert teacher.identity == f"{server.url} m"
    assert not any(secret in shown(caught.value) for secret in ("bWU6", "pass/word1", "pass%2F", "tok3n4"))


def test_the_openai_key_goes_to_openai_only(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    asked(server, question())
    assert "Authorization" not in server.seen[0]["headers"]
    for address in (
        "http://api.openai.com/v1",
        "https://api.openai.com.evil.example/v1",
        "https://evil@example.org/v1",
    ):
        assert KEY not in str(OpenAI(f"m@{address}")._address.headers())
    assert KEY in OpenAI("m")._address.headers()["Authorization"]


def test_without_a_key_openai_itself_is_not_even_asked(server):
    with pytest.raises(EndpointError, match="OPENAI_API_KEY is not set"):
        asked(server, question(), teacher=OpenAI("m"))


def test_names_that_make_no_sense():
    for rest in ("", "@http://x/v1", "m@http://", "m@http://host:port/v1"):
        with pytest.raises(UsageError):
            OpenAI(rest)
    assert OpenAI("a@b/c:d").identity == "https://api.openai.com/v1 a@b/c:d"
    assert OpenAI("m@http://[::1]:8000/v1/").identity == "http://[::1]:8000/v1 m"


def test_text_that_is_not_quite_unicode_is_sent(server):
    assert asked(server, question("half an emoji: \ud83d")).text == "answer 0"


def test_a_thousand_asks_at_once(server):
    teacher = OpenAI(f"m@{server.url}", patience=QUICK)

    async def many() -> list[Reply]:
        replies = await asyncio.gather(*(teacher.answer(question(f"q{i}", seed=i), [0]) for i in range(1000)))
        await teacher.close()
        return replies

    replies = asyncio.run(many())
    assert len(server.seen) == 1000
    assert [r.text for r in replies] == [f"answer {i * 1_000_003 % 2**31}" for i in range(1000)]
