"""Weak-to-strong training: a strong student learns from a weaker model's answers, and may hold to what it is sure of itself.

    rows    "Start with 12. Add 5." -> "12 + 5 = 18.\\nAnswer: 18"            written by a weak model, wrong here and there

    WeakToStrong(student="step:strong", confidence=0.5, updates=100)

    loss of a token = (1 - a) * -log q(weak token) + a * -log q(t*)           t* = the token likeliest to the student itself
    a rises from 0 to `confidence` over the first `ramp` of the updates

After Burns et al. 2023 (2312.09390), section 4.3.2 and appendix A: the auxiliary loss makes the student more confident in its
own predictions also where they disagree with the weak label, and so keeps it from learning the weak model's mistakes. There
labels have two classes, and the student's prediction is hardened at a threshold that keeps the classes' shares; of a text,
each next token is a label and its prediction is hardened by taking the likeliest token. No gradient goes through that choice.
With `confidence` 0 it is train.sft on the weak answers: the control.

    07-weak_to_strong/  curve.jsonl   {"update": 10, "loss": .31, "agreement": .93, "strength": .25, …}

`agreement` is the share of tokens on which the student's choice is the weak model's; `strength` is a. Whether it worked is the
performance gap recovered, (this student - weak) / (strong ceiling - weak): `evaluate.recovered`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from limbeck.core.errors import UsageError
from limbeck.core.fingerprint import digest
from limbeck.core.row import Row
from limbeck.core.step import Context, Make
from limbeck.train._sums import Sums
from limbeck.train._trains import Trains
from limbeck.train.examples import Example, Turns, check_rows, encode
from limbeck.train.packing import MicroBatch, plan
from limbeck.train.student import LoadedStudent, predicting_logits, save_student

if TYPE_CHECKING:
    import torch


class WeakToStrong(Trains, Make):
    """Train a strong student on a weak model's answers, with the auxiliary confidence loss."""

    isolated: ClassVar[bool] = True

    epochs: float = Field(default=2.0, gt=0)
    """How many passes over the rows, where `updates` is 0."""
    confidence: float = Field(default=0.5, ge=0, le=1)
    """The weight of the student's own hardened prediction; the paper takes 0.75 for its largest students, 0.5 for others."""
    ramp: float = Field(default=0.2, ge=0, le=1)
    """The share of the updates over which that weight rises from 0, evenly."""
    batch_tokens: int = Field(default=2000, gt=0)
    """Tokens in one update, prompts included."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """The peak learning rate. The default suits the embedded models; a model of a billion weights wants about 1e-5."""
    turns: Turns = "last"
    """`last` trains on the last assistant turn; `all` on every assistant turn."""
    pack_width: int = Field(default=0, ge=0)
    """Pack documents into rows of this many tokens; 0 puts one document in a row, which is faster for short documents."""

    def train(self, rows: list[Row], context: Context) -> Iterable[Row]:
        """Train, save, and return the rows, those that could not be used dropped with the reason."""
        check_rows(rows)
        student, limit, weights = self.loaded(context)
        documents, reasons = encode(
            rows, student.tokenizer, student.stops, end=student.end, turns=self.turns, max_length=limit
        )
        if not documents:
            raise UsageError(f"No row can be trained on; the first of them: {next(iter(reasons.values()))}.")
        lengths = [len(e.ids) for e in documents]
        updates = plan(
            lengths, batch_tokens=self.batch_tokens, seed=self.seed, updates=self.updates, epochs=self.epochs
        )
        stream = Confident(student, documents, self.confidence, self.ramp * len(updates))
        training = self.training(
            student,
            context,
            digest([self.fields(), [[e.row, list(e.ids)] for e in documents], weights]),
            loss=stream.loss,
            examples=[],
            updates=updates,
            stream=stream,
            loop={"width": self.pack_width if student.packable else 0},
        )
        at = training.run()
        self.summary(training, at, {"rows": len(rows), "trained_rows": len(documents), "confidence": self.confidence})
        save_student(student, context.folder / "student")
        return [row.drop(f"{self.called()}: {reasons[row.id]}") if row.id in reasons else row for row in rows]


@dataclass(slots=True)
class Confident:
    """The documents of each update (`loop.Stream`), and the loss, which depends on how far training is."""

    student: LoadedStudent
    documents: Sequence[Example]
    most: float
    """The weight of the own prediction after the ramp."""
    ramp: float
    """Updates until then."""
    strength: float = 0.0
    sums: Sums = field(default_factory=Sums)

    def take(self, update: int, planned: Sequence[int]) -> Sequence[Example]:
        """Return the planned documents, and set the weight of this update."""
        self.strength = self.most * (min(1.0, update / self.ramp) if self.ramp else 1.0)
        return [self.documents[i] for i in planned]

    def loss(self, batch: MicroBatch) -> torch.Tensor:
        """Return the loss of a micro-batch, summed over its trained tokens."""
        logits_TV = predicting_logits(self.student, batch).float()
        scores_TV = logits_TV.log_softmax(-1)
        own_T = logits_TV.detach().argmax(-1)
        weak = -scores_TV.gather(1, batch.targets_T[:, None]).sum()
        own = -scores_TV.gather(1, own_T[:, None]).sum()
        same = (own_T == batch.targets_T).float().sum().item()
        self.sums.add(tokens=len(own_T), agreement=same, strength=self.strength * len(own_T))
        return (1 - self.strength) * weak + self.strength * own

    def noted(self) -> dict[str, float]:
        """Return the means over the tokens since the last line."""
        return self.sums.means("tokens")

    def state(self) -> dict[str, Any]:
        """Return the sums; all else follows from the update."""
        return self.sums.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.sums.restore(state)
