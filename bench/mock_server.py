"""A chat server in a process of its own, fast enough to measure clients with, that counts everything from the outside.

    python bench/mock_server.py '{"latency": 0.05, "rates": {"429": 0.1}}'      prints its port; ends when its stdin closes
    POST /v1/chat/completions     answers after the latency, always the same to the same request
    GET  /stats                   {"arrived": 2000, "answered": 2000, "repeats": 0, "bought_twice": 0, "lost": 0, ...}
    GET  /records                 every request: [digest, arrived, written, outcome, tokens in, tokens out, connection]
    POST /control                 {"always": "503"} changes the script while it runs; {"reset": true} sets the counts to zero

It is written on the bare protocol because a server that is slower than the clients would measure itself: one answer costs it
about 50 microseconds. What it can do wrong on demand is in `mock_script.py`. Its clock is the system's monotonic one, which
all processes share, so that a test can say what had been written when it killed the client.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from hashlib import blake2b
from http import HTTPStatus
from typing import Any

from mock_script import STATUS, Script, error, prompt_of, reply

HEAD = b"HTTP/1.1 %d %s\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n"


@dataclass(slots=True)
class Request:
    """One request as the server saw it; times are of the monotonic clock, 0 is never."""

    digest: bytes
    arrived: float
    connection: int
    written: float = 0.0
    outcome: str = "waiting"
    """`answered`, a fault, or `lost`: the client was gone before its answer."""
    tokens_in: int = 0
    tokens_out: int = 0

    def record(self) -> list[Any]:
        """Return the fields as they stand in /records."""
        times = [round(self.arrived, 6), round(self.written, 6)]
        return [self.digest.hex(), *times, self.outcome, self.tokens_in, self.tokens_out, self.connection]


@dataclass
class Counts:
    """What has happened since the start or the last reset."""

    requests: list[Request] = field(default_factory=list)
    attempts: Counter[bytes] = field(default_factory=Counter)
    bought: set[bytes] = field(default_factory=set)
    bought_twice: int = 0
    connections: int = 0
    open: int = 0
    peak_open: int = 0
    flying: int = 0
    peak_flying: int = 0

    def stats(self) -> dict[str, Any]:
        """Return the sums, JSON-able."""
        outcomes = Counter(r.outcome for r in self.requests)
        paid = [r for r in self.requests if r.outcome in ("answered", "slow", "closing")]
        lost = [r for r in self.requests if r.outcome == "lost"]
        worst = [r for r in self.requests if r.outcome not in STATUS]
        return {
            "arrived": len(self.requests),
            "distinct": len(self.attempts),
            "repeats": len(self.requests) - len(self.attempts),
            "answered": len(paid),
            "bought_twice": self.bought_twice,
            "lost": len(lost),
            "outcomes": dict(outcomes),
            "tokens_in": sum(r.tokens_in for r in paid),
            "tokens_out": sum(r.tokens_out for r in paid),
            "worst_tokens_in": sum(r.tokens_in for r in worst),
            "worst_tokens_out": sum(r.tokens_out for r in worst),
            "connections": self.connections,
            "peak_open": self.peak_open,
            "in_flight": self.flying,
            "peak_in_flight": self.peak_flying,
            "first": min((r.arrived for r in self.requests), default=0.0),
            "last": max((r.written for r in self.requests), default=0.0),
            "cpu": time.process_time(),
        }


class Server:
    """The script, the counts, and the queue of answers that are due."""

    def __init__(self, script: Script) -> None:
        self.script, self.counts = script, Counts()
        self.loop = asyncio.get_running_loop()
        self.connections: set[Connection] = set()
        self._due: deque[tuple[float, Connection, Request, bytes, str]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def take(self, connection: Connection, head: bytes, data: bytes) -> None:
        """Take a chat request; its answer is due after the latency."""
        counts, digest = self.counts, blake2b(data, digest_size=12).digest()
        request = Request(digest, time.monotonic(), connection.number)
        counts.requests.append(request)
        attempt = counts.attempts[digest]
        counts.attempts[digest] = attempt + 1
        counts.flying += 1
        counts.peak_flying = max(counts.peak_flying, counts.flying)
        connection.waiting.append(request)
        try:
            body = json.loads(data)
            prompt = prompt_of(body)
        except (ValueError, AttributeError):
            body, prompt = {}, "<<400>>"
        fault = self.script.fault(prompt, digest, attempt)
        payload = self._payload(request, body, prompt, fault, head)
        late = self.script.slow if fault == "slow" else 0.0
        if late or (self._due and self.script.latency + self.loop.time() < self._due[-1][0]):
            self.loop.call_later(self.script.latency + late, self._say, connection, request, payload, fault)
            return
        self._due.append((self.loop.time() + self.script.latency, connection, request, payload, fault))
        if self._timer is None:
            self._timer = self.loop.call_at(self._due[0][0], self.flush)

    def _payload(self, request: Request, body: dict[str, Any], prompt: str, fault: str, head: bytes) -> bytes:
        if fault in STATUS:
            echoed = head.decode("latin-1") if self.script.echo else ""
            more = b"Retry-After: %s\r\n" % self.script.retry_after.encode() if fault in ("429", "503", "529") else b""
            return _message(int(fault), error(fault, echoed), more)
        content, request.tokens_in, request.tokens_out = reply(body, prompt, counted=not self.script.bare)
        if fault in ("garbled", "empty"):  # the tokens are spent all the same
            content = b'{"choices": [{"message": ' if fault == "garbled" else b'{"choices": []}'
        return _message(200, content)

    def flush(self) -> None:
        """Answer all that is due, and set the clock for the next."""
        self._timer = None
        now = self.loop.time() + 0.0003
        if self.script.hold:
            self._timer = self.loop.call_later(0.01, self.flush)
            return
        while self._due and self._due[0][0] <= now and not self.script.hold:
            self._say(*self._due.popleft()[1:])
        if self._due:
            self._timer = self.loop.call_at(max(now, self._due[0][0]), self.flush)

    def _say(self, connection: Connection, request: Request, payload: bytes, fault: str) -> None:
        transport = connection.transport
        if request.outcome == "lost" or transport is None or transport.is_closing():
            return
        if fault == "hang":
            request.outcome = "hang"  # it stays in flight until the client gives up
            return
        if fault == "cut":
            transport.write(payload[: len(payload) // 2])
            self.loop.call_later(0.005, transport.abort)
        elif fault == "halfclose":
            transport.write_eof()
        else:
            transport.write(payload)
        self._done(connection, request, fault or "answered")
        if fault == "closing":
            transport.close()

    def _done(self, connection: Connection, request: Request, outcome: str) -> None:
        request.outcome, request.written = outcome, time.monotonic()
        self.counts.flying -= 1
        connection.waiting.remove(request)
        if outcome in ("answered", "slow", "closing"):
            self.counts.bought_twice += request.digest in self.counts.bought
            self.counts.bought.add(request.digest)
            if self.script.hold_after and len(self.counts.bought) >= self.script.hold_after:
                self.script.hold, self.script.hold_after = True, 0

    def abort(self) -> None:
        """Break every connection."""
        for connection in list(self.connections):
            if connection.transport is not None:
                connection.transport.abort()

    def gone(self, connection: Connection) -> None:
        """The client has closed a connection; what it was still waiting for is lost."""
        self.counts.open -= 1
        self.connections.discard(connection)
        for request in connection.waiting:
            self.counts.flying -= 1
            if request.outcome == "waiting":
                request.outcome = "lost"
        connection.waiting.clear()

    def ask(self, method: bytes, path: bytes, data: bytes) -> Any:
        """Answer everything that is not a chat request."""
        if path == b"/stats":
            return self.counts.stats()
        if path == b"/records":
            return [request.record() for request in self.counts.requests]
        if method == b"POST" and path == b"/control":
            wanted = json.loads(data)
            if wanted.pop("reset", False):
                was = self.counts
                self.counts = Counts(open=was.open, peak_open=was.open, flying=was.flying, connections=was.open)
            self.script.update(wanted)
            return {}
        return {"object": "list", "data": [{"id": "m", "object": "model"}]}


class Connection(asyncio.Protocol):
    """One connection: bytes in, requests out."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.transport: asyncio.Transport | None = None
        self.waiting: list[Request] = []
        self.number = 0
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection."""
        assert isinstance(transport, asyncio.Transport)
        self.transport, counts = transport, self.server.counts
        self.server.connections.add(self)
        counts.connections += 1
        self.number = counts.connections
        counts.open += 1
        counts.peak_open = max(counts.peak_open, counts.open)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count what was lost with it."""
        self.server.gone(self)

    def data_received(self, data: bytes) -> None:
        """Cut the stream into requests."""
        self._buffer += data
        while True:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._buffer[:end]
            size = _length(head)
            if len(self._buffer) < end + 4 + size:
                return
            body, self._buffer = self._buffer[end + 4 : end + 4 + size], self._buffer[end + 4 + size :]
            self._request(head, body)

    def _request(self, head: bytes, body: bytes) -> None:
        method, path, *_ = head.split(b" ", 2)
        if path.endswith(b"/completions"):
            self.server.take(self, head, body)
            return
        assert self.transport is not None
        self.transport.write(_message(200, json.dumps(self.server.ask(method, path, body)).encode()))


