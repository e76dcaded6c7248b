"""Test generation agreement: many programs against many tests, none of them known to be right.

    group 93ab   3 programs, 4 tests written by models         passes
                 def add(a, b): return a + b                   t1 t2 t3         agreement 2/3 * 3/4 = 0.5
                 def add(*xs): return sum(xs)                  t1 t2 t3         agreement 0.5: the same tests, so the same set
                 def add(a, b): return a - b                   t4               agreement 1/3 * 1/4

Programs that pass exactly the same tests form a set; a set is worth the share of the programs in it times the share of the
tests it passes (dual execution agreement: CodeT, Chen et al. 2022, https://arxiv.org/abs/2207.10397). Every program of the set
gets that score; a test gets the highest score of a set that passes it. `tests_passed` is a program's share of tests alone.

Tests are rows of the same group whose `labels["role"]` is `tests` (their responses' assert lines), and the task's
`agreement_tests`. Each test runs on its own against each program, in the sandbox (`check_asserts`), and only if it asserts
something. Agreement is not correctness: a program and a test that share an author share its misunderstandings, so take the
tests from another model."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from pydantic import Field

from limbeck.core.row import Message, Row, new_row
from limbeck.core.step import Whole
from limbeck.sandbox import Level
from limbeck.score._code_extract import fenced, program_in
from limbeck.score._code_run import Limits, run_checks
from limbeck.score._code_task import CALLED, COMMON, Checks

ROLE = "role"
ASSERT = re.compile(r"^assert\b.+", re.MULTILINE)
MAX_TEST = 4000
"""Characters of one assert; longer ones are not run."""


class Matrix(NamedTuple):
    """Which programs pass which tests."""

    programs: list[str]
    tests: list[str]
    passes: dict[str, frozenset[str]]
    """The tests that each program passes."""


class Agreement(Whole):
    """Score programs and tests of a group by how many agree: programs that pass the same tests, and how many those are."""

    max_tests: int = Field(default=50, ge=1)
    """How many different tests of a group are run; the first ones."""
    seconds: float = Field(default=2.0, gt=0)
    """Wall-clock limit of one test against one program."""
    memory_mb: int = Field(default=256, ge=1)
    """Memory limit in MiB."""
    allow: tuple[str, ...] = ()
    """Packages of this environment that programs may import."""
    level: Level = "strict"
    """The weakest confinement that will do, or a backend."""

    def key(self, row: Row) -> str:
        """Return the group: programs and tests of other prompts do not matter."""
        return row.group

    def whole(self, rows: list[Row]) -> list[Row]:
        """Return the rows, programs and tests with their agreement."""
        groups: dict[str, list[int]] = {}
        for place, row in enumerate(rows):
            groups.setdefault(row.group, []).append(place)
        out = list(rows)
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            for places in groups.values():
                for place, row in zip(places, self._group([rows[p] for p in places], pool), strict=True):
                    out[place] = row
        return out

    @classmethod
    def validate(cls) -> list[tuple[Row, float]]:  # type: ignore[override]
        """Return programs, each alone with its tests: those that pass all (1.0), and those that pass none (0.0)."""
        return [(_example(response, place), score) for place, (response, score) in enumerate(EXAMPLES)]

    def _group(self, rows: Sequence[Row], pool: ThreadPoolExecutor) -> list[Row]:
        own = [_asserts(row.response) if row.labels.get(ROLE) == "tests" else [] for row in rows]
        shared = next((t for row in rows if isinstance(t := row.task.get("agreement_tests"), list)), [])
        tests = list(
            dict.fromkeys([*(t for t in shared if isinstance(t, str)), *(t for several in own for t in several)])
        )
        name = next((n for row in rows if isinstance(n := row.task.get("name"), str)), None) or _tested(tests)
        if name:  # a test that does not call the function says nothing about it
            tests = [test for test in tests if re.search(rf"\b{re.escape(name)}\s*\(", test)]
        sources = [None if row.labels.get(ROLE) == "tests" else program_in(row.response, name) for row in rows]
        programs = list(dict.fromkeys(source for source in sources if source is not None))
        matrix = self._matrix(programs, tests[: self.max_tests], name, pool)
        if not programs or not matrix.tests:
            return [row.with_labels(agreement="nothing-to-compare") for row in rows]
        worth = _worth(matrix, Counter(source for source in sources if source is not None))
        return [
            _scored_test(row, own[at], matrix, worth)
            if row.labels.get(ROLE) == "tests"
            else _scored(row, sources[at], matrix, worth)
            for at, row in enumerate(rows)
        ]

    def _matrix(self, programs: list[str], tests: list[str], name: str | None, pool: ThreadPoolExecutor) -> Matrix:
        limits = Limits(self.seconds, self.memory_mb, self.allow, self.level)
        jobs = [(program, test) for program in programs for test in tests]
        verdicts = list(pool.map(lambda job: run_checks(job[0], Checks(name, tests=[job[1]]), limits), jobs))
        # a test that can not be used, or that the sandbox failed on, says nothing about any program
        void = {test for (_, test), v in zip(jobs, verdicts, strict=True) if v is None or v.status == "harness-failure"}
        passed: dict[str, set[str]] = {program: set() for program in programs}
        for (program, test), verdict in zip(jobs, verdicts, strict=True):
            if test not in void and verdict is not None and verdict.passed:
                passed[program].add(test)
        return Matrix(programs, [t for t in tests if t not in void], {p: frozenset(t) for p, t in passed.items()})


EXAMPLES = (
    ("def add(a, b):\n    return a + b", 1.0),
    ("```python\ndef add(*terms):\n    return sum(terms)\n```", 1.0),
    ("def add(a, b):\n    return a - b", 0.0),
    ("def add(a, b):\n    raise SystemExit(0)", 0.0),
    ("def add(a, b):\n    return 0", 0.0),
)


def _example(response: str, place: int) -> Row:
    turns = (Message(role="user", content="Add two numbers."), Message(role="assistant", content=response))
    task = {"name": "add", "agreement_tests": ["assert add(2, 3) == 5", "assert add(-1, 2) == 1"]}
    return new_row(messages=turns, task=task, made_by={"step": "score.agreement", "use": "validate", "example": place})


def _worth(matrix: Matrix, copies: Counter[str]) -> dict[frozenset[str], float]:
    """Return the worth of each set of passed tests; equal programs count as often as they were written."""
    support: Counter[frozenset[str]] = Counter()
    for program, passed in matrix.passes.items():
        support[passed] += copies[program]
    return {passed: count / copies.total() * len(passed) / len(matrix.tests) for passed, count in support.items()}


def _scored(row: Row, source: str | None, matrix: Matrix, worth: dict[frozenset[str], float]) -> Row:
    if source is None:
        return row.with_scores(agreement=0.0, tests_passed=0.0).with_labels(agreement="no-answer")
    passed = matrix.passes[source]
    return row.with_scores(agreement=worth[passed], tests_passed=len(passed) / len(matrix.tests)).with_labels(
        agreement="program"
    )


def _scored_test(row: Row, own: list[str], matrix: Matrix, worth: dict[frozenset[str], float]) -> Row:
    usable = [test for test in own if test in matrix.tests]
    if not usable:
        return row.with_labels(agreement="no-answer").with_scores(agreement=0.0)
    best = [max((value for passed, value in worth.items() if test in passed), default=0.0) for test in usable]
    return row.with_scores(agreement=sum(best) / len(best)).with_labels(agreement="tests")


def _asserts(response: str) -> list[str]:
    """Return the asserts that stand on one line each, from the fences of a response or from all of it."""
    text = "\n".join(fenced(response)) or response
    return [
        found.rstrip()
        for found in ASSERT.findall("\n".join(line.strip() for line in text.splitlines()))
        if len(found) <= MAX_TEST
    ]


def _tested(tests: Sequence[str]) -> str | None:
    """Return the name that most tests call."""
    called = Counter(name for test in tests for name in dict.fromkeys(CALLED.findall(test)) if name not in COMMON)
    return called.most_common(1)[0][0] if called else None
