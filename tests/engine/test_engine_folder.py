"""The run folder, plans and reasons: what `ls` shows, what reruns and why, and whose folder it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from engine_parts import Answered, Broken, Count, Half, Numbers, Odd, OnlyOdd, Train, pipeline

from limbeck import Loop, Recipe, api
from limbeck.core.errors import SealedError, StepError, StorageError, WrongFolder
from limbeck.core.row import Row, new_row
from limbeck.engine.plan import chains, nodes
from limbeck.engine.rundir import RowWriter, RunFolder, StepFolder, read_rows, short_reason, storing, write_json


def units(*steps: Any, folder: Path) -> list[list[str]]:
    found = nodes(Recipe(steps=steps), RunFolder(folder))
    return [[node.name for node in unit] for unit in chains(found)]


def test_streaming_steps_are_fused_and_barriers_stand_alone(tmp_path: Path) -> None:
    assert units(Numbers(), Answered(), Odd(), Half(), OnlyOdd(), Count(), folder=tmp_path) == [
        ["numbers", "answered", "odd"],
        ["half"],
        ["onlyodd"],
        ["count"],
    ]


def test_a_branch_begins_a_unit_of_its_own(tmp_path: Path) -> None:
    found = units(
        Numbers(), Answered(name="a"), Odd(name="b"), Answered(name="c", after="numbers", n=2), folder=tmp_path
    )
    assert found == [["numbers", "a", "b"], ["c"]]


def test_a_step_that_waits_for_another_is_not_fused_with_what_that_one_waits_for(tmp_path: Path) -> None:
    """Questions; a student trained on them; the student's answers to the same questions: must not wait in a circle."""
    steps = [Numbers(), Train(name="student"), Answered(name="own", after="numbers", teacher="step:student")]
    assert units(*steps, folder=tmp_path) == [["numbers"], ["student"], ["own"]]


def test_a_run_with_such_a_circle_ends(tmp_path: Path, marks: Path) -> None:
    class Reads(Odd):
        student: str = ""

        def each(self, row: Row) -> Row:
            return row

    steps = [
        Numbers(count=2),
        Train(name="student", steps=1),
        Reads(name="own", after="numbers", student="step:student"),
    ]
    result = api.run(Recipe(steps=steps), out=tmp_path / "run", report=False)
    assert result.steps["own"]["rows"]["kept"] == 2


def test_a_loop_of_answering_and_training_ends(tmp_path: Path) -> None:
    steps = [Answered(name="sample", after="numbers"), Train(name="student", steps=1, student="step:sample")]
    loop = Loop(steps=steps, rounds=3)
    result = api.run(Recipe(steps=[Numbers(count=3), loop]), out=tmp_path / "run", report=False)
    assert [p.name for p in sorted((tmp_path / "run").glob("0*"))] == [
        "01-numbers", "02-sample-1", "03-student-1", "04-sample-2", "05-student-2", "06-sample-3", "07-student-3"
    ]  # fmt: skip
    assert (result.path("student-3") / "base.txt").read_text() == "06-sample-3"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[RunFolder]:
    run = RunFolder(tmp_path / "run")
    yield run
    run.close()


def test_two_runs_never_share_a_folder_at_once(folder: RunFolder) -> None:
    folder.open({"name": "a"})
    with pytest.raises(WrongFolder, match="Another run is writing to"):
        RunFolder(folder.path).open({"name": "a"})
    folder.close()
    again = RunFolder(folder.path)
    again.open({"name": "a"})
    again.close()


def test_a_folder_of_another_recipe_or_of_something_else_is_refused(folder: RunFolder, tmp_path: Path) -> None:
    folder.open({"name": "a"})
    folder.close()
    with pytest.raises(WrongFolder, match="holds a run of the recipe 'a', not 'b'"):
        RunFolder(folder.path).open({"name": "b"})
    for name, text in (("notes.txt", "mine"), ("recipe.json", "{"), ("recipe.json", "[]"), ("recipe.json", '"x"')):
        other = tmp_path / f"other-{len(text)}-{name}"
        other.mkdir()
        (other / name).write_text(text)
        with pytest.raises(WrongFolder, match="exists and is not a run folder"):
            RunFolder(other).open({"name": "a"})
        assert [f.name for f in other.iterdir()] == [name], "nothing was written into it"


