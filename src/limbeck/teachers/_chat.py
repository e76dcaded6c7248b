"""The chat-completions format, both ways, without a connection: an ask becomes a body, a body becomes answers.

    body(ask, "m", n=4, seed=0)   -> {"model": "m", "messages": [...], "n": 4, "temperature": 1.0, ...}
    answers({"choices": [{"message": {"content": "17"}, "finish_reason": "stop"}]}, ask)   -> [Answer(text="17")]

Servers differ where the format is loose. Log-probabilities come as `content: [{token, logprob, top_logprobs}]` or in the
older form `tokens, token_logprobs, top_logprobs`; thoughts as `reasoning_content` or `reasoning`; and some servers answer
200 while they ignore what was asked. What is missing is said, never guessed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from limbeck.core.ask import Answer, Ask, TokenLogprob
from limbeck.core.errors import BusyError, EndpointError, RefusedError
from limbeck.core.fingerprint import canonical

FINISH = {"stop": "stop", "length": "length", "tool_calls": "tool_calls", "function_call": "tool_calls"}


def body(ask: Ask, model: str, *, n: int, seed: int, limit: str = "max_tokens") -> dict[str, Any]:
    """Return the request for `n` choices; `limit` is the server's name for the cap on answer tokens."""
    payload = ask.payload()
    wanted = {
        "model": model,
        "messages": _messages(payload["messages"]),
        "n": n,
        "temperature": ask.temperature,
        "top_p": ask.top_p,
        limit: ask.max_tokens,
        "seed": seed,
    }
    if ask.logprobs is not None:
        wanted |= {"logprobs": True, "top_logprobs": ask.logprobs}
    for name in ("stop", "tools", "response_format"):
        wanted |= {name: payload[name]} if payload[name] else {}
    return wanted


def _messages(turns: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Write turns as the format has them; a tool's result names the call it answers, in the order of the calls."""
    written, open_calls = [], []
    for turn in turns:
        message = dict(turn)
        if message.get("tool_calls"):
            message["tool_calls"] = json.loads(message["tool_calls"])
            open_calls = [call.get("id", "") for call in message["tool_calls"]]
        if message["role"] == "tool" and open_calls:
            message["tool_call_id"] = open_calls.pop(0)
        written.append(message)
    return written


def answers(reply: Any, ask: Ask) -> list[Answer]:
    """Read the choices of a reply. Raises BusyError for a reply without any, RefusedError for a filtered one."""
    choices = reply.get("choices") if isinstance(reply, dict) else None
    if not isinstance(choices, list) or not choices:
        raise BusyError("The server answered 200 without any choices.")
    try:
        found = [_answer(choice, ask) for choice in choices]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise BusyError(f"The server's choices are not in the chat format ({type(error).__name__}: {error}).") from None
    return _counted(found, usage(reply)[1])


def usage(reply: Mapping[str, Any]) -> tuple[int, int]:
    """Return the tokens in and out that the server reports; zeros when it reports none."""
    counted = reply.get("usage")
    counted = counted if isinstance(counted, dict) else {}
    values = (counted.get(name) for name in ("prompt_tokens", "completion_tokens"))
    tokens_in, tokens_out = (value if isinstance(value, int) else 0 for value in values)
    return tokens_in, tokens_out


def _answer(choice: Mapping[str, Any], ask: Ask) -> Answer:
    message, reason = choice["message"], choice.get("finish_reason")
    if reason == "content_filter" or message.get("refusal"):
        raise RefusedError(
            f"The server's content filter stopped the answer: {message.get('refusal') or 'no reason given'}."
        )
    text, calls = _text(message.get("content")), message.get("tool_calls")
    thoughts = message.get("reasoning_content") or message.get("reasoning")
    logprobs = None if ask.logprobs is None else _logprobs(choice.get("logprobs"))
    if ask.logprobs is not None and not logprobs and text:
        raise EndpointError(
            "The server answered without log-probabilities, though they were asked for: this step needs a server that "
            "gives them, such as vLLM, SGLang or llama.cpp."
        )
    return Answer(
        text=text,
        finish="tool_calls" if calls else FINISH.get(reason or "stop", "stop"),
        tool_calls=canonical(calls) if calls else None,
        reasoning=str(thoughts) if thoughts else None,
        logprobs=logprobs,
    )


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content)
    return "" if content is None else str(content)


def _logprobs(found: Any) -> tuple[TokenLogprob, ...]:
    if not isinstance(found, dict):
        return ()
    if found.get("content"):
        return tuple(
            TokenLogprob(
                token=entry["token"],
                logprob=float(entry["logprob"]),
                top={other["token"]: float(other["logprob"]) for other in entry.get("top_logprobs") or ()},
            )
            for entry in found["content"]
        )
    tokens, values = found.get("tokens") or (), found.get("token_logprobs") or ()
    tops = found.get("top_logprobs") or [None] * len(values)
    pairs = zip(tokens, values, tops, strict=True)
    return tuple(TokenLogprob(token=t, logprob=float(p), top=top or {}) for t, p, top in pairs if p is not None)


def _counted(found: list[Answer], tokens_out: int) -> list[Answer]:
    """Give each answer its tokens: the reported total, divided by length, for the format reports no single counts."""
    sizes = [len(a.text) + len(a.reasoning or "") + len(a.tool_calls or "") + 1 for a in found]
    counted, before = [], 0
    for place, answer in enumerate(found):
        upto = round(tokens_out * sum(sizes[: place + 1]) / sum(sizes))
        counted.append(replace(answer, tokens_out=upto - before))
        before = upto
    return counted
