"""The processes that train one student together, and the little that they say to each other.

    process 0 of 2   dealt([p0, p1, p2], write) writes p0 and p2 ┐
    process 1 of 2                              writes p1        ┘ both return [w0, w1, w2]

Every process holds all rows, draws the same plan and knows all documents of an update, so most of what they must agree on
needs no message. What is said goes over gloo, also beside GPUs: sums of a few numbers, and documents as plain values. In
a process that trains alone nothing is said and nothing of torch is loaded.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def together() -> bool:
    """Say whether this process is one of a group (also a group of one) that `join` has formed."""
    torch = sys.modules.get("torch")
    return bool(torch and torch.distributed.is_available() and torch.distributed.is_initialized())


def world() -> int:
    """Return how many processes train together; 1 where this one trains alone."""
    if not together():
        return 1
    import torch.distributed as dist

    return dist.get_world_size()


def rank() -> int:
    """Return which of them this one is, from 0."""
    if not together():
        return 0
    import torch.distributed as dist

    return dist.get_rank()


def first() -> bool:
    """Say whether this is the one process that writes files."""
    return rank() == 0


def join() -> None:
    """Become one of the processes that torchrun has started, on the GPU of its own where there are any."""
    import torch
    import torch.distributed as dist

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("cpu:gloo,cuda:nccl")
    else:
        dist.init_process_group("gloo")


def leave() -> None:
    """Leave the group when all have come to this point."""
    if together():
        import torch.distributed as dist

        dist.barrier()
        dist.destroy_process_group()


def gathered(value: Any) -> list[Any]:
    """Return what each process has said, in their order; plain values only."""
    if world() == 1:
        return [value]
    import torch.distributed as dist

    found: list[Any] = [None] * world()
    dist.all_gather_object(found, value)
    return found


def summed(*values: float) -> list[float]:
    """Return the sums over all processes, in 64 bits; the same on each."""
    if world() == 1:
        return list(values)
    import torch
    import torch.distributed as dist

    told = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(told)
    return [float(value) for value in told]


def most(value: int) -> int:
    """Return the largest of what the processes have said."""
    if world() == 1:
        return value
    import torch
    import torch.distributed as dist

    told = torch.tensor(value)
    dist.all_reduce(told, op=dist.ReduceOp.MAX)
    return int(told)


def totals(sums: Mapping[str, float]) -> dict[str, float]:
    """Return named sums added up over all processes, the same on each.

    >>> totals({"pairs": 8.0})
    {'pairs': 8.0}
    """
    found: dict[str, float] = {}
    for part in gathered(dict(sums)):
        for name, value in part.items():
            found[name] = found.get(name, 0.0) + value
    return found


def dealt(items: Sequence[Any], work: Callable[[Sequence[Any]], Sequence[Any]]) -> list[Any]:
    """Return `work(items)`, one result for each item, every process doing its share of them."""
    if world() == 1:
        return list(work(items))
    parts = gathered(list(work(items[rank() :: world()])))
    return [parts[place % world()][place // world()] for place in range(len(items))]
