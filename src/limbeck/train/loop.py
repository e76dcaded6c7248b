"""The training loop, whole and in order.

    for each update of the plan:
        for each micro-batch of its documents:   loss = summed loss / trained tokens of the *whole* update; backward
        clip the gradient, set the learning rate of this update, step
        now and then: a line to curve.jsonl, a checkpoint, the loss of documents that are held out

Dividing by the update's own count of trained tokens makes the gradient independent of how the update is split into
micro-batches (trl#4719, ms-swift#10165: means of means are another loss) and between processes (`_spread`). A line of the
curve:

    {"update": 10, "loss": 1.2034, "lr": 0.0021, "tokens": 20480, "seconds": 3.1}

`loss` is the mean over the trained tokens since the line before; `tokens` counts all tokens so far, prompts too. Where
documents are held out, some lines say also `held_out`, their mean loss; training ends when it has not improved for
`patience` measurements, and the student is then that of the best one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from limbeck.core.errors import StepError
from limbeck.train import _ranks
from limbeck.train._held_out import HeldOut
from limbeck.train.checkpoint import load_checkpoint, save_checkpoint, seed_generators
from limbeck.train.examples import Example
from limbeck.train.optimizer import factor, set_learning_rate
from limbeck.train.packing import MicroBatch, collate, micro_batches

if TYPE_CHECKING:
    import torch

    from limbeck.train._spread import Spread


class Stream(Protocol):
    """Documents that are made while training goes on, such as the student's own writing, and what is measured on them."""

    def take(self, update: int, planned: Sequence[int]) -> Sequence[Example]:
        """Return the documents of an update, given the places that the plan has for it."""
        ...

    def noted(self) -> dict[str, float]:
        """Return what a line of the curve says beside the loss, since the line before, of all processes."""
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
    evaluate_every: int = 0
    """The loss of the documents held out every so many updates; 0 only at the end."""
    patience: int = 0
    """Training ends after so many measurements without a better one; 0 goes on to the end of the plan."""


@dataclass(slots=True)
class Position:
    """Where training stands: plain values, saved with every checkpoint; the same in all processes."""

    update: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    """Of all processes together."""
    loss: float = 0.0
    """The summed loss since the last line of the curve."""
    count: int = 0
    """What it is divided by, the trained tokens, since the last line of the curve."""
    first_loss: float | None = None
    last_loss: float | None = None
    curve_bytes: int = 0
    best_loss: float | None = None
    """The lowest loss of the documents held out."""
    best_update: int = 0
    measured_since: int = 0
    """Measurements since the best one."""


