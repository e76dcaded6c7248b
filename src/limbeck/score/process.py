"""Checking the steps and not only the answer: arithmetic done again, and how often each step can still be led to the right answer.

    response  1. Start with 12: 12.
              2. Add 5: 12 + 5 = 18.
              Answer: 18
    Process()                       scores  {"process": 0.0}
                                    extra["process"]  {"steps": 3, "ends": [20, 42, 53], "arithmetic": [null, 0.0, null],
                                                       "first_error": 2}
    Process(teacher="embedded")     extra["process"]  {…, "values": [0.875, 0.0, 0.0]}

*Arithmetic* (no teacher): every equation between numbers is computed again, exactly (`_process_arithmetic.py`). 1 if all hold,
0 if one does not; a response without any has the label `nothing-to-check` and no score.

*Monte-Carlo* (with a teacher): from the beginning of the response up to each step the teacher goes on `completions` times, and
a verifier says how many of the ends are right. This is how Math-Shepherd (Wang et al. 2023) labels steps for a process reward
model. Its hard label (1 if any end is right) calls more and more wrong steps right as `completions` grows, so the default is
soft: the share that is right. The last step is the whole response: it is verified, not continued. `process` is the least value
(or the product, or the last).

`ends` says at which character of the response each step ends; `train.process_reward` learns the values at these places.

The labels are those of steps, not of answers: a right answer may follow from a wrong step. They are noisy (Zhang et al. 2025);
where both are there, a step with a false equation keeps its Monte-Carlo value and `first_error` says so."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field

from limbeck.core.ask import Apply, Ask, Request
from limbeck.core.row import Message, Row, new_row
from limbeck.core.step import Asking, Each
from limbeck.score._process_arithmetic import equations

MARKED = re.compile(r"^[ \t]*(?:\**step[ \t]*\d+|\d{1,3}[.)](?=\s)|[*-][ \t])", re.IGNORECASE | re.MULTILINE)
GO_ON = """{question}

Here is the beginning of a worked answer. Go on from where it stops, without repeating it, and end as the question asks,
or else with a line "Answer: " and the final answer.

{begun}"""
VALUES: dict[str, Callable[[Sequence[float]], float]] = {
    "min": min,
    "product": math.prod,
    "last": lambda values: values[-1],
}


class Process(Each):
    """Score the steps of a response: by computing its arithmetic again, or by completing it from each step."""

    teacher: str = ""
    """Who completes the response from each step; none: only arithmetic is checked."""
    verifier: str = ""
    """The step that says whether a completed answer is right, such as `score.math`; by default `score.` and the task's kind."""
    completions: int = Field(default=8, ge=1)
    """How often the response is completed from each step."""
    labels: Literal["soft", "hard"] = "soft"
    """The value of a step: the share of completions that end right, or 1 if any does."""
    combine: Literal["min", "product", "last"] = "min"
    """How the values of the steps become one score."""
    prefix: Literal["told", "begun"] = "told"
    """How the beginning is given: told in the question, or as an assistant turn that the server goes on with (not all do)."""
    temperature: float = Field(default=0.8, ge=0)
    """Sampling temperature of the completions."""
    max_tokens: int = Field(default=512, ge=1)
    """Longest completion, in tokens."""

    def each(self, row: Row) -> Asking:
        """Score one response."""
        row = _cleared(row)
        begins = step_ends(row.response)
        if not begins:
            return row.with_labels(process="no-response")
        held = arithmetic(row.response, begins)
        told: dict[str, Any] = {"steps": len(begins), "ends": begins, "arithmetic": held}
        if 0.0 in held:
            told["first_error"] = held.index(0.0) + 1
        if not self.teacher:
            checked = [value for value in held if value is not None]
            scored = row.with_extra(process=told)
            return (
                scored.with_scores(process=min(checked)) if checked else scored.with_labels(process="nothing-to-check")
            )
        values = yield from self._values(row, begins)
        if values is None:
            return row.with_extra(process=told).with_labels(process="unverifiable")
        told["values"] = values
        return row.with_extra(process=told).with_scores(process=VALUES[self.combine](values))

    def _values(self, row: Row, ends: Sequence[int]) -> Generator[Request, Any, list[float] | None]:
        """Return the value of each step; None if the verifier can not judge this task."""
        whole = yield from self._verified(row, [row.response])
        if whole is None:
            return None
        values = []
        for end in ends[:-1]:
            begun = row.response[:end]
            reply = yield self._request(row, begun)
            texts = [
                begun + answer.text if self.prefix == "begun" else f"{begun}\n{answer.text}" for answer in reply.answers
            ]
            right = yield from self._verified(row, texts)
            if right is None:
                return None
            values.append(float(any(right)) if self.labels == "hard" else sum(right) / len(right))
        return [*values, whole[0]]

    def _request(self, row: Row, begun: str) -> Ask:
        if self.prefix == "begun":
            messages: tuple[Message, ...] = (*row.prompt, Message(role="assistant", content=begun))
        else:
            last = next(at for at in range(len(row.prompt) - 1, -1, -1) if row.prompt[at].role == "user")
            asked = GO_ON.format(question=row.prompt[last].content, begun=begun)
            messages = (*row.prompt[:last], Message(role="user", content=asked))
        return Ask(
            messages=messages,
            teacher=self.teacher,
            n=self.completions,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
        )

    def _verified(self, row: Row, responses: Sequence[str]) -> Generator[Request, Any, list[float] | None]:
        made = [
            row.child((*row.prompt, Message(role="assistant", content=text)), made_by=self.made(completion=at))
            for at, text in enumerate(responses)
        ]
        judged = yield Apply(step=self.verifier or f"score.{row.task.get('kind', 'math')}", rows=made)
        scores = [one.scores.get("verified") for one in judged]
        return None if None in scores or len(scores) != len(made) else scores

    @classmethod
    def validate(cls) -> list[tuple[Row, float]]:  # type: ignore[override]
        """Return responses with right (1.0) and with wrong arithmetic (0.0)."""
        return [(_example(response), score) for response, score in EXAMPLES]


