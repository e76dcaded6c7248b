"""Pupils of known skill, as a teacher of the user's own: each solves sums up to a limit, greedily always or never.

pupils.py:Weak      right up to 30 in 100
pupils.py:Strong    right up to 60 in 100
pupils.py:Shy       as Strong, but refuses every tenth prompt
pupils.py:Lucky     right with chance one half, by sample index and seed
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path

from limbeck.core.ask import Answer, Ask, Reply
from limbeck.core.errors import RefusedError
from limbeck.core.row import Message, Row, Usage, new_row

HERE = Path(__file__).resolve()


def sums(count: int, **given) -> list[Row]:
    """Prompts `What is 7 + 1?`, sealed, half of them of each family."""
    return [
        new_row(
            messages=[Message(role="user", content=f"What is {i} + 1?")],
            task={"kind": "math", "reference": str(i + 1), "family": "odd" if i % 2 else "even", "difficulty": i % 3},
            made_by={"step": "test", "index": i},
            sealed=True,
            **given,
        )
        for i in range(count)
    ]


class Pupil:
    limit = 0

    def __init__(self, rest: str) -> None:
        self.identity = f"pupil {type(self).__name__}"

    async def answer(self, ask: Ask, samples: Sequence[int]) -> Reply:
        found = re.search(r"\d+", ask.messages[-1].content)
        assert found
        number = int(found.group())
        answers = [Answer(text=f"Answer: {number + self.right(number, i, ask.seed)}", tokens_out=3) for i in samples]
        return Reply(answers=tuple(answers), usage=Usage(tokens_out=3 * len(answers)), teacher=self.identity)

    def right(self, number: int, sample: int, seed: int) -> int:
        return 1 if number % 100 < self.limit else 2

    async def close(self) -> None:
        pass


class Weak(Pupil):
    limit = 30


class Strong(Pupil):
    limit = 60


class Shy(Strong):
    def right(self, number: int, sample: int, seed: int) -> int:
        if number % 10 == 0:
            raise RefusedError("The pupil would rather not say.")
        return super().right(number, sample, seed)


class Lucky(Pupil):
    def right(self, number: int, sample: int, seed: int) -> int:
        return 1 if random.Random(f"{number}/{sample}/{seed}").random() < 0.5 else 2
