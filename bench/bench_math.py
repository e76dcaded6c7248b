"""score.math against math-verify: CPU seconds on plain numbers and on formulas, and who is right on the labelled pairs.

The pairs are those of tests/score/math_pairs.py, labelled by hand. math-verify is given the answers in a box, as models write
them, with its own limits of five seconds; the reference first, as its documentation says.
"""

from __future__ import annotations

import logging
import random
import sys
import time
from pathlib import Path

from math_verify import parse, verify

from limbeck.score.math import equivalent
from paired import paired

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "score"))
from math_pairs import BY_KIND, PAIRS

COUNT = 1000
FORMULAS = ("radicals", "trigonometry, logarithms and constants", "algebra")


def numbers(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Make pairs of equal and unequal numbers in the forms that answers take."""
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        value = rng.randint(1, 99999)
        other = value if rng.random() < 0.5 else value + rng.choice((-1, 1, 10))
        made.append((rng.choice(("{:,}", "{}", "${}", "{}.0", "\\boxed{{{}}}")).format(other), str(value)))
    return made


def ours(pairs: list[tuple[str, str]]) -> None:
    """Compare all pairs."""
    for prediction, reference in pairs:
        equivalent(prediction, reference)


def theirs(pairs: list[tuple[str, str]]) -> None:
    """Compare all pairs with math-verify, its time limits off: they need the main thread and cost more."""
    for prediction, reference in pairs:
        left, right = (parse(f"$\\boxed{{{t}}}$", parsing_timeout=None) for t in (reference, prediction))
        verify(left, right, timeout_seconds=None)


def judged_by_math_verify(prediction: str, reference: str) -> bool:
    """Return its verdict, with its own time limits."""
    return bool(verify(parse(f"$\\boxed{{{reference}}}$"), parse(f"$\\boxed{{{prediction}}}$")))


def agreement() -> None:
    """Print, for each kind of pair, how many each of the two gets right, and every pair they differ on."""
    counted = f"{'accepts':>7} {'rejects':>7}"  # false accepts and false rejects
    print(f"{'kind':42} {'pairs':>5}  {'ours: right':>11} {counted}  {'theirs':>6} {counted}")
    totals, differing, slowest = [0] * 7, [], [0.0, 0.0]
    for kind, pairs in BY_KIND.items():
        row = [len(pairs), 0, 0, 0, 0, 0, 0]
        for left, right, same in pairs:
            told = []
            for place, judge in enumerate((equivalent, judged_by_math_verify)):
                begun = time.perf_counter()
                told.append(judge(left, right))
                slowest[place] = max(slowest[place], time.perf_counter() - begun)
                row[1 + 3 * place] += told[place] == same
                row[2 + 3 * place] += told[place] and not same
                row[3 + 3 * place] += same and not told[place]
            if told[0] != told[1]:
                differing.append((left, right, same, *told))
        totals = [a + b for a, b in zip(totals, row, strict=True)]
        print(_line(kind, row))
    print(_line("all", totals))
    print(f"slowest call: {slowest[0]:.2f} s and {slowest[1]:.2f} s. Pairs on which they differ:")
    for left, right, same, mine, other in differing:
        who = "ours" if mine == same else "theirs"
        print(f"  {left!r:40} {right!r:34} {'same' if same else 'different':9} right: {who}  (theirs says {other})")


def _line(kind: str, row: list[int]) -> str:
    return f"{kind:42} {row[0]:5}  {row[1]:11} {row[2]:7} {row[3]:7}  {row[4]:6} {row[5]:7} {row[6]:7}"


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    plain = numbers(COUNT)
    formulas = [pair[:2] for kind in FORMULAS for pair in BY_KIND[kind]]
    spent = time.process_time()
    ours(plain * 10)
    spent = time.process_time() - spent
    print(f"{'score.math on plain numbers':58} {10 * COUNT / spent:10,.0f} pairs/s of one core")
    paired(f"{COUNT:,} numbers: score.math / math-verify", lambda: ours(plain), lambda: theirs(plain), rounds=3)
    paired(
        f"{len(formulas)} formulas: score.math / math-verify",
        lambda: ours(formulas),
        lambda: theirs(formulas),
        rounds=3,
    )
    print(f"{len(PAIRS)} labelled pairs")
    agreement()
