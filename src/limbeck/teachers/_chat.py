"""The chat-completions format, both ways, without a connection: an ask becomes a body, a body becomes answers.

    body(ask, "m", n=4, seed=0)   -> {"model": "m", "messages": [...], "n": 4, "temperature": 1.0, ...}
    answers({"choices": [{"message": {"content": "17"}, "finish_reason": "stop"}]}, ask)   -> [Answer(text="17")]

Thoughts come as `reasoning_content`, as `reasoning`, or as a part of type `thinking`; those that a model writes into its text
(`<think>...</think>`) stay where they are. What the replies share with plain completions is in `_reading.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from limbeck.core.ask import Answer, Ask
from limbeck.core.errors import BusyError
from limbeck.core.fingerprint import canonical
from limbeck.core.row import Message
from limbeck.teachers import _reading
from limbeck.teachers._reading import usage as usage

PATH = "/chat/completions"


def body(ask: Ask, model: str, *, n: int, seed: int, limit: str = "max_tokens") -> dict[str, Any]:
    """Return the request for `n` choices; `limit` is the server's name for the cap on answer tokens."""
    wanted: dict[str, Any] = {
        "model": model,
        "messages": _messages(ask.messages),
        "n": n,
        "temperature": ask.temperature,
        "top_p": ask.top_p,
        limit: ask.max_tokens,
        "seed": seed,
    }
    if ask.logprobs is not None:
        wanted |= {"logprobs": True, "top_logprobs": ask.logprobs}
    if ask.stop:
        wanted["stop"] = list(ask.stop)
    if ask.tools:
        wanted["tools"] = [dict(tool) for tool in ask.tools]
    if ask.response_format is not None:
        wanted["response_format"] = dict(ask.response_format)
    return wanted


def state(request: dict[str, Any], instruction: str) -> None:
    """Add an instruction to a request: to the system message, or as one before all others."""
    turns = request["messages"]
    if turns and turns[0]["role"] == "system":
        turns[0] = {**turns[0], "content": f"{turns[0]['content']}\n\n{instruction}"}
    else:
        turns.insert(0, {"role": "system", "content": instruction})


def answers(reply: Any, ask: Ask, tokens_out: int | None = None) -> list[Answer]:
    """Read the choices of a reply; those that a filter stopped or the server broke off are left out while others are good.

    Raises BusyError for a reply without choices, RefusedError where every one was stopped by a filter, EndpointError where
    log-probabilities were asked for and did not come. `tokens_out` saves looking up what `usage` says of them.
    """
    return read(reply, ask, _answer, tokens_out)


def read(reply: Any, ask: Ask, one: Callable[[Any, Ask, int], Answer], tokens_out: int | None = None) -> list[Answer]:
    """Read each choice of a reply with `one`; see `answers`. Raises BusyError for a choice that is not in the format."""
    total = usage(reply).tokens_out if tokens_out is None else tokens_out
    found: list[Answer] = []
    stopped: Exception | None = None
    try:
        for choice in _reading.choices(reply):
            try:
                found.append(one(choice, ask, total))
            except (_reading.Filtered, BusyError) as error:
                stopped = error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        what = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else type(error).__name__
        raise BusyError(f"The server's choices are not in the format ({what}).", kind="garbled") from None
    if stopped is not None and not found:
        raise stopped
    return found if len(found) == 1 else list(_reading.counted(found, total))


def _messages(turns: Sequence[Message]) -> list[dict[str, Any]]:
    """Write turns as the format has them; a tool's result names the call it answers, in the order of the calls."""
    written, open_calls = [], []
    for turn in turns:
        message: dict[str, Any] = {"role": turn.role, "content": turn.content}
        if turn.tool_calls:
            message["tool_calls"] = json.loads(turn.tool_calls)
            open_calls = [call.get("id", "") for call in message["tool_calls"]]
        if turn.name is not None:
            message["name"] = turn.name
        if turn.role == "tool" and open_calls:
            message["tool_call_id"] = open_calls.pop(0)
        written.append(message)
    return written


def _answer(choice: Mapping[str, Any], ask: Ask, tokens_out: int) -> Answer:
    message = choice["message"]
    ended = _reading.finish(choice.get("finish_reason"), message.get("refusal"))
    text, thoughts = _text(message.get("content"))
    calls = message.get("tool_calls") or _old_call(message.get("function_call"))
    thoughts = message.get("reasoning_content") or message.get("reasoning") or thoughts
    return Answer(
        text=text,
        finish="tool_calls" if calls else ended,
        tokens_out=tokens_out,
        tool_calls=canonical(calls) if calls else None,
        reasoning=str(thoughts) if thoughts else None,
        logprobs=None if ask.logprobs is None else _reading.logprobs(choice.get("logprobs"), ask, text),
    )


def _text(content: Any) -> tuple[str, str]:
    """Return the text and the thoughts of a message's content: a text, nothing, or a list of parts."""
    if isinstance(content, str):
        return content, ""
    if not isinstance(content, list):
        return "" if content is None else str(content), ""
    thoughts = [part.get("thinking") for part in content if part.get("type") == "thinking"]
    text = "".join(str(part.get("text") or "") for part in content if part.get("type") != "thinking")
    return text, "".join(t if isinstance(t, str) else _text(t)[0] for t in thoughts)


def _old_call(call: Any) -> list[dict[str, Any]] | None:
    return [{"id": "", "type": "function", "function": call}] if call else None
