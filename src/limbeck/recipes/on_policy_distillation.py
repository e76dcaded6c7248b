"""On-policy distillation: after fine-tuning, does learning from the teacher's opinion of one's own texts beat more of the same?

    problems ── teacher samples ── verify ── fine-tuned student ┬─ nothing more ─────────────────────── "SFT"
                                                                ├─ as many updates again ───────────── "more SFT"
                                                                ├─ teacher's distribution on the rows ─ "off-policy"
                                                                └─ teacher's distribution on own texts ─ "on-policy"

After GKD (Agarwal et al. 2024, arXiv 2306.13649). Every arm starts from the same fine-tuned weights of its seed and makes the
same number of updates on the same prompts; the two last differ in nothing but whose texts the teacher's distribution is
learnt on. `docs/distil-on-policy.md` says what came out: where on-policy distillation wins is a question, not a promise.
"""

from __future__ import annotations

from typing import Literal

from limbeck.core.recipe import Recipe
from limbeck.core.step import Step
from limbeck.curate.exact import Exact
from limbeck.evaluate.compare import Compare
from limbeck.evaluate.run import Run
from limbeck.generate.sample import Sample
from limbeck.score.math import Math
from limbeck.seeds.tasks import Tasks
from limbeck.select.until_pass import UntilPass
from limbeck.train.distill import Distill
from limbeck.train.sft import Sft

ARMS = {"SFT": "sft", "more SFT": "more", "off-policy": "off", "on-policy": "on"}


def on_policy_distillation(
    teacher: str = "embedded",
    student: str = "embedded:student",
    problems: int = 1500,
    samples: int = 4,
    sft_updates: int = 100,
    updates: int = 100,
    divergence: Literal["forward", "reverse", "jsd"] = "reverse",
    learning_rate: float = 1e-3,
    students: int = 3,
    test: int = 400,
    seed: int = 0,
) -> Recipe:
    """Fine-tune on verified samples, go on in three ways for `updates` updates each, and compare on sealed problems."""
    family = ("word_problems", "chains")
    steps: list[Step] = [
        Tasks(name="test", family=family, count=test, split="test", sealed=True, seed=seed),
        Tasks(name="problems", family=family, count=problems, seed=seed),
        Sample(name="samples", teacher=teacher, n=samples, temperature=1.0, max_tokens=192, seed=seed),
        Math(name="verdicts"),
        UntilPass(name="passed"),
        Exact(name="verified"),
    ]
    runs: dict[str, list[str]] = {arm: [] for arm in ARMS}
    for s in range(1, students + 1):
        first = f"step:sft-{s}"
        more = {"updates": updates, "learning_rate": learning_rate, "seed": seed + s - 1}
        steps += [
            Sft(name=f"sft-{s}", after="verified", student=student, updates=sft_updates, seed=seed + s - 1),
            # as many tokens in an update as 24 documents have, about
            Sft(name=f"more-{s}", after="verified", student=first, batch_tokens=2500, **more),
            *(
                Distill(
                    name=f"{name}-{s}",
                    after="verified",
                    student=first,
                    teacher=teacher,
                    prefix=prefix,
                    divergence=divergence,
                    batch=24,
                    max_tokens=192,
                    **more,
                )
                for name, prefix in (("off", "data"), ("on", "student"))
            ),
        ]
        for arm, name in ARMS.items():
            run = Run(name=f"eval-{name}-{s}", after="test", model=f"step:{name}-{s}", label=arm, max_tokens=192)
            steps.append(run)
            runs[arm].append(f"step:{run.name}")
    steps.append(Run(name="eval-teacher", after="test", model=teacher, label="teacher", max_tokens=192))
    arms = {arm: tuple(found) for arm, found in runs.items()} | {"teacher": ("step:eval-teacher",)}
    return Recipe(steps=[*steps, Compare(after="test", arms=arms)])
