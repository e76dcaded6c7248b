"""Any server that speaks the OpenAI chat format: `openai:MODEL`, or `openai:MODEL@http://host:port/v1`.

    openai:gpt-4.1-mini                        api.openai.com, with the key in OPENAI_API_KEY
    openai:qwen@http://localhost:8000/v1       vLLM, SGLang, Ollama, llama.cpp ...; with the key in LIMBECK_API_KEY, if any

OPENAI_API_KEY goes to api.openai.com and nowhere else. Keys appear in no identity, log line, error or hash, also not when a
server echoes them.

What a server can do is found out, not assumed: transformers' server answers 200 to n=4 with one choice. Such a server gets
single calls from then on, and the choices that are missing are asked for one by one. LIMBECK_TIMEOUT (seconds for one request,
300) and LIMBECK_CONCURRENCY (requests under way, 128) are read from the environment: they are no part of what is asked.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from limbeck.core.ask import Answer, Ask, Reply
from limbeck.core.errors import BusyError, EndpointError, RefusedError, UsageError
from limbeck.core.fingerprint import digest
from limbeck.core.row import Usage
from limbeck.teachers import _chat
from limbeck.teachers._address import Address
from limbeck.teachers._retry import Patience, patiently

if TYPE_CHECKING:
    import aiohttp

log = logging.getLogger("limbeck.teachers.openai")

HOME = "https://api.openai.com/v1"
_Call = tuple[list[Answer], int, int]


class OpenAI:
    """A model behind an OpenAI-compatible endpoint."""

    def __init__(self, rest: str, *, patience: Patience | None = None) -> None:
        model, at, address = rest.partition("@http")
        if not model:
            raise UsageError("openai: needs a model after the colon: openai:MODEL or openai:MODEL@http://host:port/v1.")
        self._address = Address("http" + address if at else HOME)
        self._model = model
        self.identity = f"{self._address.shown} {model}"
        self._patience = patience or Patience()
        self._timeout = float(os.environ.get("LIMBECK_TIMEOUT", "300"))
        self._gate = asyncio.Semaphore(int(os.environ.get("LIMBECK_CONCURRENCY", "128")))
        self._session: aiohttp.ClientSession | None = None
        self._many: bool | None = None
        """Whether the server gives several choices to one call; None until it was seen."""

    def __repr__(self) -> str:
        return f"OpenAI({self.identity})"

    async def answer(self, ask: Ask, samples: Sequence[int]) -> Reply:
        """Answer each sample index, in as few calls as the server can do it in."""
        begun = time.monotonic()
        calls = [await self._at_once(ask, samples)] if self._many is not False or len(samples) == 1 else []
        have = sum(len(answers) for answers, _, _ in calls)
        calls += await _all(self._call(ask, [sample]) for sample in samples[have:])
        usage = Usage(
            tokens_in=sum(tokens_in for _, tokens_in, _ in calls),
            tokens_out=sum(tokens_out for _, _, tokens_out in calls),
            seconds=time.monotonic() - begun,
        )
        answers = tuple(answer for answers, _, _ in calls for answer in answers)
        return Reply(answers=answers, usage=usage, teacher=ask.teacher)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _at_once(self, ask: Ask, samples: Sequence[int]) -> _Call:
        """Ask for all samples in one call, and learn whether the server can do that."""
        try:
            call = await self._call(ask, samples)
        except RefusedError:
            if len(samples) == 1 or self._many:
                raise
            call = await self._call(ask, samples[:1])  # refused again: it was not for the number of choices
        if len(samples) > 1:
            self._learn(len(call[0]) == len(samples), len(samples), len(call[0]))
        return call

    def _learn(self, many: bool, wanted: int, given: int) -> None:
        if not many and self._many is not False:
            log.warning(
                "%s gave %d of %d answers to one call; from now on each answer is a call of its own.",
                self._address.shown, given, wanted,
            )  # fmt: skip
        self._many = many if self._many is None else self._many and many

    async def _call(self, ask: Ask, samples: Sequence[int]) -> _Call:
        # a server that honours the seed must not give every single call the same answer
        seed = (ask.seed * 1_000_003 + samples[0]) % 2**31
        limit = "max_completion_tokens" if self._address.shown == HOME else "max_tokens"
        request = _chat.body(ask, self._model, n=len(samples), seed=seed, limit=limit)
        reply = await patiently(lambda: self._post(request, ask), digest(request), self._patience)
        return reply[0][: len(samples)], reply[1], reply[2]

    async def _post(self, request: dict[str, Any], ask: Ask) -> _Call:
        async with self._gate:
            status, retry_after, text = await self._exchange(request)
        self._address.check(status, retry_after, text)
        try:
            reply = json.loads(text)
        except ValueError:
            raise BusyError(f"{self._address.shown} answered 200 with what is not JSON.") from None
        self._address.check_inside(reply)
        return _chat.answers(reply, ask), *_chat.usage(reply)

    async def _exchange(self, request: dict[str, Any]) -> tuple[int, str | None, str]:
        """Send one request and return status, Retry-After and body."""
        import aiohttp

        shown = self._address.shown
        data = json.dumps(request, ensure_ascii=False).encode("utf-8", "backslashreplace")
        headers = self._address.headers()
        try:
            async with self._open().post(self._address.url, data=data, headers=headers, allow_redirects=False) as reply:
                raw = await reply.read()
                return reply.status, reply.headers.get("Retry-After"), raw.decode("utf-8", "replace")
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError):
            raise EndpointError(f"{shown} has no certificate that can be trusted: check the address.") from None
        except aiohttp.ClientConnectorError:
            raise EndpointError(f"Nothing answers at {shown}: start the server or check the address.") from None
        except TimeoutError:
            raise BusyError(f"{shown} gave no answer within {self._timeout:g} seconds (LIMBECK_TIMEOUT).") from None
        except aiohttp.ClientError as error:
            raise BusyError(f"{shown} broke off the connection ({type(error).__name__}).") from None

    def _open(self) -> aiohttp.ClientSession:
        import aiohttp

        if self._session is None:
            # the gate bounds the requests, so that waiting for it is no part of a request's time
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
            timeout = aiohttp.ClientTimeout(total=self._timeout, sock_connect=30)
            self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        return self._session


async def _all(calls: Any) -> list[_Call]:
    """Await all calls; when one fails, the others are cancelled and its error is raised."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
