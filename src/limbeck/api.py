"""The facade: what a program, a notebook and the command line call. Everything else can change behind it.

import limbeck

result = limbeck.run("rejection_sampling", prompts="train.jsonl", teacher="openai:m@http://localhost:8000/v1")
result.folder                                   # runs/rejection_sampling
result.rows("math")                             # the kept rows of a step
limbeck.apply("score.math", "solutions.jsonl", map={"response": "solution", "reference": "truth"})
"""

from __future__ import annotations

import asyncio
import inspect
import json
import tempfile
import typing
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.core.catalogue import catalogue as catalogue
from limbeck.core.errors import LimbeckError, StepError, UsageError
from limbeck.core.find import failed_at, find_recipe, find_step, own_file
from limbeck.core.options import recipe_options
from limbeck.core.options import split_words as split_words
from limbeck.core.options import step_flags as step_flags
from limbeck.core.options import step_options as step_options
from limbeck.core.recipe import Recipe
from limbeck.core.row import Row
from limbeck.core.step import Source, Step
from limbeck.engine.result import Result as Result
from limbeck.engine.result import findings as findings
from limbeck.engine.result import read_json, run_folder, starved, summaries
from limbeck.engine.result import summary as summary

Progress = typing.Literal["auto", "plain", "json", "none"]


@dataclass(frozen=True)
class Estimate:
    """What one step of a recipe is expected to take, from a pilot. `measured` is False where a pilot can not tell."""

    step: str
    rows: int = 0
    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    measured: bool = True


def run(
    recipe: str | Path | Recipe,
    *,
    out: str | Path | None = None,
    progress: Progress = "none",
    workers: int | None = None,
    report: bool = True,
    **params: Any,
) -> Result:
    """Run a recipe, or go on with it where it stopped, and write its report.

    Args:
        recipe: a shipped recipe's name, `path.py`, a stored `recipe.json`, or a Recipe.
        out: the run folder; default `runs/NAME`. A folder of the same recipe is continued.
        progress: what to show: `auto`, `plain`, `json` or `none`.
        workers: how many training processes run side by side; default: one a core.
        report: whether to write `report.html` at the end.
        params: the recipe's own parameters.

    Raises:
        UsageError: the recipe, a parameter or the folder is wrong; nothing was started.
        LimbeckError: what stopped the run; everything done so far is kept, and the same call goes on.
    """
    made = load_recipe(recipe, params)
    folder = Path(out) if out is not None else Path("runs") / made.name
    return _execute(made, folder, progress=progress, workers=workers, report=report)


def apply(
    step: str | Step,
    rows: str | Path | Sequence[str | Path] | Sequence[Row],
    *,
    out: str | Path | None = None,
    map: Mapping[str, str] | None = None,
    progress: Progress = "none",
    limit: int | None = None,
    **options: Any,
) -> Result:
    """Run one step over files of any kind, or over rows, and keep what it kept and what it dropped.

    Args:
        step: a step's name such as `score.math`, `path.py:Class`, or a step.
        rows: JSONL, JSON, CSV or Parquet files or folders; or rows.
        out: where to write; default: `runs/apply-STEP`, or a temporary folder when rows were given.
        map: which field of the files is what, for example `{"prompt": "question", "reference": "truth"}`.
        limit: read at most so many rows.
        options: the step's own options.
    """
    made = step if isinstance(step, Step) else find_step(step)(**options)
    short = made.called().split(":")[-1]
    if isinstance(made, Source):
        if not isinstance(rows, str | Path) and len(rows):
            raise UsageError(f"{made.shown()} makes rows and reads none; say where from with its own options.")
        asked = {"limit": limit, "map": dict(map or {})}
        own = {k: v for k, v in asked.items() if v and k in type(made).model_fields}
        made = type(made)(**{**made.fields(), **own})
        return _execute(Recipe(steps=[made], name=f"apply-{short}"), _folder(out, short), progress=progress)
    if not isinstance(rows, str | Path) and not len(rows):
        raise UsageError(
            f"{made.shown()} has nothing to read: name the files (or give the rows) it should be applied to."
        )
    with tempfile.TemporaryDirectory() as scratch:
        given = not isinstance(rows, str | Path) and len(rows) > 0 and isinstance(rows[0], Row)
        files = [_write_rows(typing.cast("Sequence[Row]", rows), Path(scratch))] if given else _paths(rows)
        source = find_step("seeds.files")(path=tuple(files), map=dict(map or {}), limit=limit, name="input")
        recipe = Recipe(steps=[source, made], name=f"apply-{short}", params={"limit": limit})
        target = Path(tempfile.mkdtemp(prefix="limbeck-")) if given and out is None else _folder(out, short)
        return _execute(recipe, target, progress=progress)


def plan(recipe: str | Path | Recipe, *, pilot: int = 16, progress: Progress = "none", **params: Any) -> list[Estimate]:
    """Say what a recipe will take, from a pilot on its first `pilot` rows; the pilot's answers are cached, not wasted.

    Steps that train, and those that depend on them, are listed but not measured.
    """
    from limbeck.engine.local import LocalRun

    made = load_recipe(recipe, params)
    total = {s.name: sum(1 for _ in s.rows()) for s in made.resolved() if isinstance(s, Source)}
    with tempfile.TemporaryDirectory() as scratch, _listener(progress) as listen:
        job = LocalRun(made, Path(scratch) / "pilot", listen=listen, limit=pilot, streaming_only=True)
        _drive(job.run())
        return [
            _estimate(node.step, node.folder.summary(), _scale(node.step, made, total, pilot))
            for node in job.nodes.values()
        ]


