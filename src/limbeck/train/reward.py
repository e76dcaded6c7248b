"""A reward model: one number for a conversation, learnt from which of two answers is the better one.

    rows    messages  "Start with 12. Add 5." -> "12 + 5 = 17.\\nAnswer: 17"                 the chosen conversation
            extra     {"rejected": [{"role": "assistant", "content": "12 + 5 = 18.…"}], "pair": {"shared": 1, …}}

    Reward(student="embedded:student", updates=200)                     the rows are those of select.pairs, as for train.preference
    score.Reward(model="step:reward")                                   reads what comes out

    05-reward/  model/      the reward model, Hugging Face layout: AutoModelForSequenceClassification with one output
                curve.jsonl loss (a pair), accuracy (share of pairs in which the chosen one has more), difference (of rewards)
                train.json  {…, "held_out": {"pairs": 61, "accuracy": 0.92, "loss": 0.24, "difference": 2.9}}

The model of Bradley & Terry (1952): the chosen answer is better with probability sigmoid(r(chosen) - r(rejected)), and the
loss is the negative logarithm of that, the mean over the pairs of an update (Christiano et al. 2017, 1706.03741; Ouyang et al.
2022, 2203.02155). Only differences of rewards mean anything, and only between answers to one prompt. Two additions:

    margin   rewards shall differ by margin * (chosen_score - rejected_score) or more   Llama 2 (Touvron et al. 2023, 2307.09288)
    center   + center * (r(chosen) + r(rejected))^2, which keeps rewards around 0        (Eisenstein et al. 2023, 2312.09244)

Whole prompts are held out, and the accuracy on their pairs is in train.json: on its own pairs a reward model is always good.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from pydantic import Field, model_validator

from limbeck.core.errors import UsageError
from limbeck.core.fingerprint import digest, file_digest
from limbeck.core.row import Row
from limbeck.core.step import Context, Make
from limbeck.train._classifiers import conversation_ids, load_classifier, measured, refuse_adapter, save_classifier
from limbeck.train._held_out import held_out_rows
from limbeck.train._rated_pairs import RatedPair, RatedPairs
from limbeck.train._trains import Trains, longest
from limbeck.train.examples import Example, check_rows
from limbeck.train.preference import _rejected, _shared
from limbeck.train.student import LoadedStudent


class Reward(Trains, Make):
    """Train a reward model on preference pairs (Bradley-Terry)."""

    isolated: ClassVar[bool] = True

    batch: int = Field(default=16, gt=0)
    """Pairs in one update."""
    margin: float = Field(default=0.0, ge=0)
    """Rewards shall differ by so much for each point by which the pair's scores differ; 0 asks for no margin."""
    center: float = Field(default=0.0, ge=0)
    """How strongly the two rewards of a pair are held around 0; 0.01 is usual where rewards of several models are compared."""
    hold_out: float = Field(default=0.1, ge=0, lt=1)
    """The share of prompts whose pairs are not trained on, but measured."""
    learning_rate: float = Field(default=2e-3, gt=0)
    """The peak learning rate. The default suits the embedded students; a model of a billion weights wants about 1e-5."""

    @model_validator(mode="after")
    def _no_adapter(self) -> Reward:
        refuse_adapter(self.lora_rank)
        return self

    def train(self, rows: list[Row], context: Context) -> Iterable[Row]:
        """Train, measure, save; return the rows, those that could not be used dropped."""
        check_rows(rows)
        source = context.model(self.student)
        model = load_classifier(source, "sequence", seed=self.seed, precision=self.precision)
        if self.chat_template:
            model.tokenizer.chat_template = template_of(self.chat_template)
        pairs, reasons = _encoded(rows, model, min(self.max_length, longest(model) or self.max_length))
        out = held_out_rows(rows, self.hold_out)
        kept, held = [p for p in pairs if p.row not in out], [p for p in pairs if p.row in out]
        if not kept:
            raise UsageError(
                f"No pair can be trained on; the first of them: {next(iter(reasons.values()), 'held out')}."
            )
        told = [[p.row, p.apart, list(p.chosen.ids), list(p.rejected.ids)] for p in kept]
        plan = self.planned(len(kept), self.batch)
        stream = RatedPairs(model, kept, self.margin, self.center, self.micro_tokens)
        training = self.training(
            model,
            context,
            digest([self.fields(), file_digest(source), told]),
            loss=stream.loss,
            examples=[],
            updates=plan,
            stream=stream,
            split=stream.split,
            weigh=lambda documents: len(documents) // 2,
        )
        at = training.run()
        found = {"held_out": self._measured(model, held)} if held else {}
        self.summary(training, at, {"rows": len(rows), "pairs": len(kept), **found})
        save_classifier(model, context.folder / "model")
        return [row.drop(f"{self.called()}: {reasons[row.id]}") if row.id in reasons else row for row in rows]

    def _measured(self, model: LoadedStudent, held: Sequence[RatedPair]) -> dict[str, Any]:
        """Return what is told of pairs that were not trained on."""
        sides = [side for pair in held for side in (pair.chosen, pair.rejected)]
        rewards = [values[0] for values in measured(model, sides, self.micro_tokens)]
        gained = [better - worse for better, worse in zip(rewards[::2], rewards[1::2], strict=True)]
        means = {
            "accuracy": sum(gain > 0 for gain in gained),
            "loss": sum(max(0.0, -gain) + math.log1p(math.exp(-abs(gain))) for gain in gained),
            "difference": sum(gained),
        }
        return {"pairs": len(held)} | {name: round(total / len(held), 6) for name, total in means.items()}


def template_of(name: str) -> str:
    """Return the chat template that a `chat_template` option names."""
    from limbeck.train.student import PLAIN_TEMPLATE, _template_file

    return PLAIN_TEMPLATE if name == "plain" else _template_file(name)


def _encoded(rows: Sequence[Row], model: LoadedStudent, limit: int) -> tuple[list[RatedPair], dict[str, str]]:
    """Turn rows into pairs of documents; return them with the reasons of those that can not become one."""
    pairs: list[RatedPair] = []
    reasons: dict[str, str] = {}
    for row in rows:
        sides = [_document(side, model) for side in (row, _rejected(row, _shared(row)))]
        most = max(len(side.ids) - 1 for side in sides)
        if most > limit:
            reasons[row.id] = f"{most} tokens are over max_length {limit}"
        elif sides[0].ids == sides[1].ids:
            reasons[row.id] = "chosen and rejected are the same tokens"
        else:
            pairs.append(RatedPair(row.id, sides[0], sides[1], _apart(row)))
    return pairs, reasons


def _document(row: Row, model: LoadedStudent) -> Example:
    """Return a conversation up to the token where its reward is read, with one token more, marked."""
    ids = conversation_ids(model.tokenizer, row)
    # transformers reads the value at the last token that is no padding, also where padding is the end-of-text token
    read = max((place for place, token in enumerate(ids) if token != model.pad), default=-1) + 1
    return Example(row.id, (*ids[:read], model.pad), (False,) * read + (True,))


def _apart(row: Row) -> float:
    pair = row.extra.get("pair") or {}
    better, worse = pair.get("chosen_score"), pair.get("rejected_score")
    if isinstance(better, int | float) and isinstance(worse, int | float):
        return abs(float(better) - float(worse))
    return 0.0
