"""Finding parts by name: the file is the registry.

`score.math` is the class `Math` in `limbeck/score/math.py`; `teachers/openai.py` holds `OpenAI`. A new verifier is a
new file and nothing else: no list is edited, nothing is imported until it is asked for. A part of the user's own is
named by its path: `my_score.py` or `my_score.py:Units`.

    find_step("score.math")        -> <class 'limbeck.score.math.Math'>
    find_step("score.mth")         -> UnknownName: There is no step 'score.mth'. Did you mean 'score.math'?
    step_names()                   -> ["curate.exact", "evaluate.compare", ...]   without importing any of them
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from limbeck.core.errors import LimbeckError, UnknownName, UsageError, nearest
from limbeck.core.step import Step

ROOMS = ("seeds", "prompts", "generate", "score", "select", "curate", "mix", "train", "evaluate", "audit")
PACKAGE = Path(__file__).resolve().parent.parent


def step_names() -> list[str]:
    """Return the names of all steps, read from the folders; no step is imported."""
    return [
        f"{room}.{name}"
        for room in ROOMS
        for name in _files(PACKAGE / room)
        if _holds(PACKAGE / room / f"{name}.py", name)
    ]


def teacher_names() -> list[str]:
    """Return the kinds of teachers, read from the folder."""
    folder = PACKAGE / "teachers"
    return [name for name in _files(folder) if _holds(folder / f"{name}.py", name)]


def recipe_names() -> list[str]:
    """Return the names of the recipes that ship with the package."""
    return _files(PACKAGE / "recipes")


def own_file(name: str) -> tuple[str, str] | None:
    """Part the name of something of the user's own into path and name within the file; None if it is no such name.

    >>> own_file("steps/units.py:Units"), own_file("openai:m@http://me.python.org/v1")
    (('steps/units.py', 'Units'), None)
    """
    found = re.fullmatch(r"(.*\.py)(?::(\w*))?", name, re.DOTALL)
    return (found[1], found[2] or "") if found else None


def find_step(name: str) -> type[Step]:
    """Return the step class called `name`: `room.file`, or a path of the user's own.

    Raises UnknownName, naming the nearest step.
    """
    if own_file(name):
        return _from_path(name)
    room, _, file = name.partition(".")
    if room not in ROOMS or name not in step_names():
        raise UnknownName(f"There is no step '{name}'.{nearest(name, step_names())}")
    found = _named_class(importlib.import_module(f"limbeck.{room}.{file}"), file)
    if not (isinstance(found, type) and issubclass(found, Step)):
        raise UsageError(f"limbeck/{room}/{file}.py holds no step: it needs a Step class named like the file.")
    return found


def find_teacher(kind: str) -> Callable[[str], Any]:
    """Return the teacher class of `kind`: the text before the colon of a teacher's name, or a path of the user's own."""
    if own_file(kind):
        module, wanted = _load(kind)
        found = getattr(module, wanted, None) if wanted else _named_class(module, Path(module.__file__ or "").stem)
        if found is None:
            raise UnknownName(f"{kind} holds no class named like the file; write path.py:Class.")
        return found  # type: ignore[no-any-return]
    if kind not in teacher_names():
        raise UnknownName(f"There is no teacher '{kind}'.{nearest(kind, teacher_names())}")
    return _named_class(importlib.import_module(f"limbeck.teachers.{kind}"), kind)  # type: ignore[no-any-return]


def find_recipe(name: str) -> Callable[..., Any]:
    """Return the recipe function called `name`: one that ships with the package, or `path.py`, or `path.py:function`."""
    if own_file(name):
        module, wanted = _load(name)
        found = getattr(module, wanted or Path(str(module.__file__)).stem, None)
        found = found if found is not None or wanted else getattr(module, "recipe", None)
        if not callable(found):
            looked = f"'{wanted}'" if wanted else f"'{Path(str(module.__file__)).stem}' or 'recipe'"
            raise UnknownName(f"{name} has no function named {looked}.")
        return found  # type: ignore[no-any-return]
    if name not in recipe_names():
        raise UnknownName(
            f"There is no recipe '{name}'.{nearest(name, recipe_names())} A recipe of your own: path/to/file.py."
        )
    return getattr(importlib.import_module(f"limbeck.recipes.{name}"), name)  # type: ignore[no-any-return]


def lazily(package: str) -> Callable[[str], ModuleType]:
    """Return a module `__getattr__` that imports submodules on first use, so that `limbeck.score.math` just works."""

    def attribute(name: str) -> ModuleType:
        try:
            return importlib.import_module(f"{package}.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"{package}.{name}":
                raise
            raise AttributeError(f"module '{package}' has no attribute '{name}'") from None

    return attribute


def _files(folder: Path) -> list[str]:
    return sorted(f.stem for f in folder.glob("*.py") if not f.stem.startswith("_"))


def _holds(file: Path, name: str) -> bool:
    # a text search, not an import: listing the steps must not load torch
    wanted = name.replace("_", "")
    heads = (line for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("class "))
    return any(head[6:].split("(")[0].split(":")[0].strip().lower() == wanted for head in heads)


def _named_class(module: ModuleType, stem: str) -> Any:
    wanted = stem.replace("_", "")
    return next((v for k, v in vars(module).items() if k.lower() == wanted and isinstance(v, type)), None)


def _from_path(name: str) -> type[Step]:
    module, wanted = _load(name)
    own = [
        v
        for v in vars(module).values()
        if isinstance(v, type) and issubclass(v, Step) and v.__module__ == module.__name__
    ]
    found = next((v for v in own if v.__name__ == wanted), None) if wanted else own[0] if len(own) == 1 else None
    if found is None:
        names = ", ".join(v.__name__ for v in own) or "none"
        raise UnknownName(f"{name}: write path.py:Class. Step classes in that file: {names}.")
    return found


def _load(name: str) -> tuple[ModuleType, str]:
    """Import a Python file of the user's own once, under a name made of its path."""
    text, wanted = own_file(name) or (name, "")
    path = Path(text).expanduser().resolve()
    if not path.is_file():
        raise UnknownName(f"There is no file {text} (looked for {path}).")
    key = f"limbeck_user_{path.stem}_{abs(hash(str(path)))}"
    if key not in sys.modules:
        spec = importlib.util.spec_from_file_location(key, path)
        if spec is None or spec.loader is None:
            raise UsageError(f"{path} can not be imported as Python.")
        module = importlib.util.module_from_spec(spec)
        sys.modules[key] = module
        if str(path.parent) not in sys.path:
            sys.path.append(str(path.parent))  # last: a file beside it can be imported, but shadows nothing
        try:
            spec.loader.exec_module(module)
        except BaseException as error:
            del sys.modules[key]
            if isinstance(error, LimbeckError) or not isinstance(error, Exception):
                raise
            raise UsageError(failed_at(path, error, "importing this file")) from error
    return sys.modules[key], wanted


def failed_at(path: Path, error: Exception, what: str) -> str:
    """Say in which line of a user's own file something failed: `mine.py:12: the recipe failed with KeyError: 'a'.`"""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: this is not valid Python: {error.msg}."
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    place = f"{path}:{lines[-1]}" if lines else str(path)
    return f"{place}: {what} failed with {type(error).__name__}: {error}."
