"""The jail: what the zygote prepares once, and what each child puts on before it reads its job.

    jail = Jail(Settings(level="strict", ...))      # in the zygote, once: no_new_privs, no capabilities, ruleset and filter built
    jail.enter(Limits(seconds=2.0, ...))            # in the child: limits, Landlock domain, seccomp filter; from here on, for good

Whatever can be prepared is prepared before the fork, so that a child enters with about a dozen system calls and half a millisecond.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import resource
import signal
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from limbeck.sandbox.inside import landlock, namespaces, seccomp

THREADS = 64
"""How many threads a job may have at once."""
DESCRIPTORS = 64
"""How many open descriptors."""
SET_DEATH_SIGNAL, SET_DUMPABLE, DROP_BOUND, SET_NO_NEW_PRIVILEGES, SET_SUBREAPER = 1, 4, 24, 38, 36
ARENAS = -8
LINUX = sys.platform == "linux"
OWN_WORLD = ("strict+ns", "bubblewrap")
"""Levels at which a zygote is process 1 of its own namespaces, in a tree of which only the box can be written to."""


class Limits(NamedTuple):
    """What one job may use."""

    seconds: float
    """Wall-clock seconds; CPU seconds are capped a little above."""
    memory: int
    """Bytes of address space on top of the bare interpreter's."""
    disk: int
    """Bytes of a writable box; 0 for a box that can only be read."""


@dataclass(frozen=True)
class Settings:
    """How a zygote is set up, for as long as it lives."""

    level: str
    shown: list[str]
    """Files and folders that exist inside, with all below them (levels in `OWN_WORLD`)."""
    readable: list[str]
    """Files and folders that may be opened for reading, with all below them."""
    listable: list[str]
    """Folders that may be listed."""
    box: str
    """The working folder of every job."""
    disk: int
    preload: list[str]
    """Modules imported before the first fork."""
    path: list[str]
    """Folders added to the import path, for packages that are let in."""


class Jail:
    """The prepared jail of one zygote."""

    def __init__(self, settings: Settings) -> None:
        self.level = settings.level
        self.threads_counted = False
        self.own_memory = _address_space()
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
        self.rules: landlock.Ruleset | None = None
        self.filter: seccomp.Filter | None = None
        self.machine = os.uname().machine
        if LINUX:
            # one heap for all threads: the C library would set aside 64 MiB of address space for each
            with contextlib.suppress(AttributeError):
                self.libc.mallopt(ARENAS, 1)
            self._prepare_linux(settings)
        _set_standing_limits(THREADS + 4 if self.threads_counted else None)

    def _prepare_linux(self, settings: Settings) -> None:
        own_number = self._take_own_number()
        if self.level == "strict+ns":
            if (
                os.geteuid() == 0 and not own_number
            ):  # the kernel limits no thread of root's, and none can be counted from there
                raise OSError("root can not take a user number of its own, so that threads could be limited")
            namespaces.unshare(self.libc)
            namespaces.fork_first(self.libc)
            self.own_memory = _address_space()
            namespaces.private_tree(self.libc, settings.shown, settings.box, settings.disk)
        elif self.level == "bubblewrap":
            self.libc.prctl(SET_DEATH_SIGNAL, int(signal.SIGKILL), 0, 0, 0)  # bubblewrap's own, as soon as it ends
        else:
            self.libc.prctl(SET_SUBREAPER, 1, 0, 0, 0)
        own_counter = self.level == "strict+ns" or (self.level == "bubblewrap" and threads_are_counted())
        self.threads_counted = own_number or own_counter
        if self.level == "rlimit-only":
            return
        self._drop_privileges()
        if self.machine not in seccomp.AUDIT:
            raise OSError(f"the seccomp filter is not written for {self.machine}")
        only_box_changes = self.level in OWN_WORLD and settings.disk > 0
        self.filter = seccomp.build(self.machine, writable=only_box_changes)
        tree_is_enough = self.level == "bubblewrap" and self.threads_counted  # else there is a /proc in it to be hidden
        if landlock.version(self.libc) or not tree_is_enough:
            self.rules = _rules(self.libc, settings)

    def _take_own_number(self) -> bool:
        """As root, take a real user number that nobody else has, so that a limit on threads counts this jail's threads only.

        The effective user stays root, which owns the files; root's own threads are not limited by the kernel at all.
        """
        if os.geteuid() != 0:
            return False
        with contextlib.suppress(OSError):
            os.setresuid(1_600_000_000 + os.getpid(), 0, 0)
            return True
        return False

    def _drop_privileges(self) -> None:
        """Give up every capability and the way back to them."""
        for capability in range(64):
            if self.libc.prctl(DROP_BOUND, capability, 0, 0, 0):
                break
        head = struct.pack("=Ii", 0x20080522, 0)
        capset = {"x86_64": 126, "aarch64": 91}.get(self.machine, -1)
        if self.libc.syscall(capset, head, bytes(24)):
            raise OSError(ctypes.get_errno(), "capabilities can not be given up")
        if self.libc.prctl(SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "the kernel refuses no_new_privs")
        self.libc.prctl(SET_DUMPABLE, 0, 0, 0, 0)

    def enter(self, limits: Limits, kept: int | None = None) -> None:
        """Put the jail on for good, closing all descriptors above 4 but `kept`. Raises OSError: then nothing may be run."""
        os.setsid()
        if LINUX:
            self.libc.prctl(SET_DEATH_SIGNAL, int(signal.SIGKILL), 0, 0, 0)
        _set_limits(limits, self.own_memory)
        if self.rules is not None:
            self.rules.enforce()
        os.closerange(5, DESCRIPTORS if kept is None else kept)
        if self.filter is not None:
            seccomp.install(self.libc, self.filter.for_process(os.getpid()), self.machine)


