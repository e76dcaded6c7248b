"""The training loop of the embedded models: Muon for the matrices, AdamW for the rest, a schedule driven by the clock.

The learning rate, the mix of documents and the size of a step follow the *fraction of the time budget* that has passed, so that the
long cool-down ends in time however busy the machine is. Accuracy rises mostly in the cool-down: judge nothing before it.

    fraction   0 .. .02        warm-up: pure copying of random words
               .02 .. .10      30 % exercises, easy problems
               .10 .. 1        exercises falling to 10 %, all problems
               .30 .. 1        learning rate falling in a line to 2 %
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from embedded.model import Llama
from embedded.pool import Drawer, Pool, padded

Mix = dict[str, float]
WARM_STEPS = 30


@dataclass(frozen=True)
class Plan:
    """What is fixed before training; kept on the card."""

    minutes: float
    seed: int
    phases: tuple[tuple[float, Mix], ...]
    """From which fraction on which mix; shares between two phases are blended."""
    tokens: tuple[tuple[float, int], ...] = ((0.0, 1000), (0.1, 1600), (0.4, 2400))
    muon: float = 0.02
    adamw: float = 2e-3
    cool_from: float = 0.30
    floor: float = 0.02
    smoothing: float = 0.0
    smooth_from: float = 1.0
    """From which fraction on the labels are smoothed."""


@dataclass
class Progress:
    """What a checkpoint holds besides weights and optimisers."""

    seconds: float = 0.0
    cpu: float = 0.0
    steps: int = 0
    tokens: int = 0


def blended(phases: tuple[tuple[float, Mix], ...], fraction: float) -> Mix:
    """The mix at a fraction: the last phase begun, moving in a line towards the next."""
    place = max(at for at, (begin, _) in enumerate(phases) if begin <= fraction)
    begin, mix = phases[place]
    if place + 1 == len(phases) or set(mix) != set(phases[place + 1][1]):
        return mix
    end, goal = phases[place + 1]
    share = (fraction - begin) / (end - begin)
    return {name: (1 - share) * mix[name] + share * goal[name] for name in mix}


def rate(plan: Plan, fraction: float, steps: int) -> float:
    """The factor on both learning rates."""
    cooled = 1 - (1 - plan.floor) * max(0.0, fraction - plan.cool_from) / (1 - plan.cool_from)
    return min(1.0, (steps + 1) / WARM_STEPS) * max(plan.floor, cooled)


def optimisers(model: Llama, plan: Plan) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for embedding and norms."""
    named = dict(model.named_parameters())
    matrices = [weight for name, weight in named.items() if weight.dim() == 2 and "embed" not in name]
    others = [weight for name, weight in named.items() if weight.dim() != 2 or "embed" in name]
    return [
        torch.optim.Muon(matrices, lr=plan.muon, weight_decay=0.01),
        torch.optim.AdamW(others, lr=plan.adamw, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]


@torch.no_grad()
def right_tokens(model: Llama, pool: Pool, count: int = 32) -> float:
    """The share of response tokens that are the model's first choice: a cheap look at progress."""
    ids, labels = padded([pool.document(place) for place in range(count)])
    guesses = (model.hidden(ids[:, :-1]) @ model.model.embed_tokens.weight.T).argmax(-1)
    wanted = labels[:, 1:] >= 0
    return float((guesses == labels[:, 1:])[wanted].float().mean())


class Trainer:
    """One training run, which goes on from its checkpoint if there is one."""

    def __init__(
        self, model: Llama, pools: dict[str, Pool], held_out: dict[str, Pool], plan: Plan, folder: Path
    ) -> None:
        self.model, self.plan, self.folder, self.held_out = model, plan, folder, held_out
        self.optimisers = optimisers(model, plan)
        self.progress = Progress()
        if (folder / "checkpoint.pt").exists():
            self._restore()
        self.drawer = Drawer(pools, plan.seed + self.progress.steps)
        self.saved = self.logged = self.progress.seconds
        self.losses: list[float] = []

    def run(self) -> Progress:
        """Train until the time is up."""
        end = self.plan.minutes * 60
        while self.progress.seconds < end:
            fraction = self.progress.seconds / end
            tokens = [size for begin, size in self.plan.tokens if begin <= fraction][-1]
            for ids, labels in self.drawer.batches(blended(self.plan.phases, fraction), tokens, count=12):
                self._step(ids, labels, min(1.0, self.progress.seconds / end))
            self._report(end)
        self._save()
        return self.progress

    def _step(self, ids: Tensor, labels: Tensor, fraction: float) -> None:
        """One optimiser step."""
        begun, cpu = time.monotonic(), time.process_time()
        factor = rate(self.plan, fraction, self.progress.steps)
        smoothing = self.plan.smoothing if fraction >= self.plan.smooth_from else 0.0
        loss = self.model.loss(ids, labels, smoothing)
        loss.backward()  # type: ignore[no-untyped-call]
        for optimiser, base in zip(self.optimisers, (self.plan.muon, self.plan.adamw), strict=True):
            optimiser.param_groups[0]["lr"] = base * factor
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.losses.append(loss.item())
        self.progress.steps += 1
        self.progress.tokens += int((ids != 0).sum())
        self.progress.seconds += time.monotonic() - begun
        self.progress.cpu += time.process_time() - cpu

    def _report(self, end: float) -> None:
        """Write a line every half minute and a checkpoint every two minutes."""
        done = self.progress
        if done.seconds - self.logged >= 30:
            self.logged = done.seconds
            right = {name: round(right_tokens(self.model, pool), 3) for name, pool in self.held_out.items()}
            print(
                f"{done.seconds:.0f}s {done.seconds / end:.3f} step {done.steps} tokens {done.tokens / 1e6:.2f}M "
                f"{done.tokens / done.seconds:.0f}/s loss {sum(self.losses) / len(self.losses):.4f} right {right}",
                flush=True,
            )
            self.losses = []
        if done.seconds - self.saved >= 120:
            self.saved = done.seconds
            self._save()

    def _save(self) -> None:
        """Write the checkpoint; it appears whole or not at all."""
        state: dict[str, Any] = {
            "model": self.model.state_dict(), "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "progress": asdict(self.progress),
        }  # fmt: skip
        part = self.folder / "checkpoint.part"
        torch.save(state, part)
        part.rename(self.folder / "checkpoint.pt")

    def _restore(self) -> None:
        """Go on from the checkpoint."""
        state = torch.load(self.folder / "checkpoint.pt", weights_only=True)
        self.model.load_state_dict(state["model"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.progress = Progress(**state["progress"])
