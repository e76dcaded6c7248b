"""Word problems: someone gains, loses, doubles, triples or halves a number of things; how many are there in the end?

    At first Anna has 12 apples. Later Ben gives her 5 apples, and she sells half of ... How many apples does Anna have now?

Difficulty is the number of changes, 2 to 5. Other people appear as givers and takers, so that "Ben gives her 5" and "she gives
Ben 5" have to be told apart.
"""

from __future__ import annotations

import random

from limbeck.seeds.families.problem import Problem, capitalised, worked_response
from limbeck.seeds.families.wording import MOMENTS, PEOPLE, THINGS, Person, Step, random_steps

DIFFICULTY = (2, 5)

STARTS = (
    "{name} has {n} {things}", "At first {name} has {n} {things}", "{name} starts with {n} {things}",
    "In the morning {name} has {n} {things}", "There are {n} {things} in the bag of {name}", "{name} owns {n} {things}",
)  # fmt: skip
CHANGES = {
    "gain": (
        "{she} buys {n} more {things}", "{she} finds {n} {things}", "{other} gives {her} {n} {things}",
        "{she} picks up {n} {things}", "{she} gets {n} {things} from {other}", "{she} wins {n} more", "{she} is given {n} {things}",
        "{other} sends {her} {n} more {things}", "{n} more {things} are added",
    ),
    "lose": (
        "{she} loses {n} {things}", "{she} gives {n} {things} to {other}", "{she} sells {n} {things}", "{she} gives away {n}",
        "{other} takes {n} of the {things}", "{she} drops {n} {things}", "{she} lends {other} {n} {things}",
        "{she} sends {n} {things} to {other}", "{n} of the {things} are stolen",
    ),
    "double": (
        "the number of {things} doubles", "{she} doubles {hers} {things}", "{she} gets as many {things} again",
        "{other} doubles the {things}",
    ),
    "triple": ("the number of {things} triples", "{she} triples {hers} {things}", "{other} triples the {things}"),
    "halve": (
        "{she} gives away half of the {things}", "{she} sells half of {hers} {things}", "half of the {things} are lost",
        "{other} takes half of {hers} {things}", "{she} loses half of them",
    ),
}  # fmt: skip
QUESTIONS = (
    "How many {things} does {name} have now?", "How many {things} are left?", "How many {things} does {she} have in the end?",
    "What is the number of {things} at the end?", "How many {things} are there now?",
)  # fmt: skip


def make(rng: random.Random, difficulty: int) -> Problem:
    """Make one story of `difficulty` changes."""
    person, other = rng.sample(PEOPLE, 2)
    things = rng.choice(THINGS)
    start = rng.randint(2, 60)
    steps = random_steps(rng, start, difficulty)
    clauses = [rng.choice(STARTS).format(name=person.name, n=start, things=things)]
    clauses += [_clause(rng, change, person, other.name, things) for change in steps]
    text, quoted = _told(rng, clauses)
    question = rng.choice(QUESTIONS).format(name=person.name, she=person.she, things=things)
    return _problem(f"{text} {question}", quoted, start, steps)


def _clause(rng: random.Random, change: Step, person: Person, other: str, things: str) -> str:
    """Word one change; the person is named again now and then."""
    she = person.name if rng.random() < 0.15 else person.she
    template = rng.choice(CHANGES[change.skill])
    return template.format(she=she, her=person.her, hers=person.hers, other=other, n=change.amount, things=things)


def _told(rng: random.Random, clauses: list[str]) -> tuple[str, list[str]]:
    """Join the clauses into running text; return it with each clause as it stands there."""
    text, quoted = clauses[0], [clauses[0]]
    for clause, moment in zip(clauses[1:], rng.sample(MOMENTS, len(clauses) - 1), strict=True):
        if rng.random() < 0.15:
            quoted.append(clause)
            text += f", and {clause}"
            continue
        quoted.append(f"{moment} {clause}" if moment and rng.random() < 0.7 else capitalised(clause))
        text += f". {quoted[-1]}"
    return f"{text}.", quoted


def _problem(prompt: str, quoted: list[str], start: int, steps: list[Step]) -> Problem:
    """Put story, working and task together."""
    results = [str(start), *(change.equation for change in steps)]
    answer = str(steps[-1].after)
    skills = tuple(change.skill for change in steps)
    task = {
        "kind": "math", "family": "word_problems", "reference": answer, "difficulty": len(steps), "skills": list(skills),
        "steps": [start, *(change.after for change in steps)],
    }  # fmt: skip
    response = worked_response(list(zip(quoted, results, strict=True)), answer)
    return Problem(
        family="word_problems",
        prompt=prompt,
        response=response,
        answer=answer,
        task=task,
        difficulty=len(steps),
        skills=skills,
    )