def test_a_folder_in_which_a_run_was_killed_in_its_first_moment_is_free(folder: RunFolder) -> None:
    folder.path.mkdir()
    (folder.path / ".lock").touch()
    (folder.path / "recipe.json.tmp").write_text("{")
    folder.open({"name": "a"})


def test_a_folder_that_could_not_be_opened_is_not_locked(folder: RunFolder) -> None:
    (folder.path / "env.json.tmp").mkdir(parents=True)
    (folder.path / "recipe.json").write_text('{"name": "a"}')
    with pytest.raises(StorageError):
        folder.open({"name": "a"})
    (folder.path / "env.json.tmp").rmdir()
    again = RunFolder(folder.path)
    again.open({"name": "a"})
    again.close()


def test_a_file_in_place_of_the_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file could not be written: Not a directory"):
        RunFolder(tmp_path / "file").open({"name": "a"})


def test_a_step_that_moves_keeps_its_folder_and_one_that_left_is_put_aside(folder: RunFolder) -> None:
    for name in ("01-a", "02-b", "03-cc"):
        (folder.path / name).mkdir(parents=True)
        (folder.path / name / "done").write_text(name)
    moved = [folder.step(1, "a"), folder.step(2, "cc"), folder.step(3, "c")]
    folder.retire(s.path.name for s in moved)
    assert sorted(f.name for f in folder.path.iterdir()) == [".stale", "01-a", "02-cc"]
    assert moved[1].print_done() == "03-cc" and moved[2].print_done() is None
    assert [f.name for f in (folder.path / ".stale").iterdir()] == ["02-b"]


def test_beginning_empties_what_another_fingerprint_left_and_keeps_checkpoints_of_the_same(tmp_path: Path) -> None:
    step = StepFolder(tmp_path / "01-a")
    step.begin("one")
    (step.path / "checkpoint").touch()
    step.begin("one")
    assert (step.path / "checkpoint").exists() and step.print_begun() == "one" and step.print_done() is None
    step.begin("two")
    assert not (step.path / "checkpoint").exists()
    step.finish({"rows": {}}, "two")
    assert step.print_done() == "two" and step.print_begun() is None
    step.begin("three")
    assert step.print_done() is None and step.summary() == {}


def test_a_kill_while_an_old_folder_is_emptied_leaves_nothing_that_looks_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = StepFolder(tmp_path / "01-a")
    step.begin("one")
    (step.path / "kept.parquet").touch()
    step.finish({}, "one")
    monkeypatch.setattr("shutil.rmtree", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        step.begin("two")
    assert step.print_done() is None


def test_a_damaged_step_json_says_what_to_do(tmp_path: Path) -> None:
    result = api.run(pipeline(), out=tmp_path / "run", report=False)
    (result.path("odd") / "step.json").write_text("{")
    with pytest.raises(StorageError, match=r"03-odd/step\.json is damaged .* Delete the folder .*03-odd and run again"):
        api.status(tmp_path / "run")


def test_folders_of_the_users_own_are_left_where_they_are(tmp_path: Path) -> None:
    api.run(pipeline(), out=tmp_path / "run", report=False)
    (tmp_path / "run" / "2026-notes").mkdir()
    (tmp_path / "run" / "2026-notes" / "mine.txt").touch()
    api.run(pipeline(), out=tmp_path / "run", report=False)
    assert (tmp_path / "run" / "2026-notes" / "mine.txt").exists()


def row(index: int, reason: str | None = None) -> Row:
    made = new_row(messages=[], made_by={"i": index})
    return made if reason is None else made.drop(reason)


def test_rows_are_written_under_a_temporary_name_and_renamed(tmp_path: Path) -> None:
    writer = RowWriter(tmp_path)
    for i in range(4500):
        writer.add(row(i))
    writer.add(row(-1, "a: bad \ud83d 77c0ab12ff"))
    assert [f.name for f in tmp_path.glob("*.parquet")] == [] and (tmp_path / "kept.parquet.tmp").exists()
    writer.close()
    assert [r.id for r in read_rows(tmp_path / "kept.parquet")] == [row(i).id for i in range(4500)]
    assert writer.reasons == {"a: bad \\ud83d …": 1} and [f.suffix for f in tmp_path.iterdir()] == [".parquet"] * 2
    write_json(tmp_path / "step.json", {"reasons": {**writer.reasons, "\ud800": 1}})
    assert json.loads((tmp_path / "step.json").read_text())["reasons"]["\ud800"] == 1


def test_rows_that_can_not_be_stored_name_the_row_and_what_is_wrong(tmp_path: Path) -> None:
    writer = RowWriter(tmp_path)
    writer.add(row(1))
    writer.add(row(2).with_extra(bad={1}))
    with pytest.raises(StepError, match=rf"row {row(2).id} can not be stored: Object of type set is not JSON"):
        writer.close()
    writer.abandon()
    assert list(tmp_path.iterdir()) == []


def test_such_a_row_stops_the_run_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StepError, match=r"02-broken: row .* can not be stored"):
        api.run(Recipe(steps=[Numbers(), Broken(kind="json")]), out=tmp_path / "run", report=False)


