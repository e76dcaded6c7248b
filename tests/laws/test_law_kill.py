"""The law of the kill: SIGKILL at any instant, and the same command again gives the same bytes and buys nothing twice.

Real processes, a real HTTP server. What "bought twice" means is decided outside: the server notes when it has handed the
bytes of an answer to the system. Whether the killed process had read them can not be seen, so an answer counts as arrived when
it was written GRACE seconds before the kill; and where the server was silent before the kill, every one does.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from load_server import FULL, Mock, Stalls, command, durable, files_of, repeated, write_prompts

from running import kill, limbeck, start, wait_for

PROMPTS = 2000 if FULL else 500
KILLS = 20 if FULL else 5
GRACE = 0.1
"""An answer is read, parsed and committed within some 10 ms, and a commit that is under way has to end before it."""
DIE = Path(__file__).resolve().parent / "die_at.py"


class Runs:
    """One set of prompts, one server, the bytes of an uninterrupted run and the seconds it took."""

    def __init__(self, folder: Path, mock: Mock, count: int = PROMPTS) -> None:
        self.folder, self.mock, self.count = folder, mock, count
        self.stalls = Stalls(folder / "stalls")
        self.stalls.start()
        self.prompts = write_prompts(folder / "prompts.jsonl", count)
        begun = time.monotonic()
        done = limbeck(*self.words("whole"), cwd=folder, **self.settings("whole"))
        self.seconds = time.monotonic() - begun
        assert done.returncode == 0, done.stderr
        self.expected = files_of(folder / "whole")
        assert len(self.expected) == 8

    def words(self, name: str) -> list[str]:
        return command(self.mock, self.prompts, self.folder / name, "--quiet")

    def settings(self, name: str) -> dict[str, str]:
        return {"LIMBECK_CACHE": str(self.folder / f"{name}.sqlite"), "LIMBECK_CONCURRENCY": "64"}

    def fresh(self) -> None:
        self.mock.control(reset=True)

    def grace(self) -> float:
        """GRACE, times as much as this machine is slower just now than a quiet one, and what its disk makes everybody wait."""
        quiet = 1.0 + 0.05 * self.count / 64
        return GRACE * max(1.0, self.seconds / quiet) + 3 * self.stalls.worst()

    def again(self, name: str, kills: list[float]) -> list[float]:
        """Run to the end; check the rows; return the ages of the answers that were bought again."""
        grace = self.grace()
        done = limbeck(*self.words(name), cwd=self.folder, **self.settings(name))
        assert done.returncode == 0, done.stderr
        assert files_of(self.folder / name) == self.expected, (
            "the rows are those of an uninterrupted run, byte for byte"
        )
        assert durable(self.folder / f"{name}.sqlite") == self.count
        stats = self.mock.stats()
        assert stats["distinct"] == self.count
        ages = repeated(self.mock.records(), kills)
        assert all(age <= grace for age in ages), f"bought again: {sorted(ages)[-5:]} s before the kill"
        return ages


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with Mock(latency=0.05) as mock:
        made = Runs(tmp_path_factory.mktemp("kill"), mock)
        yield made
        made.stalls.stop.set()


@pytest.mark.parametrize("number", range(KILLS))
def test_sigkill_at_a_random_instant(runs: Runs, number: int) -> None:
    runs.fresh()
    name = f"random-{number}"
    process = start(*runs.words(name), cwd=runs.folder, **runs.settings(name))
    instant = random.Random(f"kill {number}").uniform(0.02, 1.0) * runs.seconds
    try:
        process.wait(instant)
    except subprocess.TimeoutExpired:
        killed = time.monotonic()
        assert kill(process)[0] == -signal.SIGKILL
    else:
        killed = time.monotonic()  # it was quicker than the one before: then the rerun has nothing to do
        process.communicate()
    ages = runs.again(name, [killed])
    print(f"killed after {instant:.2f} s: {len(ages)} bought again, {max(ages, default=0) * 1000:.0f} ms old at most")


def test_sigkill_again_and_again(runs: Runs) -> None:
    """The same run, killed each time it has got a little further."""
    runs.fresh()
    kills = []
    for number in range(KILLS):
        process = start(*runs.words("often"), cwd=runs.folder, **runs.settings("often"))
        goal = runs.count * (number + 1) // (KILLS + 1)
        wait_for(lambda goal=goal: runs.mock.stats()["answered"] >= goal, process=process)
        kills.append(time.monotonic())
        kill(process)
    ages = runs.again("often", kills)
    stats = runs.mock.stats()
    assert stats["lost"] <= 64 * KILLS, "no more than what was in flight is lost"
    oldest = max(ages, default=0) * 1000
    print(f"{KILLS} kills: {stats['lost']} in flight, {len(ages)} bought again, {oldest:.0f} ms old at most")


def test_what_has_arrived_is_never_bought_again(runs: Runs) -> None:
    """The server is silent for a third of a second before the kill: by then every answer it gave has been read."""
    runs.fresh()
    runs.mock.control(hold_after=runs.count // 2)
    process = start(*runs.words("silent"), cwd=runs.folder, **runs.settings("silent"))
    wait_for(lambda: runs.mock.stats()["answered"] >= runs.count // 2, process=process)
    time.sleep(0.2)
    time.sleep(runs.grace())
    answered = runs.mock.stats()["answered"]
    killed = time.monotonic()
    kill(process)
    stored = durable(runs.folder / "silent.sqlite")
    runs.mock.control(hold=False)
    assert stored == answered, "every answer was on the disk, though none of their rows was written yet"
    assert runs.again("silent", [killed]) == []
    assert runs.mock.stats()["bought_twice"] == 0


def deadly(what: str, folder: Path, runs: Runs, number: int, when: str, name: str) -> subprocess.CompletedProcess[str]:
    import os

    return subprocess.run(
        [sys.executable, str(DIE), what, str(number), when, *runs.words(name)],
        cwd=folder,
        env={**os.environ, **runs.settings(name)},
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=120,
    )


@pytest.mark.parametrize("what", ["rename", "commit"])
def test_sigkill_inside_a_rename_or_a_commit(tmp_path: Path, what: str) -> None:
    """The process kills itself before, during and after renames and commits; each run is then finished."""
    with Mock(latency=0.01) as mock:
        runs = Runs(tmp_path, mock, 120)
        deadly(what, tmp_path, runs, 0, str(tmp_path / "note"), "count")
        total = int((tmp_path / "note").read_text())
        assert total >= 5, f"there are {total} times of {what}"
        chosen = range(1, total + 1) if FULL else sorted(random.Random(what).sample(range(1, total + 1), 4))
        for place, number in enumerate(chosen):
            when = ("during", "before", "after")[place % 3]
            name = f"{what}-{number}"
            runs.fresh()
            died = deadly(what, tmp_path, runs, number, when, name)
            killed = time.monotonic()
            assert died.returncode in (-signal.SIGKILL, 0), died.stderr  # there may be fewer commits this time
            runs.again(name, [killed])
        runs.stalls.stop.set()


def test_the_ledger_is_right_after_a_kill(runs: Runs) -> None:
    """What all sessions together have bought is in the ledger once, also what the killed one could not write down."""
    runs.fresh()
    process = start(*runs.words("ledger"), cwd=runs.folder, **runs.settings("ledger"))
    wait_for(lambda: runs.mock.stats()["answered"] > runs.count // 2, process=process)
    killed = time.monotonic()
    kill(process)
    stored = durable(runs.folder / "ledger.sqlite")
    ages = runs.again("ledger", [killed])
    text = (runs.folder / "ledger" / "ledger.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    assert {line["step"] for line in lines} == {"sample"} and stored > 0
    assert sum(line["answers"] for line in lines) == runs.count
    stats = runs.mock.stats()
    assert sum(line["tokens_out"] for line in lines) <= stats["tokens_out"]
    if not ages:
        assert sum(line["tokens_out"] for line in lines) == stats["tokens_out"]
        assert sum(line["tokens_in"] for line in lines) == stats["tokens_in"]
