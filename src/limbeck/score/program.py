"""Checking a short Python function by running it on hidden cases, in an interpreter that can do no harm.

    task      {"kind": "program", "name": "f", "cases": [[[[1, 5, 3]], 10], [[[2]], 4]]}
    response  def f(xs):
                  xs = [x * 2 for x in xs]
                  return max(xs)

Each case is the arguments and the expected value. The expected values never enter the program; results are compared
outside, type by type: 2.0 is not 2, and True is not 1. The program is walked by `limbeck.sandbox.interpret`, never handed
to `exec`; what that refuses (an import, a loop, a runaway number) has the verdict `error`, with the reason in
`labels["detail"]`.
"""

from __future__ import annotations

import re
from typing import Any

from limbeck.core.row import Message, Row, new_row
from limbeck.core.step import Each, Made
from limbeck.sandbox import interpret
from limbeck.score._answers import visible
from limbeck.score._verdict import Verdict, judged

FENCE = re.compile(r"```[ \t]*(?:python|py)?[ \t]*\n(.*?)```", re.DOTALL | re.IGNORECASE)


class Program(Each):
    """Run the response's function on the cases of the task; 1 if all values are right, 0 otherwise."""

    def each(self, row: Row) -> Made:
        """Score one response."""
        cases, name = _cases(row.task.get("cases")), row.task.get("name", "f")
        if not cases or not isinstance(name, str):
            return judged(row, "program", "unreadable-reference")
        source = function_of(row.response, name)
        if source is None:
            return judged(row, "program", "no-answer")
        verdict, detail = _run(source, name, cases)
        return judged(row, "program", verdict, answer=source, detail=detail)

    @classmethod
    def validate(cls) -> list[tuple[Row, float]]:  # type: ignore[override]
        """Return gold responses (1.0) and planted errors (0.0)."""
        return [(_example(response), score) for response, score in EXAMPLES]


def function_of(response: str, name: str) -> str | None:
    """Return the source of the function in a response: a fenced block, or all of it from the first `def`; None if there is none."""
    text = visible(response)
    if text is None:
        return None
    blocks = list(dict.fromkeys(b.strip("\n") for b in FENCE.findall(text) if f"def {name}" in b))
    if blocks:
        return blocks[0] if len(blocks) == 1 else None  # two different programs are no answer
    begin = re.search(rf"^def {re.escape(name)}\b", text, re.MULTILINE)
    return text[begin.start() :].strip() if begin else None


def same_value(left: Any, right: Any) -> bool:
    """Say whether two values are equal and of the same types all the way down; NaN equals NaN."""
    if type(left) is not type(right):
        return False
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same_value, left, right))
    return bool(left == right) or (left != left and right != right)


def _run(source: str, name: str, cases: list[Any]) -> tuple[Verdict, str]:
    for place, (arguments, expected) in enumerate(cases, start=1):
        try:
            value = interpret.call(source, name, list(arguments))
        except interpret.Rejected as refused:
            return "error", f"case {place}: {refused}"
        if not same_value(value, expected):
            return "wrong", f"case {place}: {name}({', '.join(map(repr, arguments))}) gives {value!r}, not {expected!r}"
    return "pass", ""


def _cases(cases: Any) -> list[Any]:
    """Return the cases if they are readable as pairs of arguments and value, else none."""
    pairs = list(cases) if isinstance(cases, list | tuple) else []
    fit = all(isinstance(c, list | tuple) and len(c) == 2 and isinstance(c[0], list | tuple) for c in pairs)
    return pairs if fit else []


GOLD = "def f(xs):\n    xs = [x * 2 for x in xs]\n    return max(xs)"
EXAMPLES = (
    (GOLD, 1.0),
    (f"Here it is:\n```python\n{GOLD}\n```\nIt doubles first.", 1.0),
    (f"<think>A loop?</think>{GOLD}", 1.0),
    ("def f(xs):\n    return max(xs)", 0.0),
    ("def f(xs):\n    return max(xs) * 2.0", 0.0),
    ("def f(xs):\n    return str(max(xs) * 2)", 0.0),
    ("def g(xs):\n    return max(xs) * 2", 0.0),
    (f"```python\n{GOLD}\n```\nor\n```python\n{GOLD.replace('max', 'min')}\n```", 0.0),
    ("def f(xs):\n    import os\n    return 10", 0.0),
    ("def f(xs):\n    return __import__('os').getpid()", 0.0),
    ("def f(xs):\n    return 10 ** 10 ** 10", 0.0),
    ("def f(xs)\n    return 10", 0.0),
    ("10", 0.0),
    ("", 0.0),
)


def _example(response: str) -> Row:
    turns = (
        Message(role="user", content="Double every number and return the largest."),
        Message(role="assistant", content=response),
    )
    cases = [[[[1, 5, 3]], 10], [[[2]], 4], [[[-1, -2]], -2]]
    return new_row(
        messages=turns,
        task={"kind": "program", "name": "f", "cases": cases},
        made_by={"step": "score.program", "use": "validate"},
    )
