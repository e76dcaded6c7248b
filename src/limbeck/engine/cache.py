"""The response cache: every answer that was ever paid for, in one SQLite file.

An answer's key is the hash of who was asked (endpoint without credentials, model, or the hash of the weights), what
was asked (messages and sampling parameters) and which sample it is. Durations, concurrency and keys are no part of it:

    digest(["https://api.openai.com/v1 gpt-x", {"messages": [...], "temperature": 1.0, ...}, 3]) -> answer JSON

Writes are committed in groups by one thread, and `put` returns only after the commit: no answer is acted on before it
is durable, and a thousand concurrent answers cost a few commits, not a thousand.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from limbeck.core.ask import Answer, Ask, TokenLogprob
from limbeck.core.errors import StorageError
from limbeck.core.fingerprint import digest
from limbeck.core.row import Usage

APPLICATION_ID = 0x4C494D42  # "LIMB": tells our file from somebody else's database
GROUP = 1000
_SETUP = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS calls (key TEXT PRIMARY KEY, answer TEXT NOT NULL, made TEXT DEFAULT CURRENT_TIMESTAMP)
    WITHOUT ROWID;
"""


def default_path() -> Path:
    """Return where the cache is: LIMBECK_CACHE, or `.limbeck/calls.sqlite` in the current folder."""
    return Path(os.environ.get("LIMBECK_CACHE") or Path(".limbeck") / "calls.sqlite")


def keys(identity: str, ask: Ask) -> list[str]:
    """Return the cache key of each sample of an ask."""
    request = digest([identity, ask.payload()])
    return [f"{request}-{sample}" for sample in range(ask.n)]


class Cache:
    """A durable dictionary from keys to answers; one writer thread, reads from the event loop's thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._queue: queue.SimpleQueue[tuple[list[tuple[str, str]], _Done] | None] = queue.SimpleQueue()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._reader = self._connect()
            self._writer = self._connect()
        except (sqlite3.Error, OSError) as error:
            raise _storage_error(path, error) from None
        self._thread = threading.Thread(target=self._write_forever, name="limbeck-cache", daemon=True)
        self._thread.start()

    def get(self, wanted: Sequence[str]) -> dict[str, Answer]:
        """Return the answers that are there, by key."""
        found: dict[str, Answer] = {}
        try:
            for key in wanted:
                row = self._reader.execute("SELECT answer FROM calls WHERE key = ?", (key,)).fetchone()
                if row is not None:
                    found[key] = _from_json(row[0])
        except (sqlite3.Error, ValueError, KeyError, TypeError) as error:
            raise _storage_error(self.path, error) from None
        return found

    async def put(self, answers: Iterable[tuple[str, Answer]]) -> None:
        """Store answers; returns once they are committed. Raises StorageError, for example on a full disk."""
        items = [(key, _to_json(answer)) for key, answer in answers]
        done = _Done(asyncio.get_running_loop())
        self._queue.put((items, done))
        await done.future

    def close(self) -> None:
        """Commit what is queued and close."""
        self._queue.put(None)
        self._thread.join()
        self._writer.close()
        self._reader.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=60, check_same_thread=False, isolation_level=None)
        _prepare(connection, self.path)
        return connection

    def _write_forever(self) -> None:
        while True:
            batch = self._take()
            ready = [entry for entry in batch if entry is not None]
            if ready:
                self._commit(self._writer, ready)
            if None in batch:
                return

    def _take(self) -> list[tuple[list[tuple[str, str]], _Done] | None]:
        batch = [self._queue.get()]
        while len(batch) < GROUP and batch[-1] is not None:
            try:
                batch.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return batch

    def _commit(self, connection: sqlite3.Connection, batch: list[tuple[list[tuple[str, str]], _Done]]) -> None:
        failure: StorageError | None = None
        try:
            connection.execute("BEGIN IMMEDIATE")
            for items, _ in batch:
                connection.executemany("INSERT OR REPLACE INTO calls (key, answer) VALUES (?, ?)", items)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            failure = _storage_error(self.path, error)
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        for _, done in batch:
            done.settle(failure)


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make the file ours, or refuse it. Raises StorageError for the database of another program."""
    connection.execute("BEGIN")  # one look: another process may be making the same file
    owner = connection.execute("PRAGMA application_id").fetchone()[0]
    empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    connection.execute("COMMIT")
    if owner != APPLICATION_ID and not empty:
        raise StorageError(
            f"{path} is a database of another program; set LIMBECK_CACHE to another file. Nothing was changed."
        )
    if owner != APPLICATION_ID:  # signed before anything is in it: a kill between the two must not make it a stranger's
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.executescript(_SETUP)


class _Done:
    """A future of the event loop that the writer thread settles."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.future: asyncio.Future[None] = loop.create_future()

    def settle(self, failure: StorageError | None) -> None:
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._settle, failure)

    def _settle(self, failure: StorageError | None) -> None:
        if self.future.done():
            return
        if failure is None:
            self.future.set_result(None)
        else:
            self.future.set_exception(failure)


def _storage_error(path: Path, error: Exception) -> StorageError:
    if isinstance(error, StorageError):
        return error
    text = str(error)
    if "full" in text or "space" in text:
        return StorageError(f"The disk is full: an answer could not be stored in {path}. Make space and run again.")
    if "malformed" in text or "not a database" in text:
        return StorageError(
            f"The cache {path} is damaged ({text}). It holds answers you paid for: restore it from a backup, try "
            "`sqlite3 FILE .recover`, or move it away to start a new one."
        )
    return StorageError(f"The cache {path} can not be used: {text}. Check the folder, or set LIMBECK_CACHE.")


_FIELDS = tuple(field.name for field in fields(Answer))


def _to_json(answer: Answer) -> str:
    record: dict[str, Any] = {k: v for k in _FIELDS if (v := getattr(answer, k)) is not None}
    record["usage"] = answer.usage.record()
    if answer.logprobs is not None:
        record["logprobs"] = [asdict(t) for t in answer.logprobs]
    return json.dumps(record, ensure_ascii=True, separators=(",", ":"))


def _from_json(text: str) -> Answer:
    record: dict[str, Any] = json.loads(text)
    record["usage"] = Usage(**record.get("usage", {}))
    if record.get("logprobs") is not None:
        record["logprobs"] = tuple(TokenLogprob(**t) for t in record["logprobs"])
    return Answer(**record)
