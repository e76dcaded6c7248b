"""What comes back from the sandbox: an `Execution` for a program that was run, a `Verdict` for one that was checked.

    run("print(6 * 7)")                 Execution(status="ok", stdout="42\\n", exit_code=0, level="strict+ns", ...)
    check_function(source, "f", cases)  Verdict(status="wrong", detail="case 2 of 3: expected 5, got 6", level="strict+ns")

`harness-failure` says nothing about the program: the sandbox itself failed twice. It must never become a label.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["strict+ns", "strict", "rlimit-only", "bubblewrap", "docker"]
"""How well a program was confined: `strict` is Landlock and seccomp; `+ns` adds namespaces; `rlimit-only` is no confinement.

`bubblewrap` and `docker` are backends rather than ranks, had only by asking for them by name: namespaces made by `bwrap`, and
`strict` or better inside a container.
"""
BACKENDS: tuple[Level, ...] = ("bubblewrap", "docker")

LEVELS: tuple[Level, ...] = ("strict+ns", "strict", "rlimit-only")
"""From the strongest to the weakest."""

Ending = Literal["ok", "error", "timeout", "output-limit", "memory", "refused", "harness-failure"]
Status = Literal["pass", "wrong", "error", "timeout", "output-limit", "memory", "refused", "harness-failure"]


class SandboxUnavailable(RuntimeError):
    """The asked-for level can not be had on this system. Nothing was run; the message names the layer that is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """A program that was run to its end, or to the end that was made for it."""

    status: Ending
    """`ok` is an exit code of 0. `refused`: it ended on something the jail forbids."""
    stdout: str
    """At most 1 MiB; bytes that are not UTF-8 are written as `\\xff`. `stdout_bytes` holds what was printed, byte for byte."""
    stderr: str
    exit_code: int | None
    """As in subprocess: minus the signal's number if a signal ended it. None if it was never started."""
    seconds: float
    """Wall-clock seconds."""
    level: Level
    stdout_bytes: bytes = b""
    cpu_seconds: float = 0.0
    detail: str = ""
    """A sentence on why it ended, where the status needs one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a program does what the cases or tests ask."""

    status: Status
    """`error`: it raised or ended. `refused`: it ended on something the jail forbids, or returned what can not be sent."""
    detail: str
    """Why it did not pass; empty if it did."""
    level: Level
    seconds: float = 0.0
    """Wall-clock seconds."""

    @property
    def passed(self) -> bool:
        """Whether every case or test passed."""
        return self.status == "pass"
