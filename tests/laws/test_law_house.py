"""Laws of the house: sizes, names, docstrings, annotations, layers; and that every part has a test."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from limbeck.core import find
from limbeck.core.step import Step

PACKAGE = find.PACKAGE
ROOT = Path(__file__).resolve().parent.parent.parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
ROOM_FILES = [f for room in find.ROOMS for f in sorted((PACKAGE / room).glob("*.py")) if not f.stem.startswith("_")]
BASES = {"Step", "Source", "Each", "Prompt", "Whole", "Make"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def short(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def functions(path: Path) -> Iterator[Function]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, Function):
            yield node


def test_no_file_is_over_500_lines_and_no_function_over_80() -> None:
    long_files = [short(f) for f in SOURCES if len(f.read_text(encoding="utf-8").splitlines()) > 500]
    long_functions = [
        f"{short(f)}:{node.name}"
        for f in SOURCES
        for node in functions(f)
        if (node.end_lineno or 0) - node.lineno >= 80
    ]
    assert (long_files, long_functions) == ([], [])


def test_every_function_is_annotated() -> None:
    bare = []
    for file in SOURCES:
        for node in functions(file):
            arguments = [
                *node.args.posonlyargs,
                *node.args.args,
                *node.args.kwonlyargs,
                node.args.vararg,
                node.args.kwarg,
            ]
            missing = [
                a.arg for a in arguments if a is not None and a.annotation is None and a.arg not in ("self", "cls")
            ]
            if missing or node.returns is None:
                bare.append(f"{short(file)}:{node.lineno} {node.name} {missing}")
    assert bare == []


def test_every_module_class_and_public_function_has_a_docstring() -> None:
    silent = []
    for file in SOURCES:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        nodes: list[ast.Module | ast.ClassDef | Function] = [tree]
        nodes += [n for n in tree.body if isinstance(n, ast.ClassDef | Function) and not n.name.startswith("_")]
        silent += [f"{short(file)}:{getattr(n, 'name', 'module')}" for n in nodes if not ast.get_docstring(n)]
    assert silent == []


def is_step(node: ast.ClassDef) -> bool:
    return any(getattr(base, "id", getattr(base, "attr", "")) in BASES for base in node.bases)


@pytest.mark.parametrize("file", ROOM_FILES, ids=short)
def test_a_room_file_holds_the_step_it_is_named_after_or_none(file: Path) -> None:
    """`until_pass.py` holds `UntilPass`; a file of helpers, such as `evaluate/stats.py`, holds no step at all."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    steps = [n.name for n in tree.body if isinstance(n, ast.ClassDef) and is_step(n) and not n.name.startswith("_")]
    name = f"{file.parent.name}.{file.stem}"
    if steps:
        assert [s.lower() for s in steps] == [file.stem.replace("_", "")] and name in find.step_names()
    else:
        assert name not in find.step_names()


@pytest.mark.parametrize("name", find.step_names())
def test_every_step_and_every_field_is_documented(name: str) -> None:
    kind = find.find_step(name)
    assert issubclass(kind, Step) and kind.__doc__ and kind.__doc__.strip().endswith(".")
    module = ast.parse(Path(sys.modules[kind.__module__].__file__ or "").read_text(encoding="utf-8"))
    (own,) = [n for n in module.body if isinstance(n, ast.ClassDef) and n.name == kind.__name__]
    undocumented = []
    for field, after in zip(own.body, [*own.body[1:], None], strict=True):
        if isinstance(field, ast.AnnAssign) and "ClassVar" not in ast.unparse(field.annotation):
            text = after.value if isinstance(after, ast.Expr) else None
            if not (isinstance(text, ast.Constant) and isinstance(text.value, str)):
                undocumented.append(ast.unparse(field.target))
    assert undocumented == []


@pytest.mark.parametrize("name", find.teacher_names())
def test_every_teacher_is_found_and_documented(name: str) -> None:
    kind = find.find_teacher(name)
    assert kind.__doc__ and {"answer", "close"} <= set(dir(kind))


@pytest.mark.parametrize("name", find.recipe_names())
def test_every_recipe_is_found_and_documented(name: str) -> None:
    function = find.find_recipe(name)
    assert function.__name__ == name and (function.__doc__ or "").strip()


def text_of_tests(folder: str) -> str:
    return "\n".join(f.read_text(encoding="utf-8") for f in (ROOT / "tests" / folder).glob("*.py"))


def is_tested(file: Path, seen: set[Path]) -> bool:
    room, name = file.parent.name, f"{file.parent.name}.{file.stem}"
    text = text_of_tests(room)
    ways = (name, f"from limbeck.{room} import {file.stem}", f"{room}/{file.stem}.py")
    if any(way in text for way in ways) or (room == "score" and f'"{file.stem}"' in text):
        return True
    if name in find.step_names() or file in seen:
        return False
    users = [f for f in file.parent.glob("*.py") if f != file and f"limbeck.{name} " in f.read_text(encoding="utf-8")]
    return any(is_tested(user, seen | {file}) for user in users)


@pytest.mark.parametrize("file", ROOM_FILES, ids=short)
def test_every_room_file_has_a_test(file: Path) -> None:
    """Its name stands in a test of its room; a file of helpers may instead be tested through the steps that use it."""
    assert is_tested(file, set()), f"no test in tests/{file.parent.name} mentions {file.parent.name}.{file.stem}"


@pytest.mark.parametrize("kind", find.teacher_names())
def test_every_teacher_has_a_test(kind: str) -> None:
    assert f"teachers.{kind}" in text_of_tests("teachers") or f'"{kind}' in text_of_tests("teachers")


def test_the_layers_are_whole() -> None:
    command = Path(sys.executable).with_name("lint-imports")
    if not command.exists():
        pytest.skip("SKIPPED: import-linter is not installed.")
    done = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_public_names_are_there() -> None:
    limbeck = importlib.import_module("limbeck")
    for name in dir(limbeck):
        assert getattr(limbeck, name) is not None
    with pytest.raises(AttributeError, match="module 'limbeck' has no attribute 'nothing'"):
        limbeck.nothing  # noqa: B018


def test_the_functions_other_programs_rely_on() -> None:
    import limbeck

    assert limbeck.score.math.equivalent("1/2", "0.5") and limbeck.score.math.final_answer("Answer: 5") == "5"
    with pytest.raises(AttributeError):
        limbeck.score.nothing  # noqa: B018
