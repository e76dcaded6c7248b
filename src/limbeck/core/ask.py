"""Asks and answers: all that passes between a step and a model.

A step never opens a connection. It yields an `Ask` and is sent the `Reply`:

    reply = yield Ask(messages=row.prompt, teacher="embedded", n=4, temperature=1.0)
    reply.answers[0].text       # "12 + 5 = 17.\\nAnswer: 17"

The engine answers from the cache, a live endpoint, a local model or a replay; the step can not tell and need not.
`Exec` is the same for code: the engine runs it in the sandbox and sends back what happened. `Apply` is the same for
another step: a sampler that stops at the first answer a verifier accepts yields the answer to the verifier, by name.
`Work` is a call that would block (a whole check in the sandbox, a slow library), made in a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from limbeck.core.row import Message, Row, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request for `n` answers to a conversation.

    Defaults are explicit and are always sent, so that a server's or a model's own defaults never leak in
    (trl#6337: a model's generation_config truncated the sampling unasked).
    """

    messages: Sequence[Message]
    teacher: str
    """Which model: a teacher name such as `embedded` or `openai:MODEL`, or `step:NAME` for a student of this run."""
    n: int = 1
    first: int = 0
    """Which samples: `first` to `first + n - 1`. Asking one at a time leads to the same answers as asking for all at once."""
    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    max_tokens: int = 512
    stop: tuple[str, ...] = ()
    seed: int = 0
    """Enters the cache key and local models' sampling: another seed is another set of answers."""
    logprobs: int | None = None
    """How many alternatives per token to report with their log-probabilities; None for none."""
    tools: Sequence[Mapping[str, Any]] = ()
    """Tool definitions in the OpenAI chat format."""
    response_format: Mapping[str, Any] | None = None
    """`{"type": "json_schema", …}` as in the OpenAI chat format, or None."""

    def payload(self) -> dict[str, Any]:
        """Return what identifies the request, JSON-able: everything but the teacher's name, `n` and `first`."""
        values = {k: getattr(self, k) for k in PAYLOAD_FIELDS}
        values["messages"] = [{k: v for k, v in m.record().items() if v is not None} for m in self.messages]
        values["stop"] = list(self.stop)
        values["tools"] = [dict(t) for t in self.tools]
        return values


PAYLOAD_FIELDS = ("temperature", "top_p", "max_tokens", "seed", "logprobs", "response_format")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprob:
    """A token of an answer, its log-probability (natural), and the reported alternatives."""

    token: str
    logprob: float
    top: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One sampled answer. `finish` is `stop`, `length` or `tool_calls`."""

    text: str
    finish: str = "stop"
    tokens_out: int = 0
    tool_calls: str | None = None
    reasoning: str | None = None
    logprobs: tuple[TokenLogprob, ...] | None = None
    usage: Usage = Usage()
    """This answer's share of what the call cost; filled in by the engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The answers to an `Ask`, in sample order, with what they cost."""

    answers: tuple[Answer, ...]
    usage: Usage = Usage()
    teacher: str = ""
    cached: int = 0
    """How many of the answers came from the cache."""
    tokens_cached: int = 0
    """How many of `usage.tokens_in` the provider took from its own prompt cache, at a lower price."""
    pause: float = 0.0
    """Seconds for which the endpoint's rate-limit headers ask everybody to wait."""

    @property
    def text(self) -> str:
        """The first answer's text."""
        return self.answers[0].text


@dataclass(frozen=True, slots=True, kw_only=True)
class Exec:
    """A program to run in the sandbox."""

    source: str
    stdin: str = ""
    seconds: float = 2.0
    memory_mb: int = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Apply:
    """Another streaming step, by name, to be run over rows; what comes back is the list of rows it made, drops included."""

    step: str
    rows: Sequence[Row]
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Work:
    """A blocking call to be made in a thread; what it returns is sent back, what it raises is thrown into the step."""

    function: Callable[..., Any]
    args: tuple[Any, ...] = ()


Request = Ask | Exec | Apply | Work
"""What an `each` may yield."""


@runtime_checkable
class Teacher(Protocol):
    """Whatever answers asks. A file in `teachers/` holds one class with these members, named after the file.

    It is made from the text after the colon of its name: `openai:gpt-x@http://host/v1` -> `OpenAI("gpt-x@http…")`.
    The engine decides when a request may go out, tries it again, pays for it and stores what comes back; a teacher only
    makes one request. Two class attributes may tell the engine more: `remote = True` for an endpoint that needs adaptive
    concurrency, rate limits, retries and prices; `window`, how many rows should be under way at once.
    """

    identity: str
    """What enters the cache key: endpoint without credentials and model, or the hash of the weights."""

    def __init__(self, rest: str) -> None: ...

    async def answer(self, ask: Ask, samples: Sequence[int]) -> Reply:
        """Answer `ask` once for each sample index (the engine leaves out those it has in the cache).

        One request. It may bring fewer answers than asked for, but at least one: the engine asks again for the rest.
        Raises EndpointError, DeniedError, BusyError or RefusedError.
        """
        ...

    async def close(self) -> None:
        """Let go of connections and processes."""
        ...
