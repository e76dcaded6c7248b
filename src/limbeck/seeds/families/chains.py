"""Computation chains in plain English: a start and a run of orders.

    Start with 12. Add 5. Double it. Take away 9. What number do you have?

Difficulty is the number of orders after the start, 2 to 5.
"""

from __future__ import annotations

import random

from limbeck.seeds.families.problem import Problem, capitalised, worked_response
from limbeck.seeds.families.wording import random_steps

DIFFICULTY = (2, 5)

STARTS = ("Start with {n}", "Take the number {n}", "Begin with {n}", "Think of the number {n}", "You have {n}")
ORDERS = {
    "gain": ("add {n}", "add {n} to it", "increase it by {n}", "put {n} on top", "count {n} up", "make it {n} more"),
    "lose": (
        "take away {n}",
        "subtract {n}",
        "reduce it by {n}",
        "take {n} from it",
        "count {n} down",
        "make it {n} less",
    ),
    "double": ("double it", "multiply it by 2", "take it twice", "double the number"),
    "triple": ("triple it", "multiply it by 3", "triple the number"),
    "halve": ("halve it", "divide it by 2", "cut it in half", "take half of it"),
}
LAYOUTS = (". ", ". ", ", then ", "; ", ". Then ", ". Next, ")
QUESTIONS = (
    "What number do you have?",
    "What is the result?",
    "What do you get?",
    "Which number is it now?",
    "Where do you end?",
)


def make(rng: random.Random, difficulty: int) -> Problem:
    """Make one chain of `difficulty` orders."""
    start = rng.randint(2, 60)
    steps = random_steps(rng, start, difficulty)
    orders = [rng.choice(ORDERS[change.skill]).format(n=change.amount) for change in steps]
    joint = rng.choice(LAYOUTS)
    quoted = [rng.choice(STARTS).format(n=start), *(capitalised(order) if joint == ". " else order for order in orders)]
    prompt = f"{joint.join(quoted)}. {rng.choice(QUESTIONS)}"
    results = [str(start), *(change.equation for change in steps)]
    answer = str(steps[-1].after)
    skills = tuple(change.skill for change in steps)
    task = {
        "kind": "math", "family": "chains", "reference": answer, "difficulty": difficulty, "skills": list(skills),
        "steps": [start, *(change.after for change in steps)],
    }  # fmt: skip
    response = worked_response(list(zip(quoted, results, strict=True)), answer)
    return Problem(
        family="chains",
        prompt=prompt,
        response=response,
        answer=answer,
        task=task,
        difficulty=difficulty,
        skills=skills,
    )
