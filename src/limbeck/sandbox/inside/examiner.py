"""The driver in the tests' process: runs assert-style tests whose candidate lives in another process.

    tests   = "def check(candidate):\\n    assert candidate(2, 3) == 5"        with entry_point "add"
    tests   = ["assert add(2, 3) == 5", "assert Pair(1, 2).left == 1"]          without

Every name that the tests use and do not define is asked of the candidate. A function becomes a stub that sends the call over; plain
values come back and are rebuilt here out of this process's own types, everything else becomes a `Remote`. A Remote can be
called, read, written, iterated and handed back, but here it equals nothing and is greater than nothing: an object that would say
yes to every question is not asked. So `assert f(x) == expected` compares honest values, in a process the candidate can not reach.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import importlib
import os
import sys
import types
from collections.abc import Iterator
from typing import Any

from limbeck.sandbox.inside import frames
from limbeck.sandbox.inside.remote import Line, Lost, Unsendable

WIRE = 3
READY = frames.pack({"ready": True})
SHORT_NAMES = {"np": "numpy", "pd": "pandas"}


class NoTest(Exception):
    """The tests are not Python, or could not fail: nothing was judged."""


def main() -> None:
    """Run the tests that wait on the wire and report; never returns."""
    verdict: dict[str, Any] = {"failed": "harness-failure", "detail": "the tests' driver failed"}
    try:
        job = frames.read(WIRE, frames.MAX_JOB)
        frames.write_packed(WIRE, READY)
        verdict = _examine(job)
    finally:
        frames.write(WIRE, verdict)
        os._exit(0)


def _examine(job: dict[str, Any]) -> dict[str, Any]:
    """Run the tests in order; the first that does not pass ends it."""
    try:
        _must_test_something(job["tests"])
        names = _prepare(job)
        tested = {name: names[name] for name in [job["entry_point"]] if name}
        for place, source in enumerate([*job["tests"], *_entry(job, job["tests"])]):
            exec(compile(source, f"<test {place + 1}>", "exec", dont_inherit=True), names)  # noqa: S102 - inside the jail
            names.update(tested)  # a prompt among the tests, there for its helpers, has a stub of the function too
    except AssertionError as fault:
        return {"failed": "wrong", "detail": f"an assertion fails{_where(fault)}: {_short(fault)}"}
    except NoTest as fault:
        return {"failed": "no-test", "detail": str(fault)}
    except Unsendable as fault:
        return {"failed": "refused", "detail": str(fault)}
    except Lost as fault:
        return {"failed": "error", "detail": str(fault)}
    except BaseException as fault:  # noqa: BLE001 - the tests' own errors and the candidate's
        kind = getattr(fault, "from_candidate", "error")
        kind = kind if kind in ("memory", "refused", "output-limit", "wrong") else "error"
        return {"failed": kind, "detail": f"{type(fault).__name__}{_where(fault)}: {_short(fault)}"}
    return {"passed": True}


def _must_test_something(tests: list[str]) -> None:
    try:
        checks = sum(isinstance(node, (ast.Assert, ast.Raise)) for test in tests for node in ast.walk(ast.parse(test)))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as fault:
        raise NoTest(f"The tests are not Python: {fault}.") from None
    if not checks:
        raise NoTest("The tests assert nothing; they would pass every program.")


def _prepare(job: dict[str, Any]) -> dict[str, Any]:
    """Return the tests' names: their own, and the candidate's for those they use and do not define."""
    module = types.ModuleType("tests")
    sys.modules["tests"] = module
    wanted = sorted(_wanted(job["tests"], job["entry_point"]))
    sent = Line().ask({"op": "names", "names": wanted})
    # only what was asked for: a candidate that answers by hand may send an `abs` of its own along
    found = {name: sent[name] for name in wanted if name in sent} if type(sent) is dict else {}
    if job["entry_point"] and job["entry_point"] not in found:
        raise NameError(f"the candidate does not define {job['entry_point']}")
    module.__dict__.update(found)
    for name in _modules(job["tests"], wanted) - {job["entry_point"]}:
        with contextlib.suppress(ImportError):
            module.__dict__[name] = importlib.import_module(SHORT_NAMES.get(name, name))
    return module.__dict__


def _modules(tests: list[str], wanted: list[str]) -> set[str]:
    """Return the names that are modules though the tests do not import them, trusting the candidate to have done so.

    They are imported here: a candidate whose `math` is an object of its own does not get to answer `math.isclose`.
    """
    read = {
        node.value.id
        for test in tests
        for node in ast.walk(ast.parse(test))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    return read & set(wanted) & {*sys.stdlib_module_names, *SHORT_NAMES}


def _entry(job: dict[str, Any], tests: list[str]) -> list[str]:
    """Return the call of `check(entry_point)` that HumanEval's tests leave to the harness."""
    if not job["entry_point"]:
        return []
    defined = {node.name for test in tests for node in ast.parse(test).body if isinstance(node, ast.FunctionDef)}
    called = {
        node.value.func.id
        for test in tests
        for node in ast.parse(test).body
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Name)
    }
    return [f"check({job['entry_point']})"] if "check" in defined and "check" not in called else []


def _wanted(tests: list[str], entry_point: str | None) -> set[str]:
    """Return the names to ask the candidate for: those the tests read and do not define.

    Built-in names are the tests' own: a candidate that defines `abs` does not get to say how far off it is. The exception is a task
    that is *about* such a name (MBPP has one on `sum`): the entry point, or, where all names are built in, the first one called.
    """
    trees = [ast.parse(test) for test in tests]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    read = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    wanted = read - {name for tree in trees for node in tree.body for name in _defined(node)}
    own = wanted - set(dir(builtins))
    if entry_point:
        return own | {entry_point}
    return own or set(_first_called(trees))


def _first_called(trees: list[ast.Module]) -> list[str]:
    """Return the name of the first function called in the tests' text, if any."""
    calls = [
        (place, node.lineno, node.col_offset, node.func.id)
        for place, tree in enumerate(trees)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    return [min(calls)[3]] if calls else []


def _defined(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        yield node.name
    elif isinstance(node, (ast.Import, ast.ImportFrom)):
        yield from (alias.asname or alias.name.split(".")[0] for alias in node.names)


def _where(fault: BaseException) -> str:
    """Return ` in test 2, line 3`, from the innermost frame that belongs to the tests."""
    place, trace = "", fault.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename.startswith("<test"):
            place = f" in {trace.tb_frame.f_code.co_filename.strip('<>')}, line {trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _short(fault: BaseException) -> str:
    try:
        return str(fault)[:300]
    except Exception:  # noqa: BLE001 - a message that can not be written is no message
        return ""
