"""The three kinds of teacher that `train.distill` learns from, opened by name.

embedded · hf:PATH · step:sft          a model whose weights are here       LoadedStudent: whole distributions
openai:big@http://gpu:8000/v1          a server                             RemoteTop: its k likeliest tokens
step:opinions · cache:runs/a/05-…/logits   what train.cache_logits wrote    StoredTop: the same, from disk
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from limbeck.core.fingerprint import file_digest
from limbeck.core.loading import LOADING
from limbeck.core.step import STEP_PREFIX, Context
from limbeck.train._likeliest import Likeliest
from limbeck.train._logit_store import HEADER, StoredTop
from limbeck.train._remote_teacher import RemoteTokenizer, RemoteTop
from limbeck.train.student import LoadedStudent, Precision, load_teacher

CACHE = "cache:"
REMOTE_PROBES = 16
"""Texts of rows that a server is made to encode, besides the hard ones."""


@dataclass(slots=True)
class Opened:
    """A teacher, and what tells one from another."""

    teacher: LoadedStudent | Likeliest
    identity: str
    probes: int | None = None
    """How many texts of rows are worth a comparison of tokenizers; None is all."""

    def tokenizer(self, student: Any) -> Any:
        """Return the teacher's tokenizer, or what answers for it."""
        if isinstance(self.teacher, LoadedStudent):
            return self.teacher.tokenizer
        if isinstance(self.teacher, StoredTop):
            with LOADING:
                from transformers import AutoTokenizer

                return AutoTokenizer.from_pretrained(self.teacher.folder / "tokenizer", local_files_only=True)
        assert isinstance(self.teacher, RemoteTop)
        return RemoteTokenizer(self.teacher, student)

    def compute_in(self, precision: Precision) -> None:
        """Let a model that is here compute in the student's precision: else rounding would look like a divergence."""
        if isinstance(self.teacher, LoadedStudent):
            self.teacher = replace(self.teacher, precision=precision)

    def models(self) -> list[Any]:
        """Return the models that are here and that the student's loss reads."""
        return [self.teacher.model] if isinstance(self.teacher, LoadedStudent) else []

    def packs(self, student: LoadedStudent) -> bool:
        """Say whether documents may stand in one row: neither model lets one see another."""
        return student.packable and (not isinstance(self.teacher, LoadedStudent) or self.teacher.packable)

    def told(self) -> dict[str, Any]:
        """Return what train.json says of a teacher that is not here."""
        return {} if isinstance(self.teacher, LoadedStudent) else self.teacher.told()

    def close(self) -> None:
        """Close connections, where there are any."""
        if isinstance(self.teacher, RemoteTop):
            self.teacher.close()


def open_teacher(spec: str, k: int, context: Context) -> Opened:
    """Open a teacher by name; `k` is how many tokens a server is asked for. Raises InputError or UsageError."""
    folder = _cache_folder(spec, context)
    if folder is not None:
        stored = StoredTop(folder)
        return Opened(stored, f"{stored.header['identity']} {stored.header['rows']}")
    if spec.startswith("openai:"):
        return Opened(RemoteTop(spec, k), spec, REMOTE_PROBES)
    source = context.model(spec)
    return Opened(load_teacher(source), file_digest(source))


def _cache_folder(spec: str, context: Context) -> Path | None:
    if spec.startswith(CACHE):
        return Path(spec.removeprefix(CACHE)).expanduser()
    if spec.startswith(STEP_PREFIX):
        folder = context.artefact(spec) / "logits"
        return folder if (folder / HEADER).is_file() else None
    return None
