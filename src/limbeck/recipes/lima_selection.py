"""Few, good and different: selecting a thousand examples, after LIMA (Zhou et al. 2023, arXiv 2305.11206).

LIMA took 1,000 examples, 750 of them from forums by rule (answers of 1,200 to 4,096 characters, not in the first person,
without references to other texts) and as diverse as could be; its ablations found quality and diversity to help, and sixteen
times the quantity not to. Here: rules on the text, then LIMA's rules, then no duplicates, then facility location. Instead of
LIMA's editors there is a filter on IFD (Superfiltering, Li et al. 2024, arXiv 2402.00530), for answers that do not belong to
their prompts; `scorer=""` leaves it out. Without `data`, verified answers of the embedded teacher are selected from, with no
least length: they are short."""

from __future__ import annotations

from limbeck.core.recipe import Recipe
from limbeck.core.step import Step
from limbeck.curate.exact import Exact
from limbeck.generate.sample import Sample
from limbeck.score.heuristics import Heuristics
from limbeck.score.ifd import Ifd
from limbeck.score.math import Math
from limbeck.seeds.files import Files
from limbeck.seeds.tasks import Tasks
from limbeck.select.diverse import Diverse
from limbeck.select.threshold import Threshold
from limbeck.select.until_pass import UntilPass
from limbeck.train.sft import Sft

RULES = ("empty", "loop", "refusal", "boilerplate", "truncated", "lima")


def lima_selection(
    data: str = "",
    keep: int = 1000,
    shortest: int = -1,
    longest: int = 4096,
    scorer: str = "embedded",
    teacher: str = "embedded",
    student: str = "",
    problems: int = 2000,
    seed: int = 0,
) -> Recipe:
    """Keep `keep` examples of a file of prompts and answers: by rules, LIMA's rules, IFD and diversity; train if asked to."""
    sampled: list[Step] = [
        Tasks(name="problems", family=("word_problems", "chains", "exchanges"), count=problems, seed=seed),
        Sample(teacher=teacher, max_tokens=192, seed=seed),
        Math(),
        UntilPass(name="answers"),
    ]
    least = shortest if shortest >= 0 else 1200 if data else 0
    belonging: list[Step] = [Ifd(scorer=scorer), Threshold(name="belonging", score="ifd", most=0.99)] if scorer else []
    steps: list[Step] = [
        *([Files(name="answers", path=(data,))] if data else sampled),
        Heuristics(rules=RULES, shortest=least, longest=longest),
        Threshold(name="clean", score="heuristics"),
        Exact(name="unique"),
        *belonging,
        Diverse(name="selected", n=keep),
        *([Sft(name="student", student=student, epochs=15, seed=seed)] if student else []),
    ]
    return Recipe(steps=steps)
