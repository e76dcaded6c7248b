"""The program verifier: which program of a response counts, whose fields are read, and real programs right and spoilt."""

from __future__ import annotations

import gzip
import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import limbeck
from driving import drive
from limbeck import sandbox
from limbeck.core.ask import Work
from limbeck.core.errors import UsageError
from limbeck.core.row import Message, Row, new_row
from limbeck.score import _code_run
from limbeck.score._code_extract import program_in
from limbeck.score._code_task import checks_of
from limbeck.score.code import Code
from limbeck.score.program import Program
from limbeck.seeds.families import problems

ADD = "def add(a, b):\n    return a + b"
SUBTRACT = "def add(a, b):\n    return a - b"
CASES = {"name": "add", "cases": [[[2, 3], 5], [[-1, 1], 0]]}
ALL = os.environ.get("LIMBECK_ALL_PROGRAMS") == "1"
"""Whether to check all 1,138 programs and three spoilt versions of each, which takes minutes, or a sample."""


def row(response: str, task: dict[str, Any], *, question: str = "Add.", extra: dict[str, Any] | None = None) -> Row:
    turns = (Message(role="user", content=question), Message(role="assistant", content=response))
    return new_row(messages=turns, task=task, extra=extra, made_by={})


def python(source: str) -> str:
    return f"```python\n{source}\n```"


def test_gold_and_planted_errors() -> None:
    for example, score in Code.validate():
        judged = drive(Code(seconds=1.0), example)
        assert judged.scores == {"code": score, "verified": score}, (example.response, judged.labels)
        assert (judged.labels["verdict"] == "pass") == (score == 1.0)
        assert (judged.labels.get("level") in ("strict", "strict+ns")) == (judged.labels["verdict"] != "no-answer")


@pytest.mark.parametrize(
    ("response", "source"),
    [
        (python(ADD), ADD),
        (f"```\n{ADD}\n```", ADD),
        (f"```py\n{ADD}\n```", ADD),
        (f"```Python3\r\n{ADD}\r\n```", ADD),
        (f"{python(SUBTRACT)}\nBetter:\n{python(ADD)}", ADD),  # the last one
        (f"{python(ADD)}\nUse it:\n{python('print(add(1, 2))')}", ADD),  # the one that defines the name
        (f"{python(ADD)}\nIn Java:\n```java\nint add(int a, int b)\n```", ADD),
        (f"<think>{python(SUBTRACT)}</think>{python(ADD)}", ADD),
        (f"```python\n{ADD}", ADD),  # cut off
        (ADD, ADD),
        (f"Here:\n{ADD}\nIt adds.", ADD),
        (f"Here:\nimport math\n\n{ADD}\n\nprint(add(1, 2))\n\nIt adds.", f"import math\n\n{ADD}\n\nprint(add(1, 2))"),
        (python("add = lambda a, b: a + b"), "add = lambda a, b: a + b"),
        (python("class add:\n    pass"), "class add:\n    pass"),
        (python(f"class Solution:\n    {ADD}"), None),  # not at the left margin
        (python(ADD.replace("add", "plus")), None),
        (f"<think>{python(ADD)}", None),
        ("add(a, b) returns a + b", None),
        ("```python\n```", None),
        ("", None),
        ("x" * 300_000 + python(ADD), None),
    ],
)
def test_which_program_counts(response: str, source: str | None) -> None:
    assert program_in(response, "add") == source


def test_a_program_without_a_name_is_the_last_block() -> None:
    assert program_in(f"{python('print(1)')}\n{python('print(2)')}", None) == "print(2)"


@given(st.text(alphabet="`pyton\n def a():=#x", max_size=120))
def test_no_response_makes_the_search_raise(text: str) -> None:
    for name in ("a", None):
        found = program_in(text, name)
        assert found is None or found in text.replace("\r\n", "\n")


@pytest.mark.parametrize(
    "task",
    [
        {},
        {"cases": []},
        {"name": "add", "cases": [[1, 2]]},
        {"name": "add", "cases": [[[1], 2, 3]]},
        {"cases": [[[1], 2]]},
        {"name": 3, "cases": [[[1], 2]]},
        {"stdio": [["a"]]},
        {"stdio": [[1, 2]]},
        {"tests": []},
        {"tests": ["print(add(1, 2))"]},  # could not fail
        {"tests": ["assert add(1,"]},
        {"tests": [3]},
        {"input_output": "{"},
        {"input_output": {"inputs": ["1"], "outputs": []}},
        {"input_output": {"fn_name": "add"}},
    ],
)
def test_checks_that_can_not_be_read_or_could_not_fail(task: dict[str, Any]) -> None:
    judged = drive(Code(), row(python(ADD), task))
    assert judged.labels["verdict"] == "unreadable-reference" and judged.scores == {}


