"""The law of faults: one bad row is one bad row, a bad hour costs no row, and a bad endpoint stops the run with a sentence.

The server misbehaves by the words of a prompt (`<<400>>`, every attempt) or by a share of the attempts that its hash decides.
"""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from load_server import FULL, Mock, command, durable, files_of, write_prompts

from limbeck.core.row import Row
from limbeck.engine.rundir import read_rows
from running import limbeck, sentence, start, wait_for

PROMPTS = 2000 if FULL else 400
MIX = {"429": 0.10, "500": 0.03, "hang": 0.005, "garbled": 0.01, "empty": 0.005, "cut": 0.01, "halfclose": 0.01}


def settings(folder: Path, **more: str) -> dict[str, str]:
    return {"LIMBECK_CACHE": str(folder / "calls.sqlite"), "LIMBECK_CONCURRENCY": "64", **more}


def rows(run: Path, step: str = "sample", *, dropped: bool = False) -> list[Row]:
    (file,) = run.glob(f"0*-{step}/{'dropped' if dropped else 'kept'}.parquet")
    return list(read_rows(file))


def attempts(mock: Mock, outcome: str) -> Counter[str]:
    """How often each request met an outcome."""
    return Counter(record[0] for record in mock.records() if record[3] == outcome)


def test_one_refused_prompt_in_a_hundred_costs_exactly_those_rows(tmp_path: Path) -> None:
    bad = random.Random(5).sample(range(PROMPTS), PROMPTS // 100)
    prompts = write_prompts(tmp_path / "prompts.jsonl", PROMPTS, dict.fromkeys(bad, "400"))
    with Mock(latency=0.01) as mock:
        words = command(mock, prompts, tmp_path / "run", "--quiet", recipe="load_recipes")
        done = limbeck(*words, cwd=tmp_path, **settings(tmp_path))
        assert done.returncode == 0, done.stderr
        assert len(rows(tmp_path / "run")) == PROMPTS - len(bad)
        dropped = rows(tmp_path / "run", dropped=True)
        assert sorted(int(row.question.split()[1].rstrip(":")) for row in dropped) == sorted(bad)
        assert all("This prompt is against the content policy." in str(row.dropped) for row in dropped)
        refused = attempts(mock, "400")
        assert len(refused) == len(bad) and set(refused.values()) == {1}, "each was tried once"
        assert mock.stats()["repeats"] == 0


def test_a_bad_hour_costs_no_row_and_little_time(tmp_path: Path) -> None:
    """10 % 429, 3 % 500, hangs, broken JSON, no choices, cut and half-closed connections: all rows, the same bytes."""
    prompts = write_prompts(tmp_path / "prompts.jsonl", PROMPTS)
    seconds = {}
    with Mock(latency=0.05, seed=3) as mock:
        for name, rates in (("calm", {}), ("bad", MIX)):
            mock.control(rates=rates, reset=True)
            words = command(mock, prompts, tmp_path / name, "--quiet", recipe="load_recipes")
            begun = time.monotonic()
            more = {"LIMBECK_CACHE": str(tmp_path / f"{name}.sqlite"), "LIMBECK_TIMEOUT": "1" if FULL else "2"}
            done = limbeck(*words, cwd=tmp_path, **settings(tmp_path, **more))
            seconds[name] = time.monotonic() - begun
            assert done.returncode == 0, done.stderr
            stats = mock.stats()
            assert stats["answered"] == PROMPTS and stats["bought_twice"] == 0
    met = stats["outcomes"]
    assert met["429"] > 0.05 * PROMPTS and met["hang"] > 0 and met["cut"] > 0 and met["garbled"] > 0, met
    assert files_of(tmp_path / "calm") == files_of(tmp_path / "bad"), "the rows do not know what it took to get them"
    print(f"calm {seconds['calm']:.1f} s, bad {seconds['bad']:.1f} s, {met}")
    assert seconds["bad"] <= 3 * seconds["calm"] + (0 if FULL else 3), f"{seconds}: a small run has a long tail"


@pytest.mark.parametrize("status", ["401", "404"])
def test_a_wrong_key_or_model_stops_at_once(tmp_path: Path, status: str) -> None:
    prompts = write_prompts(tmp_path / "prompts.jsonl", PROMPTS)
    with Mock(latency=0.02, always=status) as mock:
        words = command(mock, prompts, tmp_path / "run", "--quiet")
        begun = time.monotonic()
        told = sentence(limbeck(*words, cwd=tmp_path, **settings(tmp_path)), 1)
        assert time.monotonic() - begun < 20
        assert f"status {status}" in told and ("API key" in told) == (status == "401")
        assert mock.stats()["arrived"] <= 80 and mock.stats()["repeats"] == 0
        mock.control(always="")
        assert limbeck(*words, cwd=tmp_path, **settings(tmp_path)).returncode == 0
        assert mock.stats()["answered"] == PROMPTS


def test_403_on_some_rows_drops_these(tmp_path: Path) -> None:
    bad = [0, 1, 2, 50, 51, PROMPTS - 1]
    prompts = write_prompts(tmp_path / "prompts.jsonl", PROMPTS, dict.fromkeys(bad, "403"))
    with Mock(latency=0.01) as mock:
        words = command(mock, prompts, tmp_path / "run", "--quiet", recipe="load_recipes")
        done = limbeck(*words, cwd=tmp_path, **settings(tmp_path))
        assert done.returncode == 0, done.stderr
        dropped = rows(tmp_path / "run", dropped=True)
        assert len(dropped) == len(bad) and len(rows(tmp_path / "run")) == PROMPTS - len(bad)
        assert all("in your region" in str(row.dropped) for row in dropped)
        assert set(attempts(mock, "403").values()) == {1}


def test_403_on_all_rows_stops(tmp_path: Path) -> None:
    prompts = write_prompts(tmp_path / "prompts.jsonl", PROMPTS)
    with Mock(latency=0.01, always="403") as mock:
        told = sentence(
            limbeck(*command(mock, prompts, tmp_path / "run", "--quiet"), cwd=tmp_path, **settings(tmp_path)), 1
        )
        assert "403" in told and "in your region" in told and mock.stats()["arrived"] <= 128
        assert mock.stats()["repeats"] == 0


def test_an_endpoint_that_dies_stops_the_run_and_the_rerun_goes_on(tmp_path: Path) -> None:
    prompts = write_prompts(tmp_path / "prompts.jsonl", PROMPTS)
    with Mock(latency=0.05) as mock:
        words = command(mock, prompts, tmp_path / "run", "--quiet", recipe="load_recipes")
        process = start(*words, cwd=tmp_path, **settings(tmp_path, LIMBECK_PATIENCE="3"))
        wait_for(lambda: mock.stats()["answered"] > PROMPTS // 3, process=process)
        mock.down()
        _, told = process.communicate(timeout=60)
        assert process.returncode == 1 and "Traceback" not in told, told
        assert told.startswith("limbeck: ") and "run the same command again" in told and len(told.splitlines()) == 1
        mock.up()
        stats = mock.stats()
        assert PROMPTS // 3 < stats["answered"] < PROMPTS and durable(tmp_path / "calls.sqlite") == stats["answered"]
        done = limbeck(*words, cwd=tmp_path, **settings(tmp_path))
        assert done.returncode == 0, done.stderr
        assert len(rows(tmp_path / "run")) == PROMPTS and mock.stats()["bought_twice"] == 0


def test_an_endpoint_that_comes_back_costs_nothing(tmp_path: Path) -> None:
    prompts = write_prompts(tmp_path / "prompts.jsonl", PROMPTS)
    with Mock(latency=0.05) as mock:
        process = start(*command(mock, prompts, tmp_path / "run", "--quiet"), cwd=tmp_path, **settings(tmp_path))
        wait_for(lambda: mock.stats()["answered"] > PROMPTS // 3, process=process)
        mock.down()
        time.sleep(1.5)
        mock.up()
        _, told = process.communicate(timeout=60)
        assert process.returncode == 0, told
        assert mock.stats()["answered"] == PROMPTS and mock.stats()["bought_twice"] == 0


@pytest.mark.parametrize(("tolerate", "code"), [("2%", 0), ("0.5%", 4)])
def test_a_declared_tolerance_decides_the_exit_code(tmp_path: Path, tolerate: str, code: int) -> None:
    prompts = write_prompts(tmp_path / "prompts.jsonl", 200, dict.fromkeys((7, 77), "400"))
    with Mock(latency=0.0) as mock:
        words = command(mock, prompts, tmp_path / "run", "--quiet", "--tolerate", tolerate, recipe="load_recipes")
        done = limbeck(*words, cwd=tmp_path, **settings(tmp_path))
    assert done.returncode == code, done.stderr
    assert len(rows(tmp_path / "run")) == 198, "everything is there, whatever the exit code"
    if code:
        told = sentence(done, 4)
        assert "2 refused" in told and "--tolerate" in told and "200 rows" in told


def interrupted(folder: Path, mock: Mock, prompts: Path, latency: float) -> subprocess.Popen[str]:
    """Start a run and send it Ctrl-C in the middle."""
    mock.control(latency=latency)
    words = command(mock, prompts, folder / "run", "--quiet", recipe="load_recipes")
    process = start(*words, cwd=folder, **settings(folder))
    wait_for(lambda: mock.stats()["answered"] > 100, process=process)
    process.send_signal(signal.SIGINT)
    return process


def test_ctrl_c_once_saves_what_is_in_flight(tmp_path: Path) -> None:
    prompts = write_prompts(tmp_path / "prompts.jsonl", PROMPTS)
    with Mock() as mock:
        process = interrupted(tmp_path, mock, prompts, 0.4)
        time.sleep(0.1)
        sent = mock.stats()["arrived"]
        _, told = process.communicate(timeout=30)
        assert process.returncode == 130 and "Traceback" not in told, told
        stats = mock.stats()
        assert stats["arrived"] == sent < PROMPTS, "no request was sent after Ctrl-C"
        assert durable(tmp_path / "calls.sqlite") == stats["answered"] == sent, "what was in flight is stored"
        words = command(mock, prompts, tmp_path / "run", "--quiet", recipe="load_recipes")
        assert limbeck(*words, cwd=tmp_path, **settings(tmp_path)).returncode == 0
        assert mock.stats()["repeats"] == 0 and len(rows(tmp_path / "run")) == PROMPTS


def test_ctrl_c_twice_stops_now(tmp_path: Path) -> None:
    prompts = write_prompts(tmp_path / "prompts.jsonl", PROMPTS)
    with Mock() as mock:
        process = interrupted(tmp_path, mock, prompts, 0.05)
        mock.control(hold=True)
        time.sleep(0.5)
        assert process.poll() is None, "after the first Ctrl-C it waits for what is in flight"
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=30)
        assert process.returncode == 130 and time.monotonic() - begun < 5 and "Traceback" not in told, told
        answered = mock.stats()["answered"]
        assert durable(tmp_path / "calls.sqlite") == answered, "nothing that was answered is lost"
        mock.control(hold=False)
        words = command(mock, prompts, tmp_path / "run", "--quiet", recipe="load_recipes")
        assert limbeck(*words, cwd=tmp_path, **settings(tmp_path)).returncode == 0
        assert mock.stats()["bought_twice"] == 0
