"""Problems of the procedural task families, as prompt rows whose answers are known.

    Tasks(family=("word_problems", "chains"), count=4)   makes, in turn, two problems of each:

    user    At first Anna has 12 apples. Then she finds 5 apples. How many apples does Anna have now?
    task    {"kind": "math", "family": "word_problems", "reference": "17", "difficulty": 1, ...}
    labels  {"family": "word_problems"}

The same fields give the same rows in every process. Training and test problems never share a prompt, whatever the seed:
the split is a property of the prompt. Test problems are sealed, so that nothing that descends from them can be trained on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, field_validator

from limbeck.core.errors import UsageError
from limbeck.core.row import Message, Row, new_row
from limbeck.core.step import Source
from limbeck.seeds.families import Problem, families, problems


class Tasks(Source):
    """Make `count` problems of the given families, the families taking turns."""

    family: tuple[str, ...] = ("word_problems", "chains")
    """Families to draw from; see `limbeck.seeds.families.families()`."""
    count: int = Field(default=500, ge=1)
    """Problems in all, divided evenly among the families."""
    difficulty: tuple[int, int] | None = None
    """Lowest and highest difficulty; default: all that each family has."""
    seed: int = 0
    """Another seed is another set of problems."""
    split: Literal["train", "test"] = "train"
    """Which side of the fixed division of prompts to draw from."""
    sealed: bool | None = None
    """Whether the rows belong to an evaluation set and may never be trained on; default: the test split is sealed."""
    solved: bool = False
    """Whether the rows carry the true worked response, as gold data to train on or to check a verifier with."""

    @field_validator("family", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        names = (value,) if isinstance(value, str) else value
        unknown = [n for n in names if n not in families()] if isinstance(names, list | tuple) else []
        if unknown or not names:
            raise ValueError(f"the families are {', '.join(families())}")
        return names

    def rows(self) -> Iterator[Row]:
        """Yield the problems, one of each family in turn."""
        share, left = divmod(self.count, len(self.family))
        streams = [self._drawn(name, share + (place < left)) for place, name in enumerate(self.family)]
        for turn in range(share + 1):
            for name, stream in zip(self.family, streams, strict=True):
                problem = next(stream, None)
                if problem is not None:
                    yield self._row(problem, name, turn)

    def size(self) -> int:
        """The number of problems."""
        return self.count

    def _drawn(self, name: str, count: int) -> Iterator[Problem]:
        try:
            return problems(name, count=count, seed=self.seed, difficulty=self.difficulty, split=self.split)
        except ValueError as error:
            raise UsageError(f"seeds.tasks can not draw from '{name}': {error}.") from None

    def _row(self, problem: Problem, name: str, index: int) -> Row:
        turns = [Message(role="user", content=problem.prompt)]
        if self.solved:
            turns.append(Message(role="assistant", content=problem.response))
        return new_row(
            messages=turns,
            task=problem.task,
            labels={"family": problem.family},
            sealed=self.split == "test" if self.sealed is None else self.sealed,
            made_by={"step": self.called(), "family": name, "split": self.split, "seed": self.seed, "index": index},
        )