@pytest.mark.parametrize(
    "fields",
    [
        CASES,
        {"tests": "assert add(1, 2) == 3"},
        {"test_list": ["assert add(1, 2) == 3", "assert add(0, 0) == 0"], "test_setup_code": "import math"},
        {"entry_point": "add", "test": "def check(candidate):\n    assert candidate(1, 2) == 3"},
        {"input_output": {"fn_name": "add", "inputs": [[1, 2]], "outputs": [3]}},
        {"input_output": json.dumps({"fn_name": "add", "inputs": [[1, 2]], "outputs": [3]})},
    ],
)
def test_whose_fields_are_read(fields: dict[str, Any]) -> None:
    for task, extra in ((fields, {}), ({}, fields)):
        right, wrong = (drive(Code(), row(python(source), task, extra=extra)) for source in (ADD, SUBTRACT))
        assert (right.labels["verdict"], wrong.labels["verdict"]) == ("pass", "wrong"), right.labels


def test_apps_programs_read_lines() -> None:
    task = {"input_output": {"inputs": ["2\n3\n", ["4", "5"]], "outputs": ["5\n", ["9"]]}}
    assert drive(Code(), row(python("print(int(input()) + int(input()))"), task)).labels["verdict"] == "pass"


def test_a_bare_body_completes_the_code_of_the_question() -> None:
    prompt = "import math\n\ndef half(x):\n    return x / 2\n\ndef add(a, b):\n    '''Add.'''\n"
    task = {
        "entry_point": "add",
        "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n    assert half(2) == 1",
    }
    body = "    return a + b"
    for question in (prompt, f"Complete this:\n{python(prompt)}"):
        for response in (body, python(body), python(ADD), python(f"{prompt}{body}")):
            assert drive(Code(), row(response, task, question=question)).labels["verdict"] == "pass", response
    assert drive(Code(), row("It adds a and b.", task, question=prompt)).labels["verdict"] == "no-answer"


ROOT = """import math

def poly(xs, x):
    return sum(c * math.pow(x, i) for i, c in enumerate(xs))

def find_zero(xs):
    # find a zero of the polynomial
    ...
"""


def test_helpers_of_the_question_are_not_the_programs_to_change() -> None:
    test = "def check(candidate):\n    assert math.fabs(poly([-4, 2], candidate([-4, 2]))) < 1e-4"
    task = {"entry_point": "find_zero", "test": test, "prompt": ROOT}
    forged = "def poly(xs, x):\n    return 0.0\n\ndef find_zero(xs):\n    return 7.0"
    for source, verdict in (
        ("def find_zero(xs):\n    return 2.0", "pass"),
        (forged, "wrong"),
        ("    return 2.0", "pass"),
    ):
        assert drive(Code(), row(python(source), task)).labels["verdict"] == verdict, source
    assert checks_of(row("", {**task, "test": "assert find_zero([-4, 2]) == 2.0"})).tests == [
        "assert find_zero([-4, 2]) == 2.0"
    ]


def test_tests_and_helpers_may_use_what_is_allowed() -> None:
    pytest.importorskip("numpy")
    prompt = "import numpy as np\n\ndef near(a, b):\n    return np.allclose(a, b)\n\ndef scale(xs):\n    ...\n"
    task = {"entry_point": "scale", "test": "assert near(scale([1, 2]), np.array([2, 4]))", "prompt": prompt}
    step = Code(allow=("numpy",), seconds=20.0, memory_mb=2048)
    for body, verdict in (("[2 * x for x in xs]", "pass"), ("(np.array(xs) * 2).tolist()", "pass"), ("xs", "wrong")):
        assert drive(step, row(python(f"def scale(xs):\n    return {body}"), task)).labels["verdict"] == verdict, body


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        ("return a - b", "wrong"),
        ("return float(a + b)", "wrong"),
        ("return str(a + b)", "wrong"),
        ("return a / 0", "error"),
        ("while True: pass", "timeout"),
        ("print('x' * 10**7); return a + b", "output-limit"),
        ("x = bytearray(10**10); return a + b", "memory"),
        ("import socket; socket.socket(); return a + b", "refused"),
        ("return a +", "error"),
    ],
)
def test_verdicts(body: str, verdict: str) -> None:
    judged = drive(Code(seconds=1.0), row(python(f"def add(a, b):\n    {body}"), CASES))
    assert judged.labels["verdict"] == verdict and judged.labels["detail"], judged.labels
    assert judged.scores == {"code": 0.0, "verified": 0.0}


def test_a_fault_of_the_sandbox_is_no_label() -> None:
    asking = Code().each(row(python(ADD), CASES))
    request = next(asking)  # type: ignore[arg-type]
    assert isinstance(request, Work)
    with pytest.raises(StopIteration) as stop:
        asking.send(sandbox.Verdict(status="harness-failure", detail="no zygote", level="strict"))  # type: ignore[union-attr]
    judged = stop.value.value
    assert judged.labels["verdict"] == "harness-failure" and judged.labels["level"] == "strict" and judged.scores == {}


