"""Preference optimisation: a student learns to prefer one answer of a pair over the other, from the pairs alone.

    rows    messages  "Start with 12. Add 5." -> "12 + 5 = 17.\\nAnswer: 17"                 the chosen conversation
            extra     {"rejected": [{"role": "assistant", "content": "12 + 5 = 18.…"}], "pair": {"shared": 1, …}}

    Preference(student="step:sft", beta=0.1, updates=100)               the rows are those of select.pairs

With h = (log q(chosen) - log q0(chosen)) - (log q(rejected) - log q0(rejected)), q0 being the reference, by default the
student before training:

    dpo   -log sigmoid(beta h)             Direct Preference Optimization (Rafailov et al. 2023, 2305.18290)
    ipo   (h - 1 / (2 beta))^2             Identity Preference Optimisation (Azar et al. 2024, 2310.12036): a bounded target

`length_normalized` divides each answer's log-probabilities by its tokens, so that length alone makes no preference (Tulu 3,
2411.15124); beta is then larger, 5 where it was 0.1. The loss is the mean over the pairs of an update; prompts are not trained
on, and nor is anything before the turn in which the two conversations part.

    08-preference/  reference.json  the log-probabilities of the reference, computed once
                    curve.jsonl     loss (a pair), accuracy (share of pairs preferred more than by the reference), margin (h),
                                    chosen and rejected (change of their log-probability since the reference, in nats)

Watch `chosen`: the margin may also grow while both answers become less likely, which the loss does not mind and you might.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from limbeck.core.errors import InputError, UsageError
from limbeck.core.fingerprint import digest, file_digest
from limbeck.core.row import Message, Row
from limbeck.core.step import Context, Make
from limbeck.train import _ranks
from limbeck.train._pairs import Pair, Pairs, scored
from limbeck.train._tokens_match import check_tokenizers
from limbeck.train._trains import Trains
from limbeck.train.examples import Example, check_rows, encode
from limbeck.train.student import LoadedStudent, load_teacher, save_student


class Preference(Trains, Make):
    """Train a student to prefer the chosen answers of pairs over the rejected ones (DPO, IPO)."""

    isolated: ClassVar[bool] = True

    loss: Literal["dpo", "ipo"] = "dpo"
    """`dpo`, or `ipo`, which aims at a fixed margin and does not push on beyond it."""
    beta: float = Field(default=0.1, gt=0)
    """How close the student is held to the reference: larger is closer."""
    length_normalized: bool = False
    """Divide the log-probability of each answer by its number of tokens; take a larger beta then, such as 5."""
    reference: str = ""
    """What the student is compared with: `embedded:student`, `hf:PATH`, `step:NAME`; empty is the student before training."""
    batch: int = Field(default=16, gt=0)
    """Pairs in one update."""
    pack_width: int = Field(default=0, ge=0)
    """Pack whole pairs into rows of this many tokens; 0 gives each answer a row, which is faster for short ones."""
    learning_rate: float = Field(default=2e-4, gt=0)
    """The peak learning rate. The default suits the embedded students; a model of a billion weights wants about 5e-7."""

    def _models(self) -> tuple[str, ...]:
        return ("student", "reference") if self.reference else ("student",)

    def train(self, rows: list[Row], context: Context) -> Iterable[Row]:
        """Score the pairs by the reference, train, save; return the rows, those that could not be used dropped."""
        check_rows(rows)
        student, limit, weights = self.loaded(context)
        pairs, reasons = _encoded(rows, student, limit)
        if not pairs:
            raise UsageError(f"No pair can be trained on; the first of them: {next(iter(reasons.values()))}.")
        source = context.model(self.reference) if self.reference else None
        told = [[p.row, list(p.chosen.ids), list(p.rejected.ids)] for p in pairs]
        identity = digest([self.fields(), weights, file_digest(source) if source else "", told])
        self._compare(pairs, student, source, context, identity)
        plan = self.planned(len(pairs), self.batch)
        width = self.pack_width if student.packable else 0
        stream = Pairs(student, pairs, self.loss, self.beta, self.length_normalized, self.micro_tokens, width)
        training = self.training(
            student,
            context,
            identity,
            loss=stream.loss,
            examples=[],
            updates=plan,
            stream=stream,
            loop={"width": width},
            split=stream.split,
            weigh=lambda documents: len(documents) // 2,
        )
        at = training.run()
        more = {"reference": self.reference or self.student, "loss": self.loss, "rows": len(rows), "pairs": len(pairs)}
        self.summary(training, at, more)
        save_student(student, context.folder / "student")
        return [row.drop(f"{self.called()}: {reasons[row.id]}") if row.id in reasons else row for row in rows]

    def _compare(
        self, pairs: list[Pair], student: LoadedStudent, source: Path | None, context: Context, identity: str
    ) -> None:
        """Give the pairs the reference's log-probabilities: from the disk, or computed now and written there."""
        file = context.folder / "reference.json"
        if file.is_file():
            found = json.loads(file.read_text(encoding="utf-8"))
            if found["identity"] == identity:
                for pair, scores in zip(pairs, found["scores"], strict=True):
                    pair.reference = (scores[0], scores[1])
                return
        model = replace(load_teacher(source), precision=self.precision) if source else student
        if source:
            check_tokenizers(student.tokenizer, model.tokenizer)
        sides = [e for p in pairs for e in (p.chosen, p.rejected)]
        # an adapter is still all zeros here: the student is its own base
        scores = _ranks.dealt(sides, lambda mine: scored(model, mine, self.micro_tokens, context.progress))
        for place, pair in enumerate(pairs):
            pair.reference = (scores[2 * place], scores[2 * place + 1])
        if not _ranks.first():
            return
        writing = file.with_suffix(".writing")
        writing.write_text(json.dumps({"identity": identity, "scores": [p.reference for p in pairs]}), encoding="utf-8")
        writing.replace(file)


