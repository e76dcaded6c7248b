"""Check a program against assert-style tests, as HumanEval and MBPP have them, without letting it near the asserts.

    check_asserts(source, "def check(candidate):\\n    assert candidate(2) == 4", entry_point="double").passed
    check_asserts(source, ["assert double(2) == 4", "assert double(0) == 0"]).passed

The tests run in one jailed process and the candidate in another; calls go over a line between the two as plain data. Nothing the
candidate does to its interpreter - a patched `assert`, an early exit, an object equal to everything - reaches the tests.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

from limbeck.sandbox.job import HarnessFailure, Job, Result
from limbeck.sandbox.outcome import Level, Status, Verdict
from limbeck.sandbox.pool import Flavour, best
from limbeck.sandbox.running import ending
from limbeck.sandbox.session import perform_both

STATUSES = ("wrong", "error", "timeout", "output-limit", "memory", "refused", "harness-failure")


def check_asserts(
    source: str,
    tests: str | Sequence[str],
    *,
    entry_point: str | None = None,
    seconds: float = 2.0,
    memory_mb: int = 256,
    allow: Sequence[str] = (),
    level: Level = "strict",
) -> Verdict:
    """Run assert-style tests against a program that can not see them.

    Args:
        source: the program's text; it runs as a module.
        tests: one text or several, run in order in one namespace. Names they use and do not define are the program's.
        entry_point: the function that is tested; where the tests define `check` and do not call it, `check(entry_point)` is called.
        seconds: wall-clock seconds for everything together.
        memory_mb: MiB for each of the two processes, on top of the interpreter's own.
        allow: packages that the program, and the tests, may import.
        level: the weakest confinement that will do.

    Raises:
        SandboxUnavailable: the level can not be had here; nothing was run.
        ValueError: there are no tests, or they are not Python.
    """
    texts = [tests] if isinstance(tests, str) else list(tests)
    strength = best(level)
    mine = Flavour(level=strength, packages=tuple(allow))
    theirs = Flavour(level=strength, packages=tuple(allow), role="tests")
    for last_try in (False, True):
        verdict = _check(source, texts, entry_point, seconds, memory_mb << 20, mine, theirs)
        if verdict.status != "harness-failure" or last_try:
            break
    return verdict


def _check(
    source: str, tests: list[str], entry_point: str | None, seconds: float, memory: int, mine: Flavour, theirs: Flavour
) -> Verdict:
    ours, its = socket.socketpair()
    serving = Job({"mode": "serve", "source": source}, b"", seconds, memory, peer=its)
    testing = Job({"tests": tests, "entry_point": entry_point}, b"", seconds + 0.5, memory, peer=ours, tests=True)
    try:
        served, tested = perform_both(serving, mine, testing, theirs)
    except HarnessFailure as fault:
        return Verdict(status="harness-failure", detail=str(fault), level=mine.level)
    finally:
        ours.close()
        its.close()
    status, detail = _judge(served, tested, serving, testing)
    return Verdict(status=status, detail=detail, level=mine.level, seconds=max(served.seconds, tested.seconds))


def _judge(served: Result, tested: Result, serving: Job, testing: Job) -> tuple[Status, str]:
    """Take the tests' word for what they saw, and what was seen from outside for how the candidate ended."""
    candidate, why = ending(served, serving)
    if candidate != "ok":
        return candidate, why
    report: dict[str, Any] = tested.frames()[-1] if tested.frames() else {}
    ended, reason = ending(tested, testing)
    if ended != "ok":
        return ended, f"the tests did not end well: {reason}"
    if report == {"passed": True}:
        return "pass", ""
    status = report.get("failed")
    if status == "no-test":
        raise ValueError(str(report.get("detail")))
    return (status if status in STATUSES else "harness-failure"), str(report.get("detail"))[:500]
