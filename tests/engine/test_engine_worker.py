"""Isolated steps: the worker process, what it says, how it fails, and that none outlives its engine."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from engine_parts import Numbers, Train, training

from limbeck import Recipe, api
from limbeck.core import errors
from running import PARTS, kill, lines, start, wait_for


def go(folder: Path, recipe: Recipe) -> api.Result:
    return api.run(recipe, out=folder, report=False)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"


def pids(marks: Path) -> list[int]:
    return [int(line.split()[1]) for line in lines(marks) if line.startswith("train")]


def test_an_isolated_step_works_in_another_process(tmp_path: Path, marks: Path) -> None:
    steps = [Numbers(count=4), Numbers(name="more", count=2), Train(after="numbers", rows_of="more")]
    result = go(tmp_path / "run", Recipe(steps=steps))
    folder = result.path("train")
    assert pids(marks) != [os.getpid()] and (folder / "trained.txt").read_text() == "4"
    assert (folder / "others.txt").read_text() == "2" and result.steps["train"]["rows"] == {
        "in": 4,
        "kept": 0,
        "dropped": 0,
    }
    assert result.steps["train"]["cpu_seconds"] < 30 and "a library that prints" in (folder / "worker.log").read_text()
    assert not alive(pids(marks)[0]), "no worker stays behind"


def test_a_worker_is_kept_for_the_next_step(tmp_path: Path, marks: Path) -> None:
    go(
        tmp_path / "run",
        Recipe(steps=[Numbers(), Train(name="a"), Train(name="b", after="numbers"), Train(name="c", steps=1)]),
    )
    assert len(pids(marks)) == 3 and len(set(pids(marks))) <= 2


@pytest.mark.parametrize(
    "kind", ["UsageError", "SealedError", "InputError", "StorageError", "UnknownName", "BudgetReached"]
)
def test_an_error_arrives_as_what_it_is_with_its_sentence(tmp_path: Path, kind: str) -> None:
    with pytest.raises(errors.LimbeckError, match=f"a {kind} from the worker") as caught:
        go(tmp_path / "run", training(fails=kind))
    assert type(caught.value).__name__ == kind


@pytest.mark.parametrize(
    ("fails", "kind", "told"),
    [
        (
            "ValueError",
            errors.StepError,
            r"ended with code 1: ValueError: a ValueError from the worker\. \(whole text: ",
        ),
        ("exit", errors.StepError, r"ended with code 7: a library that prints"),
        ("apply", errors.StepError, r"An isolated step can not apply score\.math"),
        ("disk", errors.StorageError, r"The disk is full: .*02-train could not be written"),
        ("file", errors.StepError, r"FileNotFoundError: \[Errno 2\] No such file: 'spelling\.txt'"),
    ],
)
def test_a_failure_says_what_failed(tmp_path: Path, fails: str, kind: type, told: str) -> None:
    with pytest.raises(kind, match=told):
        go(tmp_path / "run", training(fails=fails))


def test_after_a_failure_the_checkpoints_are_still_there(tmp_path: Path, marks: Path) -> None:
    with pytest.raises(errors.StepError):
        go(tmp_path / "run", training(fails="exit"))
    with pytest.raises(errors.StepError):
        go(tmp_path / "run", training(fails="exit"))
    assert [m for m in lines(marks) if m.startswith("step")] == ["step 0", "step 1", "step 2"], "no step was done twice"


@pytest.mark.parametrize("sign", [9, 2])
def test_a_worker_dies_with_its_engine_and_the_rerun_goes_on_from_the_checkpoint(
    tmp_path: Path, marks: Path, sign: int
) -> None:
    """SIGKILL of the engine's group (the worker is in another), and Ctrl-C."""
    words = ("run", f"{PARTS}:training", "--seconds", "0.15", "--steps", "6", "--out", tmp_path / "run", "--quiet")
    process = start(*words, cwd=tmp_path)
    wait_for(lambda: "step 1" in lines(marks), process=process)
    code, _ = kill(process, sign)
    (pid,) = pids(marks)
    begun = time.monotonic()
    wait_for(lambda: not alive(pid), seconds=2)
    assert code == (-9 if sign == 9 else 130) and time.monotonic() - begun < 2
    again = api.run(f"{PARTS}:training", seconds=0.15, steps=6, out=tmp_path / "run", report=False)
    assert (again.path("train") / "trained.txt").read_text() == "6"
    assert len([m for m in lines(marks) if m.startswith("step")]) == 6 and json.loads(
        (again.path("train") / "step.json").read_text()
    )
