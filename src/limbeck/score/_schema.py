"""The part of JSON Schema that tool definitions use, checked without letting one type pass for another.

    fault({"hour": True}, {"type": "object", "properties": {"hour": {"type": "integer"}}}, "arguments")
        -> "arguments.hour is a truth value, not an integer"

Read: `type` (one or several), `properties`, `required`, `items`, `prefixItems`, `enum`, `const`, `additionalProperties`,
`anyOf`, `oneOf`, `allOf`, local `$ref`, `minimum`, `maximum`, `exclusiveMinimum`, `exclusiveMaximum`, `multipleOf`,
`minLength`, `maxLength`, `minItems`, `maxItems`, `uniqueItems`. Not read: `pattern` and `format` (a pattern can be made to run
for ever), `not`, `if`. An argument that the schema does not name is a fault, unless `additionalProperties` allows it."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,), "array": (list,), "object": (dict,),
    "null": (type(None),),
}  # fmt: skip
SPOKEN = {
    str: "a text",
    int: "an integer",
    float: "a decimal number",
    bool: "a truth value",
    list: "a list",
    dict: "an object",
}
MAX_DEPTH = 60
"""How deep a schema may lead through `$ref` and nesting before the value counts as a fault."""


def fault(value: Any, rules: Any, where: str, root: Any = None, depth: int = 0) -> str:
    """Return what is wrong with a value under a schema, as a phrase, or the empty string."""
    if not isinstance(rules, dict):
        return ""
    if depth > MAX_DEPTH:
        return f"{where} nests too deeply"
    root = rules if root is None else root
    parts = (_choices(value, rules, where, root, depth), _kind(value, rules, where), _bounds(value, rules, where))
    if told := next((text for text in parts if text), ""):
        return told
    if isinstance(value, dict) and (rules.get("type") or "properties" in rules):
        return _object_fault(value, rules, where, root, depth)
    if isinstance(value, list):
        items = zip(value, _item_rules(rules, len(value)), strict=True)
        found = (fault(item, rule, f"{where}[{at}]", root, depth + 1) for at, (item, rule) in enumerate(items))
        return next((text for text in found if text), "")
    return ""


def _choices(value: Any, rules: dict[str, Any], where: str, root: Any, depth: int) -> str:
    if "$ref" in rules:
        target = _referred(rules["$ref"], root)
        if target is None:
            return f"{where} can not be checked: its schema refers to '{rules['$ref']}', which is not there"
        if text := fault(value, target, where, root, depth + 1):
            return text
    for rule in rules.get("allOf") or ():
        if text := fault(value, rule, where, root, depth + 1):
            return text
    for word in ("anyOf", "oneOf"):
        fitting = [not fault(value, rule, where, root, depth + 1) for rule in rules.get(word) or ()]
        if fitting and not any(fitting):
            return f"{where} fits none of the allowed forms"
        if word == "oneOf" and sum(fitting) > 1:
            return f"{where} fits several forms of which only one may fit"
    return ""


def _kind(value: Any, rules: dict[str, Any], where: str) -> str:
    wanted = rules.get("type")
    kinds = [wanted] if isinstance(wanted, str) else list(wanted or ())
    if kinds and type(value) not in {kind for name in kinds for kind in TYPES.get(name, (type(value),))}:
        return f"{where} is {SPOKEN.get(type(value), 'null')}, not {' or '.join(_article(k) for k in kinds)}"
    allowed = rules["enum"] if "enum" in rules else [rules["const"]] if "const" in rules else None
    if allowed is not None and not any(same_typed(value, choice, rules) for choice in allowed):
        return f"{where} is none of the allowed values"
    return ""


def _bounds(value: Any, rules: dict[str, Any], where: str) -> str:
    if type(value) in (int, float):
        exact, step = (
            Fraction(value) if value == value and abs(value) != float("inf") else None,
            rules.get("multipleOf"),
        )
        wrong = (
            (value < rules.get("minimum", value)) or (value > rules.get("maximum", value))
            or ("exclusiveMinimum" in rules and value <= rules["exclusiveMinimum"])
            or ("exclusiveMaximum" in rules and value >= rules["exclusiveMaximum"])
            or (bool(step) and (exact is None or (exact / Fraction(str(step))).denominator != 1))
        )  # fmt: skip
        return f"{where} is out of its range" if wrong else ""
    if isinstance(value, str):
        fits = rules.get("minLength", 0) <= len(value) <= rules.get("maxLength", len(value))
        return "" if fits else f"{where} is too short or too long"
    if isinstance(value, list):
        if not rules.get("minItems", 0) <= len(value) <= rules.get("maxItems", len(value)):
            return f"{where} has too few or too many items"
        if rules.get("uniqueItems") and any(same_typed(a, b) for at, a in enumerate(value) for b in value[:at]):
            return f"{where} has the same item twice"
    return ""


def _item_rules(rules: dict[str, Any], count: int) -> Iterator[Any]:
    first = rules.get("prefixItems") or []
    return (first[at] if at < len(first) else rules.get("items") for at in range(count))


def _referred(path: Any, root: Any) -> Any:
    if not isinstance(path, str) or not path.startswith("#"):
        return None  # another document: nothing is ever fetched
    here = root
    for name in path.removeprefix("#").strip("/").split("/") if path != "#" else ():
        here = here.get(name.replace("~1", "/").replace("~0", "~")) if isinstance(here, dict) else None
    return here


def _object_fault(value: dict[str, Any], rules: dict[str, Any], where: str, root: Any, depth: int) -> str:
    known = rules.get("properties") or {}
    missing = [name for name in rules.get("required") or () if name not in value]
    if missing:
        return f"{where} lacks '{missing[0]}'"
    # an object of free form takes anything
    more = rules.get("additionalProperties", not known and where != "arguments")
    for name, item in value.items():
        if name not in known and more is False:
            return f"{where} has '{name}', which the tool does not take"
        if text := fault(item, known.get(name, more), f"{where}.{name}", root, depth + 1):
            return text
    return ""


def same_typed(left: Any, right: Any, rules: Any = None) -> bool:
    """Say whether two JSON values are equal and of the same types; where the schema says `number`, 20 equals 20.0."""
    rules = rules if isinstance(rules, dict) else {}
    if rules.get("type") == "number" and type(left) in (int, float) and type(right) in (int, float):
        return bool(left == right)
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        known = rules.get("properties") or {}
        return left.keys() == right.keys() and all(same_typed(v, right[k], known.get(k)) for k, v in left.items())
    if isinstance(left, list):
        return len(left) == len(right) and all(
            same_typed(a, b, rules.get("items")) for a, b in zip(left, right, strict=True)
        )
    return bool(left == right)


def _article(kind: str) -> str:
    return f"{'an' if kind[:1] in 'aio' else 'a'} {kind}"
