"""The run folder: everything a run has made, readable with `ls`, duckdb, polars and pandas; `limbeck export` for `datasets`.

    runs/NAME/  recipe.json env.json ledger.jsonl report.html
                01-problems/ 02-sample/ ...   each: kept.parquet dropped.parquet step.json done

Parts are written under a temporary name and renamed; `done` is written last and holds the step's fingerprint, so a
folder with a `done` is complete, whatever happened. Steps that are no longer part of the recipe move to `.stale/`.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import re
import secrets
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from limbeck.core.errors import InputError, LimbeckError, StepError, StorageError, WrongFolder
from limbeck.core.row import Row, from_table, schema, to_table

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

BATCH = 2000
_PACKAGES = ("limbeck", "torch", "transformers", "numpy", "pyarrow", "pydantic", "aiohttp")


class RunFolder:
    """One run's folder; holds a lock, so that two runs never write to it at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run = ""
        """The run's own id, made up when the folder is first opened: the cache keeps what the run has spent under it."""
        self._lock: IO[str] | None = None

    def open(self, recipe: dict[str, Any]) -> None:
        """Create or re-open the folder for `recipe`. Raises WrongFolder if another recipe made it."""
        with storing(self.path):
            self._check_owner(recipe["name"])
            self.path.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            try:
                write_json(self.path / "recipe.json", recipe)
                known = self._known()
                self.run = str(known.get("run") or secrets.token_hex(8))
                started = known.get("started") or datetime.now(UTC).isoformat(timespec="seconds")
                write_json(self.path / "env.json", {"run": self.run, "started": started, **environment()})
            except BaseException:
                self.close()  # in a notebook the next attempt comes from this very process
                raise

    def close(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _known(self) -> dict[str, Any]:
        """Return what an earlier session has written of the run, or nothing."""
        try:
            return dict(json.loads((self.path / "env.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return {}

    def step(self, index: int, name: str) -> StepFolder:
        """Return the folder of step `index` (from 1), moving it if it had another number before."""
        wanted = self.path / f"{index:02d}-{name}"
        if not wanted.exists():
            for other in self.path.glob(f"[0-9]*-{name}"):
                if other.name.split("-", 1)[1] == name:
                    other.rename(wanted)
                    break
        return StepFolder(wanted)

    def retire(self, keep: Iterable[str]) -> None:
        """Move the folders of steps that are no longer in the recipe to `.stale/`."""
        names = set(keep)
        for folder in self.path.glob("[0-9]*-*"):
            ours = any((folder / mark).is_file() for mark in ("begun", "done", "step.json"))
            if folder.name not in names and ours:
                target = self.path / ".stale" / folder.name
                target.parent.mkdir(exist_ok=True)
                shutil.rmtree(target, ignore_errors=True)
                folder.rename(target)

    def _check_owner(self, name: str) -> None:
        # a run that was killed in its first moment leaves a lock and no recipe.json: that folder is still free
        if not self.path.exists() or all(f.name == ".lock" or f.name.endswith(".tmp") for f in self.path.iterdir()):
            return
        try:
            other = json.loads((self.path / "recipe.json").read_text(encoding="utf-8"))["name"]
        except (OSError, ValueError, KeyError, TypeError):
            raise WrongFolder(f"{self.path} exists and is not a run folder; choose another with --out.") from None
        if other != name:
            raise WrongFolder(f"{self.path} holds a run of the recipe '{other}', not '{name}'; choose another --out.")

    def _take_lock(self) -> None:
        self._lock = (self.path / ".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise WrongFolder(f"Another run is writing to {self.path}; wait for it, or choose another --out.") from None


class StepFolder:
    """The folder of one step."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def kept(self) -> Path:
        """The file of rows that go on."""
        return self.path / "kept.parquet"

    def print_done(self) -> str | None:
        """Return the fingerprint with which the step was completed, or None."""
        try:
            return (self.path / "done").read_text(encoding="utf-8").strip() or None
        except FileNotFoundError:
            return None

    def print_begun(self) -> str | None:
        """Return the fingerprint with which the step was last begun, or None."""
        try:
            return (self.path / "begun").read_text(encoding="utf-8").strip() or None
        except FileNotFoundError:
            return None

    def begin(self, fingerprint: str) -> None:
        """Make the folder ready: what another fingerprint left is removed; checkpoints of the same one stay."""
        with storing(self.path):
            same = self.print_begun() == fingerprint
            # first of all: a folder that a kill leaves half emptied must not look complete
            (self.path / "done").unlink(missing_ok=True)
            if self.path.exists() and not same:
                shutil.rmtree(self.path)
            self.path.mkdir(parents=True, exist_ok=True)
            write_text(self.path / "begun", fingerprint)

    def finish(self, summary: dict[str, Any], fingerprint: str) -> None:
        """Write `step.json`, and `done` last."""
        with storing(self.path):
            write_json(self.path / "step.json", summary)
            write_text(self.path / "done", fingerprint)
            (self.path / "begun").unlink(missing_ok=True)

    def summary(self) -> dict[str, Any]:
        """Return `step.json`, or an empty dictionary."""
        try:
            return json.loads((self.path / "step.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise StorageError(
                f"{self.path / 'step.json'} is damaged ({error}). Delete the folder {self.path} and run again: the step is "
                "made anew, from the answers in the cache."
            ) from None

    def table(self) -> pa.Table:
        """Return the kept rows as an Arrow table."""
        import pyarrow.parquet as pq

        return pq.read_table(self.kept)

    def read(self) -> Iterator[Row]:
        """Yield the kept rows, a batch at a time."""
        yield from read_rows(self.kept)


class RowWriter:
    """Writes a step's rows as they come into `kept.parquet` and `dropped.parquet`, and counts the reasons."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kept, self.dropped = _File(folder / "kept.parquet"), _File(folder / "dropped.parquet")
        self.reasons: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """How many rows were written, kept and dropped."""
        return self.kept.count + self.dropped.count

    def add(self, row: Row) -> None:
        """Write one row to the file it belongs to."""
        if row.dropped is None:
            self.kept.add(row)
        else:
            self.dropped.add(row)
            self.reasons[short_reason(row.dropped.encode("utf-8", "backslashreplace").decode("utf-8"))] += 1

    def close(self) -> None:
        """Write what is left and give the files their names."""
        with storing(self.folder):
            self.kept.close()
            self.dropped.close()

    def abandon(self) -> None:
        """Remove the unfinished files."""
        self.kept.abandon()
        self.dropped.abandon()


class _File:
    def __init__(self, path: Path) -> None:
        self.path, self.count = path, 0
        self._temporary = path.with_name(path.name + ".tmp")
        self._rows: list[Row] = []
        self._writer: pq.ParquetWriter | None = None

    def add(self, row: Row) -> None:
        self._rows.append(row)
        self.count += 1
        if len(self._rows) >= BATCH:
            self._flush()

    def close(self) -> None:
        self._flush()
        assert self._writer is not None
        self._writer.close()
        with self._temporary.open("rb") as file:
            os.fsync(file.fileno())
        self._temporary.replace(self.path)

    def abandon(self) -> None:
        with suppress(OSError):  # on a full disk even closing fails; the first error is the one to tell
            if self._writer is not None:
                self._writer.close()
            self._temporary.unlink(missing_ok=True)

    def _flush(self) -> None:
        import pyarrow.parquet as pq

        with storing(self.path):
            if self._writer is None:
                self._writer = pq.ParquetWriter(self._temporary, schema(), compression="zstd")
            if self._rows:
                self._writer.write_table(self._table())
                self._rows = []

    def _table(self) -> pa.Table:
        try:
            return to_table(self._rows)
        except (TypeError, ValueError):
            for row in self._rows:
                try:
                    to_table([row])
                except (TypeError, ValueError) as error:
                    raise StepError(
                        f"{self.path.parent.name}: row {row.id} can not be stored: {error}. What a step writes into "
                        "task and extra must be JSON: text, finite numbers, lists, dictionaries."
                    ) from error
            raise


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals into one sentence that says where and what to do."""
    try:
        yield
    except LimbeckError:  # some of ours are OSErrors too: a sealed row is no fault of the disk
        raise
    except OSError as error:
        raise storage_error(path, error) from None


def disk_at_fault(error: BaseException) -> bool:
    """Whether `error`, raised by code that does more than write files, means that the disk is full or read-only."""
    codes = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO)
    return getattr(error, "errno", None) in codes or "No space left" in str(error)


def storage_error(path: Path, error: BaseException) -> StorageError:
    """Return the sentence for a write to `path` that failed with `error`."""
    return StorageError(_why(path, error))


def _why(path: Path, error: BaseException) -> str:
    code = getattr(error, "errno", None)
    if code in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
        return f"The disk is full: {path} could not be written. Make space and run the same command again; nothing is lost."
    if isinstance(error, PermissionError):
        return f"{path} can not be written: permission denied. Choose another folder with --out."
    if code == errno.EROFS:
        return f"{path} is on a read-only file system; choose another folder with --out."
    return f"{path} could not be written: {getattr(error, 'strerror', None) or error}."


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of one of our Parquet files, a batch at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, FileNotFoundError) as error:
        raise InputError(f"{path} can not be read as rows: {str(error).splitlines()[0].rstrip('.')}.") from None
    with file:
        lacking = [name for name in schema().names if name not in file.schema_arrow.names]
        if lacking:
            raise InputError(f"{path} can not be read as rows: it has no column '{lacking[0]}'.")
        for batch in file.iter_batches(batch_size=BATCH):
            yield from from_table(pa.Table.from_batches([batch]))


def short_reason(reason: str) -> str:
    """Cut a reason down to what can be counted: no ids, no numbers, no tail after the second colon.

    >>> short_reason("curate.exact: duplicate of 93ab01cd77ef0011")
    'curate.exact: duplicate of …'
    >>> short_reason("seeds.files: gsm8k.jsonl line 12: not JSON")
    'seeds.files: gsm8k.jsonl line …: not JSON'
    """
    text = re.sub(r"\b[0-9a-f]{8,}\b|\b\d[\d.,]*", "…", reason)
    return text if len(text) <= 100 else text[:99] + "…"


def environment() -> dict[str, Any]:
    """Return what a reader needs to know of the machine: versions and size, nothing that names it."""
    versions = {name: version for name in _PACKAGES if (version := _version(name))}
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "cpus": os.cpu_count(),
        "packages": versions,
    }


def _version(package: str) -> str | None:
    # the one line that is wanted: `metadata.version` parses all of a package's description as an e-mail, 3 ms each
    try:
        told = metadata.distribution(package).read_text("METADATA") or ""
    except metadata.PackageNotFoundError:
        return None
    found = re.search(r"^Version:\s*(\S+)", told, re.MULTILINE)
    return found[1] if found else None


def write_json(path: Path, value: Any) -> None:
    """Write JSON for people (indented) in one piece: under a temporary name, then renamed."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file in one piece: under a temporary name, flushed to the disk, then renamed."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
