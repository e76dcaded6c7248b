"""The part of JSON Schema that tool definitions use, checked without letting one type pass for another.

    fault({"hour": True}, {"type": "object", "properties": {"hour": {"type": "integer"}}}, "arguments")
        -> "arguments.hour is a truth value, not an integer"

Read: `type` (one or several), `properties`, `required`, `items`, `enum`, `const`, `additionalProperties`, `anyOf`. An argument
that the schema does not name is a fault, unless `additionalProperties` allows it.
"""

from __future__ import annotations

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


def fault(value: Any, rules: Any, where: str) -> str:
    """Return what is wrong with a value under a schema, as a phrase, or the empty string."""
    if not isinstance(rules, dict):
        return ""
    if "anyOf" in rules and all(fault(value, rule, where) for rule in rules["anyOf"]):
        return f"{where} fits none of the allowed forms"
    wanted = rules.get("type")
    kinds = [wanted] if isinstance(wanted, str) else list(wanted or ())
    if kinds and type(value) not in {kind for name in kinds for kind in TYPES.get(name, (type(value),))}:
        return f"{where} is {SPOKEN.get(type(value), 'null')}, not {' or '.join(_article(k) for k in kinds)}"
    allowed = rules["enum"] if "enum" in rules else [rules["const"]] if "const" in rules else None
    if allowed is not None and not any(same_typed(value, choice, rules) for choice in allowed):
        return f"{where} is none of the allowed values"
    if isinstance(value, dict) and (kinds or "properties" in rules):
        return _object_fault(value, rules, where)
    if isinstance(value, list):
        found = (fault(item, rules.get("items"), f"{where}[{place}]") for place, item in enumerate(value))
        return next((text for text in found if text), "")
    return ""


def _object_fault(value: dict[str, Any], rules: dict[str, Any], where: str) -> str:
    known = rules.get("properties") or {}
    missing = [name for name in rules.get("required") or () if name not in value]
    if missing:
        return f"{where} lacks '{missing[0]}'"
    more = rules.get(
        "additionalProperties", not known and where != "arguments"
    )  # an object of free form takes anything
    for name, item in value.items():
        if name not in known and more is False:
            return f"{where} has '{name}', which the tool does not take"
        if text := fault(item, known.get(name, more), f"{where}.{name}"):
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
