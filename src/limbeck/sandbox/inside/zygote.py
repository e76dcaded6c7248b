"""The zygote: a small, bare interpreter that forks a jailed child for each job and sees to it that the child ends.

    python -s -P -S -c BOOT 5 '{"level": "strict", ...}'        descriptor 5 is the line to the parent

It never reads a job. The parent sends a few numbers and the descriptors of the child's ends (wire, stdout, stderr, and, as needed,
stdin and the line to the tests' process); the child reads the job itself. So nothing of one job, and no expected value, is ever in
the memory that the next is forked from. The zygote waits on the child's pidfd and on the parent at once: at the deadline, on the
parent's word, or when the parent is gone, the child is killed, and with it all that could have come from it.
"""

from __future__ import annotations

import builtins
import contextlib
import fcntl
import gc
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
from _sitebuiltins import Quitter
from collections.abc import Callable
from importlib import import_module

from limbeck.sandbox.inside import boxes, candidate, examiner, frames, supervise
from limbeck.sandbox.inside.jail import DESCRIPTORS, OWN_WORLD, Jail, Limits, Settings

REQUEST = struct.Struct("=cdQQB")
"""What to do (J: a job, K: kill the job under way), seconds, bytes of memory, bytes of disk, and which descriptors come along."""
REPLY = struct.Struct("=cidd")
"""How the job ended, its exit code (minus the signal's number, as in subprocess), CPU seconds and wall seconds."""
STDIN, PEER, TESTS = 1, 2, 4
"""Which descriptors come after wire, stdout and stderr, and whether the child runs tests."""
COMMON = (
    "abc", "array", "ast", "atexit", "bisect", "cmath", "collections", "contextlib", "copy", "dataclasses", "datetime", "decimal",
    "enum", "fractions", "functools", "heapq", "io", "itertools", "json", "linecache", "math", "numbers", "operator", "random",
    "re", "reprlib", "string", "struct", "threading", "time", "traceback", "types", "typing", "weakref",
)  # fmt: skip
"""Modules every child finds loaded: importing them takes longer than most jobs."""


class ParentGone(Exception):
    """The line to the parent is closed: nobody waits for a reply any more."""


def main() -> None:
    """Set up, report to the parent, and serve until the parent hangs up."""
    line = socket.socket(fileno=int(sys.argv[1]))
    settings = Settings(**json.loads(sys.argv[2]))
    try:
        jail = _set_up(settings)
    except Exception as fault:  # noqa: BLE001 - whatever it is, the parent must hear why this level can not be had
        line.sendall(_note(str(fault) or type(fault).__name__))
        os._exit(1)
    line.sendall(_note(""))
    try:
        with contextlib.suppress(ParentGone, OSError):  # an OSError is the line's: the parent is gone as well
            _serve(line, jail, settings)
    finally:
        if settings.level not in OWN_WORLD:
            boxes.remove(settings.box)
        os._exit(0)


def _note(text: str) -> bytes:
    """Return the report of the set-up: empty for success, else the reason, in a record of fixed length."""
    return text.encode("utf-8", "backslashreplace")[:255].ljust(256, b"\0")


def _set_up(settings: Settings) -> Jail:
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    sys.path.extend(settings.path)
    for name in [*COMMON, *settings.preload]:
        import_module(name)
    builtins.exit, builtins.quit = (
        Quitter("exit", ""),
        Quitter("quit", ""),
    )  # left out by -S, and many programs end with one
    os.environ.clear()  # after the imports: numerical packages read from it how many threads to start
    jail = Jail(settings)
    os.chdir(settings.box)
    if settings.level != "rlimit-only":
        _try_out(jail, settings)
    _tidy(settings)
    gc.collect()
    gc.freeze()
    return jail


def _tidy(settings: Settings) -> None:
    """Make this look like a fresh interpreter, so that no child has to: what a child changes, the kernel copies page by page."""
    for name in [name for name in sys.modules if name.startswith("limbeck")]:
        del sys.modules[name]
    sys.argv = ["program.py"]
    builtins.exit, builtins.quit = (
        Quitter("exit", ""),
        Quitter("quit", ""),
    )  # left out by -S, and many programs end with one
    if settings.disk:
        os.environ["TMPDIR"] = os.environ["HOME"] = settings.box


