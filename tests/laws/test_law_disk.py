"""The law of the disk: full, too small or read-only, it is one sentence; nothing is torn, and with space the run goes on.

The full disk is a small file system in memory where one can be mounted (root), and for everybody a limit on the size of
files, which is what a quota looks like. What had been answered before the disk was full is not bought again.
"""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from load_server import Mock, command, durable, files_of, write_prompts

from running import COMMAND, limbeck, sentence, start, wait_for

PROMPTS = 600


@pytest.fixture
def mock() -> Iterator[Mock]:
    with Mock(latency=0.02) as server:
        yield server


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 megabytes; skips, loudly, where one can not be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("SKIPPED: a full disk can only be made where a tmpfs can be mounted (root).")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(path: Path) -> None:
    """Write zeros until the disk is full."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def nothing_is_torn(run: Path) -> None:
    """Every Parquet file that has its name can be read, and every step that is done has both."""
    for file in run.glob("0*/*.parquet"):
        pq.read_table(file)
    for done in run.glob("0*/done"):
        assert (done.parent / "kept.parquet").exists() and (done.parent / "dropped.parquet").exists()


def whole(mock: Mock, folder: Path, prompts: Path) -> dict[str, bytes]:
    """The files of a run that nothing disturbed."""
    done = limbeck(
        *command(mock, prompts, folder / "whole", "--quiet"), cwd=folder, LIMBECK_CACHE=str(folder / "whole.sqlite")
    )
    assert done.returncode == 0, done.stderr
    mock.control(reset=True)
    return files_of(folder / "whole")


@pytest.mark.parametrize("where", ["cache and run", "cache", "run"])
def test_a_disk_that_fills_up_in_the_middle(mock: Mock, tmp_path: Path, disk: Path, where: str) -> None:
    prompts = write_prompts(tmp_path / "prompts.jsonl", PROMPTS)
    expected = whole(mock, tmp_path, prompts)
    cache = (disk if "cache" in where else tmp_path) / "calls.sqlite"
    run = (disk if "run" in where else tmp_path) / "run"
    words = command(mock, prompts, run, "--quiet")
    mock.control(hold_after=PROMPTS // 3)
    process = start(*words, cwd=tmp_path, LIMBECK_CACHE=str(cache))
    wait_for(lambda: mock.stats()["answered"] >= PROMPTS // 3, process=process)
    time.sleep(0.1)  # the last commit
    fill(disk / "filler")
    mock.control(hold=False)
    out, told = process.communicate(timeout=60)
    said = sentence(subprocess.CompletedProcess(words, process.returncode, out, told), 1)
    assert said.startswith("The disk is full: ") and str(disk) in said and "again" in said
    nothing_is_torn(run)
    stats = mock.stats()
    kept = durable(cache)
    assert kept == stats["answered"], "what was answered is stored, in the space that the cache had kept for it"
    fill(disk / "more")  # also what the cache has given up of its reserve
    said = sentence(limbeck(*words, cwd=tmp_path, LIMBECK_CACHE=str(cache)), 1)
    assert "disk is full" in said and str(disk) in said, "still full, still one sentence"
    (disk / "filler").unlink(), (disk / "more").unlink()
    done = limbeck(*words, cwd=tmp_path, LIMBECK_CACHE=str(cache))
    assert done.returncode == 0, done.stderr
    assert files_of(run) == expected and mock.stats()["bought_twice"] == 0


@pytest.mark.parametrize("limit", [20_000, 60_000, 200_000])
def test_files_that_may_not_grow(mock: Mock, tmp_path: Path, limit: int) -> None:
    """What a quota does, for every user: a write beyond the limit fails."""
    prompts = write_prompts(tmp_path / "prompts.jsonl", PROMPTS)
    expected = whole(mock, tmp_path, prompts)
    words = command(mock, prompts, tmp_path / "run", "--quiet")
    settings = {**os.environ, "LIMBECK_CACHE": str(tmp_path / "calls.sqlite")}
    done = subprocess.run(
        [*COMMAND, *words],
        cwd=tmp_path,
        env=settings,
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    said = sentence(done, 1)
    assert str(tmp_path) in said, said
    nothing_is_torn(tmp_path / "run")
    assert limbeck(*words, cwd=tmp_path, LIMBECK_CACHE=settings["LIMBECK_CACHE"]).returncode == 0
    assert files_of(tmp_path / "run") == expected


@pytest.fixture
def sealed(tmp_path: Path) -> Iterator[tuple[Path, Callable[[bool], None]]]:
    """A folder, and a function that makes it read-only, or writable again."""
    folder = tmp_path / "sealed"
    folder.mkdir()
    root = os.geteuid() == 0  # whom permissions do not bind
    if root and subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("SKIPPED: root can write everywhere, and nothing can be mounted here.")

    def lock(closed: bool) -> None:
        if root:
            subprocess.run(["mount", "-o", f"remount,{'ro' if closed else 'rw'}", folder], check=True)
        else:
            folder.chmod(0o555 if closed else 0o755)

    yield folder, lock
    lock(False)
    if root:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("what", ["run", "cache", "begun"])
def test_a_folder_that_may_not_be_written(
    mock: Mock, tmp_path: Path, sealed: tuple[Path, Callable[[bool], None]], what: str
) -> None:
    folder, lock = sealed
    prompts = write_prompts(tmp_path / "prompts.jsonl", 50)
    run, cache = (
        (tmp_path if what == "cache" else folder) / "run",
        (folder if what == "cache" else tmp_path) / "c.sqlite",
    )
    words = command(mock, prompts, run, "--quiet")
    if what == "begun":  # a run that was done, and has to do a step again
        assert limbeck(*words, cwd=tmp_path, LIMBECK_CACHE=str(cache)).returncode == 0
        words += ["--words", "9"]
    before = mock.stats()["arrived"]
    lock(True)
    said = sentence(limbeck(*words, cwd=tmp_path, LIMBECK_CACHE=str(cache)), 1)
    assert str(folder) in said and ("read-only" in said.lower() or "permission" in said.lower()), said
    assert mock.stats()["arrived"] == before, "nothing is bought that could not be kept"
    lock(False)
    done = limbeck(*words, cwd=tmp_path, LIMBECK_CACHE=str(cache))
    assert done.returncode == 0, done.stderr