def _length(head: bytes) -> int:
    at = head.lower().find(b"\r\ncontent-length:")
    return 0 if at < 0 else int(head[at + 17 :].split(b"\r\n", 1)[0])


def _message(status: int, body: bytes, more: bytes = b"") -> bytes:
    phrase = HTTPStatus(status).phrase if status != 529 else "Overloaded"
    return HEAD % (status, phrase.encode(), more, len(body)) + body


async def serve(script: Script, port: int) -> None:
    """Listen until stdin closes: the server ends with whoever started it, even when that one is killed.

    A line `down` on stdin stops listening and breaks all connections, `up` listens again; the counts go on.
    """
    loop = asyncio.get_running_loop()
    server = Server(script)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    listening: asyncio.Server | None = None
    word = b"up"
    while word:
        if word.strip() == b"up" and listening is None:
            listening = await loop.create_server(lambda: Connection(server), "127.0.0.1", port, backlog=4096)
            port = listening.sockets[0].getsockname()[1]
        elif word.strip() == b"down" and listening is not None:
            listening.close()
            server.abort()
            listening = None
        print(port, flush=True)
        word = await reader.readline()


def main() -> None:
    """Read the script from the command line, and an optional port."""
    script = Script()
    script.update(json.loads(sys.argv[1]) if len(sys.argv) > 1 else {})
    asyncio.run(serve(script, int(sys.argv[2]) if len(sys.argv) > 2 else 0))


if __name__ == "__main__":
    main()
