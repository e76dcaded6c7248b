"""Checking a program by running it in the sandbox: function cases, standard input and output, asserts.

    task      {"kind": "code", "name": "add", "cases": [[[2, 3], 5], [[-1, 1], 0]]}
    response  Here it is:
              ```python
              def add(a, b):
                  return a + b
              ```
        scores  {"code": 1.0, "verified": 1.0}
        labels  {"verdict": "pass", "answer": "def add…", "level": "strict+ns"}

The records of HumanEval, MBPP and APPS are read as they stand (`_code_task.py`); which program of a response counts is said in
`_code_extract.py`. Expected values never enter the program's process, and what it returns is compared outside by exact type, so
printing "passed", an early exit, or an object that equals everything gain nothing (`limbeck.sandbox`).

Verdicts: `pass`, `wrong`, `error`, `timeout`, `output-limit`, `memory`, `refused` (it did what the jail forbids), `no-answer`
(no program that defines the name). A fault of the sandbox itself is tried twice and then the verdict is `harness-failure`,
without a score: it says nothing about the program. Every row says how strictly its program was confined; where `strict` can not
be had, the run stops."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from limbeck.core.ask import Work
from limbeck.core.row import Message, Row, new_row
from limbeck.core.step import Asking, Each
from limbeck.sandbox import Level
from limbeck.score._code_extract import before, continued, program_in
from limbeck.score._code_run import Limits, run_checks
from limbeck.score._code_task import Checks, checks_of
from limbeck.score._verdict import judged


class Code(Each):
    """Run the response's program on the checks of the task; 1 if it passes all of them, 0 otherwise."""

    seconds: float = Field(default=3.0, gt=0)
    """Wall-clock limit: for all function cases or asserts together, for each case of standard input."""
    memory_mb: int = Field(default=256, ge=1)
    """Memory limit in MiB, on top of what the interpreter takes."""
    allow: tuple[str, ...] = ()
    """Packages of this environment that programs may import, such as `numpy`; only the standard library by default."""
    level: Level = "strict"
    """The weakest confinement that will do, or a backend; `rlimit-only` is none, and only for programs you trust."""

    def each(self, row: Row) -> Asking:
        """Score one response."""
        checks = checks_of(row)
        if checks is None:
            return judged(row, "code", "unreadable-reference")
        source = source_of(row, checks)
        if source is None:
            return judged(row, "code", "no-answer")
        limits = Limits(self.seconds, self.memory_mb, self.allow, self.level)
        verdict = yield Work(run_checks, (source, checks, limits))
        if verdict is None:
            return judged(row, "code", "unreadable-reference", detail="the checks can not be used")
        return judged(row, "code", verdict.status, answer=source, detail=verdict.detail, level=verdict.level)

    @classmethod
    def validate(cls) -> list[tuple[Row, float]]:  # type: ignore[override]
        """Return gold responses (1.0) and planted errors (0.0)."""
        return [(_example(response, task), score) for response, task, score in EXAMPLES]


def source_of(row: Row, checks: Checks) -> str | None:
    """Return the program that a response holds, with what the question gave before it; None if there is none."""
    source = program_in(row.response, checks.name)
    if source is not None:
        given = before(checks.prompt, checks.name) if checks.name else ""
        return f"{given}\n{source}" if given.strip() else source
    return continued(checks.prompt, row.response, checks.name) if checks.name and checks.prompt else None


CASES = {"name": "add", "cases": [[[2, 3], 5], [[-1, 1], 0]]}
ASSERTS = {"tests": ["assert add(2, 3) == 5", "assert add(-1, 1) == 0"]}
STDIO = {"stdio": [["2\n3\n", "5\n"], ["-1\n1\n", "0\n"]]}
HUMANEVAL = {
    "entry_point": "add",
    "test": "def check(candidate):\n    assert candidate(2, 3) == 5\n    assert candidate(-1, 1) == 0\n",
}
ADD = "def add(a, b):\n    return a + b"
PRINTS = "a = int(input())\nb = int(input())\nprint(a + b)"
EQUAL = "class Yes:\n    def __eq__(self, other):\n        return True\n\ndef add(a, b):\n    return Yes()"
EXAMPLES: tuple[tuple[str, dict[str, Any], float], ...] = (
    (f"```python\n{ADD}\n```", CASES, 1.0),
    (f"Sure.\n\n{ADD}\n\nThat is all.", CASES, 1.0),
    (
        f"```python\n{ADD.replace('+', '-')}\n```\nNo:\n```python\n{ADD}\n```\nUse:\n```python\nprint(add(1, 2))\n```",
        ASSERTS,
        1.0,
    ),
    (f"```python\n{ADD}\n```", HUMANEVAL, 1.0),
    (f"```python\n{PRINTS}\n```", STDIO, 1.0),
    (f"```python\n{ADD} + 1\n```", CASES, 0.0),
    (f"```python\n{ADD} + 0.0\n```", CASES, 0.0),
    (f"```python\n{ADD}\n```\n```python\n{ADD.replace('+', '-')}\n```", CASES, 0.0),
    (f"```python\n{EQUAL}\n```", CASES, 0.0),
    (f"```python\n{EQUAL}\n```", ASSERTS, 0.0),
    (f"```python\n{EQUAL}\n```", HUMANEVAL, 0.0),
    ("```python\nimport os\n\ndef add(a, b):\n    os._exit(0)\n```", ASSERTS, 0.0),
    ("```python\ndef add(a, b):\n    while True:\n        pass\n```", CASES, 0.0),
    ("```python\nprint(5)\n```", STDIO, 0.0),
    (f"```python\n{PRINTS}\nprint()\nprint('more')\n```", STDIO, 0.0),
    (f"```python\n{PRINTS}\nraise SystemExit(3)\n```", STDIO, 0.0),
    ("It is a + b.", CASES, 0.0),
    ("", CASES, 0.0),
)


def _example(response: str, task: dict[str, Any]) -> Row:
    turns = (Message(role="user", content="Add two numbers."), Message(role="assistant", content=response))
    return new_row(messages=turns, task={"kind": "code", **task}, made_by={"step": "score.code", "use": "validate"})
