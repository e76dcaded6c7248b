"""Pairs on their way through the training loop: both sides in one micro-batch, and the losses on their difference.

    pair     chosen 41 tokens, 24 of them trained; rejected 44, 27; reference (-3.1, -2.8) nats
    h        (log q(chosen) + 3.1) - (log q(rejected) + 2.8)

A micro-batch holds whole pairs, a row for each side: chosen, rejected, chosen, rejected ... Packed, they stand in that order
within the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from limbeck.train import _ranks
from limbeck.train.examples import Example
from limbeck.train.packing import MicroBatch, collate, rows_of
from limbeck.train.student import LoadedStudent, predicting_logits

if TYPE_CHECKING:
    import torch


@dataclass(slots=True)
class Pair:
    """Two documents with the same beginning, and what the reference gives their ends."""

    row: str
    chosen: Example
    rejected: Example
    reference: tuple[float, float] = (0.0, 0.0)
    """The log-probabilities of the trained tokens of chosen and rejected, summed, in nats."""


@dataclass(slots=True)
class Pairs:
    """A stream of pairs (`loop.Stream`), and their loss."""

    student: LoadedStudent
    pairs: Sequence[Pair]
    kind: Literal["dpo", "ipo"]
    beta: float
    by_length: bool
    micro_tokens: int
    width: int = 0
    """Pack whole pairs into rows of so many tokens; 0 gives each side a row."""
    sums: dict[str, float] = field(default_factory=dict)
    """Since the last line of the curve."""
    by_row: dict[str, Pair] = field(init=False)

    def __post_init__(self) -> None:
        self.by_row = {pair.row: pair for pair in self.pairs}

    def take(self, update: int, planned: Sequence[int]) -> Sequence[Example]:
        """Return both sides of each planned pair, chosen first."""
        return [side for i in planned for side in (self.pairs[i].chosen, self.pairs[i].rejected)]

    def split(self, documents: Sequence[Example]) -> list[list[list[Example]]]:
        """Split documents into micro-batches of whole pairs, the longest first."""
        pairs = [list(documents[i : i + 2]) for i in range(0, len(documents), 2)]
        pairs.sort(key=lambda pair: -max(len(side.ids) for side in pair))
        batches: list[list[list[Example]]] = []
        for rows in self._rows(pairs):
            widest = max(sum(len(e.ids) for e in row) for row in [*(batches[-1] if batches else []), *rows])
            if not batches or (len(batches[-1]) + len(rows)) * widest > self.micro_tokens:
                batches.append([])
            batches[-1] += rows
        return batches

    def _rows(self, pairs: Sequence[list[Example]]) -> list[list[list[Example]]]:
        """Return rows that stay together: the two sides of a pair, or one row into which several pairs are packed."""
        if not self.width:
            return [[[side] for side in pair] for pair in pairs]
        sizes = [sum(len(side.ids) for side in pair) for pair in pairs]
        return [[[side for i in row for side in pairs[i]]] for row in rows_of(sizes, self.width)]

    def loss(self, batch: MicroBatch) -> torch.Tensor:
        """Return the loss of the pairs of a micro-batch, summed."""
        import torch
        import torch.nn.functional as F

        scores_D = document_scores(self.student, batch)
        before = [self.by_row[chosen.row].reference for chosen in batch.documents[::2]]
        change_P2 = scores_D.view(-1, 2) - torch.tensor(before, device=scores_D.device)
        lengths_P2 = torch.tensor([d.targets for d in batch.documents], device=scores_D.device).view(-1, 2)
        margin_P = (change_P2 / lengths_P2 if self.by_length else change_P2).diff(dim=1)[:, 0].neg()
        self._note(change_P2.detach(), margin_P.detach())
        if self.kind == "ipo":
            return (margin_P - 1 / (2 * self.beta)).square().sum()
        return -F.logsigmoid(self.beta * margin_P).sum()

    def noted(self) -> dict[str, float]:
        """Return the means over the pairs since the last line."""
        self.sums = _ranks.totals(self.sums)
        count = self.sums.pop("pairs", 0.0)
        said = {name: value / count for name, value in self.sums.items()} if count else {}
        self.sums = {}
        return said

    def state(self) -> dict[str, Any]:
        """Return the sums; the pairs themselves are the same in every run."""
        found = _ranks.totals(self.sums)
        self.restore({"sums": found})
        return {"sums": found}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.sums = dict(state["sums"]) if _ranks.first() else {}

    def _note(self, change_P2: torch.Tensor, margin_P: torch.Tensor) -> None:
        found = {
            "accuracy": (margin_P > 0).float().sum().item(),
            "margin": margin_P.sum().item(),
            "chosen": change_P2[:, 0].sum().item(),
            "rejected": change_P2[:, 1].sum().item(),
            "pairs": float(len(margin_P)),
        }
        self.sums = {name: self.sums.get(name, 0.0) + value for name, value in found.items()}


def document_scores(model: LoadedStudent, batch: MicroBatch) -> torch.Tensor:
    """Return the log-probability of each document's trained tokens, summed, in the order of `batch.documents`."""
    import torch

    logits_TV = predicting_logits(model, batch).float()
    scores_T = logits_TV.gather(1, batch.targets_T[:, None])[:, 0] - logits_TV.logsumexp(-1)
    counts = torch.tensor([sum(d.trained[1:]) for d in batch.documents], device=scores_T.device)
    places_T = torch.repeat_interleave(torch.arange(len(counts), device=scores_T.device), counts)
    return scores_T.new_zeros(len(counts)).index_add(0, places_T, scores_T)


def scored(
    model: LoadedStudent,
    documents: Sequence[Example],
    micro_tokens: int,
    note: Callable[[int, int, str], None] = lambda done, total, text: None,
) -> list[float]:
    """Return the log-probability of each document's trained tokens, in evaluation mode and without gradients."""
    import torch

    order = sorted(range(len(documents)), key=lambda i: (-len(documents[i].ids), i))
    found = [0.0] * len(documents)
    training = model.model.training
    model.model.eval()
    start = 0
    with torch.no_grad():
        while start < len(order):
            many = max(1, micro_tokens // len(documents[order[start]].ids))
            chosen = order[start : start + many]
            batch = collate([[documents[i]] for i in chosen], model.pad, model.device)
            for i, score in zip(chosen, document_scores(model, batch).tolist(), strict=True):
                found[i] = score
            start += many
            note(min(start, len(order)), len(order), "reference")
    model.model.train(training)
    return found
