"""Whole runs with `batch:`: the command line, half the price in the ledger, kills, and a live run on the same answers."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from batch_server import BatchServer

from running import kill, limbeck, start, wait_for

ROWS, SAMPLES = 300, 2


@pytest.fixture
def server() -> Iterator[BatchServer]:
    with BatchServer() as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path, server: BatchServer) -> Path:
    with (tmp_path / "prompts.jsonl").open("w") as file:
        file.writelines(json.dumps({"prompt": f"q{i}"}) + "\n" for i in range(ROWS))
    price = {f"openai:m@{server.url}": {"input": 10.0, "output": 100.0, "cached": 0.0, "batch": 0.5}}
    (tmp_path / "prices.json").write_text(json.dumps(price))
    return tmp_path


def words(server: BatchServer, teacher: str = "batch:openai") -> list[object]:
    return [
        "apply", "generate.sample", "prompts.jsonl", "--teacher", f"{teacher}:m@{server.url}", "--n", SAMPLES, "--out", "runs/r",
        "--quiet",
    ]  # fmt: skip


def environment(folder: Path) -> dict[str, str]:
    return {
        "LIMBECK_BATCH_POLL": "0.3", "LIMBECK_PRICES": str(folder / "prices.json"),
        "LIMBECK_CACHE": str(folder / ".limbeck" / "calls.sqlite"),
    }  # fmt: skip


def rows(folder: Path) -> list[dict[str, Any]]:
    (file,) = (folder / "runs" / "r").glob("*sample/kept.parquet")
    return pq.read_table(file).to_pylist()  # type: ignore[no-any-return]


def check(server: BatchServer, folder: Path) -> None:
    found = rows(folder)
    assert [r["messages"][-1]["content"] for r in found] == [
        f"answer {s} to q{i}" for i in range(ROWS) for s in range(SAMPLES)
    ]
    assert set(server.bought.values()) == {SAMPLES} and len(server.bought) == ROWS
    # 10 tokens in, of which 4 from the prompt cache and free, and 4 out; half the price
    usd = ROWS * (6 * 10 + 4 * 100) / 1e6 / 2
    assert sum(r["usage"]["usd"] for r in found) == pytest.approx(usd)
    ledger = [json.loads(line) for line in (folder / "runs" / "r" / "ledger.jsonl").read_text().splitlines()]
    assert sum(line["usd"] for line in ledger) == pytest.approx(usd)


def test_a_run_is_one_batch_at_half_the_price(server, folder):
    done = limbeck(*words(server), cwd=folder, **environment(folder))
    assert done.returncode == 0, done.stderr
    assert len(server.batches) == 1
    check(server, folder)


@pytest.mark.parametrize("stall", ["upload", "create-lost", "state", "results"])
def test_a_run_that_is_killed_goes_on_without_buying_again(server, folder, stall):
    server.stall = stall
    process = start(*words(server), cwd=folder, **environment(folder))
    wait_for(server.reached.is_set, process=process)
    kill(process)
    server.stall = ""
    done = limbeck(*words(server), cwd=folder, **environment(folder))
    assert done.returncode == 0, done.stderr
    check(server, folder)


def test_ctrl_c_leaves_the_batch_at_once_and_the_same_command_collects_it(server, folder):
    server.looks = 10**9
    process = start(*words(server), cwd=folder, **environment(folder))
    wait_for(lambda: server.batches and server.batches[0].looks, process=process)
    code, told = kill(process, signal.SIGINT)
    assert code == 130 and "they are paid for" in told
    server.looks = 0
    assert limbeck(*words(server), cwd=folder, **environment(folder)).returncode == 0
    check(server, folder)


def test_answers_bought_by_batch_serve_a_live_run(server, folder):
    assert limbeck(*words(server), cwd=folder, **environment(folder)).returncode == 0
    calls = len(server.log)
    live = [word if word != "runs/r" else "runs/live" for word in words(server, "openai")]
    done = limbeck(*live, cwd=folder, **environment(folder))
    assert done.returncode == 0, done.stderr
    assert len(server.log) == calls, "nothing was asked: all answers were in the cache"
