"""Checkpoints: everything that training is made of, so that a killed run goes on bit for bit as if it had not been.

    checkpoints/update-00000120.pt     model, optimisers, update (the position of sampler and schedule), all random
                                       generators, the running averages, and how much of curve.jsonl was written

A checkpoint is written under another name, flushed, and renamed; the one before is deleted only then. It carries the
identity of what is being trained (settings, documents, initial weights): a checkpoint of anything else is never used.
It is read with `weights_only=True`: tensors and plain values, no code.
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

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
    """Write a checkpoint of model, optimisers, generators and `state` (plain values, with `update`); delete older ones."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "identity": identity,
        "model": model.state_dict(),
        "optimizers": [o.state_dict() for o in optimizers],
        "random": _generators(),
        "state": dict(state),
    }
    path = folder / f"update-{state['update']:08d}.pt"
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
        if content["identity"] != identity:
            continue
        model.load_state_dict(content["model"])
        for optimizer, saved in zip(optimizers, content["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        _restore(content["random"])
        return dict(content["state"])
    return None


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
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def _restore(saved: Mapping[str, Any]) -> None:
    import torch

    torch.set_rng_state(saved["torch"])
    random.setstate((3, tuple(saved["python"]), None))
    name, keys, position, has_gauss, gauss = saved["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, gauss))
    if "cuda" in saved and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(saved["cuda"])