def step_ends(response: str) -> list[int]:
    """Return where each step of a response ends: at numbered or marked steps if there are two, else at paragraphs or lines.

    >>> step_ends("1. 2 + 2 = 4.\\n2. 4 + 1 = 5.\\nAnswer: 5")
    [13, 27, 37]
    """
    starts = [found.start() for found in MARKED.finditer(response)]
    if len(starts) >= 2:
        final = re.search(
            r"^[ \t*#]*(?:answer|final answer)\b|^####|\\boxed", response[starts[-1] :], re.IGNORECASE | re.MULTILINE
        )
        starts += [starts[-1] + final.start()] if final and final.start() else []
        ends = [*(start - 1 for start in starts[1:]), len(response)]
    else:
        gap = r"\n[ \t]*\n" if re.search(r"\S[ \t]*\n[ \t]*\n[ \t]*\S", response) else r"\n"
        ends = [*(found.start() for found in re.finditer(gap, response)), len(response)]
    kept = [end for begin, end in zip([0, *ends], ends, strict=False) if response[begin:end].strip()]
    return kept if kept and not response[kept[-1] :].strip() else []


def arithmetic(response: str, ends: Sequence[int]) -> list[float | None]:
    """Return for each step 1 if all its equations hold, 0 if one does not, None if it has none."""
    parts = [response[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
    found = [equations(part) for part in parts]
    return [float(all(one.holds for one in several)) if several else None for several in found]


def _cleared(row: Row) -> Row:
    scores = {k: v for k, v in row.scores.items() if k != "process"}
    labels = {k: v for k, v in row.labels.items() if k != "process"}
    return replace(row, scores=scores, labels=labels)


EXAMPLES = (
    ("1. Start with 12: 12.\n2. Add 5: 12 + 5 = 17.\nAnswer: 17", 1.0),
    ("1. Start with 12: 12.\n2. Add 5: 12 + 5 = 18.\nAnswer: 17", 0.0),
    ("She sells 16 - 3 - 4 = <<16-3-4=9>>9 eggs.\nShe makes 9 * 2 = $18.\n#### 18", 1.0),
    ("She sells 16 - 3 - 4 = <<16-3-4=9>>8 eggs.\nShe makes 9 * 2 = $18.\n#### 18", 0.0),
    ("A third of 10 is 10 / 3 = 3.33. That is 20% of 16.65: 20% of 16.65 = 3.33.", 1.0),
    ("10 / 3 = 3.34", 0.0),
)


def _example(response: str) -> Row:
    turns = (Message(role="user", content="Show your work."), Message(role="assistant", content=response))
    return new_row(messages=turns, task={"kind": "math"}, made_by={"step": "score.process", "use": "validate"})
