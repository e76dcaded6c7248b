"""The law of size: ten times the rows take ten times the time and the same memory.

Three streaming steps over prompts out of a file, answered by `echo`, with the cache and the Parquet files: 100,000 rows against
10,000 with LIMBECK_FULL=1, 20,000 against 4,000 every day.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from load_server import FULL, RECIPES, Took, measure, write_prompts

from running import COMMAND

FEW, MANY = (10_000, 100_000) if FULL else (4_000, 20_000)


def took(folder: Path, count: int) -> Took:
    prompts = write_prompts(folder / f"{count}.jsonl", count)
    words = ["run", f"{RECIPES}:three", "--prompts", str(prompts), "--out", str(folder / f"run-{count}"), "--quiet"]
    found = measure([*COMMAND, *words], seconds=900, LIMBECK_CACHE=str(folder / f"{count}.sqlite"))
    assert found.code == 0, found.out
    return found


@pytest.mark.slow
def test_memory_is_flat_and_time_is_linear(tmp_path: Path) -> None:
    nothing, few, many = took(tmp_path, 10), took(tmp_path, FEW), took(tmp_path, MANY)
    print(
        f"memory {few.rss:.0f} and {many.rss:.0f} MB; CPU {nothing.cpu:.1f}, {few.cpu:.1f} and {many.cpu:.1f} s",
        file=sys.stderr,
    )
    assert many.rss <= 1.3 * few.rss
    expected = (few.cpu - nothing.cpu) * MANY / FEW
    assert 0.6 * expected <= many.cpu - nothing.cpu <= 1.4 * expected, "CPU seconds beyond the start grow with the rows"
