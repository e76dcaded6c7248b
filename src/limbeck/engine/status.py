"""Where a run stands: which steps are done, what is left to do and why, and what each has cost so far.

    steps(Path("runs/first"))
    [{"name": "sample", "step": "generate.sample", "state": "under way", "done": False, "why": "begun but not finished",
      "rows": None, "rows_in": 7473, "usage": {"calls": 1503, "answers": 12024, "tokens_in": 142113, "usd": 1.91, ...}, ...}]

Correct at any moment, also while the run goes on in another process or after it was killed: a step without a `done` is not done,
and what it has cost is what `ledger.jsonl` says or, where that is more, what the cache says: there the money is stored together
with the answer that it bought. Nothing is written. What was under way when a session was killed is an entry of its own, without a
step: nobody knows whether it was charged.
"""

from __future__ import annotations

import fcntl
import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from limbeck.core import ledger
from limbeck.core.errors import LimbeckError
from limbeck.core.ledger import PAID, Total
from limbeck.core.recipe import Recipe, after_of
from limbeck.core.step import Source
from limbeck.engine.cache import default_path
from limbeck.engine.plan import Node, nodes, why
from limbeck.engine.result import read_json
from limbeck.engine.rundir import RunFolder, StepFolder

UNDER_WAY, BEGUN, TO_DO, AGAIN, DONE = "under way", "begun", "to do", "to do again", "done"


def steps(path: Path) -> list[dict[str, Any]]:
    """Return the facts of each step of the run in the folder `path`, in order."""
    recipe = read_json(path / "recipe.json")
    paid, busy = costs(path), under_way(path)
    try:
        found = nodes(Recipe.from_json(recipe), RunFolder(path))
        facts = [_facts(node, found, paid, busy) for node in found.values()]
    except LimbeckError as error:  # a file that it read is gone, or lies elsewhere: what was done is still done
        facts = [
            _as_it_lies(path, place, step, paid, str(error)) for place, step in enumerate(recipe["steps"], start=1)
        ]
    names = {fact["name"] for fact in facts}
    return facts + [_other(name, total) for name, total in paid.items() if name not in names and total.at_risk]


def costs(path: Path) -> dict[str, Total]:
    """Return what each step has cost so far: what the ledger says, or the cache where it knows of more."""
    totals = ledger.read(path / "ledger.jsonl")
    for step, known in _in_cache(_run_id(path)).items():
        total = totals.setdefault(step, Total())
        for name in PAID:  # the ledger gets what a killed session has spent only when the run goes on
            setattr(total, name, max(getattr(total, name), getattr(known, name)))
    return totals


def under_way(path: Path) -> bool:
    """Whether a run is writing to the folder now."""
    try:
        with (path / ".lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _facts(node: Node, found: Mapping[str, Node], paid: Mapping[str, Total], busy: bool) -> dict[str, Any]:
    told = {
        "done": node.done,
        "state": _state(node.folder, node.done, busy),
        "why": why(node),
        "rows_in": _rows_in(node, found),
    }
    return {"name": node.name, "step": node.step.called(), **told, **_known(node.name, node.folder, paid)}


def _as_it_lies(
    path: Path, place: int, step: Mapping[str, Any], paid: Mapping[str, Total], error: str
) -> dict[str, Any]:
    """Return the facts of a step of which nobody can say whether it would run again."""
    folder = StepFolder(path / f"{place:02d}-{step['name']}")
    done = folder.print_done() is not None
    why = f"{'done, but whether it would run again can not be said' if done else 'not done'}: {error}"
    told = {"done": done, "state": _state(folder, done, busy=False), "why": why, "rows_in": None}
    return {"name": step["name"], "step": step["use"], **told, **_known(step["name"], folder, paid)}


def _known(name: str, folder: StepFolder, paid: Mapping[str, Total]) -> dict[str, Any]:
    summary = folder.summary()
    usage = paid[name].record() if name in paid else summary.get("usage")
    return {**{key: summary.get(key) for key in ("rows", "reasons", "seconds", "lost")}, "usage": usage}


def _other(name: str, total: Total) -> dict[str, Any]:
    """Return the entry of what belongs to no step: what was under way when a session was killed."""
    empty = dict.fromkeys(("rows", "reasons", "seconds", "lost", "rows_in"))
    why = "their replies never came; they may have been charged"
    return {"name": name, "step": "", "done": True, "state": DONE, "why": why, **empty, "usage": total.record()}


def _state(folder: StepFolder, done: bool, busy: bool) -> str:
    if done:
        return DONE
    if folder.print_begun() is not None:
        return UNDER_WAY if busy else BEGUN
    return AGAIN if folder.print_done() is not None else TO_DO


def _rows_in(node: Node, found: Mapping[str, Node]) -> int | None:
    """Return how many rows the step reads, where that is known already."""
    if isinstance(node.step, Source):
        return node.step.size()
    before = [found[name] for name in after_of(node.step)]
    if not all(other.done for other in before):
        return None
    return sum(int(other.folder.summary()["rows"]["kept"]) for other in before)


def _run_id(path: Path) -> str:
    try:
        return str(json.loads((path / "env.json").read_text(encoding="utf-8")).get("run") or "")
    except (OSError, ValueError, AttributeError):
        return ""


def _in_cache(run: str) -> dict[str, Total]:
    """Return what the cache says that a run has paid; nothing where there is no cache, or it can not be read now."""
    path = default_path()
    if not run or not path.is_file():
        return {}
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5)
    except sqlite3.Error:
        return {}
    try:
        rows = connection.execute(f"SELECT step, {', '.join(PAID)} FROM spent WHERE run = ?", (run,)).fetchall()
    except sqlite3.Error:
        return {}
    finally:
        connection.close()
    return {row[0]: Total(**dict(zip(PAID, row[1:], strict=True))) for row in rows}
