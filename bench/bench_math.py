"""score.math against math-verify on the same pairs: CPU seconds, and how often they disagree."""

from __future__ import annotations

import random

from math_verify import parse, verify

from limbeck.score.math import equivalent
from paired import paired

PAIRS = 1000


def pairs(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Make pairs of equal and unequal numbers in the forms that answers take."""
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        value = rng.randint(1, 99999)
        other = value if rng.random() < 0.5 else value + rng.choice((-1, 1, 10))
        made.append((rng.choice(("{:,}", "{}", "${}", "{}.0", "\\boxed{{{}}}")).format(other), str(value)))
    return made


WORK = pairs(PAIRS)


def ours() -> None:
    """Compare all pairs."""
    for prediction, reference in WORK:
        equivalent(prediction, reference)


def theirs() -> None:
    """Compare all pairs with math-verify, its time limits off: they need the main thread and cost more."""
    for prediction, reference in WORK:
        verify(parse(reference, parsing_timeout=None), parse(prediction, parsing_timeout=None), timeout_seconds=None)


if __name__ == "__main__":
    paired(f"{PAIRS:,} pairs: score.math / math-verify", ours, theirs, rounds=3)
