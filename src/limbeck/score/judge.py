"""A model as judge: ratings by aspect, or which of two responses is better, asked in both orders and read strictly.

    Judge(teacher="openai:…")
        scores  {"judge_helpfulness": 4, "judge_honesty": 5, …, "judge_overall": 9, "judge": 0.8125}     mean of 1 … 5 as 0 … 1
        labels  {"judge": "scored"}
    Judge(teacher="openai:…", rival="reference")          the response against the reference, twice, with the places exchanged
        scores  {"judge": 1.0}   better in both orders;   0.0 worse in both;   0.5 a tie, or two answers that disagree
        labels  {"judge": "win", "judge_order": "same"}   `first` or `second` where the judge followed the place and not the text

A reply that is not exactly the JSON object asked for is a failure of the judge: `labels["judge"]` is `unreadable`, no score is
written, and no number is fished out of it. The overall mark is checked against the aspects: where the two are further apart than
`apart` (of 5), one of them is an error (UltraFeedback found 2,628 overall marks of 10 that should have been 1), the label is
`inconsistent`, and no score is written. A judge verifies nothing: it writes neither `verified` nor `verdict`.

`position_bias(rows)` tells how often the judge followed the place. Method: aspects after UltraFeedback (Cui et al. 2023); both
orders after Zheng et al. 2023 ("Judging LLM-as-a-Judge")."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Generator, Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from pydantic import Field, model_validator

from limbeck.core.ask import Ask, Request
from limbeck.core.errors import nearest
from limbeck.core.row import Message, Row, new_row
from limbeck.core.step import Asking, Each
from limbeck.score._judge_rubric import ASPECTS, aspect_question, overall_question, pair_question
from limbeck.score._judge_text import Unjudged, object_in

ORDERS = {("A", "B"): ("win", "same"), ("B", "A"): ("loss", "same"), ("tie", "tie"): ("tie", "same"),
          ("A", "A"): ("tie", "first"), ("B", "B"): ("tie", "second")}  # fmt: skip
"""What the two replies mean: the response stands first (A) in the one and second (B) in the other."""
VALUE = {"win": 1.0, "tie": 0.5, "loss": 0.0}


class Judge(Each):
    """Ask a model how good a response is, aspect by aspect, or whether it is better than another one."""

    teacher: str
    """Who judges."""
    aspects: tuple[str, ...] = tuple(ASPECTS)
    """Which aspects count: of the four that are known, or of those in `rubric`."""
    rubric: dict[str, str] = Field(default_factory=dict)
    """Aspects of your own: a name, and the question that the judge is to answer about it."""
    overall: bool = True
    """Whether also to ask for an overall mark of 1 to 10, to check the aspects by."""
    apart: float = Field(default=1.5, gt=0)
    """How far the overall mark, brought to the scale of 1 to 5, may be from the mean of the aspects before neither is believed."""
    rival: str = ""
    """What to compare the response with: `reference`, or `extra.NAME` for a text among the row's extras; empty for ratings."""
    show_reference: bool = False
    """Whether the judge sees the task's reference answer."""
    tries: int = Field(default=1, ge=1)
    """How many replies to ask for, one after the other, until one can be read."""

    @model_validator(mode="after")
    def _known(self) -> Judge:
        known = {**ASPECTS, **self.rubric}
        if unknown := [name for name in self.aspects if name not in known]:
            raise ValueError(f"there is no aspect '{unknown[0]}'.{nearest(unknown[0], known)}")
        if not self.aspects:
            raise ValueError("a judge needs at least one aspect")
        if self.rival and self.rival != "reference" and not self.rival.startswith("extra."):
            raise ValueError(f"the rival '{self.rival}' must be 'reference' or 'extra.NAME'")
        return self

    def each(self, row: Row) -> Asking:
        """Score one response."""
        row = _cleared(row)
        if not row.response.strip():
            return row.with_labels(judge="no-response")
        try:
            judged: Row = yield from self._compared(row) if self.rival else self._rated(row)
        except Unjudged as problem:
            return row.with_labels(judge="unreadable", judge_detail=str(problem)[:500])
        return judged

    def _rated(self, row: Row) -> Generator[Request, Any, Row]:
        shown = row.reference if self.show_reference else None
        ratings: dict[str, float] = {}
        for name in self.aspects:
            meaning = self.rubric.get(name) or ASPECTS[name]
            ratings[f"judge_{name}"] = yield from self._rating(aspect_question(row, meaning, shown), 5)
        mean = sum(ratings.values()) / len(ratings)
        if self.overall:
            ratings["judge_overall"] = yield from self._rating(overall_question(row, shown), 10)
            scaled = (ratings["judge_overall"] - 1) / 9 * 4 + 1
            if abs(scaled - mean) > self.apart:
                told = f"the overall mark of {ratings['judge_overall']:g} of 10 does not fit a mean of {mean:.3g} of 5"
                return row.with_labels(judge="inconsistent", judge_detail=told)
        return row.with_scores(**ratings, judge=(mean - 1) / 4).with_labels(judge="scored")

    def _rating(self, messages: tuple[Message, ...], most: int) -> Generator[Request, Any, float]:
        said = yield from self._reply(messages, {"reason": str, "rating": int}, range(1, most + 1), "rating")
        return float(said["rating"])

    def _compared(self, row: Row) -> Generator[Request, Any, Row]:
        rival = row.reference if self.rival == "reference" else row.extra.get(self.rival.removeprefix("extra."))
        if not isinstance(rival, str) or not rival.strip():
            return row.with_labels(judge="no-rival")
        meanings = tuple(self.rubric.get(name) or ASPECTS[name] for name in self.aspects)
        shown = row.reference if self.show_reference and self.rival != "reference" else None
        said = []
        for first, second in ((row.response, rival), (rival, row.response)):
            messages = pair_question(row, meanings, first, second, shown)
            reply = yield from self._reply(messages, {"reason": str, "better": str}, ("A", "B", "tie"), "better")
            said.append(reply["better"])
        verdict, order = ORDERS.get((said[0], said[1]), ("tie", "mixed"))
        return row.with_scores(judge=VALUE[verdict]).with_labels(judge=verdict, judge_order=order)

    def _reply(
        self, messages: tuple[Message, ...], wanted: Mapping[str, type], allowed: Iterable[Any], key: str
    ) -> Generator[Request, Any, dict[str, Any]]:
        """Ask until a reply can be read, at most `tries` times. Raises Unjudged."""
        for sample in range(self.tries):
            temperature = 0.0 if sample == 0 else 0.7  # a greedy judge would fail the same way again
            reply = yield Ask(
                messages=messages, teacher=self.teacher, first=sample, temperature=temperature, max_tokens=400
            )
            try:
                said = object_in(reply.text, wanted)
                if said[key] not in allowed:
                    raise Unjudged(f"'{key}' is {said[key]!r}, which is not allowed")
                return said
            except Unjudged as problem:
                last = problem
        raise last

    @classmethod
    def validate(cls) -> list[tuple[Row, float]]:  # type: ignore[override]
        """Return rows with a judge's replies in `extra["replies"]`: all of them the best (1.0) or the worst (0.0)."""
        return [
            (_example(rating, mark), score)
            for rating, mark, score in ((5, 10, 1.0), (1, 1, 0.0), (5, 9, 1.0), (1, 2, 0.0))
        ]


