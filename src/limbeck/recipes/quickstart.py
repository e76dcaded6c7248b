"""The whole loop in one recipe: is a verified trace worth more than a raw one, and a trace more than an answer?

    problems ── teacher samples N ── verify ┬─ first sample, unverified ──────────── "raw traces"
                                            └─ first that passes ── no duplicates ┬─ "verified traces"
                                                                                  └─ final answers ── "answers only"

One student per arm and training seed, from the same weights, for the same number of updates; all of them, the base and
the teacher are put to the same sealed problems, and every difference is printed with its interval. The design follows
Distilling Step-by-Step (arXiv 2305.02301) for traces against answers and RFT (arXiv 2308.01825) for verified sampling.
"""

from __future__ import annotations

from limbeck.core.recipe import Recipe
from limbeck.core.step import Step
from limbeck.curate.exact import Exact
from limbeck.evaluate.compare import Compare
from limbeck.evaluate.run import Run
from limbeck.generate.answer_only import AnswerOnly
from limbeck.generate.sample import Sample
from limbeck.score.math import Math
from limbeck.seeds.tasks import Tasks
from limbeck.select.first import First
from limbeck.select.until_pass import UntilPass
from limbeck.train.sft import Sft

ARMS = {"answers only": "answers", "raw traces": "raw", "verified traces": "verified"}


def quickstart(
    teacher: str = "embedded",
    student: str = "embedded:student",
    problems: int = 1500,
    samples: int = 4,
    updates: int = 100,
    students: int = 3,
    test: int = 400,
    seed: int = 0,
) -> Recipe:
    """Sample, verify, select, train `students` students per arm, and compare them with the base and the teacher."""
    family = ("word_problems", "chains")
    steps: list[Step] = [
        Tasks(name="test", family=family, count=test, split="test", sealed=True, seed=seed),
        Tasks(name="problems", family=family, count=problems, seed=seed),
        Sample(name="samples", teacher=teacher, n=samples, temperature=1.0, max_tokens=192, seed=seed),
        Math(name="verdicts"),
        First(name="raw", after="verdicts"),
        UntilPass(name="passed", after="verdicts"),
        Exact(name="verified"),
        AnswerOnly(name="answers"),
    ]
    models = {"base": [student]}
    for arm, rows in ARMS.items():
        trained = [
            Sft(name=f"{rows}-student-{s + 1}", after=rows, student=student, updates=updates, seed=seed + s)
            for s in range(students)
        ]
        steps += trained
        models[arm] = [f"step:{s.name}" for s in trained]
    models["teacher"] = [teacher]
    runs = {arm: [_evaluation(arm, i, model) for i, model in enumerate(found)] for arm, found in models.items()}
    steps += [run for found in runs.values() for run in found]
    return Recipe(
        steps=[*steps, Compare(after="test", arms={a: tuple(f"step:{r.name}" for r in f) for a, f in runs.items()})]
    )


def _evaluation(arm: str, index: int, model: str) -> Run:
    return Run(name=f"eval-{arm.replace(' ', '-')}-{index + 1}", after="test", model=model, label=arm, max_tokens=192)
