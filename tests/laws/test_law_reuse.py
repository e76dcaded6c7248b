"""The law of reuse: what is asked again is exactly what a change touches.

A higher `max_tokens` buys the truncated answers, and only these; another temperature buys all; a late step buys nothing.
The server counts.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from load_server import Mock, command, durable, files_of, write_prompts

from limbeck.engine.rundir import read_rows
from running import limbeck

COUNT = 150


@pytest.fixture
def mock() -> object:
    with Mock(latency=0.002) as server:
        yield server


def run(mock: Mock, folder: Path, name: str = "run", cache: str = "calls", **options: object) -> int:
    """Run, and return how many requests it took."""
    prompts = folder / "prompts.jsonl"
    if not prompts.exists():
        write_prompts(prompts, COUNT)
    before = mock.stats()["arrived"]
    flags = [w for k, v in options.items() for w in (f"--{k.replace('_', '-')}", v) if w is not None]
    words = command(mock, prompts, folder / name, "--quiet", *flags)
    done = limbeck(*words, cwd=folder, LIMBECK_CACHE=str(folder / f"{cache}.sqlite"))
    assert done.returncode == 0, done.stderr
    return int(mock.stats()["arrived"] - before)


def test_more_tokens_buy_the_truncated_answers_again_and_nothing_else(mock: Mock, tmp_path: Path) -> None:
    assert run(mock, tmp_path, max_tokens=14) == COUNT
    (kept,) = (tmp_path / "run").glob("0*-sample/kept.parquet")
    cut = [row.labels["finish"] for row in read_rows(kept)].count("length")
    assert 0.2 * COUNT < cut < 0.8 * COUNT
    assert run(mock, tmp_path, max_tokens=40) == cut, "each truncated answer, once"
    assert run(mock, tmp_path, max_tokens=400) == 0, "now none is truncated"
    assert run(mock, tmp_path, max_tokens=14, name="short") == 0, "the short ones are still there"
    assert run(mock, tmp_path, name="fresh", cache="fresh", max_tokens=400) == COUNT
    assert files_of(tmp_path / "run") == files_of(tmp_path / "fresh"), "as if they had been asked so at first"


def test_another_temperature_buys_all_again_and_the_old_one_nothing(mock: Mock, tmp_path: Path) -> None:
    assert run(mock, tmp_path, temperature=0.5) == COUNT
    assert run(mock, tmp_path, temperature=0.7) == COUNT
    assert run(mock, tmp_path, temperature=0.5) == 0
    assert durable(tmp_path / "calls.sqlite") == 2 * COUNT


def test_a_change_late_in_the_recipe_buys_nothing(mock: Mock, tmp_path: Path) -> None:
    assert run(mock, tmp_path, words=8) == COUNT
    (kept,) = (tmp_path / "run").glob("0*-sample/kept.parquet")
    before = kept.stat().st_mtime_ns
    assert run(mock, tmp_path, words=12) == 0
    assert kept.stat().st_mtime_ns == before, "the step before it was not even written again"


def test_rows_that_were_refused_can_be_asked_again_alone(mock: Mock, tmp_path: Path) -> None:
    mock.control(rates={"400": 0.2})
    assert run(mock, tmp_path) == COUNT
    refused = mock.stats()["outcomes"]["400"]
    assert refused > 5 and run(mock, tmp_path) == 0, "a refusal is an answer too: the same command does not ask again"
    mock.control(rates={})
    assert run(mock, tmp_path, "run", retry_dropped=None) == refused
    assert run(mock, tmp_path, "fresh", "fresh") == COUNT
    assert files_of(tmp_path / "run") == files_of(tmp_path / "fresh")


def said(folder: Path) -> list[tuple[str, object]]:
    """Ids and turns; what a row did cost is another matter when its prompt was paid for twice."""
    return [(row.id, row.messages) for file in sorted(folder.glob("0*/*.parquet")) for row in read_rows(file)]


def test_more_samples_buy_only_the_new_ones(mock: Mock, tmp_path: Path) -> None:
    run(mock, tmp_path, n=2)
    spent = mock.stats()["tokens_out"]
    run(mock, tmp_path, n=5)
    more = mock.stats()["tokens_out"] - spent
    mock.control(reset=True)
    run(mock, tmp_path, name="fresh", cache="fresh", n=5)
    assert mock.stats()["tokens_out"] == spent + more
    assert said(tmp_path / "run") == said(tmp_path / "fresh")
