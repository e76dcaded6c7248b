"""The recipes that the laws of load, faults and kills run: prompts out of a file, answers, a look at them, a barrier."""

from __future__ import annotations

from limbeck import Each, Recipe, Row, Whole
from limbeck.generate.sample import Sample
from limbeck.seeds.files import Files


class Long(Each):
    """Drop answers of fewer than `words` words."""

    words: int = 8

    def each(self, row: Row) -> Row:
        count = len(row.response.split())
        return row.with_scores(words=count) if count >= self.words else row.drop(f"long: only {count} words")


class Twice(Whole):
    """Drop answers that were given before."""

    def whole(self, rows: list[Row]) -> list[Row]:
        seen: set[str] = set()
        fresh = [row.response not in seen and not seen.add(row.response) for row in rows]  # type: ignore[func-returns-value]
        return [row if new else row.drop("twice: seen before") for row, new in zip(rows, fresh, strict=True)]


def load(
    prompts: str, teacher: str, n: int = 1, temperature: float = 1.0, max_tokens: int = 512, words: int = 8
) -> Recipe:
    """Answers, looked at one by one and all together."""
    sample = Sample(teacher=teacher, n=n, temperature=temperature, max_tokens=max_tokens)
    return Recipe(steps=[Files(path=prompts, as_prompts=True), sample, Long(words=words), Twice()])


def three(prompts: str) -> Recipe:
    """Three streaming steps that need no server."""
    sample = Sample(teacher="echo:{question} is what you asked for the first time today")
    return Recipe(steps=[Files(path=prompts, as_prompts=True), sample, Long()])


def load_recipes(prompts: str, teacher: str) -> Recipe:
    """What the file is run as when no recipe is named: answers and nothing else."""
    return Recipe(steps=[Files(path=prompts, as_prompts=True), Sample(teacher=teacher)])
