"""How an answer is written in the cache: JSON with the fields that say something, and nothing else.

Answer(text="12 + 5 = 17.", tokens_out=7, usage=Usage(tokens_in=41, tokens_out=7, usd=0.0001))
{"text":"12 + 5 = 17.","tokens_out":7,"usage":[41,7,0.0001]}
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from limbeck.core.ask import Answer, TokenLogprob
from limbeck.core.row import Usage

_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode


def to_json(answer: Answer) -> str:
    """Return an answer as JSON text."""
    record: dict[str, Any] = {"text": answer.text}
    if answer.finish != "stop":
        record["finish"] = answer.finish
    if answer.tokens_out:
        record["tokens_out"] = answer.tokens_out
    if answer.tool_calls is not None:
        record["tool_calls"] = answer.tool_calls
    if answer.reasoning is not None:
        record["reasoning"] = answer.reasoning
    if answer.logprobs is not None:
        record["logprobs"] = [asdict(token) for token in answer.logprobs]
    usage = answer.usage
    record["usage"] = [usage.tokens_in, usage.tokens_out, usage.usd]
    return _encode(record)


def from_json(text: str) -> Answer:
    """Read an answer back. Raises ValueError, KeyError or TypeError for anything else."""
    record: dict[str, Any] = json.loads(text)
    tokens_in, tokens_out, usd = record["usage"]
    record["usage"] = Usage(tokens_in=tokens_in, tokens_out=tokens_out, usd=usd)
    if "logprobs" in record:
        record["logprobs"] = tuple(TokenLogprob(**token) for token in record["logprobs"])
    return Answer(**record)
