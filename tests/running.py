"""Running the command line in a process of its own, and the parts (steps, teacher, recipes) that the engine's tests use."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from limbeck.core.row import Row

PARTS = Path(__file__).resolve().parent / "engine" / "engine_parts.py"
COMMAND = [sys.executable, "-m", "limbeck"]


def limbeck(*words: object, cwd: Path, seconds: float = 90, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `limbeck WORDS` and return how it ended."""
    return subprocess.run(
        [*COMMAND, *map(str, words)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=seconds,
        stdin=subprocess.DEVNULL,
    )


def limbeck_here(
    *words: object, cwd: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> subprocess.CompletedProcess[str]:
    """Do what `limbeck` does, in this process: as the command itself, only without starting Python for every mistake."""
    from limbeck.cli import main

    monkeypatch.chdir(cwd)
    monkeypatch.setattr(sys, "argv", ["limbeck", *map(str, words)])
    code: object = 0
    try:
        main()
    except SystemExit as end:
        code = end.code
    out, told = capsys.readouterr()
    return subprocess.CompletedProcess(list(words), int(str(code or 0)), out, told)


def start(*words: object, cwd: Path, **environment: str) -> subprocess.Popen[str]:
    """Start `limbeck WORDS` in a process group of its own, to be killed."""
    return subprocess.Popen(
        [*COMMAND, *map(str, words)],
        cwd=cwd,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_interruptible,
    )


def _interruptible() -> None:
    # a shell that starts the tests in the background makes all below it deaf to Ctrl-C, and Python keeps that
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def kill(process: subprocess.Popen[str], sign: int = signal.SIGKILL) -> tuple[int, str]:
    """Send `sign` to the whole process group; returns the exit code and what stood on stderr."""
    os.killpg(process.pid, sign)
    _, told = process.communicate(timeout=30)
    return process.returncode, told


def wait_for(what: Callable[[], Any], seconds: float = 40, process: subprocess.Popen[str] | None = None) -> Any:
    """Wait until `what()` is true, and return it; fail when it never is, or the process ends before."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        if process is not None and process.poll() is not None:
            found = what()
            assert found, f"it ended with {process.returncode} before: {process.communicate()[1]}"
            return found
        time.sleep(0.005)
    raise AssertionError(f"{what} did not come true in {seconds} s")


def sentence(done: subprocess.CompletedProcess[str], code: int) -> str:
    """Check that a command ended with `code` and one sentence, without a traceback; return the sentence."""
    told = done.stderr.strip()
    assert done.returncode == code, f"exit {done.returncode}, not {code}: {done.stdout}\n{told}"
    assert "Traceback" not in told and "Traceback" not in done.stdout, told
    assert told.startswith("limbeck: ") and told.endswith((".", ")", "?", "]")) and len(told.splitlines()) == 1, told
    return told.removeprefix("limbeck: ")


def lines(path: Path) -> list[str]:
    """Return the whole lines of a file that may not be there yet."""
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def timeless(row: Row) -> dict[str, Any]:
    """Return a row without the seconds it took: all that must be the same after a kill."""
    from limbeck.core.row import to_table

    record = to_table([row]).to_pylist()[0]
    record["usage"].pop("seconds")
    return record
