"""Run a program in the sandbox and say how it ended.

run("print(input()[::-1])", stdin="abc")        Execution(status="ok", stdout="cba\\n", ...)
run("import socket; socket.socket()")           Execution(status="refused", stderr="... PermissionError ...", ...)
run("while True: pass", seconds=0.5)            Execution(status="timeout", exit_code=-9, ...)
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Any

from limbeck.sandbox.inside.supervise import CROWDED, FULL, LATE
from limbeck.sandbox.job import HarnessFailure, Job, Result
from limbeck.sandbox.outcome import Ending, Execution, Level
from limbeck.sandbox.pool import Flavour, best
from limbeck.sandbox.session import perform

DISK = 64 << 20
"""Bytes of a writable box."""


def run(
    source: str,
    *,
    stdin: str | bytes = "",
    seconds: float = 2.0,
    memory_mb: int = 256,
    allow: Sequence[str] = (),
    writable: bool = False,
    disk_mb: int = 64,
    level: Level = "strict",
) -> Execution:
    """Run a Python program that nobody has read, confined, and return what it did.

    The program sees a fresh interpreter of this Python with the standard library: no network, no other processes, no
    environment, no file but the library's, and an empty working folder it can not write to. Safe to call from threads.

    Args:
        source: the program's text; it runs as `__main__`.
        stdin: what it reads; text is sent as UTF-8.
        seconds: wall-clock seconds until it is killed.
        memory_mb: MiB of address space on top of the interpreter's own.
        allow: packages of this environment that it may import, such as `("numpy",)`, each with what it needs; read-only.
        writable: whether it may write files in its working folder, which is emptied afterwards.
        disk_mb: MiB that a writable folder holds.
        level: the weakest confinement that will do. The strongest that this system allows is used, and recorded.

    Raises:
        SandboxUnavailable: the level can not be had here; nothing was run.
        ValueError: an unknown level, or a package that is not installed.
    """
    flavour = Flavour(level=best(level), packages=tuple(allow), disk=disk_mb << 20 if writable else 0)
    given = stdin.encode("utf-8", "surrogatepass") if isinstance(stdin, str) else stdin
    job = Job({"mode": "program", "source": source}, given, seconds, memory_mb << 20, flavour.disk)
    return execute(job, flavour)


def execute(job: Job, flavour: Flavour) -> Execution:
    """Run a prepared job in one exact configuration."""
    try:
        result = perform(job, flavour)
    except HarnessFailure as fault:
        return Execution(
            status="harness-failure",
            stdout="",
            stderr="",
            exit_code=None,
            seconds=0.0,
            level=flavour.level,
            detail=str(fault),
        )
    status, detail = ending(result, job)
    return Execution(
        status=status,
        stdout=result.stdout.decode("utf-8", "backslashreplace"),
        stderr=result.stderr.decode("utf-8", "backslashreplace"),
        exit_code=result.exit_code,
        seconds=result.seconds,
        level=flavour.level,
        stdout_bytes=bytes(result.stdout),
        cpu_seconds=result.cpu_seconds,
        detail=detail,
    )


def ending(result: Result, job: Job) -> tuple[Ending, str]:
    """Return how a job ended and why: what was seen from outside first, what its own driver said last."""
    messages = result.frames()
    if not messages or messages[0] != {"ready": True}:
        if result.overflow or result.reason == LATE:
            return "timeout", f"it did not start within {job.seconds:g} seconds"
        told = messages[0].get("jail") if messages else "its process ended first"
        return "harness-failure", f"the jail could not be put on: {told}"
    if result.overflow:
        return "output-limit", f"more than 1 MiB on {result.overflow}"
    if result.reason == LATE:
        return "timeout", f"not done within {job.seconds:g} seconds"
    if result.reason == CROWDED:
        return "refused", "more than 64 threads at once"
    if result.reason == FULL:
        return "output-limit", "the working folder is full"
    if result.exit_code < 0:
        return _by_signal(-result.exit_code, result, job)
    fault = next((message["fault"] for message in messages if "fault" in message), None)
    if isinstance(fault, dict):
        kind: Any = fault.get("kind")
        return kind if kind in ("memory", "refused") else "error", in_words(fault)
    return ("error", f"exit code {result.exit_code}") if result.exit_code else ("ok", "")


def _by_signal(number: int, result: Result, job: Job) -> tuple[Ending, str]:
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    if name in ("SIGXCPU",) or (name == "SIGKILL" and result.cpu_seconds >= job.seconds):
        return "timeout", "all its CPU seconds are used up"
    if name == "SIGKILL":
        return "memory", "killed by the system, which is short of memory"
    if name == "SIGSYS":
        return "refused", "it used another machine's system calls"
    return "error", f"ended by {name}"


def in_words(fault: dict[str, Any]) -> str:
    """Write what a candidate raised as one line."""
    text = str(fault.get("text"))[:300]
    return f"{fault.get('type')}: {text}" if text else str(fault.get("type"))
