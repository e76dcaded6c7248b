"""The journal of batches: what was asked of a provider, written down before it is asked, so that nothing is bought twice.

Beside the cache (LIMBECK_CACHE's folder, or `.limbeck`) one file a batch, and one lock for each endpoint and model:

    .limbeck/batches/
        3f9a01c2.lock
        3f9a01c2-71b0c4d8.json              {"identity": "https://api.openai.com/v1 gpt-x", "batch": "batch_abc", "made": ...,
                                             "requests": {"9c41…": ["51aa…", [0, 1, 2, 3]], ...}, ...}
        3f9a01c2-71b0c4d8.results.jsonl     what came back, until all of it was handed over

A request is known by the digest of what it asks and by the samples it asks for, never by its place in a run: a rerun, another
recipe or another run at the same time that asks the same finds it. The states of an entry, in order:

| `creating` | `batch` | meaning                                                                                   |
|------------|---------|-------------------------------------------------------------------------------------------|
| 0          | ""      | noted, perhaps uploaded; the provider was not asked to begin: nothing was bought            |
| a time     | ""      | the provider was asked; whether it began, only its list of batches can tell                 |
| a time     | an id   | under way or ended; the answers are there to be collected                                   |

Entries are changed only under the lock, which a killed process gives back by dying, and each file is replaced whole. An entry is
kept for 30 days, as long as providers keep results: until then its answers can be had again for nothing.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from limbeck.core.errors import StorageError
from limbeck.core.fingerprint import digest

KEEP_SECONDS = 30 * 86_400
LOCK_PAUSE = 0.05

Place = tuple[str, int]
"""One answer: the digest of what is asked, and which sample."""


@dataclass
class Entry:
    """One batch, as the journal has it."""

    identity: str
    requests: dict[str, tuple[str, tuple[int, ...]]]
    """By custom id: the digest of what is asked, and the samples."""
    tag: str = field(default_factory=lambda: secrets.token_hex(8))
    made: float = field(default_factory=time.time)
    newest: str = ""
    """The provider's newest batch before this one: a search for this one need not look beyond it."""
    file: str = ""
    """The provider's name of the uploaded requests, where it has files."""
    creating: float = 0.0
    """When the provider was asked to begin; 0 for not yet."""
    batch: str = ""
    maybe: list[str] = field(default_factory=list)
    """Batches that may be this one, where a provider's list does not say; the results will."""
    over: bool = False
    """Whether everything was handed over. What was refused is then asked anew when somebody asks again."""

    @property
    def places(self) -> dict[Place, str]:
        """The custom id that answers each place."""
        return {(key, sample): name for name, (key, samples) in self.requests.items() for sample in samples}


class Journal:
    """The entries of one endpoint and model."""

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder = folder
        self.identity = identity
        self.entries: dict[str, Entry] = {}
        """By tag."""
        self._prefix = digest(identity, 4)
        self._seen: dict[str, tuple[int, int]] = {}
        self._holders: dict[Place, str] = {}
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Hold the lock against other processes and tasks, with the entries as they stand on disk."""
        async with self._turn:
            self._make_folder()
            with (self.folder / f"{self._prefix}.lock").open("a") as lock:
                while not _taken(lock.fileno()):
                    await asyncio.sleep(LOCK_PAUSE)
                self._refresh()
                yield

    def holder(self, place: Place) -> Entry | None:
        """Return the newest entry that asks for a place."""
        return self.entries.get(self._holders.get(place, ""))

    def path(self, entry: Entry) -> Path:
        """Return an entry's file."""
        return self.folder / f"{self._prefix}-{entry.tag}.json"

    def results(self, entry: Entry) -> Path:
        """Return the file of what came back."""
        return self.path(entry).with_suffix(".results.jsonl")

    def save(self, entry: Entry) -> None:
        """Write an entry, durably. Raises StorageError. Hold the lock."""
        target = self.path(entry)
        part = part_of(target)
        try:
            with part.open("w", encoding="utf-8") as file:
                json.dump(asdict(entry), file, separators=(",", ":"))
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
            _sync(self.folder)
        except OSError as error:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise self._storage_error(target, error) from None
        self._note(entry)

    def finish(self, entry: Entry) -> None:
        """Mark an entry whose answers were all handed over; what came back can be had again. Hold the lock."""
        if entry.tag in self.entries:
            entry.over = True
            self.save(entry)
            self.results(entry).unlink(missing_ok=True)
            for part in self.folder.glob(f"{self.path(entry).stem}.*.part"):  # of downloads that were killed
                if not _lives(part.suffixes[-2]):
                    part.unlink(missing_ok=True)

    def remove(self, entry: Entry) -> None:
        """Forget an entry and what came back for it. Hold the lock."""
        for leftover in self.folder.glob(f"{self.path(entry).stem}.*"):
            leftover.unlink(missing_ok=True)
        self._forget(entry.tag)

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._storage_error(self.folder, error) from None

    def _refresh(self) -> None:
        """Take in what other processes have written."""
        found = {p.stem.removeprefix(f"{self._prefix}-"): p for p in self.folder.glob(f"{self._prefix}-*.json")}
        for tag in [tag for tag in self.entries if tag not in found]:
            self._forget(tag)
        for tag, path in found.items():
            status = path.stat()
            if self._seen.get(tag) != (status.st_mtime_ns, status.st_ino):
                self._note(self._load(path))
        for entry in [e for e in self.entries.values() if time.time() - e.made > KEEP_SECONDS]:
            self.remove(entry)

    def _load(self, path: Path) -> Entry:
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            requests = {name: (key, tuple(samples)) for name, (key, samples) in record.pop("requests").items()}
            return Entry(**record, requests=requests)
        except OSError as error:
            raise self._storage_error(path, error) from None
        except (ValueError, TypeError, KeyError, AttributeError):
            raise StorageError(
                f"{path} can not be read as the record of a batch that was bought: restore it, or look up the batch at "
                "the provider and move the file away to buy its answers anew."
            ) from None

    def _note(self, entry: Entry) -> None:
        known = self.entries.get(entry.tag)
        if known is not None:  # whoever holds it goes on holding it
            vars(known).update(vars(entry))
            entry = known
        status = self.path(entry).stat()
        self._seen[entry.tag] = (status.st_mtime_ns, status.st_ino)
        self.entries[entry.tag] = entry
        if known is None:
            for place in entry.places:
                before = self.holder(place)
                if before is None or before.made <= entry.made:
                    self._holders[place] = entry.tag

    def _forget(self, tag: str) -> None:
        self.entries.pop(tag, None)
        self._seen.pop(tag, None)

    def _storage_error(self, path: Path, error: OSError) -> StorageError:
        return StorageError(
            f"{path} can not be used ({error.strerror}): batches are recorded there so that none is bought twice. Make "
            "space, check the folder, or set LIMBECK_CACHE."
        )


def default_folder() -> Path:
    """Return the folder of the journal, which is beside the cache: LIMBECK_CACHE's folder, or `.limbeck`."""
    cache = os.environ.get("LIMBECK_CACHE")
    return (Path(cache).parent if cache else Path(".limbeck")) / "batches"


def _taken(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def part_of(target: Path) -> Path:
    """Return the name under which a file is written before it takes the place of `target`: no two writers share one."""
    return target.with_suffix(f".{os.getpid()}-{secrets.token_hex(4)}.part")


def _lives(suffix: str) -> bool:
    """Return whether the process lives whose number is in the name of a file it was writing: `.4711-9f3a`."""
    try:
        os.kill(int(suffix[1:].partition("-")[0]), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
