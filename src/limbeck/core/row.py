"""The row: one fixed schema for everything that flows through the house.

A row is one conversation with its history. The samples of one prompt share its `group`; every row names its parents:

    Row(id="5b1e…", parents=("93ab…",), group="93ab…",
        messages=(Message(role="user", content="Start with 12. Add 5."),
                  Message(role="assistant", content="12 + 5 = 17.\\nAnswer: 17")),
        task={"kind": "math", "reference": "17"},          # what a verifier needs
        scores={"math": 1.0}, labels={"family": "chains"}, # written by score steps
        dropped=None,                                      # or "curate.exact: duplicate of 77c0…"
        usage=Usage(tokens_in=14, tokens_out=11), made_by='{"step": "generate.sample", …}')

Rows are frozen: a step returns changed copies. Nothing is ever deleted; a row that must not go on is *dropped* with
a reason. The Arrow schema is fixed and free-form data lives in the JSON columns `task` and `extra`, because free
dictionaries do not merge between shards (datatrove#412, datasets#6162, ray#36051).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from limbeck.core.fingerprint import canonical, digest

if TYPE_CHECKING:
    import pyarrow as pa

BATCH = 10_000
"""Rows in one piece of a table."""
ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One chat turn; `tool_calls` is JSON text as the OpenAI chat format has it, or None."""

    role: str
    content: str
    tool_calls: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        # cleaned at the door: a row must have the same id, and lead to the same request, before and after the disk
        for key in ("role", "content", "tool_calls", "name"):
            value = getattr(self, key)
            if value is not None and not value.isascii():
                object.__setattr__(self, key, _clean(value))

    def record(self) -> dict[str, str | None]:
        """Return the four fields as a dictionary; `asdict` copies deeply, which costs a third of a fast run."""
        return {"role": self.role, "content": self.content, "tool_calls": self.tool_calls, "name": self.name}


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What the calls that made a row cost: tokens, US dollars (None: the price is not known), seconds.

    The seconds of a row are 0: how long a request waited depends on the hour, and rows of an interrupted run must equal
    those of an uninterrupted one to the byte. Waiting time is in the ledger and in `step.json`.
    """

    tokens_in: int = 0
    tokens_out: int = 0
    usd: float | None = 0.0
    seconds: float = 0.0

    def record(self) -> dict[str, int | float | None]:
        """Return the four fields as a dictionary."""
        return {
            "tokens_in": self.tokens_in,
            "tokens_out": self.tokens_out,
            "usd": self.usd,
            "seconds": self.seconds,
        }

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            tokens_in=self.tokens_in + other.tokens_in,
            tokens_out=self.tokens_out + other.tokens_out,
            usd=None if self.usd is None or other.usd is None else self.usd + other.usd,
            seconds=self.seconds + other.seconds,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One conversation, what is known of it, and where it came from. See the module's example."""

    id: str
    parents: tuple[str, ...] = ()
    group: str = ""
    messages: tuple[Message, ...] = ()
    task: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    dropped: str | None = None
    usage: Usage = Usage()
    made_by: str = ""
    sealed: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def prompt(self) -> tuple[Message, ...]:
        """The turns before the response: all of them when there is no response yet."""
        return self.messages[:-1] if self.has_response else self.messages

    @property
    def has_response(self) -> bool:
        """Whether the last turn is the assistant's."""
        return bool(self.messages) and self.messages[-1].role == "assistant"

    @property
    def response(self) -> str:
        """The text of the last assistant turn, or the empty string."""
        return self.messages[-1].content if self.has_response else ""

    @property
    def question(self) -> str:
        """The text of the last user turn, or the empty string."""
        return next((m.content for m in reversed(self.messages) if m.role == "user"), "")

    @property
    def reference(self) -> str | None:
        """The reference answer of the task as text, or None."""
        value = self.task.get("reference")
        return None if value is None else value if isinstance(value, str) else canonical(value)

    def with_scores(self, **scores: float) -> Row:
        """Return a copy with these scores added."""
        return replace(self, scores={**self.scores, **scores})

    def with_labels(self, **labels: str) -> Row:
        """Return a copy with these labels added."""
        return replace(self, labels={**self.labels, **labels})

    def with_extra(self, **extra: Any) -> Row:
        """Return a copy with these JSON-able extras added."""
        return replace(self, extra={**self.extra, **extra})

    def drop(self, reason: str) -> Row:
        """Return a copy that is dropped for `reason`, written `step: why`; the first reason stays."""
        return self if self.dropped is not None else replace(self, dropped=reason)

    def child(self, messages: Sequence[Message], *, made_by: Mapping[str, Any], usage: Usage = Usage()) -> Row:
        """Return a new row made from this one: same task, group, labels and seal; scores start anew.

        `made_by` says how (step, teacher, sampling, sample index); with the content it determines the id.
        """
        return new_row(
            messages=messages,
            parents=(self.id,),
            group=self.group,
            task=self.task,
            labels=self.labels,
            usage=usage,
            made_by=made_by,
            sealed=self.sealed,
            extra=self.extra,
        )


