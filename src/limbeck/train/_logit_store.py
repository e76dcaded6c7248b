"""A teacher's k likeliest tokens on disk: written once, read by as many trainings as one likes, mapped into memory.

    05-logits/logits/
        header.json             {"format": 1, "k": 64, "vocabulary": 1024, "log_probs": "float32", "teacher": "embedded",
                                 "identity": "9be1…", "rows": "77ac…", "documents": 900, "tokens": 51234, …}
        tokenizer/              the tokenizer with which the documents were encoded
        part-00000.safetensors  ids        uint16 [T, k]   (uint32 from 65,535 tokens on; the largest number: no token)
                                log_probs  float32 [T, k]  or float16
                                offsets    int64 [D + 1]   document d has the rows offsets[d] to offsets[d + 1]
                                metadata   {"identity": "9be1…", "documents": ["3fd0…", …]}

A document is found by the digest of its tokens and of which of them are trained on, so a row whose text, template or
tokenizer has changed is not in the cache, rather than wrongly in it. `identity` is the digest of teacher, tokenizer, k
and precision: parts of another identity are refused. A part is whole or not there, so that a writer that was killed goes
on after the last one; the header is written last, and a folder without it is unfinished.

64 tokens in float16 with 16-bit ids are 256 bytes a token, 250 MB a million tokens; the whole vocabulary of 128,000 would be
a thousand times as much as that again. Layout after DistillKit's capture of top-k logits (arcee-ai/DistillKit), unpacked.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from limbeck.core.errors import InputError
from limbeck.core.fingerprint import digest
from limbeck.train._likeliest import Ids, LogProbs
from limbeck.train.examples import Example

FORMAT = 1
HEADER = "header.json"
PART_BYTES = 64 << 20
PART_SECONDS = 30.0
"""A part is closed when it is this old: what a remote teacher was asked and is not yet in a part is asked again."""
Precision = Literal["float16", "float32"]


def document_key(document: Example) -> str:
    """Return the name of a document: the digest of its tokens and of which are trained on."""
    return digest([list(document.ids), [int(t) for t in document.trained]])


@dataclass(slots=True)
class LogitWriter:
    """Writes parts into a folder; goes on after those that are there already."""

    folder: Path
    identity: str
    k: int
    vocabulary: int
    precision: Precision
    part_bytes: int = PART_BYTES
    done: set[str] = field(default_factory=set)
    """The keys of the documents that are on disk."""
    tokens: int = 0
    _parts: int = 0
    _waiting: list[tuple[str, Ids, LogProbs]] = field(default_factory=list)
    _since: float = 0.0

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / HEADER).unlink(missing_ok=True)
        for path in sorted(self.folder.glob("part-*.safetensors")):
            metadata, file = _opened(path)
            if metadata["identity"] != self.identity:
                path.unlink()
                continue
            self._parts = int(path.stem.removeprefix("part-")) + 1
            self.done.update(json.loads(metadata["documents"]))
            self.tokens += int(file.get_slice("ids").get_shape()[0])
        self._since = time.monotonic()

    def add(self, document: Example, ids: Ids, log_probs: LogProbs) -> None:
        """Take a document's rows; write a part when enough has come together."""
        self._waiting.append((document_key(document), ids, log_probs))
        size = sum(i.shape[0] for _, i, _ in self._waiting) * self.k * (_id_type(self.vocabulary).itemsize + 4)
        if size >= self.part_bytes or time.monotonic() - self._since > PART_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what has come together as a part; it is durable when this returns."""
        from safetensors.numpy import save_file

        if not self._waiting:
            return
        keys = [key for key, _, _ in self._waiting]
        ids = np.concatenate([_fitted(rows, self.k, -1) for _, rows, _ in self._waiting])
        log_probs = np.concatenate([_fitted(rows, self.k, -np.inf) for _, _, rows in self._waiting])
        kind = _id_type(self.vocabulary)
        made = {
            "ids": np.where(ids < 0, np.iinfo(kind).max, ids).astype(kind),
            "log_probs": log_probs.astype(self.precision),
            "offsets": np.cumsum([0, *(len(rows) for _, rows, _ in self._waiting)], dtype=np.int64),
        }
        path = self.folder / f"part-{self._parts:05d}.safetensors"
        writing = path.with_suffix(".writing")
        save_file(made, writing, metadata={"identity": self.identity, "documents": json.dumps(keys)})
        _settled(writing, path)
        self.done.update(keys)
        self.tokens += len(ids)
        self._parts += 1
        self._waiting, self._since = [], time.monotonic()

    def close(self, more: dict[str, Any]) -> None:
        """Write the last part and the header; `more` is said in it besides."""
        self.flush()
        said = {
            "format": FORMAT,
            "k": self.k,
            "vocabulary": self.vocabulary,
            "log_probs": self.precision,
            "identity": self.identity,
            "rows": digest(sorted(self.done)),
            "documents": len(self.done),
            "tokens": self.tokens,
        }
        writing = self.folder / f"{HEADER}.writing"
        writing.write_text(json.dumps(said | more, indent=1) + "\n", encoding="utf-8")
        _settled(writing, self.folder / HEADER)


class StoredTop:
    """The reader: a teacher that is a folder. Raises InputError where the folder is none, unfinished, or not of one piece."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.header = folder, read_header(folder)
        self._files: list[Any] = []
        self._offsets: list[np.ndarray[Any, Any]] = []
        self._places: dict[str, tuple[int, int]] = {}
        for part, path in enumerate(sorted(folder.glob("part-*.safetensors"))):
            metadata, file = _opened(path)
            if metadata["identity"] != self.header["identity"]:
                raise InputError(f"{path} belongs to another cache than {folder / HEADER}: make the cache anew.")
            self._files.append(file)
            self._offsets.append(file.get_tensor("offsets"))
            self._places |= {key: (part, place) for place, key in enumerate(json.loads(metadata["documents"]))}
        if len(self._places) != self.header["documents"]:
            raise InputError(
                f"{folder} holds {len(self._places)} documents and its header says {self.header['documents']}: a part is "
                "missing or was added; make the cache anew."
            )

    @property
    def vocabulary(self) -> int:
        """How many logits the teacher has."""
        return int(self.header["vocabulary"])

    def check(self, documents: Sequence[Example]) -> None:
        """Raise InputError unless every document is in the cache."""
        missing = [d for d in documents if document_key(d) not in self._places]
        if missing:
            raise InputError(
                f"{len(missing)} of {len(documents)} documents are not in the cache {self.folder} (the first is of row "
                f"{missing[0].row}): it was made of other rows, or with another chat template or max_length. Make it anew "
                "with train.cache_logits from the rows and for the student that are trained here."
            )

    def top(self, documents: Sequence[Example]) -> list[tuple[Ids, LogProbs]]:
        """Read the documents' rows."""
        return [self._read(*self._places[document_key(d)]) for d in documents]

    def told(self) -> dict[str, Any]:
        """Return whose cache it is."""
        return {"cache": {name: self.header[name] for name in ("teacher", "k", "log_probs", "identity", "rows")}}

    def _read(self, part: int, place: int) -> tuple[Ids, LogProbs]:
        start, end = (int(n) for n in self._offsets[part][place : place + 2])
        stored = self._files[part].get_slice("ids")[start:end]
        ids = stored.astype(np.int64)
        ids[stored == np.iinfo(stored.dtype).max] = -1
        return ids, self._files[part].get_slice("log_probs")[start:end].astype(np.float32)


