"""Anthropic's Messages format, both ways, without a connection: an ask becomes a body, a reply becomes an answer.

    body(ask, "claude-x")   -> {"model": "claude-x", "system": "Be brief.", "max_tokens": 512, "temperature": 1.0,
                                "messages": [{"role": "user", "content": "What is 2 + 2?"}]}
    answer({"content": [{"type": "text", "text": "4"}], "stop_reason": "end_turn"}, ask)    -> Answer(text="4")

Rows keep tool calls as the OpenAI chat format has them; here they become blocks, and the results of one round of calls
become one user turn:

    tool_calls='[{"id": "t1", "type": "function", "function": {"name": "add", "arguments": "{\\"a\\": 2}"}}]'
        <->  {"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 2}}
    role="tool", content="4"
         ->  {"type": "tool_result", "tool_use_id": "t1", "content": "4"}

What the format lacks is said (log-probabilities, a temperature over 1, JSON without a schema), or made up for: a stop text of
white space alone, which the API refuses, is cut off here. A `top_p` of 1 is left out: it changes nothing, and newer models
refuse a request that names both `temperature` and `top_p`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from limbeck.core.ask import Answer, Ask
from limbeck.core.errors import BusyError, EndpointError, RefusedError
from limbeck.core.fingerprint import canonical

FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "pause_turn": "length",
    "tool_use": "tool_calls",
}


def body(ask: Ask, model: str) -> dict[str, Any]:
    """Return the request for one answer. Raises EndpointError for what the API does not have, RefusedError for this row."""
    _check(ask)
    system, turns = _messages(ask.payload()["messages"])
    wanted: dict[str, Any] = {
        "model": model,
        "max_tokens": ask.max_tokens,
        "messages": turns,
        "temperature": ask.temperature,
    }
    stops = [text for text in ask.stop if text.strip()]
    wanted |= {"system": system} if system else {}
    wanted |= {"top_p": ask.top_p} if ask.top_p < 1 else {}
    wanted |= {"stop_sequences": stops} if stops else {}
    wanted |= {"tools": [_tool(tool) for tool in ask.tools]} if ask.tools else {}
    wanted |= {"output_config": {"format": _format(ask.response_format)}} if ask.response_format else {}
    return wanted


def answer(reply: Any, ask: Ask) -> Answer:
    """Read a reply. Raises RefusedError where the model refused, BusyError for what is not in the format."""
    try:
        reason, blocks = reply["stop_reason"], list(reply["content"])
        if reason == "refusal":
            raise RefusedError(f"The model refused: {_refusal(reply)}.")
        calls = [_call(block) for block in blocks if block["type"] == "tool_use"]
        thoughts = [block["thinking"] for block in blocks if block["type"] == "thinking" and block["thinking"]]
        text = "".join(block["text"] for block in blocks if block["type"] == "text")
        tokens_out = usage(reply)[1]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise BusyError(f"The server's reply is not in the Messages format ({what}).", kind="garbled") from None
    text, stopped = _cut(text, ask.stop)
    return Answer(
        text=text,
        finish="stop" if stopped else FINISH.get(str(reason), "stop"),
        tokens_out=tokens_out,
        tool_calls=canonical(calls) if calls and not stopped else None,
        reasoning="\n\n".join(thoughts) or None,
    )


def usage(reply: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return the tokens in (all of them), the tokens out, and how many of the first were read from the prompt cache."""
    counted = reply.get("usage")
    counted = counted if isinstance(counted, dict) else {}
    names = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
    fresh, written, read, out = (v if isinstance(v := counted.get(name), int) else 0 for name in names)
    return fresh + written + read, out, read


def _check(ask: Ask) -> None:
    if ask.logprobs is not None:
        raise EndpointError(
            "The Messages API gives no log-probabilities, and this step asks for them: it needs another teacher, such as "
            "openai:MODEL with vLLM, SGLang or llama.cpp."
        )
    if ask.temperature > 1:
        raise EndpointError(
            f"The Messages API takes a temperature from 0 to 1, and {ask.temperature:g} was asked for: lower it."
        )


