"""Sampling answers from a teacher: n child rows for each prompt row.

    prompt row   user: Start with 12. Add 5.
    child rows   user: Start with 12. Add 5.   assistant: 12 + 5 = 17.\\nAnswer: 17     labels {"finish": "stop"}
                 user: Start with 12. Add 5.   assistant: 12 + 5 = 18.\\nAnswer: 18     labels {"finish": "stop"}

The children share the prompt's group, task and seal; what they cost is divided among them. A response that is already there is
not shown to the teacher: the prompt is asked anew. Reasoning that a teacher reports separately is kept before the
answer in a `<think>` block, so that it can be trained on; the verifiers read only what follows the block.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic import Field

from limbeck.core.ask import Answer, Ask, Reply
from limbeck.core.row import Message, Row, Usage
from limbeck.core.step import Asking, Drop, Each

STALE = ("verdict", "answer", "detail", "finish")
"""Labels that speak of a response, and so not of the next one."""


class Sample(Each):
    """Ask the teacher for `n` answers to each prompt."""

    teacher: str
    """Which model: `embedded`, `openai:MODEL`, or `step:NAME` for a student of this run."""
    n: int = Field(default=1, ge=1)
    """Answers to each prompt."""
    temperature: float = Field(default=1.0, ge=0.0)
    """0 is greedy: with n over 1 all answers are likely the same."""
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    """Nucleus sampling; 1 samples from the whole distribution."""
    max_tokens: int = Field(default=512, ge=1)
    """Longest answer; a longer one is cut, and has the label `finish=length`."""
    stop: tuple[str, ...] = ()
    """Texts that end an answer."""
    system: str = ""
    """A system message for prompts that have none; it stays in the rows."""
    seed: int = 0
    """Another seed is another set of answers."""
    logprobs: int | None = Field(default=None, ge=0)
    """How many alternatives of each token to keep with their log-probabilities, in `extra`; default: no log-probabilities."""
    reasoning: bool = True
    """Whether reasoning that the teacher reports separately is kept, as a `<think>` block before the answer."""

    def each(self, row: Row) -> Asking:
        """Ask, and make a child row of each answer."""
        made = yield from self.draw(row, 0, self.n)
        return made

    def draw(self, row: Row, first: int, count: int) -> Asking:
        """Ask for the samples `first` to `first + count - 1` of the row, and make a child row of each answer."""
        turns = row.prompt
        if not turns or turns[-1].role not in ("user", "tool"):
            return Drop("the row has no user turn to answer")
        if self.system and turns[0].role != "system":
            turns = (Message(role="system", content=self.system), *turns)
        reply: Reply = yield self._ask(turns, first, count)
        stale = not row.labels.keys().isdisjoint(STALE)
        prompt = replace(row, labels={k: v for k, v in row.labels.items() if k not in STALE}) if stale else row
        usages = shares(reply)
        return [self._child(prompt, turns, a, first + i, usages[i]) for i, a in enumerate(reply.answers)]

    def _ask(self, turns: tuple[Message, ...], first: int, count: int) -> Ask:
        return Ask(
            messages=turns,
            teacher=self.teacher,
            n=count,
            first=first,
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=self.max_tokens,
            stop=self.stop,
            seed=self.seed,
            logprobs=self.logprobs,
        )

    def _child(self, row: Row, turns: tuple[Message, ...], answer: Answer, place: int, usage: Usage) -> Row:
        text = answer.text
        if self.reasoning and answer.reasoning:
            text = f"<think>\n{answer.reasoning.strip()}\n</think>\n\n{text}"
        made = self.made(
            teacher=self.teacher,
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=self.max_tokens,
            seed=self.seed,
            sample=place,
        )
        response = Message(role="assistant", content=text, tool_calls=answer.tool_calls)
        child = row.child((*turns, response), made_by=made, usage=usage).with_labels(finish=answer.finish)
        return child if answer.logprobs is None else child.with_extra(logprobs=[_plain(t) for t in answer.logprobs])


def shares(reply: Reply) -> list[Usage]:
    """Divide what a reply cost among its answers; the shares add up to the whole, token for token."""
    count, whole = max(len(reply.answers), 1), reply.usage
    told = [answer.tokens_out for answer in reply.answers]
    out = told if sum(told) == whole.tokens_out else _split(whole.tokens_out, count)
    into = _split(whole.tokens_in, count)
    usd = None if whole.usd is None else whole.usd / count
    return [Usage(tokens_in=into[i], tokens_out=out[i], usd=usd) for i in range(len(reply.answers))]


def _split(total: int, count: int) -> list[int]:
    return [total // count + (place < total % count) for place in range(count)]


def _plain(token: Any) -> list[Any]:
    return [token.token, token.logprob, dict(token.top)]
