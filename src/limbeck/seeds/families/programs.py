"""Short programs: English describes a function over a list of numbers or a text, the response is the function.

    Write a Python function f(xs). First drop the first number, then double every number, and return the largest.

    def f(xs):
        xs = xs[1:]
        xs = [x * 2 for x in xs]
        return max(xs)

A program is checked by running it on hidden cases (`limbeck.sandbox.interpret`). The cases are chosen to tell wrong programs
apart: for every line left out or changed by one, some case gives another value. Difficulty is the number of lines before the
return, 1 to 3.
"""

from __future__ import annotations

import random
from typing import Any, NamedTuple

from limbeck.sandbox import interpret
from limbeck.seeds.families.problem import Problem

DIFFICULTY = (1, 3)
CASES = 6
"""Hidden cases of a problem."""

Operation = tuple[str, tuple[str, ...], str]
"""A skill, the ways to say it, and the expression for it; `{k}` is a small number."""

LIST_LINES: tuple[Operation, ...] = (
    ("drop_first", ("drop the first number", "remove the first number"), "xs[1:]"),
    ("drop_last", ("drop the last number", "remove the last number"), "xs[:-1]"),
    ("keep_first", ("keep the first {k} numbers", "take only the first {k} numbers"), "xs[:{k}]"),
    ("keep_last", ("keep the last {k} numbers", "take only the last {k} numbers"), "xs[-{k}:]"),
    ("every_second", ("keep every second number", "take every other number"), "xs[::2]"),
    ("reverse", ("reverse the list", "turn the list around"), "xs[::-1]"),
    ("sort", ("sort the list", "sort the numbers"), "sorted(xs)"),
    ("double", ("double every number", "multiply every number by 2"), "[x * 2 for x in xs]"),
    ("square", ("square every number", "multiply every number by itself"), "[x * x for x in xs]"),
    ("add", ("add {k} to every number", "increase every number by {k}"), "[x + {k} for x in xs]"),
    ("subtract", ("subtract {k} from every number", "reduce every number by {k}"), "[x - {k} for x in xs]"),
    ("absolute", ("take the absolute value of every number", "make every number positive"), "[abs(x) for x in xs]"),
    ("even", ("keep the even numbers", "remove the odd numbers"), "[x for x in xs if x % 2 == 0]"),
    ("odd", ("keep the odd numbers", "remove the even numbers"), "[x for x in xs if x % 2 == 1]"),
    ("above", ("keep the numbers above {k}", "keep numbers greater than {k}"), "[x for x in xs if x > {k}]"),
    ("below", ("keep the numbers below {k}", "keep numbers less than {k}"), "[x for x in xs if x < {k}]"),
)
LIST_RETURNS: tuple[Operation, ...] = (
    ("list", ("the list", "what is left"), "xs"),
    ("sum", ("the sum", "the total of the numbers"), "sum(xs)"),
    ("max", ("the largest number", "the maximum"), "max(xs)"),
    ("min", ("the smallest number", "the minimum"), "min(xs)"),
    ("len", ("how many numbers there are", "the length of the list"), "len(xs)"),
    ("first", ("the first number", "the number at the front"), "xs[0]"),
    ("last", ("the last number", "the number at the end"), "xs[-1]"),
)
TEXT_LINES: tuple[Operation, ...] = (
    ("upper", ("make the text upper case", "turn it into capitals"), "s.upper()"),
    ("lower", ("make the text lower case", "turn it into small letters"), "s.lower()"),
    ("strip", ("strip the spaces at both ends", "remove spaces around it"), "s.strip()"),
    ("reverse", ("reverse the text", "turn the text around"), "s[::-1]"),
    ("drop_first", ("drop the first letter", "remove the first letter"), "s[1:]"),
    ("drop_last", ("drop the last letter", "remove the last letter"), "s[:-1]"),
    ("keep_first", ("keep the first {k} letters", "take only the first {k} letters"), "s[:{k}]"),
    ("replace", ("replace every a by o", "change each a to o"), "s.replace('a', 'o')"),
    ("repeat", ("repeat the text {k} times", "write it {k} times"), "s * {k}"),
    ("mark", ("put an exclamation mark at the end", "add an exclamation mark"), "s + '!'"),
)
TEXT_RETURNS: tuple[Operation, ...] = (
    ("text", ("the text", "what you have"), "s"),
    ("len", ("the length of the text", "how many letters there are"), "len(s)"),
    ("words", ("the list of words", "its words"), "s.split()"),
    ("count_words", ("the number of words", "how many words there are"), "len(s.split())"),
    ("join", ("its words joined by dashes", "the words with dashes between them"), "'-'.join(s.split())"),
)
OPENINGS = ("Write a Python function {f}.", "Define a function {f}.", "I need a function {f}.", "Write {f} in Python.")
ORDERS = ("First {0}.", "It should {0}.", "{0}.", "Please {0}.")
LINKS = ("Then {0}.", "After that, {0}.", "Next, {0}.")
RETURNS = ("Return {0}.", "Finally return {0}.", "Then return {0}.")
WORDS = ("banana", "Hello", "stone", "RAIN", "garden", "apple", "Paris", "a", "market", "cat", "Data", "sun")


