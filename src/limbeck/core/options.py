"""Options: the parameters of a recipe and the fields of a step, read from the words of a command line.

    limbeck run mine.py --count 50 --teachers a,b      ->  mine(count=50, teachers=("a", "b"))
    limbeck apply score.math FILE --tolerance 0.01     ->  Math(tolerance=0.01)

The annotation says how a word is read; a parameter without one is read as what its default is. Whatever does not fit
is a UsageError that names the option, never a traceback.
"""

from __future__ import annotations

import inspect
import json
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from limbeck.core.errors import UnknownName, UsageError, nearest
from limbeck.core.find import find_step

_SEQUENCES = {tuple, list, set, frozenset, Sequence}


def parameters(function: Callable[..., Any]) -> dict[str, Any]:
    """Return a recipe's parameters with their types."""
    hints = typing.get_type_hints(function)
    return {n: hints.get(n, _guess(p.default)) for n, p in inspect.signature(function).parameters.items()}


def recipe_options(function: Callable[..., Any], name: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Read `params`, often words, as the parameters of a recipe. Raises UnknownName or UsageError."""
    known = parameters(function)
    for key in params:
        if key not in known:
            raise UnknownName(f"The recipe {name} has no parameter '{key}'.{nearest(key, known)}")
    for key, parameter in inspect.signature(function).parameters.items():
        if parameter.default is parameter.empty and key not in params:
            raise UsageError(f"The recipe {name} needs --{key.replace('_', '-')}.")
    return {key: parse(known[key], value, f"recipe {name}: --{key}") for key, value in params.items()}


def step_options(step: str, options: Mapping[str, str]) -> dict[str, Any]:
    """Read command-line text as the fields of a step. Raises UnknownName for a field that it does not have."""
    kind = find_step(step)
    hints = {name: field.annotation for name, field in kind.model_fields.items()}
    for key in options:
        if key not in hints:
            raise UnknownName(f"{step} has no option '{key}'.{nearest(key, set(hints) - {'name', 'after'})}")
    return {key: parse(hints[key], value, f"{step}: --{key}") for key, value in options.items()}


def split_words(words: Sequence[str], flags: Collection[str] = ()) -> tuple[list[str], dict[str, str]]:
    """Part the words of a command line into plain words and options: `--key value`, `--key=value`, a bare `--flag`.

    >>> split_words(["a.jsonl", "--tolerance", "0.1", "--strict", "b.jsonl"], flags={"strict"})
    (['a.jsonl', 'b.jsonl'], {'tolerance': '0.1', 'strict': 'true'})
    """
    plain: list[str] = []
    found: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word == "-":
            plain.append(word)
            continue
        if not word.startswith("--"):
            raise UsageError(f"'{word}' is not an option; write --NAME VALUE.")
        key, equals, value = word[2:].partition("=")
        key = key.replace("-", "_")
        if not equals:
            bare = not rest or rest[0].startswith("--") or (key in flags and rest[0].lower() not in ("true", "false"))
            value = "true" if bare else rest.pop(0)
        found[key] = value
    return plain, found


def step_flags(step: str) -> set[str]:
    """Return the names of a step's fields that are true or false, and may stand bare on a command line."""
    return {name for name, field in find_step(step).model_fields.items() if field.annotation is bool}


def parse(kind: Any, value: Any, where: str) -> Any:
    """Read `value`, often text from a command line, as `kind`. Raises UsageError naming `where`.

    Commas separate the items of a tuple or list; a dictionary is written as JSON; everything else is read as
    pydantic reads it.

    >>> parse(tuple[int, ...], "1, 2", "--rounds")
    (1, 2)
    >>> parse(int | None, "none", "--limit") is None
    True
    """
    from pydantic import TypeAdapter, ValidationError

    if isinstance(value, str):
        value = _read(kind, value, where)
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise UsageError(f"{where} can not be {value!r}: {error.errors()[0]['msg']}.") from None


def _read(kind: Any, text: str, where: str) -> Any:
    union = typing.get_origin(kind) in (typing.Union, types.UnionType)
    members = typing.get_args(kind) if union else (kind,)
    origins = {typing.get_origin(member) or member for member in members}
    if text.lower() == "none" and type(None) in members:
        return None
    if origins & {dict, Mapping} and text.lstrip().startswith("{"):
        try:
            return json.loads(text)
        except ValueError as error:
            raise UsageError(f"{where} can not be {text!r}: it is not JSON ({error}).") from None
    if origins & _SEQUENCES and ("," in text or str not in members):
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _guess(default: Any) -> Any:
    return Any if default is inspect.Parameter.empty or default is None else type(default)
