"""One problem with its true worked answer, and the rule that keeps training and test problems apart.

A family (a file beside this one) makes such problems without end from a seeded generator:

    prompt    At first Anna has 12 apples. Then she finds 5 apples. How many apples does Anna have now?
    response  1. At first Anna has 12 apples: 12.
              2. Then she finds 5 apples: 12 + 5 = 17.
              Answer: 17
    answer    17
    task      {"kind": "math", "family": "word_problems", "reference": "17", "steps": [12, 17], ...}

The response quotes each clause *before* it computes: a tiny transformer finds copying an operand out of a long prompt harder
than the arithmetic itself, so the quotation does half of the work.

The split is a property of the prompt alone: one in ten falls into "test", by a hash that is the same in every process and on
every machine. A model trained on "train" has therefore never seen a test prompt, whatever the seed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

TEST_ONE_IN = 10
"""One prompt in so many belongs to the test split."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A prompt, its true response and what a verifier needs to check another response."""

    family: str
    prompt: str
    response: str
    """The true worked response; for `math` it ends in the line `Answer: ...`."""
    answer: str
    """The final answer as text: a number, a program or a JSON object."""
    task: dict[str, Any]
    """What a verifier needs, ready for JSON; always has `kind`, `family`, `difficulty` and `skills`."""
    difficulty: int
    skills: tuple[str, ...]


def split_of(prompt: str) -> str:
    """Say to which split a prompt belongs, from the prompt alone.

    >>> split_of("What is 1 + 1?")
    'train'
    """
    digest = hashlib.blake2b(prompt.encode(), digest_size=8).digest()
    return "test" if int.from_bytes(digest, "big") % TEST_ONE_IN == 0 else "train"


def worked_response(lines: list[tuple[str, str]], answer: str) -> str:
    """Number the quoted clauses with what follows from each, and end in the answer line.

    >>> print(worked_response([("Start with 3", "3"), ("Double it", "3 * 2 = 6")], "6"))
    1. Start with 3: 3.
    2. Double it: 3 * 2 = 6.
    Answer: 6
    """
    numbered = [f"{place}. {clause}: {result}." for place, (clause, result) in enumerate(lines, start=1)]
    return "\n".join([*numbered, f"Answer: {answer}"])


def capitalised(clause: str) -> str:
    """Return the clause with a capital first letter and the rest as it was."""
    return clause[:1].upper() + clause[1:]
