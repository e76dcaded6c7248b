"""Servers that lack something, or name it otherwise: what is learnt from their replies, and what is said about it."""

from __future__ import annotations

import json
import logging

import pytest
from fault_server import FaultServer, Say
from hypothesis import given
from hypothesis import strategies as st
from openai_asking import asked, in_turn, question

from limbeck.core.ask import Answer
from limbeck.core.errors import BusyError, EndpointError, RefusedError
from limbeck.teachers._form import fault, instruction, judged, unfenced
from limbeck.teachers.openai import OpenAI

SCHEMA = {
    "type": "object",
    "properties": {"sum": {"type": "integer"}},
    "required": ["sum"],
    "additionalProperties": False,
}
FORM = {"type": "json_schema", "json_schema": {"name": "sum", "strict": True, "schema": SCHEMA}}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("LIMBECK_API_KEY", raising=False)
    with FaultServer() as running:
        yield running


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.WARNING)
    return lambda: [r.getMessage() for r in caplog.records if r.name.startswith("limbeck")]


def refusing(name: str, message: str, status: int = 400, **more):
    """Return what a server says that refuses requests in which `name` stands."""
    body = json.dumps({"error": {"message": message, **more}})
    return lambda sent: Say(status=status, text=body) if name in sent else Say()


def test_a_server_that_ignores_n_is_asked_for_one_from_then_on(server, told):
    server.script = [Say(choices=1)]
    teacher = OpenAI(f"m@{server.url}")
    first, second = in_turn(teacher, (question(n=3), [0, 1, 2]), (question(n=3), [1, 2]))
    assert (len(first.answers), len(second.answers)) == (1, 1)
    assert [entry["body"]["n"] for entry in server.seen] == [3, 1]
    assert first.text != second.text, "each sample has a seed of its own"
    assert told() == [f"{server.url} gave 1 of 3 answers to one call; from now on each answer is a call of its own."]


def test_a_server_that_gives_some_is_asked_for_as_many_as_it_gives(server, told):
    server.decide = lambda sent: Say(choices=min(4, sent["n"]))
    teacher = OpenAI(f"m@{server.url}")
    replies = in_turn(teacher, (question(n=10), list(range(10))), (question(n=10), list(range(4, 10))))
    assert [len(reply.answers) for reply in replies] == [4, 4]
    assert [entry["body"]["n"] for entry in server.seen] == [10, 4]
    assert told() == [f"{server.url} gave 4 of 10 answers to one call; from now on a call asks for 4."]


def test_more_answers_than_asked_for_are_not_taken(server):
    server.script = [Say(choices=3)]
    reply = asked(server, question(n=2))
    assert len(reply.answers) == 2 and sum(a.tokens_out for a in reply.answers) == reply.usage.tokens_out == 9


def test_a_server_that_refuses_n_gets_single_calls(server, told):
    server.decide = lambda sent: Say(status=400, text='{"detail": "n must be 1"}') if sent["n"] > 1 else Say()
    teacher = OpenAI(f"m@{server.url}")
    in_turn(teacher, (question(n=3), [0, 1, 2]), (question(n=3), [1, 2]))
    assert [entry["body"]["n"] for entry in server.seen] == [3, 1, 1]
    assert told() == [f"{server.url} refuses calls for several answers; from now on each answer is a call of its own."]


def test_a_bad_prompt_is_not_mistaken_for_a_refusal_of_n(server):
    bad = Say(status=400, text='{"error": {"message": "prompt too long"}}')
    server.decide = lambda sent: bad if "bad" in sent["messages"][0]["content"] else Say()
    teacher = OpenAI(f"m@{server.url}")
    with pytest.raises(RefusedError, match="prompt too long"):
        asked(server, question("bad", n=3), teacher=teacher)
    assert [entry["body"]["n"] for entry in server.seen] == [3, 1]
    in_turn(teacher, (question(n=3), [0, 1, 2]))
    server.seen.clear()
    with pytest.raises(RefusedError):  # it is known now that several are given
        asked(server, question("bad", n=3), teacher=teacher)
    assert [entry["body"]["n"] for entry in server.seen] == [3]


