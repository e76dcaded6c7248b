"""The law of secrets: a planted key is nowhere on disk after a run, not in what was printed, not in an error."""

from __future__ import annotations

import os
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from limbeck import Recipe
from limbeck.core.find import find_step
from running import PARTS, limbeck, sentence

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
