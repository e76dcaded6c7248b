"""Reading a run folder: what was asked, what each step did, what was measured. Tolerant, and never silent about it.

    runs/quickstart/
        recipe.json env.json ledger.jsonl
        01-problems/  kept.parquet dropped.parquet step.json done
        02-sample/    ...
        05-train/     student/ curve.jsonl train.json step.json done

    read(Path("runs/quickstart")).stages[1]
        -> Stage(name="sample", step="generate.sample", after=("problems",), state="done",
                 rows={"in": 1500, "kept": 6000, "dropped": 0}, ...)

A run under way, or one that was killed, is readable too: a step without `done` is `unfinished`, a step of the recipe
without a folder is `not started`. A file that can not be read is named in `Run.notes`, which the report prints.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck.core import ledger
from limbeck.core.errors import LimbeckError, WrongFolder

if TYPE_CHECKING:
    import pyarrow as pa

JSON_FILES = ("results", "compare", "train")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of the run, as its folder tells it."""

    name: str
    step: str
    folder: Path | None = None
    after: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)
    reasons: Mapping[str, int] = field(default_factory=dict)
    usage: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    cpu_seconds: float | None = None
    state: str = "done"
    """`done`, `unfinished` or `not started`."""
    results: Mapping[str, Any] = field(default_factory=dict)
    compare: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)
    curve: tuple[Mapping[str, Any], ...] = ()

    @property
    def room(self) -> str:
        """The first part of the step's name: `score` of `score.math`."""
        return self.step.split(".")[0]

    @property
    def kept(self) -> int:
        """How many rows it passed on."""
        return int(self.rows.get("kept") or 0)

    @property
    def dropped(self) -> int:
        """How many rows it dropped, those dropped before it not counted."""
        return int(self.rows.get("dropped") or 0)

    @property
    def read(self) -> int:
        """How many rows it was given."""
        return int(self.rows.get("in") or 0)

    def table(
        self,
        which: str,
        columns: list[str] | None = None,
        *,
        most: int | None = None,
        where: tuple[str, Iterable[str]] | None = None,
    ) -> pa.Table | None:
        """Return `kept` or `dropped` as an Arrow table, or None where there is no such file yet.

        `most` stops reading after so many rows; `where` reads only the rows whose column has one of the values.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.folder / f"{which}.parquet" if self.folder else None
        if path is None or not path.is_file():
            return None
        with pq.ParquetFile(path) as file:  # by batches: a report of a million rows must fit beside other work
            wanted = None if columns is None else [n for n in file.schema_arrow.names if n in columns]
            batches, left = [], most
            for batch in file.iter_batches(batch_size=2000, columns=wanted):
                for part in [batch] if where is None else _where(batch, where[0], set(where[1])):
                    batches.append(part if left is None else part.slice(0, left))
                    left = None if left is None else left - batches[-1].num_rows
                if left is not None and left <= 0:
                    break
            return pa.Table.from_batches(batches, schema=batches[0].schema if batches else file.schema_arrow)


def _where(batch: pa.RecordBatch, column: str, values: set[str]) -> list[pa.RecordBatch]:
    # few rows are wanted, and slices need no pyarrow.compute, which takes longer to import than they take to make
    found = [place for place, value in enumerate(batch.column(column).to_pylist()) if value in values]
    return [batch.slice(place, 1) for place in found]


@dataclass(frozen=True, kw_only=True)
class Run:
    """A whole run: the recipe, the machine, the stages in the recipe's order, and what could not be read."""

    folder: Path
    recipe: Mapping[str, Any]
    env: Mapping[str, Any]
    stages: tuple[Stage, ...]
    notes: tuple[str, ...] = ()
    other: tuple[Mapping[str, Any], ...] = ()
    """What was paid, or may have been, for no step in particular: requests under way when a session was killed."""

    @property
    def name(self) -> str:
        """The recipe's name, or the folder's where there is no recipe."""
        return str(self.recipe.get("name") or self.folder.name)

    @property
    def unfinished(self) -> list[Stage]:
        """The stages that are not done."""
        return [stage for stage in self.stages if stage.state != "done"]

    def stage(self, name: str) -> Stage | None:
        """Return the stage called `name` (with or without `step:`), or None."""
        wanted = name.removeprefix("step:")
        return next((stage for stage in self.stages if stage.name == wanted), None)


