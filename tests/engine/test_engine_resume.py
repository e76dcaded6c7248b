"""Going on: what is not redone, what is, why; and that what comes out is the same, byte for byte."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from engine_parts import TEACHER, Answered, Broken, Count, Half, Numbers, Odd, OnlyOdd, Train, asking, pipeline, rounds

from limbeck import Recipe, api
from limbeck.core.errors import EndpointError, StepError, StorageError, TeacherError, UnknownName, WrongFolder
from limbeck.core.row import Row
from running import PARTS, lines, timeless


def go(folder: Path, recipe: Recipe | None = None, **changes: Any) -> api.Result:
    return api.run(recipe or pipeline(**changes), out=folder, report=False)


def why(folder: Path) -> dict[str, str]:
    return {s["name"]: s["why"] for s in api.status(folder) if not s["done"]}


def stored(folder: Path, recipe: Recipe) -> None:
    """Write a changed recipe where `status` reads it, as a run that was stopped at once would."""
    (folder / "recipe.json").write_text(json.dumps(recipe.to_json()))


def test_a_finished_run_is_not_redone(tmp_path: Path, calls: Path, marks: Path) -> None:
    first = go(tmp_path / "run")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*.parquet")}
    bought, done = len(lines(calls)), lines(marks)
    second = go(tmp_path / "run")
    assert len(lines(calls)) == bought == 26 and lines(marks) == done
    assert (
        before == {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*.parquet")}
        and first.steps == second.steps
    )
    assert why(tmp_path / "run") == {}


def test_another_folder_and_the_same_cache_buy_nothing_and_give_the_same_bytes(tmp_path: Path, calls: Path) -> None:
    go(tmp_path / "one")
    bought = len(lines(calls))
    second = go(tmp_path / "two")
    usage = second.steps["answered"]["usage"]
    assert len(lines(calls)) == bought and {k: v for k, v in usage.items() if v} == {"cached": 52}
    for path in (tmp_path / "one").rglob("*.parquet"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes(), path


def test_changing_a_late_option_reuses_everything_before_it(tmp_path: Path, calls: Path, marks: Path) -> None:
    go(tmp_path / "run")
    stamps = {n: (tmp_path / "run" / n / "kept.parquet").stat().st_mtime_ns for n in ("01-numbers", "02-answered")}
    bought = len(lines(calls))
    stored(tmp_path / "run", pipeline(weight=2.0))
    assert why(tmp_path / "run") == {
        "odd": "its options changed (weight: 1.0 -> 2.0)",
        "onlyodd": "what it reads from 'odd' changed",
        "half": "what it reads from 'onlyodd' changed",
        "count": "what it reads from 'half' changed",
    }
    go(tmp_path / "run", weight=2.0)
    assert len(lines(calls)) == bought and lines(marks).count("half") == 2
    assert stamps == {n: (tmp_path / "run" / n / "kept.parquet").stat().st_mtime_ns for n in stamps}


def test_changing_a_sampling_parameter_reruns_what_depends_on_it(tmp_path: Path, calls: Path) -> None:
    go(tmp_path / "run")
    bought = len(lines(calls))
    go(tmp_path / "run", temperature=0.5)
    assert (
        len(lines(calls)) == 2 * bought
        and api.status(tmp_path / "run")[1]["why"] == "done; nothing that it depends on has changed"
    )
    go(tmp_path / "run")
    assert len(lines(calls)) == 2 * bought, "the first answers are still in the cache"
    go(tmp_path / "run", n=3)
    assert len(lines(calls)) == 3 * bought and lines(calls)[-1].endswith("[2]"), "only the third sample is bought"


def test_status_says_why_in_one_sentence(tmp_path: Path) -> None:
    watched = tmp_path / "words.txt"
    watched.write_text("a")

    class Reads(Odd):
        path: str = str(watched)

        def watch(self) -> Sequence[Path]:
            return (Path(self.path),)

    steps: list[Any] = [Numbers(count=4), Answered(), Reads(name="reads"), Half()]
    go(tmp_path / "run", Recipe(steps=steps))
    watched.write_text("b")
    found = {n.name: n for n in _nodes(tmp_path / "run", steps)}
    from limbeck.engine.plan import why as say

    assert say(found["answered"]) == "done; nothing that it depends on has changed"
    assert (
        say(found["reads"]) == "a file or model that it reads changed"
        and say(found["half"]) == "what it reads from 'reads' changed"
    )
    record = tmp_path / "run" / "04-half" / "step.json"
    summary = json.loads(record.read_text())
    record.write_text(json.dumps(summary | {"code": "0", "inputs": found["half"].inputs}))
    assert say(found["half"]) == "its code changed"
    record.write_text(json.dumps(summary | {"step": "curate.near"}))
    assert say(found["half"]).startswith("it is now ") and say(found["half"]).endswith(":Half, not curate.near")
    (tmp_path / "run" / "04-half" / "done").unlink()
    assert say(found["half"]) == "not run yet"
    (tmp_path / "run" / "04-half" / "begun").write_text("x")
    assert say(found["half"]) == "begun but not finished"


def _nodes(folder: Path, steps: Sequence[Any]) -> Any:
    from limbeck.engine.plan import nodes
    from limbeck.engine.rundir import RunFolder

    return nodes(Recipe(steps=steps), RunFolder(folder)).values()


def test_another_model_under_the_same_name_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own.py"
    own.write_text(
        f"import sys\nsys.path.insert(0, {str(PARTS.parent)!r})\nfrom engine_parts import Teach\n"
        "class Own(Teach):\n    identity = 'a'\n"
    )
    recipe = Recipe(steps=[Numbers(count=2), Answered(teacher=str(own))])
    go(tmp_path / "run", recipe)
    from limbeck.core.find import find_teacher

    monkeypatch.setattr(find_teacher(str(own)), "identity", "b")
    assert why(tmp_path / "run") == {"answered": "a file or model that it reads changed"}


def test_a_step_that_left_the_recipe_is_put_aside_and_numbers_move(tmp_path: Path, calls: Path) -> None:
    go(tmp_path / "run", Recipe(steps=[Numbers(), Answered(), Odd(), OnlyOdd(), Half(), Count()]))
    bought = len(lines(calls))
    go(tmp_path / "run", Recipe(steps=[Numbers(), Answered(), Half(after="answered"), Count()]))
    names = [f.name for f in sorted((tmp_path / "run").glob("0*"))]
    assert names == ["01-numbers", "02-answered", "03-half", "04-count"] and len(lines(calls)) == bought
    assert sorted(f.name for f in (tmp_path / "run" / ".stale").iterdir()) == ["03-odd", "04-onlyodd"]


def test_a_folder_of_another_recipe_is_refused(tmp_path: Path) -> None:
    go(tmp_path / "run", Recipe(steps=[Numbers()], name="a"))
    with pytest.raises(WrongFolder, match="holds a run of the recipe 'a', not 'b'"):
        go(tmp_path / "run", Recipe(steps=[Numbers()], name="b"))


def test_a_stored_recipe_runs_again(tmp_path: Path, calls: Path) -> None:
    first = api.run(PARTS.with_name("engine_parts.py:pipeline"), out=tmp_path / "one", report=False, count="8")
    bought = len(lines(calls))
    again = api.run(tmp_path / "one" / "recipe.json", out=tmp_path / "two", report=False)
    assert len(lines(calls)) == bought and [r.id for r in again.rows("half")] == [r.id for r in first.rows("half")]
    go_on = api.run(tmp_path / "one" / "recipe.json", out=tmp_path / "one", report=False)
    assert go_on.steps == first.steps
    assert json.loads((tmp_path / "two" / "recipe.json").read_text()) == json.loads(
        (tmp_path / "one" / "recipe.json").read_text()
    )


def test_a_step_whose_folder_was_removed_is_made_again(tmp_path: Path) -> None:
    result = go(tmp_path / "run")
    ids = [r.id for r in result.rows("onlyodd")]
    shutil.rmtree(result.path("onlyodd"))
    assert [r.id for r in go(tmp_path / "run").rows("onlyodd")] == ids


def test_branches_that_join_say_where_a_row_came_from(tmp_path: Path) -> None:
    steps = [Numbers(count=3), Answered(name="a"), Answered(name="b", after="numbers", n=2), Half(after=("a", "b"))]
    rows = go(tmp_path / "run", Recipe(steps=steps)).rows("half")
    assert [r.labels["branch"] for r in rows] == ["a", "a", "b", "b", "b"]


def test_a_chain_that_was_half_finished_goes_on_with_the_same_rows(tmp_path: Path) -> None:
    """What a fused chain makes in one breath is what it makes when its head is read back from the disk."""
    words = "cut \ud83d tö"
    whole = go(tmp_path / "one", words=words)
    go(tmp_path / "two", Recipe(steps=pipeline(words=words).steps[:1]))
    parted = go(tmp_path / "two", words=words)
    for name in ("answered", "odd", "onlyodd", "half"):
        assert whole.rows(name) == parted.rows(name) and len(parted.rows(name)) > 0
        assert whole.rows(name, dropped=True) == parted.rows(name, dropped=True)


def test_an_endpoint_at_fault_stops_the_run_and_keeps_what_was_paid_for(tmp_path: Path, calls: Path) -> None:
    with pytest.raises(EndpointError, match="is the server running"):
        go(tmp_path / "run", asking("endpoint", count=40))
    bought = {line.split()[2] for line in lines(calls)} - {"5"}
    ledger = [json.loads(line) for line in lines(tmp_path / "run" / "ledger.jsonl")]
    assert ledger[0]["step"] == "answered" and 0 < ledger[0]["answers"] <= len(bought)
    assert list((tmp_path / "run").rglob("*.tmp")) == [] and not list((tmp_path / "run").rglob("done"))


def test_a_refused_request_is_one_dropped_row_tried_once(tmp_path: Path, calls: Path) -> None:
    result = go(tmp_path / "run", asking("refuse", count=30))
    dropped = result.rows("answered", dropped=True)
    assert len(dropped) == 10 and dropped[0].dropped == "engine_parts.py:Answered: refused: it is against the policy"
    assert result.steps["answered"]["reasons"] == {"engine_parts.py:Answered: refused: it is against the policy": 10}
    assert len(lines(calls)) == 30


def test_a_step_that_is_broken_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(StepError, match="failed on each of its first 20 rows"):
        go(tmp_path / "run", Recipe(steps=[Numbers(count=50), Broken()]))
    result = go(tmp_path / "other", Recipe(steps=[Numbers(count=50), Broken(every=9, kind="OSError"), Odd2()]))
    assert result.steps["broken"]["rows"] == {"in": 50, "kept": 44, "dropped": 6}


class Odd2(Odd):
    """Passes rows on."""

    def each(self, row: Row) -> Row:
        return row


def test_a_barrier_that_fails_is_one_sentence_and_what_came_before_is_kept(tmp_path: Path, calls: Path) -> None:
    with pytest.raises(StepError, match=r"^Step 'half' \(.*:Half\) failed: ValueError: nothing is whole$"):
        go(tmp_path / "run", Recipe(steps=[Numbers(), Answered(), Half(explode=True)]))
    bought = len(lines(calls))
    go(tmp_path / "run", Recipe(steps=[Numbers(), Answered(), Half()]))
    assert len(lines(calls)) == bought


def test_a_teacher_of_a_kind_that_does_not_exist_stops_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="There is no teacher 'opnai'"):
        go(tmp_path / "run", asking(teacher="opnai:gpt"))
    with pytest.raises(TeacherError, match="gave 0 answers where 1 were asked for"):
        go(tmp_path / "run", asking("few"))


def test_a_loop_trains_in_each_round_and_goes_on(tmp_path: Path, marks: Path) -> None:
    recipe = rounds(2)
    result = go(tmp_path / "run", recipe)
    assert list(result.steps) == ["numbers", "sample-1", "half-1", "student-1", "sample-2", "half-2", "student-2"]
    go(tmp_path / "run", rounds(3))
    assert sum(line.startswith("train") for line in lines(marks)) == 3, "two rounds were reused, the third is new"


def test_a_make_step_applies_others_and_sees_progress(tmp_path: Path) -> None:
    recipe = Recipe(steps=[Numbers(count=5), Count(apply=f"{PARTS}:Answered")], params={"seed": 3})
    result = go(tmp_path / "run", recipe)
    assert (result.path("count") / "count.txt").read_text() == "5 3" and len(result.rows("count")) == 5
    assert result.steps["count"]["usage"]["answers"] == 5
    halves = go(tmp_path / "other", Recipe(steps=[Numbers(count=5), Count(apply=f"{PARTS}:Half")]))
    assert len(halves.rows("count")) == 3 and len(halves.rows("count", dropped=True)) == 2


def test_a_run_works_where_a_loop_is_running_already(tmp_path: Path) -> None:
    """As in a notebook."""

    async def cell() -> api.Result:
        return go(tmp_path / "run")

    assert asyncio.run(cell()).steps["half"]["rows"]["kept"] == 13


def test_a_read_only_or_full_place_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="could not be written"):
        go(tmp_path / "file" / "run")


def test_plan_scales_a_pilot_up_and_buys_it_once(tmp_path: Path, calls: Path) -> None:
    recipe = Recipe(
        steps=[
            Numbers(count=100, bad=10),
            Answered(n=2),
            Odd(),
            Train(),
            Answered(name="own", after="numbers", teacher="step:train"),
        ]
    )
    lines_ = {e.step: e for e in api.plan(recipe, pilot=10)}
    answered = lines_["answered"]
    assert (answered.rows, answered.calls, answered.answers, answered.tokens_out) == (200, 100, 200, 600)
    assert [lines_[n].measured for n in ("numbers", "odd", "train", "own")] == [True, True, False, False]
    assert len(lines(calls)) in (9, 10), "the pilot is a sample of the source, which has a bad record in ten"
    go(tmp_path / "run", Recipe(steps=recipe.steps[:3]))
    assert len(lines(calls)) == 90, "the pilot's answers are not bought again"


def test_rows_of_any_step_can_be_asked_for(tmp_path: Path) -> None:
    result = go(tmp_path / "run")
    assert timeless(result.rows("odd")[0]) and TEACHER
    with pytest.raises(UnknownName, match=r"has no step 'hlaf'\. Did you mean 'half'\?"):
        result.rows("hlaf")
