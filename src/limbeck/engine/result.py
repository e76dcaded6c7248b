"""What a run has given: the folder, each step's summary, and a digest of the last step for people.

result = Result(folder=Path("runs/first"), steps={"files": {...}, "math": {"rows": {"kept": 90, "dropped": 10}}})
result.rows("math", dropped=True)[0].dropped        # "score.math: …"
summary(result)["reasons"]                          # {"score.math: …": 10}
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.core.errors import InputError, UnknownName, UsageError, nearest
from limbeck.core.row import Row


@dataclass(frozen=True)
class Result:
    """A finished run: its folder, and each step's summary by name (the content of `step.json`)."""

    folder: Path
    steps: Mapping[str, Mapping[str, Any]]

    def path(self, name: str) -> Path:
        """Return the folder of a step. Raises UnknownName, naming the nearest."""
        if name not in self.steps:
            raise UnknownName(f"The run {self.folder} has no step '{name}'.{nearest(name, self.steps)}")
        return next(f for f in self.folder.glob("[0-9]*-*") if f.name.split("-", 1)[1] == name)

    def rows(self, name: str, *, dropped: bool = False) -> list[Row]:
        """Return the kept rows of a step, or the dropped ones."""
        from limbeck.engine.rundir import read_rows

        return list(read_rows(self.path(name) / ("dropped.parquet" if dropped else "kept.parquet")))


def summary(result: Result) -> dict[str, Any]:
    """Return what the last step of a run did, for people: counts, reasons, mean scores, label counts, sentences.

    `problem` is a sentence when the outcome is no success: every row dropped, or no reference could be read.
    """
    name = list(result.steps)[-1]
    last = result.steps[name]
    first = result.steps[next(iter(result.steps))]
    rows = result.rows(name)
    reasons = {**first["reasons"], **last["reasons"]} if first is not last else dict(last["reasons"])
    verdicts = _counts(rows, "verdict")
    counts = {**last["rows"]}
    if first is not last:
        counts["in"] = first["rows"]["in"]
        counts["dropped"] += first["rows"]["dropped"]
    return {
        "step": last["step"],
        "folder": str(result.folder),
        "rows": counts,
        "reasons": reasons,
        "scores": _means(rows),
        "labels": {f"verdict {k}": v for k, v in verdicts.items()},
        "sentences": findings(result),
        "problem": _problem(first, last, len(rows), verdicts),
    }


def findings(result: Result) -> list[str]:
    """Return what the comparisons of a run found, line by line: each arm's accuracy, each difference, the story."""
    lines: list[str] = []
    for name in result.steps:
        found = result.path(name) / "compare.json"
        if found.is_file():
            compared = read_json(found)
            lines += [_arm(arm) for arm in compared["arms"]]
            lines += [*compared["sentences"], f"In short: {compared['story']}"]
        curves = result.path(name) / "curves.json"
        if curves.is_file():
            lines += read_json(curves)["sentences"]
    return lines


def starved(result: Result) -> str | None:
    """Return a sentence about the first step that dropped every row it was given, or None."""
    for name, step in result.steps.items():
        rows, reasons = step.get("rows", {}), step.get("reasons", {})
        if rows and rows["in"] and not rows["kept"] and rows["dropped"] >= rows["in"]:
            most = max(reasons, key=lambda reason: reasons[reason], default="no reason given")
            return f"Step '{name}' dropped all of its {rows['in']:,} rows, most of them for this reason: {most}"
    return None


def _arm(arm: Mapping[str, Any]) -> str:
    accuracy = arm["accuracy"]
    mean, low, high = (100 * accuracy[k] for k in ("mean", "low", "high"))
    return f"{arm['name']}: {mean:.1f} % right (95 % interval {low:.1f} to {high:.1f}; {arm['prompts']:,} prompts)"


def summaries(folder: Path) -> list[dict[str, Any]]:
    """Return every `step.json` of a run folder, in order, with the accuracy where the step measured one."""
    found = []
    for path in sorted(folder.glob("[0-9]*-*/step.json")):
        results = path.parent / "results.json"
        accuracy = read_json(results).get("accuracy") if results.is_file() else None
        found.append({**read_json(path), "accuracy": accuracy})
    return found


def run_folder(folder: str | Path) -> Path:
    """Return the path of a folder that holds a run. Raises UsageError, naming the runs that are there."""
    path = Path(folder)
    if not (path / "recipe.json").is_file():
        runs = [p.parent.name for p in Path("runs").glob("*/recipe.json")]
        hint = f" Runs here: {', '.join(sorted(runs))} (in runs/)." if runs else ""
        raise UsageError(f"{path} holds no run (no recipe.json).{hint}")
    return path


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises UsageError if there is no such file, InputError if it is something else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} can not be read: {error.strerror}.") from None
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise InputError(f"{path} should hold a JSON object, but holds {type(value).__name__}.")
    return value


def _means(rows: Sequence[Row]) -> dict[str, tuple[float, int]]:
    values: dict[str, list[float]] = {}
    for row in rows:
        for key, value in row.scores.items():
            values.setdefault(key, []).append(value)
    return {key: (sum(v) / len(v), len(v)) for key, v in sorted(values.items())}


def _counts(rows: Sequence[Row], label: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for row in rows:
        if label in row.labels:
            counts[row.labels[label]] = counts.get(row.labels[label], 0) + 1
    return dict(sorted(counts.items()))


def _problem(first: Mapping[str, Any], last: Mapping[str, Any], kept: int, verdicts: Mapping[str, int]) -> str | None:
    if first["rows"]["in"] and not first["rows"]["kept"]:
        return "No row could be read; the reasons are above, the records in dropped.parquet."
    if kept and verdicts.get("unreadable-reference") == kept:
        return (
            f"{last['step']} could read none of the {kept:,} references; "
            "say which field holds them with --map reference=FIELD."
        )
    if last["rows"]["in"] and last["rows"]["dropped"] >= last["rows"]["in"] and not kept:
        return f"{last['step']} dropped every row; the reasons are above, the rows in dropped.parquet."
    return None
