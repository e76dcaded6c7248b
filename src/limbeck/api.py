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
import os
import tempfile
import typing
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from limbeck.core.catalogue import catalogue as catalogue
from limbeck.core.errors import LimbeckError, StepError, ToleranceExceeded, UsageError
from limbeck.core.find import failed_at, find_recipe, find_step, own_file
from limbeck.core.options import recipe_options
from limbeck.core.options import split_words as split_words
from limbeck.core.options import step_flags as step_flags
from limbeck.core.options import step_options as step_options
from limbeck.core.recipe import Recipe
from limbeck.core.row import Row
from limbeck.core.step import Source, Step
from limbeck.engine.estimate import Estimate as Estimate
from limbeck.engine.estimate import Plan as Plan
from limbeck.engine.interrupt import Interrupted
from limbeck.engine.limits import Limits
from limbeck.engine.result import Result as Result
from limbeck.engine.result import findings as findings
from limbeck.engine.result import read_json, run_folder, starved, summaries
from limbeck.engine.result import summary as summary

Progress = typing.Literal["auto", "plain", "json", "none"]
Backend = typing.Literal["local", "ray"]


def run(
    recipe: str | Path | Recipe,
    *,
    out: str | Path | None = None,
    progress: Progress = "none",
    workers: int | None = None,
    report: bool = True,
    budget: float | None = None,
    tolerate: float | None = None,
    concurrency: int | None = None,
    rpm: float | None = None,
    tpm: float | None = None,
    prices: str | Path | None = None,
    retry_dropped: bool = False,
    backend: Backend = "local",
    ray_address: str | None = None,
    shard_rows: int | None = None,
    **params: Any,
) -> Result:
    """Run a recipe, or go on with it where it stopped, and write its report.

    Args:
        recipe: a shipped recipe's name, `path.py`, a stored `recipe.json`, or a Recipe.
        out: the run folder; default `runs/NAME`. A folder of the same recipe is continued.
        progress: what to show: `auto`, `plain`, `json` or `none`.
        workers: how many training processes run side by side; default: one a core.
        report: whether to write `report.html` at the end.
        budget: most US dollars this run may spend, over all its sessions; default: no cap.
        tolerate: largest share (0 to 1) of a step's rows that may be lost to refusals and failures; default: any.
        concurrency: most requests under way at one endpoint; default: LIMBECK_CONCURRENCY, or 256.
        rpm: most requests a minute at one endpoint; default: LIMBECK_RPM, or no limit.
        tpm: most tokens a minute at one endpoint; default: LIMBECK_TPM, or no limit.
        prices: a file with prices that go before the package's own; default: LIMBECK_PRICES.
        retry_dropped: ask again for the rows of finished steps that were refused, failed or given up.
        backend: `local`, or `ray` for many machines (needs `limbeck[ray]`).
        ray_address: the cluster to join, for example `auto`; default: one is started on this machine.
        shard_rows: rows in a shard of the ray backend; default: 1,000.
        params: the recipe's own parameters.

    Raises:
        UsageError: the recipe, a parameter or the folder is wrong; nothing was started.
        BudgetReached: the next request would not fit under the budget; everything is kept.
        ToleranceExceeded: the run is complete, and a step lost more rows than declared.
        KeyboardInterrupt: Ctrl-C; what was under way has been finished and kept.
        LimbeckError: what stopped the run; everything done so far is kept, and the same call goes on.
    """
    made = load_recipe(recipe, params)
    target = out if out is not None else Path("runs") / made.name
    settings: dict[str, Any] = {"workers": workers, "budget": budget, "tolerate": tolerate}
    settings |= {"retry_dropped": retry_dropped, "limits": Limits.given(concurrency, rpm, tpm)}
    if backend == "ray":
        settings |= {"address": ray_address} | ({} if shard_rows is None else {"shard_rows": shard_rows})
    with prices_from(prices):
        return _execute(made, target, progress=progress, report=report, backend=backend, **settings)