def _encoded(rows: Sequence[Row], student: LoadedStudent, limit: int) -> tuple[list[Pair], dict[str, str]]:
    """Turn rows into pairs of documents; return them with the reasons of those that can not become one."""
    given = [_shared(row) for row in rows]
    sides: list[dict[str, Example]] = []
    reasons: dict[str, str] = {}
    for side in (list(rows), [_rejected(row, shared) for row, shared in zip(rows, given, strict=True)]):
        examples, why = encode(side, student.tokenizer, student.stops, end=student.end, max_length=limit, given=given)
        reasons |= why
        sides.append({e.row: e for e in examples})
    pairs = [Pair(row.id, sides[0][row.id], sides[1][row.id]) for row in rows if row.id not in reasons]
    same = {p.row for p in pairs if p.chosen.ids == p.rejected.ids}
    reasons |= dict.fromkeys(same, "chosen and rejected are the same tokens")
    return [p for p in pairs if p.row not in same], reasons


def _shared(row: Row) -> int:
    """Return how many first messages the chosen and the rejected conversation share. Raises InputError for no pair."""
    rejected, pair = row.extra.get("rejected"), row.extra.get("pair") or {}
    if not isinstance(rejected, list) or not rejected or not all(isinstance(turn, dict) for turn in rejected):
        raise InputError(
            f"Row {row.id} is no preference pair: extra['rejected'] holds no list of turns. Put select.pairs before this "
            'step, or give each row the rejected turns as [{"role": "assistant", "content": "…"}].'
        )
    shared = pair.get("shared", len(row.prompt))
    if not isinstance(shared, int) or not 0 < shared < len(row.messages):
        raise InputError(f"Row {row.id} has {len(row.messages)} turns, and extra['pair']['shared'] is {shared!r}.")
    if rejected[-1].get("role") != "assistant" or row.messages[shared].role != "assistant":
        raise InputError(f"Row {row.id}: chosen and rejected must part with, and end in, a turn of the assistant.")
    return shared


def _rejected(row: Row, shared: int) -> Row:
    turns = tuple(
        Message(
            role=str(turn["role"]),
            content=str(turn.get("content") or ""),
            tool_calls=turn.get("tool_calls"),
            name=turn.get("name"),
        )
        for turn in row.extra["rejected"]
    )
    return replace(row, messages=(*row.messages[:shared], *turns))
