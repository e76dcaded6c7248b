"""Fingerprints: the short hashes by which a finished step is recognised and a row is named.

A step's fingerprint covers its fields, the text of its own source file and the fingerprints of what it reads:

    digest({"step": "score.math", "fields": {...}, "code": "9f2c...", "inputs": ["51aa..."]}) -> "c07e1b..."

Equal fingerprints mean "nothing that could change the rows has changed", so the step is not run again. Names,
folders, speed settings and credentials are not part of any fingerprint.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

# the text and not the syntax tree: parsing a score of files is a tenth of a short run, and a name too many does no harm
_IMPORTS = re.compile(
    r"^[ \t]*(?:from[ \t]+(limbeck[\w.]*)[ \t]+import[ \t]+(\([^)]*\)|[^\n#]*)|import[ \t]+(limbeck[\w.]*))",
    re.MULTILINE,
)
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical(value: Any) -> str:
    """Return the one JSON text of `value`: keys sorted, no spaces, no NaN, Unicode as it stands."""
    return _CANONICAL.encode(value)


def digest(value: Any, size: int = 16) -> str:
    """Return the blake2b hash of a JSON-able value as hexadecimal text of `size` bytes."""
    # surrogatepass: a lone surrogate in a model's text is odd but must not stop a run
    return hashlib.blake2b(canonical(value).encode("utf-8", "surrogatepass"), digest_size=size).hexdigest()


def file_digest(path: Path, size: int = 16) -> str:
    """Return the blake2b hash of a file's bytes, or of all files of a folder with their names."""
    state = hashlib.blake2b(digest_size=size)
    files = sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]
    for file in files:
        state.update(file.relative_to(path).as_posix().encode() if path.is_dir() else b"")
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                state.update(chunk)
    return state.hexdigest()


@cache
def code_version(kind: type) -> str:
    """Return the hash of the source files that define `kind`, what it derives from, and what those import of ours.

    The ground itself (`core`) is left out: it changes often and rarely the rows. A class made in a live session hashes
    as its name.
    """
    files = list(dict.fromkeys(f for k in kind.__mro__ if (f := _source(k)) is not None))
    for file in files:  # grows while it is walked: helpers of helpers count too
        files += [helper for helper in _helpers(file) if helper not in files]
    if not files:
        return digest(kind.__qualname__, 8)
    return file_digest(files[0], 8) if len(files) == 1 else digest([file_digest(f, 8) for f in files], 8)


def _source(kind: type) -> Path | None:
    if kind.__module__.split(".")[0] in ("builtins", "abc", "typing", "pydantic") or _ground(kind.__module__):
        return None
    try:
        source = inspect.getsourcefile(kind)
    except (TypeError, OSError):
        return None
    return Path(source) if source is not None and Path(source).is_file() else None


def _helpers(file: Path) -> list[Path]:
    """Return the files of this package, outside the ground, that `file` imports anywhere in its text."""
    names: set[str] = set()
    for origin, listed, plain in _IMPORTS.findall(file.read_text(encoding="utf-8")):
        names |= {plain, origin, *(f"{origin}.{name}" for name in re.findall(r"\w+", listed))}
    package = Path(__file__).resolve().parent.parent
    found: list[Path] = []
    for name in sorted(names):
        if not name.startswith("limbeck.") or _ground(name):
            continue
        place = package.joinpath(*name.split(".")[1:])
        # a folder within a room (the task families) counts whole: its files are found by walking it
        inside = sorted(place.glob("*.py")) if place.is_dir() and place.parent != package else []
        found += [place.with_suffix(".py")] if place.with_suffix(".py").is_file() else inside
    return found


def _ground(module: str) -> bool:
    return module == "limbeck.core" or module.startswith("limbeck.core.")
