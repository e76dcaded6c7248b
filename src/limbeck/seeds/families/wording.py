"""Words that the story families share: people with their pronouns, things, moments, and the arithmetic of one step.

>>> step("double", 17, 2)
Step(skill='double', amount=2, before=17, after=34)
>>> step("double", 17, 2).equation
'17 * 2 = 34'
"""

from __future__ import annotations

import random
from dataclasses import dataclass

LIMIT = 99
"""No total leaves 0..99, so that a tokenizer can hold every number as one token."""

WOMEN = ("Anna", "Clara", "Emma", "Grace", "Iris", "Julia", "Lena", "Maria", "Nora", "Olga", "Rosa", "Zoe")
MEN = ("Adam", "Ben", "David", "Felix", "Hugo", "Jack", "Karl", "Leo", "Max", "Omar", "Paul", "Tom")
THINGS = (
    "apples", "balls", "beads", "books", "boxes", "buttons", "cakes", "candles", "cards", "coins", "cups", "eggs",
    "flowers", "keys", "lemons", "nuts", "pears", "pens", "plums", "ribbons", "shells", "stamps", "stones", "toys",
)  # fmt: skip
MOMENTS = (
    "", "Then", "Later", "Next,", "Soon", "After that,", "The next day,", "In the evening,", "At school,", "At the market,",
)  # fmt: skip

SYMBOLS = {"gain": "+", "lose": "-", "double": "*", "triple": "*", "halve": "/"}
FACTORS = {"double": 2, "triple": 3, "halve": 2}


@dataclass(frozen=True, slots=True)
class Person:
    """Someone a story is about."""

    name: str
    she: str
    her: str
    """As in `gives her`."""
    hers: str
    """As in `her apples`."""


PEOPLE = tuple(Person(name, "she", "her", "her") for name in WOMEN) + tuple(
    Person(name, "he", "him", "his") for name in MEN
)


@dataclass(frozen=True, slots=True)
class Step:
    """One change of a total."""

    skill: str
    amount: int
    before: int
    after: int

    @property
    def equation(self) -> str:
        """The change as a line of arithmetic."""
        return f"{self.before} {SYMBOLS[self.skill]} {self.amount} = {self.after}"


def step(skill: str, before: int, amount: int) -> Step:
    """Work out one change."""
    results = {"+": before + amount, "-": before - amount, "*": before * amount, "/": before // amount}
    return Step(skill, amount, before, results[SYMBOLS[skill]])


def amount_of(rng: random.Random, highest: int) -> int:
    """Draw an amount from 2 on: mostly up to 20, at times up to 40."""
    return rng.randint(2, max(2, min(highest, 20 if rng.random() < 0.8 else 40)))


def random_step(rng: random.Random, total: int) -> Step:
    """Draw one change that keeps the total within 0..99."""
    skills = ["gain"] * 4 * (total <= LIMIT - 2) + ["lose"] * 4 * (total >= 2)
    skills += ["double"] * 2 * (2 <= total <= LIMIT // 2) + ["triple"] * (2 <= total <= LIMIT // 3)
    skills += ["halve"] * 3 * (total >= 2 and total % 2 == 0)
    skill = rng.choice(skills)
    if skill in FACTORS:
        return step(skill, total, FACTORS[skill])
    return step(skill, total, amount_of(rng, LIMIT - total if skill == "gain" else total))


def random_steps(rng: random.Random, start: int, count: int) -> list[Step]:
    """Draw a run of changes, each from where the last one ended."""
    steps: list[Step] = []
    for _ in range(count):
        steps.append(random_step(rng, steps[-1].after if steps else start))
    return steps