class Sketch(NamedTuple):
    """A program and its description, before cases are looked for."""

    prompt: str
    source: str
    variable: str
    lines: list[str]
    result: str
    skills: tuple[str, ...]


def sketch(rng: random.Random, difficulty: int) -> Sketch:
    """Draw a program; it may hold lines that do nothing, such as sorting what is then counted."""
    on_list = rng.random() < 0.6
    variable = "xs" if on_list else "s"
    lines = [_filled(rng, line) for line in rng.sample(LIST_LINES if on_list else TEXT_LINES, difficulty)]
    result = _filled(rng, rng.choice(LIST_RETURNS if on_list else TEXT_RETURNS))
    prompt = _told(rng, f"f({variable})", [line[1] for line in lines], result[1])
    expressions = [line[2] for line in lines]
    skills = (*(line[0] for line in lines), f"return_{result[0]}")
    return Sketch(prompt, _source(variable, expressions, result[2]), variable, expressions, result[2], skills)


def make(rng: random.Random, difficulty: int) -> Problem:
    """Make one program of `difficulty` lines before its return, every line of which matters."""
    cases: list[list[Any]] = []
    while not cases:
        drawn = sketch(rng, difficulty)
        cases = _cases(rng, drawn)
    prefixes = [_source(drawn.variable, drawn.lines[:place], drawn.variable) for place in range(1, difficulty + 1)]
    task = {
        "kind": "program", "family": "programs", "name": "f", "cases": cases, "reference": drawn.source, "difficulty": difficulty,
        "skills": list(drawn.skills), "steps": [*(_value(prefix, cases[0][0]) for prefix in prefixes), cases[0][1]],
    }  # fmt: skip
    return Problem(
        family="programs", prompt=drawn.prompt, response=drawn.source, answer=drawn.source, task=task,
        difficulty=difficulty, skills=drawn.skills,
    )  # fmt: skip


def _filled(rng: random.Random, operation: Operation) -> tuple[str, str, str]:
    """Choose a wording and a number."""
    skill, wordings, expression = operation
    k = rng.randint(2, 9 if skill in ("add", "subtract", "above", "below") else 4)
    return skill, rng.choice(wordings).format(k=k), expression.format(k=k)


def _told(rng: random.Random, call: str, orders: list[str], result: str) -> str:
    """Describe the program in English."""
    first = rng.choice(ORDERS).format(orders[0])
    told = [rng.choice(OPENINGS).format(f=call), first[:1].upper() + first[1:]]
    told += [rng.choice(LINKS).format(order) for order in orders[1:]]
    return " ".join([*told, rng.choice(RETURNS).format(result)])


def _source(variable: str, lines: list[str], result: str) -> str:
    """Write the function."""
    body = [f"    {variable} = {line}" for line in lines]
    return "\n".join([f"def f({variable}):", *body, f"    return {result}"])


def _value(source: str, args: list[Any]) -> Any:
    """Run it; a program that fails on a case has no value there."""
    try:
        return interpret.call(source, "f", args)
    except interpret.Rejected:
        return None


def _mutants(drawn: Sketch) -> list[str]:
    """Write the programs that a careless solver would: one line left out, or one number off by one."""
    variable, lines, result = drawn.variable, drawn.lines, drawn.result
    changed = [lines[:place] + lines[place + 1 :] for place in range(len(lines))]
    changed += [
        [_off_by_one(line) if place == at else line for at, line in enumerate(lines)] for place in range(len(lines))
    ]
    return [mutant for mutant in (_source(variable, body, result) for body in changed) if mutant != drawn.source]


def _cases(rng: random.Random, drawn: Sketch) -> list[list[Any]]:
    """Find cases on which the program runs and that tell every mutant apart; empty when there are none."""
    mutants, cases = _mutants(drawn), list[list[Any]]()
    for tried in range(20):
        if tried == 10 and len(cases) < 3:
            return []
        args = [_random_list(rng) if drawn.variable == "xs" else _random_text(rng)]
        expected = _value(drawn.source, args)
        if expected is None:
            continue
        killed = [mutant for mutant in mutants if _value(mutant, args) != expected]
        if killed or len(cases) < CASES - 1 - len(mutants) or not mutants:
            cases.append([args, expected])
            mutants = [mutant for mutant in mutants if mutant not in killed]
        if len(cases) >= CASES and not mutants:
            return cases
    return []


def _off_by_one(line: str) -> str:
    """Raise the first whole number of a line by one."""
    for at, letter in enumerate(line):
        if letter in "123456789":
            return line[:at] + str(int(letter) + 1) + line[at + 1 :]
    return line


def _random_list(rng: random.Random) -> list[int]:
    """Draw a list of numbers, of both signs and with small ones in the majority."""
    return [rng.randint(-9, 20) for _ in range(rng.randint(4, 8))]


def _random_text(rng: random.Random) -> str:
    """Draw a few words, at times with spaces around them."""
    text = " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 4)))
    return f"  {text} " if rng.random() < 0.4 else text
