"""Checkpoints: everything that training is made of, so that a killed run goes on bit for bit as if it had not been.

    checkpoints/update-00000120.pt     model, optimisers, update (the position of sampler and schedule), all random
                                       generators, the running averages, and how much of curve.jsonl was written

A checkpoint is written under another name, flushed, and renamed; the one before is deleted only then. It carries the
identity of what is being trained (settings, documents, initial weights): a checkpoint of anything else is never used.
It is read with `weights_only=True`: tensors and plain values, no code.

Of a model of which only an adapter is trained, only the adapter is kept: the rest is in the initial weights. Where several
processes train, the first writes; it keeps the random generators of all, and of sharded weights the whole ones, so that
another number of processes can take a checkpoint up (then equal up to rounding; sharded ones stay sharded).
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from limbeck.train import _ranks

if TYPE_CHECKING:
    import torch

PATTERN = "update-*.pt"


def save_checkpoint(
    folder: Path,
    identity: str,
    model: torch.nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    state: Mapping[str, Any],
) -> Path:
    """Write a checkpoint of model, optimisers, generators and `state` (plain values, with `update`); delete older ones.

    All processes call it; the first one writes.
    """
    import torch

    weights, steps = weights_of(model), _steps_of(model, optimizers)
    content = {
        "identity": identity,
        "sharded": _sharded(model),
        "model": weights,
        "optimizers": steps,
        "random": _ranks.gathered(_generators()),
        "state": dict(state),
    }
    path = folder / f"update-{state['update']:08d}.pt"
    if not _ranks.first():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    writing = path.with_suffix(".writing")
    with writing.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    writing.replace(path)
    for old in folder.glob(PATTERN):
        if old != path:
            old.unlink()
    return path


def load_checkpoint(
    folder: Path, identity: str, model: torch.nn.Module, optimizers: Sequence[torch.optim.Optimizer]
) -> dict[str, Any] | None:
    """Put the newest checkpoint of this identity into model, optimisers and generators; return its `state`, or None."""
    import torch

    for path in sorted(folder.glob(PATTERN), reverse=True):
        content = torch.load(path, weights_only=True, map_location="cpu")
        if content["identity"] != identity or content["sharded"] != _sharded(model):
            continue
        put_weights(model, content["model"])
        _put_steps(model, optimizers, content["optimizers"])
        # with other processes than wrote it: each has generators of its own still, if not those it would have had
        saved = content["random"]
        if _ranks.rank() < len(saved):
            _restore(saved[_ranks.rank()])
        return dict(content["state"])
    return None


def weights_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the trained weights of a model; whole ones, also where they are sharded. All processes call it."""
    still = {name for name, p in model.named_parameters(remove_duplicate=False) if not p.requires_grad}
    return {name: tensor for name, tensor in all_weights(model).items() if name not in still}


def all_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return all weights of a model, as `state_dict`; whole ones in the first process, where they are sharded."""
    if not _sharded(model):
        return dict(model.state_dict())
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    found: dict[str, Any] = dict(get_model_state_dict(model, options=options))
    names: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        first = names.setdefault(id(parameter), name)
        if name in found:  # tied weights stay one tensor, and are written once
            found[name] = found[first]
    return found


def put_weights(model: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Put what `weights_of` gave into a model; what is not trained stays as it is."""
    if _sharded(model):
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

        options = StateDictOptions(full_state_dict=True, strict=False)
        set_model_state_dict(model, dict[str, Any](weights), options=options)
        return
    found = model.load_state_dict(weights, strict=False)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert not found.unexpected_keys and not trained & set(found.missing_keys), found


def _steps_of(model: torch.nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> Any:
    if not _sharded(model):
        return [o.state_dict() for o in optimizers]
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return get_optimizer_state_dict(model, optimizers, options=options)


def _put_steps(model: torch.nn.Module, optimizers: Sequence[torch.optim.Optimizer], steps: Any) -> None:
    if not _sharded(model):
        for optimizer, saved in zip(optimizers, steps, strict=True):
            optimizer.load_state_dict(saved)
        return
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict

    set_optimizer_state_dict(model, optimizers, steps, options=StateDictOptions(full_state_dict=True))


def _sharded(model: torch.nn.Module) -> bool:
    if not _ranks.together():
        return False
    from limbeck.train._spread import is_sharded

    return is_sharded(model)


def seed_generators(seed: int) -> None:
    """Start all random generators from the seed (dropout draws from torch's)."""
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _generators() -> dict[str, Any]:
    import torch

    name, keys, position, has_gauss, gauss = np.random.get_state()
    state = {
        "torch": torch.get_rng_state(),
        "python": list(random.getstate()[1]),
        "numpy": [str(name), [int(k) for k in keys], int(position), int(has_gauss), float(gauss)],
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _restore(saved: Mapping[str, Any]) -> None:
    import torch

    torch.set_rng_state(saved["torch"])
    random.setstate((3, tuple(saved["python"]), None))
    name, keys, position, has_gauss, gauss = saved["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, gauss))
    if "cuda" in saved and torch.cuda.is_available():
        torch.cuda.set_rng_state(saved["cuda"])
