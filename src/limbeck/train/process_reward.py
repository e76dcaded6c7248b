"""A process reward model: a value at the end of each step of a response, learnt from values that its steps have been given.

    rows    "1. Start with 12: 12.\\n2. Add 5: 12 + 5 = 18.\\nAnswer: 18"
            extra["process"]  {"ends": [20, 42, 53], "values": [0.875, 0.0, 0.0], …}    as score.process with a teacher writes

    ProcessReward(student="embedded:student", updates=200)
    score.ProcessReward(model="step:process_reward", combine="min")         reads what comes out

    06-process_reward/  model/      AutoModelForTokenClassification with one output: its sigmoid is the value
                        curve.jsonl loss (a step), accuracy (share of steps on the right side of one half), held_out (loss)
                        train.json  {…, "held_out": {"steps": 402, "loss": 0.31, "accuracy": 0.88, "brier": 0.09}}

The values may be soft, such as the share of eight completions that end right (Math-Shepherd, Wang et al. 2023, 2312.08935), or
0 and 1, as people's labels of steps are (PRM800K, Lightman et al. 2023, 2305.20050). The loss is the cross-entropy between value
and output, the mean over the steps of an update; with soft values its least is not 0 but their own entropy. Monte-Carlo values
are noisy, and a step with a wrong equation can have a high one (Zhang et al. 2025, 2501.07301).
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
from limbeck.train._classifiers import load_classifier, measured, refuse_adapter, save_classifier
from limbeck.train._held_out import held_out_rows
from limbeck.train._trains import Trains, longest
from limbeck.train._valued_steps import Valued, ValuedSteps, document_of
from limbeck.train.examples import check_rows
from limbeck.train.reward import template_of
from limbeck.train.student import LoadedStudent


class ProcessReward(Trains, Make):
    """Train a process reward model on steps with values."""

    isolated: ClassVar[bool] = True

    labels: str = "process"
    """The extra of the rows that holds `ends` and `values`."""
    batch: int = Field(default=16, gt=0)
    """Responses in one update."""
    hold_out: float = Field(default=0.1, ge=0, lt=1)
    """The share of prompts whose responses are not trained on, but measured."""
    evaluate_every: int = Field(default=0, ge=0)
    """Updates between two measurements of the held-out loss; 0 measures at the end only."""
    patience: int = Field(default=0, ge=0)
    """End after so many measurements without a better one, with the best weights; 0 goes on to the last update."""
    learning_rate: float = Field(default=2e-3, gt=0)
    """The peak learning rate. The default suits the embedded students; a model of a billion weights wants about 1e-5."""

    @model_validator(mode="after")
    def _no_adapter(self) -> ProcessReward:
        refuse_adapter(self.lora_rank)
        return self

    def train(self, rows: list[Row], context: Context) -> Iterable[Row]:
        """Train, measure, save; return the rows, those that could not be used dropped."""
        check_rows(rows)
        source = context.model(self.student)
        model = load_classifier(source, "token", seed=self.seed, precision=self.precision)
        if not model.tokenizer.is_fast:
            raise UsageError(f"The tokenizer of {source} gives no offsets, so the ends of steps can not be found.")
        if self.chat_template:
            model.tokenizer.chat_template = template_of(self.chat_template)
        documents, reasons = self._encoded(rows, model)
        out = held_out_rows(rows, self.hold_out)
        kept, held = [d for d in documents if d.row not in out], [d for d in documents if d.row in out]
        if not kept:
            raise UsageError(
                f"No row can be trained on; the first of them: {next(iter(reasons.values()), 'held out')}."
            )
        stream = ValuedSteps(model, kept)
        training = self.training(
            model,
            context,
            digest([self.fields(), file_digest(source), [[d.row, list(d.ids), list(d.values)] for d in kept]]),
            loss=stream.loss,
            examples=[],
            updates=self.planned(len(kept), self.batch),
            stream=stream,
            held_out=held,
            loop={"evaluate_every": self.evaluate_every, "patience": self.patience},
        )
        at = training.run()
        found = {"held_out": self._measured(model, held)} if held else {}
        steps = sum(len(d.values) for d in kept)
        self.summary(training, at, {"rows": len(rows), "trained_rows": len(kept), "steps": steps, **found})
        save_classifier(model, context.folder / "model")
        return [row.drop(f"{self.called()}: {reasons[row.id]}") if row.id in reasons else row for row in rows]

    def _encoded(self, rows: Sequence[Row], model: LoadedStudent) -> tuple[list[Valued], dict[str, str]]:
        """Turn rows into documents; return them with the reasons of those that can not become one."""
        limit = min(self.max_length, longest(model) or self.max_length)
        documents: list[Valued] = []
        reasons: dict[str, str] = {}
        for row in rows:
            found = document_of(row, model, self.labels)
            if isinstance(found, str):
                reasons[row.id] = found
            elif len(found.ids) - 1 > limit:
                reasons[row.id] = f"{len(found.ids) - 1} tokens are over max_length {limit}"
            else:
                documents.append(found)
        return documents, reasons

    def _measured(self, model: LoadedStudent, held: Sequence[Valued]) -> dict[str, Any]:
        """Return what is told of steps that were not trained on."""
        outputs = [one for values in measured(model, held, self.micro_tokens) for one in values]
        given = [value for document in held for value in document.values]
        chances = [(1 + math.tanh(one / 2)) / 2 for one in outputs]
        pairs = list(zip(outputs, given, strict=True))
        means = {
            # softplus(x) - v x, the same as -v log p - (1 - v) log(1 - p)
            "loss": sum(max(0.0, x) + math.log1p(math.exp(-abs(x))) - v * x for x, v in pairs),
            "accuracy": sum((x > 0) == (v > 0.5) for x, v in pairs),
            "brier": sum((p - v) ** 2 for p, v in zip(chances, given, strict=True)),
        }
        return {"steps": len(given)} | {name: round(total / len(given), 6) for name, total in means.items()}
