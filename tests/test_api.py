"""The facade: what a program and a notebook call. The engine behind it is tested in tests/engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import limbeck
from limbeck import Message, Recipe, Row, api
from limbeck.core.errors import InputError, UnknownName, UsageError
from limbeck.core.find import find_step
from limbeck.core.row import new_row
from running import PARTS


def rows(count: int = 6) -> list[Row]:
    return [
        new_row(
            messages=[
                Message(role="user", content=f"{i}+1?"),
                Message(role="assistant", content=f"Answer: {i + i % 2}"),
            ],
            made_by={"i": i},
            task={"kind": "math", "reference": str(i + 1)},
        )
        for i in range(count)
    ]


def test_a_step_is_applied_to_rows_in_memory() -> None:
    given = rows()
    result = limbeck.apply("score.math", given)
    judged = result.rows("math")
    assert [r.id for r in judged] == [r.id for r in given] and [r.scores["verified"] for r in judged] == [0, 1] * 3
    assert result.folder.is_dir() and result.steps["math"]["rows"] == {"in": 6, "kept": 6, "dropped": 0}


def test_a_step_is_applied_to_files_with_a_map(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"q": "2+3?", "a": "Answer: 5", "ref": "5", "why": [1]}\n')
    (tmp_path / "b.jsonl").write_text('{"q": "2+4?", "a": "Answer: 5", "ref": "6", "why": [2]}\n')
    mapping = {"prompt": "q", "response": "a", "reference": "ref"}
    both = [tmp_path / "a.jsonl", str(tmp_path / "b.jsonl")]
    result = api.apply("score.math", both, map=mapping, out=tmp_path / "run", tolerance=0.5)
    judged = result.rows("math")
    assert [r.scores["verified"] for r in judged] == [1.0, 1.0] and judged[0].extra["why"] == [1]
    one = api.apply("score.math", tmp_path / "a.jsonl", map=mapping, out=tmp_path / "one")
    assert len(one.rows("math")) == 1
    first = api.apply("score.math", both, map=mapping, out=tmp_path / "first", limit=1)
    assert len(first.rows("math")) == 1 and first.folder == tmp_path / "first"


def test_a_step_object_and_a_source_are_applied(tmp_path: Path) -> None:
    step = find_step("select.first")(k=2)
    shared = [r.child(r.messages, made_by={"s": s}) for r in rows(2) for s in range(3)]
    result = api.apply(step, shared, out=tmp_path / "run")
    assert len(result.rows("first")) == 4 and len(result.rows("first", dropped=True)) == 2
    made = api.apply("seeds.tasks", [], count=5, out=tmp_path / "tasks")
    assert len(made.rows("tasks")) == 5
    (tmp_path / "a.jsonl").write_text('{"q": "2+3?"}\n{"q": "2+4?"}\n')
    read = api.apply(
        "seeds.files", [], path=str(tmp_path / "a.jsonl"), map={"prompt": "q"}, limit=1, out=tmp_path / "read"
    )
    assert [r.question for r in read.rows("files")] == ["2+3?"]


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"score\.math has no option 'tol'"):
        api.apply("score.math", rows(), tol=1)
    with pytest.raises(UsageError, match=r"score\.math has nothing to read"):
        api.apply("score.math", [])
    with pytest.raises(UsageError, match="makes rows and reads none"):
        api.apply("seeds.tasks", rows())
    with pytest.raises(UnknownName, match="has no parameter 'cuont'"):
        api.run(f"{PARTS}:pipeline", cuont=1)
    with pytest.raises(UsageError, match="holds no run"):
        api.status(tmp_path)
    (tmp_path / "recipe.json").write_text("{")
    with pytest.raises(InputError, match=r"recipe\.json is not JSON"):
        api.status(tmp_path)


def test_a_misspelt_option_in_a_program_names_its_line() -> None:
    with pytest.raises(
        UsageError, match=r"^test_api\.py:\d+: score\.math has no option 'tolernce'\. Did you mean 'tolerance'\?$"
    ):
        api.apply("score.math", rows(), tolernce=1)


def test_status_names_the_runs_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    api.run(f"{PARTS}:source_only", report=False)
    with pytest.raises(
        UsageError, match=r"nowhere holds no run \(no recipe\.json\)\. Runs here: engine_parts \(in runs/\)\."
    ):
        api.status("nowhere")
    assert [s["name"] for s in api.status("runs/engine_parts")] == ["numbers"]


def test_parameters_are_stored_with_the_recipe(tmp_path: Path) -> None:
    api.run(f"{PARTS}:source_only", count="4", out=tmp_path / "run", report=False)
    stored = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert stored["name"] == "engine_parts" and stored["params"] == {"count": 4, "explode": -1}


def test_diff_says_what_changed_step_by_step(tmp_path: Path) -> None:
    for name, options in (("left", {"n": 1}), ("right", {"n": 2, "weight": 2.0})):
        api.run(f"{PARTS}:pipeline", count=6, out=tmp_path / name, report=False, **options)
    found = {d["name"]: d for d in api.diff(tmp_path / "left", tmp_path / "right")}
    assert found["answered"]["options"] == {"n": (1, 2)} and found["odd"]["options"] == {"weight": (1.0, 2.0)}
    assert found["answered"]["rows"][0]["kept"] == 6 and found["answered"]["rows"][1]["kept"] == 12
    assert "numbers" not in found and all(d["only"] is None for d in found.values())
    api.run(f"{PARTS}:source_only", count=6, out=tmp_path / "short", report=False)
    assert {d["name"]: d["only"] for d in api.diff(tmp_path / "left", tmp_path / "short")}["half"] == "left"


def test_the_summary_of_a_run_is_for_people(tmp_path: Path) -> None:
    summary = api.summary(api.apply("score.math", rows(), out=tmp_path / "run"))
    assert summary["scores"] == {"math": (0.5, 6), "verified": (0.5, 6)} and summary["problem"] is None
    assert summary["labels"] == {"verdict pass": 3, "verdict wrong": 3}
    dropped = api.summary(api.apply("select.threshold", rows(), out=tmp_path / "none"))
    assert (
        dropped["problem"] == "select.threshold dropped every row; the reasons are above, the rows in dropped.parquet."
    )
    assert dropped["reasons"] == {"select.threshold: not scored": 6}


def test_a_run_that_drops_everything_says_so(tmp_path: Path) -> None:
    with pytest.raises(limbeck.core.errors.StepError, match="Step 'threshold' dropped all of its 4 rows"):
        steps: list[Any] = [find_step(f"{PARTS}:Numbers")(count=4), find_step("select.threshold")()]
        api.run(Recipe(steps=steps), out=tmp_path / "run")
    assert (tmp_path / "run" / "02-threshold" / "done").exists(), "everything is kept, also then"


def test_a_recipe_must_be_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def mine(): return [1]\ndef broken(): raise KeyError('x')\n")
    with pytest.raises(UsageError, match="returned list, not a Recipe"):
        api.run(tmp_path / "mine.py")
    with pytest.raises(UsageError, match=r"mine\.py:2: the recipe failed with KeyError: 'x'\."):
        api.run(f"{tmp_path}/mine.py:broken")
