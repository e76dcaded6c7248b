"""A run folder in an object store: a working copy on the driver's machine, brought up to date when a step ends.

    pull("s3://bucket/first" -> runs/s3_bucket_first)      what another machine has finished, before the run begins
    push(folder of a step)                                 its files, `done` last of all
    fetched("s3://bucket/first/07-sft/student")            weights, once to each machine that asks for answers of them

The shards, the logs and the manifests are in the store and nowhere else. Everything else of a run (kept and dropped rows,
students, step.json, ledger.jsonl, report.html) is in both places and is the same in both.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

from limbeck.engine.cluster.store import Store, is_url, open_store

LAST = "done"


def push(store: Store, root: Path, names: Iterable[str]) -> None:
    """Upload files of the working copy, `done` marks last."""
    for name in sorted(names, key=lambda name: (Path(name).name == LAST, name)):
        if (root / name).is_file():
            store.write(name, (root / name).read_bytes())


def files_of(root: Path, folder: Path) -> list[str]:
    """Return the names, relative to the run, of the finished files of a folder."""
    return [
        file.relative_to(root).as_posix()
        for file in folder.rglob("*")
        if file.is_file() and file.suffix != ".tmp" and file.name != "begun"
    ]


def pull(store: Store, root: Path) -> None:
    """Download what the store has finished and the working copy has not: whole steps, and the files of the run itself."""
    names = [name for name in store.names("") if not name.startswith("shards/")]
    steps: dict[str, list[str]] = {}
    for name in names:
        folder, _, rest = name.partition("/")
        if rest:
            steps.setdefault(folder, []).append(name)
        elif not (root / name).exists():
            _download(store, root, name)
    for folder, inside in steps.items():
        mark = f"{folder}/{LAST}"
        if mark in inside and not _same(store, root, mark):
            (root / mark).unlink(missing_ok=True)
            for name in sorted(inside, key=lambda name: (name == mark, name)):
                _download(store, root, name)


def fetched(address: str) -> Path:
    """Return a folder of this machine that holds what lies at an address; a folder is returned as it is."""
    if not is_url(address):
        return Path(address)
    store, mark = open_store(address.rsplit("/", 1)[0]), address.rsplit("/", 1)[1]
    # named after the step's fingerprint too: another training under the same name is another folder
    token = blake2b(f"{address} {store.read(LAST)!r}".encode(), digest_size=12).hexdigest()
    target = Path(tempfile.gettempdir()) / f"limbeck-{token}"
    if not (target / LAST).is_file():
        for name in store.names(mark):
            _download(store, target, name)
        (target / LAST).write_text("")
    return target / mark


def mirrored(address: str) -> tuple[Store, Path]:
    """Return the store of a run at an address, and the folder of its working copy: `runs/s3_bucket_first`."""
    return open_store(address), Path("runs") / address.replace("://", "_").strip("/").replace("/", "_")


def _same(store: Store, root: Path, name: str) -> bool:
    return (root / name).is_file() and (root / name).read_bytes() == store.read(name)


def _download(store: Store, root: Path, name: str) -> None:
    target = root / name
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(target.name + ".tmp")
    temporary.write_bytes(store.read(name))
    temporary.replace(target)
