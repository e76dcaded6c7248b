"""Anthropic's models by the Messages API: `anthropic:MODEL`, or `anthropic:MODEL@http://host:port` for a compatible server.

    anthropic:claude-haiku-4-5                     api.anthropic.com, with the key in ANTHROPIC_API_KEY
    anthropic:qwen@http://localhost:4000           vLLM, LiteLLM ...; with the key in LIMBECK_API_KEY, if any

ANTHROPIC_API_KEY goes to api.anthropic.com and nowhere else. Conversations, tools and tool calls are translated from and to the
OpenAI chat format in which rows keep them. The API gives one answer to a request, so the engine makes a request for each
sample; it knows no seed, which therefore only tells one set of answers in the cache from another; and it gives no
log-probabilities. Thoughts come back as `Answer.reasoning`. Tokens in count all of a prompt, `tokens_cached` those that
Anthropic read from its prompt cache.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from limbeck.core.ask import Ask, Reply
from limbeck.core.errors import BusyError
from limbeck.core.row import Usage
from limbeck.teachers import _anthropic_chat as chat
from limbeck.teachers._anthropic_api import Api, pause
from limbeck.teachers._http import Session


class Anthropic:
    """A model behind Anthropic's Messages API."""

    remote = True

    def __init__(self, rest: str) -> None:
        self._api = Api(rest)
        self.identity = self._api.identity
        self._session = Session(self._api.address.shown)

    def __repr__(self) -> str:
        return f"Anthropic({self.identity})"

    async def answer(self, ask: Ask, samples: Sequence[int]) -> Reply:
        """Answer the first of the samples: a request brings one answer, and the engine asks for the others."""
        api, begun = self._api, time.monotonic()
        data = json.dumps(chat.body(ask, api.model), ensure_ascii=False).encode("utf-8", "backslashreplace")
        status, headers, text = await self._session.exchange("POST", api.address.at("/messages"), data, api.headers())
        api.check(status, headers, text)
        try:
            reply = json.loads(text)
        except ValueError:
            raise BusyError(f"{api.address.shown} answered 200 with what is not JSON.", kind="garbled") from None
        answer = chat.answer(reply, ask)
        tokens_in, tokens_out, cached = chat.usage(reply)
        return Reply(
            answers=(answer,),
            usage=Usage(tokens_in=tokens_in, tokens_out=tokens_out, seconds=time.monotonic() - begun),
            teacher=ask.teacher,
            tokens_cached=cached,
            pause=pause(headers),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()