def read(folder: Path, paid: Mapping[str, Mapping[str, Any]] | None = None) -> Run:
    """Read a run folder. Raises WrongFolder where nothing in it looks like a run.

    `paid` is what each step has cost over all sessions; default: what `ledger.jsonl` says, and for steps that it does not name
    `step.json`.
    """
    notes: list[str] = []
    found = sorted(p for p in folder.glob("[0-9][0-9]*-*") if p.is_dir()) if folder.is_dir() else []
    if not found and not (folder / "recipe.json").is_file():
        raise WrongFolder(
            f"{folder} is not a run folder: it has neither recipe.json nor steps such as 01-problems. "
            "Name the folder that `limbeck run` printed."
        )
    recipe = _object(folder / "recipe.json", notes)
    env = _object(folder / "env.json", notes)
    planned = [item for item in recipe.get("steps") or [] if isinstance(item, dict)]
    by_name = {path.name.partition("-")[2]: path for path in found}
    names = [str(item.get("name")) for item in planned]
    stages = [_stage(str(item.get("name")), item, by_name.get(str(item.get("name"))), notes) for item in planned]
    stages += [_stage(name, {}, path, notes) for name, path in by_name.items() if name not in names]
    costs = _ledger(folder, notes) if paid is None else paid
    stages = [replace(stage, usage=costs[stage.name]) if stage.name in costs else stage for stage in stages]
    known = {stage.name for stage in stages}
    other = tuple(usage for name, usage in costs.items() if name not in known)
    return Run(folder=folder, recipe=recipe, env=env, stages=tuple(stages), notes=tuple(notes), other=other)


def _ledger(folder: Path, notes: list[str]) -> dict[str, dict[str, Any]]:
    try:
        return {name: total.record() for name, total in ledger.read(folder / "ledger.jsonl").items()}
    except LimbeckError as error:
        notes.append(str(error))
        return {}


def _stage(name: str, planned: Mapping[str, Any], folder: Path | None, notes: list[str]) -> Stage:
    """Join what the recipe planned with what the folder holds; the folder wins."""
    told = _object(folder / "step.json", notes, expected=(folder / "done").exists()) if folder else {}
    fields = told.get("fields") or planned.get("fields") or {}
    after = _names(told.get("after") or planned.get("after"))
    needs = _names(told.get("needs")) or tuple(dict.fromkeys(_references(fields)))
    made = {key: _object(folder / f"{key}.json", notes, expected=False) if folder else {} for key in JSON_FILES}
    return Stage(
        name=name,
        step=str(told.get("step") or planned.get("use") or "unknown"),
        folder=folder,
        after=after,
        needs=tuple(n for n in needs if n not in after),
        fields=fields if isinstance(fields, dict) else {},
        rows=_counts(told.get("rows")),
        reasons=_counts(told.get("reasons")),
        usage=dict(told.get("usage") or {}),
        seconds=_number(told.get("seconds")),
        cpu_seconds=_number(told.get("cpu_seconds")),
        state="not started" if folder is None else "done" if (folder / "done").exists() else "unfinished",
        curve=_lines(folder / "curve.jsonl", notes) if folder else (),
        **made,
    )


def _object(path: Path, notes: list[str], expected: bool = True) -> dict[str, Any]:
    if not path.is_file():
        if expected:
            notes.append(f"{_short(path)} is missing.")
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        notes.append(f"{_short(path)} can not be read as JSON ({error}).")
        return {}
    if not isinstance(value, dict):
        notes.append(f"{_short(path)} holds no JSON object.")
        return {}
    return value


def _lines(path: Path, notes: list[str]) -> tuple[Mapping[str, Any], ...]:
    if not path.is_file():
        return ()
    out: list[Mapping[str, Any]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        try:
            value = json.loads(line)
        except ValueError:
            # a run under way, or killed, leaves half a last line
            notes.append(f"{_short(path)}, line {number} can not be read as JSON and is left out.")
            continue
        if isinstance(value, dict):
            out.append(value)
    return tuple(out)


def _short(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _names(value: Any) -> tuple[str, ...]:
    items = [value] if isinstance(value, str) else value if isinstance(value, list | tuple) else []
    return tuple(str(item).removeprefix("step:") for item in items if item)


def _references(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value.removeprefix("step:")] if value.startswith("step:") else []
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else []
    return [name for item in items for name in _references(item)]


def _counts(value: Any) -> dict[str, int]:
    if not isinstance(value, dict):
        return {}
    return {str(k): int(v) for k, v in value.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