RENAMED = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."


def test_the_limit_is_sent_under_the_name_the_server_knows(server, told):
    server.decide = refusing("max_tokens", RENAMED, param="max_tokens", code="unsupported_parameter")
    teacher = OpenAI(f"m@{server.url}")
    in_turn(teacher, (question(max_tokens=9), [0]), (question(max_tokens=9), [0]))
    assert [entry["body"].get("max_completion_tokens") for entry in server.seen] == [None, 9, 9]
    assert told() == [
        f"{server.url} does not take `max_tokens`; the same limit is sent as `max_completion_tokens` from now on."
    ]


def test_a_server_that_knows_no_limit_at_all_is_not_asked_for_ever(server):
    server.decide = lambda sent: Say(
        status=400, text='{"error": {"message": "unknown: \'max_tokens\', \'max_completion_tokens\'"}}'
    )
    with pytest.raises(RefusedError):
        asked(server, question())
    assert len(server.seen) == 2


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"error": {"message": "Unrecognized request argument supplied: seed", "param": "seed"}}),
        (400, {"error": {"message": "Unknown parameter: 'seed'.", "param": None, "code": "unknown_parameter"}}),
        (422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}),
        (422, {"detail": "Unexpected fields in the request: {'seed'}"}),
        (400, {"object": "error", "message": "`seed` is not supported", "type": "BadRequestError"}),
    ],
    ids=["param", "quoted", "fastapi", "transformers", "flat"],
)  # fmt: skip
def test_a_seed_that_is_not_taken_is_left_out_and_said_once(server, told, status, body):
    server.decide = lambda sent: Say(status=status, text=json.dumps(body)) if "seed" in sent else Say()
    teacher = OpenAI(f"m@{server.url}")
    in_turn(teacher, (question(seed=4), [0]), (question(seed=4), [1]))
    assert ["seed" in entry["body"] for entry in server.seen] == [True, False, False]
    assert told() == [f"{server.url} does not take the parameter `seed`; it is left out from now on."]


def test_several_parameters_are_learnt_one_after_the_other(server):
    def decide(sent):
        for name in ("max_tokens", "temperature", "top_p", "seed", "n"):
            if name in sent:
                return Say(status=400, text=json.dumps({"error": {"message": "Unsupported parameter.", "param": name}}))
        return Say()

    server.decide = decide
    assert asked(server, question()).text == "answer 0"
    assert set(server.seen[-1]["body"]) == {"model", "messages", "max_completion_tokens"} and len(server.seen) == 6


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("temperature", {"temperature": 0.7}), ("temperature", {"temperature": 0.0}), ("top_p", {"top_p": 0.9}),
        ("stop", {"stop": ("x",)}), ("logprobs", {"logprobs": 2}), ("top_logprobs", {"logprobs": 2}),
        ("tools", {"tools": [{"type": "function"}]}),
    ],
)  # fmt: skip
def test_what_the_user_set_is_never_left_out_in_silence(server, name, options):
    server.decide = refusing(name, f"Unsupported value: '{name}' does not support this with this model.", param=name)
    with pytest.raises(
        EndpointError, match=f"does not take the parameter `{name}`, which this step sets to .*: change it"
    ):
        asked(server, question(**options))
    assert len(server.seen) == 1


def test_what_was_left_out_while_it_changed_nothing_is_sent_once_it_would(server):
    message = "Unsupported value: 'temperature' does not support this. Only the default (1) is supported."
    server.decide = refusing("temperature", message, param="temperature")
    teacher = OpenAI(f"m@{server.url}")
    in_turn(teacher, (question(), [0]))
    with pytest.raises(EndpointError, match=r"does not take the parameter `temperature`, which this step sets to 0\.7"):
        asked(server, question(temperature=0.7), teacher=teacher)
    assert [entry["body"].get("temperature") for entry in server.seen] == [1.0, None, 0.7]


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 2048 tokens. You requested 2500 (2000 in the messages, 500 in max_tokens).",
        "The prompt about 'temperature' and `seed` violates the policy.",
        "model not found",
        "'messages' with the content type image is not supported",
    ],
)
def test_a_refusal_of_the_row_stays_one(server, message):
    server.script = [Say(status=400, text=json.dumps({"error": {"message": message}}))]
    with pytest.raises(RefusedError):
        asked(server, question(temperature=0.5))
    assert len(server.seen) == 1


