"""Explanation tuning, after Orca (Mukherjee et al. 2023, arXiv 2306.02707).

Each prompt is put to the teacher under a system message drawn from a bank ("step by step, with a reason for each step",
"as if to a child", ...), so that the teacher explains itself in many ways; the student is trained on <system, prompt,
explanation>, with the loss on the response only. The bank is in our own words. Answers are verified before training,
which Orca did not do; `verify=False` gives the paper's recipe. The student is evaluated twice: on the bare prompts, and
under one of the system messages it was trained with; the distance between the two is a prompt shift.
"""

from __future__ import annotations

from limbeck.core.recipe import Recipe
from limbeck.core.step import Step
from limbeck.curate.exact import Exact
from limbeck.evaluate.compare import Compare
from limbeck.evaluate.run import Run
from limbeck.generate.sample import Sample
from limbeck.prompts.explain import Explain
from limbeck.score.math import Math
from limbeck.seeds.tasks import Tasks
from limbeck.select.until_pass import UntilPass
from limbeck.train.sft import Sft

ASKED = "Think step by step and give a reason for each step."
ARMS = {
    "base": "eval-base",
    "explanations, unasked": "eval-student",
    "explanations, asked for": "eval-asked",
    "teacher": "eval-teacher",
}


def explanation_tuning(
    teacher: str = "embedded",
    student: str = "embedded:student",
    problems: int = 1500,
    samples: int = 4,
    verify: bool = True,
    epochs: float = 8.0,
    test: int = 300,
    seed: int = 0,
) -> Recipe:
    """Sample explanations under a bank of system messages and train a student on them, response only."""
    family = ("word_problems", "chains")
    checks: list[Step] = [Math(), UntilPass(name="verified")] if verify else []
    steps = [
        Tasks(name="test", family=family, count=test, split="test", sealed=True, seed=seed),
        Tasks(name="problems", family=family, count=problems, seed=seed),
        Explain(seed=seed, styles=("trace",)),
        Sample(teacher=teacher, n=samples if verify else 1, max_tokens=192, seed=seed),
        *checks,
        Exact(name="explanations"),
        Sft(name="student", student=student, epochs=epochs, learning_rate=3e-3, seed=seed),
        Run(name="eval-base", after="test", model=student, label="base"),
        Run(name="eval-student", after="test", model="step:student", label="explanations, unasked"),
        Run(name="eval-asked", after="test", model="step:student", label="explanations, asked for", system=ASKED),
        Run(name="eval-teacher", after="test", model=teacher, label="teacher"),
        Compare(after="test", arms={label: (f"step:{name}",) for label, name in ARMS.items()}),
    ]
    return Recipe(steps=steps)
