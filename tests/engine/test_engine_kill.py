"""Killed at any instant, a run goes on: the same rows, and nothing bought twice but what was under way.

Real processes, real SIGKILL. The teacher lets at most four requests through at once, and writes a line to a file for
each before it answers; so a kill may cost four lines, and no more.
"""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_parts import asking, pipeline

from limbeck import Recipe, api
from limbeck.engine.rundir import read_rows
from running import PARTS, kill, limbeck, lines, sentence, start, timeless, wait_for

AT_ONCE = 4


def rows_of(folder: Path) -> dict[str, list[dict[str, object]]]:
    """All rows of a run, kept and dropped, by file; without the seconds they took."""

    files = sorted(folder.glob("0*/*.parquet"))
    return {str(f.relative_to(folder)): [timeless(r) for r in read_rows(f)] for f in files}


def reference(folder: Path, monkeypatch: pytest.MonkeyPatch, recipe: Recipe) -> dict[str, list[dict[str, object]]]:
    """What the recipe gives when nothing interrupts it, with a cache of its own."""
    with monkeypatch.context() as patch:
        patch.setenv("LIMBECK_CACHE", str(folder / "reference.sqlite"))
        patch.delenv("TEACHER_CALLS")
        return rows_of(api.run(recipe, out=folder / "reference", report=False).folder)


def durable(folder: Path) -> int:
    """How many questions have their answers on the disk (there are two samples of each)."""
    cache = sqlite3.connect(folder / "calls.sqlite")
    (count,) = cache.execute("SELECT count(*) FROM answers").fetchone()
    cache.close()
    return int(count) // 2


