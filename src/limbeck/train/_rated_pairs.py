"""Pairs on their way to a reward model: both sides in one micro-batch, and the loss on the difference of their rewards.

    pair     chosen 41 tokens, rejected 44, apart .6 (the difference of the scores that made the pair)
    rewards  1.3 and .2:    loss = -log sigmoid(1.3 - .2 - margin * .6) + center * (1.3 + .2)^2

A micro-batch has a row for each side: chosen, rejected, chosen, rejected ...
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from limbeck.train._classifiers import values_of
from limbeck.train._sums import Sums
from limbeck.train.examples import Example
from limbeck.train.packing import MicroBatch
from limbeck.train.student import LoadedStudent

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class RatedPair:
    """Two documents, of which the first is better, and by how much whoever made the pair found it better."""

    row: str
    chosen: Example
    rejected: Example
    apart: float = 0.0


@dataclass(slots=True)
class RatedPairs:
    """A stream of pairs (`loop.Stream`), and their loss."""

    model: LoadedStudent
    pairs: Sequence[RatedPair]
    margin: float
    center: float
    micro_tokens: int
    sums: Sums = field(default_factory=Sums)
    apart: dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
        self.apart = {pair.row: pair.apart for pair in self.pairs}

    def take(self, update: int, planned: Sequence[int]) -> Sequence[Example]:
        """Return both sides of each planned pair, chosen first."""
        return [side for i in planned for side in (self.pairs[i].chosen, self.pairs[i].rejected)]

    def split(self, documents: Sequence[Example]) -> list[list[list[Example]]]:
        """Split documents into micro-batches of whole pairs, the longest first."""
        pairs = [documents[i : i + 2] for i in range(0, len(documents), 2)]
        pairs.sort(key=lambda pair: -max(len(side.ids) for side in pair))
        batches: list[list[list[Example]]] = []
        room = 0
        for pair in pairs:
            widest = max(len(side.ids) for side in pair)
            if room < 2:  # the first pair of a micro-batch is its widest
                batches.append([])
                room = max(2, self.micro_tokens // widest)
            batches[-1] += [[side] for side in pair]
            room -= 2
        return batches

    def loss(self, batch: MicroBatch) -> torch.Tensor:
        """Return the loss of the pairs of a micro-batch, summed."""
        import torch
        import torch.nn.functional as F

        rewards_P2 = values_of(self.model, batch).view(-1, 2)
        apart_P = torch.tensor([self.apart[d.row] for d in batch.documents[::2]], device=rewards_P2.device)
        gained_P = rewards_P2[:, 0] - rewards_P2[:, 1]
        self._note(gained_P.detach())
        loss = -F.logsigmoid(gained_P - self.margin * apart_P).sum()
        return loss + self.center * rewards_P2.sum(1).square().sum() if self.center else loss

    def noted(self) -> dict[str, float]:
        """Return the means over the pairs since the last line."""
        return self.sums.means("pairs")

    def state(self) -> dict[str, Any]:
        """Return the sums; the pairs themselves are the same in every run."""
        return self.sums.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.sums.restore(state)

    def _note(self, gained_P: torch.Tensor) -> None:
        accuracy = (gained_P > 0).float().sum().item()
        self.sums.add(pairs=len(gained_P), accuracy=accuracy, difference=gained_P.sum().item())
