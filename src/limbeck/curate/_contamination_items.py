"""Evaluation items: what must not be in the corpus, read from files or taken from the sealed rows of a run.

    {"id": "gsm8k/17", "question": "A robe takes 2 bolts ...", "answer": "It takes 2/2=<<2/2=1>>1 bolt ... #### 3"}
        Item(name="gsm8k/17", set="test.jsonl", prompt="A robe takes ...", answer="It takes ...")

An item is named by its `id` field, else by file and line (`test.jsonl:17`; in a list the first is 1). The prompt is the first field
there is of PROMPTS, an `instruction` together with its `input`, the turns before the answer in `messages`; the answer the first
of ANSWERS. `fields` names others: {"prompt": "ctx", "answer": "gold", "id": "uid"}.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.core.errors import InputError, nearest
from limbeck.core.row import Row

PROMPTS = ("prompt", "question", "problem", "instruction", "text", "query", "input")
ANSWERS = (
    "answer",
    "solution",
    "response",
    "output",
    "completion",
    "code",
    "canonical_solution",
    "target",
    "reference",
)
KINDS = (".jsonl", ".ndjson", ".json", ".parquet")


@dataclass(frozen=True, slots=True)
class Item:
    """One evaluation item; `row` is the id of the sealed row it was taken from, or nothing."""

    name: str
    set: str
    prompt: str
    answer: str = ""
    row: str = ""


def load(paths: Sequence[str], fields: Mapping[str, str]) -> list[Item]:
    """Return the items of files, folders and glob patterns. Raises InputError for what holds none."""
    found: list[Item] = []
    files = files_of(paths)
    for file, label in zip(files, _labels(files), strict=True):
        items = [item for line, record in _records(file) if (item := _item(label, line, record, fields))]
        if not items:
            raise InputError(
                f"No evaluation item was found in {file}: none of its records has a prompt ({', '.join(PROMPTS)}, messages). "
                'Say which fields hold what, for example fields={"prompt": "ctx", "answer": "gold"}.'
            )
        found += items
    return found


def _labels(files: Sequence[Path]) -> list[str]:
    """Return the names of files, with their folder where two are called alike: `gsm8k/test.jsonl`."""
    names = [file.name for file in files]
    return [file.name if names.count(file.name) == 1 else f"{file.resolve().parent.name}/{file.name}" for file in files]


def files_of(paths: Sequence[str]) -> list[Path]:
    """Return the files that paths stand for. Raises InputError where there are none."""
    return list(dict.fromkeys(file for text in paths for file in _resolved(text)))


def of_rows(rows: Sequence[Row]) -> list[Item]:
    """Return sealed rows as items: named by the `id` their file gave them, else file and line, else the row's own id."""
    items = []
    for row in rows:
        made = json.loads(row.made_by) if row.made_by else {}
        place = f"{made['file']}:{made['line']}" if "file" in made and "line" in made else row.id
        prompt = "\n".join(turn.content for turn in row.prompt if turn.role != "system")
        answer = row.response or (row.reference or "")
        items.append(
            Item(str(row.extra.get("id", place)), str(made.get("file", "sealed rows")), prompt, answer, row.id)
        )
    return items


def _resolved(text: str) -> list[Path]:
    path = Path(text).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        found = sorted(f for f in path.rglob("*") if f.is_file() and f.name.removesuffix(".gz").endswith(KINDS))
        kept = [f for f in found if f.name == "kept.parquet"]
        found = kept or found
    elif any(letter in text for letter in "*?["):
        base = Path(path.anchor) if path.is_absolute() else Path()
        found = sorted(f for f in base.glob(str(path.relative_to(base) if path.is_absolute() else path)) if f.is_file())
    else:
        siblings = [f.name for f in path.parent.iterdir()] if path.parent.is_dir() else []
        raise InputError(f"There is no evaluation set {text}.{nearest(path.name, siblings)}")
    if not found:
        raise InputError(f"{text} holds no file that could be an evaluation set ({', '.join(KINDS)}, also .gz).")
    return found


def _records(file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the records of a file that can be read, with their lines; those that can not be are no items."""
    if file.name.endswith(".parquet"):
        yield from enumerate(_parquet(file), start=1)
        return
    raw = gzip.decompress(file.read_bytes()) if file.name.endswith(".gz") else file.read_bytes()
    text = raw.decode("utf-8-sig", "backslashreplace")
    if file.name.removesuffix(".gz").endswith(".json"):
        try:
            yield from enumerate(_listed(json.loads(text)), start=1)
            return
        except ValueError as problem:
            # JSON lines under the name .json are common: where the first line is whole by itself they are read as such below
            if not _is_object(text.lstrip().split("\n", 1)[0]):
                raise InputError(f"{file} is not JSON ({problem}); the items in it would go unnoticed.") from None
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            record = json.loads(line) if line.strip() else None
        except ValueError as problem:
            raise InputError(
                f"{file} line {number} is not JSON ({problem}); an item there would go unnoticed."
            ) from None
        if isinstance(record, dict):
            yield number, record


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _listed(value: Any) -> list[Mapping[str, Any]]:
    if isinstance(value, dict):
        lists = [v for v in value.values() if isinstance(v, list) and v and isinstance(v[0], dict)]
        value = lists[0] if len(lists) == 1 else [value]
    return [record for record in value if isinstance(record, dict)]


def _parquet(file: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return list(pq.read_table(file).to_pylist())
    except pa.ArrowException as problem:
        raise InputError(f"{file} can not be read as Parquet: {problem}. Is the file whole?") from None


def _item(label: str, line: int, record: Mapping[str, Any], fields: Mapping[str, str]) -> Item | None:
    prompt, answer = _text(record, fields.get("prompt", "")), _text(record, fields.get("answer", ""))
    turns = record.get("messages")
    if not prompt and isinstance(turns, list) and all(isinstance(turn, dict) for turn in turns):
        said = [t for t in turns if t.get("role") != "system"]
        last = said.pop() if said and said[-1].get("role") == "assistant" else {}
        prompt = "\n".join(str(turn.get("content") or "") for turn in said)
        answer = answer or str(last.get("content") or "")
    if not prompt:
        name = next((name for name in PROMPTS if _text(record, name)), "")
        prompt = _text(record, name)
        if name == "instruction" and record.get("input"):
            prompt += "\n" + _text(record, "input")
    answer = answer or next((text for name in ANSWERS if (text := _text(record, name))), "")
    key = record.get(fields.get("id", "id"))
    name = str(key) if isinstance(key, str | int) and key != "" else f"{label}:{line}"
    return Item(name, label, prompt, answer) if prompt or answer else None


def _text(record: Mapping[str, Any], name: str) -> str:
    value = record.get(name) if name else None
    return value if isinstance(value, str) else ""
