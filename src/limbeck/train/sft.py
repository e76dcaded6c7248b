"""Supervised fine-tuning: a student learns to write the responses of the rows, token by token, given their prompts.

    rows    "Start with 12. Add 5. …"  ->  "1. Start with 12: 12.\\n2. Add 5: 12 + 5 = 17.\\nAnswer: 17"   (and 1,499 more)

    Sft(student="embedded:student", updates=100, batch_tokens=2000, learning_rate=5e-3)

    07-sft/  student/      the trained student, Hugging Face layout; written last
             curve.jsonl   {"update": 10, "loss": 1.2, "lr": 0.005, "tokens": 19500, "seconds": 0.4} …
             train.json    what was trained on what, for how long
             checkpoints/  the newest state; a killed run goes on from it, bit for bit

On the teacher's own samples this is sequence-level knowledge distillation (Kim & Rush 2016, 1606.07947): it minimises the
forward divergence between the distribution of the kept responses and the student. The loss is the mean over the trained
tokens of an update; prompts are never trained on. Two arms of an experiment are equal in work when `updates` and
`batch_tokens` are equal; `epochs` instead makes the work grow with the rows. With `hold_out` the curve also says the loss of
responses that are not trained on, and `patience` ends training when that no longer falls.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from pydantic import Field

from limbeck.core.errors import UsageError
from limbeck.core.fingerprint import digest
from limbeck.core.row import Row
from limbeck.core.step import Context, Make
from limbeck.train._held_out import held_out_rows
from limbeck.train._trains import Trains
from limbeck.train.examples import Turns, check_rows, encode
from limbeck.train.packing import plan
from limbeck.train.student import save_student, summed_loss


class Sft(Trains, Make):
    """Train a student on the responses of the rows (supervised fine-tuning, sequence-level distillation)."""

    isolated: ClassVar[bool] = True

    epochs: float = Field(default=3.0, gt=0)
    """How many passes over the rows, where `updates` is 0."""
    batch_tokens: int = Field(default=2000, gt=0)
    """Tokens in one update, prompts included."""
    learning_rate: float = Field(default=5e-3, gt=0)
    """The peak learning rate. The default suits the embedded students; a model of a billion weights wants about 1e-5."""
    turns: Turns = "last"
    """`last` trains on the last assistant turn; `all` on every assistant turn (conversations with tool calls)."""
    pack_width: int = Field(default=0, ge=0)
    """Pack documents into rows of this many tokens; 0 puts one document in a row, which is faster for short documents."""
    hold_out: float = Field(default=0.0, ge=0, lt=1)
    """The share of prompts that is not trained on; the loss of their responses is a line of the curve."""
    evaluate_every: int = Field(default=0, ge=0)
    """Updates between two measurements of that loss; 0 measures at the end only."""
    patience: int = Field(default=0, ge=0)
    """End after so many measurements without a better one, with the best weights; 0 goes on to the last update."""

    def train(self, rows: list[Row], context: Context) -> Iterable[Row]:
        """Train, save, and return the rows: those trained on kept, those that could not be dropped with the reason."""
        check_rows(rows)
        student, limit, weights = self.loaded(context)
        documents, reasons = encode(
            rows, student.tokenizer, student.stops, end=student.end, turns=self.turns, max_length=limit
        )
        out = held_out_rows(rows, self.hold_out)
        examples, held = [e for e in documents if e.row not in out], [e for e in documents if e.row in out]
        if not examples:
            raise UsageError(
                f"No row can be trained on; the first of them: {next(iter(reasons.values()), 'held out')}."
            )
        identity = digest([self.fields(), [[e.row, list(e.ids)] for e in examples], weights])
        lengths = [len(e.ids) for e in examples]
        updates = plan(
            lengths, batch_tokens=self.batch_tokens, seed=self.seed, updates=self.updates, epochs=self.epochs
        )
        width = self.pack_width if student.packable else 0
        training = self.training(
            student,
            context,
            identity,
            loss=lambda batch: summed_loss(student, batch),
            examples=examples,
            updates=updates,
            held_out=held,
            loop={"width": width, "evaluate_every": self.evaluate_every, "patience": self.patience},
        )
        at = training.run()
        more = {"rows": len(rows), "trained_rows": len(examples)}
        best = {"held_out_rows": len(held), "best_update": at.best_update, "best_loss": at.best_loss} if held else {}
        self.summary(training, at, more | best)
        save_student(student, context.folder / "student")
        return [row.drop(f"{self.called()}: {reasons[row.id]}") if row.id in reasons else row for row in rows]
