"""Which rows count, and how much: labels first, reductions by explicit weights.

    labels     -100 -100   12    7          valid rows   2, 3, 4, 5, 6
               -100    3    9    4
    weights, by reduction      row:   2     3     4     5     6
        token_mean                   1/5   1/5   1/5   1/5   1/5
        sequence_mean                1/4   1/4   1/6   1/6   1/6       each sequence's mean, then the mean of those
        sum                           1     1     1     1     1

A row whose label is -100 is left out before anything is computed, so whatever stands in it, NaN too, is never read. With
no valid row the loss is exactly 0 and so is its gradient. The GKD paper averages by sequence, TRL by token: with long
sequences among short ones these are two different objectives.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch

from limbeck.core.errors import UsageError, nearest

Reduction = Literal["token_mean", "sequence_mean", "sum", "none"]
IGNORED = -100
"""The label of a row that is not trained on."""


class Rows:
    """The valid rows of a batch: where they are, what they weigh, and how their values become the loss."""

    def __init__(
        self,
        labels: torch.Tensor,
        reduction: str,
        items: float | torch.Tensor | None = None,
        sequences: torch.Tensor | None = None,
    ) -> None:
        if reduction not in get_args(Reduction):
            raise UsageError(f"There is no reduction '{reduction}'.{nearest(reduction, get_args(Reduction))}")
        if sequences is not None and sequences.shape != labels.shape:
            raise UsageError(
                f"sequences has the shape {tuple(sequences.shape)} and labels {tuple(labels.shape)}; they name the "
                "sequence of each label, so both need the same shape."
            )
        self.shape, self.reduction = labels.shape, reduction
        self.index_R = (labels.reshape(-1) != IGNORED).nonzero().squeeze(1)
        self.labels_R = labels.reshape(-1)[self.index_R].long()
        self._items, self._sequences = items, sequences

    def __len__(self) -> int:
        return len(self.index_R)

    def take(self, values: torch.Tensor, what: str) -> torch.Tensor:
        """Return the valid rows of a tensor of the labels' shape and one more dimension; the tensor itself if all are."""
        if values.shape[:-1] != self.shape:
            raise UsageError(
                f"{what} has the shape {tuple(values.shape)}, but labels has {tuple(self.shape)}; it needs that shape "
                "and one dimension more. No shift is applied: labels[..., i] is what row i predicts."
            )
        flat = values.reshape(-1, values.shape[-1])
        return flat if len(self) == len(flat) else flat.index_select(0, self.index_R)

    def weights_R(self, like: torch.Tensor) -> torch.Tensor:
        """Return the weight of each valid row in the loss (`none` has the weights of `sum`)."""
        weights = torch.ones(len(self), dtype=like.dtype, device=like.device)
        if self.reduction == "token_mean":
            return weights / (max(1, len(self)) if self._items is None else self._items)
        if self.reduction != "sequence_mean":
            return weights
        sequence_R = self._sequence_R()
        _, place_R, length_S = torch.unique(sequence_R, return_inverse=True, return_counts=True)
        count = max(1, len(length_S)) if self._items is None else self._items
        weights /= length_S[place_R]
        return weights / count

    def _sequence_R(self) -> torch.Tensor:
        width = self.shape[-1] if self.shape else 1
        line_R = self.index_R // max(1, width)
        if self._sequences is None:
            return line_R
        named_R = self._sequences.reshape(-1)[self.index_R]
        least = int(named_R.min()) if len(named_R) else 0
        most = int(named_R.max()) if len(named_R) else 0
        return line_R * (most - least + 1) + (named_R - least)

    def reduce(self, values_R: torch.Tensor) -> torch.Tensor:
        """Return the loss from the values of the valid rows; for `none` a tensor like labels, 0 where they are -100."""
        if self.reduction == "none":
            spread = torch.zeros(self.shape.numel(), dtype=values_R.dtype, device=values_R.device)
            return spread.index_copy(0, self.index_R, values_R).reshape(self.shape)
        return (values_R * self.weights_R(values_R)).sum()
