"""Fixtures for all tests. `corpora` is the folder of public corpora; tests that use it skip, loudly, where it is absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# one thread each: on a busy machine spinning threads cost several times what they compute; children inherit it
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def corpora() -> Path:
    """Return the folder of public corpora: LIMBECK_CORPORA, or `../shared/data` beside the checkout."""
    folder = Path(os.environ.get("LIMBECK_CORPORA", HERE.parent.parent / "shared" / "data"))
    if not (folder / "gsm8k" / "train.jsonl").is_file():
        pytest.skip(f"SKIPPED: the public corpora are not at {folder}; set LIMBECK_CORPORA to their folder.")
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every test a cache of its own, so that none is answered from another's."""
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "calls.sqlite"))
