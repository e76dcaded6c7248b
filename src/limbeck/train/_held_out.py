"""Documents that are not trained on: their loss is measured now and then, and says when to stop.

    update 40   held_out 0.812   best so far: weights kept in best.pt
    update 60   held_out 0.774   best so far
    update 80   held_out 0.781   1 without a better one
    update 100  held_out 0.803   2: with patience 2 training ends here, with the weights of update 60

Whole groups are held out (all samples of a prompt), and which ones depends on the group's name alone: rows that come and
go do not move others from one side to the other. Without patience nothing but the curve changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck.core.fingerprint import digest
from limbeck.core.row import Row
from limbeck.train import _ranks
from limbeck.train.examples import Example
from limbeck.train.packing import MicroBatch

if TYPE_CHECKING:
    from limbeck.train._spread import Spread
    from limbeck.train.loop import Position

Batches = Callable[[Sequence[Example], int], Iterable[MicroBatch | None]]


def held_out_rows(rows: Sequence[Row], share: float) -> set[str]:
    """Return the ids of the rows to hold out: about `share` of the groups."""
    return {row.id for row in rows if share and int(digest(["held out", row.group or row.id], 4), 16) < share * 2**32}


class HeldOut:
    """Measures the loss of the documents held out, and keeps the best weights where training may end early."""

    def __init__(
        self, folder: Path, model: Any, loss: Spread, documents: Sequence[Example], batches: Batches, patience: int
    ) -> None:
        self._file, self._model, self._loss = folder / "checkpoints" / "best.pt", model, loss
        self._documents, self._batches, self._patience = documents, batches, patience

    def measure(self, at: Position) -> dict[str, float]:
        """Return what the curve says of the documents held out, and note in `at` whether it is the best so far."""
        if not self._documents:
            return {}
        mean = self._mean()
        if at.best_loss is None or mean < at.best_loss:
            at.best_loss, at.best_update, at.measured_since = mean, at.update, 0
            self._keep(at.update)
        else:
            at.measured_since += 1
        return {"held_out": mean}

    def enough(self, at: Position) -> bool:
        """Say whether training has gone on long enough without a better measurement."""
        return bool(self._patience) and at.measured_since >= self._patience

    def take_best(self, at: Position) -> None:
        """Put the best weights into the model, where they are kept."""
        import torch

        if not self._patience or not self._documents or at.best_update == at.update:
            return
        from limbeck.train.checkpoint import put_weights

        kept = torch.load(self._file, weights_only=True, map_location="cpu")
        assert kept["update"] == at.best_update, (kept["update"], at.best_update)
        put_weights(self._model, kept["model"])

    def _mean(self) -> float:
        import torch

        self._model.eval()
        total = 0.0
        with torch.no_grad():
            for batch in self._batches(self._documents, len(self._documents)):
                total += self._loss(batch).item()
        self._model.train()
        return _ranks.summed(total)[0] / sum(sum(e.trained[1:]) for e in self._documents)

    def _keep(self, update: int) -> None:
        import torch

        from limbeck.train.checkpoint import weights_of

        if not self._patience:
            return
        weights = weights_of(self._model)
        if not _ranks.first():
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        writing = self._file.with_suffix(".writing")
        torch.save({"update": update, "model": weights}, writing)
        writing.replace(self._file)
