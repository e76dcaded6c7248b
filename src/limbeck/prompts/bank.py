"""A bank of system messages that ask for an explanation, or for none, after Orca (Mukherjee et al. 2023, arXiv 2306.02707).

The same question under different system messages gives responses of different shape; a student that is trained on the worked ones
learns the working. Each message says which shape it asks for:

    >>> sorted({message.style for message in BANK})
    ['answer', 'trace']
    >>> BANK[0].text, BANK[0].style
    ('', 'trace')

The wording is our own; the families (none; in detail; step by step with reasons; for a child; sufficient without outside
sources; terse) are those of the paper. `hinted` adds the hint of STaR (Zelikman et al. 2022, arXiv 2203.14465), which a method
must take away again before it trains on the response.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

HINT = "Hint: the answer is {answer}."
"""Added to the user's message on a line of its own."""


@dataclass(frozen=True, slots=True)
class SystemMessage:
    """A system message, a short name for it, and the shape of response it asks for."""

    name: str
    text: str
    style: Literal["trace", "answer"]


BANK = (
    SystemMessage("empty", "", "trace"),
    SystemMessage("detailed", "Answer in detail and leave nothing out.", "trace"),
    SystemMessage("step_by_step", "Think step by step and give a reason for each step.", "trace"),
    SystemMessage("long", "Write a long answer that shows all of the work.", "trace"),
    SystemMessage("child", "Explain it as if to a child of five.", "trace"),
    SystemMessage("self_contained", "The user must not need any other source to follow the answer.", "trace"),
    SystemMessage("teacher", "You are a patient teacher: work it out line by line.", "trace"),
    SystemMessage("guidelines", "Read the task, say what it asks, then follow it part by part.", "trace"),
    SystemMessage("facts", "Name each fact that you use, then use it.", "trace"),
    SystemMessage("search", "Help someone who wants to know how the answer comes about.", "trace"),
    SystemMessage("terse", "Give only the result.", "answer"),
    SystemMessage("no_work", "Do not show any work.", "answer"),
    SystemMessage("short", "Be as short as you can.", "answer"),
    SystemMessage("hurry", "The user is in a hurry and wants just the answer.", "answer"),
)


def hinted(prompt: str, answer: str) -> str:
    """Add the hint to a user's message.

    >>> hinted("Start with 3. Double it. What do you get?", "6")
    'Start with 3. Double it. What do you get?\\nHint: the answer is 6.'
    """
    return f"{prompt}\n{HINT.format(answer=answer)}"
