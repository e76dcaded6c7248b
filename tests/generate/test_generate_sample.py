"""Sampling and cutting down to the answer, driven by hand: the step is a generator and needs no engine."""

from __future__ import annotations

from typing import Any

import pytest

from limbeck.core.ask import Answer, Ask, Reply, TokenLogprob
from limbeck.core.errors import UsageError
from limbeck.core.row import Message, Row, Usage, new_row
from limbeck.core.step import Drop
from limbeck.generate.answer_only import AnswerOnly
from limbeck.generate.sample import Sample

PROMPT = new_row(
    messages=(Message(role="user", content="Start with 12. Add 5."),),
    task={"reference": "17"},
    labels={"family": "chains"},
    made_by={},
    sealed=True,
)


def drive(step: Sample, row: Row, *answers: Answer, usage: Usage = Usage()) -> tuple[Ask | None, Any]:
    asking = step.each(row)
    try:
        ask = next(asking)
        assert isinstance(ask, Ask)
        asking.send(Reply(answers=answers, usage=usage))
    except StopIteration as stop:
        return (ask if "ask" in locals() else None), stop.value
    raise AssertionError("the step asked twice")


def test_every_answer_is_a_child_row() -> None:
    usage = Usage(tokens_in=15, tokens_out=11, usd=0.3, seconds=1.5)
    answers = (Answer(text="Answer: 17", tokens_out=4), Answer(text="Answer: 18", tokens_out=7, finish="length"))
    ask, rows = drive(Sample(teacher="echo", n=2, temperature=0.7, seed=5), PROMPT, *answers, usage=usage)
    assert ask == Ask(messages=PROMPT.messages, teacher="echo", n=2, temperature=0.7, seed=5)
    assert [r.response for r in rows] == ["Answer: 17", "Answer: 18"]
    for row in rows:
        assert row.parents == (PROMPT.id,) and row.group == PROMPT.group and row.task == PROMPT.task and row.sealed
    assert [r.labels for r in rows] == [
        {"family": "chains", "finish": "stop"},
        {"family": "chains", "finish": "length"},
    ]
    assert [r.usage.tokens_out for r in rows] == [4, 7] and [r.usage.tokens_in for r in rows] == [8, 7]
    assert sum(r.usage.usd for r in rows) == pytest.approx(0.3)
    assert '"sample":1' in rows[1].made_by and '"temperature":0.7' in rows[1].made_by


def test_equal_answers_are_different_rows() -> None:
    _, rows = drive(Sample(teacher="echo", n=2), PROMPT, Answer(text="x"), Answer(text="x"))
    assert len({r.id for r in rows}) == 2


def test_an_old_response_is_not_shown_and_its_labels_do_not_stay() -> None:
    solved = PROMPT.child((*PROMPT.messages, Message(role="assistant", content="gold")), made_by={}).with_labels(
        verdict="pass", answer="17"
    )
    ask, (row,) = drive(Sample(teacher="echo"), solved, Answer(text="new"))
    assert ask is not None and ask.messages == PROMPT.messages
    assert row.response == "new" and row.labels == {"family": "chains", "finish": "stop"}


def test_a_system_message_is_put_first_once() -> None:
    ask, (row,) = drive(Sample(teacher="echo", system="Be brief."), PROMPT, Answer(text="x"))
    assert (
        ask is not None
        and [m.role for m in ask.messages] == ["system", "user"]
        and row.messages[0].content == "Be brief."
    )
    ask, _ = drive(Sample(teacher="echo", system="Be long."), row, Answer(text="x"))
    assert ask is not None and ask.messages[0].content == "Be brief."


def test_reasoning_tool_calls_and_logprobs_are_kept() -> None:
    answer = Answer(
        text="17",
        reasoning="12 and 5.",
        tool_calls="[]",
        finish="tool_calls",
        logprobs=(TokenLogprob(token="17", logprob=-0.1, top={"18": -2.0}),),
    )
    _, (row,) = drive(Sample(teacher="echo", logprobs=1), PROMPT, answer)
    assert row.response == "<think>\n12 and 5.\n</think>\n\n17"
    assert row.messages[-1].tool_calls == "[]" and row.extra["logprobs"] == [["17", -0.1, {"18": -2.0}]]
    _, (row,) = drive(Sample(teacher="echo", reasoning=False), PROMPT, answer)
    assert row.response == "17"


@pytest.mark.parametrize(
    "turns", [(), (Message(role="system", content="x"),), (Message(role="assistant", content="x"),)]
)
def test_rows_without_a_question_are_dropped(turns: tuple[Message, ...]) -> None:
    ask, made = drive(Sample(teacher="echo"), new_row(messages=turns, made_by={}))
    assert ask is None and isinstance(made, Drop)


def test_nonsense_is_refused_before_anything_is_asked() -> None:
    for fields in ({"n": 0}, {"temperature": -1}, {"top_p": 0}, {"max_tokens": 0}, {}):
        with pytest.raises(UsageError):
            Sample(**({"teacher": "echo"} if fields else {}), **fields)


def answered(text: str, kind: str = "math", **labels: str) -> Row:
    turns = (*PROMPT.messages, Message(role="assistant", content=text))
    return new_row(messages=turns, task={"kind": kind, "reference": "17"}, labels=labels, made_by={}).with_scores(
        verified=1.0
    )


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (answered("12 + 5 = 17.\nAnswer: 17"), "Answer: 17"),
        (answered("So it is \\boxed{17}.", answer="17"), "Answer: 17"),
        (answered("Answer: 3\nNo.\n  Answer: 17"), "Answer: 17"),
        (answered("def f(x):\n    return x", kind="program"), "def f(x):\n    return x"),
        (answered("Sure: def f", kind="program", answer="def f"), "def f"),
    ],
)
def test_the_answer_alone(row: Row, text: str) -> None:
    made = AnswerOnly().each(row)
    assert isinstance(made, Row)
    assert made.response == text and made.prompt == row.prompt
    assert made.parents == (row.id,) and made.scores == {"verified": 1.0}


@pytest.mark.parametrize("text", ["12 + 5 = 17.", "", "Answer:"])
def test_without_an_answer_the_row_is_dropped(text: str) -> None:
    assert isinstance(AnswerOnly().each(answered(text)), Drop)
    assert isinstance(AnswerOnly().each(PROMPT), Drop)
