"""The echo teacher: deterministic, instant, public."""

from __future__ import annotations

import asyncio

from limbeck.core.ask import Ask, Reply, Teacher
from limbeck.core.row import Message
from limbeck.teachers.echo import Echo


def said(rest: str, samples: tuple[int, ...] = (0,), **options) -> Reply:
    turns = [Message(role="system", content="Be brief."), Message(role="user", content="How {sample} many?")]
    return asyncio.run(Echo(rest).answer(Ask(messages=turns, teacher="echo", **options), samples))


def test_it_says_the_last_user_message():
    reply = said("")
    assert reply.text == "How {sample} many?" and reply.answers[0].finish == "stop"
    assert (reply.usage.tokens_in, reply.usage.tokens_out) == (5, 3)


def test_placeholders_are_filled_in_and_the_question_is_left_alone():
    reply = said("#{sample} of {question}: {other}, {question}", samples=(2, 7))
    assert [a.text for a in reply.answers] == [
        f"#{i} of How {{sample}} many?: {{other}}, How {{sample}} many?" for i in (2, 7)
    ]


def test_a_text_longer_than_the_limit_is_cut():
    answer = said("one two three", max_tokens=2).answers[0]
    assert (answer.text, answer.finish, answer.tokens_out) == ("one two", "length", 2)


def test_it_is_a_teacher_whose_text_is_its_identity():
    assert isinstance(Echo(""), Teacher)
    assert Echo("").identity == Echo("{question}").identity != Echo("17").identity
    asyncio.run(Echo("").close())