def new_row(
    *,
    messages: Sequence[Message],
    made_by: Mapping[str, Any],
    parents: Sequence[str] = (),
    group: str = "",
    task: Mapping[str, Any] | None = None,
    labels: Mapping[str, str] | None = None,
    usage: Usage = Usage(),
    sealed: bool = False,
    extra: Mapping[str, Any] | None = None,
) -> Row:
    """Make a row whose id is the hash of its content, its parents and how it was made.

    The same content made the same way has the same id, in every run. A row without a group founds its own.
    """
    made = canonical(dict(made_by))
    turns = [m.record() for m in messages]
    identity = digest([turns, dict(task or {}), list(parents), made])
    return Row(
        id=identity,
        parents=tuple(parents),
        group=group or identity,
        messages=tuple(messages),
        task=dict(task or {}),
        labels=dict(labels or {}),
        usage=usage,
        made_by=made,
        sealed=sealed,
        extra=dict(extra or {}),
    )


def schema() -> pa.Schema:
    """Return the one Arrow schema of all row files."""
    import pyarrow as pa

    text = pa.string()
    message = pa.struct([("role", text), ("content", text), ("tool_calls", text), ("name", text)])
    usage = pa.struct(
        [("tokens_in", pa.int64()), ("tokens_out", pa.int64()), ("usd", pa.float64()), ("seconds", pa.float64())]
    )
    return pa.schema(
        [
            pa.field("id", text, nullable=False),
            ("parents", pa.list_(text)),
            ("group", text),
            ("messages", pa.list_(message)),
            ("task", text),
            ("scores", pa.map_(text, pa.float64())),
            ("labels", pa.map_(text, text)),
            ("dropped", text),
            ("usage", usage),
            ("made_by", text),
            ("sealed", pa.bool_()),
            ("extra", text),
        ]
    )


def to_table(rows: Iterable[Row]) -> pa.Table:
    """Turn rows into an Arrow table of the fixed schema; map keys are sorted, so equal rows give equal bytes."""
    import pyarrow as pa

    every = list(rows)
    batches = [_batch(every[begin : begin + BATCH]) for begin in range(0, len(every), BATCH)]
    return pa.Table.from_batches(batches, schema=schema())


def from_table(table: pa.Table) -> list[Row]:
    """Turn an Arrow table of the fixed schema back into rows."""
    return [_from_record(record) for record in table.to_pylist()]


def _batch(rows: Sequence[Row]) -> pa.RecordBatch:
    import pyarrow as pa

    from limbeck.core.columns import integers, lists, maps, numbers, structs, text, truths

    usages = [row.usage for row in rows]
    usage = {
        "tokens_in": integers([u.tokens_in for u in usages]),
        "tokens_out": integers([u.tokens_out for u in usages]),
        "usd": numbers([u.usd for u in usages]),
        "seconds": numbers([u.seconds for u in usages]),
    }
    columns = [
        text([row.id for row in rows]),
        lists([row.parents for row in rows], text),
        text([_clean(row.group) for row in rows]),
        lists([row.messages for row in rows], _messages),
        text([_json(row.task) for row in rows]),
        maps([sorted((_clean(k), float(v)) for k, v in row.scores.items()) for row in rows], numbers),
        maps([sorted((_clean(k), _clean(v)) for k, v in row.labels.items()) for row in rows], text),
        text([None if row.dropped is None else _clean(row.dropped) for row in rows]),
        structs(usage),
        text([_clean(row.made_by) for row in rows]),
        truths([row.sealed for row in rows]),
        text([_json(row.extra) for row in rows]),
    ]
    arrays = [
        column.cast(kind) if column.type != kind else column
        for column, kind in zip(columns, schema().types, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema())


def _messages(turns: Sequence[Message]) -> pa.Array:
    from limbeck.core.columns import structs, text

    names = ("role", "content", "tool_calls", "name")
    return structs({name: text([getattr(turn, name) for turn in turns]) for name in names})


def _json(value: Mapping[str, Any]) -> str:
    return _clean(canonical(dict(value))) if value else "{}"


def _from_record(record: Mapping[str, Any]) -> Row:
    return Row(
        id=record["id"],
        parents=tuple(record["parents"] or ()),
        group=record["group"] or record["id"],
        messages=tuple(Message(**m) for m in record["messages"] or ()),
        task=json.loads(record["task"] or "{}"),
        scores=dict(record["scores"] or ()),
        labels=dict(record["labels"] or ()),
        dropped=record["dropped"],
        usage=Usage(**record["usage"]) if record["usage"] else Usage(),
        made_by=record["made_by"] or "",
        sealed=bool(record["sealed"]),
        extra=json.loads(record["extra"] or "{}"),
    )


def _clean(text: str) -> str:
    if text.isascii():
        return text
    # Arrow holds UTF-8 only; a lone surrogate (half an emoji cut by a server) becomes its visible escape
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text
