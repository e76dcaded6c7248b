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
from dataclasses import replace

from limbeck.prompts.bank import BANK, hinted
from limbeck.seeds.families import problems, programs, split_of, wording
from limbeck.seeds.families.problem import Problem, worked_response

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
        steps: list[wording.Step] = []
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


SLIPS = 0.06
"""The share of sums that come out wrong in the documents of `slipped`."""


def slipped(*, count: int, seed: int) -> Iterator[str]:
    """Yield worked problems in which a sum comes out wrong now and then, and the rest follows from the wrong total.

    A teacher that ends on these makes such slips at temperature 1 as often, while its first choice stays right.
    """
    rng = random.Random(f"slipped/{seed}")
    drawn = {name: problems(name, count=count, seed=seed) for name in ("word_problems", "chains")}
    for _ in range(count):
        problem = next(drawn["word_problems" if rng.random() < 0.5 else "chains"])
        yield lesson(rng, replace(problem, response=_with_slips(rng, problem.response)))


def _with_slips(rng: random.Random, response: str) -> str:
    """Work the response out again, with slips; a total that cannot go on stays as it was."""
    first, *lines, _ = response.split("\n")
    total, told = int(first.rstrip(".").split()[-1]), [first]
    for line in lines:
        clause, _, equation = line.rpartition(": ")
        _, sign, amount, *_ = equation.split()
        right = {
            "+": total + int(amount),
            "-": total - int(amount),
            "*": total * int(amount),
            "/": total // int(amount),
        }[sign]
        if not 0 <= right <= wording.LIMIT or (sign == "/" and total % int(amount)):
            return response
        after = right + rng.choice((-10, -2, -1, 1, 2, 10)) if rng.random() < SLIPS else right
        after = after if 0 <= after <= wording.LIMIT else right
        told.append(f"{clause}: {total} {sign} {amount} = {after}.")
        total = after
    return "\n".join([*told, f"Answer: {total}"])


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


def ledger(rng: random.Random, _: Problem) -> str:
    """A running total over bare sums: the shape of a worked response without any language.

    <user>Ledger: 12; + 5; * 2.<assistant>1. 12: 12.\\n2. + 5: 12 + 5 = 17.\\n3. * 2: 17 * 2 = 34.\\nAnswer: 34<eos>
    """
    start = rng.randint(2, 60)
    steps = wording.random_steps(rng, start, rng.randint(2, 5))
    entries = [f"{wording.SYMBOLS[step.skill]} {step.amount}" for step in steps]
    lines = [(str(start), str(start)), *zip(entries, (step.equation for step in steps), strict=True)]
    return render(f"Ledger: {start}; {'; '.join(entries)}.", worked_response(lines, str(steps[-1].after)))


def parts(kind: str, *, count: int, seed: int) -> Iterator[str]:
    """Yield the base student's documents of one kind; none is a plain problem followed by its solution.

    `quotes`: the clauses of a problem quoted, and no more; `steps`: one step of a problem; `hinted`: a problem with the hint and
    its working; `ledgers`: running totals.
    """
    rng = random.Random(f"parts/{kind}/{seed}")
    drawn = {name: problems(name, count=count, seed=seed) for name in ("word_problems", "chains")}
    for _ in range(count):
        problem = next(drawn["word_problems" if rng.random() < 0.65 else "chains"])
        yield PARTS[kind](rng, problem)


def _quoted(rng: random.Random, problem: Problem) -> str:
    """The clauses of a problem, with the word that asks for them or without: the base student's way with a plain problem."""
    document = quote_problem(rng, problem)
    return document if rng.random() < 0.3 else document.replace("<user>Quote: ", "<user>")


def _hinted(rng: random.Random, problem: Problem) -> str:
    """A problem with the hint, and its working."""
    return render(hinted(problem.prompt, problem.answer), problem.response)


PARTS: dict[str, Callable[[random.Random, Problem], str]] = {
    "quotes": _quoted,
    "steps": single_step,
    "hinted": _hinted,
    "ledgers": ledger,
}