def status(folder: str | Path) -> list[dict[str, Any]]:
    """Return each step of a run folder: name, whether it is done, why it would run again, rows, cost.

    Raises UsageError if the folder holds no run.
    """
    from limbeck.engine.plan import nodes, why
    from limbeck.engine.rundir import RunFolder

    path = run_folder(folder)
    found = nodes(Recipe.from_json(read_json(path / "recipe.json")), RunFolder(path))
    out = []
    for node in found.values():
        summary = node.folder.summary()
        facts = {k: summary.get(k) for k in ("rows", "reasons", "usage", "seconds")}
        out.append({"name": node.name, "step": node.step.called(), "done": node.done, "why": why(node), **facts})
    return out


def diff(left: str | Path, right: str | Path) -> list[dict[str, Any]]:
    """Return how two runs differ, step by step: options, rows kept and dropped, and measured accuracy."""
    sides = [{s["name"]: s for s in summaries(run_folder(folder))} for folder in (left, right)]
    out = []
    for name in dict.fromkeys([*sides[0], *sides[1]]):
        a, b = (side.get(name, {}) for side in sides)
        fields_a, fields_b = a.get("fields", {}), b.get("fields", {})
        changed = {
            k: (fields_a.get(k), fields_b.get(k))
            for k in {**fields_a, **fields_b}
            if fields_a.get(k) != fields_b.get(k)
        }
        facts = {k: (a.get(k), b.get(k)) for k in ("rows", "accuracy") if a.get(k) != b.get(k)}
        if not a or not b or changed or facts:
            out.append(
                {"name": name, "only": "right" if not a else "left" if not b else None, "options": changed, **facts}
            )
    return out


def load_recipe(recipe: str | Path | Recipe, params: Mapping[str, Any]) -> Recipe:
    """Return the recipe that a name, a path or a stored `recipe.json` stands for, made with `params`."""
    if isinstance(recipe, Recipe):
        return recipe
    text = str(recipe)
    if text.endswith(".json"):
        if params:
            raise UsageError(
                f"{text} is a resolved recipe and takes no parameters; edit it, or run the recipe by name."
            )
        return Recipe.from_json(read_json(Path(text)))
    function = find_recipe(text)
    own = own_file(text)
    name = Path(own[0]).stem if own else text
    values = recipe_options(function, name, params)
    try:
        made = function(**values)
    except LimbeckError:
        raise
    except Exception as error:
        raise UsageError(failed_at(Path(inspect.getfile(function)), error, "the recipe")) from error
    if not isinstance(made, Recipe):
        raise UsageError(f"The recipe {text} returned {type(made).__name__}, not a Recipe.")
    defaults = {k: p.default for k, p in inspect.signature(function).parameters.items() if p.default is not p.empty}
    return Recipe(steps=made.steps, name=name, params=json.loads(json.dumps({**defaults, **values}, default=str)))


def _execute(
    recipe: Recipe, folder: Path, *, progress: Progress, workers: int | None = None, report: bool = False
) -> Result:
    from limbeck.engine.local import LocalRun

    seed = int(recipe.params.get("seed", 0) or 0)
    with _listener(progress) as listen:
        job = LocalRun(recipe, folder, listen=listen, seed=seed, workers=workers)
        _drive(job.run())
        page = _report(folder) if report else None
        listen({"event": "end", "report": str(page) if page else None})
    result = Result(folder=folder, steps={n.name: n.folder.summary() for n in job.nodes.values()})
    if report and (sentence := starved(result)):
        raise StepError(sentence)
    return result


def _drive(job: Coroutine[Any, Any, None]) -> None:
    """Run the engine to its end, in a thread of its own where a loop runs already (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(job)
        return
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, job).result()


def _report(folder: Path) -> Path:
    from limbeck.view.report import write

    return write(folder)


def _listener(progress: Progress) -> Any:
    from limbeck.view.progress import progress as choose

    return choose(progress)


def _folder(out: str | Path | None, short: str) -> Path:
    return Path(out) if out is not None else Path("runs") / f"apply-{short}"


def _paths(rows: Any) -> list[str]:
    return [str(rows)] if isinstance(rows, str | Path) else [str(r) for r in rows]


def _write_rows(rows: Sequence[Row], folder: Path) -> str:
    import pyarrow.parquet as pq

    from limbeck.core.row import to_table

    path = folder / "rows.parquet"
    pq.write_table(to_table(rows), path)
    return str(path)


def _scale(step: Step, recipe: Recipe, total: Mapping[str, int], pilot: int) -> float:
    """Return how many times more rows the whole run has than the pilot, at the source that `step` goes back to."""
    steps = {s.name: s for s in recipe.resolved()}
    while not isinstance(step, Source):
        step = steps[step.after[0] if isinstance(step.after, tuple) else step.after]
    return max(1.0, total[step.name] / pilot)


def _estimate(step: Step, summary: Mapping[str, Any], scale: float) -> Estimate:
    if not summary:
        return Estimate(step=step.name, measured=False)
    usage = summary["usage"]
    grown = {k: round(usage[k] * scale) for k in ("tokens_in", "tokens_out")}
    answers = round((usage["answers"] + usage["cached"]) * scale)
    return Estimate(
        step=step.name,
        rows=round(summary["rows"]["kept"] * scale),
        calls=answers,
        seconds=summary["seconds"] * scale,
        **grown,
    )


def report(folder: str | Path) -> Path:
    """Write the report of a run folder again and return its path."""
    return _report(run_folder(folder))


def export(folder: str | Path, format_: str, out: Path | None = None) -> tuple[Path, int]:
    """Write a step's kept rows in a trainer's format: trl, axolotl, llamafactory, openai or hf."""
    from limbeck.engine.export import export as write

    return write(Path(folder), format_, out)
