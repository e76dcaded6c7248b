"""Any server that speaks the OpenAI format: `openai:MODEL`, or `openai:MODEL@http://host:port/v1`.

    openai:gpt-4.1-mini                                 api.openai.com, with the key in OPENAI_API_KEY
    openai:qwen@http://localhost:8000/v1                vLLM, SGLang, Ollama, llama.cpp ...; with the key in LIMBECK_API_KEY, if any
    openai:base@http://localhost:8000/v1/completions    plain completions, for base models: the address ends in /completions

OPENAI_API_KEY goes to api.openai.com and nowhere else. Keys appear in no identity, log line, error or hash, also not when a
server echoes them.

What a server can do is found out, not assumed. One that gives fewer answers than a call asked for is asked for the rest by the
engine, and for no more at once than it gave. One that refuses a parameter by name gets it written anew (`_dialect.py`). One that
answers 200 and ignores the schema it was given (transformers' server does) has the schema stated to the model instead
(`_form.py`). One whose samples are all the same is pointed out (`_sampling.py`). Log-probabilities that do not come stop the
run: nothing can stand in for them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from limbeck.core.ask import Answer, Ask, Reply
from limbeck.core.errors import BusyError, EndpointError, RefusedError, UsageError
from limbeck.core.row import Usage
from limbeck.teachers import _chat, _completions, _form, _reading, _status
from limbeck.teachers._address import Address
from limbeck.teachers._dialect import Dialect
from limbeck.teachers._http import Heard, Session
from limbeck.teachers._prompt_logprobs import PromptLogprobs
from limbeck.teachers._sampling import Watch

HOME = "https://api.openai.com/v1"
_API = re.compile(r"/(chat/)?completions/?(?=\?|$)")
SAME = (
    "gave the same answer to every sample of several prompts at temperature {:g}: it seems to ignore the temperature, and more "
    'samples will bring nothing new (transformers serve samples only where generation_config.json says "do_sample": true).'
)
_WRITE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class OpenAI:
    """A model behind an OpenAI-compatible endpoint."""

    remote = True

    def __init__(self, rest: str) -> None:
        model, at, address = rest.partition("@http")
        if not model:
            raise UsageError("openai: needs a model after the colon: openai:MODEL or openai:MODEL@http://host:port/v1.")
        api = _API.search(address)
        self._plain = api is not None and api.group(1) is None
        self._address = Address("http" + _API.sub("", address) if at else HOME)
        self._model = model
        shown = self._address.shown + ("/completions" if self._plain else "")
        self.identity = f"{shown} {model}"
        self._url = self._address.at(_completions.PATH if self._plain else _chat.PATH)
        self._headers: dict[str, str] = {}
        self._session = Session(self._address.shown)
        new_name = self._address.home and not self._plain
        self._dialect = Dialect(self._address.shown, "max_completion_tokens" if new_name else "max_tokens")
        self._watch = Watch()
        self._proven = False
        """Whether the address was seen to belong to such a server."""

    def __repr__(self) -> str:
        return f"OpenAI({self.identity})"

    async def answer(self, ask: Ask, samples: Sequence[int]) -> Reply:
        """Answer as many of the sample indices, from the first on, as one request brings answers for: at least one.

        A refusal that names a parameter, or a number of choices, is put right and sent again at once: refusals cost nothing.
        Raises RefusedError, DeniedError, EndpointError or BusyError.
        """
        wanted = samples[: self._dialect.most]
        try:
            heard, stated = await self._send(ask, wanted)
        except RefusedError:
            if len(wanted) == 1 or self._dialect.many:
                raise
            wanted = wanted[:1]
            heard, stated = await self._send(ask, wanted)  # refused again: it was not for the number of choices
            self._dialect.single()
        reply = self._parsed(heard.text)
        counts = _reading.usage(reply)
        try:
            found = (_completions.answers if self._plain else _chat.answers)(reply, ask, counts.tokens_out)
        except RefusedError as error:
            raise RefusedError(self._address.clean(str(error))) from None
        self._proven = True
        if len(wanted) > 1:
            self._dialect.gave(len(wanted), len(reply["choices"]))
        taken = found if len(found) <= len(samples) else found[: len(samples)]
        if not self._watch.over and self._watch.same(ask, taken):
            self._dialect.say(SAME.format(ask.temperature))
        if ask.response_format is not None:
            taken = self._of_the_form(ask.response_format, taken, stated)
        return Reply(
            answers=tuple(taken) if len(taken) == len(found) else _reading.counted(taken, counts.tokens_out),
            usage=Usage(tokens_in=counts.tokens_in, tokens_out=counts.tokens_out),
            teacher=ask.teacher,
            tokens_cached=counts.tokens_cached,
            pause=_status.pause(heard.headers),
        )

    def prompt_logprobs(self) -> PromptLogprobs:
        """Return what asks for the log-probabilities of given texts, over this teacher's connections."""
        return PromptLogprobs(self._address, self._session, self._model)

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def _send(self, ask: Ask, samples: Sequence[int]) -> tuple[Heard, bool]:
        """Send the request until it is worded as the server has it; also returns whether it states the response format."""
        dialect = self._dialect
        if not self._headers:
            self._headers = self._address.headers()
        while True:
            stated = dialect.states_form
            request = self._request(ask, samples[: dialect.most])
            data = _WRITE(request).encode("utf-8", "backslashreplace")
            heard = await self._session.exchange("POST", self._url, data, self._headers)
            if heard.status == 200 or not dialect.corrected(request, heard.status, heard.text):
                self._address.check(*heard)
                return heard, stated

    def _request(self, ask: Ask, samples: Sequence[int]) -> dict[str, Any]:
        # a server that honours the seed must not give every single call the same answer
        seed = (ask.seed * 1_000_003 + samples[0]) % 2**31
        dialect = self._dialect
        body = _completions.body if self._plain else _chat.body
        request = body(ask, self._model, n=len(samples), seed=seed, limit=dialect.limit)
        dialect.leave_out(request)
        if dialect.states_form and ask.response_format is not None:
            told = _form.instruction(ask.response_format)
            if told is not None:
                (_completions.state if self._plain else _chat.state)(request, told)
        return request

    def _of_the_form(self, form: Mapping[str, Any], found: list[Answer], stated: bool) -> list[Answer]:
        """Return the answers that follow the response format, or, where it was stated to the model, all of them.

        An answer that is paid for is not thrown away: the step that asked reads it, as it reads one that was cut off. Only
        while the server was still trusted with the format is a wrong one asked for again. Raises BusyError then.
        """
        judged = [_form.judged(form, answer) for answer in found]
        why = next((fault for _, fault in judged if fault is not None), None)
        if why is None or stated:
            if why is not None:
                self._dialect.say(
                    "gives answers that do not follow the response format though it was stated to the model."
                )
            return [answer for answer, _ in judged]
        self._dialect.ignores_form(f"answered 200 without keeping to response_format ({why})")
        good = [answer for answer, fault in judged if fault is None]
        if not good:
            raise BusyError(
                f"{self._address.shown} did not keep to response_format ({why}); the format is stated to the model now.",
                retry_after=0.0,
                kind="garbled",
            )
        return good

    def _parsed(self, text: str) -> Any:
        try:
            reply = json.loads(text)
        except (ValueError, RecursionError):
            shown = self._address.shown
            if not self._proven and text.lstrip().startswith("<"):
                raise EndpointError(
                    f"{shown} answers with a web page: check that the address ends as the server's documents say (often /v1)."
                ) from None
            raise BusyError(f"{shown} answered 200 with what is not JSON.", kind="garbled") from None
        self._address.check_inside(reply)
        return reply
