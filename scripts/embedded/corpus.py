"""What the embedded models are trained on: documents of the task families, and exercises in copying and arithmetic.

A document is one chat rendered in the models' format; the loss is on the response only:

    <bos><user>Start with 12. Add 5. What is the result?<assistant>1. Start with 12: 12.\\n2. Add 5: 12 + 5 = 17.\\nAnswer: 17<eos>

The exercises are of four kinds: random words to repeat, clauses of random words to quote line by line, sums to work out, and real
problems whose clauses are quoted without working. Copying operands out of the prompt is the bottleneck of a tiny transformer, so
training begins with these and never drops them altogether.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from limbeck.prompts.bank import BANK, hinted
from limbeck.seeds.families import problems, programs, split_of, wording
from limbeck.seeds.families.problem import Problem

_COMMON = """
has starts with owns bag morning first buys finds gives picks gets from wins more given sends are added loses sells
away takes of drops lends to stolen doubles many again triples half lost them then later next soon after that day
evening school market how left number end now what there add increase put top count up make subtract take reduce down
less double multiply twice triple halve divide cut begin think have result get which where do you it by in on at the
and is a he she her him his as
"""
WORDS = (
    *wording.THINGS, *(person.name for person in wording.PEOPLE),
    *_COMMON.split(),
)  # fmt: skip
"""Words for the copying exercises: those of the stories, each a single token with its leading space."""

JOINTS = (". ", ". ", "; ", ", then ", ", and ")


def render(user: str, response: str, system: str = "") -> str:
    """Render one chat as the chat template does.

    >>> render("Hello", "Good day", "Be kind")
    '<bos><system>Be kind<user>Hello<assistant>Good day<eos>'
    """
    opening = f"<system>{system}" if system else ""
    return f"<bos>{opening}<user>{user}<assistant>{response}<eos>"


def repeat_words(rng: random.Random) -> str:
    """Random words, to be said again."""
    said = "".join(f" {_word(rng)}" for _ in range(rng.randint(4, 24)))
    return render(said, said)


def quote_clauses(rng: random.Random) -> str:
    """Clauses of random words, to be quoted with line numbers."""
    clauses = [" ".join(_word(rng) for _ in range(rng.randint(2, 8))) for _ in range(rng.randint(2, 7))]
    told = rng.choice(JOINTS).join(clauses)
    return render(f"Quote: {told}.", _numbered(clauses))


def work_out(rng: random.Random) -> str:
    """Sums to be worked out, in order."""
    steps = [wording.random_step(rng, rng.randint(0, wording.LIMIT)) for _ in range(rng.randint(2, 6))]
    asked = "; ".join(step.equation.partition(" =")[0] for step in steps)
    return render(f"Work out: {asked}.", _numbered([step.equation for step in steps]))


def sums(*, count: int, seed: int) -> Iterator[str]:
    """Yield pages of additions and subtractions, in the range of the stories: what a small model takes longest to learn."""
    rng = random.Random(f"sums/{seed}")
    for _ in range(count):
        steps = []
        while len(steps) < 8:
            total = rng.randint(0, wording.LIMIT)
            skill = rng.choice(("gain", "lose"))
            room = wording.LIMIT - total if skill == "gain" else total
            if room >= 2:
                steps.append(wording.step(skill, total, wording.amount_of(rng, room)))
        asked = "; ".join(step.equation.partition(" =")[0] for step in steps)
        yield render(f"Work out: {asked}.", _numbered([step.equation for step in steps]))


def quote_problem(rng: random.Random, problem: Problem) -> str:
    """A real problem, its clauses quoted without any working."""
    lines = problem.response.split("\n")[:-1]
    return render(f"Quote: {problem.prompt}", "\n".join(f"{line.rpartition(': ')[0]}." for line in lines))


def lesson(rng: random.Random, problem: Problem) -> str:
    """A problem as the teacher is to solve it: mostly plain, at times under a system message or with the hint."""
    message = rng.choice(BANK) if rng.random() < 0.3 else BANK[0]
    math = problem.task["kind"] == "math"
    user = hinted(problem.prompt, problem.answer) if math and rng.random() < 0.05 else problem.prompt
    response = f"Answer: {problem.answer}" if math and message.style == "answer" else problem.response
    return render(user, response, message.text)


def lessons(family: str, *, count: int, seed: int, difficulty: tuple[int, int] | None = None) -> Iterator[str]:
    """Yield the teacher's documents of one family, training split only."""
    rng = random.Random(f"lessons/{family}/{seed}")
    drawn = (
        _programs(count, rng)
        if family == "programs"
        else problems(family, count=count, seed=seed, difficulty=difficulty)
    )
    return (lesson(rng, problem) for problem in drawn)


def _programs(count: int, rng: random.Random) -> Iterator[Problem]:
    """Programs without their hidden cases, whose search takes the most time and which training does not need."""
    made = 0
    while made < count:
        level = rng.randint(*programs.DIFFICULTY)
        drawn = programs.sketch(rng, level)
        if split_of(drawn.prompt) == "test":
            continue
        made += 1
        yield Problem(
            family="programs", prompt=drawn.prompt, response=drawn.source, answer=drawn.source, task={"kind": "program"},
            difficulty=level, skills=drawn.skills,
        )  # fmt: skip


def exercises(*, count: int, seed: int, real: bool = True) -> Iterator[str]:
    """Yield copying and arithmetic exercises; without `real`, random words only (for the warm-up)."""
    rng = random.Random(f"exercises/{real}/{seed}")
    stories = problems("word_problems", count=count, seed=seed + 1000)
    kinds: list[Callable[[random.Random], str]] = [repeat_words, quote_clauses, quote_clauses]
    if real:
        kinds += [work_out, work_out, work_out, lambda draw: quote_problem(draw, next(stories))]
    return (rng.choice(kinds)(rng) for _ in range(count))


def _word(rng: random.Random) -> str:
    """Draw a word, or one time in four a number."""
    return str(rng.randint(0, wording.LIMIT)) if rng.random() < 0.25 else rng.choice(WORDS)


def _numbered(lines: list[str]) -> str:
    """Number lines as the worked responses do."""
    return "\n".join(f"{place}. {line}." for place, line in enumerate(lines, start=1))


def single_step(rng: random.Random, problem: Problem) -> str:
    """One line of a worked response on its own: a total and a clause are given, the clause is quoted and computed.

    <user>Step: 12; then she finds 5 apples.<assistant> then she finds 5 apples: 12 + 5 = 17.<eos>
    """
    lines = [line.partition(". ")[2] for line in problem.response.split("\n")[1:-1]]
    line = rng.choice(lines)
    clause, _, equation = line.rpartition(": ")
    return render(f"Step: {equation.split()[0]}; {clause}.", f" {line}")


def parts(family: str, *, count: int, seed: int) -> Iterator[str]:
    """Yield the base student's documents of one family: its clauses quoted, and its single steps, but never a problem solved."""
    rng = random.Random(f"parts/{family}/{seed}")
    drawn = problems(family, count=count, seed=seed)
    return (rng.choice((quote_problem, single_step))(rng, problem) for problem in drawn)
