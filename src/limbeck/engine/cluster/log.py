"""A shard's own log of answers: every reply is on the shared store before anything acts on it.

    log/51bc…/4be2….jsonl        {"answers": [["9f3a…-0", 512, "{\\"text\\": …}"]], "spent": ["5d1e…", "sample", {"calls": 1, …}]}

One line is one reply: its answers under their keys and token limits, and what it cost. Lines are written and flushed in
groups: those that come while one group is on its way to the disk are the next. Each attempt at a shard has a file of its
own, in which nobody else writes; a new attempt first reads all of them, and asks only for what none of them holds. The
folder is named after the shard's input alone, so the log is found whatever the steps behind the question have become.

In an object store nothing can be appended, so there each group is an object: `log/51bc…/4be2….00017.jsonl`.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from limbeck.core.ask import Answer
from limbeck.core.errors import LimbeckError, StorageError
from limbeck.core.ledger import FIELDS, Total
from limbeck.engine.cache import Cache
from limbeck.engine.cluster.store import Folder, Store
from limbeck.engine.rundir import storing, write_text
from limbeck.engine.stored import from_json, to_json

Bought = tuple[str, int, str]
"""Key, token limit and answer, as they are stored."""


@dataclass(frozen=True, slots=True)
class Line:
    """One reply: its answers, and who paid what for them (run, step, cost)."""

    answers: Sequence[Bought]
    spent: tuple[str, str, Total] | None

    def text(self) -> str:
        """Return the line as it is stored."""
        spent = None if self.spent is None else [*self.spent[:2], self.spent[2].record()]
        return json.dumps({"answers": self.answers, "spent": spent}, separators=(",", ":"))


def parse(text: str) -> Line:
    """Read a line back. Raises ValueError, KeyError or TypeError for a torn one."""
    record = json.loads(text)
    answers = [(str(key), int(limit), str(answer)) for key, limit, answer in record["answers"]]
    if record["spent"] is None:
        return Line(answers, None)
    run, step, total = record["spent"]
    return Line(answers, (run, step, Total(**{k: v for k, v in total.items() if k in FIELDS})))


def lines(store: Store, name: str) -> Iterator[Line]:
    """Yield the whole lines of a log file; a last one that a kill has torn is no line."""
    for text in store.read(name).decode("utf-8", "replace").split("\n")[:-1]:
        try:
            yield parse(text)
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError(
                f"The log {store.address}/{name} is damaged ({error}). It holds answers that were paid for: repair the "
                "line, or move the file away to ask again."
            ) from None


class ShardLog:
    """The answers of a shard, old and new; stands where the cache stands in a run on one machine."""

    def __init__(self, store: Store, shard: str, attempt: str) -> None:
        self._known: dict[str, dict[int, str]] = {}
        self.found: list[Line] = []
        """What earlier attempts have left."""
        for name in store.names(f"log/{shard}"):
            self.found.extend(lines(store, name))
        for line in self.found:
            self.learn(line.answers)
        self.fresh: list[Line] = []
        """What has been written since somebody last took it away."""
        self._writer = _Writer(store, f"log/{shard}/{attempt}")

    def learn(self, answers: Sequence[Bought]) -> None:
        """Know answers that lie elsewhere: in the cache of the run, in the log of another shard."""
        for key, limit, answer in answers:
            self._known.setdefault(key, {})[limit] = answer

    def get(self, wanted: Sequence[str], max_tokens: int) -> dict[str, Answer]:
        """Return the answers that are there, by key: those made under this limit, or complete under a smaller one."""
        found: dict[str, Answer] = {}
        for key in wanted:
            for limit in sorted(self._known.get(key, ()), reverse=True):
                if limit <= max_tokens:
                    answer = from_json(self._known[key][limit])
                    if limit == max_tokens or answer.finish != "length":
                        found[key] = answer
                        break
        return found

    async def put(
        self,
        answers: Sequence[tuple[str, Answer]],
        max_tokens: int,
        spending: tuple[str, str, Total] | None = None,
    ) -> None:
        """Store a reply; returns once it is on the store. Raises StorageError, for example on a full disk."""
        line = Line([(key, max_tokens, to_json(answer)) for key, answer in answers], spending)
        done = asyncio.get_running_loop().create_future()
        self._writer.queue.put(_Entry(line.text() + "\n", done, lambda: self._stored(line)))
        await done

    async def flush(self) -> None:
        """Wait until everything is on the store, also what its asker no longer waits for."""
        if self._writer.started:
            done = asyncio.get_running_loop().create_future()
            self._writer.queue.put(_Entry("", done, lambda: None))
            await done

    def _stored(self, line: Line) -> None:
        self.learn(line.answers)
        self.fresh.append(line)

    def note(self, spending: tuple[str, str, Total]) -> None:
        """Remember what was spent without an answer, for the till."""
        self.fresh.append(Line([], spending))

    async def lease(self, run: str, usd: float) -> None:
        """Nothing to note: a task spends what the till has leased to it, and the till has noted that."""

    def close(self) -> None:
        """Write what is queued and close."""
        self._writer.close()


@dataclass(frozen=True, slots=True)
class _Entry:
    """Text on its way to the store, who waits for it, and what to do in the loop once it is there."""

    text: str
    done: asyncio.Future[None]
    stored: Callable[[], None]


class _Writer:
    """The thread that writes groups of lines; started with the first one."""

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name
        self.queue: _Queue = _Queue(self._start)
        self._thread: threading.Thread | None = None
        self._file: BinaryIO | None = None
        self._segments = 0

    def close(self) -> None:
        if self._thread is not None:
            self.queue.put(None)
            self._thread.join()
        if self._file is not None:
            self._file.close()

    @property
    def started(self) -> bool:
        """Whether anything was ever written."""
        return self._thread is not None

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._write_forever, name="limbeck-log", daemon=True)
        self._thread.start()

    def _write_forever(self) -> None:
        while True:
            group = self.queue.take()
            entries = [entry for entry in group if entry is not None]
            if entries:
                _settle(entries, self._write("".join(entry.text for entry in entries).encode()))
            if None in group:
                return

    def _write(self, data: bytes) -> LimbeckError | None:
        if not data:
            return None
        try:
            if isinstance(self._store, Folder):
                self._append(self._store.path / f"{self._name}.jsonl", data)
            else:
                self._store.write(f"{self._name}.{self._segments:05d}.jsonl", data)
                self._segments += 1
        except LimbeckError as error:
            return error
        return None

    def _append(self, path: Path, data: bytes) -> None:
        with storing(path):
            if self._file is None:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._file = path.open("ab", buffering=0)
            size = self._file.tell()
            try:
                written = self._file.write(data)
                if written != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(self._file.fileno())
            except OSError:
                self._file.truncate(size)  # no torn line may stand in the middle when there is room again
                self._file.seek(size)
                raise


class _Queue:
    """A queue whose first entry starts its reader, and which gives all that has gathered at once."""

    def __init__(self, start: Any) -> None:
        self._queue: queue.SimpleQueue[_Entry | None] = queue.SimpleQueue()
        self._start = start

    def put(self, entry: _Entry | None) -> None:
        if self._start is not None:
            start, self._start = self._start, None
            start()
        self._queue.put(entry)

    def take(self) -> list[_Entry | None]:
        group = [self._queue.get()]
        while group[-1] is not None:
            try:
                group.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return group


def _settle(entries: Sequence[_Entry], failure: LimbeckError | None) -> None:
    def wake() -> None:
        for entry in entries:
            if failure is None:
                entry.stored()  # whether anybody still waits for it or not
            if not entry.done.done():
                entry.done.set_result(None) if failure is None else entry.done.set_exception(failure)

    loop = entries[0].done.get_loop()
    if not loop.is_closed():
        loop.call_soon_threadsafe(wake)


async def harvest(store: Store, cache: Cache, remember: Path) -> int:
    """Bring the answers of all logs into the cache, each once; returns how many lines were new.

    So that what a killed run has bought is found by the next one, on this backend or the other. `remember` is a file that
    says which logs have been read before.
    """
    seen: dict[str, int] = _read_seen(remember)
    new = 0
    for name, size in list(_grown(store, seen)):
        for line in lines(store, name):
            new += await bring(cache, line)
        seen[name] = size
    if new:
        remember.parent.mkdir(parents=True, exist_ok=True)
        write_text(remember, json.dumps(seen))
    return new


async def bring(cache: Cache, line: Line) -> bool:
    """Put a line into the cache with what it cost, unless its answers are there; returns whether it was new."""
    if not line.answers:
        if line.spent is not None:
            cache.note(line.spent)
        return False
    limit = line.answers[0][1]
    if len(cache.get([key for key, _, _ in line.answers], limit)) == len(line.answers):
        return False
    await cache.put([(key, from_json(answer)) for key, _, answer in line.answers], limit, line.spent)
    return True


def _read_seen(path: Path) -> dict[str, int]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _grown(store: Store, seen: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """Yield the log files that have grown since `seen`, with their sizes."""
    for name in store.names("log"):
        size = (store.path / name).stat().st_size if isinstance(store, Folder) else 1  # an object never grows
        if seen.get(name) != size:
            yield name, size
