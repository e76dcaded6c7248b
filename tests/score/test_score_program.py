"""The program verifier: typed results, refused programs, and nothing ever executed."""

from __future__ import annotations

from typing import Any

import pytest

from limbeck.core.row import Message, Row, new_row
from limbeck.score.program import Program, function_of, same_value

DOUBLE = "def f(x):\n    return x * 2"


def judge(response: str, cases: Any, name: str = "f") -> Row:
    turns = (Message(role="user", content="?"), Message(role="assistant", content=response))
    judged = Program().each(new_row(messages=turns, task={"name": name, "cases": cases}, made_by={}))
    assert isinstance(judged, Row)
    return judged


@pytest.mark.parametrize(
    ("response", "verdict"),
    [
        (DOUBLE, "pass"),
        ("def f(x):\n    return x * 2.0", "wrong"),
        ("def f(x):\n    return x == 4", "wrong"),
        ("def f(x):\n    return [x * 2]", "wrong"),
        ("def f(x):\n    return x / 0", "error"),
        ("def f(x):\n    return open('planted')", "error"),
        ("def f(x):\n    while True:\n        x = x", "error"),
        ("def g(x):\n    return x * 2", "no-answer"),
        ("It doubles.", "no-answer"),
    ],
)
def test_verdicts(response: str, verdict: str) -> None:
    assert judge(response, [[[2], 4], [[3], 6]]).labels["verdict"] == verdict


def test_a_wrong_case_is_told() -> None:
    told = judge("def f(x):\n    return x + 2", [[[2], 4], [[3], 6]]).labels["detail"]
    assert told == "case 2: f(3) gives 5, not 6"


@pytest.mark.parametrize("cases", [None, [], "x", [[1]], [[1, 2]], [[[1], 2, 3]], {"a": 1}])
def test_unreadable_cases(cases: Any) -> None:
    assert judge(DOUBLE, cases).labels["verdict"] == "unreadable-reference"


def test_the_program_is_found_in_a_fence_or_from_its_def_on() -> None:
    assert function_of(f"Sure.\n```python\n{DOUBLE}\n```\nDone.", "f") == DOUBLE
    assert function_of(f"Sure:\n{DOUBLE}", "f") == DOUBLE
    assert function_of(f"```\n{DOUBLE}\n```\n```\n{DOUBLE}\n```", "f") == DOUBLE
    assert function_of(f"```\n{DOUBLE}\n```\n```\n{DOUBLE}1\n```", "f") is None


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (1, 1, True),
        (1, 1.0, False),
        (1, True, False),
        ("1", 1, False),
        ([1], [1], True),
        ([1], [1.0], False),
        ([1], (1,), False),
        (float("nan"), float("nan"), True),
        (None, None, True),
        (None, 0, False),
        ([[1, "a"]], [[1, "a"]], True),
    ],
)
def test_values_are_compared_with_their_types(left: Any, right: Any, same: bool) -> None:
    assert same_value(left, right) is same