def saying(*texts: str):
    """Return a server's answers to requests that state the schema (the last text) and to those that do not (the others)."""

    def decide(sent):
        stated = "JSON" in sent["messages"][0]["content"]
        choices = [{"message": {"content": t}, "finish_reason": "stop"} for t in (texts[-1:] if stated else texts[:-1])]
        return Say(text=json.dumps({"choices": choices, "usage": {"prompt_tokens": 7, "completion_tokens": 10}}))

    return decide


def test_a_schema_that_is_kept_costs_one_request_and_no_word(server, told):
    server.script = [Say(message={"content": '{"sum": 4}'})]
    assert asked(server, question(response_format=FORM)).text == '{"sum": 4}'
    assert server.seen[0]["body"]["response_format"] == FORM and told() == []


def test_a_schema_that_is_ignored_is_noticed_and_stated_to_the_model(server, told):
    server.decide = saying("The sum is 4.", '```json\n{"sum": 4}\n```')
    teacher = OpenAI(f"m@{server.url}")
    with pytest.raises(BusyError, match=r"did not keep to response_format .it is not JSON") as caught:
        asked(server, question(response_format=FORM), teacher=teacher)
    assert (caught.value.kind, caught.value.retry_after) == ("garbled", 0.0)
    assert asked(server, question(response_format=FORM), teacher=teacher).text == '{"sum": 4}'
    stated = server.seen[1]["body"]["messages"]
    assert [m["role"] for m in stated] == ["system", "user"] and json.loads(
        stated[0]["content"].splitlines()[1]
    ) == SCHEMA
    assert told() == [
        f"{server.url} answered 200 without keeping to response_format (it is not JSON); from now on the format is also stated "
        "to the model, before its prompt, and answers are checked."
    ]
    asked(server, question(), teacher=teacher)
    assert server.seen[2]["body"]["messages"] == [{"role": "user", "content": "What is 2 + 2?"}], (
        "only where a form is asked for"
    )


def test_good_answers_beside_bad_ones_are_kept(server):
    server.decide = saying('{"sum": 4}', "four", '{"sum": "four"}', "")
    reply = asked(server, question(n=3, response_format=FORM))
    assert [a.text for a in reply.answers] == ['{"sum": 4}'] and reply.answers[0].tokens_out == 10


def test_an_answer_that_was_paid_for_is_handed_on_even_when_it_is_wrong_again(server, told):
    server.decide = saying("no", "still no")
    teacher = OpenAI(f"m@{server.url}")
    with pytest.raises(BusyError):
        asked(server, question(response_format=FORM), teacher=teacher)
    for _ in range(2):
        assert asked(server, question(response_format=FORM), teacher=teacher).text == "still no"
    assert len(told()) == 2 and "do not follow the response format though it was stated" in told()[1]


def test_an_answer_that_was_cut_off_is_not_judged(server, told):
    server.script = [Say(message={"content": '{"su'}, choice={"finish_reason": "length"})]
    assert asked(server, question(response_format=FORM)).text == '{"su' and told() == []


def test_a_refused_response_format_is_stated_to_the_model_at_once(server, told):
    server.decide = lambda sent: (
        Say(status=400, text='{"error": {"message": "This response_format type is unavailable now"}}')
        if "response_format" in sent
        else Say(message={"content": '{"sum": 4}'})
    )
    ask = question("q", response_format=FORM)
    assert asked(server, ask).text == '{"sum": 4}'
    assert "JSON Schema" in server.seen[1]["body"]["messages"][0]["content"] and len(told()) == 1


