"""The response cache: every answer that was ever paid for, in one SQLite file.

An answer's key is the hash of who was asked (endpoint without credentials, model, or the hash of the weights), what
was asked (messages and sampling parameters) and which sample it is. Durations, concurrency and keys are no part of it:

    digest(["https://api.openai.com/v1 gpt-x", {"messages": [...], "temperature": 1.0, ...}]) + "-3", 512  ->  answer JSON

The longest answer allowed (`max_tokens`, here 512) stands beside the key: an answer that came to its own end is the
answer under any larger limit too, and only the truncated ones are bought again when the limit is raised.

Writes are committed in groups by one thread, and `put` returns only after the commit: no answer is acted on before it
is durable, and a thousand concurrent answers cost a few commits, not a thousand. What the answers did cost is committed
with them, so a killed run knows what it has spent. A reserve file of some megabytes is given up when the disk is
full: the answers that are still under way then have room.
"""

from __future__ import annotations

import asyncio
import os
import queue
import shutil
import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from limbeck.core.ask import Answer, Ask
from limbeck.core.errors import StorageError
from limbeck.core.fingerprint import digest
from limbeck.core.ledger import PAID, Total
from limbeck.engine.stored import from_json, to_json

APPLICATION_ID = 0x4C494D42  # "LIMB": tells our file from somebody else's database
VERSION = 2
GROUP = 1000
LINGER = 0.005
"""Seconds that a commit waits for company: every commit costs a flush to the disk, and no request waits for it."""
RESERVE_BYTES = 8 << 20
_PRAGMAS = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
_TABLES = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS answers (
    key TEXT NOT NULL, max_tokens INTEGER NOT NULL, answer TEXT NOT NULL, made TEXT DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (key, max_tokens)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spent (
    run TEXT NOT NULL, step TEXT NOT NULL, {", ".join(f"{name} NUMERIC NOT NULL" for name in PAID)},
    PRIMARY KEY (run, step)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS leases (run TEXT PRIMARY KEY, usd NUMERIC NOT NULL) WITHOUT ROWID;
PRAGMA user_version = {VERSION};
COMMIT;
"""
_INSERT = "INSERT OR REPLACE INTO answers (key, max_tokens, answer) VALUES (?, ?, ?)"
_SPEND = f"""
INSERT INTO spent VALUES (?, ?, {", ".join("?" for _ in PAID)})
ON CONFLICT DO UPDATE SET {", ".join(f"{name} = {name} + excluded.{name}" for name in PAID)}
"""
_LEASE = "INSERT OR REPLACE INTO leases VALUES (?, ?)"

Bought = tuple[str, int, str]
"""Key, token limit and answer, as they are stored."""
Spending = tuple[str, str, Total]
"""Run, step, and what was spent."""


def default_path() -> Path:
    """Return where the cache is: LIMBECK_CACHE, or `.limbeck/calls.sqlite` in the current folder."""
    return Path(os.environ.get("LIMBECK_CACHE") or Path(".limbeck") / "calls.sqlite")


def keys(identity: str, ask: Ask) -> list[str]:
    """Return the cache key of each sample of an ask, without its token limit."""
    payload = ask.payload()
    del payload["max_tokens"]
    request = digest([identity, payload])
    return [f"{request}-{sample}" for sample in range(ask.first, ask.first + ask.n)]


class Cache:
    """A durable dictionary from keys to answers; one writer thread, reads from the event loop's thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._reserve = path.with_name(path.name + ".reserve")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._reader = self._connect()
            self._writer = self._connect()
            self._set_reserve()
        except (sqlite3.Error, OSError) as error:
            raise _storage_error(path, error) from None
        self._thread = threading.Thread(target=self._write_forever, name="limbeck-cache", daemon=True)
        self._thread.start()

    def get(self, wanted: Sequence[str], max_tokens: int) -> dict[str, Answer]:
        """Return the answers that are there, by key: those made under this limit, or complete under a smaller one."""
        found: dict[str, Answer] = {}
        try:
            for key in wanted:
                query = (
                    "SELECT max_tokens, answer FROM answers WHERE key = ? AND max_tokens <= ? ORDER BY max_tokens DESC"
                )
                for limit, text in self._reader.execute(query, (key, max_tokens)):
                    answer = from_json(text)
                    if limit == max_tokens or answer.finish != "length":
                        found[key] = answer
                        break
        except (sqlite3.Error, ValueError, KeyError, TypeError) as error:
            raise _storage_error(self.path, error) from None
        return found

    async def put(
        self, answers: Sequence[tuple[str, Answer]], max_tokens: int, spending: Spending | None = None
    ) -> None:
        """Store answers and what they cost; returns once both are committed. Raises StorageError on a full disk."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.put(_Write([(key, max_tokens, to_json(answer)) for key, answer in answers], spending, done))
        await done

    def note(self, spending: Spending) -> None:
        """Store what was spent without an answer, at some time before `close`."""
        self._queue.put(_Write([], spending, None))

    async def lease(self, run: str, usd: float) -> None:
        """Note that a run may spend up to so many US dollars from now on; durable when this returns."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.put(_Write([], None, done, lease=(run, usd)))
        await done

    def leased(self, run: str) -> float:
        """Return what a run was about to spend at most when it was killed; 0 for one that ended in good order."""
        row = self._reader.execute("SELECT usd FROM leases WHERE run = ?", (run,)).fetchone()
        return float(row[0]) if row else 0.0

    def end_lease(self, run: str) -> None:
        """Note, at some time before `close`, that the run has ended in good order."""
        self._queue.put(_Write([], None, None, lease=(run, 0.0)))

    def spent(self, run: str) -> dict[str, Total]:
        """Return what a run has paid so far, by step."""
        names = ", ".join(PAID)
        try:
            rows = self._reader.execute(f"SELECT step, {names} FROM spent WHERE run = ?", (run,)).fetchall()
        except sqlite3.Error as error:
            raise _storage_error(self.path, error) from None
        return {row[0]: Total(**dict(zip(PAID, row[1:], strict=True))) for row in rows}

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

    def _set_reserve(self) -> None:
        """Take some megabytes of the disk, to be given back when it is full."""
        if self._reserve.exists():
            return
        try:
            _take_room(self._reserve, min(RESERVE_BYTES, shutil.disk_usage(self.path.parent).free // 10))
        except OSError:
            self._reserve.unlink(missing_ok=True)
            raise

    def _write_forever(self) -> None:
        while True:
            batch = self._take()
            ready = [entry for entry in batch if entry is not None]
            if ready:
                _settle(ready, self._commit_somehow(ready))
            if None in batch:
                return

    def _take(self) -> list[_Write | None]:
        batch = [self._queue.get()]
        if batch[0] is not None:
            time.sleep(LINGER)
        while len(batch) < GROUP and batch[-1] is not None:
            try:
                batch.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return batch

    def _commit_somehow(self, batch: Sequence[_Write]) -> StorageError | None:
        """Commit; on a full disk give up the reserve, store what was paid for, and say that the disk is full."""
        failure = self._commit(batch)
        if failure is None or "disk is full" not in str(failure):
            return failure
        self._reserve.unlink(missing_ok=True)
        self._commit(batch)
        return failure

    def _commit(self, batch: Sequence[_Write]) -> StorageError | None:
        connection = self._writer
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_INSERT, [bought for write in batch for bought in write.answers])
            connection.executemany(_SPEND, _sums(batch))
            connection.executemany(_LEASE, [write.lease for write in batch if write.lease is not None])
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            return _storage_error(self.path, error)
        return None


class _Write:
    """Answers on their way to the disk, and the future of whoever waits for them."""

    __slots__ = ("answers", "done", "lease", "spending")

    def __init__(
        self,
        answers: list[Bought],
        spending: Spending | None,
        done: asyncio.Future[None] | None,
        lease: tuple[str, float] | None = None,
    ) -> None:
        self.answers, self.spending, self.done, self.lease = answers, spending, done, lease


def _sums(batch: Sequence[_Write]) -> list[tuple[str | int | float, ...]]:
    sums: dict[tuple[str, str], Total] = {}
    for write in batch:
        if write.spending is not None:
            run, step, total = write.spending
            sums.setdefault((run, step), Total()).add(total)
    return [(run, step, *(getattr(total, name) for name in PAID)) for (run, step), total in sums.items()]


def _settle(batch: Sequence[_Write], failure: StorageError | None) -> None:
    """Wake everybody who waits for this commit, with one call into the event loop."""

    waiting = [write.done for write in batch if write.done is not None]

    def wake() -> None:
        for done in waiting:
            if not done.done():
                done.set_result(None) if failure is None else done.set_exception(failure)

    if waiting and not waiting[0].get_loop().is_closed():
        waiting[0].get_loop().call_soon_threadsafe(wake)


def _take_room(path: Path, size: int) -> None:
    """Make a file that really takes the room of its size: no hole."""
    with path.open("wb") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)  # nothing is written where the file system knows how
        except (AttributeError, OSError):  # it does not, or the system has no such call; a full disk fails here again
            file.write(bytes(size))


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make the file ours, or refuse it. Raises StorageError for the database of another program or version."""
    connection.execute("BEGIN")  # one look: another process may be making the same file
    owner = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    connection.execute("COMMIT")
    if owner != APPLICATION_ID and not empty:
        raise StorageError(
            f"{path} is a database of another program; set LIMBECK_CACHE to another file. Nothing was changed."
        )
    if not empty and version != VERSION:
        raise StorageError(
            f"The cache {path} has format {version} and this version of Limbeck reads format {VERSION}. Nothing was "
            "changed: use the version that wrote it, or set LIMBECK_CACHE to another file."
        )
    if owner != APPLICATION_ID:  # signed before anything is in it: a kill between the two must not make it a stranger's
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.executescript(_PRAGMAS)
    if empty:  # tables and version in one transaction: another process sees all of it or nothing
        connection.executescript(_TABLES)


def _storage_error(path: Path, error: Exception) -> StorageError:
    if isinstance(error, StorageError):
        return error
    text = str(error)
    if path.parent.is_dir() and (not os.access(path.parent, os.W_OK) or "readonly" in text or "Read-only" in text):
        return StorageError(
            f"The cache {path} can not be written: its folder is read-only or not yours. Set LIMBECK_CACHE to another file."
        )
    full = "disk I/O error" in text and path.parent.is_dir() and shutil.disk_usage(path.parent).free < 1 << 16
    if full or "full" in text or "space" in text:
        return StorageError(f"The disk is full: an answer could not be stored in {path}. Make space and run again.")
    if "malformed" in text or "not a database" in text:
        return StorageError(
            f"The cache {path} is damaged ({text}). It holds answers you paid for: restore it from a backup, try "
            "`sqlite3 FILE .recover`, or move it away to start a new one."
        )
    return StorageError(f"The cache {path} can not be used: {text}. Check the folder, or set LIMBECK_CACHE.")
