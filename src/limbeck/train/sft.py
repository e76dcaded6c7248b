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
`batch_tokens` are equal; `epochs` instead makes the work grow with the rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator, model_validator

from limbeck.core.errors import UsageError
from limbeck.core.fingerprint import digest, file_digest
from limbeck.core.row import Row
from limbeck.core.step import Context, Make
from limbeck.train.examples import Example, Turns, check_rows, encode
from limbeck.train.loop import LoopSettings, Position, Training
from limbeck.train.optimizer import OptimizerName, make_optimizers
from limbeck.train.packing import plan
from limbeck.train.student import LoadedStudent, load_student, save_student, summed_loss


class Sft(Make):
    """Train a student on the responses of the rows (supervised fine-tuning, sequence-level distillation)."""

    isolated: ClassVar[bool] = True

    student: str
    """The initial weights: `embedded:student`, `hf:PATH`, or `step:NAME` for a student that this run has trained."""
    updates: int = Field(default=0, ge=0)
    """How many optimiser steps; 0 takes as many as `epochs` needs. Equal updates make arms of unequal data comparable."""
    epochs: float = Field(default=3.0, gt=0)
    """How many passes over the rows, where `updates` is 0."""
    batch_tokens: int = Field(default=2000, gt=0)
    """Tokens in one update, prompts included."""
    learning_rate: float = Field(default=5e-3, gt=0)
    """The peak learning rate. The default suits the embedded students; a model of a billion weights wants about 1e-5."""
    warmup: float = Field(default=0.05, ge=0, lt=1)
    """The share of the updates over which the learning rate rises to its peak."""
    minimum_ratio: float = Field(default=0.02, ge=0, le=1)
    """The share of the peak to which the cosine falls."""
    optimizer: OptimizerName = "adamw"
    """`adamw`, or `muon`: Muon for the matrices of the blocks, AdamW for embeddings and norms."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Decay of the matrices; vectors (norms, biases) have none."""
    betas: tuple[float, float] = (0.9, 0.98)
    """AdamW's averaging of the gradient and of its square."""
    clip: float = Field(default=1.0, ge=0)
    """The largest norm of the gradient; 0 does not clip."""
    max_length: int = Field(default=1024, gt=0)
    """Rows of more tokens are dropped with that reason, never cut: a cut response has no end. Also bounded by the model."""
    turns: Turns = "last"
    """`last` trains on the last assistant turn; `all` on every assistant turn (conversations with tool calls)."""
    chat_template: str = ""
    """Replaces the student's own template: `plain`, or the path of a Jinja file. Saved with the student."""
    pack_width: int = Field(default=0, ge=0)
    """Pack documents into rows of this many tokens; 0 puts one document in a row, which is faster for short documents."""
    micro_tokens: int = Field(default=16384, gt=0)
    """The most tokens that go through the model at once; an update of more is split. It does not change the loss."""
    seed: int = 0
    """The order of the documents, and dropout where the model has it."""
    log_every: int = Field(default=10, gt=0)
    """Updates between two lines of the curve."""
    checkpoint_every: str = "60s"
    """How often the state is saved: `60s` for seconds, `200` for updates, `0` for never."""

    @field_validator("checkpoint_every", mode="before")
    @classmethod
    def _every(cls, value: Any) -> str:
        text = str(value).strip()
        if not text.removesuffix("s").isdigit():
            raise ValueError("write a number of updates such as 200, or seconds such as 60s")
        return text

    @model_validator(mode="after")
    def _student_named(self) -> Sft:
        if not self.student.startswith(("embedded", "hf:", "step:")):
            raise ValueError("write student as embedded:student, hf:PATH or step:NAME")
        return self

    def watch(self) -> list[Path]:
        """The template file and a student given by path are part of the fingerprint."""
        named = [self.student.removeprefix("hf:")] if self.student.startswith("hf:") else []
        named += [self.chat_template] if self.chat_template not in ("", "plain") else []
        return [Path(name).expanduser() for name in named if Path(name).expanduser().exists()]

    def make(self, rows: list[Row], context: Context) -> Iterable[Row]:
        """Train, save, and return the rows: those trained on kept, those that could not be dropped with the reason."""
        check_rows(rows)
        source = context.model(self.student)
        student = load_student(source, chat_template=self.chat_template)
        limit = min(self.max_length, _longest(student.model.config) or self.max_length)
        examples, reasons = encode(
            rows, student.tokenizer, student.stops, end=student.end, turns=self.turns, max_length=limit
        )
        if not examples:
            raise UsageError(f"No row can be trained on; the first of them: {next(iter(reasons.values()))}.")
        training = self._training(student, examples, context, source)
        at = training.run()
        self._summary(context.folder, training, at, len(rows))
        save_student(student, context.folder / "student")
        return [row.drop(f"{self.called()}: {reasons[row.id]}") if row.id in reasons else row for row in rows]

    def _training(self, student: LoadedStudent, examples: list[Example], context: Context, source: Path) -> Training:
        lengths = [len(e.ids) for e in examples]
        updates = plan(
            lengths, batch_tokens=self.batch_tokens, seed=self.seed, updates=self.updates, epochs=self.epochs
        )
        identity = digest([self.fields(), [[e.row, list(e.ids)] for e in examples], file_digest(source)])
        return Training(
            model=student.model,
            optimizers=make_optimizers(
                student.model,
                self.optimizer,
                learning_rate=self.learning_rate,
                weight_decay=self.weight_decay,
                betas=self.betas,
            ),
            loss=lambda batch: summed_loss(student, batch),
            examples=examples,
            updates=updates,
            settings=self._settings(student),
            folder=context.folder,
            identity=identity,
            pad=student.pad,
            device=student.device,
            note=context.progress,
        )

    def _settings(self, student: LoadedStudent) -> LoopSettings:
        by_time = self.checkpoint_every.endswith("s")
        every = int(self.checkpoint_every.removesuffix("s"))
        return LoopSettings(
            learning_rate=self.learning_rate,
            warmup=self.warmup,
            minimum_ratio=self.minimum_ratio,
            clip=self.clip,
            width=self.pack_width if student.packable else 0,
            micro_tokens=self.micro_tokens,
            seed=self.seed,
            log_every=self.log_every,
            checkpoint_updates=0 if by_time else every,
            checkpoint_seconds=float(every) if by_time else 0.0,
        )

    def _summary(self, folder: Path, training: Training, at: Position, rows: int) -> None:
        summary = {
            "student": self.student,
            "parameters": sum(p.numel() for p in training.model.parameters()),
            "rows": rows,
            "trained_rows": len(training.examples),
            "updates": at.update,
            "resumed_at": training.resumed_at,
            "tokens": at.tokens,
            "trained_tokens": at.trained_tokens,
            "seconds": round(at.seconds, 3),
            "cpu_seconds": round(at.cpu_seconds, 3),
            "first_loss": at.first_loss,
            "last_loss": at.last_loss,
            "packed": training.settings.width > 0,
            "device": training.device,
            "seed": self.seed,
        }
        writing = folder / "train.json.writing"
        writing.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        writing.replace(folder / "train.json")


def _longest(config: Any) -> int:
    """How many positions the model has, or 0 where it does not say."""
    return int(getattr(config, "max_position_embeddings", 0) or 0)
