"""Reading what a program is to be checked on: our own form, or the fields of HumanEval, MBPP and APPS as they stand.

    {"name": "f", "cases": [[[1, 2], 3], [[0, 0], 0]]}                        function cases: arguments and value
    {"stdio": [["2\\n", "4\\n"], ["5\\n", "10\\n"]]}                              programs: standard input and output
    {"name": "f", "tests": ["assert f(1, 2) == 3"]}                           asserts
    {"entry_point": "f", "test": "def check(candidate): …"}                   HumanEval
    {"test_list": ["assert f(1, 2) == 3"], "test_setup_code": ""}             MBPP
    {"input_output": {"inputs": ["2\\n"], "outputs": ["4\\n"]}}                  APPS, with `fn_name` for function cases

The fields may stand in the task or among the row's extras. A task that could not fail a program is unreadable. Where asserts call a
helper that the question's code defines (`poly` in HumanEval/32), that code goes before them: what the helper says must not be the
program's to decide.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from limbeck.core.row import Row
from limbeck.score._code_extract import CODE_LINE, before, defines, fenced

FIELDS = ("cases", "stdio", "tests", "test", "test_list", "input_output")
CALLED = re.compile(r"\b([A-Za-z_]\w*)\s*\(")
_COMMON = """
    abs all any assert bool bytes dict enumerate filter float frozenset hash int isinstance iter len
    list map math max min next not pow print range repr reversed round set sorted str sum tuple type zip
    isclose sqrt Counter deque Decimal Fraction
"""
COMMON = frozenset(_COMMON.split())
"""Names that the asserts of MBPP call beside the function they test."""


class Checks(NamedTuple):
    """What a program is checked on: one of `cases`, `stdio` and `tests`."""

    name: str | None = None
    cases: Sequence[tuple[Any, Any]] = ()
    stdio: Sequence[tuple[str, str]] = ()
    tests: Sequence[str] = ()
    prompt: str = ""
    """Code that the question gave, which a response may complete."""


def checks_of(row: Row) -> Checks | None:
    """Return what the row's task checks a program on, or None if that can not be read or could not fail."""
    given: Mapping[str, Any] = {**row.extra, **row.task}
    kinds = [field for field in FIELDS if given.get(field)]
    if not kinds:
        return None
    name = given.get("name") or given.get("entry_point")
    if name is not None and not isinstance(name, str):
        return None
    found = _READERS[kinds[0]](given, name)
    if found is None or found.name is None:
        return found
    found = found._replace(prompt=_given_code(row, given, found.name))
    return found._replace(tests=[*_helpers(found), *found.tests])


def _cases(given: Mapping[str, Any], name: str | None) -> Checks | None:
    pairs = _pairs(given["cases"])
    fit = pairs is not None and all(isinstance(arguments, list | tuple | dict) for arguments, _ in pairs)
    return Checks(name, cases=pairs or ()) if fit and name else None


def _stdio(given: Mapping[str, Any], name: str | None) -> Checks | None:
    pairs = _pairs(given["stdio"])
    fit = pairs is not None and all(isinstance(a, str) and isinstance(b, str) for a, b in pairs)
    return Checks(stdio=pairs or ()) if fit else None


def _input_output(given: Mapping[str, Any], name: str | None) -> Checks | None:
    value = given["input_output"]
    try:
        value = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return None
    if not isinstance(value, Mapping):
        return None
    inputs, outputs = value.get("inputs"), value.get("outputs")
    if not isinstance(inputs, list) or not isinstance(outputs, list) or len(inputs) != len(outputs):
        return None
    pairs = [list(pair) for pair in zip(inputs, outputs, strict=True)]
    if value.get("fn_name"):
        return _cases({"cases": pairs}, value["fn_name"])
    return _stdio(
        {"stdio": [["\n".join(one) if isinstance(one, list) else one for one in pair] for pair in pairs]}, None
    )


def _tests(given: Mapping[str, Any], name: str | None) -> Checks | None:
    value = given.get("tests") or given.get("test_list") or given.get("test")
    tests = [value] if isinstance(value, str) else value
    if not isinstance(tests, list | tuple) or not tests or not all(isinstance(test, str) for test in tests):
        return None
    setup = given.get("test_setup_code") or given.get("test_imports") or ""
    setup = "\n".join(setup) if isinstance(setup, list) else setup
    return Checks(
        name or _tested(tests), tests=[setup, *tests] if isinstance(setup, str) and setup.strip() else list(tests)
    )


_READERS: dict[str, Callable[[Mapping[str, Any], str | None], Checks | None]] = {
    "cases": _cases, "stdio": _stdio, "input_output": _input_output, "tests": _tests, "test": _tests, "test_list": _tests,
}  # fmt: skip


def _pairs(value: Any) -> list[tuple[Any, Any]] | None:
    pairs = list(value) if isinstance(value, list | tuple) else []
    fit = pairs and all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs)
    return [(pair[0], pair[1]) for pair in pairs] if fit else None


def _tested(tests: Sequence[str]) -> str | None:
    """Return the name that every assert calls, other than the common ones: what MBPP tests without saying so."""
    called = [CALLED.findall(test) for test in tests if "assert" in test]
    shared = [name for name in (called[0] if called else ()) if all(name in names for names in called)]
    own = [name for name in shared if name not in COMMON]
    return next(iter(own or shared), None)  # one task of MBPP wants a function that is called `sum`


def _helpers(checks: Checks) -> list[str]:
    """Return the question's code before the tested function if the asserts use a function or class of it, else nothing."""
    code = before(checks.prompt, checks.name or "")
    try:
        names = [node.name for node in ast.parse(code).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []  # prose, or code that breaks off: no test could use it
    return [code] if any(re.search(rf"\b{name}\b", test) for name in names for test in checks.tests) else []


def _given_code(row: Row, given: Mapping[str, Any], name: str) -> str:
    """Return the code that the question begins and the response completes, or the empty string."""
    own = given.get("prompt")
    question = row.question
    first = next((line for line in question.splitlines() if line.strip()), "")
    for text in (own if isinstance(own, str) else "", *fenced(question), question if CODE_LINE.match(first) else ""):
        if defines(text, name):
            return text
    return ""
