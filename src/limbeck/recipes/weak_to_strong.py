"""Weak-to-strong generalisation: can a strong student be better than the weak model whose answers are all it is given?

    a few true answers ── weak student ── its answers to new problems ─┬─ strong base ── "naive"
    true answers to the same new problems ───────────────── "ceiling"  └─ strong base ── "confident" (auxiliary loss)

After Burns et al. 2023 (arXiv 2312.09390). Weak and strong begin from the same weights; the strong base has first learnt a
related family of problems, so that it can do much that nobody has asked it for in these words. Nothing of what the weak model
writes is verified. `evaluate.recovered` says what part of the gap between weak and ceiling each way of training recovers.
`docs/weak_to_strong.md` has what came out.
"""

from __future__ import annotations

from limbeck.core.recipe import Recipe
from limbeck.core.step import Step
from limbeck.evaluate.compare import Compare
from limbeck.evaluate.recovered import Recovered
from limbeck.evaluate.run import Run
from limbeck.generate.sample import Sample
from limbeck.seeds.tasks import Tasks
from limbeck.train.sft import Sft
from limbeck.train.weak_to_strong import WeakToStrong

ARMS = {"weak": "weak", "naive": "naive", "confident": "confident", "ceiling": "ceiling"}


def weak_to_strong(
    student: str = "embedded:student",
    strong: str = "",
    family: str = "word_problems",
    related: str = "chains",
    pretrained: int = 2000,
    strong_updates: int = 300,
    labelled: int = 60,
    weak_updates: int = 15,
    problems: int = 400,
    updates: int = 60,
    confidence: float = 0.5,
    learning_rate: float = 2e-3,
    students: int = 3,
    test: int = 300,
    seed: int = 0,
) -> Recipe:
    """Train a strong student on a weak one's answers, plainly and with the confidence loss; say what part of the gap comes back."""
    steps: list[Step] = [
        Tasks(name="test", family=family, count=test, split="test", sealed=True, seed=seed),
        Tasks(name="labelled", family=family, count=labelled, seed=seed + 1, solved=True),
        Tasks(name="problems", family=family, count=problems, seed=seed),
        Tasks(name="truth", family=family, count=problems, seed=seed, solved=True),
    ]
    if not strong:
        steps += [
            Tasks(name="related", family=related, count=pretrained, seed=seed + 2, solved=True),
            Sft(name="strong", student=student, updates=strong_updates, seed=seed),
        ]
    runs: dict[str, list[str]] = {arm: [] for arm in ARMS}
    for s in range(1, students + 1):
        draw = seed + s - 1
        given = {"student": strong or "step:strong", "updates": updates, "learning_rate": learning_rate, "seed": draw}
        steps += [
            Sft(name=f"weak-{s}", after="labelled", student=student, updates=weak_updates, seed=draw),
            Sample(
                name=f"labels-{s}",
                after="problems",
                teacher=f"step:weak-{s}",
                temperature=0.0,
                max_tokens=192,
                seed=draw,
            ),
            WeakToStrong(name=f"naive-{s}", after=f"labels-{s}", confidence=0.0, **given),
            WeakToStrong(name=f"confident-{s}", after=f"labels-{s}", confidence=confidence, **given),
            WeakToStrong(name=f"ceiling-{s}", after="truth", confidence=0.0, **given),
        ]
        for arm, name in ARMS.items():
            run = Run(name=f"eval-{name}-{s}", after="test", model=f"step:{name}-{s}", label=arm, max_tokens=192)
            steps.append(run)
            runs[arm].append(f"step:{run.name}")
    found = {arm: tuple(names) for arm, names in runs.items()}
    learnt = {arm: found[arm] for arm in ("naive", "confident")}
    gap = Recovered(after="test", weak=found["weak"], ceiling=found["ceiling"], students=learnt)
    return Recipe(steps=[*steps, Compare(after="test", arms=found), gap])
