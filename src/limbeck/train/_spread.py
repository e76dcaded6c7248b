"""One student on several processes: whole copies (DDP), or a part of each weight in every process (FSDP2).

    update of 6 documents, 2 processes      deal      process 0: 41 + 20 + 19 tokens    process 1: 35 + 30 + 17
    micro-batches                           turns     process 0: [41 20] [19]           process 1: [35 30 17] and an idle turn
    loss of a micro-batch                   summed over its trained tokens / (trained tokens of all processes / processes)

Averaging the gradients of the processes then gives that of one process that had the whole update, for any number of
processes (trl#4719 is the usual fault: each process divides by its own count). The loss is computed *inside* the forward
of one module, so that the hooks of DDP and FSDP see it, with student and teacher both under that module: a teacher that
is not is left out of the sharding and does not fit (trl#2580). Losses themselves know nothing of all this.

torch's own `DistributedDataParallel` and `fully_shard` are used as they are; accelerate is not in between, because it does
not shard on CPUs, where this is tested.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from limbeck.core.errors import StepError, UsageError
from limbeck.train import _ranks
from limbeck.train.examples import Example
from limbeck.train.packing import MicroBatch

Loss = Callable[[MicroBatch], torch.Tensor]
"""The loss of a micro-batch summed over its trained tokens."""
Rows = list[list[Example]]

_SHARDED: dict[torch.nn.Module, torch.nn.Module] = {}
"""The module over which a model is sharded, by model; for as long as the process, which trains once."""


class Forward(torch.nn.Module):
    """The loss as a module's forward; the models that it needs stand beneath."""

    def __init__(self, models: Sequence[torch.nn.Module], loss: Loss) -> None:
        super().__init__()
        self.models = torch.nn.ModuleList(models)
        self._loss = loss

    def forward(self, batch: MicroBatch | None) -> torch.Tensor:
        """Return the summed loss; of no batch zero, from all weights, so that every process does the same steps."""
        if batch is not None:
            return self._loss(batch)
        token = torch.zeros(1, 1, dtype=torch.long, device=next(self.models[0].parameters()).device)
        idle = [model(input_ids=token, use_cache=False).logits.float().sum() for model in self.models]
        return torch.stack(idle).sum() * 0.0


class Spread:
    """The forward of a training run, on as many processes as there are."""

    def __init__(self, student: Any, loss: Loss, *, frozen: Sequence[Any] = (), shard: bool = False) -> None:
        self.world, self.sharded = _ranks.world(), shard and _ranks.world() > 1
        bare = Forward([student, *frozen], loss)
        self.module: Any = bare
        if self.sharded:
            self.module = _shard(bare)
        elif self.world > 1:
            # buffers are computed and not trained; copying them for every micro-batch would be in vain
            self.module = DistributedDataParallel(bare, forward_sync_buffers=False)

    def deal(self, documents: Sequence[Example], planned: int, *, whole: bool) -> list[Example]:
        """Return this process's documents of an update of `planned` places, so that all have about as many tokens.

        `whole` keeps the documents of one place together, such as the two sides of a pair.
        """
        if self.world == 1:
            return list(documents)
        size = len(documents) // planned if whole else 1
        if not size or len(documents) % size:
            raise StepError(f"{len(documents)} documents of {planned} places can not be shared between processes.")
        units = [documents[start : start + size] for start in range(0, len(documents), size)]
        weights = [sum(len(e.ids) for e in unit) for unit in units]
        mine = _shares(weights, self.world)[_ranks.rank()]
        return [document for place in mine for document in units[place]]

    def turns(self, batches: Sequence[Rows]) -> Iterator[Rows | None]:
        """Yield the micro-batches of this process, and None for as many turns more as the busiest process takes."""
        count = _ranks.most(len(batches))
        for turn in range(count):
            alone = turn + 1 < count and self.world > 1 and not self.sharded
            # copies are averaged once an update; shards after each turn, since whole gradients would not fit
            with self.module.no_sync() if alone else nullcontext():
                yield batches[turn] if turn < len(batches) else None

    def __call__(self, batch: MicroBatch | None) -> torch.Tensor:
        """Return the summed loss of a micro-batch, None being an idle turn."""
        loss: torch.Tensor = self.module(batch)
        if self.sharded and not torch.is_grad_enabled():
            self.module.reshard()  # a backward pass does; without one the whole weights would stay, and grow stale
        return loss


def _shares(weights: Sequence[int], many: int) -> list[list[int]]:
    """Deal places out, the heaviest first, each to whom has least so far; within a share in their own order.

    >>> _shares([5, 3, 4, 6], 2)
    [[1, 3], [0, 2]]
    """
    shares: list[list[int]] = [[] for _ in range(many)]
    loads = [0] * many
    for place in sorted(range(len(weights)), key=lambda i: (-weights[i], i)):
        least = min(range(many), key=lambda r: (loads[r], r))
        shares[least].append(place)
        loads[least] += weights[place]
    return [sorted(share) for share in shares]


def _shard(bare: Forward) -> Any:
    """Shard each block of each model, and the rest (embeddings, head) over the forward itself, where losses read it."""
    from torch.distributed.fsdp import fully_shard  # takes most of a second, so not at the top

    for model in bare.models:
        for block in _blocks(model):
            fully_shard(block)
        _SHARDED[model] = bare
    fully_shard(bare)
    with torch.no_grad():  # whichever module is called first becomes the root: it must be this one
        bare(None)
    bare.reshard()  # type: ignore[operator]
    return bare


def _blocks(model: Any) -> Sequence[torch.nn.Module]:
    """Return the layers of a transformer: its first list of modules that are alike."""
    lists = [m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len({type(b) for b in m}) == 1]
    if not lists:
        raise UsageError(
            f"{type(model).__name__} shows no list of layers, so it can not be cut into shards; leave shard out."
        )
    return list(lists[0])


@contextmanager
def gathered_weights(model: Any) -> Iterator[None]:
    """Within, the weights of a sharded model are whole in every process, for generation; others are left as they are."""
    root = _SHARDED.get(model)
    if root is None:
        yield
        return
    parts: list[Any] = [root, *_blocks(model)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.set_reshard_after_forward(part is not root, recurse=False)
            part.reshard()


def is_sharded(model: Any) -> bool:
    """Say whether a model's weights are spread over processes."""
    return model in _SHARDED