def read_header(folder: Path) -> dict[str, Any]:
    """Return a cache's header. Raises InputError for a folder that holds none, or one of another format."""
    path = folder / HEADER
    if not path.is_file():
        raise InputError(
            f"{folder} holds no finished cache of logits: {path.name} is missing. train.cache_logits makes one."
        )
    header: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if header.get("format") != FORMAT:
        raise InputError(
            f"{path} has format {header.get('format')}, and this version reads {FORMAT}: make the cache anew."
        )
    return header


def _id_type(vocabulary: int) -> np.dtype[Any]:
    # the largest number stands for no token
    return np.dtype(np.uint16 if vocabulary <= np.iinfo(np.uint16).max else np.uint32)


def _fitted(rows: np.ndarray[Any, Any], k: int, fill: float) -> np.ndarray[Any, Any]:
    short = k - rows.shape[1]
    return np.pad(rows, ((0, 0), (0, short)), constant_values=fill) if short > 0 else rows[:, :k]


def _opened(path: Path) -> tuple[dict[str, str], Any]:
    from safetensors import SafetensorError, safe_open

    try:
        file = safe_open(path, framework="np")
        metadata: dict[str, str] = file.metadata() or {}  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise InputError(f"{path} can not be read ({error}): delete it and make the cache anew.") from None
    if not {"identity", "documents"} <= metadata.keys():
        raise InputError(f"{path} is no part of a cache of logits.")
    return metadata, file


def _settled(writing: Path, path: Path) -> None:
    with writing.open("rb") as file:
        os.fsync(file.fileno())
    writing.replace(path)
