"""Asking math-verify, a computer algebra system behind a grammar of LaTeX, without letting it into this process.

    asked(r"\\int_0^1 x dx", r"\\frac{1}{2}")     "same"
    asked("9^{9^{9^9}}!", "1")                  "undecided"  after 2.4 seconds, its process killed
    asked(...)                                  "undecided"  where math-verify is not installed: nothing is guessed

One server process (`_math_worker.py`) is started when it is first needed and forks for every comparison. Any number of
threads may ask at once. math-verify comes with `pip install 'limbeck[math]'`.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import itertools
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Literal

Told = Literal["same", "different", "undecided"]
WAIT = 2.8
"""Seconds that a call waits at most."""
PATIENT = 30.0
"""Seconds that a patient call waits at most: the limit on CPU time decides, so that load changes no verdict."""
START = 60.0
"""Seconds that `warm` waits for the server, which takes one on a quiet machine."""
MAX_TEXT = 1000


class _Server:
    """A running server and the comparisons it was asked for."""

    def __init__(self) -> None:
        paths = json.dumps([str(Path(p).resolve()) for p in sys.path if p])
        script = str(Path(__file__).with_name("_math_worker.py"))
        self.process = subprocess.Popen(
            [sys.executable, "-I", script, paths],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={"PYTHONHASHSEED": "0"},
            start_new_session=True,
        )
        self.ready = threading.Event()
        self.ended = False
        self._numbers = itertools.count()
        self._open: dict[int, tuple[threading.Event, list[bool | None]]] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._listen, daemon=True, name="math-verify").start()

    def ask(self, left: str, right: str, seconds: float) -> bool | None:
        """Return whether two texts are equal; None without a verdict after `seconds`."""
        answered = threading.Event()
        found: list[bool | None] = [None]
        with self._lock:
            number = next(self._numbers)
            self._open[number] = (answered, found)
            line = json.dumps({"id": number, "left": left, "right": right, "seconds": seconds - 0.4}) + "\n"
            with contextlib.suppress(OSError):
                os.write(self.process.stdin.fileno(), line.encode())  # type: ignore[union-attr]
        answered.wait(seconds)
        with self._lock:
            self._open.pop(number, None)
        if not answered.is_set() and self.ready.is_set():
            self.stop()  # it does not keep its own deadlines: the next call starts another
        return found[0]

    def stop(self) -> None:
        """End the server and everything it has started."""
        self.ended = True
        with contextlib.suppress(OSError):
            os.killpg(self.process.pid, 9)
        self.process.wait()
        with contextlib.suppress(OSError):
            self.process.stdin.close()  # type: ignore[union-attr]

    def _listen(self) -> None:
        with self.process.stdout as lines:  # type: ignore[union-attr]
            for line in lines:
                told = json.loads(line)
                if "ready" in told:
                    self.ready.set()
                    continue
                with self._lock:
                    answered, found = self._open.pop(told["id"], (threading.Event(), [None]))
                found[0] = told["equal"]
                answered.set()
        self.ended = True
        self.ready.set()
        with self._lock:
            for answered, _ in self._open.values():
                answered.set()


_server: _Server | None = None
_starting = threading.Lock()


def installed() -> bool:
    """Say whether math-verify can be asked on this machine."""
    return hasattr(os, "fork") and importlib.util.find_spec("math_verify") is not None


def asked(left: str, right: str, *, patient: bool = False) -> Told:
    """Return math-verify's verdict, asked in both directions. Takes at most three seconds.

    A patient caller also waits for the server to start and for a busy machine, so that neither changes a verdict.
    """
    if left.strip() == "" or max(len(left), len(right)) > MAX_TEXT or not installed():
        return "undecided"
    if patient:
        warm()
    equal = _running().ask(left, right, PATIENT if patient else WAIT)
    return "undecided" if equal is None else "same" if equal else "different"


def warm() -> None:
    """Wait until math-verify is loaded."""
    if installed():
        _running().ready.wait(START)


def _running() -> _Server:
    global _server
    with _starting:
        if _server is None or _server.ended:
            _stop()
            _server = _Server()
        return _server


def _stop() -> None:
    global _server
    if _server is not None:
        _server.stop()
        _server = None


def _forget() -> None:
    """After a fork the server is the parent's; the child starts its own."""
    global _server, _starting
    _starting = threading.Lock()
    if _server is not None:
        with contextlib.suppress(OSError):
            os.close(_server.process.stdin.fileno())  # type: ignore[union-attr]
            os.close(_server.process.stdout.fileno())  # type: ignore[union-attr]
        _server.process.returncode = 0
    _server = None


atexit.register(_stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
