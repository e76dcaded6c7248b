"""A real HTTP server in a thread with the batch APIs of OpenAI and Anthropic, which counts from the outside what was bought.

    with BatchServer() as server:
        server.fate = lambda text, batch: "expired" if batch == 1 and text == "q3" else "ok"
        Batch(f"openai:m@{server.url}")
        server.bought      # Counter({("m", "q0"): 1, ...}): answered requests, which is what a provider charges for
        server.batches     # in the order in which they were begun

A batch ends after `looks` looks at it. `stall` names a place at which the server stops answering for ever, so that a test can
kill the client there; `reached` is set when somebody is there:

    upload   in the middle of reading the file       create-lost   the batch is begun, and the answer never sent
    create   before the batch is begun                state         at a look          results   in the middle of the results
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

Fate = Callable[[str, int], str]


@dataclass
class Begun:
    """A batch as the provider has it."""

    id: str
    requests: list[dict[str, Any]]
    fates: dict[str, str]
    file: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    looks: int = 0
    problem: dict[str, Any] | None = None
    made: float = field(default_factory=time.time)
    dialect: str = "openai"


class BatchServer:
    """Listens on a port of its own for as long as the `with` lasts."""

    def __init__(self, *, key: str = "") -> None:
        self.key = key
        self.url = ""
        self.looks = 1
        self.room = 10**9
        """Requests that may be queued at once at OpenAI."""
        self.fate: Fate = lambda text, batch: "ok"
        self.problem: dict[str, Any] | None = None
        """With which the next batch fails its validation."""
        self.told: dict[str, Any] = {}
        """The error of OpenAI's refusals, where it is a special one."""
        self.stall = ""
        self.faults: dict[str, list[int]] = {}
        """Statuses with which the next requests of a kind, such as `POST /v1/files`, are answered."""
        self.reached = threading.Event()
        self.batches: list[Begun] = []
        self.files: dict[str, list[bytes]] = {}
        self.bought: Counter[tuple[str, str]] = Counter()
        self.log: list[str] = []
        self.heads: list[dict[str, str]] = []
        self.release = False
        """Whether batches may end."""
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._order = random.Random(7)

    def __enter__(self) -> BatchServer:
        self.release = True
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        app = web.Application(client_max_size=1 << 28, middlewares=[self._gate])
        add = app.router.add_route
        add("POST", "/v1/files", self._upload)
        add("GET", "/v1/files/{id}/content", self._content)
        add("POST", "/v1/batches", self._create)
        add("GET", "/v1/batches", self._list)
        add("GET", "/v1/batches/{id}", self._state)
        add("POST", "/v1/messages/batches", self._create_messages)
        add("GET", "/v1/messages/batches", self._list_messages)
        add("GET", "/v1/messages/batches/{id}", self._state_messages)
        add("GET", "/v1/messages/batches/{id}/results", self._results_messages)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        self._loop.run_until_complete(runner.setup())
        site = web.TCPSite(runner, "127.0.0.1", 0)
        self._loop.run_until_complete(site.start())
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(_end(asyncio.all_tasks(self._loop)))
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    @web.middleware
    async def _gate(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.log.append(f"{request.method} {request.path}")
        self.heads.append(dict(request.headers))
        if self.key and self.key not in (
            request.headers.get("Authorization", "") + request.headers.get("x-api-key", "")
        ):
            return web.json_response(
                {"error": {"message": f"wrong key {request.headers.get('Authorization')}"}}, status=401
            )
        if faults := self.faults.get(f"{request.method} {request.path}"):
            await request.read()
            return web.json_response({"error": {"message": "not now"}}, status=faults.pop(0))
        return await handler(request)  # type: ignore[no-any-return]

    async def _stop_at(self, place: str) -> None:
        if self.stall == place:
            self.reached.set()
            await asyncio.sleep(3600)

    # OpenAI

    async def _upload(self, request: web.Request) -> web.Response:
        fields: dict[str, bytes] = {}
        async for part in await request.multipart():
            await self._stop_at("upload")
            fields[str(part.name)] = bytes(await part.read())  # type: ignore[union-attr]
        if fields.get("purpose") != b"batch":
            return web.json_response({"error": {"message": "purpose must be batch"}}, status=400)
        name = f"file-{len(self.files)}"
        self.files[name] = [line for line in fields["file"].split(b"\n") if line]
        return web.json_response({"id": name, "object": "file", "purpose": "batch", "bytes": len(fields["file"])})

    async def _create(self, request: web.Request) -> web.Response:
        wanted = await request.json()
        await self._stop_at("create")
        if wanted["completion_window"] != "24h" or wanted["input_file_id"] not in self.files:
            return web.json_response({"error": {"message": "no such file or window"}}, status=400)
        records = [json.loads(line) for line in self.files[wanted["input_file_id"]]]
        names = [record["custom_id"] for record in records]
        assert len(set(names)) == len(names), "custom ids must be unique"
        assert {(r["method"], r["url"]) for r in records} == {("POST", wanted["endpoint"])}
        requests = [{"custom_id": r["custom_id"], "body": r["body"]} for r in records]
        begun = self._begin(requests, file=wanted["input_file_id"], metadata=wanted.get("metadata") or {})
        queued = sum(len(b.requests) for b in self.batches if not self._ended(b) and b.problem is None)
        if queued > self.room:
            said = "Enqueued token limit reached for m in organization org. Limit: 10 enqueued tokens."
            begun.problem = {"code": "token_limit_exceeded", "message": said, "line": None, "param": None}
        if begun.problem is None:
            self._charge(begun)
        await self._stop_at("create-lost")
        return web.json_response(self._openai(begun))

    def _openai(self, begun: Begun) -> dict[str, Any]:
        ended = self._ended(begun)
        kinds = Counter(begun.fates.values())
        status = (
            "failed"
            if begun.problem
            else "in_progress"
            if not ended
            else "expired"
            if kinds["expired"]
            else "completed"
        )
        counts = {"total": len(begun.requests), "completed": kinds["ok"] if ended else 0, "failed": 0}
        good, bad = (f"{kind}-{begun.id}" if ended and not begun.problem else None for kind in ("out", "err"))
        return {
            "id": begun.id, "object": "batch", "endpoint": "/v1/chat/completions", "input_file_id": begun.file,
            "status": status, "created_at": int(begun.made), "metadata": begun.metadata, "request_counts": counts,
            "output_file_id": good, "error_file_id": bad if len(begun.requests) > kinds["ok"] else None,
            "errors": {"object": "list", "data": [begun.problem]} if begun.problem else None,
        }  # fmt: skip

    async def _state(self, request: web.Request) -> web.Response:
        await self._stop_at("state")
        begun = self._known(request.match_info["id"])
        if begun is None:
            return web.json_response({"error": {"message": "no such batch"}}, status=404)
        begun.looks += 1
        return web.json_response(self._openai(begun))

    async def _list(self, request: web.Request) -> web.Response:
        page, more = self._page(request, "after")
        return web.json_response({"object": "list", "data": [self._openai(b) for b in page], "has_more": more})

    async def _content(self, request: web.Request) -> web.StreamResponse:
        kind, _, name = request.match_info["id"].partition("-")
        begun = self._known(name)
        if begun is None:
            return web.json_response({"error": {"message": "no such file"}}, status=404)
        wanted = [r for r in begun.requests if (begun.fates[r["custom_id"]] in ("ok", "garbled")) == (kind == "out")]
        return await self._stream(request, [self._openai_line(r, begun.fates[r["custom_id"]]) for r in wanted])

    def _openai_line(self, request: dict[str, Any], fate: str) -> str:
        name, body = request["custom_id"], request["body"]
        response: dict[str, Any] | None = {"status_code": 200, "request_id": "r", "body": self._completion(body)}
        error = None
        if fate in ("expired", "canceled"):
            code = {"expired": "batch_expired", "canceled": "batch_cancelled"}[fate]
            response, error = None, {"code": code, "message": "This request could not be executed."}
        elif fate in STATUSES:
            told = self.told or {"message": f"{fate} by the server"}
            response = {"status_code": STATUSES[fate], "request_id": "r", "body": {"error": told}}
        elif fate == "missing":
            return ""
        elif fate == "garbled":
            return '{"custom_id": "' + name + '", "response": {"status_code": 200, "body": {"choices": []}}}'
        return json.dumps({"id": f"batch_req_{name}", "custom_id": name, "response": response, "error": error})

    def _completion(self, body: dict[str, Any]) -> dict[str, Any]:
        text, n = asked(body), body.get("n") or 1
        replies = [f"answer {i} to {text}" for i in range(n)]
        choices = [
            {"index": i, "finish_reason": "stop", "text": reply, "message": {"role": "assistant", "content": reply}}
            for i, reply in enumerate(replies)
        ]
        used = {"prompt_tokens": 10, "completion_tokens": 2 * n, "prompt_tokens_details": {"cached_tokens": 4}}
        return {"id": "c", "object": "chat.completion", "choices": choices, "usage": used}

    # Anthropic

    async def _create_messages(self, request: web.Request) -> web.Response:
        records = (await request.json())["requests"]
        await self._stop_at("upload")
        await self._stop_at("create")
        assert request.headers["anthropic-version"] == "2023-06-01"
        requests = [{"custom_id": r["custom_id"], "body": r["params"]} for r in records]
        assert all(len(r["custom_id"]) <= 64 and r["custom_id"].isalnum() for r in requests)
        begun = self._begin(requests, dialect="anthropic")
        self._charge(begun)
        await self._stop_at("create-lost")
        return web.json_response(self._anthropic(begun))

    def _anthropic(self, begun: Begun) -> dict[str, Any]:
        ended, counts = (
            self._ended(begun),
            dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0),
        )
        for fate in begun.fates.values():
            kind = "succeeded" if fate in ("ok", "garbled") else fate if fate in counts else "errored"
            counts[kind if ended else "processing"] += 1
        return {
            "id": begun.id, "type": "message_batch", "processing_status": "ended" if ended else "in_progress",
            "request_counts": counts, "created_at": datetime.fromtimestamp(begun.made, UTC).isoformat(),
            "archived_at": None, "results_url": f"https://elsewhere.example/{begun.id}" if ended else None,
        }  # fmt: skip

    async def _state_messages(self, request: web.Request) -> web.Response:
        await self._stop_at("state")
        begun = self._known(request.match_info["id"])
        if begun is None:
            told = {"type": "error", "error": {"type": "not_found_error", "message": "no such batch"}}
            return web.json_response(told, status=404)
        begun.looks += 1
        return web.json_response(self._anthropic(begun))

    async def _list_messages(self, request: web.Request) -> web.Response:
        page, more = self._page(request, "after_id")
        last = page[-1].id if page else None
        return web.json_response({"data": [self._anthropic(b) for b in page], "has_more": more, "last_id": last})

    async def _results_messages(self, request: web.Request) -> web.StreamResponse:
        begun = self._known(request.match_info["id"])
        assert begun is not None and self._ended(begun)
        return await self._stream(request, [self._message_line(r, begun.fates[r["custom_id"]]) for r in begun.requests])

    def _message_line(self, request: dict[str, Any], fate: str) -> str:
        name, body = request["custom_id"], request["body"]
        result: dict[str, Any] = {"type": "succeeded", "message": message(body)}
        if fate in ("expired", "canceled"):
            result = {"type": fate}
        elif fate in KINDS:
            error = {"type": KINDS[fate], "message": f"{fate} by the server"}
            result = {"type": "errored", "error": {"type": "error", "error": error, "request_id": "r"}}
        elif fate == "missing":
            return ""
        elif fate == "garbled":
            result = {"type": "succeeded", "message": {"content": "?"}}
        return json.dumps({"custom_id": name, "result": result})

    # both

    def _begin(self, requests: list[dict[str, Any]], **more: Any) -> Begun:
        number = len(self.batches) + 1
        fates = {r["custom_id"]: self.fate(asked(r["body"]), number) for r in requests}
        begun = Begun(f"batch_{number}", requests, fates, **more)
        begun.problem, self.problem = self.problem, None
        self.batches.append(begun)
        return begun

    def _charge(self, begun: Begun) -> None:
        for request in begun.requests:
            if begun.fates[request["custom_id"]] in ("ok", "garbled"):
                body = request["body"]
                self.bought[body["model"], asked(body)] += body.get("n") or 1

    def _ended(self, begun: Begun) -> bool:
        return self.release and begun.looks >= self.looks

    def _known(self, name: str) -> Begun | None:
        return next((b for b in self.batches if b.id == name), None)

    def _page(self, request: web.Request, cursor: str) -> tuple[list[Begun], bool]:
        newest_first = list(reversed(self.batches))
        after, limit = request.query.get(cursor), min(int(request.query.get("limit", "20")), 3)
        start = next((i + 1 for i, b in enumerate(newest_first) if b.id == after), 0)
        return newest_first[start : start + limit], start + limit < len(newest_first)

    async def _stream(self, request: web.Request, lines: list[str]) -> web.StreamResponse:
        lines = [line for line in lines if line]
        self._order.shuffle(lines)
        reply = web.StreamResponse(headers={"Content-Type": "application/x-jsonl"})
        await reply.prepare(request)
        for number, line in enumerate(lines):
            if number == len(lines) // 2:
                await self._stop_at("results")
            await reply.write(line.encode() + (b"\n" if number + 1 < len(lines) else b""))
        await reply.write_eof()
        return reply


async def _end(tasks: set[asyncio.Task[Any]]) -> None:
    """End those that stall."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


STATUSES = {"refused": 400, "denied": 403, "server": 500}
KINDS = {"refused": "invalid_request_error", "denied": "permission_error", "server": "api_error"}


def asked(body: dict[str, Any]) -> str:
    """Return the text of a request's last turn, or its prompt."""
    return body["messages"][-1]["content"] if "messages" in body else body["prompt"]  # type: ignore[no-any-return]


def message(body: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a reply of the Messages API."""
    text = asked(body)
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": body["model"], "stop_reason": "end_turn",
        "content": [{"type": "text", "text": f"answer to {text}"}],
        "usage": {"input_tokens": 6, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 0, "output_tokens": 2},
        **more,
    }  # fmt: skip
