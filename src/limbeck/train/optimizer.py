"""Optimisers and the learning-rate schedule.

`adamw` is Loshchilov & Hutter (1711.05101) with weight decay on matrices only. `muon` is Jordan et al. 2024 (an
orthogonalised momentum step) for the matrices inside the blocks, with AdamW for embeddings, head and norms; its steps are
scaled to AdamW's root-mean-square (Moonlight, 2502.16982), so that one learning rate serves both.

The schedule is linear warm-up, then half a cosine down to `minimum_ratio` of the peak, a pure function of the update:

    factor(0) = 1 / warm-up updates     factor(end of warm-up) = 1     factor(last) -> minimum_ratio
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

OptimizerName = Literal["adamw", "muon"]


def factor(update: int, total: int, *, warmup: float, minimum_ratio: float) -> float:
    """Return the share of the peak learning rate at `update` (from 0) of `total`; `warmup` is a share of `total`.

    >>> [round(factor(u, 10, warmup=0.2, minimum_ratio=0.1), 3) for u in (0, 1, 2, 9)]
    [0.5, 1.0, 0.966, 0.1]
    """
    rising = round(warmup * total)
    if update < rising:
        return (update + 1) / rising
    done = (update - rising + 1) / max(1, total - rising)
    return minimum_ratio + (1 - minimum_ratio) * 0.5 * (1 + math.cos(math.pi * done))


def make_optimizers(
    model: Any, name: OptimizerName, *, learning_rate: float, weight_decay: float, betas: tuple[float, float]
) -> list[torch.optim.Optimizer]:
    """Return the optimisers of a model: one AdamW, or Muon for block matrices and AdamW for the rest."""
    import torch

    blocks, matrices, vectors = _sorted_parameters(model)
    made: list[torch.optim.Optimizer] = []
    if name == "muon":
        made.append(
            torch.optim.Muon(
                blocks, lr=learning_rate, weight_decay=weight_decay, momentum=betas[0], adjust_lr_fn="match_rms_adamw"
            )
        )
        blocks = []
    groups = [
        {"params": blocks + matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    # fused is one pass over memory: with many small tensors the python of a plain step costs more than the step
    made.append(torch.optim.AdamW([g for g in groups if g["params"]], lr=learning_rate, betas=betas, fused=True))
    return made


def set_learning_rate(optimizers: list[torch.optim.Optimizer], rate: float) -> None:
    """Give all parameter groups the learning rate of this update."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate


def _sorted_parameters(model: Any) -> tuple[list[Any], list[Any], list[Any]]:
    """Sort the trainable parameters: matrices inside the blocks, embeddings and head, vectors (norms and biases)."""
    outer = {
        id(layer.weight) for layer in (model.get_input_embeddings(), model.get_output_embeddings()) if layer is not None
    }
    blocks: list[Any] = []
    matrices: list[Any] = []
    vectors: list[Any] = []
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        kind = vectors if parameter.ndim < 2 else matrices if id(parameter) in outer or parameter.ndim > 2 else blocks
        kind.append(parameter)
    return blocks, matrices, vectors
