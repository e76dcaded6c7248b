"""The process in which math-verify runs: started as a script by `_math_verify.py`, never imported by the library.

    in    {"id": 7, "left": "\\\\int_0^1 x dx", "right": "1/2"}        one line of JSON each
    out   {"ready": true}                                             once, after math-verify is imported
          {"id": 7, "equal": true}                                    or false, or null where there is no verdict

Importing math-verify takes half a second, so it is imported once. Every comparison runs in a fork of its own, with limits on
memory and CPU time, and is killed at its deadline: a formula that sympy never comes back from costs its time, and
nothing else. math-verify's own alarms are off; they fail outside the main thread (Math-Verify#55, #22).
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import sys
import time
from typing import Any

CPU_SECONDS = 2.4
"""After which a comparison ends without a verdict: the same on an idle machine and on a busy one."""
LONG = 0.3
"""CPU seconds after which a comparison gives way to the others: most take a tenth."""
MEMORY = 1 << 30
"""Bytes of address space on top of what the process has after its imports."""
RELATIVE = 1e-12
"""math-verify rounds to absolute digits, so that 1e-7 equals 2e-7; numbers must also agree to this share."""


def main() -> None:
    """Serve until the input ends."""
    sys.path[:] = json.loads(sys.argv[1])
    import logging

    import math_verify  # noqa: F401

    logging.disable(logging.CRITICAL)
    _say({"ready": True})
    running: dict[int, tuple[int, float]] = {}
    waiting, ended = b"", False
    while not ended:
        if select.select([0], [], [], 0.01 if running else None)[0]:
            chunk = os.read(0, 1 << 16)
            ended = not chunk
            *lines, waiting = (waiting + chunk).split(b"\n")
            for line in lines:
                _begin(json.loads(line), running)
        _reap(running)
    for child in running:
        os.kill(child, signal.SIGKILL)


def _begin(request: dict[str, Any], running: dict[int, tuple[int, float]]) -> None:
    child = os.fork()
    if child:
        running[child] = (request["id"], time.monotonic() + request["seconds"])
        return
    code = 1
    try:
        _confine()
        _say({"id": request["id"], "equal": _equal(request["left"], request["right"])})
        code = 0
    finally:
        os._exit(code)


def _confine() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGVTALRM, lambda *_: os.nice(15) and None)
    signal.setitimer(signal.ITIMER_VIRTUAL, LONG)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)  # the kernel ends it, whatever it is doing
    resource.setrlimit(resource.RLIMIT_CPU, (4, 4))  # should this server itself be killed, its children still end
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    with contextlib.suppress(OSError, ValueError, IndexError):
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
            used = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))


def _reap(running: dict[int, tuple[int, float]]) -> None:
    now = time.monotonic()
    for child, (request, deadline) in list(running.items()):
        overdue = now > deadline
        if overdue:
            os.kill(child, signal.SIGKILL)
        ended, status = os.waitpid(child, 0 if overdue else os.WNOHANG)
        if ended:
            del running[child]
            if status != 0:  # it answered itself otherwise
                _say({"id": request, "equal": None})


def _say(message: dict[str, Any]) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")  # shorter than PIPE_BUF: lines of two processes never mix


def _equal(left: str, right: str) -> bool:
    """Ask in both directions, since math-verify is not symmetric (Math-Verify#49)."""
    from math_verify import verify

    one, other = _parsed(left), _parsed(right)
    if not one or not other or not _close(one[0], other[0]):
        return False
    options: dict[str, Any] = {"float_rounding": 12, "numeric_precision": 30, "timeout_seconds": None}
    return bool(verify(one, other, **options) and verify(other, one, **options))


def _parsed(text: str) -> list[Any]:
    from math_verify import LatexExtractionConfig, parse

    found = parse(f"${text}$", [LatexExtractionConfig()], fallback_mode="no_fallback", parsing_timeout=None)
    return [f for f in found if not isinstance(f, str)]


def _close(left: Any, right: Any) -> bool:
    """Say whether two constants agree relatively; what is no constant is left to math-verify."""
    import sympy  # type: ignore[import-untyped]

    if not all(isinstance(side, sympy.Expr) and not side.free_symbols for side in (left, right)):
        return True
    try:
        # in sympy's own numbers: as floats 1e-325 and 1e-324 are both 0
        one, other = (sympy.N(side.doit(), 30) for side in (left, right))
        return bool(abs(one - other) <= RELATIVE * sympy.Max(abs(one), abs(other)))
    except (TypeError, ValueError):
        return True


if __name__ == "__main__":
    main()
