"""Answers only: the control of every trace-distillation claim. The student is trained on the bare final answers.

The comparison of Distilling Step-by-Step (Hsieh et al. 2023, arXiv 2305.02301) and Orca (arXiv 2306.02707): the same
prompts, the same verified teacher answers, the same number of updates, but without the working.
"""

from __future__ import annotations

from limbeck.core.recipe import Recipe
from limbeck.evaluate.compare import Compare
from limbeck.evaluate.run import Run
from limbeck.generate.answer_only import AnswerOnly
from limbeck.generate.sample import Sample
from limbeck.score.math import Math
from limbeck.seeds.tasks import Tasks
from limbeck.select.until_pass import UntilPass
from limbeck.train.sft import Sft


def answers_only(
    teacher: str = "embedded",
    student: str = "embedded:student",
    problems: int = 1500,
    samples: int = 4,
    updates: int = 100,
    test: int = 300,
    seed: int = 0,
) -> Recipe:
    """Train one student on verified traces and one on their bare answers, and compare them on sealed problems."""
    family = ("word_problems", "chains")
    steps = [
        Tasks(name="test", family=family, count=test, split="test", sealed=True, seed=seed),
        Tasks(name="problems", family=family, count=problems, seed=seed),
        Sample(teacher=teacher, n=samples, max_tokens=192, seed=seed),
        Math(),
        UntilPass(name="traces"),
        AnswerOnly(name="answers"),
        Sft(name="student-answers", after="answers", student=student, updates=updates, seed=seed),
        Sft(name="student-traces", after="traces", student=student, updates=updates, seed=seed),
        Run(name="eval-answers", after="test", model="step:student-answers", label="answers only"),
        Run(name="eval-traces", after="test", model="step:student-traces", label="traces"),
        Compare(after="test", arms={"answers only": ("step:eval-answers",), "traces": ("step:eval-traces",)}),
    ]
    return Recipe(steps=steps)
