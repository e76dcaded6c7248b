"""The training loop, whole and in order.

    for each update of the plan:
        for each micro-batch of its documents:   loss = summed loss / trained tokens of the *whole* update; backward
        clip the gradient, set the learning rate of this update, step
        now and then: a line to curve.jsonl, a checkpoint

Dividing by the update's own count of trained tokens makes the gradient independent of how the update is split into
micro-batches (trl#4719, ms-swift#10165: means of means are another loss). A line of the curve:

    {"update": 10, "loss": 1.2034, "lr": 0.0021, "tokens": 20480, "seconds": 3.1}

`loss` is the mean over the trained tokens since the line before; `tokens` counts all tokens so far, prompts too.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from limbeck.core.errors import StepError
from limbeck.train.checkpoint import load_checkpoint, save_checkpoint, seed_generators
from limbeck.train.examples import Example
from limbeck.train.optimizer import factor, set_learning_rate
from limbeck.train.packing import MicroBatch, collate, micro_batches

if TYPE_CHECKING:
    import torch

Loss = Callable[[MicroBatch], "torch.Tensor"]
"""The loss of a micro-batch summed over its trained tokens."""


class Stream(Protocol):
    """Documents that are made while training goes on, such as the student's own writing, and what is measured on them."""

    def take(self, update: int, planned: Sequence[int]) -> Sequence[Example]:
        """Return the documents of an update, given the places that the plan has for it."""
        ...

    def noted(self) -> dict[str, float]:
        """Return what a line of the curve says beside the loss, since the line before."""
        ...

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must hold for the stream to go on: plain values."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSettings:
    """What the loop needs to know beside the model, the loss and the documents."""

    learning_rate: float
    warmup: float
    minimum_ratio: float
    clip: float
    width: int
    micro_tokens: int
    seed: int
    log_every: int
    checkpoint_updates: int
    """A checkpoint every so many updates; 0 for none by count."""
    checkpoint_seconds: float
    """A checkpoint every so many seconds; 0 for none by time."""


@dataclass(slots=True)
class Position:
    """Where training stands: plain values, saved with every checkpoint."""

    update: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    loss: float = 0.0
    """The summed loss since the last line of the curve."""
    count: int = 0
    """What it is divided by, the trained tokens, since the last line of the curve."""
    first_loss: float | None = None
    last_loss: float | None = None
    curve_bytes: int = 0


