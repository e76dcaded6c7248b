"""From a record of somebody's file to a row: which field is the prompt, which the response, which the reference.

    {"question": "...", "answer": "48/2 = 24 ... #### 72", "grade": 3}
        messages  user: the question, assistant: the answer
        task      {"reference": "72"}
        extra     {"grade": 3}

Fields with the usual names are understood as they stand, others by a map from what is wanted to where it is:

    {"response": "*.solution", "label.claimed": "*.is_correct", "reference": "ground_truth"}

A dot goes into a nested object; one star stands for any key, and gives a row for each key that has a value there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from limbeck.core.errors import UsageError, nearest
from limbeck.core.fingerprint import canonical, digest
from limbeck.core.row import ROLES, Message
from limbeck.seeds._records import load

PROMPTS = ("prompt", "instruction", "question", "text")
RESPONSES = ("response", "output", "completion", "solution", "answer")
REFERENCES = ("reference", "ground_truth", "answer")
TARGETS = ("prompt", "system", "response", "messages", "reference", "id", "kind")
PREFIXES = ("label.", "score.", "task.")
SPEAKERS = {
    "human": "user",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "developer": "system",
    "function": "tool",
}
MARK = "####"
"""What stands before the final answer of a worked solution, as in GSM8K."""
SHORT = 200
"""Characters up to which an answer that is the response is taken as its own reference."""


class Unreadable(ValueError):
    """A record that can not become a row; the message says why."""


class Unmapped(Unreadable):
    """A record with none of the fields that are understood."""


@dataclass(slots=True)
class Parts:
    """What a record says, before it is a row."""

    messages: list[Message] = field(default_factory=list)
    task: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


def check_map(mapping: Mapping[str, str]) -> None:
    """Raise UsageError for a target that does not exist or a path with more than one star."""
    for target, path in mapping.items():
        prefix = next((p for p in PREFIXES if target.startswith(p) and len(target) > len(p)), "")
        if target not in TARGETS and not prefix:
            known = [*TARGETS, *(f"{p}NAME" for p in PREFIXES)]
            raise UsageError(
                f"seeds.files can not map to '{target}'.{nearest(target, known)} Write what is wanted first: prompt=FIELD."
            )
        if not path or path.split(".").count("*") > 1:
            raise UsageError(f"seeds.files: the path '{path}' of '{target}' must name a field, with at most one star")


def sources(values: Mapping[str, Any], mapping: Mapping[str, str]) -> list[str | None]:
    """Return the keys that the star of the map stands for in this record; [None] for a map without a star."""
    starred = [path.split(".") for path in mapping.values() if "*" in path.split(".")]
    if not starred:
        return [None]
    keys: dict[str, None] = {}
    for parts in [
        path.split(".") for target, path in mapping.items() if target == "response" and "*" in path.split(".")
    ] or starred:
        place = parts.index("*")
        inner = _at(values, parts[:place])
        names = (
            inner.keys() if isinstance(inner, dict) else map(str, range(len(inner))) if isinstance(inner, list) else ()
        )
        keys |= {name: None for name in names if _at(values, [*parts[:place], name, *parts[place + 1 :]]) is not None}
    if not keys:
        raise Unmapped(f"no key fits the star of '{'.'.join(starred[0])}'")
    return list(keys)


def read(values: dict[str, Any], mapping: Mapping[str, str], star: str | None, *, as_prompts: bool) -> Parts:
    """Turn one record into the parts of a row. Raises Unreadable, with the reason."""
    used: list[list[str]] = []
    found = {target: _look(values, path, star, used) for target, path in mapping.items()}
    for target, names in (("messages", ("messages",)), ("system", ("system",)), ("prompt", PROMPTS), ("id", ("id",))):
        if target not in mapping:
            found[target] = _first(values, names, used)
    if "prompt" not in mapping and isinstance(found["prompt"], str) and isinstance(values.get("input"), str):
        used.append(["input"])
        found["prompt"] += f"\n\n{values['input']}" if values["input"].strip() else ""
    _response_and_reference(values, mapping, found, used)
    parts = Parts(messages=_turns(found), extra=_rest(values, used, mapping))
    if as_prompts and parts.messages and parts.messages[-1].role == "assistant":
        answered = parts.messages.pop()
        if found.get("reference") is None:
            found["reference"] = _final(answered.content)
    if not parts.messages:
        raise Unmapped("it has none of the fields that are understood, or they are empty")
    _file_away(parts, found)
    if star is not None:
        parts.labels["source"] = star
    return parts


def group_of(messages: Sequence[Message]) -> str:
    """Return the group of rows with this prompt, or the empty string for a row without a prompt."""
    turns = messages[:-1] if messages and messages[-1].role == "assistant" else messages
    return digest([[m.role, m.content, m.tool_calls, m.name] for m in turns]) if turns else ""


def _response_and_reference(
    values: dict[str, Any], mapping: Mapping[str, str], found: dict[str, Any], used: list[list[str]]
) -> None:
    """Find both; `answer` is the response where there is no other, and the reference beside a `solution` or `response`."""
    name = ""
    if "response" not in mapping:
        taken = [p[0] for p in used]
        name = next((n for n in RESPONSES if values.get(n) not in (None, "") and n not in taken), "")
        found["response"] = values.get(name)
        used += [[name]] if name else []
    if "reference" in mapping:
        return
    taken = [p[0] for p in used]
    other = next((n for n in REFERENCES if values.get(n) is not None and n not in taken), "")
    if other:
        found["reference"] = _final(values[other])
        used.append([other])
    elif name in ("answer", "solution"):
        text = values[name]
        if not isinstance(text, str) or MARK in text or len(text) <= SHORT:
            found["reference"] = _final(text)


def _final(value: Any) -> Any:
    """Return what follows the mark of a worked solution, or the value as it stands."""
    if isinstance(value, str) and MARK in value:
        after = value.rsplit(MARK, 1)[1].strip()
        return after if after and "\n" not in after else value
    return value


def _turns(found: Mapping[str, Any]) -> list[Message]:
    turns = _messages(found.get("messages"), "messages")
    prompt, response = found.get("prompt"), found.get("response")
    if not turns:
        turns = _messages(prompt, "prompt") if isinstance(prompt, list) else _one("user", prompt, "prompt")
    if not turns or turns[-1].role != "assistant":
        turns += (
            _messages(response, "response") if isinstance(response, list) else _one("assistant", response, "response")
        )
    system = found.get("system")
    if system is not None and turns and turns[0].role != "system":
        turns = [*_one("system", system, "system"), *turns]
    return turns


def _one(role: str, value: Any, what: str) -> list[Message]:
    if value is None or (isinstance(value, str) and not value.strip()):
        return []
    if isinstance(value, int | float) and not isinstance(value, bool) and what == "response":
        value = canonical(value)  # {"answer": 18}
    if not isinstance(value, str):
        raise Unreadable(f"the {what} is {_kind(value)}, not text")
    return [Message(role=role, content=value)]


def _messages(value: Any, what: str) -> list[Message]:
    if isinstance(value, str) and what == "messages":
        try:
            value = load(value)  # a CSV cell
        except (ValueError, RecursionError):
            raise Unreadable(f"the {what} are text that is not JSON") from None
    if value is None:
        return []
    if not isinstance(value, list):
        raise Unreadable(f"the {what} are {_kind(value)}, not a list of turns")
    return [_turn(item) for item in value]


def _turn(item: Any) -> Message:
    if not isinstance(item, dict):
        raise Unreadable(f"a turn is {_kind(item)}, not an object with role and content")
    role = item.get("role", item.get("from"))
    role = SPEAKERS.get(role, role) if isinstance(role, str) else role
    if role not in ROLES:
        raise Unreadable(f"a turn has the role {canonical(role)[:40]}; the roles are {', '.join(ROLES)}")
    calls, name = item.get("tool_calls") or None, item.get("name")
    content = _content(item.get("content", item.get("value")), empty=calls is not None)
    calls = calls if calls is None or isinstance(calls, str) else canonical(calls)
    return Message(role=role, content=content, tool_calls=calls, name=name if isinstance(name, str) and name else None)


def _content(value: Any, *, empty: bool) -> str:
    if value is None and empty:
        return ""
    if isinstance(value, list) and all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in value):
        return "".join(p["text"] for p in value)
    if not isinstance(value, str):
        raise Unreadable(f"the content of a turn is {_kind(value)}, not text")
    return value


def _file_away(parts: Parts, found: Mapping[str, Any]) -> None:
    """Put reference, id, kind, labels, scores and task fields where they belong."""
    reference = found.get("reference")
    if reference is not None and reference != "":
        parts.task["reference"] = reference
    if found.get("kind") is not None:
        parts.task["kind"] = _text(found["kind"])
    if found.get("id") is not None:
        parts.extra["id"] = _text(found["id"])
    for target, value in found.items():
        name = target.partition(".")[2]
        if value is None or not name:
            continue
        if target.startswith("label."):
            parts.labels[name] = _text(value)
        elif target.startswith("task."):
            parts.task[name] = value
        elif target.startswith("score."):
            parts.scores[name] = _number(value, name)


def _number(value: Any, name: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise Unreadable(f"the score '{name}' is {_kind(value)}, not a number") from None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else canonical(value)


def _first(values: Mapping[str, Any], names: Sequence[str], used: list[list[str]]) -> Any:
    for name in names:
        if values.get(name) not in (None, ""):
            used.append([name])
            return values[name]
    return None


def _look(values: Mapping[str, Any], path: str, star: str | None, used: list[list[str]]) -> Any:
    if path in values:  # a field whose name has a dot in it
        used.append([path])
        return values[path]
    parts = [star if part == "*" and star is not None else part for part in path.split(".")]
    used.append(parts)
    return _at(values, parts)


def _at(value: Any, parts: Sequence[str]) -> Any:
    for part in parts:
        if isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, dict):
            value = value.get(part)
        else:
            return None
    return value


def _rest(values: Mapping[str, Any], used: Sequence[Sequence[str]], mapping: Mapping[str, str]) -> dict[str, Any]:
    """Return what was not used. Objects that the star chose among belong to the rows made of them and stay out."""
    gone = {path[0] for path in used if len(path) == 1}
    kept: dict[str, Any] = {}
    inner = [list(path[1:]) for path in used if len(path) > 1]
    stars = [path.split(".")[1:] for path in mapping.values() if path.startswith("*.")]
    for name, value in values.items():
        if name in gone:
            continue
        mine = [list(path[1:]) for path in used if len(path) > 1 and path[0] == name]
        if isinstance(value, dict) and (mine or any(_at(value, s) is not None for s in stars)):
            left = _without(value, mine or inner) if mine else {}
            if left:
                kept[name] = left
        else:
            kept[name] = value
    return kept


def _without(value: dict[str, Any], paths: Sequence[Sequence[str]]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, item in value.items():
        deeper = [p[1:] for p in paths if p and p[0] == name]
        if any(not p for p in deeper):
            continue
        left = _without(item, deeper) if deeper and isinstance(item, dict) else item
        if left != {} or item == {}:
            out[name] = left
    return out


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", bool: "a truth value", type(None): "null", str: "text"}
    return names.get(type(value), "a number")
