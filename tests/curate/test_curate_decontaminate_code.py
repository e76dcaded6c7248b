"""Programs as shapes (curate/_contamination_code.py)."""

from __future__ import annotations

import ast
import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted_contamination import renamed

from limbeck.core.row import Message, new_row
from limbeck.curate._contamination_code import programs, shapes_of
from limbeck.curate.decontaminate import Decontaminate

PROGRAM = '''
def longest_run(values, least=1):
    """Return the longest run of equal values."""
    best, length, last = 0, 0, None
    for value in values:
        if value == last:
            length += 1
        else:
            length = 1
            last = value
        if length > best and length >= least:
            best = length
    return {"run": best, "of": last}
'''


def names(source: str) -> list[int]:
    return [shape.name for shape in shapes_of(source)]


@given(st.integers(0, 10**6))
def test_names_docstrings_annotations_and_layout_do_not_matter(seed: int) -> None:
    assert names(renamed(PROGRAM, random.Random(seed))) == names(PROGRAM) == names(ast.unparse(ast.parse(PROGRAM)))
    assert names(PROGRAM.replace("values, least=1", "values: list[int], least: int = 1")) == names(PROGRAM)


@pytest.mark.parametrize(
    ("old", "new"),
    [("+= 1", "+= 2"), (">=", "<="), ('"of"', '"for"'), ("length = 1", "length = best"), ("return", "print")],
)
def test_constants_operators_and_which_variable_do(old: str, new: str) -> None:
    changed = PROGRAM.replace(old, new)
    assert names(changed) != names(PROGRAM)


def test_built_ins_are_kept_unless_the_function_binds_them() -> None:
    assert names("def f(a):\n    return sum(a)") != names("def f(a):\n    return max(a)")
    assert names("def f(a):\n    sum = 0\n    return sum + a") == names(
        "def f(a):\n    total = 0\n    return total + a"
    )


def test_an_inserted_line_costs_that_line_and_functions_are_found_in_prose() -> None:
    found = programs(["", PROGRAM])
    inserted = PROGRAM.replace("    for value", "    print(values)\n    for value")
    text = f"Sure! Here is how:\n\n```python\n{renamed(inserted, random.Random(1))}\n```\n\nHope this helps."
    ((item, share),) = found.found(text)
    assert item == 1 and 0.6 <= share < 1.0
    assert list(found.found("def other(a):\n    return a + 1")) == []


@pytest.mark.parametrize(
    "text", ["", "def f(:\n  x", "def f(x): print x", "def f():\n" + "(" * 300, "def \x00():", "x = 1"]
)
def test_what_is_no_python_has_no_shapes(text: str) -> None:
    assert shapes_of(text) == []


def test_the_step_finds_a_renamed_program_and_can_be_told_not_to_look(tmp_path: Path) -> None:
    file = tmp_path / "eval.jsonl"
    file.write_text(json.dumps({"id": "runs", "prompt": "Find the longest run in a list.", "code": PROGRAM}))
    row = new_row(messages=[Message(role="user", content=renamed(PROGRAM, random.Random(3)))], made_by={})
    (out,) = Decontaminate(against=(str(file),)).whole([row])
    assert out.dropped == "curate.decontaminate: contaminated, eval.jsonl: 100 % of the program of item runs"
    assert [e["by"] for e in out.extra["contamination"]] == ["code"]
    assert Decontaminate(against=(str(file),), code=False).whole([row]) == [row]
