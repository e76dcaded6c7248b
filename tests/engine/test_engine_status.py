"""The status of runs that are done, under way, and killed, over real HTTP and in real processes: nothing counted twice."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from limbeck import api
from limbeck.view.status import lines
from running import kill, limbeck, start, wait_for

ROWS, SAMPLES = 300, 2


@pytest.fixture
def server() -> Iterator[Any]:
    """A server that takes a tenth of a second and counts 10 tokens in and 5 out for each answer."""
    spec = spec_from_file_location("fault_server", Path(__file__).parents[1] / "teachers" / "fault_server.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules.setdefault("fault_server", module_from_spec(spec))
    if not hasattr(module, "FaultServer"):
        spec.loader.exec_module(module)

    def decide(body: dict[str, Any]) -> Any:
        count = body.get("n", 1)
        return module.Say(usage={"prompt_tokens": 10, "completion_tokens": 5 * count}, seconds=0.1)

    with module.FaultServer() as running:
        running.decide = decide
        yield running


def folder(tmp_path: Path, server: Any) -> list[object]:
    """Write prompts and prices; return the words of the command."""
    prompts = [{"prompt": f"How much is {n} and {n}?", "reference": str(2 * n)} for n in range(ROWS)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(p) + "\n" for p in prompts))
    teacher = f"openai:m@{server.url}"
    (tmp_path / "prices.json").write_text(json.dumps({teacher: {"input": 10, "output": 100}}))
    words = [
        "run",
        "rejection_sampling",
        "--prompts",
        tmp_path / "prompts.jsonl",
        "--teacher",
        teacher,
        "--samples",
        SAMPLES,
    ]
    return [*words, "--out", "run", "--prices", "prices.json", "--concurrency", 16, "--quiet"]


def sample_of(path: Path) -> dict[str, Any]:
    return next(step for step in api.status(path) if step["name"] == "sample")


def test_a_run_under_way_killed_and_resumed_is_counted_once(tmp_path: Path, server: Any) -> None:
    words = folder(tmp_path, server)
    process = start(*words, cwd=tmp_path)
    run = tmp_path / "run"
    try:
        live = wait_for(
            lambda: (
                (run / "recipe.json").is_file()
                and (s := sample_of(run))
                and (s["usage"] or {}).get("calls", 0) > 40
                and s
            ),
            process=process,
        )
    finally:
        code, _ = kill(process)
    assert code == -9 and live["state"] == "under way" and not live["done"]
    assert live["usage"]["answers"] == SAMPLES * live["usage"]["calls"] and live["usage"]["usd"] > 0
    dead = sample_of(run)
    assert dead["state"] == "begun" and dead["why"] == "begun but not finished"
    assert live["usage"]["calls"] <= dead["usage"]["calls"] <= len(server.seen) < ROWS
    assert not (run / "ledger.jsonl").exists(), "what a killed session has spent is known from the cache"
    told = " ".join(" ".join(lines(api.status(run))).split())
    assert "0 of 5 steps are done. To do: prompts" in told and "Run the same command again to go on." in told

    before = len(server.seen)
    done = limbeck(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(server.seen) - before == ROWS - dead["usage"]["calls"], "only what was not stored is asked again"
    steps = api.status(run)
    sample = sample_of(run)
    assert (sample["usage"]["calls"], sample["usage"]["answers"]) == (ROWS, ROWS * SAMPLES)
    assert sample["usage"]["cached"] == SAMPLES * dead["usage"]["calls"]
    assert sample["usage"]["usd"] == pytest.approx(ROWS * (10 * 10 + 5 * SAMPLES * 100) / 1e6)
    assert sample["usage"] == json.loads((run / "02-sample" / "step.json").read_text())["usage"], (
        "step.json says the same"
    )
    assert all(step["done"] for step in steps)
    report = (run / "report.html").read_text()
    assert f"{ROWS * SAMPLES:,}" in report and "$0.33" in report

    again = limbeck(*words, cwd=tmp_path)
    assert again.returncode == 0 and sample_of(run)["usage"]["usd"] == pytest.approx(sample["usage"]["usd"])
    text = "\n".join(lines(api.status(run)))
    assert "5 of 5 steps are done." in text and "$0.33" in text and max(map(len, text.splitlines())) <= 100


def test_what_was_under_way_at_the_kill_may_have_cost_something_and_is_said(tmp_path: Path, server: Any) -> None:
    words = [*folder(tmp_path, server), "--budget", 100]
    process = start(*words, cwd=tmp_path)
    wait_for(lambda: len(server.seen) > 60, process=process)
    kill(process)
    assert limbeck(*words, cwd=tmp_path).returncode == 0
    steps = api.status(tmp_path / "run")
    other = [step for step in steps if not step["step"]]
    if other:  # requests were on their way to the server when the process died, and were not stored
        assert other[0]["usage"]["at_risk"] > 0 and other[0]["usage"]["usd"] == 0
        told = " ".join(lines(steps))
        assert "Requests without a reply may have cost up to $" in told and other[0]["name"] not in told
        assert "Requests whose reply never came may have cost up to" in (tmp_path / "run" / "report.html").read_text()
    assert sample_of(tmp_path / "run")["usage"]["calls"] == ROWS


def test_status_changes_nothing_and_works_without_the_cache(tmp_path: Path, server: Any, monkeypatch: Any) -> None:
    words = folder(tmp_path, server)
    assert limbeck(*words, cwd=tmp_path).returncode == 0
    run = tmp_path / "run"
    seen = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    told = api.status(run)
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "nowhere.sqlite"))
    assert api.status(run) == told and not (tmp_path / "nowhere.sqlite").exists()
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == seen
    (run / "env.json").unlink()
    assert sample_of(run)["usage"]["calls"] == ROWS


def test_status_works_where_a_file_that_was_read_is_gone(tmp_path: Path, server: Any) -> None:
    assert limbeck(*folder(tmp_path, server), cwd=tmp_path).returncode == 0
    (tmp_path / "prompts.jsonl").unlink()
    steps = api.status(tmp_path / "run")
    assert all(step["done"] for step in steps) and steps[1]["usage"]["calls"] == ROWS
    assert "whether it would run again can not be said: There is no file" in steps[0]["why"]


def test_a_changed_option_says_what_reruns_and_what_it_had_cost(tmp_path: Path, server: Any) -> None:
    words = folder(tmp_path, server)
    assert limbeck(*words, cwd=tmp_path).returncode == 0
    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())
    recipe["steps"][2]["fields"]["tolerance"] = 0.5
    (tmp_path / "run" / "recipe.json").write_text(json.dumps(recipe))
    steps = {step["name"]: step for step in api.status(tmp_path / "run")}
    assert steps["sample"]["state"] == "done" and steps["math"]["state"] == "to do again"
    assert "tolerance: 0.0 -> 0.5" in steps["math"]["why"] and steps["math"]["rows_in"] == ROWS * SAMPLES
    assert steps["verified"]["rows_in"] is None
    text = "\n".join(lines(list(steps.values()), why=True))
    assert "To do: math (600 rows to read), verified and corpus." in " ".join(text.split())
    assert "    its options changed (tolerance: 0.0 -> 0.5)" in text


def test_unknown_prices_stay_unknown_in_the_sums(tmp_path: Path, server: Any) -> None:
    words = folder(tmp_path, server)
    del words[words.index("--prices") : words.index("--prices") + 2]
    environment = {k: v for k, v in os.environ.items() if k == "LIMBECK_CACHE"}
    assert limbeck(*words, cwd=tmp_path, **environment).returncode == 0
    told = "\n".join(lines(api.status(tmp_path / "run")))
    assert "unknown" in told and f"The price of {ROWS * SAMPLES} answers is unknown" in told and "$" not in told
    assert "a price that was not told is unknown" in (tmp_path / "run" / "report.html").read_text()
