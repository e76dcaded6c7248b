"""The OpenAI-compatible teacher against a real server: what it sends, what it reads, and no key anywhere."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import traceback

import pytest
from fault_server import FaultServer, Say
from openai_asking import asked, question

from limbeck.core.ask import Ask, Reply, Teacher
from limbeck.core.errors import EndpointError, LimbeckError, RefusedError, UsageError
from limbeck.core.row import Message
from limbeck.teachers._chat import body
from limbeck.teachers.openai import OpenAI

KEY = "sk-planted-0123456789abcdef"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("LIMBECK_API_KEY", raising=False)
    with FaultServer() as running:
        yield running


def test_four_samples_are_one_call_with_every_parameter_sent(server):
    ask = question(n=4, temperature=0.7, top_p=0.9, max_tokens=33, stop=("\n\n",), seed=5)
    reply = asked(server, ask)
    sent = server.seen[0]["body"]
    assert len(server.seen) == 1 and server.seen[0]["path"] == "/v1/chat/completions"
    assert [a.text for a in reply.answers] == [f"answer {sent['seed'] + i}" for i in range(4)]
    assert {k: sent[k] for k in ("model", "n", "temperature", "top_p", "max_tokens", "stop")} == {
        "model": "m", "n": 4, "temperature": 0.7, "top_p": 0.9, "max_tokens": 33, "stop": ["\n\n"],
    }  # fmt: skip
    assert (reply.usage.tokens_in, reply.usage.tokens_out, reply.tokens_cached, reply.pause) == (7, 12, 0, 0.0)
    assert sum(a.tokens_out for a in reply.answers) == 12


def test_it_is_a_remote_teacher(server):
    teacher = OpenAI("m@http://localhost:1/v1")
    assert isinstance(teacher, Teacher) and teacher.remote


def test_defaults_are_sent_and_nothing_that_was_not_asked(server):
    asked(server, question())
    assert set(server.seen[0]["body"]) == {"model", "messages", "n", "temperature", "top_p", "max_tokens", "seed"}


def test_only_the_missing_samples_are_asked_for(server):
    reply = asked(server, question(n=5), [1, 4])
    assert server.seen[0]["body"]["n"] == 2 and len(reply.answers) == 2


def test_another_sample_has_another_seed_and_the_same_sample_the_same(server):
    seeds = []
    for samples in ([0], [1], [1]):
        asked(server, question(seed=3), samples)
        seeds.append(server.seen[-1]["body"]["seed"])
    assert seeds[0] != seeds[1] == seeds[2] and all(0 <= seed < 2**31 for seed in seeds)


def test_a_content_filter_refuses_the_row(server):
    for say in (
        Say(choice={"finish_reason": "content_filter"}),
        Say(choice={"finish_reason": "content_filter: SAFETY"}),
        Say(message={"content": None, "refusal": "I will not."}),
    ):
        server.script, server.seen = [say], []
        with pytest.raises(RefusedError, match="content filter"):
            asked(server, question())


def test_good_choices_beside_a_filtered_or_broken_one_are_kept(server):
    good = {"message": {"content": "fine"}, "finish_reason": "stop"}
    for bad in ({"message": {"content": ""}, "finish_reason": "content_filter"}, {**good, "finish_reason": "abort"}):
        usage = {"prompt_tokens": 5, "completion_tokens": 10}
        server.script = [Say(text=json.dumps({"choices": [good, bad, good], "usage": usage}))]
        reply = asked(server, question(n=3))
        assert [a.text for a in reply.answers] == ["fine", "fine"]
        assert reply.usage.tokens_out == 10 == sum(a.tokens_out for a in reply.answers)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("max_tokens", "length"),
        ("tool_calls", "tool_calls"),
        (None, "stop"),
        ("eos", "stop"),
    ],
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


def test_a_call_in_the_older_form_is_a_tool_call(server):
    server.script = [Say(message={"content": None, "function_call": {"name": "add", "arguments": "{}"}})]
    answer = asked(server, question()).answers[0]
    assert json.loads(answer.tool_calls or "")[0]["function"]["name"] == "add" and answer.finish == "tool_calls"


@pytest.mark.parametrize(
    ("message", "text", "thoughts"),
    [
        ({"content": "4", "reasoning": "2 and 2"}, "4", "2 and 2"),
        ({"content": "<think>2 and 2</think>4"}, "<think>2 and 2</think>4", None),
        (
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "2 and 2"}]}, {"type": "text", "text": "4"}]},
            "4",
            "2 and 2",
        ),
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "ab", None),
        ({"content": None}, "", None),
    ],
    ids=["reasoning", "in-the-text", "parts", "text-parts", "nothing"],
)  # fmt: skip
def test_where_thoughts_stand(server, message, text, thoughts):
    server.script = [Say(message=message)]
    answer = asked(server, question()).answers[0]
    assert (answer.text, answer.reasoning) == (text, thoughts)


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"prompt_tokens_details": {"cached_tokens": 5}}, (7, 3, 5)),
        ({"prompt_cache_hit_tokens": 4}, (7, 3, 4)),
        ({"completion_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 10}, (7, 3, 0)),
        ({"completion_tokens_details": {"reasoning_tokens": 90}, "total_tokens": 100}, (7, 93, 0)),
        ({"prompt_tokens": None, "completion_tokens": "3", "prompt_tokens_details": None}, (0, 0, 0)),
    ],
    ids=["cached", "cached-deepseek", "thoughts-inside", "thoughts-beside", "nonsense"],
)
def test_tokens_are_counted_as_the_server_bills_them(server, usage, counts):
    server.script = [Say(usage=usage)]
    reply = asked(server, question())
    assert (reply.usage.tokens_in, reply.usage.tokens_out, reply.tokens_cached) == counts
    assert reply.answers[0].tokens_out == counts[1]


def test_a_reply_without_usage_is_an_answer_all_the_same(server):
    server.script = [Say(text='{"choices": [{"message": {"content": "4"}}]}')]
    reply = asked(server, question())
    assert (reply.text, reply.usage.tokens_in) == ("4", 0)


def test_a_tool_result_names_the_call_it_answers():
    calls = json.dumps([{"id": "a", "function": {}}, {"id": "b", "function": {}}])
    turns = [
        Message(role="user", content="q"),
        Message(role="assistant", content="", tool_calls=calls),
        Message(role="tool", content="1", name="add"),
        Message(role="tool", content="2"),
    ]
    sent = body(Ask(messages=turns, teacher="t"), "m", n=1, seed=0)["messages"]
    assert [m.get("tool_call_id") for m in sent] == [None, None, "a", "b"]
    assert sent[1]["tool_calls"] == json.loads(calls) and sent[2]["name"] == "add" and "name" not in sent[3]


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


def plain(server: FaultServer) -> OpenAI:
    return OpenAI(f"m@{server.url}/completions")


def test_plain_completions_join_the_turns_and_nothing_else(server):
    turns = [
        Message(role="system", content="Sums."),
        Message(role="user", content="2 + 2 ="),
        Message(role="tool", content="x"),
    ]
    reply = asked(server, Ask(messages=turns, teacher="t", n=2, stop=("\n",)), teacher=plain(server))
    sent = server.seen[0]["body"]
    assert server.seen[0]["path"] == "/v1/completions" and sent["prompt"] == "Sums.\n\n2 + 2 =\n\nx"
    assert set(sent) == {"model", "prompt", "n", "temperature", "top_p", "max_tokens", "seed", "stop"}
    assert [a.text for a in reply.answers] == ["answer 0", "answer 1"]
    asked(server, question("exactly this "), teacher=plain(server))
    assert server.seen[1]["body"]["prompt"] == "exactly this "


def test_plain_completions_give_logprobs_in_their_own_form(server):
    shape = {
        "tokens": ["4", "."],
        "token_logprobs": [-0.5, -1],
        "top_logprobs": [{"5": -1.5}, None],
        "text_offset": [0, 1],
    }
    server.script = [Say(choice={"logprobs": shape})]
    found = asked(server, question(logprobs=1), teacher=plain(server)).answers[0].logprobs
    assert found is not None and [(t.token, t.logprob, dict(t.top)) for t in found] == [
        ("4", -0.5, {"5": -1.5}),
        (".", -1.0, {}),
    ]
    assert server.seen[0]["body"]["logprobs"] == 1 and "top_logprobs" not in server.seen[0]["body"]


def test_plain_completions_have_no_tools(server):
    with pytest.raises(EndpointError, match="Plain completions have no tools"):
        asked(server, question(tools=[{"type": "function"}]), teacher=plain(server))
    assert server.seen == []


def test_the_address_tells_chat_from_completions():
    names = {
        "m@http://h:1/v1": ("http://h:1/v1 m", "http://h:1/v1/chat/completions"),
        "m@http://h:1/v1/": ("http://h:1/v1 m", "http://h:1/v1/chat/completions"),
        "m@http://h:1/v1/chat/completions": ("http://h:1/v1 m", "http://h:1/v1/chat/completions"),
        "m@http://h:1/v1/completions": ("http://h:1/v1/completions m", "http://h:1/v1/completions"),
        "m@http://h:1/completions/?api-version=1": ("http://h:1/completions m", "http://h:1/completions?api-version=1"),
        "m@http://h:1/my-completions/v1": (
            "http://h:1/my-completions/v1 m",
            "http://h:1/my-completions/v1/chat/completions",
        ),
        "a@b/c:d": ("https://api.openai.com/v1 a@b/c:d", "https://api.openai.com/v1/chat/completions"),
        "m@http://[::1]:8000/v1/": ("http://[::1]:8000/v1 m", "http://[::1]:8000/v1/chat/completions"),
    }
    found = {name: (teacher.identity, teacher._url) for name in names for teacher in [OpenAI(name)]}
    assert found == names


def test_openai_itself_is_told_the_limit_by_its_new_name(server):
    teacher = OpenAI("gpt-5")
    assert "max_completion_tokens" in teacher._request(question(), [0])
    assert "max_tokens" in OpenAI("davinci@https://api.openai.com/v1/completions")._request(question(), [0])


def shown(error: LimbeckError) -> str:
    return "".join(traceback.format_exception(error)) + repr(error) + pickle.dumps(error).decode("latin-1")


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 429, 500])
def test_a_planted_key_is_nowhere_even_when_the_server_echoes_it(server, monkeypatch, caplog, status):
    monkeypatch.setenv("LIMBECK_API_KEY", KEY)
    teacher = OpenAI(f"m@{server.url}")
    server.script = [Say(status=status, echo_headers=True)]
    with caplog.at_level(logging.DEBUG), pytest.raises(LimbeckError) as caught:
        asked(server, question(), teacher=teacher)
    assert server.seen[0]["headers"]["Authorization"] == f"Bearer {KEY}"
    assert "no use for" in str(caught.value)
    for text in (shown(caught.value), repr(teacher), teacher.identity, caplog.text):
        assert KEY not in text and "0123456789" not in text


def test_what_a_server_says_is_told_in_one_line_without_keys(server, monkeypatch):
    monkeypatch.setenv("LIMBECK_API_KEY", KEY)
    said = f"No.\r\n\tAuthorization: Bearer {KEY}\x1b[31m\n" + "x" * 5000
    for say in (
        Say(status=400, text=json.dumps({"message": said})),
        Say(message={"refusal": said}),
        Say(status=500, text=said),
    ):
        server.script, server.seen = [say], []
        with pytest.raises(LimbeckError, match=r"No\. Authorization: Bearer \[removed\] \[31m x+ \.\.\.") as caught:
            asked(server, question())
        assert str(caught.value).isprintable() and KEY not in shown(caught.value) and len(str(caught.value)) < 700


def test_credentials_in_the_address_are_used_and_never_shown(server):
    address = server.url.replace("http://", "http://me:pass%2Fword1@") + "?api-key=tok3n4"
    teacher = OpenAI(f"m@{address}")
    server.script = [Say(status=400, echo_headers=True)]
    with pytest.raises(RefusedError) as caught:
        asked(server, question(), teacher=teacher)
    assert server.seen[0]["headers"]["Authorization"] == "Basic bWU6cGFzcy93b3JkMQ=="
    assert server.seen[0]["path"].endswith("?api-key=tok3n4")
    assert teacher.identity == f"{server.url} m"
    assert not any(secret in shown(caught.value) for secret in ("bWU6", "pass/word1", "pass%2F", "tok3n4"))


def test_keys_go_where_they_belong_and_nowhere_else(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    asked(server, question())
    assert "Authorization" not in server.seen[0]["headers"]
    for address in (
        "http://api.openai.com/v1",
        "https://api.openai.com.evil.example/v1",
        "https://evil@example.org/v1",
    ):
        assert KEY not in str(OpenAI(f"m@{address}")._address.headers())
    monkeypatch.setenv("LIMBECK_API_KEY", "for-all-others")
    monkeypatch.setenv("LIMBECK_API_KEY_LLM_EXAMPLE_ORG", "for-one")
    keys = {
        "m": f"Bearer {KEY}",
        "m@https://llm.example.org/v1": "Bearer for-one",
        "m@https://llm.example.com/v1": "Bearer for-all-others",
    }
    assert {name: OpenAI(name)._address.headers()["Authorization"] for name in keys} == keys
    azure = OpenAI("m@https://mine.openai.azure.com/openai/v1")._address.headers()
    assert azure["api-key"] == "for-all-others" and "Authorization" not in azure


def test_without_a_key_or_with_a_broken_one_openai_itself_is_not_even_asked(server, monkeypatch):
    with pytest.raises(EndpointError, match="OPENAI_API_KEY is not set"):
        asked(server, question(), teacher=OpenAI("m"))
    for broken in ("sk-with\nnewline", "sk-caf\u00e9"):
        monkeypatch.setenv("OPENAI_API_KEY", broken)
        with pytest.raises(EndpointError, match="OPENAI_API_KEY holds a character that no key has") as caught:
            asked(server, question(), teacher=OpenAI("m"))
        assert broken not in shown(caught.value)


def test_names_that_make_no_sense():
    for rest in ("", "@http://x/v1", "m@http://", "m@http://host:port/v1"):
        with pytest.raises(UsageError):
            OpenAI(rest)


def test_text_that_is_not_quite_unicode_is_sent(server):
    assert asked(server, question("half an emoji: \ud83d")).text == "answer 0"
    assert asked(server, question("ein Käse, 一个")).text == "answer 0"
    assert server.seen[1]["body"]["messages"][0]["content"] == "ein Käse, 一个"


def test_a_prompt_of_megabytes_is_sent(server):
    assert asked(server, question("long " * 500_000)).text == "answer 0"


def test_a_thousand_asks_at_once(server):
    teacher = OpenAI(f"m@{server.url}")

    async def many() -> list[Reply]:
        replies = await asyncio.gather(*(teacher.answer(question(f"q{i}", seed=i), [0]) for i in range(1000)))
        await teacher.close()
        return replies

    replies = asyncio.run(many())
    assert len(server.seen) == 1000
    assert [r.text for r in replies] == [f"answer {i * 1_000_003 % 2**31}" for i in range(1000)]