def test_where_programs_can_not_be_confined_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(*_: Any, **__: Any) -> None:
        raise sandbox.SandboxUnavailable("This system has no Landlock.")

    for name in ("check_function", "check_asserts", "check_program", "run"):
        monkeypatch.setattr(_code_run.sandbox, name, unavailable)
    with pytest.raises(UsageError, match=r"not run: This system has no Landlock\. .* level to rlimit-only"):
        drive(Code(), row(python(ADD), CASES))


def test_a_package_must_be_allowed() -> None:
    source = "import numpy\ndef add(a, b):\n    return int(numpy.add(a, b))"
    assert drive(Code(), row(python(source), CASES)).labels["verdict"] in ("error", "refused")
    assert (
        drive(Code(allow=("numpy",), seconds=20.0, memory_mb=2048), row(python(source), CASES)).labels["verdict"]
        == "pass"
    )
    with pytest.raises(UsageError, match="no_such_package"):
        drive(Code(allow=("no_such_package",)), row(python(ADD), CASES))


SPOIL = """

def __spoilt(inner):
    depth = 0
    def other(value):
        if isinstance(value, bool): return not value
        if isinstance(value, (int, float, complex)): return value + 1
        if isinstance(value, (str, bytes)): return value[:-1] if value else 0
        if isinstance(value, (list, tuple)): return value[:-1] if value else type(value)([0])
        if isinstance(value, (set, frozenset, dict)): return type(value)() if value else {0: 0} if isinstance(value, dict) else {0}
        return 0
    def outer(*args, **names):
        nonlocal depth
        depth += 1
        try:
            value = inner(*args, **names)
        finally:
            depth -= 1
        return value if depth else other(value)
    return outer
NAME = __spoilt(NAME)
"""
"""An answer that is off by one: one more, one item less, the other truth value."""


def spoilt(source: str, name: str) -> list[str]:
    """Return three wrong versions: off by one, the wrong thing returned, and one that never ends."""
    return [
        source + SPOIL.replace("NAME", name),
        f"{source}\n\ndef {name}(*args, **names):\n    return 'no such answer'\n",
        f"{source}\n\ndef {name}(*args, **names):\n    while True:\n        pass\n",
    ]


def checked(records: list[tuple[str, str, dict[str, Any]]], every: int) -> None:
    """Check that each program passes and its spoilt versions fail; one in `every`, and one version of each, unless ALL."""
    wrong = []
    for place, (source, question, task) in enumerate(records[:: 1 if ALL else every]):
        checks = checks_of(row("", task, question=question))
        assert checks is not None and checks.name
        right = drive(Code(seconds=15.0), row(python(source), task, question=question))
        if right.labels["verdict"] != "pass":
            wrong.append((checks.name, right.labels["verdict"], right.labels.get("detail")))
        for at, bad in enumerate(spoilt(source, checks.name)):
            if ALL or at == place % 3:
                judged = drive(Code(seconds=0.3 if at == 2 else 15.0), row(python(bad), task, question=question))
                if judged.scores["code"] != 0.0 or (at == 2 and judged.labels["verdict"] != "timeout"):
                    wrong.append((checks.name, f"spoilt {at}", judged.labels["verdict"]))
    assert wrong == []


def test_humaneval(corpora: Path) -> None:
    with gzip.open(corpora / "humaneval" / "HumanEval.jsonl.gz", "rt", encoding="utf-8") as lines:
        found = [json.loads(line) for line in lines]
    fields = ("test", "entry_point")
    checked([(r["prompt"] + r["canonical_solution"], r["prompt"], {k: r[k] for k in fields}) for r in found], every=8)


def test_mbpp(corpora: Path) -> None:
    found = [json.loads(line) for line in (corpora / "mbpp" / "mbpp.jsonl").read_text(encoding="utf-8").splitlines()]
    fields = ("test_list", "test_setup_code")
    checked([(r["code"], r["text"], {k: r[k] for k in fields}) for r in found], every=49)


def test_the_sandbox_and_the_interpreter_agree_on_the_tiny_programs() -> None:
    made = list(problems("programs", count=12, seed=4))
    for problem, other in itertools.pairwise(made):
        for response in (problem.response, other.response):
            given_ = row(response, problem.task)
            code, program = drive(Code(), given_), drive(Program(), given_)
            assert code.scores["verified"] == program.scores["verified"], (response, code.labels, program.labels)


def test_through_the_engine_many_at_once(tmp_path: Path) -> None:
    rows = [row(python(f"def add(a, b):\n    return a + b + {i % 2}"), CASES, question=str(i)) for i in range(40)]
    result = limbeck.apply("score.code", rows, out=tmp_path / "run")
    assert [r.scores["code"] for r in result.rows("code")] == [1.0, 0.0] * 20
