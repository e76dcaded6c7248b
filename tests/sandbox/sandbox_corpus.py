"""Run the whole corpus and print what came of it: `python tests/sandbox/sandbox_corpus.py [LEVEL]`, as `make sandbox-test` does.
`ranked` instead of a level leaves the backends out.

Needs nothing but the standard library and this checkout, so any user of the machine can run it with any Python 3.11 or newer.
Exit code 0: no hostile program succeeded, and every honest one ran. Hostile programs are run here, on purpose: on a machine where
the level can not be had nothing is run at all.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "src")]

from hostile_programs import ATTACKS, FUNCTIONS, HONEST, OTHER_TYPES, PROGRAMS, Attack, Honest
from hostile_world import World, descendants, rss_mb

from limbeck.sandbox import pool
from limbeck.sandbox.asserting import check_asserts
from limbeck.sandbox.checking import check_function, check_program
from limbeck.sandbox.outcome import LEVELS, Level, Verdict
from limbeck.sandbox.running import run

CASES = [((2, 3), 5), ((10, -4), 6), ((0, 0), 0)]
ASSERTS = ["assert add(2, 3) == 5", "assert abs(add(10, -4) - 6) < 1e-9", "x = add(0, 0)\nassert x == 0 and not x != 0"]
CHECK = "def check(candidate):\n" + "".join(f"    assert candidate{args} == {value}\n" for args, value in CASES)
STDIO = [("4\n", "8\n"), ("4\n10\n", "8\n20\n")]
OVERSHOOT = 0.2
"""Seconds that a killed program may run over its time."""
CONFINED: tuple[Level, ...] = ("strict+ns", "strict", "bubblewrap", "docker")
"""Where untrusted programs may be run."""
GROWTH = 20
"""MiB by which this process may grow under any program."""


@dataclass
class Outcome:
    """What came of one program; `wrong` is empty if all is well."""

    kind: str
    name: str
    status: str
    wrong: list[str]


def attack(world: World, one: Attack, level: Level) -> Outcome:
    """Run one hostile program and look at the world afterwards."""
    world.breaches("")
    world.restore()
    below, memory = descendants(), rss_mb()
    run("pass", writable=one.writable, level=level)  # its zygote is there now, and is nobody's leftover
    below |= descendants()
    done = run(world.fill(one.source), seconds=one.seconds, writable=one.writable, level=level)
    wrong = world.breaches(done.stdout + done.stderr)
    if one.expect and done.status not in one.expect:
        wrong.append(f"it ended as {done.status}, not {' or '.join(one.expect)}: {done.detail}")
    if done.status == "harness-failure":
        wrong.append(f"the sandbox failed: {done.detail}")
    if done.seconds > _most(
        one
    ):  # a crowded machine holds anybody up now and then; what holds twice is the sandbox's own
        done = run(world.fill(one.source), seconds=one.seconds, writable=one.writable, level=level)
        if done.seconds > _most(one):
            wrong.append(f"it ran {done.seconds:.2f} s with a limit of {one.seconds} s")
    if rss_mb() - memory > GROWTH:
        wrong.append(f"this process grew by {rss_mb() - memory:.0f} MiB")
    if left := _left(below):
        wrong.append(f"{len(left)} processes are left")
    return Outcome(one.kind, one.name, done.status, wrong)


def _left(below: set[int]) -> set[int]:
    """Return the processes that were not there before and are still there a second later."""
    deadline = time.monotonic() + 1.0
    while (left := descendants() - below) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def _most(one: Attack) -> float:
    """Return the seconds a program may run: its limit, a fifth of a second, and what a crowded machine adds to anybody's."""
    return one.seconds + OVERSHOOT + 0.1 * max(0.0, os.getloadavg()[0] / (os.cpu_count() or 1) - 1)


def honest(one: Honest, level: Level) -> Outcome:
    """Run one honest program."""
    done = run(one.source, stdin=one.stdin, seconds=10.0, writable=one.writable, allow=one.allow, level=level)
    fine = done.status == "ok" and "fine" in done.stdout
    return Outcome("honest", one.name, done.status, [] if fine else [f"{done.detail} {done.stderr[-300:]}"])


def forgeries(level: Level) -> list[Callable[[], Outcome]]:
    """Return, for every forged solution and every way in which it can be judged, what judges it."""
    ways: list[Callable[[], Outcome]] = []
    for name, source in FUNCTIONS.items():
        ways += [
            partial(forged, "cases", name, partial(check_function, source, "add", CASES), level),
            partial(forged, "asserts", name, partial(check_asserts, source, ASSERTS), level),
            partial(forged, "check", name, partial(check_asserts, source, CHECK, entry_point="add"), level),
        ]
    for name, source in OTHER_TYPES.items():
        ways.append(partial(forged, "type", name, partial(check_function, source, "add", CASES), level))
    for name, source in PROGRAMS.items():
        ways.append(partial(forged, "output", name, partial(check_program, source, STDIO), level))
    return ways


def forged(way: str, name: str, judge: Callable[..., Verdict], level: Level) -> Outcome:
    """Have a forged solution judged; nothing but a failing verdict will do."""
    verdict = judge(seconds=0.5, level=level)
    wrong = ["it passes"] if verdict.passed else []
    wrong += [f"the sandbox failed: {verdict.detail}"] if verdict.status == "harness-failure" else []
    return Outcome(f"forged {way}", name, verdict.status, wrong)


def attacks() -> list[Attack]:
    """Return the attacks for this machine; those that name system calls by number are written for x86_64."""
    return [one for one in ATTACKS if platform.machine() == "x86_64" or "syscall(" not in one.source]


def main() -> None:
    """Run all of it at the level named on the command line, or at each that can be had."""
    wanted = [level for level in CONFINED if level in sys.argv[1:]] or list(
        CONFINED[:2] if "ranked" in sys.argv else CONFINED
    )
    failed = ran = 0
    for level in wanted:
        if why := pool.reason(level):
            print(f"{level}: can not be had here ({why})")
            failed += level in sys.argv[1:]
            continue
        pool.only(level if level in LEVELS else None)
        started = time.monotonic()
        outcomes = everything(level)
        bad = [one for one in outcomes if one.wrong]
        for one in bad:
            print(f"{level}: {one.kind}/{one.name} [{one.status}]: {'; '.join(one.wrong)}")
        took = time.monotonic() - started
        print(f"{level}, user {os.geteuid()}: {len(outcomes)} programs, {len(bad)} not as they should be, {took:.0f} s")
        failed += len(bad)
        ran += 1
    pool.close()
    sys.exit(bool(failed or not ran))


def everything(level: Level) -> list[Outcome]:
    """Run the hostile, the forged and the honest at one level."""
    with World() as world:
        run(
            f"x = '{world.mark}'", stdin=world.mark, level=level
        )  # for the program that looks for traces of an earlier job
        outcomes = [attack(world, one, level) for one in attacks()]
    with ThreadPoolExecutor(2) as threads:
        outcomes += threads.map(lambda way: way(), forgeries(level))
        return outcomes + list(
            threads.map(lambda one: honest(one, level), (one for one in HONEST if _there(one, level)))
        )


def _there(one: Honest, level: Level) -> bool:
    """Say whether what a program needs is installed; an image brings the library alone."""
    if level == "docker":
        return not one.allow
    try:
        for name in one.allow:
            __import__(name)
    except ImportError:
        return False
    return True


if __name__ == "__main__":
    main()
