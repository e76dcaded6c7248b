"""`limbeck`, but it kills itself and its whole process group in the middle of something.

    python die_at.py rename 3 during run recipe.py --out run      SIGKILL at the third rename: `before`, `during` or `after`
    python die_at.py commit 12 during run ...                     the same for the commits of the cache
    python die_at.py commit 0 NOTE run ...                        never; writes into the file NOTE how many there were

"During" is a SIGKILL from another thread a moment after the call has begun: what the disk then holds is up to chance.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WHAT, NUMBER, WHEN = sys.argv[1], int(sys.argv[2]), sys.argv[3]
count = 0


def die() -> None:
    os.killpg(0, signal.SIGKILL)


def later() -> None:
    time.sleep(0.0001)
    die()


def watched(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with death around it."""

    def call(*words: Any, **named: Any) -> Any:
        global count
        count += 1
        if NUMBER == 0:
            Path(WHEN).write_text(str(count))
        if count != NUMBER:
            return function(*words, **named)
        if WHEN == "before":
            die()
        if WHEN == "during":
            threading.Thread(target=later).start()
        done = function(*words, **named)
        die()
        return done

    return call


class Watched(sqlite3.Connection):
    """A connection whose COMMIT is watched."""

    def execute(self, sql: str, *words: Any) -> sqlite3.Cursor:
        plain = super().execute
        return (watched(plain) if sql.strip().upper().startswith("COMMIT") else plain)(sql, *words)

    def commit(self) -> None:
        watched(super().commit)()


def main() -> None:
    """Put death in place, and be `limbeck`."""
    del sys.argv[1:4]
    if WHAT == "rename":
        os.replace, os.rename = watched(os.replace), watched(os.rename)
    else:
        plain = sqlite3.connect
        sqlite3.connect = lambda *words, **named: plain(*words, **{"factory": Watched, **named})  # type: ignore[assignment]
    from limbeck.cli import main as limbeck

    limbeck()


if __name__ == "__main__":
    main()
