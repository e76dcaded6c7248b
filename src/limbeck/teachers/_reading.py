"""What the replies of chat and of plain completions have in common: why an answer ended, its log-probabilities, the bill.

    usage({"usage": {"prompt_tokens": 90, "completion_tokens": 12, "prompt_tokens_details": {"cached_tokens": 64}}})
        -> Counts(tokens_in=90, tokens_out=12, tokens_cached=64)

Servers differ where the format is loose. Log-probabilities come as `content: [{token, logprob, top_logprobs}]` or in the
older form `tokens, token_logprobs, top_logprobs`; some count thoughts as part of `completion_tokens` and some beside it, only
in `total_tokens`; some answer 200 and say in the reason for the end that nothing was answered. What is missing is said, never
guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from limbeck.core.ask import Answer, Ask, TokenLogprob
from limbeck.core.errors import BusyError, EndpointError, RefusedError

FINISH = {
    "stop": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}
"""Anything else (`eos`, `stop_sequence`, null) is a stop."""
BROKEN = {"error": "server", "abort": "server", "insufficient_system_resource": "overloaded"}
"""Reasons that say that the server gave up half-way, and the kind of busy they stand for."""


class Counts(NamedTuple):
    """The tokens that a reply reports: in (all of them), out (thoughts included), and those in that a prompt cache had."""

    tokens_in: int
    tokens_out: int
    tokens_cached: int


class Filtered(RefusedError):
    """One choice that a content filter stopped; the others of the same reply may be good."""


def usage(reply: Any) -> Counts:
    """Return the tokens that the server reports; zeros when it reports none."""
    counted = reply.get("usage") if isinstance(reply, dict) else None
    if not isinstance(counted, dict):
        return Counts(0, 0, 0)
    tokens_in, tokens_out = _count(counted, "prompt_tokens"), _count(counted, "completion_tokens")
    # thoughts that are counted beside the completion are in the total alone
    tokens_out = max(tokens_out, _count(counted, "total_tokens") - tokens_in)
    details = counted.get("prompt_tokens_details")
    cached = _count(details, "cached_tokens") if isinstance(details, dict) else 0
    return Counts(tokens_in, tokens_out, min(tokens_in, cached or _count(counted, "prompt_cache_hit_tokens")))


def _count(counted: Mapping[str, Any], name: str) -> int:
    value = counted.get(name)
    return value if isinstance(value, int) and value > 0 else 0


def choices(reply: Any) -> list[Any]:
    """Return the choices of a reply. Raises BusyError for a reply without any."""
    found = reply.get("choices") if isinstance(reply, dict) else None
    if not isinstance(found, list) or not found:
        raise BusyError("The server answered 200 without any choices.", kind="garbled")
    return found


def finish(reason: Any, refusal: Any = None) -> str:
    """Return why an answer ended: `stop`, `length` or `tool_calls`. Raises Filtered, and BusyError for a broken one."""
    if refusal or str(reason).startswith(("content_filter", "content-filter")):
        raise Filtered(f"The server's content filter stopped the answer: {refusal or 'no reason given'}.")
    if reason in BROKEN:
        raise BusyError(f"The server broke off its answer (finish_reason '{reason}').", kind=BROKEN[reason])
    return FINISH.get(reason or "stop", "stop")


def logprobs(found: Any, ask: Ask, text: str) -> tuple[TokenLogprob, ...] | None:
    """Return an answer's log-probabilities, None when none were asked for. Raises EndpointError when they did not come."""
    if ask.logprobs is None:
        return None
    read = _logprobs(found) if isinstance(found, dict) else ()
    if text and not read:
        raise EndpointError(
            "The server answered without log-probabilities, though they were asked for: this step needs a server that "
            "gives them, such as vLLM, SGLang or llama.cpp."
        )
    return read


def _logprobs(found: Mapping[str, Any]) -> tuple[TokenLogprob, ...]:
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


def counted(found: Sequence[Answer], tokens_out: int) -> tuple[Answer, ...]:
    """Give each answer its tokens: the reported total, divided by length, for the format reports no single counts."""
    sizes = [len(a.text) + len(a.reasoning or "") + len(a.tool_calls or "") + 1 for a in found]
    shared, before = [], 0
    for place, answer in enumerate(found):
        upto = round(tokens_out * sum(sizes[: place + 1]) / sum(sizes))
        shared.append(replace(answer, tokens_out=upto - before))
        before = upto
    return tuple(shared)
