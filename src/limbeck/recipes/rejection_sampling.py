"""Rejection sampling: sample N answers per prompt, verify them, keep the first that passes, and train on what is left.

After RFT (Yuan et al. 2023, arXiv 2308.01825) and the rejection-sampling stage of Llama 2 (Touvron et al. 2023, arXiv
2307.09288). One passing sample per prompt, not all of them: all-passing sets over-weigh the easy prompts.
"""

from __future__ import annotations

from limbeck.core.recipe import Recipe
from limbeck.core.step import Step
from limbeck.curate.exact import Exact
from limbeck.generate.sample import Sample
from limbeck.score.math import Math
from limbeck.seeds.files import Files
from limbeck.seeds.tasks import Tasks
from limbeck.select.until_pass import UntilPass
from limbeck.train.sft import Sft


def rejection_sampling(
    prompts: str = "",
    teacher: str = "embedded",
    student: str = "",
    samples: int = 8,
    temperature: float = 1.0,
    max_tokens: int = 512,
    limit: int | None = None,
    seed: int = 0,
) -> Recipe:
    """Sample, verify, keep the first passing answer of each prompt, drop duplicates; train if a student is named."""
    source: Step = (
        Files(name="prompts", path=(prompts,), as_prompts=True, limit=limit)
        if prompts
        else Tasks(name="prompts", family=("word_problems", "chains"), count=limit or 500, seed=seed)
    )
    steps: list[Step] = [
        source,
        Sample(teacher=teacher, n=samples, temperature=temperature, max_tokens=max_tokens, seed=seed),
        Math(),
        UntilPass(name="verified"),
        Exact(name="corpus"),
    ]
    if student:
        steps.append(Sft(name="student", student=student, seed=seed))
    return Recipe(steps=steps)