@pytest.mark.parametrize(
    ("reason", "short"),
    [
        ("curate.exact: duplicate of 93ab01cd77ef0011", "curate.exact: duplicate of …"),
        ("seeds.files: gsm8k.jsonl line 12: not JSON", "seeds.files: gsm8k.jsonl line …: not JSON"),
        ("select.threshold: math is 0.25, under 1", "select.threshold: math is … under …"),
    ],
)
def test_reasons_are_cut_to_what_can_be_counted(reason: str, short: str) -> None:
    assert short_reason(reason) == short and len(short_reason(reason * 9)) <= 100


def test_only_the_disks_refusals_become_storage_errors(tmp_path: Path) -> None:
    with pytest.raises(SealedError), storing(tmp_path):
        raise SealedError("row 1 is sealed.")
    with pytest.raises(StorageError, match="The disk is full"), storing(tmp_path):
        raise OSError(28, "No space left on device")
    with pytest.raises(StorageError, match="permission denied"), storing(tmp_path):
        raise PermissionError(13, "Permission denied")
    with pytest.raises(StorageError, match="read-only file system"), storing(tmp_path):
        raise OSError(30, "Read-only file system")


def test_a_finished_run_is_readable_with_ls_and_pyarrow(tmp_path: Path) -> None:
    result = api.run(pipeline(), out=tmp_path / "run", report=False)
    names = [f.name for f in sorted(result.folder.iterdir())]
    assert names == [
        ".lock", "01-numbers", "02-answered", "03-odd", "04-onlyodd", "05-half", "06-count", "env.json", "ledger.jsonl",
        "recipe.json",
    ]  # fmt: skip
    assert sorted(f.name for f in (result.folder / "03-odd").iterdir()) == [
        "done",
        "dropped.parquet",
        "kept.parquet",
        "step.json",
    ]
    summary = json.loads((result.folder / "02-answered" / "step.json").read_text())
    assert summary["rows"] == {"in": 26, "kept": 52, "dropped": 0} and summary["usage"]["tokens_out"] == 156
    assert summary["usage"]["answers"] == 52 and summary["usage"]["calls"] == 26 and summary["after"] == ["numbers"]
    assert result.steps["numbers"]["reasons"] == {"engine_parts.py:Numbers: record … can not be read": 4}
    assert result.steps["half"]["reasons"] == {"half: every second": 13}
    table = pa.parquet.read_table(result.folder / "05-half" / "kept.parquet")
    assert table.num_rows == 13 and (result.path("count") / "count.txt").read_text() == "13 0"
    environment = json.loads((result.folder / "env.json").read_text())
    assert set(environment) == {"run", "started", "python", "system", "cpus", "packages"}
