"""What the laws of load share: the mock server of the benchmarks, prompts, commands, and what is on disk afterwards.

LIMBECK_FULL=1 runs these laws at their full size (2,000 prompts, 20 kills, 100,000 rows; some ten minutes); without it they are
small enough for every day. The server is a real process and counts from the outside.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent.parent / "bench"))

from client_measure import Mock, Took, measure

__all__ = [
    "FULL",
    "RECIPES",
    "Mock",
    "Stalls",
    "Took",
    "command",
    "durable",
    "files_of",
    "measure",
    "repeated",
    "write_prompts",
]

FULL = bool(os.environ.get("LIMBECK_FULL"))
RECIPES = Path(__file__).resolve().parent / "load_recipes.py"
WORDS = "so many of them were taken away that a careful reader asks how much can be left of it"
PAID = ("answered", "slow", "closing")


DYING = 0.2
"""Seconds that the server may take to notice that its client was killed; a new process takes longer to send anything."""


def write_prompts(path: Path, count: int, marks: dict[int, str] | None = None) -> Path:
    """Write a JSONL file of prompts of some 70 words; `marks` puts `<<400>>` and the like into some of them."""
    words = WORDS.split()
    with path.open("w", encoding="utf-8") as file:
        for i in range(count):
            text = " ".join(words[(i + k * k) % len(words)] for k in range(60 + i % 20))
            mark = f" <<{marks[i]}>>" if marks and i in marks else ""
            file.write(json.dumps({"prompt": f"Question {i}: {text}?{mark}"}) + "\n")
    return path


def command(mock: Mock, prompts: Path, run: Path, *more: object, recipe: str = "load") -> list[str]:
    """Return the words after `limbeck` that run a recipe against the server."""
    words = ["run", f"{RECIPES}:{recipe}", "--prompts", prompts, "--teacher", f"openai:m@{mock.url}", "--out", run]
    return [str(word) for word in (*words, *more)]


def files_of(run: Path) -> dict[str, bytes]:
    """Return every Parquet file of a run, byte for byte."""
    return {str(f.relative_to(run)): f.read_bytes() for f in sorted(run.glob("0*/*.parquet"))}


def durable(cache: Path) -> int:
    """Return how many answers the cache holds."""
    if not cache.exists():
        return 0
    connection = sqlite3.connect(cache)
    try:
        (count,) = connection.execute("SELECT count(*) FROM answers").fetchone()
    except sqlite3.OperationalError:  # killed before the tables were made
        return 0
    finally:
        connection.close()
    return int(count)


def repeated(records: Iterable[Sequence[Any]], kills: Sequence[float]) -> list[float]:
    """Return, for every answer that was asked for again, how many seconds before a kill the server had written it.

    The server's clock and `time.monotonic()` of the test are the same clock. An answer written a moment before the kill may not
    have been read, let alone stored; one written long before must never be asked for again.
    """
    written: dict[str, list[float]] = defaultdict(list)
    ages = []
    for digest, arrived, at, outcome, *_ in sorted(records, key=lambda record: record[1]):
        before = [w for w in written[digest] if w <= arrived]
        if before:
            killed = [k for k in kills if before[-1] <= k + DYING and k <= arrived]
            ages.append(min(killed) - before[-1] if killed else float("inf"))
        if outcome in PAID:
            written[digest].append(at)
    return ages


class Stalls(threading.Thread):
    """Watches how long this machine lets a process wait that only wants to write some bytes to the disk and flush them."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.path, self.stop = path, threading.Event()
        self._seen: list[tuple[float, float]] = []

    def run(self) -> None:
        """Write and flush every 10 ms, until told to stop."""
        with self.path.open("wb", buffering=0) as file:
            begun = time.monotonic()
            while not self.stop.wait(0.01):
                file.write(bytes(512))
                os.fsync(file.fileno())
                ended = time.monotonic()
                self._seen.append((ended, ended - begun - 0.01))
                begun = ended

    def worst(self, seconds: float = 5.0) -> float:
        """Return the longest wait of the last seconds."""
        since = time.monotonic() - seconds
        return max((wait for at, wait in list(self._seen) if at > since), default=0.0)