def _try_out(jail: Jail, settings: Settings) -> None:
    """Send one child into the jail and have it try the doors: what is not shown to hold is not called strict."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            jail.enter(Limits(5.0, 64 << 20, settings.disk), kept=writing)
            found = _open_doors()
        except Exception as fault:  # noqa: BLE001 - reported to the parent, which reports it to the user
            found = str(fault) or type(fault).__name__
        os.write(writing, found.encode()[:250])
        os._exit(0)
    os.close(writing)
    found = os.read(reading, 256).decode() if select.select([reading], [], [], 10.0)[0] else "it does not answer"
    os.close(reading)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if found != "all closed":
        raise OSError(f"the jail does not hold: {found or f'its first child ended with status {status}'}")


def _open_doors() -> str:
    """Try what a jailed child must not be able to do; name the first that works."""
    doors: dict[str, Callable[[], object]] = {
        "a socket": socket.socket,
        "another process's signals": lambda: os.kill(os.getppid(), 0),
        "a new process": lambda: os.fork() or os._exit(0),
        "a folder outside": lambda: os.open("/sys", os.O_RDONLY | os.O_DIRECTORY),
        "a new file": lambda: os.open("/new", os.O_WRONLY | os.O_CREAT | os.O_EXCL),
        "a file of another process": lambda: os.open("/proc/1/status", os.O_RDONLY),
    }
    for name, door in doors.items():
        try:
            door()
        except OSError:
            continue
        return f"{name} can be had"
    return "all closed"


def _serve(line: socket.socket, jail: Jail, settings: Settings) -> None:
    """Take one job after the other."""
    nothing = os.open("/dev/null", os.O_RDONLY)
    while True:
        message, descriptors, _, _ = socket.recv_fds(line, REQUEST.size, 8)
        if len(message) < REQUEST.size:
            return
        kind, seconds, memory, disk, which = REQUEST.unpack(message)
        if kind != b"J":
            continue  # the parent wanted to end a job that had just ended
        _one_job(line, jail, settings, Limits(seconds, memory, disk), which, descriptors, nothing)
        if settings.disk:
            boxes.empty(settings.box)


def _one_job(
    line: socket.socket,
    jail: Jail,
    settings: Settings,
    limits: Limits,
    which: int,
    descriptors: list[int],
    nothing: int,
) -> None:
    """Fork, supervise, reply, sweep.

    The reply to a job that was killed does not wait for its memory to be freed, which takes a fifth of a second for each GiB: no
    line of it will run again. At `rlimit-only` there may be more than the one process, so there the sweep comes first.
    """
    started = time.monotonic()
    supervise.expect_child()
    try:
        child = os.fork()
    except OSError:
        child = -1
    if child == 0:
        _child(jail, settings, limits, which, descriptors, nothing)
    for descriptor in descriptors:
        os.close(descriptor)
    if child < 0:
        line.sendall(REPLY.pack(supervise.BROKEN, 0, 0.0, 0.0))
        return
    reason = supervise.until_end(line, child, started + limits.seconds, limits, settings, jail)
    early = reason in supervise.CUT_OFF and settings.level != "rlimit-only"
    if early:
        cpu = time.clock_gettime(_cpu_clock(child))
        line.sendall(REPLY.pack(reason, -signal.SIGKILL, cpu, time.monotonic() - started))
    _, status, usage = os.wait4(child, 0)
    supervise.sweep(child, settings.level)
    if reason == supervise.BROKEN:
        raise ParentGone
    if not early:
        cpu, wall = usage.ru_utime + usage.ru_stime, time.monotonic() - started
        line.sendall(REPLY.pack(reason, os.waitstatus_to_exitcode(status), cpu, wall))


def _cpu_clock(pid: int) -> int:
    """Return the number of the clock that counts a process's CPU seconds, as Linux's clock_getcpuclockid makes it."""
    return (~pid << 3) | 2


def _child(jail: Jail, settings: Settings, limits: Limits, which: int, descriptors: list[int], nothing: int) -> None:
    """Become the job: descriptors in place, jail on, driver started. Never returns."""
    try:
        high = [_duplicate(descriptor) for descriptor in descriptors]
        wire, out, err, *more = high
        stdin = more.pop(0) if which & STDIN else nothing
        placed = [stdin, out, err, wire, *(more if which & PEER else ())]
        for number, descriptor in enumerate(placed):
            os.dup2(descriptor, number)
        if len(placed) < 5:
            with contextlib.suppress(OSError):
                os.close(4)
        _enter(jail, limits)
        if which & TESTS:
            examiner.main()
        candidate.main()
    finally:
        os._exit(125)


def _enter(jail: Jail, limits: Limits) -> None:
    """Put on the jail; if any part of it fails, say so on the wire and run nothing."""
    try:
        jail.enter(limits)
    except Exception as fault:  # noqa: BLE001 - whatever it is, the job must not start
        frames.write(candidate.WIRE, {"jail": str(fault) or type(fault).__name__})
        os._exit(125)


def _duplicate(descriptor: int) -> int:
    """Move a descriptor out of the way of the low numbers."""
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD, 20)
