"""Preference tuning on one's own mistakes: of the student's samples, a right one is preferred over a wrong one.

    problems ── teacher ── verify ── fine-tuned student ── its own samples ── verify ── pairs right over wrong ── DPO

Direct Preference Optimization (Rafailov et al. 2023, arXiv 2305.18290) on pairs that the student made and a verifier judged,
as in the on-policy DPO of Tulu 3 (2411.15124) and the iterated one of Pang et al. 2024 (2404.19733). The control makes
as many updates of fine-tuning on the chosen answers alone: what the rejected ones add is the difference.
"""

from __future__ import annotations

from typing import Any

from limbeck.core.recipe import Recipe
from limbeck.core.step import Step
from limbeck.curate.exact import Exact
from limbeck.evaluate.compare import Compare
from limbeck.evaluate.run import Run
from limbeck.generate.sample import Sample
from limbeck.score.math import Math
from limbeck.seeds.tasks import Tasks
from limbeck.select.pairs import Pairs
from limbeck.select.until_pass import UntilPass
from limbeck.train.preference import Preference
from limbeck.train.sft import Sft

ARMS = {"SFT": "sft", "chosen only": "chosen", "DPO": "dpo"}


def preference(
    teacher: str = "embedded",
    student: str = "embedded:student",
    problems: int = 1500,
    samples: int = 8,
    sft_updates: int = 100,
    updates: int = 60,
    beta: float = 0.1,
    learning_rate: float = 2e-4,
    students: int = 3,
    test: int = 400,
    answers: int = 1,
    seed: int = 0,
) -> Recipe:
    """Fine-tune, sample the student, pair its right answers with its wrong ones, prefer, and compare on sealed problems.

    With `answers` of 2 or more each problem is sampled so often at temperature 1; 1 is greedy.
    """
    asked: dict[str, Any] = {"samples": answers, "temperature": 1.0 if answers > 1 else 0.0, "max_tokens": 192}
    family = ("word_problems", "chains")
    steps: list[Step] = [
        Tasks(name="test", family=family, count=test, split="test", sealed=True, seed=seed),
        Tasks(name="problems", family=family, count=problems, seed=seed),
        Sample(name="samples", teacher=teacher, n=4, temperature=1.0, max_tokens=192, seed=seed),
        Math(name="verdicts"),
        UntilPass(name="passed"),
        Exact(name="verified"),
    ]
    runs: dict[str, list[str]] = {arm: [] for arm in ARMS}
    for s in range(1, students + 1):
        first, draw = f"step:sft-{s}", seed + s - 1
        steps += [
            Sft(name=f"sft-{s}", after="verified", student=student, updates=sft_updates, seed=draw),
            Sample(
                name=f"own-{s}", after="problems", teacher=first, n=samples, temperature=1.0, max_tokens=192, seed=draw
            ),
            Math(name=f"judged-{s}"),
            Pairs(name=f"pairs-{s}"),
            Sft(name=f"chosen-{s}", student=first, updates=updates, learning_rate=1e-3, seed=draw),
            Preference(
                name=f"dpo-{s}",
                after=f"pairs-{s}",
                student=first,
                updates=updates,
                beta=beta,
                learning_rate=learning_rate,
                seed=draw,
            ),
        ]
        for arm, name in ARMS.items():
            run = Run(name=f"eval-{name}-{s}", after="test", model=f"step:{name}-{s}", label=arm, **asked)
            steps.append(run)
            runs[arm].append(f"step:{run.name}")
    return Recipe(steps=[*steps, Compare(after="test", arms={arm: tuple(found) for arm, found in runs.items()})])