def apply(
    step: str | Step,
    rows: str | Path | Sequence[str | Path] | Sequence[Row],
    *,
    out: str | Path | None = None,
    map: Mapping[str, str] | None = None,
    progress: Progress = "none",
    limit: int | None = None,
    budget: float | None = None,
    tolerate: float | None = None,
    prices: str | Path | None = None,
    **options: Any,
) -> Result:
    """Run one step over files of any kind, or over rows, and keep what it kept and what it dropped.

    Args:
        step: a step's name such as `score.math`, `path.py:Class`, or a step.
        rows: JSONL, JSON, CSV or Parquet files or folders; or rows.
        out: where to write; default: `runs/apply-STEP`, or a temporary folder when rows were given.
        map: which field of the files is what, for example `{"prompt": "question", "reference": "truth"}`.
        limit: read at most so many rows.
        budget: most US dollars to spend, over all sessions of the folder; default: no cap.
        tolerate: largest share (0 to 1) of the rows that may be lost to refusals and failures; default: any.
        prices: a file with prices that go before the package's own.
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
        with prices_from(prices):
            return _execute(recipe, target, progress=progress, budget=budget, tolerate=tolerate)


def plan(
    recipe: str | Path | Recipe,
    *,
    pilot: int = 16,
    pilot_seed: int | None = 0,
    budget: float | None = None,
    concurrency: int | None = None,
    rpm: float | None = None,
    tpm: float | None = None,
    prices: str | Path | None = None,
    progress: Progress = "none",
    **params: Any,
) -> Plan:
    """Say what a recipe will take - rows, calls, tokens, money, time - from a pilot; its answers are cached, not wasted.

    Steps that train, and those that depend on them, are listed but not measured.

    Args:
        recipe: a shipped recipe's name, `path.py`, a stored `recipe.json`, or a Recipe.
        pilot: how many rows of each source to try.
        pilot_seed: which rows: drawn at random with this seed; None takes the first ones.
        budget: most US dollars the pilot may spend; default: no cap.
        concurrency: as for `run`; the time is estimated for it.
        rpm: as for `run`.
        tpm: as for `run`.
        prices: a file with prices that go before the package's own; default: LIMBECK_PRICES.
        progress: what to show of the pilot: `auto`, `plain`, `json` or `none`.
        params: the recipe's own parameters.

    Raises:
        UsageError: the recipe, a parameter or the price file is wrong.
        BudgetReached: the pilot would cost more than `budget`; what it has bought is in the cache.
    """
    from limbeck.engine.forecast import forecast

    made = load_recipe(recipe, params)
    with prices_from(prices), _listener(progress) as listen:
        try:
            limits = Limits.given(concurrency, rpm, tpm)
            return forecast(
                made, pilot=pilot, seed=pilot_seed, budget=budget, limits=limits, listen=listen, drive=_drive
            )
        except Interrupted as stop:
            raise KeyboardInterrupt(str(stop)) from None


def status(folder: str | Path) -> list[dict[str, Any]]:
    """Return where each step of a run stands: done or not, why it would run again, rows, and what it has cost so far.

    Correct also for a run that is under way, or was killed. Raises UsageError if the folder holds no run.
    """
    from limbeck.engine.status import steps

    return steps(run_folder(folder))


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


@contextmanager
def prices_from(file: str | Path | None) -> Iterator[None]:
    """Use a file of prices before the package's own, as long as the context is entered. Raises UsageError for a bad one."""
    if file is None:
        yield
        return
    from limbeck.core.prices import check_file

    check_file(file)
    before = os.environ.get("LIMBECK_PRICES")
    os.environ["LIMBECK_PRICES"] = str(file)
    try:
        yield
    finally:
        os.environ.pop("LIMBECK_PRICES") if before is None else os.environ.__setitem__("LIMBECK_PRICES", before)


def _execute(
    recipe: Recipe,
    target: str | Path,
    *,
    progress: Progress,
    report: bool = False,
    backend: Backend = "local",
    **settings: Any,
) -> Result:
    seed = int(recipe.params.get("seed", 0) or 0)
    with _listener(progress) as listen:
        job = _backend(backend)(
            recipe, target if backend == "ray" else Path(target), listen=listen, seed=seed, **settings
        )
        try:
            _drive(job.run())
        except Interrupted as stop:
            raise KeyboardInterrupt(str(stop)) from None
        folder = job.folder.path
        page = _report(folder) if report else None
        job.publish()
        listen({"event": "end", "report": str(page) if page else None})
    result = Result(folder=folder, steps={n.name: n.folder.summary() for n in job.nodes.values()})
    if report and (sentence := starved(result)):
        raise StepError(sentence)
    if job.tolerate is not None:
        _check_tolerance(job.lost(), job.tolerate, folder)
    return result


def _backend(name: Backend) -> Any:
    if name == "ray":
        from limbeck.engine.ray import RayRun

        return RayRun
    if name != "local":
        raise UsageError(f"There is no backend '{name}': it is local or ray.")
    from limbeck.engine.local import LocalRun

    return LocalRun


def _check_tolerance(lost: Mapping[str, Mapping[str, int]], tolerate: float, folder: Path) -> None:
    """Raise ToleranceExceeded for the step that lost the largest share of its rows, if that is too large."""
    shares = {
        name: sum(n for k, n in counts.items() if k != "in") / max(1, counts["in"]) for name, counts in lost.items()
    }
    worst = max(shares, key=lambda name: shares[name], default=None)
    if worst is None or shares[worst] <= tolerate:
        return
    told = ", ".join(f"{n:,} {k}" for k, n in lost[worst].items() if k != "in")
    raise ToleranceExceeded(
        f"Step '{worst}' lost {100 * shares[worst]:.2g} % of its {lost[worst]['in']:,} rows ({told}), more than the "
        f"{100 * tolerate:g} % that --tolerate allows. The rows and their reasons are in dropped.parquet under {folder}; "
        "with --retry-dropped the same command asks for them again."
    )


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
    from limbeck.engine.status import costs
    from limbeck.view.report import write

    return write(folder, {name: total.record() for name, total in costs(folder).items()})


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


def report(folder: str | Path) -> Path:
    """Write the report of a run folder again and return its path."""
    return _report(run_folder(folder))


def export(folder: str | Path, format_: str, out: Path | None = None) -> tuple[Path, int]:
    """Write a step's kept rows in a trainer's format: trl, axolotl, llamafactory, openai or hf."""
    from limbeck.engine.export import export as write

    return write(Path(folder), format_, out)