class Bias(NamedTuple):
    """How often a judge that was asked in both orders followed the place instead of the text."""

    pairs: int
    """Pairs that were judged in both orders."""
    first: int
    """Pairs in which whatever stood first was preferred."""
    second: int
    """Pairs in which whatever stood second was preferred."""
    mixed: int
    """Pairs with a tie in one order only."""

    @property
    def rate(self) -> float:
        """The share of pairs in which the place decided; NaN without pairs."""
        return (self.first + self.second) / self.pairs if self.pairs else float("nan")


def position_bias(rows: Iterable[Row]) -> Bias:
    """Count over judged rows how often the place decided.

    >>> position_bias([])
    Bias(pairs=0, first=0, second=0, mixed=0)
    """
    seen = Counter(row.labels["judge_order"] for row in rows if "judge_order" in row.labels)
    return Bias(seen.total(), seen["first"], seen["second"], seen["mixed"])


def _cleared(row: Row) -> Row:
    scores = {k: v for k, v in row.scores.items() if k != "judge" and not k.startswith("judge_")}
    labels = {k: v for k, v in row.labels.items() if k != "judge" and not k.startswith("judge_")}
    return replace(row, scores=scores, labels=labels)


def _example(rating: int, mark: int) -> Row:
    turns = (Message(role="user", content="Name a prime above 10."), Message(role="assistant", content="11"))
    replies = [json.dumps({"reason": "So it is.", "rating": value}) for value in (*[rating] * len(ASPECTS), mark)]
    return new_row(
        messages=turns,
        task={"kind": "open"},
        extra={"replies": replies},
        made_by={"step": "score.judge", "use": "validate"},
    )
