"""OpenAI's batches: a file of requests is uploaded, a batch over it begun, and two files of results come back.

    POST /files     multipart, purpose=batch, lines {"custom_id", "method", "url", "body"}      -> {"id": "file-1"}
    POST /batches   {"input_file_id": "file-1", "endpoint": "/v1/chat/completions",
                     "completion_window": "24h", "metadata": {"limbeck": "71b0c4d8…"}}          -> {"id": "batch_1"}
    GET  /batches/batch_1     {"status": "in_progress", "request_counts": {"total", "completed", "failed"}, ...}
    GET  /files/file-2/content     lines {"custom_id", "response": {"status_code", "body"}, "error": null}

A request is worded by the live teacher (`openai.py`), with all that it knows of the server. It may bring several answers (`n`) and
pays for its prompt once. A batch whose id was lost is found in the list by its
input file or by its tag. OpenAI takes a batch and then fails it as a whole when too many tokens are queued already
(`token_limit_exceeded`): such a batch is not wrong, it must wait or be smaller.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from limbeck.core.ask import Ask
from limbeck.core.errors import BusyError, EndpointError, RefusedError
from limbeck.teachers import _chat, _completions, _form, _reading
from limbeck.teachers._batch_journal import Entry
from limbeck.teachers._batch_provider import Caller, Piece, State
from limbeck.teachers.openai import OpenAI

ENDED = ("completed", "expired", "cancelled", "failed")
TAG = "limbeck"
DAY = 86_400


class OpenAIBatches:
    """The batches of one model at OpenAI, or at a server with the same files and batches."""

    most = 50_000
    most_bytes = 190_000_000
    sure = True

    def __init__(self, rest: str, pause: float) -> None:
        self._live = OpenAI(rest)
        address = self._live._address
        self.caller = Caller(address, address.headers, address.check, pause)
        self.identity = self._live.identity
        self._url = "/v1/completions" if self._live._plain else "/v1/chat/completions"

    @property
    def most_samples(self) -> int:
        """Answers to one request: as many as the server was seen to give."""
        return self._live._dialect.most

    def line(self, custom_id: str, ask: Ask, samples: Sequence[int]) -> bytes:
        """Return one request, with the body that the live teacher would send."""
        body = self._live._request(ask, samples)
        record = {"custom_id": custom_id, "method": "POST", "url": self._url, "body": body}
        return json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace")

    async def newest(self) -> str:
        """Return the id of the newest batch of the account."""
        page = await self.caller.insist(lambda: self.caller.json("GET", "/batches?limit=1"))
        return next((str(batch["id"]) for batch in page.get("data") or ()), "")

    async def upload(self, lines: Sequence[bytes]) -> str:
        """Upload the requests as a file."""
        boundary = secrets.token_hex(16)
        data = _multipart(lines, boundary)
        kind = f"multipart/form-data; boundary={boundary}"
        file = await self.caller.insist(lambda: self.caller.json("POST", "/files", data, kind=kind))
        return str(file["id"])

    async def create(self, entry: Entry, lines: Sequence[bytes]) -> str:
        """Begin the batch over the uploaded file."""
        wanted = {
            "input_file_id": entry.file,
            "endpoint": self._url,
            "completion_window": "24h",
            "metadata": {TAG: entry.tag},
        }
        batch = await self.caller.json("POST", "/batches", json.dumps(wanted).encode())
        return _id(batch)

    async def find(self, entry: Entry) -> list[str]:
        """Return the batch over the entry's file or with its tag."""
        found = []
        async for batch in self._listed():
            tag = (batch.get("metadata") or {}).get(TAG)
            if batch.get("input_file_id") == entry.file or tag == entry.tag:
                found.append(_id(batch))
            if found or batch.get("id") == entry.newest or batch.get("created_at", time.time()) < entry.made - DAY:
                break
        return found

    async def _listed(self) -> AsyncIterator[dict[str, Any]]:
        after = ""
        while True:
            path = "/batches?limit=100" + (f"&after={after}" if after else "")
            page = await self.caller.insist(lambda path=path: self.caller.json("GET", path))  # type: ignore[misc]
            batches = page.get("data") or []
            for batch in batches:
                yield batch
            if not page.get("has_more") or not batches:
                return
            after = _id(batches[-1])

    async def state(self, batch: str) -> State:
        """Return how far a batch is; a batch that failed as a whole has a problem, and cost nothing."""
        found = await self.caller.json("GET", f"/batches/{batch}")
        status, counts = found.get("status"), found.get("request_counts") or {}
        faults = (found.get("errors") or {}).get("data") or []
        files = [found[name] for name in ("output_file_id", "error_file_id") if found.get(name)]
        failed = status == "failed"
        return State(
            ended=status in ENDED,
            done=counts.get("completed") or 0,
            failed=counts.get("failed") or 0,
            total=counts.get("total") or 0,
            problem=self._live._address.clean(_faults(faults)) if failed else "",
            crowded=failed and any(fault.get("code") == "token_limit_exceeded" for fault in faults),
            results=tuple(f"/files/{file}/content" for file in files),
        )

    def pieces(self, raw: bytes, ask: Ask, samples: Sequence[int]) -> list[Piece]:
        """Read one line of an output or error file; the prompt's tokens go to its first answer."""
        record = json.loads(raw)
        response, error = record.get("response"), record.get("error") or {}
        if not response:
            said = f"{error.get('code') or 'no response'}: {error.get('message') or 'no reason given'}"
            raise BusyError(self._live._address.clean(said))
        reply = response.get("body")
        self._check(int(response.get("status_code") or 200), reply, ask, samples)
        try:
            answers = (_completions if self._live._plain else _chat).answers(reply, ask)
        except RefusedError as error:  # a content filter's words
            raise RefusedError(self._live._address.clean(str(error))) from None
        if len(samples) > 1:
            self._live._dialect.gave(len(samples), len(reply["choices"]))
        if ask.response_format is not None:
            answers = [_form.judged(ask.response_format, answer)[0] for answer in answers]
        counts = _reading.usage(reply)
        firsts = [(counts.tokens_in, counts.tokens_cached)] + [(0, 0)] * (len(answers) - 1)
        return [Piece(answer, *first) for answer, first in zip(answers, firsts, strict=True)]

    def _check(self, status: int, reply: Any, ask: Ask, samples: Sequence[int]) -> None:
        """Raise what an error in the place of a reply means; one that is about the wording is put right, and asked again."""
        live, said = self._live, json.dumps(reply, ensure_ascii=False)
        # as it may have been worded when it was sent: with either name of the limit, and with what is left out by now
        body = _completions.body if live._plain else _chat.body
        sent = body(ask, live._model, n=len(samples), seed=0, limit="max_tokens")
        if status != 200 and live._dialect.corrected(sent | {"max_completion_tokens": ask.max_tokens}, status, said):
            raise BusyError("the request was worded as this model does not take it")
        try:
            live._address.check(status, None, said)
            live._address.check_inside(reply)
        except EndpointError as error:  # of one request only: the batch itself was taken
            raise BusyError(str(error)) from None


def _id(batch: dict[str, Any]) -> str:
    name = batch.get("id")
    if not isinstance(name, str) or not name:
        raise BusyError("The provider answered without the id of a batch.", kind="garbled")
    return name


def _faults(faults: Sequence[dict[str, Any]]) -> str:
    said = []
    for fault in faults[:3]:
        place = f"line {fault['line']}: " if fault.get("line") else ""
        said.append(f"{place}{fault.get('message') or fault.get('code')}")
    more = f" (and {len(faults) - 3} more)" if len(faults) > 3 else ""
    return "; ".join(said) + more or "no reason given"


def _multipart(lines: Sequence[bytes], boundary: str) -> bytes:
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="limbeck.jsonl"\r\n'
        "Content-Type: application/jsonl\r\n\r\n"
    ).encode()
    # joined once: two copies of a large batch would be hundreds of megabytes
    return b"".join([head, *(part for line in lines for part in (line, b"\n")), f"\r\n--{boundary}--\r\n".encode()])
