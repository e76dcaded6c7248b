"""Where shards lie: a folder that every machine sees, or an object store, by its address.

    open_store("runs/first/.shards")            a folder; files appear whole (temporary name, flush, rename)
    open_store("file:///data/first/.shards")    the same
    open_store("s3://bucket/first/shards")      an object store, through fsspec; one put is one whole object

Names within a store are relative, with slashes: `chains/9f3a…/51bc….json`. Both kinds do the same six things. What an
object store can not do is append, so a log there is made of numbered segments (see `engine.cluster.shards`).
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast
from urllib.parse import unquote, urlsplit

from limbeck.core.errors import StorageError, UsageError
from limbeck.engine.rundir import storing


class Store(Protocol):
    """A place for whole files under relative names."""

    address: str
    appends: bool
    """Whether a file can grow; if not, a log is written as segments."""

    def read(self, name: str) -> bytes:
        """Return a file's bytes. Raises FileNotFoundError."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Write a file in one piece: whoever reads it finds all of it or nothing."""
        ...

    def names(self, under: str) -> Iterator[str]:
        """Yield the names of all files under a folder, in order; none if there is no such folder."""
        ...

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        ...

    def delete(self, name: str) -> None:
        """Remove a file; nothing happens if there is none."""
        ...

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading at any place, as Parquet needs it. Raises FileNotFoundError."""
        ...


def open_store(address: str | Path) -> Store:
    """Return the store at an address. Raises UsageError where the package for its kind is not installed."""
    text = str(address)
    if text.startswith("file://"):
        return Folder(Path(unquote(urlsplit(text).path)))
    return Objects(text) if is_url(text) else Folder(Path(text).absolute())


def is_url(address: str | Path) -> bool:
    """Whether an address is one of an object store, and no folder of this machine."""
    text = str(address)
    return "://" in text and not text.startswith("file://")


class Folder:
    """A store in a folder that all machines of the cluster see under the same path."""

    appends = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self.address = str(path)

    def read(self, name: str) -> bytes:
        """Return a file's bytes."""
        return (self.path / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        """Write under a name of its own, flush, rename."""
        target = self.path / name
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
        with storing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with temporary.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(target)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise

    def names(self, under: str) -> Iterator[str]:
        """Yield the files under a folder; those still being written are not among them."""
        for file in sorted((self.path / under).rglob("*")):
            if file.is_file() and not file.name.startswith("."):
                yield file.relative_to(self.path).as_posix()

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        return (self.path / name).is_file()

    def delete(self, name: str) -> None:
        """Remove a file."""
        (self.path / name).unlink(missing_ok=True)

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading."""
        return (self.path / name).open("rb")


class Objects:
    """A store in a bucket, through fsspec; credentials and endpoint come from the environment (AWS_…), never from the address."""

    appends = False

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        scheme, _, self._root = self.address.partition("://")
        self._fs = _filesystem(scheme)

    def read(self, name: str) -> bytes:
        """Return an object's bytes."""
        with _asking(self.address):
            return cast("bytes", self._fs.cat_file(self._at(name)))

    def write(self, name: str, data: bytes) -> None:
        """Put one object."""
        with _asking(self.address, writing=True):
            self._fs.pipe_file(self._at(name), data)

    def names(self, under: str) -> Iterator[str]:
        """Yield the objects under a prefix."""
        with _asking(self.address):
            found = self._fs.find(self._at(under))
        yield from sorted(str(path)[len(self._root) + 1 :] for path in found)

    def exists(self, name: str) -> bool:
        """Whether there is such an object."""
        with _asking(self.address):
            return bool(self._fs.exists(self._at(name)))

    def delete(self, name: str) -> None:
        """Remove an object."""
        with _asking(self.address):
            if self._fs.exists(self._at(name)):
                self._fs.rm_file(self._at(name))

    def open(self, name: str) -> BinaryIO:
        """Open an object for reading by ranges."""
        with _asking(self.address):
            return cast("BinaryIO", self._fs.open(self._at(name), "rb"))

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root


@contextmanager
def _asking(address: str, writing: bool = False) -> Iterator[None]:
    """Turn an object store's refusals into one sentence; a missing object stays a FileNotFoundError."""
    try:
        yield
    except Exception as error:
        if isinstance(error, FileNotFoundError) and not writing:
            raise
        raise StorageError(
            f"{address} could not be used: {type(error).__name__}: {error}. Check the bucket, the credentials "
            "(AWS_ACCESS_KEY_ID, AWS_PROFILE) and AWS_ENDPOINT_URL; run the same command again to go on."
        ) from error


def _filesystem(scheme: str) -> Any:
    try:
        import fsspec

        # no cache of listings: other machines write beside us
        return fsspec.filesystem(scheme, use_listings_cache=False, skip_instance_cache=True)
    except (ImportError, ValueError) as error:
        package = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs"}.get(scheme)
        hint = f"pip install {package}" if package else "use a folder, or s3://"
        raise UsageError(f"{scheme}:// can not be used here ({error}): {hint}.") from None
