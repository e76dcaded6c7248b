"""The law of secrets: a planted key is nowhere on disk after a run, not in what was printed, not in an error."""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from load_server import Mock, command, files_of, write_prompts

from limbeck import Recipe, api
from limbeck.core.find import find_step
from running import PARTS, kill, limbeck, sentence, start, wait_for

KEY = "sk-planted-4711-do-not-store"
KEYS = dict.fromkeys(("OPENAI_API_KEY", "LIMBECK_API_KEY", "ANTHROPIC_API_KEY", "HF_TOKEN"), KEY)


def servers() -> Any:
    spec = spec_from_file_location("fault_server", Path(__file__).parent.parent / "teachers" / "fault_server.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules.setdefault("fault_server", module_from_spec(spec))
    if not hasattr(module, "FaultServer"):
        spec.loader.exec_module(module)
    return module


def found(folder: Path) -> list[str]:
    return [str(f) for f in folder.rglob("*") if f.is_file() and KEY.encode() in f.read_bytes()]


FAULTS: dict[str, tuple[dict[str, Any], int]] = {
    "none": ({}, 0),
    "wrong key": ({"status": 401, "text": f'{{"error": {{"message": "Incorrect API key provided: {KEY}"}}}}'}, 1),
    "policy": ({"status": 400, "text": f'{{"error": {{"message": "no such key: {KEY}"}}}}'}, 1),
    "echo": ({"status": 400, "echo_headers": True}, 1),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_key_is_nowhere(tmp_path: Path, fault: str) -> None:
    module = servers()
    say, code = FAULTS[fault]
    with module.FaultServer() as server:
        server.script = [module.Say(**say)]
        words = ("run", f"{PARTS}:asking", "--count", 4, "--teacher", f"openai:m@{server.url}", "--out", "run")
        done = limbeck(*words, cwd=tmp_path, LIMBECK_CACHE=str(tmp_path / "calls.sqlite"), **KEYS)
        assert KEY in str(server.seen[0]["headers"]), "the key was used"
    assert done.returncode == code and KEY not in done.stdout + done.stderr, done.stderr
    assert found(tmp_path) == [] and len([f for f in tmp_path.rglob("*") if f.is_file()]) > 2


@pytest.mark.parametrize(
    "address", [f"http://user:{KEY}@127.0.0.1:9/v1", f"http://127.0.0.1:9/v1?api_key={KEY}", f"https://{KEY}@host/v1"]
)
def test_a_key_in_an_address_is_refused_before_anything_is_written(tmp_path: Path, address: str) -> None:
    words = ("run", f"{PARTS}:asking", "--teacher", f"openai:m@{address}", "--out", "run")
    told = sentence(limbeck(*words, cwd=tmp_path, LIMBECK_CACHE=str(tmp_path / "calls.sqlite")), 2)
    assert "holds a password or a key" in told and KEY not in told and list(tmp_path.iterdir()) == []


def test_an_address_with_harmless_options_is_not(tmp_path: Path) -> None:
    for address in (
        "http://host:1/v1?api-version=2024",
        "https://host/v1",
        "file.jsonl?prompt=key",
        "Write to http://a@b.c",
    ):
        Recipe(
            steps=[find_step(f"{PARTS}:Numbers")(), find_step(f"{PARTS}:Answered")(teacher=f"openai:m@{address}")]
        ).resolved()


def test_the_search_finds_a_key(tmp_path: Path) -> None:
    (tmp_path / "leak").write_text(f"Bearer {KEY}")
    assert found(tmp_path) == [str(tmp_path / "leak")] and os.environ.get("OPENAI_API_KEY") != KEY


BAD_HOUR = {"400": 0.06, "429": 0.06, "500": 0.03, "garbled": 0.03, "cut": 0.03, "halfclose": 0.03, "403": 0.03}


@pytest.mark.parametrize("output", ["--quiet", "--json", ""])
def test_a_key_that_a_proxy_echoes_in_every_error_is_nowhere(tmp_path: Path, output: str) -> None:
    """Every kind of fault, each error body repeating the request's headers, in every way of watching the run."""
    prompts = write_prompts(tmp_path / "prompts.jsonl", 80)
    with Mock(latency=0.005, rates=BAD_HOUR, echo=True, retry_after="0.05") as mock:
        words = [w for w in (*command(mock, prompts, tmp_path / "run"), output) if w]
        done = limbeck(*words, cwd=tmp_path, LIMBECK_CACHE=str(tmp_path / "cache" / "calls.sqlite"), **KEYS)
    assert done.returncode == 0, done.stderr
    dropped = (tmp_path / "run" / "02-sample" / "dropped.parquet").read_bytes()
    assert b"content policy" in dropped and b"[removed]" in dropped, "the message is kept, without the key"
    assert KEY not in done.stdout + done.stderr and found(tmp_path) == []
    assert (tmp_path / "run" / "report.html").is_file() and (tmp_path / "cache" / "calls.sqlite").is_file()


@pytest.mark.parametrize("status", ["401", "402", "403", "404", "503"])
def test_a_key_that_is_echoed_as_the_run_stops_is_not_told(tmp_path: Path, status: str) -> None:
    prompts = write_prompts(tmp_path / "prompts.jsonl", 30)
    with Mock(latency=0.0, always=status, echo=True, retry_after="0.2") as mock:
        settings = {"LIMBECK_CACHE": str(tmp_path / "calls.sqlite"), "LIMBECK_PATIENCE": "1", **KEYS}
        told = sentence(limbeck(*command(mock, prompts, tmp_path / "run", "--quiet"), cwd=tmp_path, **settings), 1)
    assert KEY not in told and "[removed]" in told and found(tmp_path) == []


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
def test_a_key_is_not_left_behind_by_a_kill(tmp_path: Path, sign: int) -> None:
    prompts = write_prompts(tmp_path / "prompts.jsonl", 400)
    with Mock(latency=0.05) as mock:
        words = command(mock, prompts, tmp_path / "run")
        process = start(*words, cwd=tmp_path, LIMBECK_CACHE=str(tmp_path / "calls.sqlite"), **KEYS)
        wait_for(lambda: mock.stats()["answered"] > 100, process=process)
        _, told = kill(process, sign)
    assert KEY not in told and found(tmp_path) == []
    assert sign == signal.SIGINT or list(tmp_path.rglob("*-wal")), "what a kill leaves behind was searched too"


def test_no_hash_depends_on_the_key(tmp_path: Path) -> None:
    """With another key, or none, the same answers are found and the same bytes are made."""
    prompts = write_prompts(tmp_path / "prompts.jsonl", 60)
    made = []
    with Mock(latency=0.0) as mock:
        for name, key in (("one", KEY), ("two", "sk-another"), ("three", "")):
            keys = dict.fromkeys(KEYS, key)
            words = command(mock, prompts, tmp_path / name, "--quiet")
            done = limbeck(*words, cwd=tmp_path, LIMBECK_CACHE=str(tmp_path / "calls.sqlite"), **keys)
            assert done.returncode == 0, done.stderr
            made.append((files_of(tmp_path / name), (tmp_path / name / "recipe.json").read_bytes()))
        assert mock.stats()["arrived"] == 60
    assert made[0] == made[1] == made[2] and found(tmp_path) == []


def test_a_key_is_in_no_log_and_no_exception(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Used as a library, with everything logged that any module has to say."""
    for name, key in KEYS.items():
        monkeypatch.setenv(name, key)
    prompts = write_prompts(tmp_path / "prompts.jsonl", 60)
    with caplog.at_level(logging.DEBUG), Mock(latency=0.0, rates=BAD_HOUR, echo=True, retry_after="0.05") as mock:
        words = command(mock, prompts, tmp_path / "run")
        options: dict[str, Any] = {"prompts": str(prompts), "teacher": f"openai:m@{mock.url}", "out": tmp_path / "run"}
        api.run(words[1], **options)
        mock.control(always="401")
        with pytest.raises(Exception) as caught:
            api.run(words[1], temperature=0.5, **options)
    error = caught.value
    shown = "".join(traceback.format_exception(error)) + repr(error) + str(error.args) + repr(vars(error))
    assert "[removed]" in shown and KEY not in shown and KEY not in caplog.text and found(tmp_path) == []
