"""SIGKILL of a process that buys by batch, at every stage and at random instants: the provider counts every answer once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from batch_server import BatchServer

from running import wait_for

CLIENT = Path(__file__).resolve().parent / "batch_client.py"
BOTH = pytest.mark.parametrize("kind", ["openai", "anthropic"])
QUESTIONS, SAMPLES = 60, 2


@pytest.fixture
def server() -> Iterator[BatchServer]:
    with BatchServer() as running:
        yield running


def start(server: BatchServer, kind: str, folder: Path, target: str = "answers.jsonl") -> subprocess.Popen[str]:
    command = [sys.executable, CLIENT, f"{kind}:m@{server.url}", str(QUESTIONS), str(SAMPLES), folder / target]
    environment = {**os.environ, "LIMBECK_CACHE": str(folder / "calls.sqlite"), "LIMBECK_BATCH_POLL": "0.1"}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)


def kill(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)


def finish(server: BatchServer, kind: str, folder: Path) -> list[str]:
    """Run the same command to its end, and check that each answer is there once and was bought once."""
    process = start(server, kind, folder)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    answers = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    assert sorted(text for text, _ in answers) == sorted(f"q{i}" for i in range(QUESTIONS))
    assert all(len(given) == SAMPLES and all(text in answer for answer in given) for text, given in answers)
    assert set(server.bought.values()) == {SAMPLES} and len(server.bought) == QUESTIONS
    return told.splitlines()


@BOTH
@pytest.mark.parametrize("stall", ["upload", "create", "create-lost", "state", "results"])
def test_killed_at_a_stage(server, kind, stall, tmp_path):
    server.stall = stall
    process = start(server, kind, tmp_path)
    assert server.reached.wait(30), f"nobody came to '{stall}'"
    kill(process)
    begun = len(server.batches)
    assert begun == (0 if stall in ("upload", "create") else 1)
    server.stall = ""
    told = finish(server, kind, tmp_path)
    assert len(server.batches) == 1, "a batch under way was joined, one that was never begun was begun once"
    assert any("found again" in line for line in told) == (stall == "create-lost")


@BOTH
def test_killed_between_the_answer_of_the_provider_and_the_next_line_of_the_journal(server, kind, tmp_path):
    """The record on disk says that the batch was about to begin, and the provider's list shows others as well."""
    server.looks = 10**9
    process = start(server, kind, tmp_path)
    wait_for(lambda: server.batches and server.batches[0].looks, process=process)
    kill(process)
    (file,) = (tmp_path / "batches").glob("*.json")
    record = json.loads(file.read_text())
    assert record["batch"] == "batch_1"
    file.write_text(json.dumps({**record, "batch": ""}))
    for number in range(7):  # batches of other people in the same account, some as large as ours
        size = len(server.batches[0].requests) if number % 3 == 0 else 5
        requests = [
            {"custom_id": f"x{i}", "body": {"model": "other", "messages": [{"content": str(i)}]}} for i in range(size)
        ]
        server._begin(requests)
    server.looks = 0
    finish(server, kind, tmp_path)
    assert len(server.batches) == 8


@BOTH
def test_killed_while_the_answers_are_handed_over(server, kind, tmp_path):
    process = start(server, kind, tmp_path)
    answers = tmp_path / "answers.jsonl"
    wait_for(lambda: answers.exists() and answers.stat().st_size, process=process)
    kill(process)
    finish(server, kind, tmp_path)
    assert len(server.batches) == 1


@BOTH
def test_killed_at_random_instants(server, kind, tmp_path):
    """Every third answer of a first batch expires, so that second batches are killed, too."""
    server.looks, order = 3, random.Random(3)
    server.fate = lambda text, batch: "expired" if batch == 1 and int(text[1:]) % 3 == 0 else "ok"
    for _ in range(8):
        process = start(server, kind, tmp_path)
        time.sleep(0.4 + 1.6 * order.random())
        if process.poll() is None:
            kill(process)
        else:
            process.communicate()
            (tmp_path / "answers.jsonl").unlink()  # what was stored is lost: the journal gives it again
    finish(server, kind, tmp_path)


@BOTH
def test_two_processes_at_once_and_one_of_them_killed(server, kind, tmp_path):
    """Whoever comes second waits at the first one's batch, and does not need the first one any more."""
    server.looks = 10**9
    processes = [start(server, kind, tmp_path, f"{name}.jsonl") for name in "ab"]
    wait_for(lambda: sum(f"batches/{b.id}" in line for b in server.batches for line in server.log) > 8)
    kill(processes.pop(0))
    server.looks = 0
    _, told = processes[0].communicate(timeout=60)
    assert processes[0].returncode == 0, told
    assert len((tmp_path / "b.jsonl").read_text().splitlines()) == QUESTIONS
    finish(server, kind, tmp_path)
    assert len(server.batches) == 1


def test_ctrl_c_leaves_the_batch_to_the_provider_and_says_so(server, tmp_path):
    server.looks = 10**9
    process = start(server, "openai", tmp_path)
    wait_for(lambda: server.batches and server.batches[0].looks, process=process)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert f"60 requests go on at {server.url} m (batch_1): they are paid for." in told
    server.looks = 0
    finish(server, "openai", tmp_path)
    assert len(server.batches) == 1
