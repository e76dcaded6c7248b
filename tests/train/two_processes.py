"""The same training steps on one process, or on those that torchrun has started: what test_train_processes compares.

torchrun --nproc-per-node 2 two_processes.py OUT BASE TEACHER
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tiny_students import Here, copying

from limbeck.core.row import Row

STEP = {"student": "embedded:student", "updates": 6, "learning_rate": 1e-3, "log_every": 2}
KILLED = {**STEP, "updates": 40, "batch_tokens": 400, "checkpoint_every": "7", "student": "hf:DROPOUT"}


@dataclass
class Two(Here):
    """A context that knows a teacher, too, and a base with dropout."""

    teacher: Path | None = None

    def model(self, spec: str) -> Path:
        if spec == "embedded":
            return self.teacher
        return self.student.with_name("dropout") if spec == "hf:DROPOUT" else super().model(spec)


def cases() -> dict[str, tuple[Any, Sequence[Row]]]:
    """Name: a step and its rows."""
    from limbeck.train.distill import Distill
    from limbeck.train.preference import Preference
    from limbeck.train.reward import Reward
    from limbeck.train.sft import Sft

    rows = copying(40)
    prompts = [replace(row, messages=row.messages[:1], task={"reference": row.response}) for row in rows]
    wrong = {"rejected": [{"role": "assistant", "content": "It is red today."}], "pair": {"shared": 1}}
    pairs = [replace(row, extra=wrong) for row in rows]
    return {
        # several micro-batches a process, and a last update of few documents
        "sft": (Sft(batch_tokens=400, micro_tokens=60, hold_out=0.2, evaluate_every=2, **STEP | {"updates": 0}), rows),
        "a document an update": (Sft(batch_tokens=1, **STEP), rows),
        "data": (Distill(teacher="embedded", batch=7, prefix="data", divergence="forward", **STEP), rows),
        "on-policy": (Distill(teacher="embedded", batch=8, max_tokens=12, refresh=2, **STEP), prompts),
        "reward": (
            Distill(teacher="embedded", batch=8, samples=4, reward="score.exact", max_tokens=12, kl=0.5, **STEP),
            prompts,
        ),
        "preference": (Preference(batch=7, micro_tokens=64, lora_rank=4, **STEP), pairs),
        "reward model": (Reward(batch=7, micro_tokens=64, **STEP), pairs),
    }


def run(step: Any, rows: Sequence[Row], out: Path, base: Path, teacher: Path) -> None:
    """Run a step in a folder of its own; every process calls it."""
    out.mkdir(parents=True, exist_ok=True)
    returned = list(step.make(list(rows), Two(out, base, teacher=teacher)))
    assert returned == list(rows)


def check_sharding(base: Path) -> None:
    """Weights are halves, whole while they are gathered, and halves again."""
    import torch
    from torch.distributed.tensor import DTensor

    from limbeck.train._spread import Spread, gathered_weights
    from limbeck.train.student import load_student

    model = load_student(base).model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def halves() -> bool:
        found = list(model.parameters())
        return all(isinstance(p, DTensor) and p.to_local().numel() * 2 == p.numel() for p in found)

    spread = Spread(model, lambda batch: torch.zeros(()), shard=True)
    assert spread.sharded and halves()
    with gathered_weights(model):
        assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert halves()


def main() -> None:
    import torch

    from limbeck.train import _ranks
    from limbeck.train.sft import Sft

    torch.set_num_threads(1)
    out, base, teacher = map(Path, sys.argv[1:])
    _ranks.join()
    assert (_ranks.world(), _ranks.rank()) == (2, int(os.environ["RANK"]))
    assert _ranks.dealt("abc", lambda mine: [f"{letter}{_ranks.rank()}" for letter in mine]) == ["a0", "b1", "c0"]
    check_sharding(base)
    for shard in (False, True):
        for name, (step, rows) in cases().items():
            changed = type(step)(**step.fields() | {"shard": shard})
            run(changed, rows, out / f"{name}{' in shards' * shard}", base, teacher)
    run(Sft(**KILLED), copying(100), out / "dropout", base, teacher)
    _ranks.leave()


if __name__ == "__main__":
    main()
