"""The plain-completions format, for base models: no roles and no chat template, only text that is gone on with.

    body(ask, "m", n=1, seed=0)   -> {"model": "m", "prompt": "Q: What is 2 + 2?\\nA:", "n": 1, "temperature": 1.0, ...}
    answers({"choices": [{"text": " 4", "finish_reason": "stop"}]}, ask)   -> [Answer(text=" 4")]

The prompt is the text of the turns in their order, whatever their roles, joined by one empty line ("\\n\\n"), with nothing put
before, between or after: a single turn is sent exactly as it stands. A base model needs a `stop` text, or it goes on until
`max_tokens`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from limbeck.core.ask import Answer, Ask
from limbeck.core.errors import EndpointError
from limbeck.teachers import _chat, _reading

PATH = "/completions"


def body(ask: Ask, model: str, *, n: int, seed: int, limit: str = "max_tokens") -> dict[str, Any]:
    """Return the request for `n` choices. Raises EndpointError for tools, which the format does not have."""
    if ask.tools or any(turn.tool_calls for turn in ask.messages):
        raise EndpointError("Plain completions have no tools, and this step uses some: give a chat model's address.")
    wanted: dict[str, Any] = {
        "model": model,
        "prompt": "\n\n".join(turn.content for turn in ask.messages),
        "n": n,
        "temperature": ask.temperature,
        "top_p": ask.top_p,
        limit: ask.max_tokens,
        "seed": seed,
    }
    if ask.logprobs is not None:
        wanted["logprobs"] = ask.logprobs
    if ask.stop:
        wanted["stop"] = list(ask.stop)
    if ask.response_format is not None:
        wanted["response_format"] = dict(ask.response_format)
    return wanted


def state(request: dict[str, Any], instruction: str) -> None:
    """Put an instruction before the prompt of a request."""
    request["prompt"] = f"{instruction}\n\n{request['prompt']}"


def answers(reply: Any, ask: Ask, tokens_out: int | None = None) -> list[Answer]:
    """Read the choices of a reply, as `_chat.answers` does."""
    return _chat.read(reply, ask, _answer, tokens_out)


def _answer(choice: Mapping[str, Any], ask: Ask, tokens_out: int) -> Answer:
    text = choice["text"]
    if not isinstance(text, str):
        raise TypeError(f"text is {type(text).__name__}")
    return Answer(
        text=text,
        finish=_reading.finish(choice.get("finish_reason")),
        tokens_out=tokens_out,
        logprobs=None if ask.logprobs is None else _reading.logprobs(choice.get("logprobs"), ask, text),
    )
