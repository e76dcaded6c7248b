"""Laws of rows, for every step that there is: nothing vanishes, scores never drop, selection never scores, all is repeatable."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from limbeck import Message, Recipe, api
from limbeck.core.find import find_step, step_names
from limbeck.core.row import Row, new_row
from limbeck.core.step import Each, Make, Source, Whole
from limbeck.engine.rundir import read_rows
from running import PARTS

OPTIONS: dict[str, dict[str, Any]] = {
    "generate.sample": {"teacher": "echo:Answer: {sample}", "n": 2},
    "generate.until_pass": {"teacher": "echo:Answer: {sample}", "most": 2, "verifier": "score.math", "seed": 1},
    "curate.confirm": {"teacher": "echo"},
    "curate.decontaminate": {"against": (str(Path(__file__).with_name("evaluation_items.jsonl")),)},
    "select.quota": {"label": "family", "most": 3},
    "select.diverse": {"n": 4},
    "score.judge": {"teacher": "echo:4", "overall": False},
    "mix.weights": {"weights": {"word": 1.0, "chain": 2.0}, "by": "family"},
    "seeds.files": {},
    "seeds.tasks": {"count": 20},
}
"""The options of the steps that have required ones; a new step with such options is added here."""
GROWS = ("generate.", "prompts.", "mix.")
MODEL = ("curate.semantic", "score.reward", "score.process_reward", "score.quality")
"""What needs weights that do not come with the package; its own test makes some."""
PASSING = [n for n in step_names() if issubclass(find_step(n), Each | Whole) and not n.startswith((*GROWS, *MODEL))]
GROWING = [n for n in step_names() if issubclass(find_step(n), Each | Whole) and n.startswith(GROWS)]


def sample_rows() -> list[Row]:
    """Rows of every task kind: gold, wrong, without response, without reference, duplicates; half of them scored."""
    rows: list[Row] = []
    for kind in ("math", "exact", "program", "tools", "format"):
        rows += [row for row, _ in find_step(f"score.{kind}").validate()]  # type: ignore[attr-defined]
    rows.append(
        new_row(
            messages=[Message(role="user", content="2+3?")], made_by={"i": 0}, task={"kind": "math", "reference": "5"}
        )
    )
    rows.append(new_row(messages=[Message(role="user", content="odd \ud800")], made_by={"i": 1}))
    rows.append(new_row(messages=[], made_by={"i": 2}, extra={"nothing": None}))
    labelled = [row.with_labels(family=("word", "chain")[i % 2]) for i, row in enumerate(rows)]
    scored = [row.with_scores(verified=float(i % 4 == 0)) if i % 2 else row for i, row in enumerate(labelled)]
    twice = [
        new_row(messages=row.messages, made_by={"copy": i}, group=row.group, labels=row.labels)
        for i, row in enumerate(scored[:5])
    ]
    return [*scored, *twice]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return sample_rows()


def applied(name: str, rows: list[Row], folder: Path) -> tuple[list[Row], list[Row], api.Result]:
    result = api.apply(find_step(name)(**OPTIONS.get(name, {})), rows, out=folder)
    last = list(result.steps)[-1]
    return result.rows(last), result.rows(last, dropped=True), result


def counted(rows: list[Row]) -> Counter[str]:
    return Counter(row.id for row in rows)


@pytest.mark.parametrize("name", PASSING)
def test_kept_and_dropped_are_what_came_in(name: str, rows: list[Row], tmp_path: Path) -> None:
    kept, dropped, result = applied(name, rows, tmp_path / "run")
    assert counted(kept) + counted(dropped) == counted(rows)
    step = result.steps[list(result.steps)[-1]]
    assert step["rows"] == {"in": len(rows), "kept": len(kept), "dropped": len(dropped)}
    assert all(row.dropped and row.dropped.startswith(f"{name}: ") for row in dropped), [r.dropped for r in dropped]
    before = {row.id: row for row in rows}
    assert all(row.messages == before[row.id].messages and row.task == before[row.id].task for row in kept)
    if name.startswith("score."):
        assert dropped == [], "score steps never drop"
    if name.startswith(("select.", "curate.")):
        assert all(row.scores == before[row.id].scores for row in [*kept, *dropped]), "select steps never score"


@pytest.mark.parametrize("name", GROWING)
def test_every_row_that_came_in_went_somewhere(name: str, rows: list[Row], tmp_path: Path) -> None:
    kept, dropped, _ = applied(name, rows, tmp_path / "run")
    left = {row.id for row in rows} - {i for row in [*kept, *dropped] for i in (row.id, *row.parents)}
    assert left == set(), f"{name} lost rows without a reason"
    known = {row.id for row in rows}
    assert all(parent in known for row in kept for parent in row.parents), "every ancestor exists"


def test_every_step_is_under_these_laws() -> None:
    covered = {*PASSING, *GROWING, *MODEL}
    rest = [n for n in step_names() if n not in covered]
    assert all(issubclass(find_step(n), Source | Make) for n in rest), rest


def loop(folder: Path) -> api.Result:
    steps: list[Any] = [
        find_step("seeds.tasks")(count=24, seed=3),
        find_step(f"{PARTS}:Answered")(n=3),
        find_step("score.math")(),
        find_step("select.first")(k=2),
        find_step("curate.exact")(),
    ]
    return api.run(Recipe(steps=steps, name="law"), out=folder, report=False)


def test_every_ancestor_exists_and_the_same_recipe_gives_the_same_bytes(tmp_path: Path) -> None:
    one, two = loop(tmp_path / "one"), loop(tmp_path / "two")
    files = sorted(one.folder.glob("0*/*.parquet"))
    everything = [row for file in files for row in read_rows(file)]
    known = {row.id for row in everything}
    assert len(files) == 10 and all(parent in known for row in everything for parent in row.parents)
    for file in files:
        assert file.read_bytes() == (two.folder / file.relative_to(one.folder)).read_bytes(), file


@pytest.mark.parametrize("name", [n for n in step_names() if issubclass(find_step(n), Source)])
def test_a_source_gives_the_same_rows_each_time(name: str, tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text('{"prompt": "2+3?", "response": "5"}\n{"prompt": "a"}\n3\n')
    options = {"path": str(tmp_path / "data.jsonl")} if name == "seeds.files" else OPTIONS.get(name, {})
    first, second = (list(find_step(name)(**options).rows()) for _ in range(2))  # type: ignore[attr-defined]
    assert first == second and len(first) >= 3
