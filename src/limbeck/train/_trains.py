"""What the steps that train on the common loop share: their settings, and the files they leave behind.

class Distill(Trains):      student, updates, learning_rate, … come from here
    def train(self, rows, context):                                in one process, or in each of several
        student, limit, weights = self.loaded(context)             with an adapter, if asked for
        training = self.training(student, …, loss=…, frozen=[teacher.model])
        at = training.run()
        self.summary(training, at, {"rows": 1500})                 train.json
        save_student(student, context.folder / "student")
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator, model_validator

from limbeck.core.fingerprint import file_digest
from limbeck.core.row import Row
from limbeck.core.step import Context, Make
from limbeck.train import _ranks
from limbeck.train._adapter import adapt
from limbeck.train.loop import LoopSettings, Position, Training
from limbeck.train.optimizer import OptimizerName, make_optimizers
from limbeck.train.packing import plan
from limbeck.train.student import LoadedStudent, Precision, load_student

if TYPE_CHECKING:
    from limbeck.train._spread import Loss

SPECS = ("embedded", "hf:", "step:")


class Trains(Make):
    """The settings that all steps have in common which train on the common loop."""

    student: str
    """The initial weights: `embedded:student`, `hf:PATH`, or `step:NAME` for a student that this run has trained."""
    updates: int = Field(default=0, ge=0)
    """How many optimiser steps; 0 takes as many as `epochs` needs. Equal updates make arms of unequal data comparable."""
    epochs: float = Field(default=1.0, gt=0)
    """How many passes over the rows, where `updates` is 0."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """The peak learning rate. The default suits the embedded students; a model of a billion weights wants about 1e-6."""
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
    """Rows of more tokens are dropped with that reason, never cut. Also bounded by the model."""
    chat_template: str = ""
    """Replaces the student's own template: `plain`, or the path of a Jinja file. Saved with the student."""
    micro_tokens: int = Field(default=16384, gt=0)
    """The most tokens that go through the model at once; an update of more is split. It does not change the loss."""
    seed: int = 0
    """The order of the rows, what is sampled, and dropout where the model has it."""
    log_every: int = Field(default=10, gt=0)
    """Updates between two lines of the curve."""
    checkpoint_every: str = "60s"
    """How often the state is saved: `60s` for seconds, `200` for updates, `0` for never."""
    precision: Precision = "float32"
    """What the models compute in: `bfloat16` is faster on a GPU. Weights and losses are in float32 either way."""
    lora_rank: int = Field(default=0, ge=0)
    """Train an adapter of this rank (LoRA) and nothing else; 0 trains all weights. The saved student has it merged in."""
    lora_alpha: float = Field(default=0.0, ge=0)
    """The adapter's output is multiplied by this over the rank; 0 is twice the rank."""
    lora_modules: tuple[str, ...] = ()
    """Which layers get an adapter, by the ends of their names such as `q_proj`; none named is all but the head."""
    processes: int = Field(default=1, gt=0)
    """How many processes of this machine share each update, one for each GPU; see docs/multi_gpu.md."""
    shard: bool = False
    """Keep a part of each weight in every process (FSDP2) instead of a whole copy (DDP); for what does not fit otherwise."""

    @field_validator("checkpoint_every", mode="before")
    @classmethod
    def _every(cls, value: Any) -> str:
        text = str(value).strip()
        if not text.removesuffix("s").isdigit():
            raise ValueError("write a number of updates such as 200, or seconds such as 60s")
        return text

    @model_validator(mode="after")
    def _models_named(self) -> Trains:
        for name in self._models():
            if not str(getattr(self, name)).startswith(SPECS):
                raise ValueError(f"write {name} as embedded, embedded:student, hf:PATH or step:NAME")
        return self

    def make(self, rows: list[Row], context: Context) -> Iterable[Row]:
        """Train here, or hand the work to as many processes as are asked for; return the rows."""
        if self.processes > 1 and not _ranks.together():
            from limbeck.train.worker import launch

            return launch(self, rows, context)
        return self.train(rows, context)

    def train(self, rows: list[Row], context: Context) -> Iterable[Row]:
        """Train and save; return the rows, those that could not be used dropped with the reason."""
        raise TypeError(f"{self.called()} defines no train()")

    def _models(self) -> tuple[str, ...]:
        """The fields that name models."""
        return ("student",)

    def watch(self) -> list[Path]:
        """The template file and models given by path are part of the fingerprint."""
        named = [str(getattr(self, name)) for name in self._models()]
        paths = [spec.removeprefix("hf:") for spec in named if spec.startswith("hf:")]
        paths += [self.chat_template] if self.chat_template not in ("", "plain") else []
        return [Path(path).expanduser() for path in paths if Path(path).expanduser().exists()]

    def loaded(self, context: Context) -> tuple[LoadedStudent, int, str]:
        """Return the student, the most tokens of a document, and the digest of the initial weights."""
        source = context.model(self.student)
        student = self._adapted(load_student(source, chat_template=self.chat_template))
        return student, min(self.max_length, longest(student) or self.max_length), file_digest(source)

    def planned(self, rows: int, batch: int) -> list[list[int]]:
        """Return the rows of each update, `batch` of them: shuffled epochs, one after the other."""
        return plan([1] * rows, batch_tokens=batch, seed=self.seed, updates=self.updates, epochs=self.epochs)

    def _adapted(self, student: LoadedStudent) -> LoadedStudent:
        """Return the student with its precision, and with an adapter where one is asked for."""
        if not self.lora_rank:
            return replace(student, precision=self.precision)
        view = adapt(
            student.model, rank=self.lora_rank, alpha=self.lora_alpha, modules=self.lora_modules, seed=self.seed
        )
        return replace(student, precision=self.precision, adapter=view)

    def training(
        self,
        student: LoadedStudent,
        context: Context,
        identity: str,
        *,
        loss: Loss,
        frozen: Sequence[Any] = (),
        loop: Mapping[str, Any] | None = None,
        **given: Any,
    ) -> Training:
        """Return the training run.

        `loss` gives the summed loss of a micro-batch; `frozen` are the models that it reads beside the student (a
        teacher), so that they are sharded too; `loop` and `given` are the fields of `LoopSettings` and `Training` that
        differ from step to step.
        """
        from limbeck.train._spread import Spread

        spread = Spread(student.model, loss, frozen=frozen, shard=self.shard)
        return Training(
            model=student.model,
            loss=spread,
            optimizers=make_optimizers(
                student.model,
                self.optimizer,
                learning_rate=self.learning_rate,
                weight_decay=self.weight_decay,
                betas=self.betas,
            ),
            settings=replace(self._settings(), **(loop or {})),
            folder=context.folder,
            identity=identity,
            pad=student.pad,
            device=student.device,
            note=context.progress,
            **given,
        )

    def _settings(self) -> LoopSettings:
        by_time = self.checkpoint_every.endswith("s")
        every = int(self.checkpoint_every.removesuffix("s"))
        return LoopSettings(
            learning_rate=self.learning_rate,
            warmup=self.warmup,
            minimum_ratio=self.minimum_ratio,
            clip=self.clip,
            width=0,
            micro_tokens=self.micro_tokens,
            seed=self.seed,
            log_every=self.log_every,
            checkpoint_updates=0 if by_time else every,
            checkpoint_seconds=float(every) if by_time else 0.0,
        )

    def summary(self, training: Training, at: Position, more: dict[str, Any]) -> None:
        """Write train.json: what was trained on what, for how long."""
        parameters = list(training.model.parameters())
        found = {
            "student": self.student,
            "parameters": sum(p.numel() for p in parameters),
            "updates": at.update,
            "resumed_at": training.resumed_at,
            "tokens": at.tokens,
            "trained_tokens": at.trained_tokens,
            "seconds": round(at.seconds, 3),
            "cpu_seconds": round(at.cpu_seconds, 3),
            "first_loss": at.first_loss,
            "last_loss": at.last_loss,
            "device": training.device,
            "processes": training.loss.world,
            "packed": training.settings.width > 0,
            "seed": self.seed,
        }
        if self.lora_rank:
            found["trained_parameters"] = sum(p.numel() for p in parameters if p.requires_grad)
        if not _ranks.first():
            return
        writing = training.folder / "train.json.writing"
        writing.write_text(json.dumps(found | more, indent=1) + "\n", encoding="utf-8")
        writing.replace(training.folder / "train.json")


def longest(student: LoadedStudent) -> int:
    """Return how many positions the model has, or 0 where it does not say."""
    return int(getattr(student.model.config, "max_position_embeddings", 0) or 0)
