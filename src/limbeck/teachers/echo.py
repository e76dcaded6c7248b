"""A teacher that needs no model: it answers with the question, or with a text of yours. A fake for recipes and tests.

    echo                            the last user message
    echo:Answer: {sample}           "Answer: 0", "Answer: 1", ... for the samples of a prompt
    echo:You asked: {question}      the last user message within a text

It answers at once, always the same, and counts words as tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

from limbeck.core.ask import Answer, Ask, Reply
from limbeck.core.fingerprint import digest
from limbeck.core.row import Usage


class Echo:
    """Answers with a fixed text in which {question} and {sample} are filled in."""

    def __init__(self, rest: str) -> None:
        self._text = rest or "{question}"
        self.identity = f"echo:{digest(self._text, 8)}"

    async def answer(self, ask: Ask, samples: Sequence[int]) -> Reply:
        """Answer each sample index."""
        question = next((m.content for m in reversed(ask.messages) if m.role == "user"), "")
        answers = tuple(_answer(self._filled(question, sample), ask) for sample in samples)
        usage = Usage(
            tokens_in=sum(len(message.content.split()) for message in ask.messages),
            tokens_out=sum(answer.tokens_out for answer in answers),
        )
        return Reply(answers=answers, usage=usage, teacher=ask.teacher)

    async def close(self) -> None:
        """Nothing is open."""

    def _filled(self, question: str, sample: int) -> str:
        # the question last: what looks like a placeholder inside it is the question's own
        before, found, after = self._text.replace("{sample}", str(sample)).partition("{question}")
        return before + question + after.replace("{question}", question) if found else before


def _answer(text: str, ask: Ask) -> Answer:
    words = text.split(" ")
    if len(words) <= ask.max_tokens:
        return Answer(text=text, tokens_out=len(words))
    return Answer(text=" ".join(words[: ask.max_tokens]), finish="length", tokens_out=ask.max_tokens)