def threads_are_counted() -> bool:
    """Say whether a limit on this user's threads counts those of a new user namespace alone: not root's, nor before Linux 5.14."""
    return os.geteuid() != 0 and tuple(map(int, os.uname().release.split(".")[:2])) >= (5, 14)


def _rules(libc: ctypes.CDLL, settings: Settings) -> landlock.Ruleset:
    """Build the ruleset: reading as listed, a few devices, and the box."""
    rules = landlock.Ruleset(libc)
    for path in settings.readable:
        rules.allow(path, landlock.READ)
    for path in settings.listable:
        rules.allow(path, landlock.READ_DIR)
    for path in namespaces.DEVICES:
        rules.allow(path, landlock.READ_FILE | landlock.WRITE_FILE)
    rules.allow(settings.box, landlock.READ | (landlock.WRITE if settings.disk else 0))
    return rules


def _set_standing_limits(threads: int | None) -> None:
    """Set what is the same for every job; children inherit it."""
    wanted = {"NOFILE": DESCRIPTORS, "CORE": 0, "MEMLOCK": 0, "MSGQUEUE": 0, "SIGPENDING": 128}
    if threads is not None:
        wanted["NPROC"] = threads
    for name, most in wanted.items():
        if (which := getattr(resource, f"RLIMIT_{name}", None)) is not None:
            resource.setrlimit(which, (most, most))


def _set_limits(limits: Limits, own_memory: int) -> None:
    """Set what differs; the CPU limit stands behind the wall clock for when the supervisor is held up."""
    cpu = int(limits.seconds) + 2
    memory = own_memory + limits.memory
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits.disk, limits.disk))
    if LINUX:  # macOS refuses it, and has no level above rlimit-only anyway
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def _address_space() -> int:
    """Return the bytes of address space this process has now."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return _tried_out() if LINUX else 0  # no limit is set where it is not Linux


def _tried_out() -> int:
    """Find the address space out where there is no /proc: the lowest limit under which one more page can still be had."""
    page, (_, hard) = resource.getpagesize(), resource.getrlimit(resource.RLIMIT_AS)
    low, high = 0, 1 << 28  # in pages: 1 TiB
    while low < high:
        middle = (low + high) // 2
        resource.setrlimit(resource.RLIMIT_AS, (middle * page, hard))
        try:
            mmap.mmap(-1, page).close()
            high = middle
        except (OSError, MemoryError):
            low = middle + 1
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    return (low - 1) * page