def test_sigkill_while_generating_at_many_instants(
    tmp_path: Path, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = reference(tmp_path, monkeypatch, pipeline(count=120))
    words = ("run", f"{PARTS}:pipeline", "--count", 120, "--out", tmp_path / "run", "--quiet")
    chance = random.Random(7)
    kills = lost = 0
    for goal in sorted(chance.sample(range(1, 100), 5)):
        process = start(*words, cwd=tmp_path, TEACHER_SECONDS="0.03")
        enough = goal + kills * AT_ONCE
        wait_for(lambda enough=enough: len(lines(calls)) >= enough, process=process)
        assert kill(process)[0] == -signal.SIGKILL
        kills += 1
        lost = len(lines(calls)) - durable(tmp_path)
    done = limbeck(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert rows_of(tmp_path / "run") == expected
    sent = Counter(lines(calls))
    assert len(sent) == 103, "each question was asked"
    assert sum(sent.values()) - len(sent) == lost, "exactly what was not yet on the disk is sent again"
    assert lost <= kills * 3 * AT_ONCE, "more was under way than the teacher lets through and one commit takes"


def test_ctrl_c_ends_with_130_and_the_rerun_buys_nothing_again(
    tmp_path: Path, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = reference(tmp_path, monkeypatch, pipeline(count=60))
    words = ("run", f"{PARTS}:pipeline", "--count", 60, "--out", tmp_path / "run", "--quiet")
    process = start(*words, cwd=tmp_path, TEACHER_SECONDS="0.05")
    wait_for(lambda: len(lines(calls)) >= 20, process=process)
    code, told = kill(process, signal.SIGINT)
    assert code == 130 and "Traceback" not in told
    assert told.strip() == "limbeck: Stopped. Every answer so far is kept; run the same command again to go on."
    (ledger,) = [json.loads(line) for line in lines(tmp_path / "run" / "ledger.jsonl")]
    before, stored = len(lines(calls)), durable(tmp_path)
    assert ledger["answers"] == 2 * stored and ledger["usd"] > 0, "what was paid for is accounted for, and stored"
    assert before - stored <= AT_ONCE
    assert limbeck(*words, cwd=tmp_path).returncode == 0
    assert rows_of(tmp_path / "run") == expected and len(lines(calls)) - before == 52 - stored


def test_sigkill_while_a_whole_step_runs(
    tmp_path: Path, calls: Path, marks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = reference(tmp_path, monkeypatch, pipeline(seconds=0.3))
    marks.unlink()
    words = ("run", f"{PARTS}:pipeline", "--seconds", 0.3, "--out", tmp_path / "run", "--quiet")
    process = start(*words, cwd=tmp_path)
    wait_for(lambda: "half" in lines(marks), process=process)
    kill(process)
    states = {s["name"]: (s["done"], s["why"]) for s in api.status(tmp_path / "run")}
    assert (
        states["onlyodd"][0]
        and states["half"] == (False, "begun but not finished")
        and states["count"][1] == "not run yet"
    )
    bought = len(lines(calls))
    assert limbeck(*words, cwd=tmp_path).returncode == 0
    assert rows_of(tmp_path / "run") == expected and len(lines(calls)) == bought


def test_ctrl_c_does_not_wait_for_a_barrier(tmp_path: Path, marks: Path) -> None:
    process = start("run", f"{PARTS}:pipeline", "--seconds", 60, "--out", tmp_path / "run", "--quiet", cwd=tmp_path)
    wait_for(lambda: "half" in lines(marks), process=process)
    begun = time.monotonic()
    code, told = kill(process, signal.SIGINT)
    assert code == 130 and time.monotonic() - begun < 15 and "Traceback" not in told


def test_sigkill_at_any_instant_of_the_whole_run(tmp_path: Path, calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first import to the last rename: whatever is on disk then, the rerun ends with the same rows."""
    expected = reference(tmp_path, monkeypatch, pipeline(count=40))
    words = ("run", f"{PARTS}:pipeline", "--count", 40, "--out", tmp_path / "run", "--quiet")
    chance = random.Random(11)
    watch = (
        "recipe.json",
        "01-numbers/begun",
        "02-answered/kept.parquet",
        "01-numbers/done",
        "04-onlyodd/done",
        "05-half/begun",
    )
    for name in watch:
        process = start(*words, cwd=tmp_path)
        wait_for(lambda name=name, process=process: (tmp_path / "run" / name).exists() or process.poll() is not None)
        with_luck = chance.random() * 0.01
        try:
            process.wait(with_luck)
        except subprocess.TimeoutExpired:
            kill(process)
    assert limbeck(*words, cwd=tmp_path).returncode == 0
    assert rows_of(tmp_path / "run") == expected


def test_two_runs_at_once_in_one_folder(tmp_path: Path, calls: Path) -> None:
    words = ("run", f"{PARTS}:pipeline", "--out", tmp_path / "run", "--quiet")
    process = start(*words, cwd=tmp_path, TEACHER_SECONDS="5")
    wait_for(lambda: lines(calls), process=process)
    assert "Another run is writing to" in sentence(limbeck(*words, cwd=tmp_path), 2)
    kill(process)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes; skips, loudly, where one can not be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("SKIPPED: a full disk can only be tested where a tmpfs can be mounted (root).")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_disk_that_is_full_is_one_sentence_and_the_run_goes_on(small_disk: Path, tmp_path: Path, calls: Path) -> None:
    words = ("run", f"{PARTS}:asking", "--count", 3000, "--out", small_disk / "run", "--quiet")
    filler = small_disk / "filler"
    filler.write_bytes(bytes(1_950_000))
    told = sentence(limbeck(*words, cwd=tmp_path, TEACHER_SECONDS="0"), 1)
    assert told.startswith("The disk is full: ") and "run the same command again" in told
    bought = len(lines(calls))
    filler.unlink()
    assert limbeck(*words, cwd=tmp_path, TEACHER_SECONDS="0").returncode == 0
    assert len(lines(calls)) - bought <= 3000 - bought + AT_ONCE


def test_a_cache_on_a_full_disk_is_one_sentence_too(small_disk: Path, tmp_path: Path, calls: Path) -> None:
    words = ("run", f"{PARTS}:asking", "--count", 200, "--out", tmp_path / "run", "--quiet")
    filler = small_disk / "filler"
    filler.write_bytes(bytes(1_990_000))
    cache = str(small_disk / "calls.sqlite")
    assert "disk" in sentence(limbeck(*words, cwd=tmp_path, LIMBECK_CACHE=cache), 1)
    filler.unlink()
    assert limbeck(*words, cwd=tmp_path, LIMBECK_CACHE=cache).returncode == 0
    assert asking and api.status(tmp_path / "run")[1]["rows"]["kept"] == 200


def test_sigkill_while_real_solutions_are_verified(tmp_path: Path, corpora: Path) -> None:
    file = corpora / "gsm8k" / "example_model_solutions.jsonl"
    words = ("apply", "score.math", file, "--map", "response=*.solution", "--quiet", "--out")
    assert limbeck(*words, tmp_path / "whole", cwd=tmp_path).returncode == 0
    for attempt in range(5):  # on a busy machine the verifier may be done before it is killed: then once more
        folder = tmp_path / f"killed-{attempt}"
        process = start(*words, folder, cwd=tmp_path)
        wait_for((folder / "02-math" / "kept.parquet.tmp").exists)
        kill(process)
        if not (folder / "02-math" / "done").exists():
            break
    else:
        pytest.fail("the verifier was never caught at work")
    assert limbeck(*words, folder, cwd=tmp_path).returncode == 0
    kept = [read_rows(tmp_path / run / "02-math" / "kept.parquet") for run in ("whole", folder.name)]
    first, second = (list(rows) for rows in kept)
    assert len(first) == 5276 and first == second
