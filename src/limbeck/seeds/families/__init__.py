"""Procedural task families: unlimited seeded problems whose answers are known, so that every response can be checked.

    >>> first = next(problems("chains", count=1, seed=0))
    >>> first.task["kind"], first.task["reference"] == first.answer
    ('math', True)

A family is one file of this folder with a `DIFFICULTY` range and a function `make(rng, difficulty) -> Problem`; the file's name
is the family's name. Adding a family is adding a file. The same family, seed and split give the same problems in every process.
"""

from __future__ import annotations

import importlib
import pkgutil
import random
from collections.abc import Iterator
from typing import Protocol, cast

from limbeck.seeds.families.problem import Problem, split_of

__all__ = ["Problem", "families", "problems", "split_of"]

NOT_FAMILIES = frozenset({"problem", "wording"})
"""Files of this folder that families share."""


class Family(Protocol):
    """What a family's module offers."""

    DIFFICULTY: tuple[int, int]

    def make(self, rng: random.Random, difficulty: int) -> Problem:
        """Make one problem of the given difficulty."""


def families() -> list[str]:
    """List the families, found by walking this folder."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name not in NOT_FAMILIES)


def problems(
    family: str, *, count: int, seed: int, difficulty: tuple[int, int] | None = None, split: str = "train"
) -> Iterator[Problem]:
    """Yield `count` problems of one split; the same arguments always give the same problems.

    `difficulty` is an inclusive range, by default the family's whole range. Prompts do not repeat while fresh ones are to be had.
    """
    if family not in families():
        raise ValueError(f"there is no task family '{family}'; the families are {', '.join(families())}")
    if split not in ("train", "test"):
        raise ValueError(f"there is no split '{split}'; the splits are train and test")
    module = cast(Family, importlib.import_module(f"{__name__}.{family}"))
    low, high = _checked_range(family, difficulty, module.DIFFICULTY)
    return _draw(module, random.Random(f"{family}/{split}/{seed}"), count, (low, high), split)


def _checked_range(family: str, wanted: tuple[int, int] | None, whole: tuple[int, int]) -> tuple[int, int]:
    """Return the range to draw from, or say what the family has."""
    low, high = wanted or whole
    if not whole[0] <= low <= high <= whole[1]:
        raise ValueError(f"the difficulty of {family} goes from {whole[0]} to {whole[1]}, not from {low} to {high}")
    return low, high


def _draw(module: Family, rng: random.Random, count: int, levels: tuple[int, int], split: str) -> Iterator[Problem]:
    """Draw until `count` problems fell into the split; accept a repeated prompt only after many tries in vain."""
    seen: set[str] = set()
    made, in_vain = 0, 0
    while made < count:
        problem = module.make(rng, rng.randint(*levels))
        if split_of(problem.prompt) != split:
            continue
        if problem.prompt in seen and in_vain < 100:
            in_vain += 1
            continue
        seen.add(problem.prompt)
        in_vain = 0
        made += 1
        yield problem
