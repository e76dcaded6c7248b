"""The ray backend: the rows of the local one, shards found again, nothing bought twice, one budget for all machines."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import clusters
from clusters import Mock, load, paid, rows_of, run_local, run_ray, write_prompts
from limbeck import Recipe
from limbeck.core.errors import BudgetReached, EndpointError, StepError, StorageError
from limbeck.core.find import find_recipe, find_step
from limbeck.core.ledger import read
from limbeck.engine.ray import RayRun
from limbeck.engine.rundir import StepFolder
from running import PARTS, kill, limbeck, start, wait_for

pytestmark = clusters.GROUP
HERE = Path(__file__).resolve().parent
SHARD = 20
SLOW = 240.0
"""Seconds that a cluster may take to start on a machine with much else to do."""


@pytest.fixture(scope="module", autouse=True)
def cluster() -> None:
    clusters.start_cluster()


@pytest.fixture
def mock() -> Iterator[Mock]:
    with Mock(latency=0.02) as server:
        yield server


def manifests(run: Path) -> dict[str, str]:
    """Return the attempt that each committed shard of a chain comes from."""
    return {p.stem: json.loads(p.read_text())["attempt"] for p in (run / ".shards").glob("chains/*/*.json")}


def undo(run: Path, *steps: str) -> None:
    for step in steps:
        (next(run.glob(f"[0-9]*-{step}")) / "done").unlink()


@pytest.mark.parametrize("shard_rows", [7, 1000])
def test_rows_are_those_of_the_local_backend_to_the_byte(shard_rows: int, tmp_path: Path, monkeypatch: Any) -> None:
    recipe = find_recipe(f"{PARTS}:pipeline")(count=60)
    local, _ = run_local(recipe, tmp_path / "local")
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "other.sqlite"))
    job, events = run_ray(recipe, tmp_path / "ray", shard_rows=shard_rows)
    assert rows_of(tmp_path / "local") == rows_of(tmp_path / "ray") and len(rows_of(tmp_path / "ray")) == 12
    for name, node in job.nodes.items():
        here, there = local.nodes[name].folder.summary(), node.folder.summary()
        timed = {"seconds", "cpu_seconds", "usage"}
        assert {k: v for k, v in here.items() if k not in timed} == {k: v for k, v in there.items() if k not in timed}
        for key in ("calls", "answers", "tokens_in", "tokens_out", "cached"):
            assert here["usage"][key] == there["usage"][key], (name, key)
    told = [e for e in events if e["event"] == "progress" and e["name"] == "onlyodd"][-1]
    assert told["done"] == local.nodes["onlyodd"].folder.summary()["rows"]["in"] and sum(told["reasons"].values())
    assert read(tmp_path / "ray" / "ledger.jsonl")["answered"].answers == 104


def test_a_rerun_after_deleting_two_shards_redoes_exactly_two(tmp_path: Path, mock: Mock) -> None:
    recipe = load(str(write_prompts(tmp_path / "p.jsonl", 8 * SHARD)), f"openai:m@{mock.url}")
    run_ray(recipe, tmp_path / "run", shard_rows=SHARD)
    rows, before, asked = rows_of(tmp_path / "run"), manifests(tmp_path / "run"), mock.stats()["arrived"]
    assert len(before) == 8 and asked == 8 * SHARD
    victims = sorted(before)[:2]
    data = next((tmp_path / "run/.shards").glob(f"chains/*/{victims[0]}.*.0.parquet"))
    data.unlink()  # of one its rows, of the other its manifest
    next((tmp_path / "run/.shards").glob(f"chains/*/{victims[1]}.json")).unlink()
    undo(tmp_path / "run", "sample", "long", "twice")
    run_ray(recipe, tmp_path / "run", shard_rows=SHARD)
    after = manifests(tmp_path / "run")
    assert {name for name in before if before[name] != after[name]} == set(victims)
    assert rows_of(tmp_path / "run") == rows and mock.stats()["arrived"] == asked


def test_rows_added_to_a_source_leave_the_shards_before_alone(tmp_path: Path, mock: Mock) -> None:
    recipe = load(str(write_prompts(tmp_path / "p.jsonl", 3 * SHARD)), f"openai:m@{mock.url}")
    run_ray(recipe, tmp_path / "run", shard_rows=SHARD)
    before = manifests(tmp_path / "run")
    write_prompts(tmp_path / "p.jsonl", 4 * SHARD)
    run_ray(recipe, tmp_path / "run", shard_rows=SHARD)
    after = manifests(tmp_path / "run")
    assert before.items() <= after.items() and len(after) == 4
    assert mock.stats()["arrived"] == 4 * SHARD


def test_other_code_behind_the_questions_asks_nothing_again(tmp_path: Path, mock: Mock, monkeypatch: Any) -> None:
    prompts = str(write_prompts(tmp_path / "p.jsonl", 2 * SHARD))
    run_ray(load(prompts, f"openai:m@{mock.url}"), tmp_path / "run", shard_rows=SHARD)
    # the cache of this machine is gone: what is left is the log of each shard
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "empty.sqlite"))
    (tmp_path / "run/.shards/harvested.json").unlink(missing_ok=True)
    job, _ = run_ray(load(prompts, f"openai:m@{mock.url}", words=9), tmp_path / "run", shard_rows=SHARD)
    assert mock.stats()["arrived"] == 2 * SHARD and mock.stats()["bought_twice"] == 0
    assert paid(job, "sample").answers == 2 * SHARD, "of all sessions, each answer once"


@pytest.mark.parametrize("first", ["local", "ray"])
def test_what_one_backend_began_the_other_finishes(first: str, tmp_path: Path, mock: Mock) -> None:
    recipe = load(str(write_prompts(tmp_path / "p.jsonl", 3 * SHARD)), f"openai:m@{mock.url}")
    one, two = (run_local, run_ray) if first == "local" else (run_ray, run_local)
    one(recipe, tmp_path / "run")
    rows = rows_of(tmp_path / "run")
    two(recipe, tmp_path / "run")  # all done: nothing to do
    undo(tmp_path / "run", "sample", "long", "twice")
    job, _ = two(recipe, tmp_path / "run")
    assert rows_of(tmp_path / "run") == rows and mock.stats()["arrived"] == 3 * SHARD
    assert paid(job, "sample").answers == 3 * SHARD


def test_the_same_question_in_many_shards_is_bought_once(tmp_path: Path, mock: Mock) -> None:
    prompts = write_prompts(tmp_path / "p.jsonl", SHARD)
    prompts.write_text(prompts.read_text() * 4)
    mock.control(latency=0.2)
    steps = [
        find_step("seeds.files")(path=str(prompts), as_prompts=True),
        find_step("generate.sample")(teacher=f"openai:m@{mock.url}"),
    ]
    job, _ = run_ray(Recipe(steps=steps), tmp_path / "run", shard_rows=SHARD // 2)
    assert mock.stats()["arrived"] == SHARD and paid(job, "sample").answers == SHARD
    assert paid(job, "sample").cached == 3 * SHARD


def test_the_limit_of_requests_under_way_holds_for_all_machines_together(
    tmp_path: Path, mock: Mock, monkeypatch: Any
) -> None:
    monkeypatch.setenv("LIMBECK_CONCURRENCY", "5")
    run_ray(load(str(write_prompts(tmp_path / "p.jsonl", 80)), f"openai:m@{mock.url}"), tmp_path / "run", shard_rows=8)
    assert 2 <= mock.stats()["peak_in_flight"] <= 5


def test_an_endpoint_that_refuses_the_key_stops_the_run_with_its_sentence(tmp_path: Path, mock: Mock) -> None:
    mock.control(always="401")
    recipe = load(str(write_prompts(tmp_path / "p.jsonl", SHARD)), f"openai:m@{mock.url}")
    with pytest.raises(EndpointError, match="401"):
        run_ray(recipe, tmp_path / "run", shard_rows=5)


def test_a_step_that_fails_on_rows_costs_those_rows_and_a_broken_table_the_run(tmp_path: Path) -> None:
    numbers, broken, half = (find_step(f"{PARTS}:{name}") for name in ("Numbers", "Broken", "Half"))
    recipe = Recipe(steps=[numbers(count=30), broken(every=3), half()])
    run_local(recipe, tmp_path / "local")
    run_ray(recipe, tmp_path / "ray", shard_rows=4)
    assert rows_of(tmp_path / "local") == rows_of(tmp_path / "ray")
    with pytest.raises(StepError, match=r"Step 'half' .* failed: ValueError: nothing is whole"):
        run_ray(Recipe(steps=[numbers(count=9), half(explode=True)]), tmp_path / "table", shard_rows=4)
    with pytest.raises(StepError, match="can not be stored"):
        run_ray(Recipe(steps=[numbers(count=9), broken(kind="json")]), tmp_path / "json", shard_rows=4)


def test_rows_that_were_lost_are_asked_for_again_on_demand(tmp_path: Path, mock: Mock) -> None:
    prompts = write_prompts(tmp_path / "p.jsonl", 40)
    recipe = load(str(prompts), f"openai:m@{mock.url}")
    mock.control(rates={"400": 0.3})
    job, _ = run_ray(recipe, tmp_path / "run", shard_rows=10)
    refused = job.lost()["sample"]["refused"]
    assert 0 < refused < 40 and len(job.nodes["sample"].folder.table()) == 40 - refused
    before = mock.stats()["arrived"]
    mock.control(rates={})
    job, _ = run_ray(recipe, tmp_path / "run", shard_rows=10)
    assert mock.stats()["arrived"] == before, "not unless it is asked for"
    job, _ = run_ray(recipe, tmp_path / "run", shard_rows=10, retry_dropped=True)
    assert mock.stats()["arrived"] == before + refused and mock.stats()["bought_twice"] == 0
    assert job.lost() == {} and len(job.nodes["sample"].folder.table()) == 40


def test_the_run_ends_with_a_sentence_when_its_till_is_gone_and_goes_on_when_run_again(
    tmp_path: Path, mock: Mock
) -> None:
    import ray

    mock.control(latency=0.4)
    recipe = load(str(write_prompts(tmp_path / "p.jsonl", 60)), f"openai:m@{mock.url}")
    job = RayRun(recipe, tmp_path / "run", listen=lambda event: None, shard_rows=10)

    async def go() -> None:
        running = asyncio.ensure_future(job.run())
        while mock.stats()["answered"] < 10:
            await asyncio.sleep(0.02)
        ray.kill(job._cluster._actor)
        await asyncio.wait_for(running, 60)

    with pytest.raises(StorageError, match="keeps the run's budget and limits is gone"):
        asyncio.run(go())
    killed = time.monotonic()
    time.sleep(1.0)  # what was under way has been answered, and thrown away
    run_ray(recipe, tmp_path / "run", shard_rows=10)
    assert again(mock, killed - 1.0) == [] and len(read_table(tmp_path / "run")) == 60


def read_table(run: Path) -> Any:
    return StepFolder(next(run.glob("02-*"))).table()


def test_the_budget_holds_for_all_machines_together_and_a_higher_one_goes_on(
    tmp_path: Path, mock: Mock, monkeypatch: Any
) -> None:
    prices = tmp_path / "prices.json"
    prices.write_text(json.dumps({f"openai:m@{mock.url}": {"input": 10.0, "output": 30.0}}))
    monkeypatch.setenv("LIMBECK_PRICES", str(prices))
    recipe = load(str(write_prompts(tmp_path / "p.jsonl", 100)), f"openai:m@{mock.url}", max_tokens=64)
    with pytest.raises(BudgetReached, match="--budget"):
        run_ray(recipe, tmp_path / "run", shard_rows=10, budget=0.12)
    stats = mock.stats()
    totals = list(read(tmp_path / "run" / "ledger.jsonl").values())
    known, at_risk = sum(t.usd for t in totals), sum(t.at_risk for t in totals)
    charged = (stats["tokens_in"] * 10 + stats["tokens_out"] * 30) / 1e6
    assert 0.06 < known + at_risk <= 0.12
    assert known - 1e-9 <= charged <= known + at_risk + 1e-9
    job, _ = run_ray(recipe, tmp_path / "run", shard_rows=10, budget=5.0)
    assert mock.stats()["bought_twice"] == 0 and paid(job, "sample").answers == 100


@pytest.mark.parametrize("then", ["local", "ray"])
def test_a_driver_killed_in_the_middle_loses_nothing_on_either_backend(then: str, tmp_path: Path, mock: Mock) -> None:
    mock.control(latency=0.15)
    prompts = write_prompts(tmp_path / "p.jsonl", 120)
    words = ["run", f"{HERE.parent / 'laws' / 'load_recipes.py'}:load", "--prompts", prompts, "--teacher"]
    words += [f"openai:m@{mock.url}", "--out", tmp_path / "run", "--concurrency", 10]
    process = start(*words, "--backend", "ray", "--shard-rows", 20, cwd=tmp_path)
    wait_for(lambda: mock.stats()["answered"] >= 40, process=process, seconds=SLOW)
    killed = time.monotonic()
    kill(process)
    time.sleep(1.0)  # the machines of the cluster see that their driver is gone
    ended = limbeck(*words, "--backend", then, cwd=tmp_path, seconds=SLOW)
    assert ended.returncode == 0, ended.stderr
    assert again(mock, killed) == []
    run_local(load(str(prompts), f"openai:m@{mock.url}"), tmp_path / "plain")
    assert rows_of(tmp_path / "plain") == rows_of(tmp_path / "run")


def again(mock: Mock, killed: float, slack: float = 0.05) -> list[Any]:
    """Return the requests that were made again though they had been answered, and so could have been stored, before a kill."""
    written: dict[str, float] = {}
    bad = []
    for digest, arrived, at, outcome, *_ in sorted(mock.records(), key=lambda record: record[1]):
        if digest in written and written[digest] < killed - slack:
            bad.append([digest, arrived - killed, written[digest] - killed])
        if outcome == "answered":
            written.setdefault(digest, at)
    return bad


def test_a_node_killed_in_the_middle_costs_no_row_and_no_answer_twice(tmp_path: Path, mock: Mock) -> None:
    mock.control(latency=0.3)
    prompts = write_prompts(tmp_path / "p.jsonl", 160)
    script = [sys.executable, "-W", "error", HERE / "ray_two_nodes.py", prompts, mock.url, tmp_path / "run"]
    environment = {**os.environ, "LIMBECK_CONCURRENCY": "12"}
    done = subprocess.run(script, capture_output=True, text=True, timeout=SLOW, env=environment)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["nodes"] == 2 and told["left"] == 1
    assert told["attempts"] > told["shards"] == 8, "the killed node was in the middle of a shard"
    assert again(mock, told["killed_at"]) == []
    assert mock.stats()["arrived"] >= 160
    run_local(load(str(prompts), f"openai:m@{mock.url}"), tmp_path / "local")
    assert rows_of(tmp_path / "local") == rows_of(tmp_path / "run")


def test_ctrl_c_finishes_what_is_under_way_and_the_rerun_asks_for_nothing_again(tmp_path: Path, mock: Mock) -> None:
    mock.control(latency=0.4)
    prompts = write_prompts(tmp_path / "p.jsonl", 60)
    words = ["run", f"{HERE.parent / 'laws' / 'load_recipes.py'}:load", "--prompts", prompts, "--teacher"]
    words += [f"openai:m@{mock.url}", "--out", tmp_path / "run", "--concurrency", 8]
    process = start(*words, "--backend", "ray", "--shard-rows", 10, cwd=tmp_path)
    wait_for(lambda: mock.stats()["answered"] >= 16, process=process, seconds=SLOW)
    code, told = kill(process, signal.SIGINT)
    stats = mock.stats()
    assert code == 130, told
    assert "Traceback" not in told and stats["lost"] == 0 and stats["answered"] == stats["arrived"] < 60
    ended = limbeck(*words, cwd=tmp_path, seconds=SLOW)
    assert ended.returncode == 0, ended.stderr
    assert mock.stats()["arrived"] == 60 and mock.stats()["bought_twice"] == 0


BLOCKED = """
import sys, asyncio
sys.modules["ray"] = None
from limbeck import api
from limbeck.core.errors import UsageError
try:
    api.run("rejection_sampling", backend="ray", out="run", limit=4)
except UsageError as error:
    print(error)
"""
LOCAL = """
import sys
from limbeck import api
api.run("rejection_sampling", out="run", limit=4, teacher="echo", samples=1, report=False)
print(sorted({"ray", "fsspec"} & set(sys.modules)))
"""


@pytest.mark.parametrize(("code", "told"), [(BLOCKED, "pip install 'limbeck[ray]'"), (LOCAL, "[]")])
def test_ray_is_wanted_by_its_own_backend_only(code: str, told: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert told in done.stdout, done.stdout + done.stderr