def test_the_statement_joins_the_system_text_and_the_prompt_of_plain_completions(server):
    for url in (server.url, server.url + "/completions"):
        teacher = OpenAI(f"m@{url}")
        teacher._dialect.states_form = True
        sent = teacher._request(question("q", response_format=FORM), [0])
        told = instruction(FORM)
        assert sent.get("prompt", f"{told}\n\nq") == f"{told}\n\nq"
    from limbeck.core.ask import Ask
    from limbeck.core.row import Message

    ask = Ask(
        messages=[Message(role="system", content="Be brief."), Message(role="user", content="q")],
        teacher="t",
        response_format=FORM,
    )
    chat = OpenAI(f"m@{server.url}")
    chat._dialect.states_form = True
    sent = chat._request(ask, [0])["messages"]
    assert [m["role"] for m in sent] == ["system", "user"] and sent[0]["content"] == f"Be brief.\n\n{told}"


LONG = "The sum of two and two is four, as everybody knows by now."


def sampled(server: FaultServer, text, **options) -> None:
    """Ask for samples 0, 1, 2 of three prompts, one at a time; `text` makes the answer from what was sent."""
    server.decide = lambda sent: Say(message={"content": text(sent)})
    calls = [(question(f"q{i}", n=3, **options), [sample]) for i in range(3) for sample in range(3)]
    in_turn(OpenAI(f"m@{server.url}"), *calls)


def test_samples_that_are_all_the_same_are_pointed_out_once(server, told):
    sampled(server, lambda sent: LONG + sent["messages"][0]["content"])
    assert len(told()) == 1 and "gave the same answer to every sample of several prompts at temperature 1:" in told()[0]


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (lambda sent: LONG + str(sent["seed"]), {}),
        (lambda sent: LONG if sent["messages"][0]["content"] != "q1" else LONG + str(sent["seed"]), {}),
        (lambda sent: "4", {}),
        (lambda sent: LONG, {"temperature": 0.2}),
    ],
    ids=["different", "one-differs", "short", "cold"],
)
def test_nothing_is_said_of_samples_that_may_be_right(server, told, text, options):
    sampled(server, text, **options)
    assert told() == []


FAULTS = {
    '{"sum": 4}': None,
    ' {"sum": 4}\n': None,
    "4": "4 is not of type 'object'",
    "{}": "'sum' is a required property",
    '{"sum": 4, "x": 1}': "Additional properties are not allowed ('x' was unexpected)",
    "": "it is not JSON",
    "[" * 100_000: "it is not JSON",
}


@pytest.mark.parametrize("text", FAULTS, ids=range(len(FAULTS)))
def test_faults_of_a_text(text):
    assert fault(FORM, text) == FAULTS[text]


def test_forms_that_ask_for_less(server):
    anything = {"type": "json_object"}
    assert [fault(anything, text) for text in ("{}", "[]", "no")] == [None, "it is no JSON object", "it is not JSON"]
    for form in ({"type": "text"}, {"type": "grammar"}):
        assert fault(form, "no") is None and instruction(form) is None


def test_a_schema_that_can_not_be_checked_is_left_to_the_server():
    for schema in ({"type": "nonsense"}, {"$ref": "https://example.org/other.json"}, {"$ref": "#/$defs/absent"}):
        assert fault({"type": "json_schema", "json_schema": {"schema": schema}}, "{}") is None


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_a_fence_around_json_is_taken_off_and_nothing_else_is(value):
    text = json.dumps(value)
    assert json.loads(unfenced(f"```json\n{text}\n```")) == value
    assert unfenced(text) == text and unfenced(f"So: ```{text}```") == f"So: ```{text}```"


def test_only_a_fence_around_the_right_thing_is_taken_off():
    wrong = Answer(text='```json\n{"sum": "4"}\n```')
    assert judged(FORM, wrong)[0] is wrong and judged(FORM, Answer(text='```\n{"sum": 4}\n```'))[0].text == '{"sum": 4}'
