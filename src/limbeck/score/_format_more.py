"""Checks beyond IFEval: a JSON schema, Markdown parts, citations, length.

    {"id": "json:schema", "schema": {"type": "object", "required": ["city"]}}
    {"id": "markdown:has", "element": "table", "at_least": 1}
    {"id": "citations:valid", "sources": 3, "at_least": 2}        [1], [2, 3] or [1-3]; a number over 3 cites nothing
    {"id": "length:between", "unit": "words", "at_least": 50, "at_most": 80}

Each returns what is wrong as a phrase, or the empty string, as in `_format_checks.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from limbeck.core.errors import UsageError
from limbeck.score._format_checks import EMPHASIS, Unreadable
from limbeck.score._format_text import blocks, bullets, sentences, unfenced, words

FENCED = re.compile(r"^```[^\n`]*\n.*?^```[ \t]*$", re.DOTALL | re.MULTILINE)
ELEMENTS: dict[str, Callable[[str], int]] = {
    "heading": lambda text: len(re.findall(r"^#{1,6} +\S", FENCED.sub("", text), re.MULTILINE)),
    "bullet": lambda text: bullets(FENCED.sub("", text)),
    "numbered": lambda text: len(re.findall(r"^[ \t]*\d+[.)] +\S", FENCED.sub("", text), re.MULTILINE)),
    "code": lambda text: len(FENCED.findall(text)),
    "table": lambda text: _tables(FENCED.sub("", text)),
    "link": lambda text: len(re.findall(r"(?<!!)\[[^\[\]\n]{1,300}\]\([^)\s]+\)", FENCED.sub("", text))),
    "emphasis": lambda text: len(EMPHASIS.findall(FENCED.sub("", text))),
}  # fmt: skip
UNITS: dict[str, Callable[[str], int]] = {
    "characters": lambda text: len(text.strip()),
    "words": lambda text: len(words(text)),
    "sentences": sentences,
    "paragraphs": lambda text: len(blocks(text)),
    "lines": lambda text: sum(bool(line.strip()) for line in text.splitlines()),
}
CITATION = re.compile(r"\[(\d{1,4}(?:\s*[,;–-]\s*\d{1,4})*)\](?!\()")
MAX_JSON = 1_000_000


def json_schema(text: str, *, schema: Mapping[str, Any]) -> str:
    """The whole response, or the one fence it is, is JSON that fits the schema (draft 2020-12 unless it says otherwise)."""
    if not isinstance(schema, Mapping):
        raise Unreadable("a JSON schema must be an object")
    validator = _validator(json.dumps(schema, sort_keys=True))
    try:
        value = json.loads(unfenced(text)[:MAX_JSON], parse_constant=_refuse, object_pairs_hook=_unique)
        problem = next(iter(validator.iter_errors(value)), None)
    except RecursionError:
        return "the JSON nests too deeply"
    except ValueError as error:
        return f"it is not JSON: {error}"
    except Exception as error:  # noqa: BLE001 - of the schema's own making, such as a $ref that leads nowhere
        raise Unreadable(f"the JSON schema can not be used: {type(error).__name__}: {error}") from None
    return f"{problem.json_path}: {problem.message[:200]}" if problem else ""


def markdown_has(text: str, *, element: str, at_least: int = 1, at_most: int | None = None) -> str:
    """There are so many Markdown parts of a kind; what stands inside a code fence is no heading, list or link."""
    if element not in ELEMENTS:
        raise Unreadable(f"'{element}' is no Markdown element; there are {', '.join(ELEMENTS)}")
    if len(re.findall(r"^```", text, re.MULTILINE)) % 2:
        return "a code fence is never closed"
    return _between(ELEMENTS[element](text), at_least, at_most, f"{element} parts")


def citations_valid(text: str, *, sources: int, at_least: int = 1, every_paragraph: bool = False) -> str:
    """Numbered citations such as [2] name sources that exist, at least so many different ones."""
    cited = {number for found in CITATION.findall(text) for number in _numbers(found)}
    wrong = sorted(number for number in cited if not 1 <= number <= sources)
    if wrong:
        return f"it cites [{wrong[0]}], but there are {sources} sources"
    bare = [
        part for part in blocks(text) if len(words(part)) > 5 and not part.startswith("#") and not CITATION.search(part)
    ]
    if every_paragraph and bare:
        return f"a paragraph cites nothing: '{bare[0][:40]}'"
    return _between(len(cited), at_least, None, "different citations")


def length_between(text: str, *, unit: str, at_least: int | None = None, at_most: int | None = None) -> str:
    """The response is so long, in characters, words, sentences, paragraphs or lines that are not empty."""
    if unit not in UNITS:
        raise Unreadable(f"'{unit}' is no unit of length; there are {', '.join(UNITS)}")
    return _between(UNITS[unit](text), at_least, at_most, unit)


MORE: dict[str, Callable[..., str]] = {
    "json:schema": json_schema,
    "markdown:has": markdown_has,
    "citations:valid": citations_valid,
    "length:between": length_between,
}


@lru_cache(maxsize=256)
def _validator(schema: str) -> Any:
    try:
        from jsonschema import Draft202012Validator, SchemaError  # type: ignore[import-untyped]
        from jsonschema.validators import validator_for  # type: ignore[import-untyped]
        from referencing import Registry
    except ImportError:
        raise UsageError("The check json:schema needs the package jsonschema: pip install jsonschema.") from None
    rules = json.loads(schema)
    kind = validator_for(rules, default=Draft202012Validator)
    try:
        kind.check_schema(rules)
    except SchemaError as error:
        raise Unreadable(f"the JSON schema is wrong: {error.message[:200]}") from None
    return kind(rules, registry=Registry())  # an empty registry: a $ref to an address is an error, never a download


def _tables(text: str) -> int:
    lines = [line.strip() for line in text.splitlines()]
    ruled = ("|" in below and "-" in below and not below.strip("|-: \t") for below in lines[1:])
    return sum(
        "|" in above and any(map(str.isalnum, above)) and rule for above, rule in zip(lines, ruled, strict=False)
    )


def _between(count: int, least: int | None, most: int | None, what: str) -> str:
    if any(bound is not None and (isinstance(bound, bool) or not isinstance(bound, int)) for bound in (least, most)):
        raise Unreadable(f"the bounds on {what} must be whole numbers")
    if least is not None and count < least:
        return f"it has {count} {what}, not at least {least}"
    return f"it has {count} {what}, not at most {most}" if most is not None and count > most else ""


def _numbers(cited: str) -> list[int]:
    numbers = [int(number) for number in re.findall(r"\d+", cited)]
    whole = re.fullmatch(r"\d+\s*[–-]\s*\d+", cited)
    return list(range(numbers[0], min(numbers[1], numbers[0] + 1000) + 1)) if whole else numbers


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return dict(pairs)


def _refuse(word: str) -> float:
    raise ValueError(f"{word} is not JSON")
