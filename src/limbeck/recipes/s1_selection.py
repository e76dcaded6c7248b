"""Quality, difficulty, diversity: few hard problems with long traces, after s1 (Muennighoff et al. 2025, arXiv 2501.19393).

s1 went from 59,029 questions to 1,000: without API errors and bad formats, then only those that two weaker models both got
wrong, then domain by domain, inside a domain with odds of 2^-rank, the longest trace first. Here the order saves money: the
weak models try first, and the teacher writes traces only for what they all fail; `domain` is a label of the
prompts instead of a classification by a model; every domain has the same quota. Without `prompts`, the embedded models play all
parts."""

from __future__ import annotations

from limbeck.core.recipe import Recipe
from limbeck.core.step import Step
from limbeck.curate.exact import Exact
from limbeck.generate.sample import Sample
from limbeck.score.heuristics import Heuristics
from limbeck.score.math import Math
from limbeck.seeds.files import Files
from limbeck.seeds.tasks import Tasks
from limbeck.select.quota import Quota
from limbeck.select.threshold import Threshold

FORMAT = ("empty", "loop", "refusal", "boilerplate", "truncated")
FAMILIES = ("word_problems", "chains", "exchanges")


def s1_selection(
    prompts: str = "",
    domain: str = "family",
    each: int = 50,
    teacher: str = "embedded",
    weak: str = "embedded",
    weak_too: str = "embedded:student",
    max_tokens: int = 0,
    problems: int = 600,
    seed: int = 0,
) -> Recipe:
    """Keep `each` problems of every domain that both weak models get wrong, mostly those with the teacher's longest traces."""
    longest = max_tokens or (16_384 if prompts else 192)
    steps: list[Step] = [
        Files(name="prompts", path=(prompts,), as_prompts=True)
        if prompts
        else Tasks(name="prompts", family=FAMILIES, count=problems, seed=seed)
    ]
    for number, model in enumerate((weak, weak_too), start=1):
        steps += [
            Sample(name=f"weak-{number}", teacher=model, max_tokens=longest, temperature=0.0, seed=seed),
            Math(name=f"tried-{number}"),
            Threshold(name=f"hard-{number}", most=0.0),
        ]
    steps += [
        Sample(name="traces", teacher=teacher, max_tokens=longest, seed=seed),
        Heuristics(rules=FORMAT),
        Threshold(name="whole", score="heuristics"),
        Exact(name="unique", on="prompt"),
        Quota(name="selected", label=domain, most=each, score="text_words", draw="halving", seed=seed),
    ]
    return Recipe(steps=steps)
