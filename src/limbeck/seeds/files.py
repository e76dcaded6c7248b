"""Rows out of files: JSONL, JSON, CSV, Parquet, compressed or not, one file or many, somebody else's or our own.

    Files(path="gsm8k/train.jsonl")                        question and answer are understood as they stand
    Files(path="gsm8k/train.jsonl", as_prompts=True)       the answer becomes the reference, and is not shown to anyone
    Files(path="solutions.jsonl", map={"response": "*.solution", "reference": "ground_truth"})
    Files(path="runs/first/05-math/kept.parquet")          our own rows come back as they were, ids and all
    Files(path="hub_dataset", split="train")               a folder, a glob, a dataset folder

Understood as they stand: messages; prompt, instruction (with input), question, text; response, output, completion, solution,
answer; reference, ground_truth; system; id. An `answer` beside a `solution` or `response` is the reference; an answer that is
the response is also the reference where it ends in `#### 72` or is short. Unknown fields are kept in `extra`.

A torn, empty or mistyped line becomes one dropped row that keeps the line's text, and the rest goes on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from limbeck.core.errors import InputError, UsageError, nearest
from limbeck.core.row import Row, new_row, schema
from limbeck.core.step import Source
from limbeck.seeds._mapping import Unmapped, Unreadable, check_map, group_of, read, sources
from limbeck.seeds._records import KINDS, Record, kind_of, records

GIVE_UP_AFTER = 1000
"""Records without a single row after which a file is refused as not understood."""
NOT_DATA = frozenset(
    {
        "dataset_info.json",
        "dataset_dict.json",
        "dataset_infos.json",
        "state.json",
        "step.json",
        "recipe.json",
        "env.json",
    }
)
SPLITS = ("train", "test", "validation", "valid", "dev", "eval")


class Files(Source):
    """Read rows from files; see the module for what is understood."""

    path: str | tuple[str, ...]
    """A file, a folder, a glob pattern, or several of them."""
    map: dict[str, str] = Field(default_factory=dict)
    """What is wanted, and where it is: `{"prompt": "question", "label.level": "meta.level"}`. Dots go into objects, one star
    stands for any key and gives a row for each."""
    as_prompts: bool = False
    """Whether rows are prompts to be answered anew: a response in the file serves as the reference and is left out."""
    kind: str = ""
    """What kind of task the rows are (`math`, `exact`, `program`, `tools`); default: what the map says, or nothing."""
    split: str = ""
    """Which split of a folder with several to read: `train` reads train.jsonl, train-00000-of-00002.parquet, train/..."""
    limit: int | None = Field(default=None, ge=1)
    """Read at most so many rows."""
    sealed: bool = False
    """Whether the rows belong to an evaluation set and may never be trained on."""

    @field_validator("map")
    @classmethod
    def _mapped(cls, value: dict[str, str]) -> dict[str, str]:
        check_map(value)
        return value

    def rows(self) -> Iterator[Row]:
        """Yield the rows of all files in order; unreadable records come as dropped rows."""
        files = self.files()
        seen = Seen()
        for file, label in zip(files, labels(files), strict=True):
            for row in self._native(file) if self._is_native(file) else self._foreign(file, label, seen):
                seen.rows += row.dropped is None
                yield row
                if self.limit is not None and seen.rows >= self.limit:
                    return
        if not seen.rows:
            raise InputError(seen.sentence(", ".join(labels(files))))

    def watch(self) -> tuple[Path, ...]:
        """The files that are read."""
        return tuple(self.files())

    def files(self) -> list[Path]:
        """Return the files that the path stands for. Raises InputError where there are none."""
        given = (self.path,) if isinstance(self.path, str) else self.path
        if not given:
            raise UsageError("seeds.files needs a path: a file, a folder or a glob pattern.")
        found = [file for text in given for file in self._resolved(text)]
        return list(dict.fromkeys(found))

    def _resolved(self, text: str) -> list[Path]:
        path = Path(text).expanduser()
        if path.is_file():
            return [path]
        if path.is_dir():
            return self._of_folder(path)
        if any(letter in text for letter in "*?["):
            base = Path(path.anchor) if path.is_absolute() else Path()
            found = sorted(
                p for p in base.glob(str(path.relative_to(base) if path.is_absolute() else path)) if p.is_file()
            )
            if not found:
                raise InputError(f"No file fits the pattern {text}.")
            return found
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = nearest(path.name, siblings) if siblings else f" There is no folder {path.parent} either."
        raise InputError(f"There is no file {text}.{hint}")

    def _of_folder(self, folder: Path) -> list[Path]:
        if (folder / "kept.parquet").is_file():  # a step of a run
            return [folder / "kept.parquet"]
        steps = sorted(p.parent.name for p in folder.glob("[0-9]*-*/kept.parquet"))
        if steps:
            raise InputError(f"The folder {folder} is a run; name one of its steps, for example {folder}/{steps[-1]}.")
        found = sorted(p for p in folder.rglob("*") if p.is_file() and kind_of(p) and p.name not in NOT_DATA)
        found = [p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts)]
        splits = {p: _split_of(p.relative_to(folder)) for p in found}
        if self.split:
            found = [p for p in found if self.split in (splits[p], p.relative_to(folder).parts[0])]
        several = sorted({s for p in found if (s := splits[p])})
        if len(several) > 1:
            raise InputError(
                f"The folder {folder} holds several splits ({', '.join(several)}): say which, for example split={several[-1]}."
            )
        if not found:
            of = f" of the split '{self.split}'" if self.split else ""
            raise InputError(f"The folder {folder} holds no file{of} that can be read ({', '.join(KINDS)}, also .gz).")
        return found

    def _is_native(self, file: Path) -> bool:
        if kind_of(file) != ".parquet":
            return False
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            native = set(schema().names) <= set(pq.read_schema(file).names)
        except pa.ArrowException as problem:
            raise InputError(f"{file.name} can not be read as Parquet: {problem}. Is the file whole?") from None
        if native and self.map:
            raise UsageError(f"{file.name} holds Limbeck's own rows, which need no map; leave --map out.")
        return native

    def _native(self, file: Path) -> Iterator[Row]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        from limbeck.core.row import from_table

        with pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(batch_size=1000, columns=schema().names):
                for row in from_table(pa.Table.from_batches([batch])):
                    yield self._as_asked(row)

    def _as_asked(self, row: Row) -> Row:
        """Apply the fields to one of our own rows; a row that was dropped is read afresh, with the reason noted."""
        if row.dropped is not None:
            row = replace(row, dropped=None).with_extra(dropped_before=row.dropped)
        if self.as_prompts and row.has_response:
            row = replace(row, messages=row.prompt)
        if self.kind:
            row = replace(row, task={**row.task, "kind": self.kind})
        return replace(row, sealed=True) if self.sealed and not row.sealed else row

    def _foreign(self, file: Path, label: str, seen: Seen) -> Iterator[Row]:
        for record in records(file):
            seen.records += 1
            try:
                yield from self._made(record, label, seen)
            except Unreadable as problem:
                seen.problem(record, label, problem)
                yield self._bad(record, label, str(problem))
            if not seen.rows and seen.records >= GIVE_UP_AFTER:
                raise InputError(seen.sentence(label))

    def _made(self, record: Record, label: str, seen: Seen) -> Iterator[Row]:
        if record.problem:
            raise Unreadable(record.problem)
        seen.fields |= dict.fromkeys(record.values)
        for star in sources(record.values, self.map):
            parts = read(record.values, self.map, star, as_prompts=self.as_prompts)
            if self.kind:
                parts.task["kind"] = self.kind
            made = {"step": self.called(), "file": label, "line": record.line}
            row = new_row(
                messages=parts.messages,
                task=parts.task,
                labels=parts.labels,
                extra=parts.extra,
                group=group_of(parts.messages),
                sealed=self.sealed,
                made_by=made if star is None else {**made, "source": star},
            )
            yield row.with_scores(**parts.scores) if parts.scores else row

    def _bad(self, record: Record, label: str, why: str) -> Row:
        raw = record.text or (json.dumps(record.values, ensure_ascii=False) if record.values else "")
        made = {"step": self.called(), "file": label, "line": record.line}
        row = new_row(messages=(), made_by=made, extra={"raw": raw}, sealed=self.sealed)
        return row.drop(f"{self.called()}: {label} line {record.line}: {why}")


class Seen:
    """What has been read so far, for the sentence that says why nothing came of it."""

    def __init__(self) -> None:
        self.rows = 0
        self.records = 0
        self.fields: dict[str, Any] = {}
        self.first = ""

    def problem(self, record: Record, label: str, why: Unreadable) -> None:
        """Remember the first problem that is not merely an unknown field."""
        if not isinstance(why, Unmapped) and not self.first:
            self.first = f"{label} line {record.line}: {why}"

    def sentence(self, label: str) -> str:
        """Say why there are no rows, and what to do."""
        if not self.records:
            return f"{label} is empty: there are no rows to read."
        if self.fields:
            names = ", ".join(self.fields)
            likely = next(iter(self.fields))
            return (
                f"{label} has no field that could be a prompt or a response; it has: {names}. Say which is which, for example "
                f"--map prompt={likely}." + (f" The first problem: {self.first}." if self.first else "")
            )
        return f"{label} holds nothing that can be read; the first problem: {self.first}."


def labels(files: list[Path]) -> list[str]:
    """Return a short name for each file: its own, with as many folders before it as it takes to tell the files apart."""
    parts = max((len(f.parts) for f in files), default=1)
    for depth in range(1, parts + 1):
        names = ["/".join(f.parts[-depth:]) for f in files]
        if len(set(names)) == len(names):
            return names
    return [f.as_posix() for f in files]


def _split_of(path: Path) -> str:
    """Return the split that a file's name or folder tells, or the empty string."""
    for part in (path.parts[0], path.name):
        head = part.split(".")[0].split("-")[0].split("_")[0].lower()
        if head in SPLITS:
            return head
    return ""
