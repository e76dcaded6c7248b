"""The step: a frozen model whose fields are its whole configuration, in a file of its own.

    class Threshold(Each):
        \"\"\"Keep rows whose score reaches `least`.\"\"\"
        score: str
        least: float = 1.0

        def each(self, row: Row) -> Made:
            value = row.scores.get(self.score, 0.0)
            return row if value >= self.least else Drop(f"{self.score} is {value:g}, under {self.least:g}")

There are three kinds, and only three:

    Each    one row in, zero or more rows out; streams. (`Source` is an `Each` with nothing before it.)
    Whole   all rows in, the same rows out, some of them dropped with reasons, or others. A barrier.
    Make    rows in, an artefact out: a student, a table of results. A barrier.

An `Each` that needs a model is a generator: `reply = yield Ask(...)`. It never awaits and never opens a connection,
so the same step runs under asyncio, a replay, a batch API or in a test that calls `next` and `send` by hand.

Two fields of every step are wiring, not configuration, and are in no fingerprint: `name` (how other steps of the
recipe refer to it; default: the step's own short name) and `after` (whose rows it reads; default: the step before).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from limbeck.core.ask import Ask, Reply, Request
from limbeck.core.errors import UnknownName, UsageError, nearest
from limbeck.core.fingerprint import code_version, digest
from limbeck.core.row import Row, from_table, to_table

if TYPE_CHECKING:
    import pyarrow as pa

STEP_PREFIX = "step:"
_PACKAGE = str(Path(__file__).resolve().parent.parent) + os.sep


@dataclass(frozen=True, slots=True)
class Drop:
    """What an `each` returns instead of a row that must not go on; the engine adds the step's name."""

    why: str


Made = Row | Drop | Sequence[Row | Drop]
"""What one row becomes: itself (changed), a drop, or several rows."""

Asking = Generator[Request, Any, Made]
"""The type of an `each` that asks: it yields asks, is sent replies, and returns what the row becomes."""


class Context(Protocol):
    """What the engine hands to a `Make`: the only way rooms work together without importing each other."""

    folder: Path
    """The step's own folder: artefacts, curves and checkpoints go here, and survive a kill."""
    seed: int
    """The run's seed."""

    def apply(self, step: str, rows: Sequence[Row], **fields: Any) -> list[Row]:
        """Run another step, by its name such as `score.math`, over rows; dropped rows carry their reason."""
        ...

    def model(self, spec: str) -> Path:
        """The folder of weights (Hugging Face layout) of `embedded`, `embedded:student`, `hf:PATH` or `step:NAME`."""
        ...

    def artefact(self, name: str) -> Path:
        """The folder of the finished step of this run that `name` (with or without `step:`) refers to."""
        ...

    def rows(self, name: str) -> list[Row]:
        """The kept rows of the finished step of this run that `name` refers to."""
        ...

    def progress(self, done: int, total: int, note: str = "") -> None:
        """Tell whoever watches how far the step is."""
        ...


class Step(BaseModel):
    """What all three kinds share; derive from `Source`, `Each`, `Prompt`, `Whole` or `Make` instead."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    name: str = ""
    after: str | tuple[str, ...] = ""

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise _usage_error(type(self), error) from None

    @classmethod
    def called(cls) -> str:
        """The name the step is asked for by: `score.math`, or `path.py:Class` for a step of the user's own."""
        parts = cls.__module__.split(".")
        if parts[0] == "limbeck" and len(parts) >= 3:
            return ".".join(parts[1:])
        source = getattr(sys.modules.get(cls.__module__), "__file__", None)
        return f"{source or cls.__module__}:{cls.__name__}"

    @classmethod
    def shown(cls) -> str:
        """The name in reasons and in `made_by`: as `called`, but of a user's own file only its name, not its folder."""
        return cls.called().rsplit("/", 1)[-1]

    def fields(self) -> dict[str, Any]:
        """Return the configuration, JSON-able and whole, without the wiring."""
        return self.model_dump(mode="json", exclude={"name", "after"})

    def fingerprint(self) -> str:
        """Return the hash of the fields, the code and the files that the step reads."""
        watched = [[str(p), _seen(p)] for p in self.watch()]
        return digest(
            {"step": self.shown(), "fields": self.fields(), "code": code_version(type(self)), "files": watched}
        )

    def watch(self) -> Sequence[Path]:
        """The files whose content matters to this step; part of its fingerprint."""
        return ()

    def needs(self) -> tuple[str, ...]:
        """The names of the steps this one refers to in fields written `step:NAME`."""
        found: list[str] = []
        _collect(self.fields(), found)
        return tuple(dict.fromkeys(found))

    def made(self, **how: Any) -> dict[str, Any]:
        """Return the `made_by` record of a row this step makes: step, fingerprint of fields and code, and `how`."""
        return {"step": self.shown(), "fingerprint": self._own_print(), **how}

    def _own_print(self) -> str:
        # hashing the fields for every row is the cost of a whole run; the model is frozen, so once is enough
        cached = self.__dict__.get("_print")
        if cached is None:
            cached = digest({"fields": self.fields(), "code": code_version(type(self))}, 8)
            self.__dict__["_print"] = cached
        return str(cached)


