"""STaR, the self-taught reasoner (Zelikman et al. 2022, arXiv 2203.14465).

A model that can sometimes work problems out teaches itself: it tries many, keeps what came out right, tries what it
failed again with the answer as a hint ("rationalisation"), erases the hint, and is fine-tuned on all of it - always
from the ORIGINAL base, never from the last round's model. A few worked examples take the place of the paper's few-shot
prompt. Prompts the student could not solve even with the hint are left out of that round.
"""

from __future__ import annotations

from limbeck.core.recipe import Loop, Recipe
from limbeck.core.step import Step
from limbeck.evaluate.compare import Compare
from limbeck.evaluate.run import Run
from limbeck.generate.sample import Sample
from limbeck.prompts.erase import Erase
from limbeck.prompts.hint import Hint
from limbeck.score.math import Math
from limbeck.seeds.tasks import Tasks
from limbeck.select.threshold import Threshold
from limbeck.select.until_pass import UntilPass
from limbeck.train.sft import Sft


def star(
    student: str = "embedded:student",
    rounds: int = 3,
    problems: int = 1000,
    labelled: int = 200,
    rationalise: bool = True,
    test: int = 300,
    seed: int = 0,
) -> Recipe:
    """Bootstrap a student from a few worked examples and many bare answers, restarting from the base each round."""
    family = ("word_problems", "chains")
    hinted: list[Step] = [
        Threshold(name="failed", after="checked", score="verified", most=0.0),
        Hint(),
        Sample(name="rationales", teacher="step:student", max_tokens=192, seed=seed),
        Math(name="rechecked"),
        UntilPass(name="rescued"),
        Erase(name="erased"),
    ]
    loop = Loop(
        carry={"student": "step:warm"},
        reset="base",
        rounds=rounds,
        steps=[
            Sample(name="tries", after="problems", teacher="step:student", max_tokens=192, seed=seed),
            Math(name="checked"),
            UntilPass(name="right", after="checked"),
            *(hinted if rationalise else []),
            Sft(
                name="student",
                after=("labelled", "right", *(("erased",) if rationalise else ())),
                student=student,
                seed=seed,
            ),
        ],
    )
    arms = {"base": student, "warm": "step:warm", **{f"round {r}": f"step:student-{r}" for r in range(1, rounds + 1)}}
    evaluations = [Run(name=f"eval-{k.replace(' ', '-')}", after="test", model=v, label=k) for k, v in arms.items()]
    return Recipe(
        steps=[
            Tasks(name="test", family=family, count=test, split="test", sealed=True, seed=seed),
            Tasks(name="labelled", family=family, count=labelled, seed=seed + 1, solved=True),
            Tasks(name="problems", family=family, count=problems, seed=seed),
            Sft(name="warm", after="labelled", student=student, seed=seed),
            loop,
            *evaluations,
            Compare(after="test", arms={e.label: (f"step:{e.name}",) for e in evaluations}),
        ]
    )
