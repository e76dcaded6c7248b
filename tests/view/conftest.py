"""Run folders to report on, and a browser to read the report with."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from run_maker import make

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"]


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("runs") / "quickstart")


@pytest.fixture(scope="session")
def broken_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed during a training, whose teacher's price nobody told."""
    return make(tmp_path_factory.mktemp("runs") / "killed", unfinished=True, teacher="openai:big-model")


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    """A real browser; without one the tests skip and say how to get it."""
    how = "apt-get install -y chromium && pip install playwright"
    if not Path(CHROMIUM).exists():
        pytest.skip(f"SKIPPED: there is no {CHROMIUM}; install it with: {how}")
    api = pytest.importorskip("playwright.sync_api", reason=f"SKIPPED: playwright is absent; install it with: {how}")
    with api.sync_playwright() as play:
        opened = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()
