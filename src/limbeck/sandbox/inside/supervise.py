"""See to it that a job ends: at its deadline, on the parent's word, when the parent is gone, or when it takes more than its share.

    reason = until_end(line, child, deadline, limits, settings, jail)       # LATE, KILLED, ENDED, ...
    status, usage = os.wait4(child, 0)[1:]
    sweep(child, "strict")                                                  # nothing that came from it is left

One poll waits for the child's pidfd and for the parent's line. What no limit of the kernel holds everywhere - the number of threads
of an ordinary user's process, the size of a folder on a shared disk - is looked at every 20 ms, where it has to be.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path

from limbeck.sandbox.inside import boxes
from limbeck.sandbox.inside.jail import OWN_WORLD, THREADS, Jail, Limits, Settings

ENDED, LATE, KILLED, CROWDED, FULL, BROKEN = b"x", b"t", b"k", b"n", b"d", b"h"
"""How a job ended: by itself, by the clock, on the parent's word, for its threads, for its files; or the parent is gone."""
CUT_OFF = (LATE, KILLED, CROWDED, FULL)
"""Those ends that were made for it, while the parent is there to hear of it."""
NO_PIDFD = sys.platform == "linux" and tuple(map(int, os.uname().release.split(".")[:2])) < (5, 3)
WORD = 64
"""Bytes of a message from the parent at the most."""
WATCH = 0.02
"""Seconds between looks at the number of threads and the size of the box."""


def until_end(
    line: socket.socket, child: int, deadline: float, limits: Limits, settings: Settings, jail: Jail
) -> bytes:
    """Wait until the child has ended, the deadline has passed, or the parent wants an end; kill it in the latter cases."""
    ended = _open_pidfd(child)
    watched = _Watched(child, limits, settings, jail)
    poll = select.poll()
    poll.register(line, select.POLLIN)
    if ended >= 0:
        poll.register(ended, select.POLLIN)
    reason = b""
    try:
        while not reason:
            left = deadline - time.monotonic()
            if left <= 0:
                reason = LATE
                break
            pause = min(left, WATCH) if watched.needed or ended < 0 else left
            ready = {descriptor for descriptor, _ in poll.poll(int(pause * 1000) + 1)}
            if line.fileno() in ready:
                reason = _word(line)
            elif ended in ready or (ended < 0 and _ended_children):
                return ENDED
            else:
                reason = watched.fault()
    finally:
        if ended >= 0:
            os.close(ended)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    return reason


def _word(line: socket.socket) -> bytes:
    """Read the parent's word while a job runs: kill it, or nothing at all because the parent is gone."""
    return KILLED if line.recv(WORD) else BROKEN


_ended_children: list[int] = []
"""Where there is no pidfd (macOS, Linux before 5.3): one entry for each signal that a child has ended."""


def _open_pidfd(child: int) -> int:
    """Return a descriptor that becomes readable when the child ends, or -1 where there is no such thing."""
    try:
        return os.pidfd_open(child)
    except (AttributeError, OSError):
        return -1


def expect_child() -> None:
    """Be told of the next child's end, where only a signal tells of it. To be called before the fork."""
    if not hasattr(os, "pidfd_open") or NO_PIDFD:
        _ended_children.clear()
        signal.signal(signal.SIGCHLD, lambda number, _: _ended_children.append(number))


class _Watched:
    """What no limit of the kernel holds everywhere: the number of threads, and the size of a box on a shared file system."""

    def __init__(self, child: int, limits: Limits, settings: Settings, jail: Jail) -> None:
        self.child = child
        self.box = settings.box
        self.disk = limits.disk if settings.level != "strict+ns" else 0
        self.threads = sys.platform == "linux" and not jail.threads_counted
        self.needed = bool(self.disk or self.threads)

    def fault(self) -> bytes:
        """Return why the job must end now, or nothing."""
        if self.threads and _threads(self.child) > THREADS:
            return CROWDED
        if self.disk and not boxes.fits(self.box, self.disk):
            return FULL
        return b""


def _threads(child: int) -> int:
    try:
        return sum(1 for _ in Path(f"/proc/{child}/task").iterdir())
    except OSError:
        return 0


def sweep(child: int, level: str) -> None:
    """Kill and reap everything that could have come from the child. In the jail there is nothing; this is the second lock."""
    if level in OWN_WORLD:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)  # this is process 1 of the job's own world
    else:
        for _ in range(100):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child, signal.SIGKILL)
            orphans = _children() if level == "rlimit-only" else []
            for orphan in orphans:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(orphan, signal.SIGKILL)
            if not orphans:
                break
            _reap()
    _reap()


def _children() -> list[int]:
    """Return the processes whose parent this is: orphans of the job come here, since the zygote is their subreaper."""
    mine = []
    with contextlib.suppress(OSError):
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
                if int(parent) == os.getpid() and state != "Z":
                    mine.append(int(folder.name))
    return mine


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
