"""A `response_format` that the server does not keep to: how it is noticed, and what is said to the model instead.

    form = {"type": "json_schema", "json_schema": {"name": "sum", "schema": {"type": "object", "required": ["sum"]}}}
    fault(form, '{"sum": 7}')              None
    fault(form, "The sum is 7.")           "it is not JSON"
    fault(form, "{}")                      "'sum' is a required property"
    instruction(form)                      "Answer with one JSON value that follows this JSON Schema, and nothing else: {...}"
    unfenced('```json\\n{"sum": 7}\\n```')     '{"sum": 7}'

Schemas are checked with the `jsonschema` package (JSON Schema 2020-12 unless the schema names another draft). A schema that is
itself wrong, or that refers to another document, is left for the server to judge; nothing is fetched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from limbeck.core.ask import Answer
from limbeck.core.fingerprint import canonical

_FENCED = re.compile(r"\s*```(?:json)?[ \t]*\n(.*?)\n?[ \t]*```\s*", re.DOTALL)


def instruction(form: Mapping[str, Any]) -> str | None:
    """Return what to tell a model whose server does not enforce `form`, or None for a form that asks for nothing."""
    if form.get("type") == "json_object":
        return "Answer with one JSON object and nothing else: no explanation and no code fence."
    schema = _schema(form)
    if schema is None:
        return None
    return (
        "Answer with one JSON value that follows this JSON Schema and with nothing else: no explanation and no code fence.\n"
        + canonical(schema)
    )


def fault(form: Mapping[str, Any], text: str) -> str | None:
    """Return in what way `text` is not of the form, or None when it is."""
    schema = _schema(form)
    if schema is None and form.get("type") != "json_object":
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return "it is not JSON"
    if schema is None:
        return None if isinstance(value, dict) else "it is no JSON object"
    return _first_fault(canonical(schema), value)


def judged(form: Mapping[str, Any], answer: Answer) -> tuple[Answer, str | None]:
    """Return an answer, freed of a code fence around the right thing, and its fault; one cut off or calling tools has none."""
    if answer.finish != "stop":
        return answer, None
    wrong = fault(form, answer.text)
    if wrong is not None and fault(form, inner := unfenced(answer.text)) is None:
        return replace(answer, text=inner), None
    return answer, wrong


def unfenced(text: str) -> str:
    """Return what stands between the marks of a code block, if `text` is nothing but one; else the text."""
    found = _FENCED.fullmatch(text)
    return found.group(1) if found else text


def _schema(form: Mapping[str, Any]) -> Any:
    inner = form.get("json_schema")
    return inner.get("schema") if form.get("type") == "json_schema" and isinstance(inner, Mapping) else None


def _first_fault(schema: str, value: Any) -> str | None:
    from jsonschema.exceptions import best_match  # type: ignore[import-untyped]
    from referencing.exceptions import Unresolvable

    validator = _validator(schema)
    if validator is None:
        return None
    try:
        error = best_match(validator.iter_errors(value))
    except (Unresolvable, re.error, RecursionError):
        return None
    return None if error is None else str(error.message)[:200]


@lru_cache(maxsize=64)
def _validator(text: str) -> Any:
    from jsonschema import Draft202012Validator, SchemaError  # type: ignore[import-untyped]
    from jsonschema.validators import validator_for  # type: ignore[import-untyped]
    from referencing import Registry

    schema = json.loads(text)
    kind = validator_for(schema, default=Draft202012Validator)
    try:
        kind.check_schema(schema)
    except SchemaError:
        return None
    registry: Registry[Any] = Registry()  # an empty one fetches nothing
    return kind(schema, registry=registry)
