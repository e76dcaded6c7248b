"""A real HTTP server in a thread that answers chat and plain completions as a test tells it to, faults included.

    with FaultServer() as server:
        server.script = [Say(status=429, headers={"Retry-After": "0"}), Say(choices=2)]
        OpenAI(f"m@{server.url}")
        server.seen        # what arrived: [{"headers": {...}, "body": {...}}, ...]

When the script is used up, the last entry is repeated.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class Say:
    """One answer of the server; `choices` None means as many as were asked for.

    Instead of an answer: `raw` bytes and then the end of the connection, `cut` in the middle of the body, or `half`: the
    server says that it has finished writing, long before it has.
    """

    status: int = 200
    text: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    choices: int | None = None
    choice: dict[str, Any] = field(default_factory=dict)
    message: dict[str, Any] = field(default_factory=dict)
    usage: dict[str, Any] = field(default_factory=dict)
    cut: bool = False
    half: bool = False
    raw: bytes | None = None
    seconds: float = 0.0
    echo_headers: bool = False


class FaultServer:
    """Listens on a port of its own for as long as the `with` lasts."""

    def __init__(self) -> None:
        self.script: list[Say] = [Say()]
        self.seen: list[dict[str, Any]] = []
        self.decide: Callable[[dict[str, Any]], Say] | None = None
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> FaultServer:
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        self._loop.run_until_complete(runner.setup())
        site = web.TCPSite(runner, "127.0.0.1", 0)
        self._loop.run_until_complete(site.start())
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        left = asyncio.all_tasks(self._loop)  # those that were to answer late, and whose client has gone
        for task in left:
            task.cancel()
        if left:
            self._loop.run_until_complete(asyncio.wait(left))
        self._loop.close()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.seen.append({"path": request.path_qs, "headers": dict(request.headers), "body": body})
        say = self.decide(body) if self.decide else self.script[min(len(self.seen), len(self.script)) - 1]
        await asyncio.sleep(say.seconds)
        if say.raw is not None or say.cut or say.half:
            return await _break(request, say)
        text = say.text
        if say.echo_headers:
            text = json.dumps({"error": {"message": f"no use for {dict(request.headers)}"}})
        return web.Response(
            status=say.status,
            headers=say.headers,
            content_type="application/json",
            text=text if text is not None else json.dumps(_reply(say, body)),
        )


async def _break(request: web.Request, say: Say) -> web.StreamResponse:
    assert request.transport is not None
    if say.raw is not None:
        request.transport.write(say.raw)  # type: ignore[attr-defined]
        request.transport.close()
        return web.Response()
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"choices": [')
    if say.half:
        request.transport.write_eof()  # type: ignore[attr-defined]
        await asyncio.sleep(0.2)
    request.transport.abort()  # type: ignore[attr-defined]
    return response


def _reply(say: Say, body: dict[str, Any]) -> dict[str, Any]:
    count = body.get("n", 1) if say.choices is None else say.choices
    seed = body.get("seed", 0)
    return {
        "choices": [
            {
                "index": index,
                "finish_reason": "stop",
                **_words(f"answer {seed + index}", body, say),
                **say.choice,
            }
            for index in range(count)
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3 * count, **say.usage},
    }


def _words(text: str, body: dict[str, Any], say: Say) -> dict[str, Any]:
    if "prompt" in body:
        return {"text": text, "logprobs": None}
    return {"message": {"role": "assistant", "content": text, **say.message}}
