"""What the tests of the OpenAI-compatible teacher share: one question, and asking it once."""

from __future__ import annotations

import asyncio
from typing import Any

from fault_server import FaultServer

from limbeck.core.ask import Ask, Reply
from limbeck.core.row import Message
from limbeck.teachers.openai import OpenAI


def question(text: str = "What is 2 + 2?", **options: Any) -> Ask:
    return Ask(messages=[Message(role="user", content=text)], teacher="openai:m", **options)


def asked(
    server: FaultServer | None, ask: Ask, samples: list[int] | None = None, teacher: OpenAI | None = None
) -> Reply:
    """Ask once, by one call of `answer`, and close the teacher."""
    model = teacher or OpenAI(f"m@{server.url if server else ''}")
    return in_turn(model, (ask, samples if samples is not None else list(range(ask.n))))[0]


def in_turn(teacher: OpenAI, *calls: tuple[Ask, list[int]]) -> list[Reply]:
    """Make calls one after the other, with one teacher."""

    async def all_of_them() -> list[Reply]:
        try:
            return [await teacher.answer(ask, samples) for ask, samples in calls]
        finally:
            await teacher.close()

    return asyncio.run(all_of_them())
