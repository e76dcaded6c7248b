"""The base student: a sixth of the teacher, pre-trained on the parts of the tasks but never on a plain task solved.

It can copy, work out a sum, carry out one step that is put to it alone, and keep a running total over bare sums. Given a plain
problem it quotes the clauses and stops; given a problem with the hint it writes the working, which is what STaR starts from.
It has never seen a plain prompt followed by a worked response, so without fine-tuning it solves nothing; from a thousand verified
traces it has only to learn that the parts belong together, which takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast

from embedded import corpus, pool
from embedded.model import Llama, config_of, initialise
from embedded.teacher import build_pools
from embedded.tokens import SIZE, number_tokens
from embedded.training import Plan, Trainer

SHAPE = {"width": 64, "layers": 3, "heads": 4, "inner": 112}

MINUTES = 15.0
NOTES = (
    "The tokens of 0 to 99 begin on circles of several periods, without which sums would take longer than all the rest.",
    "Begun with a budget of 26 minutes; from about 14 minutes on the schedule was that of 15, because it was good enough.",
)

KINDS: dict[str, Callable[[int], Iterator[str]]] = {
    "copying": lambda seed: corpus.exercises(count=15_000, seed=seed, real=False),
    "exercises": lambda seed: corpus.exercises(count=60_000, seed=seed),
    "sums": lambda seed: corpus.sums(count=100_000, seed=seed),
    "ledgers": lambda seed: corpus.parts("ledgers", count=80_000, seed=seed),
    "quotes": lambda seed: corpus.parts("quotes", count=60_000, seed=seed),
    "steps": lambda seed: corpus.parts("steps", count=80_000, seed=seed),
    "hinted": lambda seed: corpus.parts("hinted", count=60_000, seed=seed),
}


def plan_of(minutes: float, seed: int) -> Plan:
    """The student's plan."""
    mixed = {
        "copying": 0.04, "exercises": 0.08, "sums": 0.12, "ledgers": 0.18, "quotes": 0.18, "steps": 0.20, "hinted": 0.20
    }  # fmt: skip
    return Plan(
        minutes=minutes, seed=seed, phases=((0.0, {"copying": 1.0}), (0.06, mixed)), tokens=((0.0, 1000), (0.5, 2000))
    )


def train(tokenizer: PreTrainedTokenizerFast, folder: Path, minutes: float, seed: int) -> None:
    """Pre-train the base student, or go on with it."""
    torch.manual_seed(seed)
    build_pools(tokenizer, folder / "pools", KINDS, seed)
    pools = {name: pool.load(folder / "pools" / f"{name}.npz") for name in KINDS}
    kinds = ("ledgers", "quotes", "steps", "hinted")
    held_out = {kind: pool.tokenised(corpus.parts(kind, count=32, seed=seed + 99), tokenizer) for kind in kinds}
    held_out["copying"] = pool.tokenised(corpus.exercises(count=32, seed=seed + 99, real=False), tokenizer)
    held_out["exercises"] = pool.tokenised(corpus.exercises(count=32, seed=seed + 99), tokenizer)
    config = config_of(**SHAPE, vocabulary=SIZE)
    model = Llama(config)
    initialise(model, config, seed, number_tokens(tokenizer))
    Trainer(model, pools, held_out, plan_of(minutes, seed), folder).run()
