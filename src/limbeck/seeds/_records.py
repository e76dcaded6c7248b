"""Reading files of every common kind as plain records, one at a time.

    train.jsonl       {"question": "...", "answer": "..."} a line         .gz of any of these
    data.json         [{...}, {...}], or {"examples": [{...}]}
    data.csv, .tsv    a header line and values
    data.parquet      also Arrow files as `datasets.save_to_disk` writes them

Each record is yielded as `Record(line, values, text, problem)`. What can not be read is a record with a problem and the
text as it stood; reading goes on behind it where the format allows.
"""

from __future__ import annotations

import base64
import csv
import gzip
import io
import json
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from limbeck.core.errors import InputError

CHUNK = 1 << 20
BATCH = 1000
KINDS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow")
MAX_RAW = 20_000
"""Characters of an unreadable record that are kept."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a file: where it stands, its values, or what is wrong with it."""

    line: int
    values: dict[str, Any] = field(default_factory=dict)
    text: str = ""
    problem: str = ""


def kind_of(path: Path) -> str:
    """Return the ending that says the format (`.jsonl`, `.csv`...), without `.gz`; the empty string if unknown."""
    name = path.name.removesuffix(".gz")
    return next((kind for kind in KINDS if name.lower().endswith(kind)), "")


def records(path: Path) -> Iterator[Record]:
    """Yield the records of one file, lazily."""
    kind = kind_of(path)
    if kind == ".parquet":
        yield from _parquet(path)
    elif kind == ".arrow":
        yield from _arrow(path)
    elif kind in (".csv", ".tsv"):
        yield from _table(path, "\t" if kind == ".tsv" else ",")
    else:
        yield from _guarded(path, _documents(path) if kind == ".json" and _is_document(path) else _lines(path))


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb")  # type: ignore[return-value]


def _guarded(path: Path, found: Iterator[Record]) -> Iterator[Record]:
    """Turn the end of a damaged compressed file into one bad record."""
    last = 0
    try:
        for record in found:
            last = record.line
            yield record
    except (EOFError, zlib.error, gzip.BadGzipFile) as problem:
        yield Record(last + 1, problem=f"the compressed file ends or is damaged here ({problem})")


def _lines(path: Path) -> Iterator[Record]:
    with _open(path) as stream:
        for number, raw in enumerate(stream, start=1):
            if number == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            if not raw.strip():
                # a blank last line is how text files end; a blank line between rows is a lost row
                if stream.peek(1) if hasattr(stream, "peek") else b"":
                    yield Record(number, problem="the line is empty")
                continue
            yield _parsed(number, raw)


def _parsed(number: int, raw: bytes) -> Record:
    try:
        text = raw.decode("utf-8").strip()
    except UnicodeDecodeError as problem:
        shown = raw.decode("utf-8", "backslashreplace").strip()[:MAX_RAW]
        return Record(number, text=shown, problem=f"this is not UTF-8 ({problem.reason} at byte {problem.start})")
    try:
        return _as_record(number, load(text), text)
    except ValueError as problem:
        return Record(number, text=text[:MAX_RAW], problem=f"this is not JSON ({problem})")
    except RecursionError:
        return Record(number, text=text[:MAX_RAW], problem="the JSON nests too deeply")


def load(text: str) -> Any:
    """Read JSON strictly: NaN, Infinity and numbers beyond a double, which Python would let through, are errors."""
    return json.loads(text, parse_constant=_refuse, parse_float=_finite)


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text[:20]} is too large")
    return value


def _as_record(number: int, value: Any, text: str = "") -> Record:
    if isinstance(value, dict):
        return Record(number, values=value)
    shown = text or json.dumps(value, ensure_ascii=False)
    return Record(number, text=shown[:MAX_RAW], problem="this is not an object with fields")


def _is_document(path: Path) -> bool:
    """Say whether a `.json` file is one JSON value, and not one a line."""
    try:
        with _open(path) as stream:
            first = b""
            while not first.strip() and (line := stream.readline(CHUNK)):
                first = line.removeprefix(b"\xef\xbb\xbf")
            rest = stream.readline(CHUNK).strip()
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return False
    if first.lstrip().startswith(b"["):
        return True
    try:
        return not (isinstance(json.loads(first), dict) and rest.startswith(b"{")) and bool(first.strip())
    except ValueError:
        # a first line that is torn in a file of one object a line, or the beginning of one object over many lines
        return not rest.startswith(b"{")


