"""DAgger: the teacher says what it would have done wherever the student has been, and all that is kept for the next round.

    round 1   student writes answers ── teacher's next-token distribution at each token of them ─┐
    round 2   the student of round 1 writes answers ── the same ─────────────────────────────────┼─ train from the start on all
    …                                                                                           ─┘

Dataset aggregation (Ross, Gordon & Bagnell 2011, arXiv 1011.0686) for texts: a state is what has been written so far, the
student's own mistakes included, the expert's action is the teacher's distribution over the next token (`train.distill` with
given prefixes), and the data of all rounds are trained on together, beginning with the teacher's own verified samples. Every
round starts from the same fine-tuned student. The control, "cloning", makes as many updates on the teacher's samples alone:
the states of an expert, who does not go where the student goes.
"""

from __future__ import annotations

from typing import Any

from limbeck.core.recipe import Recipe
from limbeck.core.step import Step
from limbeck.evaluate.compare import Compare
from limbeck.evaluate.run import Run
from limbeck.generate.sample import Sample
from limbeck.score.math import Math
from limbeck.seeds.tasks import Tasks
from limbeck.select.until_pass import UntilPass
from limbeck.train.distill import Distill
from limbeck.train.sft import Sft


def dagger(
    teacher: str = "embedded",
    student: str = "embedded:student",
    problems: int = 300,
    rounds: int = 2,
    sft_updates: int = 60,
    updates: int = 60,
    learning_rate: float = 1e-3,
    students: int = 3,
    test: int = 300,
    seed: int = 0,
) -> Recipe:
    """Let the student write, the teacher label what it wrote, train on the labels of all rounds; compare with cloning."""
    family = ("word_problems", "chains")
    steps: list[Step] = [
        Tasks(name="test", family=family, count=test, split="test", sealed=True, seed=seed),
        Tasks(name="problems", family=family, count=problems, seed=seed),
        Sample(name="samples", teacher=teacher, n=2, temperature=1.0, max_tokens=192, seed=seed),
        Math(name="verdicts"),
        UntilPass(name="expert"),
    ]
    names = ["warm", "cloning", *(f"round-{r}" for r in range(1, rounds + 1))]
    runs: dict[str, list[str]] = {name: [] for name in names}
    for s in range(1, students + 1):
        draw, states = seed + s - 1, ["expert"]
        given: dict[str, Any] = {
            "teacher": teacher,
            "student": f"step:warm-{s}",
            "prefix": "data",
            "divergence": "forward",
        }
        given |= {"updates": updates, "learning_rate": learning_rate, "max_tokens": 192, "seed": draw}
        steps += [
            Sft(name=f"warm-{s}", after="expert", student=student, updates=sft_updates, seed=draw),
            Distill(name=f"cloning-{s}", after="expert", **given),
        ]
        for r in range(1, rounds + 1):
            writer = f"step:warm-{s}" if r == 1 else f"step:round-{r - 1}-{s}"
            wrote = Sample(
                name=f"states-{r}-{s}",
                after="problems",
                teacher=writer,
                temperature=1.0,
                max_tokens=192,
                seed=draw + 100 * r,
            )
            states.append(wrote.name)
            steps += [wrote, Distill(name=f"round-{r}-{s}", after=tuple(states), **given)]
        for name in names:
            run = Run(name=f"eval-{name}-{s}", after="test", model=f"step:{name}-{s}", label=name, max_tokens=192)
            steps.append(run)
            runs[name].append(f"step:{run.name}")
    return Recipe(steps=[*steps, Compare(after="test", arms={name: tuple(found) for name, found in runs.items()})])
