"""What the mock server answers, and when it misbehaves: pure functions of the request, so that every run sees the same.

    reply(body, seen)      b'{"choices": [{"message": {"content": "tarn 5e0f..."}}], "usage": {...}}'
    Script(rates={"429": 0.1, "500": 0.03}).fault("What is 7?", b"digest", 0)     "429" for one attempt in ten, always the same

A fault is one of

    400 401 403 404 413 422 429 500 503 529    that status, with an error body; 429, 503 and 529 carry Retry-After
    hang        no answer, the connection stays open          garbled    status 200, broken JSON
    cut         half a body, then the connection is reset     empty      status 200, no choices
    halfclose   no byte, only the end of the stream           slow       the answer, `slow` seconds late
    closing     the answer, and then the connection is closed without a word, as idle ones are

and comes from three places, the first that applies: `always` (every request), a mark in the prompt such as `<<400>>` (every
attempt of that prompt), or `rates` (a share of the attempts, drawn by a hash of the request and the number of the attempt).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from typing import Any

WORDS = ("tarn", "copper", "alder", "mash", "still", "fume", "neck", "worm", "lees", "spirit", "heart", "tail")
STATUS = ("400", "401", "402", "403", "404", "413", "422", "429", "500", "503", "529")
FAULTS = (*STATUS, "hang", "garbled", "cut", "empty", "halfclose", "slow", "closing")
REASONS = {
    "400": "This prompt is against the content policy.",
    "401": "Incorrect API key provided.",
    "402": "No credit is left.",
    "403": "This prompt may not be answered in your region.",
    "404": "There is no such model.",
    "429": "Rate limit reached for requests.",
    "503": "The engine is overloaded.",
    "529": "Overloaded.",
}


@dataclass
class Script:
    """How the server behaves; every field can be set at the start and changed while it runs."""

    latency: float = 0.05
    """Seconds from the last byte of a request to the first byte of its answer."""
    rates: dict[str, float] = field(default_factory=dict)
    """Fault -> share of attempts."""
    always: str = ""
    """A fault that every request meets."""
    seed: int = 0
    retry_after: str = "1"
    slow: float = 1.0
    echo: bool = False
    """Whether error bodies repeat the request's headers, as careless proxies do."""
    hold: bool = False
    """While true requests are taken and none is answered."""
    hold_after: int = 0
    """After so many answers it holds by itself."""
    bare: bool = False
    """Whether answers come without `usage`."""

    def update(self, wanted: dict[str, Any]) -> None:
        """Set some fields. Raises ValueError for one that there is not, or an unknown fault."""
        unknown = [k for k in wanted if k not in asdict(self)]
        faults = [*wanted.get("rates", {}), *([wanted["always"]] if wanted.get("always") else [])]
        unknown += [name for name in faults if name not in FAULTS]
        if unknown:
            raise ValueError(f"there is no '{unknown[0]}'")
        for name, value in wanted.items():
            setattr(self, name, value)

    def fault(self, prompt: str, digest: bytes, attempt: int) -> str:
        """Return the fault that this attempt of a request meets, or the empty string."""
        if self.always:
            return self.always
        if "<<" in prompt:
            for name in FAULTS:
                if f"<<{name}>>" in prompt:
                    return name
        if self.rates:
            drawn = int.from_bytes(blake2b(b"%d %d " % (self.seed, attempt) + digest, digest_size=7).digest()) / 2**56
            for name, share in self.rates.items():
                drawn -= share
                if drawn < 0:
                    return name
        return ""


def prompt_of(body: dict[str, Any]) -> str:
    """Return the words of all turns, one after the other."""
    return "\n".join(str(turn.get("content")) for turn in body.get("messages") or ())


def text_of(prompt: str, seed: int, temperature: float) -> str:
    """Return the answer to a prompt: 6 to 25 words that only these three decide."""
    drawn = blake2b(f"{seed} {temperature:g} {prompt}".encode("utf-8", "replace"), digest_size=16).digest()
    count = 5 + drawn[0] % 20
    return f"{drawn.hex()[:8]} " + " ".join(WORDS[drawn[i % 16] % 12] for i in range(count))


def reply(body: dict[str, Any], prompt: str, *, counted: bool = True) -> tuple[bytes, int, int]:
    """Return the answer to a chat request, with its tokens in and out (words are tokens)."""
    limit = body.get("max_tokens") or body.get("max_completion_tokens") or 1 << 30
    seed, temperature = body.get("seed") or 0, body.get("temperature")
    choices, tokens_out = [], 0
    for index in range(body.get("n") or 1):
        text = text_of(prompt, seed + index, 1.0 if temperature is None else temperature)
        words = text.split(" ")
        reason = "stop" if len(words) <= limit else "length"
        tokens_out += min(len(words), limit)
        message = f'{{"role": "assistant", "content": "{" ".join(words[:limit])}"}}'
        choices.append(f'{{"index": {index}, "finish_reason": "{reason}", "message": {message}}}')
    tokens_in = len(prompt.split())
    usage = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}
    tail = f', "usage": {json.dumps(usage)}' if counted else ""
    head = f'{{"id": "mock", "object": "chat.completion", "created": 1, "model": {json.dumps(body.get("model"))}'
    return f'{head}, "choices": [{", ".join(choices)}]{tail}}}'.encode(), tokens_in, tokens_out


def error(status: str, echoed: str) -> bytes:
    """Return the body of an error; `echoed` is put into the message."""
    said = REASONS.get(status, f"Status {status}.") + (f" You sent: {echoed}" if echoed else "")
    return json.dumps({"error": {"message": said, "type": "mock", "code": None}}).encode()