def _documents(path: Path) -> Iterator[Record]:
    """Yield the items of a JSON list, reading on only as they are needed; an object is looked through for its list."""
    with _open(path) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="backslashreplace")
        buffer = text.read(CHUNK).lstrip()
        if not buffer.startswith("["):
            yield from _object(buffer + text.read())
            return
        decoder = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)
        at, number = 1, 0
        while True:
            buffer, at = _to_item(buffer[at:], text)
            if buffer[:1] in ("]", ""):
                if not buffer:
                    yield Record(number + 1, problem="the list is not closed: the file ends early")
                return
            number += 1
            value, at, problem, buffer = _item(decoder, buffer, text)
            if problem:
                yield Record(
                    number, text=buffer[:MAX_RAW], problem=f"this is not JSON ({problem}); the rest is not read"
                )
                return
            yield _as_record(number, value)


def _to_item(buffer: str, text: IO[str]) -> tuple[str, int]:
    buffer = buffer.lstrip(" \t\r\n,")
    while not buffer:
        more = text.read(CHUNK)
        if not more:
            return "", 0
        buffer = more.lstrip(" \t\r\n,")
    return buffer, 0


def _item(decoder: json.JSONDecoder, buffer: str, text: IO[str]) -> tuple[Any, int, str, str]:
    while True:
        try:
            value, end = decoder.raw_decode(buffer)
            if end < len(buffer) or not isinstance(value, int | float):
                return value, end, "", buffer
            problem = "the file ends early"  # a number at the very end of what was read may go on
        except RecursionError:
            return None, 0, "it nests too deeply", buffer
        except ValueError as error:
            problem = str(error)
        more = text.read(max(CHUNK, len(buffer)))  # twice as much each time: a long item costs linear time
        if not more:
            return None, 0, problem, buffer
        buffer += more


def _object(text: str) -> Iterator[Record]:
    try:
        value = load(text)
    except (ValueError, RecursionError) as problem:
        yield Record(1, text=text[:MAX_RAW], problem=f"this is not JSON ({problem})")
        return
    lists = (
        [v for v in value.values() if isinstance(v, list) and v and all(isinstance(i, dict) for i in v)]
        if isinstance(value, dict)
        else []
    )
    for number, item in enumerate(lists[0] if len(lists) == 1 else [value], start=1):
        yield _as_record(number, item)


def _table(path: Path, delimiter: str) -> Iterator[Record]:
    csv.field_size_limit(1 << 30)
    with _open(path) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
        reader = csv.reader(text, delimiter=delimiter, strict=True)
        yield from _guarded(path, _cells(reader))


def _cells(reader: Any) -> Iterator[Record]:
    header: list[str] | None = None
    while True:
        begin = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as problem:
            yield Record(begin, problem=f"this is not a table row ({problem})")
            continue
        if header is None:
            header = [name.strip() for name in cells]
        elif cells:
            yield _row_of(begin, header, cells)


def _row_of(number: int, header: list[str], cells: list[str]) -> Record:
    text = ",".join(cells).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")[:MAX_RAW]
    if len(cells) != len(header):
        return Record(number, text=text, problem=f"the line has {len(cells)} fields, the header has {len(header)}")
    if any("\udc80" <= letter <= "\udcff" for cell in cells for letter in cell):
        return Record(number, text=text, problem="this is not UTF-8")
    return Record(number, values=dict(zip(header, cells, strict=True)))


def _parquet(path: Path) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except pa.ArrowException as problem:
        raise InputError(f"{path.name} can not be read as Parquet: {problem}. Is the file whole?") from None
    with file:
        yield from _batches(path, file.iter_batches(batch_size=BATCH))


def _arrow(path: Path) -> Iterator[Record]:
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        try:
            reader = pa.ipc.open_stream(source)
        except pa.ArrowException as problem:
            raise InputError(f"{path.name} can not be read as an Arrow stream: {problem}. Is the file whole?") from None
        yield from _batches(path, reader)


def _batches(path: Path, batches: Any) -> Iterator[Record]:
    import pyarrow as pa

    number = 0
    try:
        for batch in batches:
            for values in batch.to_pylist():
                number += 1
                yield Record(number, values={name: plain(value) for name, value in values.items()})
    except (pa.ArrowException, OSError) as problem:
        yield Record(number + 1, problem=f"the file is damaged here ({problem})")


def plain(value: Any) -> Any:
    """Turn a value of an Arrow table into what JSON can hold; a missing number becomes null."""
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