@dataclass(slots=True)
class Training:
    """One training run: the model with its optimisers, its documents and their plan, and the folder it writes to."""

    model: Any
    optimizers: list[torch.optim.Optimizer]
    loss: Loss
    examples: Sequence[Example]
    updates: list[list[int]]
    settings: LoopSettings
    folder: Path
    identity: str
    pad: int
    device: str = "cpu"
    note: Callable[[int, int, str], None] = lambda done, total, note: None
    stream: Stream | None = None
    """Makes the documents of each update; None takes them from `examples`."""
    split: Callable[[Sequence[Example]], list[list[list[Example]]]] | None = None
    """Splits an update into micro-batches of rows of documents; None is by length (`packing.micro_batches`)."""
    weigh: Callable[[Sequence[Example]], int] | None = None
    """What the summed loss of an update is divided by; None counts the trained tokens."""
    at: Position = field(default_factory=Position)
    resumed_at: int = 0
    """The update at which a checkpoint was taken up; 0 where there was none."""

    def run(self) -> Position:
        """Train from the newest checkpoint, or from the start, to the end of the plan."""
        seed_generators(self.settings.seed)
        saved = load_checkpoint(self.folder / "checkpoints", self.identity, self.model, self.optimizers)
        if saved and self.stream is not None:
            self.stream.restore(saved.pop("stream"))
        self.at = Position(**saved) if saved else Position()
        self.resumed_at = self.at.update
        self._cut_curve()
        clock, cpu, last = (
            time.monotonic() - self.at.seconds,
            time.process_time() - self.at.cpu_seconds,
            time.monotonic(),
        )
        self.model.train()
        for update in range(self.at.update, len(self.updates)):
            self._update(self._documents(update), update)
            self.at.update = update + 1
            self.at.seconds, self.at.cpu_seconds = time.monotonic() - clock, time.process_time() - cpu
            if self.at.update % self.settings.log_every == 0 or self.at.update == len(self.updates):
                self._log()
            if self._due(last):
                save_checkpoint(self.folder / "checkpoints", self.identity, self.model, self.optimizers, self._state())
                last = time.monotonic()
        return self.at

    def _documents(self, update: int) -> Sequence[Example]:
        planned = self.updates[update]
        return self.stream.take(update, planned) if self.stream else [self.examples[i] for i in planned]

    def _state(self) -> dict[str, Any]:
        return _plain(self.at) | ({"stream": self.stream.state()} if self.stream else {})

    def _rows(self, documents: Sequence[Example]) -> list[list[list[Example]]]:
        if self.split:
            return self.split(documents)
        return micro_batches(documents, width=self.settings.width, micro_tokens=self.settings.micro_tokens)

    def _update(self, documents: Sequence[Example], update: int) -> None:
        import torch

        s = self.settings
        # counted after the documents are made: a rollout's length is not known before (trl#5653)
        trained = sum(sum(e.trained[1:]) for e in documents)
        count = self.weigh(documents) if self.weigh else trained
        total = 0.0
        for rows in self._rows(documents):
            loss = self.loss(collate(rows, self.pad, self.device))
            (loss / count).backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        self._refuse_nan(total, update)
        if s.clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), s.clip)
        rate = s.learning_rate * self._factor(update)
        set_learning_rate(self.optimizers, rate)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.at.loss += total
        self.at.count += count
        self.at.trained_tokens += trained
        self.at.tokens += sum(len(e.ids) for e in documents)

    def _factor(self, update: int) -> float:
        return factor(update, len(self.updates), warmup=self.settings.warmup, minimum_ratio=self.settings.minimum_ratio)

    def _refuse_nan(self, total: float, update: int) -> None:
        if total != total or total == float("inf"):
            raise StepError(
                f"The loss of update {update + 1} is not a number; the learning rate {self.settings.learning_rate:g} is "
                "probably too high. The checkpoint before it is kept."
            )

    def _log(self) -> None:
        mean = self.at.loss / max(1, self.at.count)
        rate = self.settings.learning_rate * self._factor(self.at.update - 1)
        line = {"update": self.at.update, "loss": round(mean, 6), "lr": rate, "tokens": self.at.tokens}
        more = {name: round(value, 6) for name, value in self.stream.noted().items()} if self.stream else {}
        text = json.dumps(line | more | {"seconds": round(self.at.seconds, 3)}) + "\n"
        with self._curve.open("a", encoding="utf-8") as file:
            file.write(text)
        self.at.curve_bytes += len(text.encode())
        self.at.first_loss = mean if self.at.first_loss is None else self.at.first_loss
        self.at.last_loss, self.at.loss, self.at.count = mean, 0.0, 0
        self.note(self.at.update, len(self.updates), f"loss {mean:.3f}")

    def _due(self, last: float) -> bool:
        every, seconds = self.settings.checkpoint_updates, self.settings.checkpoint_seconds
        if every and self.at.update % every == 0:
            return True
        return bool(seconds) and time.monotonic() - last >= seconds

    def _cut_curve(self) -> None:
        # lines written after the checkpoint belong to updates that are done again
        with self._curve.open("a+b") as file:
            file.truncate(self.at.curve_bytes)

    @property
    def _curve(self) -> Path:
        return self.folder / "curve.jsonl"


def _plain(at: Position) -> dict[str, Any]:
    return {name: getattr(at, name) for name in Position.__slots__}
