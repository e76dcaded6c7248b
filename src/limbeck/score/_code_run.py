"""Running a program on its checks in the sandbox, and saying so in one shape.

    run_checks("def f(x): return x + 1", Checks("f", cases=[((1,), 2)]), Limits())
        -> Verdict(status="pass", level="strict+ns", …)

Below the asked-for level nothing is run: the run stops with a sentence that says what the system lacks and which option accepts
less."""

from __future__ import annotations

from typing import NamedTuple

from limbeck import sandbox
from limbeck.core.errors import UsageError
from limbeck.sandbox import Execution, Level, SandboxUnavailable, Verdict
from limbeck.score._code_task import Checks


class Limits(NamedTuple):
    """What a program may use."""

    seconds: float = 3.0
    memory_mb: int = 256
    allow: tuple[str, ...] = ()
    level: Level = "strict"


def run_program(source: str, stdin: str, limits: Limits) -> Execution:
    """Run a program and return what it did. Raises UsageError where it can not be confined."""
    try:
        return sandbox.run(source, stdin=stdin, **limits._asdict())
    except SandboxUnavailable as problem:
        raise _unconfined(problem) from None
    except ValueError as problem:  # a package that is not installed
        raise UsageError(f"The programs were not run: {problem}") from None


def run_checks(source: str, checks: Checks, limits: Limits) -> Verdict | None:
    """Check a program; None if the checks themselves can not be used. Raises UsageError where it can not be confined."""
    limit = limits._asdict()
    try:
        if checks.cases:
            return sandbox.check_function(source, checks.name or "", checks.cases, **limit)
        if checks.stdio:
            return sandbox.check_program(source, checks.stdio, **limit)
        return sandbox.check_asserts(source, checks.tests, entry_point=checks.name, **limit)
    except SandboxUnavailable as problem:
        raise _unconfined(problem) from None
    except ValueError:
        if limits.allow:
            run_program("", "", limits)  # raises for a package that is not installed
        return None


def _unconfined(problem: SandboxUnavailable) -> UsageError:
    return UsageError(
        f"The programs were not run: {problem} To run them without confinement, on a machine that holds nothing of worth, "
        "set the option level to rlimit-only."
    )