class Source(Step):
    """An `each` with nothing before it: makes rows out of files, task families, simulators, tables."""

    def rows(self) -> Iterator[Row | Drop]:
        """Yield rows, lazily and in a fixed order. A `Drop` is a record that could not become a row."""
        raise TypeError(f"{self.called()} defines no rows()")

    def size(self) -> int | None:
        """How many rows will come, where that is known without making them; for progress bars only."""
        return None


class Each(Step):
    """One row in, zero or more rows out; streams."""

    def each(self, row: Row) -> Made | Asking:
        """Return what the row becomes, or be a generator that yields asks and returns it."""
        raise TypeError(f"{self.called()} defines no each()")


class Prompt(Each):
    """The usual single-turn case: two pure functions, `ask` and `read`."""

    teacher: str

    def ask(self, row: Row) -> Ask:
        """Return the request that this row leads to."""
        raise TypeError(f"{self.called()} defines no ask()")

    def read(self, row: Row, reply: Reply) -> Made:
        """Return what the row becomes, given the reply."""
        raise TypeError(f"{self.called()} defines no read()")

    def each(self, row: Row) -> Asking:
        """Ask, and read the reply."""
        reply = yield self.ask(row)
        return self.read(row, reply)


class Whole(Step):
    """All rows in, rows out; a barrier. Define `whole` (rows, easy) or `table` (Arrow, fast)."""

    def key(self, row: Row) -> str:
        """Return what must be seen together: rows of different keys never influence each other.

        Many machines then share the work by key. The default is one key for all rows.
        """
        return ""

    def whole(self, rows: list[Row]) -> list[Row]:
        """Return the rows, those that must not go on marked with `row.drop(reason)`."""
        raise TypeError(f"{self.called()} defines neither whole() nor table()")

    def table(self, table: pa.Table) -> pa.Table:
        """Return the table, with `dropped` filled in for rows that must not go on."""
        return to_table(self.whole(from_table(table)))


class Make(Step):
    """Rows in, an artefact out, written into `context.folder`; a barrier.

    `isolated` steps run in a worker process of their own (training: memory is freed, two run side by side); their
    context can not `apply` other steps.
    """

    isolated: ClassVar[bool] = False
    reads_sealed: ClassVar[bool] = False
    """Whether the step may be handed rows of an evaluation set: only what measures says yes, whatever trains must not."""

    def make(self, rows: list[Row], context: Context) -> Iterable[Row]:
        """Make the artefact; return the rows to keep beside it (often none)."""
        raise TypeError(f"{self.called()} defines no make()")


def _collect(value: Any, found: list[str]) -> None:
    if isinstance(value, str) and value.startswith(STEP_PREFIX):
        found.append(value.removeprefix(STEP_PREFIX))
    elif isinstance(value, dict):
        for item in value.values():
            _collect(item, found)
    elif isinstance(value, list | tuple):
        for item in value:
            _collect(item, found)


def _seen(path: Path) -> str:
    from limbeck.core.fingerprint import file_digest

    return file_digest(path) if path.exists() else "absent"


def _usage_error(kind: type[Step], error: ValidationError) -> UsageError:
    """Turn pydantic's report into one sentence a person can act on, with the place the step was written at."""
    # a misspelt option that is required is reported as missing too: the slip is what to name
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    where, step = _caller(), kind.called()
    option = ".".join(str(part) for part in first["loc"])
    reason = first["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if first["type"] == "extra_forbidden":
        return UnknownName(f"{where}{step} has no option '{option}'.{nearest(option, kind.model_fields)}")
    if first["type"] == "missing":
        return UsageError(f"{where}{step} needs the option '{option}'; give it a value.")
    if not option:
        return UsageError(f"{where}{step}: {reason}.")
    return UsageError(f"{where}{step}: option '{option}' can not be {first.get('input')!r}: {reason}.")


def _caller() -> str:
    """Name the line outside this machinery where the step was written down; nothing if that was a command line."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        inside = Path(file[len(_PACKAGE) :]).as_posix() if file.startswith(_PACKAGE) else None
        if inside is not None and not inside.startswith(("core/", "recipes/")) and inside != "api.py":
            return ""
        machinery = (
            "/pydantic/" in file or file.startswith("<") if inside is None else not inside.startswith("recipes/")
        )
        if not machinery:
            return f"{Path(file).name}:{frame.f_lineno}: "
        if frame.f_back is None:
            return ""
        frame = frame.f_back
    return ""
