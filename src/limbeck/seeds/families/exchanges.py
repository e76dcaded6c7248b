"""Exchanges between two people: who has how many in the end? The embedded teacher's labelled weakness.

    Anna has 12 apples and Ben has 7 apples. Anna gives Ben 3 apples. Ben finds 4 apples. How many apples does Ben have now?

Two totals have to be carried and the asked one looked up, which a tiny model finds hard; each line of the working therefore ends
with both totals, and a last line looks the asked one up. Difficulty is the number of events, 1 to 3.
"""

from __future__ import annotations

import random

from limbeck.seeds.families.problem import Problem, worked_response
from limbeck.seeds.families.wording import LIMIT, PEOPLE, THINGS, amount_of

DIFFICULTY = (1, 3)

STARTS = ("{a} has {x} {things} and {b} has {y} {things}", "At first {a} has {x} {things} and {b} has {y} {things}")
EVENTS = {
    "give": ("{a} gives {b} {n} {things}", "{a} sends {n} {things} to {b}", "{b} gets {n} {things} from {a}"),
    "gain": ("{a} finds {n} {things}", "{a} buys {n} more {things}"),
    "lose": ("{a} loses {n} {things}", "{a} sells {n} {things}"),
}
QUESTIONS = ("How many {things} does {name} have now?", "How many {things} does {name} have in the end?")


def make(rng: random.Random, difficulty: int) -> Problem:
    """Make one exchange of `difficulty` events."""
    names = [person.name for person in rng.sample(PEOPLE, 2)]
    things = rng.choice(THINGS)
    totals = [rng.randint(2, 50), rng.randint(2, 50)]
    begin = rng.choice(STARTS).format(a=names[0], b=names[1], x=totals[0], y=totals[1], things=things)
    lines, states, skills = [(begin, _state(names, totals))], [list(totals)], []
    for _ in range(difficulty):
        skill, clause, work = _event(rng, names, totals, things)
        lines.append((clause, f"{work}; {_state(names, totals)}"))
        states.append(list(totals))
        skills.append(skill)
    asked = rng.randrange(2)
    question = rng.choice(QUESTIONS).format(name=names[asked], things=things)
    prompt = f"{'. '.join(clause for clause, _ in lines)}. {question}"
    lines.append((question.rstrip("?"), f"{names[asked]} {totals[asked]}"))
    answer = str(totals[asked])
    task = {
        "kind": "math", "family": "exchanges", "reference": answer, "difficulty": difficulty, "skills": skills, "steps": states
    }  # fmt: skip
    response = worked_response(lines, answer)
    return Problem(
        family="exchanges",
        prompt=prompt,
        response=response,
        answer=answer,
        task=task,
        difficulty=difficulty,
        skills=tuple(skills),
    )


def _state(names: list[str], totals: list[int]) -> str:
    """Both totals, as each line ends: `Anna 12, Ben 7`."""
    return f"{names[0]} {totals[0]}, {names[1]} {totals[1]}"


def _event(rng: random.Random, names: list[str], totals: list[int], things: str) -> tuple[str, str, str]:
    """Draw one event, change the totals by it, and return its skill, its clause and its arithmetic."""
    giver = rng.randrange(2)
    taker = 1 - giver
    possible = ["gain"] * (totals[giver] <= LIMIT - 2) + ["lose"] * (totals[giver] >= 2)
    possible += ["give"] * 2 * (totals[giver] >= 2 and totals[taker] <= LIMIT - 2)
    skill = rng.choice(possible)
    room = LIMIT - totals[taker] if skill == "give" else LIMIT
    amount = amount_of(rng, LIMIT - totals[giver] if skill == "gain" else min(totals[giver], room))
    work = []
    for who, sign in ((giver, 1 if skill == "gain" else -1), *(((taker, 1),) if skill == "give" else ())):
        before, totals[who] = totals[who], totals[who] + sign * amount
        work.append(f"{before} {'+' if sign > 0 else '-'} {amount} = {totals[who]}")
    clause = rng.choice(EVENTS[skill]).format(a=names[giver], b=names[taker], n=amount, things=things)
    return skill, clause, ", ".join(work)
