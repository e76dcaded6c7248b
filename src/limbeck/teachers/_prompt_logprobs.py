"""What a server's model would have written at each place of a given text: its k likeliest tokens there, with log-probabilities.

    ids [1, 40, 266, 91]  from place 2 on, k = 2   ->   [{266: -0.1, 17: -2.6}, {91: -0.02, 5: -4.0}]

Text goes out as token ids, so that nothing is tokenised anew on the way. Servers say it in three ways, tried in this order
on a short text; the first that comes back whole is kept:

| way               | request                                            | who                                         |
|-------------------|----------------------------------------------------|---------------------------------------------|
| `prompt_logprobs` | completions with `prompt_logprobs: k`, one token   | vLLM                                        |
| `echo`            | completions with `echo`, `logprobs: k`             | OpenAI's old format, with tokens given as   |
|                   |                                                    | ids (`return_tokens_as_token_ids`)          |
| `next`            | for each place a completion of one token after the | llama.cpp, whose prompt cache makes each of |
|                   | text up to it, with `logprobs: k`                  | them cost one token                         |

How the server cuts a text into tokens is asked at `/tokenize` (vLLM, llama.cpp, SGLang), or else read off the ids that come back
with the log-probabilities of a text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from limbeck.core.errors import BusyError, EndpointError, RefusedError

if TYPE_CHECKING:
    from limbeck.teachers._address import Address
    from limbeck.teachers._http import Session

Read = TypeVar("Read")
Place = dict[int, float]
"""Log-probabilities by token id, at one place."""


class PromptLogprobs:
    """Asks one endpoint; finds out with the first call how it wants to be asked."""

    def __init__(self, address: Address, session: Session, model: str) -> None:
        self.way = ""
        self._address, self._session, self._model = address, session, model

    async def at(self, ids: Sequence[int], first: int, k: int) -> list[Place]:
        """Return what would have come at the places `first`, `first + 1`, ... of `ids`: up to k tokens (k + 1 with the actual).

        Raises BusyError to ask again later, EndpointError or RefusedError where the server can not or will not.
        """
        if not self.way:
            self.way = await self._tried(ids, first, k)
        return await self._asked(self.way, ids, first, k)

    async def tokens(self, text: str) -> list[int] | None:
        """Return the server's token ids of a text, without any added; None where it has no way to say."""
        wanted = {"model": self._model, "prompt": text, "content": text, "add_special_tokens": False}
        root = self._address.at("/tokenize").replace("/v1/tokenize", "/tokenize")
        heard = await self._session.exchange("POST", root, _bytes(wanted), self._address.headers())
        if heard.status == 200:
            found = _parsed(heard.text).get("tokens")
            if isinstance(found, list) and all(isinstance(n, int) for n in found):
                return found
        try:
            reply = await self._sent(
                {"prompt": text, "max_tokens": 1, "prompt_logprobs": 0, "add_special_tokens": False}
            )
            rest = reply["choices"][0]["prompt_logprobs"][1:]
            return [-1, *(int(next(iter(place))) for place in rest)]  # of the first nothing is said
        except (KeyError, TypeError, IndexError, ValueError, StopIteration, EndpointError, RefusedError):
            return None

    async def _tried(self, ids: Sequence[int], first: int, k: int) -> str:
        short, why = ids[: first + 1], []
        for way in ("prompt_logprobs", "echo", "next"):
            try:
                if all(await self._asked(way, short, first, k)):
                    return way
            except (EndpointError, RefusedError) as error:
                why.append(f"{way}: {error}")
        raise EndpointError(
            f"{self._address.shown} gives no log-probabilities of a prompt ({'; '.join(why)}). vLLM and llama.cpp do, vLLM of no "
            "more tokens than it was started with (--max-logprobs)."
        )

    async def _asked(self, way: str, ids: Sequence[int], first: int, k: int) -> list[Place]:
        if way == "next":
            return [await self._next(list(ids[:place]), k) for place in range(first, len(ids))]
        wanted: dict[str, Any] = {"prompt": list(ids), "max_tokens": 1, "temperature": 0}
        if way == "prompt_logprobs":
            wanted |= {"prompt_logprobs": k}
            return _read(await self._sent(wanted), lambda choice: _by_id(choice["prompt_logprobs"], len(ids), first))
        wanted |= {"echo": True, "logprobs": k, "return_tokens_as_token_ids": True}
        return _read(await self._sent(wanted), lambda choice: _echoed(choice["logprobs"], len(ids), first))

    async def _next(self, before: list[int], k: int) -> Place:
        wanted = {"prompt": before, "max_tokens": 1, "temperature": 0, "logprobs": k, "cache_prompt": True}
        return _read(await self._sent(wanted), _listed)

    async def _sent(self, wanted: Mapping[str, Any]) -> Any:
        data = _bytes({"model": self._model} | dict(wanted))
        url = self._address.at("/completions")
        heard = await self._session.exchange("POST", url, data, self._address.headers())
        self._address.check(*heard)
        reply = _parsed(heard.text)
        self._address.check_inside(reply)
        return reply


def _bytes(wanted: Mapping[str, Any]) -> bytes:
    return json.dumps(wanted, separators=(",", ":")).encode()


def _parsed(text: str) -> Any:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise BusyError("The server answered 200 with what is not a JSON object.", kind="garbled")
    return found


def _read(reply: Any, reader: Callable[[Any], Read]) -> Read:
    try:
        return reader(reply["choices"][0])
    except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
        raise EndpointError(f"the answer does not hold them ({type(error).__name__}: {str(error)[:60]})") from None


def _by_id(places: Any, length: int, first: int) -> list[Place]:
    if len(places) != length:
        raise ValueError(f"{len(places)} places for {length} tokens")
    return [{int(i): float(entry["logprob"]) for i, entry in place.items()} for place in places[first:]]


def _echoed(said: Any, length: int, first: int) -> list[Place]:
    # the token that was written after the text comes too
    places = said["top_logprobs"][:length]
    if len(places) != length:
        raise ValueError(f"{len(places)} places for {length} tokens")
    return [
        {int(name.removeprefix("token_id:")): float(value) for name, value in place.items()} for place in places[first:]
    ]


def _listed(choice: Any) -> Place:
    return {int(entry["id"]): float(entry["logprob"]) for entry in choice["logprobs"]["content"][0]["top_logprobs"]}
