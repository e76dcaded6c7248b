"""The shape of a run: what folds, in which order it is read, and in which lane it stands."""

from __future__ import annotations

from pathlib import Path

from limbeck.view import run_folder
from limbeck.view.graph import fold
from limbeck.view.run_folder import Stage


def stage(name: str, step: str, after: tuple[str, ...] = (), needs: tuple[str, ...] = (), **fields) -> Stage:
    return Stage(name=name, step=step, after=after, needs=needs, fields=fields)


def test_seeds_fold_and_other_settings_do_not() -> None:
    knots = fold(
        [
            stage("data", "seeds.files"),
            stage("train-1", "train.sft", ("data",), seed=1, updates=10),
            stage("train-2", "train.sft", ("data",), seed=2, updates=10),
            stage("long", "train.sft", ("data",), seed=1, updates=20),
            stage("eval-1", "evaluate.run", ("data",), ("train-1",), model="step:train-1", label="x 1"),
            stage("eval-2", "evaluate.run", ("data",), ("train-2",), model="step:train-2", label="x 2"),
            stage("eval-long", "evaluate.run", ("data",), ("long",), model="step:long"),
        ]
    )
    assert {(knot.title, knot.count) for knot in knots} == {
        ("data", 1),
        ("train", 2),
        ("long", 1),
        ("eval", 2),
        ("eval-long", 1),
    }


def test_two_sources_of_one_kind_stay_apart() -> None:
    assert len(fold([stage("train", "seeds.tasks", count=5), stage("test", "seeds.tasks", count=5)])) == 2


def test_a_branch_is_told_to_its_end_and_evaluation_comes_last(whole_run: Path) -> None:
    knots = fold(run_folder.read(whole_run).stages)
    assert [knot.title for knot in knots] == [
        "problems", "samples", "verdicts", "raw", "raw-student", "passed", "verified", "answers", "answers-student",
        "verified-student", "test", "eval-base-1", "eval-answers-only", "eval-raw-traces", "eval-verified-traces",
        "eval-teacher-1", "compare",
    ]  # fmt: skip
    for index, knot in enumerate(knots):
        assert all(parent < index for parent in (*knot.parents, *knot.uses))


def test_no_lane_runs_through_a_stop_of_another_branch(whole_run: Path) -> None:
    knots = fold(run_folder.read(whole_run).stages)
    for child, knot in enumerate(knots):
        for parent in knot.parents:
            between = [k for k in range(parent + 1, child) if knots[k].lane == knots[parent].lane]
            assert not [k for k in between if parent not in knots[k].parents and k not in ancestors(knots, child)]


def ancestors(knots, index: int) -> set[int]:
    found: set[int] = set()
    todo = [index]
    while todo:
        for parent in knots[todo.pop()].parents:
            if parent not in found:
                found.add(parent)
                todo.append(parent)
    return found


def test_a_step_whose_source_is_missing_is_still_shown() -> None:
    assert [knot.title for knot in fold([stage("b", "score.math", ("gone",))])] == ["b"]


def test_rows_are_averaged_over_the_stages_that_are_done() -> None:
    done = Stage(name="train-1", step="train.sft", after=("a",), rows={"in": 90}, fields={"seed": 1})
    begun = Stage(name="train-2", step="train.sft", after=("a",), fields={"seed": 2}, state="unfinished")
    knot = fold([done, begun])[0]
    assert (knot.count, knot.mean("read"), knot.title) == (2, 90, "train")
    assert fold([begun])[0].mean("read") == 0
