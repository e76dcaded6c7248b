"""The law of load: what our client costs beside a bare aiohttp loop that does nothing else, in paired rounds.

2,000 prompts, 50 ms, 64 in flight, all included: `limbeck run` reads the file, keeps every answer, writes Parquet. With
LIMBECK_FULL=1 the bounds are those that are promised; every day they leave room for a machine that does other things too.
`python bench/run.py client` prints the figures, and those of other tools.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

import pytest
from load_server import FULL, Mock, Took, measure

from bench_client import IN_FLIGHT, LATENCY, ours, write_prompts

PROMPTS = 2000
ROUNDS = 5 if FULL else 3
SLACK = 1.0 if FULL else 1.8
BENCH = Path(sys.modules["bench_client"].__file__ or "").parent


@pytest.fixture(scope="module")
def rounds(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Took, Took]]:
    folder = tmp_path_factory.mktemp("load")
    prompts, bare = folder / "prompts.jsonl", [sys.executable, str(BENCH / "client_peers.py"), "aiohttp"]
    write_prompts(prompts, PROMPTS)
    found = []
    with Mock(latency=LATENCY) as mock:
        for number in range(ROUNDS):
            home = folder / str(number)
            settings = {"LIMBECK_CACHE": str(home / "calls.sqlite"), "LIMBECK_CONCURRENCY": str(IN_FLIGHT)}
            mine = measure(ours(mock.url, prompts, home), mock, **settings)
            theirs = measure([*bare, mock.url, str(prompts), str(IN_FLIGHT), str(home)], mock)
            assert mine.code == theirs.code == 0, mine.out + theirs.out
            found.append((mine, theirs))
    return found


def test_every_prompt_is_asked_once_over_as_many_connections_as_are_in_flight(rounds: list[tuple[Took, Took]]) -> None:
    for mine, _ in rounds:
        stats = mine.stats
        assert (stats["arrived"], stats["answered"], stats["repeats"], stats["lost"]) == (PROMPTS, PROMPTS, 0, 0)
        assert stats["peak_in_flight"] == IN_FLIGHT and stats["peak_open"] <= IN_FLIGHT + 1  # and the one that counts


def test_requests_a_second_are_those_of_the_bare_loop(rounds: list[tuple[Took, Took]]) -> None:
    ratios = sorted(mine.rate / theirs.rate for mine, theirs in rounds)
    print(f"requests/s against the bare loop: {ratios}")
    assert statistics.median(ratios) >= 0.9 / SLACK


def test_cpu_is_a_small_multiple_of_the_bare_loop(rounds: list[tuple[Took, Took]]) -> None:
    ratios = sorted(mine.cpu / theirs.cpu for mine, theirs in rounds)
    print(f"CPU against the bare loop: {ratios}")
    assert statistics.median(ratios) <= 2.5 * SLACK


def test_memory_is_under_200_mb(rounds: list[tuple[Took, Took]]) -> None:
    print(f"peak memory: {[round(mine.rss) for mine, _ in rounds]} MB")
    assert max(mine.rss for mine, _ in rounds) < 200


def test_the_first_request_is_sent_at_once(rounds: list[tuple[Took, Took]]) -> None:
    print(f"first request after {[round(mine.first, 2) for mine, _ in rounds]} s")
    assert statistics.median(mine.first for mine, _ in rounds) < 1.5 * SLACK
