"""Anthropic's message batches: one body holds all requests, and one stream of results comes back.

    POST /messages/batches     {"requests": [{"custom_id": "9c41…", "params": {...}}, ...]}     -> {"id": "msgbatch_1"}
    GET  /messages/batches/msgbatch_1     {"processing_status": "in_progress" | "canceling" | "ended", "request_counts": {...}}
    GET  /messages/batches/msgbatch_1/results     lines {"custom_id", "result": {"type": "succeeded", "message": {...}}}

A request brings one answer. A batch carries no mark of its maker, so one whose id was lost is looked for in the list by its age
and its number of requests; whether it is the right one its results tell, by their custom ids.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

from limbeck.core.ask import Ask
from limbeck.core.errors import BusyError, EndpointError, TeacherError
from limbeck.teachers import _anthropic_chat as chat
from limbeck.teachers._anthropic_api import NOT_TAKEN, Api
from limbeck.teachers._batch_journal import Entry
from limbeck.teachers._batch_provider import Caller, Piece, State

PATH = "/messages/batches"
STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""What an error inside the results would have been as an answer to a live request."""
DAY = 86_400


class AnthropicBatches:
    """The message batches of one model at Anthropic, or at a server with the same API."""

    most = 100_000
    most_bytes = 245_000_000
    most_samples = 1
    sure = False

    def __init__(self, rest: str, pause: float) -> None:
        self._api = Api(rest)
        self.caller = Caller(self._api.address, self._api.headers, self._api.check, pause)
        self.identity = self._api.identity

    def line(self, custom_id: str, ask: Ask, samples: Sequence[int]) -> bytes:
        """Return one request, with the body that the live teacher would send."""
        record = {"custom_id": custom_id, "params": chat.body(ask, self._api.model)}
        return json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace")

    async def newest(self) -> str:
        """Return the id of the newest batch of the workspace."""
        page = await self.caller.insist(lambda: self.caller.json("GET", f"{PATH}?limit=1"))
        return next((str(batch["id"]) for batch in page.get("data") or ()), "")

    async def upload(self, lines: Sequence[bytes]) -> str:
        """Upload nothing: the requests are in the call that begins the batch."""
        return ""

    async def create(self, entry: Entry, lines: Sequence[bytes]) -> str:
        """Begin the batch."""
        batch = await self.caller.json("POST", PATH, b'{"requests":[' + b",".join(lines) + b"]}")
        if not batch.get("id"):
            raise BusyError("The provider answered without the id of a batch.", kind="garbled")
        return str(batch["id"])

    async def find(self, entry: Entry) -> list[str]:
        """Return the batches that are younger than the entry's predecessor and as large as the entry."""
        found = []
        async for batch in self._listed():
            if batch["id"] == entry.newest or _made(batch) < entry.made - DAY:
                break
            if sum((batch.get("request_counts") or {}).values()) == len(entry.requests):
                found.append(str(batch["id"]))
        return found

    async def _listed(self) -> AsyncIterator[dict[str, Any]]:
        after = ""
        while True:
            path = f"{PATH}?limit=100" + (f"&after_id={after}" if after else "")
            page = await self.caller.insist(lambda path=path: self.caller.json("GET", path))  # type: ignore[misc]
            batches = page.get("data") or []
            for batch in batches:
                yield batch
            if not page.get("has_more") or not batches:
                return
            after = str(page.get("last_id") or batches[-1]["id"])

    async def state(self, batch: str) -> State:
        """Return how far a batch is."""
        found = await self.caller.json("GET", f"{PATH}/{batch}")
        counts = {name: number or 0 for name, number in (found.get("request_counts") or {}).items()}
        if found.get("archived_at"):
            raise EndpointError(f"{self.caller.shown} answered with status 404: the results of {batch} are archived.")
        done = counts.get("succeeded", 0)
        return State(
            ended=found.get("processing_status") == "ended",
            done=done,
            failed=sum(counts.values()) - done - counts.get("processing", 0),
            total=sum(counts.values()),
            results=(f"{PATH}/{batch}/results",),
        )

    def pieces(self, raw: bytes, ask: Ask, samples: Sequence[int]) -> list[Piece]:
        """Read one line of the results."""
        result = json.loads(raw)["result"]
        if result["type"] != "succeeded":
            raise self._error(result)
        answer = chat.answer(result["message"], ask)
        tokens_in, _, cached = chat.usage(result["message"])
        return [Piece(answer, tokens_in, cached)]

    def _error(self, result: dict[str, Any]) -> TeacherError:
        """Say what became of a request without a message: errored (with an error inside an error), canceled or expired."""
        outer = result.get("error") or {}
        inner = outer.get("error") or outer
        said = str(inner.get("message") or "no reason given")
        status = STATUS.get(str(inner.get("type")))
        if status is None:
            return BusyError(self._api.address.clean(f"{inner.get('type') or result['type']}: {said}"))
        try:
            self._api.check(status, {}, json.dumps({"error": {"message": said}}, ensure_ascii=False))
        except EndpointError as error:
            return error if any(sign in said for sign in NOT_TAKEN) else BusyError(str(error))
        except TeacherError as error:
            return error
        raise AssertionError("every one of these statuses is an error")


def _made(batch: dict[str, Any]) -> float:
    try:
        return datetime.fromisoformat(str(batch.get("created_at"))).timestamp()
    except ValueError:
        return float("inf")
