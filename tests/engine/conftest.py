"""Fixtures of the engine's tests: the files in which the test teacher and steps leave their marks."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file with a line for each request that reached the teacher."""
    monkeypatch.setenv("TEACHER_CALLS", str(tmp_path / "calls.txt"))
    return tmp_path / "calls.txt"


@pytest.fixture
def marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file with a line for each thing a step has done."""
    monkeypatch.setenv("MARKS", str(tmp_path / "marks.txt"))
    return tmp_path / "marks.txt"