def _messages(turns: Sequence[Mapping[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """Part the system text from the turns; neighbouring turns of one role become one, as the API would join them."""
    start = next((i for i, turn in enumerate(turns) if turn["role"] != "system"), len(turns))
    joined: list[tuple[str, list[dict[str, Any]]]] = []
    for role, blocks in _blocks(turns[start:]):
        if joined and joined[-1][0] == role:
            joined[-1][1].extend(blocks)
        else:
            joined.append((role, blocks))
    system = "\n\n".join(turn["content"] for turn in turns[:start])
    return system, [{"role": role, "content": _content(blocks)} for role, blocks in joined]


def _blocks(turns: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    open_calls: list[str] = []
    for turn in turns:
        text = [{"type": "text", "text": turn["content"]}] if turn["content"] else []
        if turn["role"] == "tool":
            result = {"type": "tool_result", "tool_use_id": open_calls.pop(0) if open_calls else ""}
            yield "user", [{**result, "content": turn["content"]}]
        elif turn["role"] == "assistant":
            calls = [_use(call) for call in json.loads(turn.get("tool_calls") or "[]")]
            open_calls = [call["id"] for call in calls]
            yield "assistant", [*text, *calls]
        elif turn["role"] == "system":
            raise RefusedError(
                "The Messages API has a system text only before the first turn, and this row has one later."
            )
        else:
            yield "user", text


def _content(blocks: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    return blocks[0]["text"] if len(blocks) == 1 and blocks[0]["type"] == "text" else blocks


def _use(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call["function"]
    try:
        given = json.loads(function.get("arguments") or "{}")
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise RefusedError(
            f"The arguments of an earlier call of {function['name']} are no JSON object, as the API needs."
        )
    return {"type": "tool_use", "id": call.get("id", ""), "name": function["name"], "input": given}


def _call(block: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": block["name"], "arguments": json.dumps(block["input"], ensure_ascii=False)}
    return {"id": block["id"], "type": "function", "function": function}


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    function = tool.get("function", tool)
    named = {name: function[name] for name in ("name", "description", "strict") if function.get(name) is not None}
    return {**named, "input_schema": function.get("parameters") or {"type": "object", "properties": {}}}


def _format(wanted: Mapping[str, Any]) -> dict[str, Any]:
    if wanted.get("type") != "json_schema":
        raise EndpointError(
            f"The Messages API knows no response_format of type '{wanted.get('type')}': give a JSON schema "
            '({"type": "json_schema", "json_schema": {"name": ..., "schema": ...}}).'
        )
    return {"type": "json_schema", "schema": _closed(wanted["json_schema"]["schema"])}


def _closed(schema: Any) -> Any:
    """Say of every object in a schema that it has no other properties: the API refuses a schema that leaves it open."""
    if not isinstance(schema, dict):
        return schema
    inner = dict(schema)
    for name in ("properties", "$defs", "definitions"):
        if isinstance(inner.get(name), dict):
            inner[name] = {key: _closed(value) for key, value in inner[name].items()}
    for name in ("anyOf", "allOf", "oneOf", "prefixItems"):
        if isinstance(inner.get(name), list):
            inner[name] = [_closed(part) for part in inner[name]]
    if "items" in inner:
        inner["items"] = _closed(inner["items"])
    return {"additionalProperties": False, **inner} if inner.get("type") == "object" else inner


def _cut(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """Cut `text` before the first stop text of white space, of which the API takes none."""
    places = [place for stop in stops if stop and not stop.strip() and (place := text.find(stop)) >= 0]
    return (text[: min(places)], True) if places else (text, False)


def _refusal(reply: Mapping[str, Any]) -> str:
    details = reply.get("stop_details")
    said = [details.get("category"), details.get("explanation")] if isinstance(details, dict) else []
    return ": ".join(str(part).rstrip(".") for part in said if part) or "no reason given"