@dataclass(slots=True)
class Training:
    """One training run: the model with its optimisers, its documents and their plan, and the folder it writes to."""

    model: Any
    optimizers: list[torch.optim.Optimizer]
    loss: Spread
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
    held_out: Sequence[Example] = ()
    """Documents whose loss is measured and that are not trained on."""
    at: Position = field(default_factory=Position)
    resumed_at: int = 0
    """The update at which a checkpoint was taken up; 0 where there was none."""
    _cpu: float = 0.0

    def run(self) -> Position:
        """Train from the newest checkpoint, or from the start, to the end of the plan."""
        s = self.settings
        seed_generators(s.seed + _ranks.rank())
        saved = load_checkpoint(self.folder / "checkpoints", self.identity, self.model, self.optimizers)
        if saved and self.stream is not None:
            self.stream.restore(saved.pop("stream"))
        self.at = Position(**saved) if saved else Position()
        self.resumed_at = self.at.update
        self._cut_curve()
        self._spent()
        held = HeldOut(self.folder, self.model, self.loss, self.held_out, self._batches, s.patience)
        clock, last = time.monotonic() - self.at.seconds, time.monotonic()
        self.model.train()
        while self.at.update < len(self.updates) and not held.enough(self.at):
            due = self._update(self.at.update, last)
            self.at.seconds = time.monotonic() - clock
            measured = held.measure(self.at) if self._ends(s.evaluate_every) else {}
            if self._ends(s.log_every) or measured:
                self._log(measured)
            if due:
                save_checkpoint(self.folder / "checkpoints", self.identity, self.model, self.optimizers, self._state())
                last = time.monotonic()
        held.take_best(self.at)
        self.at.cpu_seconds += sum(_ranks.summed(self._spent()))
        return self.at

    def _ends(self, every: int) -> bool:
        return self.at.update == len(self.updates) or (bool(every) and self.at.update % every == 0)

    def _documents(self, update: int) -> Sequence[Example]:
        planned = self.updates[update]
        return self.stream.take(update, planned) if self.stream else [self.examples[i] for i in planned]

    def _state(self) -> dict[str, Any]:
        return _plain(self.at) | ({"stream": self.stream.state()} if self.stream else {})

    def _batches(self, documents: Sequence[Example], planned: int) -> Iterator[MicroBatch | None]:
        """Yield the micro-batches of this process; None where it waits for another one."""
        mine = self.loss.deal(documents, planned, whole=self.split is not None)
        if self.split:
            rows = self.split(mine)
        else:
            rows = micro_batches(mine, width=self.settings.width, micro_tokens=self.settings.micro_tokens)
        for batch in self.loss.turns(rows):
            yield None if batch is None else collate(batch, self.pad, self.device)

    def _update(self, update: int, last: float) -> bool:
        """Do one update; return whether a checkpoint is due, the last having been at `last`."""
        import torch

        s = self.settings
        documents = self._documents(update)
        # counted after the documents are made: a rollout's length is not known before (trl#5653)
        trained = sum(sum(e.trained[1:]) for e in documents)
        count = self.weigh(documents) if self.weigh else trained
        total = 0.0
        for batch in self._batches(documents, len(self.updates[update])):
            loss = self.loss(batch)
            (loss / (count / self.loss.world)).backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        total, due, cpu = _ranks.summed(total, _ranks.first() and self._due(update + 1, last), self._spent())
        self._refuse_nan(total, update)
        if s.clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), s.clip)
        set_learning_rate(self.optimizers, s.learning_rate * self._factor(update))
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.at.update = update + 1
        self.at.loss += total
        self.at.count += count
        self.at.trained_tokens += trained
        self.at.tokens += sum(len(e.ids) for e in documents)
        self.at.cpu_seconds += cpu
        return bool(due)

    def _spent(self) -> float:
        """Return the CPU time since the last call."""
        before, self._cpu = self._cpu, time.process_time()
        return self._cpu - before

    def _factor(self, update: int) -> float:
        return factor(update, len(self.updates), warmup=self.settings.warmup, minimum_ratio=self.settings.minimum_ratio)

    def _refuse_nan(self, total: float, update: int) -> None:
        if total != total or total == float("inf"):
            raise StepError(
                f"The loss of update {update + 1} is not a number; the learning rate {self.settings.learning_rate:g} is "
                "probably too high. The checkpoint before it is kept."
            )

    def _log(self, measured: dict[str, float]) -> None:
        mean = self.at.loss / max(1, self.at.count)
        rate = self.settings.learning_rate * self._factor(self.at.update - 1)
        line = {"update": self.at.update, "loss": round(mean, 6), "lr": rate, "tokens": self.at.tokens}
        more = measured | (self.stream.noted() if self.stream else {})
        line |= {name: round(value, 6) for name, value in more.items()}
        text = json.dumps(line | {"seconds": round(self.at.seconds, 3)}) + "\n"
        if _ranks.first():
            with self._curve.open("a", encoding="utf-8") as file:
                file.write(text)
            self.note(self.at.update, len(self.updates), f"loss {mean:.3f}")
        self.at.curve_bytes += len(text.encode())
        self.at.first_loss = mean if self.at.first_loss is None else self.at.first_loss
        self.at.last_loss, self.at.loss, self.at.count = mean, 0.0, 0

    def _due(self, update: int, last: float) -> bool:
        every, seconds = self.settings.checkpoint_updates, self.settings.checkpoint_seconds
        if every and update % every == 0:
            return True
        return bool(seconds) and time.monotonic() - last >= seconds

    def _cut_curve(self) -> None:
        # lines written after the checkpoint belong to updates that are done again
        if _ranks.first():
            with self._curve.open("a+b") as file:
                file.truncate(self.at.curve_bytes)

    @property
    def _curve(self) -> Path:
        return self.folder / "curve.jsonl"


def _plain(at: Position) -> dict[str, Any]:
    return {name: getattr(at, name) for name in Position.__slots__}
