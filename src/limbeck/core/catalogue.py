"""The catalogue: what there is, read from the files without importing them, and what one part of it takes.

    catalogue()               {"recipes": {"star": "STaR, the self-taught reasoner (…)."}, "steps": {…}, "teachers": {…}}
    catalogue("score.math")   {"score.math: Check a final answer exactly.": {"--tolerance": "float, default 0.0. …"}}

The sentences are the first lines of the files' docstrings, so a part is described in one place only: its own file.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import typing
from collections.abc import Callable
from typing import Any

from limbeck.core import find
from limbeck.core.errors import UnknownName, nearest
from limbeck.core.options import parameters
from limbeck.core.step import Step

Entries = dict[str, dict[str, str]]


def catalogue(name: str = "") -> Entries:
    """Return what there is, by title: all recipes, steps and teachers, or the options of the one that is named."""
    whole = {
        "recipes": {n: _headline("recipes", n) for n in find.recipe_names()},
        "steps": {n: _headline(*n.split(".")) for n in find.step_names()},
        "teachers": {n: _headline("teachers", n) for n in find.teacher_names()},
    }
    if not name:
        return whole
    if name in whole:
        return {name: whole[name]}
    if name in whole["teachers"]:
        return {f"{name}: {whole['teachers'][name]}": {}}
    if name in whole["steps"]:
        return _step(name, find.find_step(name))
    if name in whole["recipes"]:
        return _recipe(name, find.find_recipe(name))
    if find.own_file(name):
        return _own(name)
    known = [*whole, *(key for entries in whole.values() for key in entries)]
    raise UnknownName(f"There is no recipe, step or teacher '{name}'.{nearest(name, known)}")


def _own(name: str) -> Entries:
    """Describe a file of the user's own: the step `path.py:Class`, or else the recipe."""
    try:
        return _step(name, find.find_step(name))
    except UnknownName:
        return _recipe(name, find.find_recipe(name))


def _step(name: str, kind: type[Step]) -> Entries:
    docs = _field_docs(kind)
    entries = {}
    for key, field in kind.model_fields.items():
        if key not in ("name", "after"):
            given = None if field.is_required() else field.get_default(call_default_factory=True)
            default = "required" if field.is_required() else f"default {given!r}"
            entries[f"--{key}"] = f"{_type_name(field.annotation)}, {default}. {docs.get(key, '')}".rstrip()
    return {_title(name, kind.__doc__): entries}


def _recipe(name: str, function: Callable[..., Any]) -> Entries:
    hints = parameters(function)
    entries = {}
    for key, parameter in inspect.signature(function).parameters.items():
        default = "required" if parameter.default is parameter.empty else f"default {parameter.default!r}"
        entries[f"--{key}"] = f"{_type_name(hints[key])}, {default}"
    return {_title(name, inspect.getdoc(function)): entries}


def _title(name: str, doc: str | None) -> str:
    lines = (doc or "").strip().splitlines()
    return f"{name}: {lines[0]}" if lines else name


def _type_name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind).replace("typing.", "")


def _headline(room: str, file: str) -> str:
    """Return the first line of a file's docstring without importing it."""
    tree = ast.parse((find.PACKAGE / room / f"{file}.py").read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or "").split("\n", 1)[0]


def _field_docs(kind: type[Step]) -> dict[str, str]:
    """Return the strings written under a step's fields."""
    found: dict[str, str] = {}
    for owner in reversed(kind.__mro__):
        if not issubclass(owner, Step) or owner is Step:
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                found[getattr(field.target, "id", "")] = " ".join(str(text.value.value).split())
    return found
