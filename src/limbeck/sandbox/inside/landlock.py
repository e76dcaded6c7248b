"""Landlock: which files a jailed program may open, whatever its user is. Works for root and for nobody, in containers too.

    rules = Ruleset(libc)                               # handles every right this kernel knows
    rules.allow("/usr/lib", READ)                       # a path and all below it
    rules.allow("/box", READ | WRITE)
    rules.enforce()                                     # in the child: everything not allowed is refused, for good

The ruleset is made once by the zygote; each child enforces it with one system call and so stands in a domain of its own, which
also hides the zygote and its other children from it. Kernel 5.13 brought version 1 (files); 2 renaming between folders; 3
truncation; 4 TCP; 5 device ioctls; 6 signals and abstract sockets to the outside. Where a version lacks something, seccomp has
already closed that door. See https://docs.kernel.org/userspace-api/landlock.html.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import stat
import struct

CREATE, ADD, RESTRICT = 444, 445, 446
"""The three system calls; the same numbers on x86_64 and aarch64."""

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REMOVE_DIR, REMOVE_FILE, MAKE_DIR, MAKE_REG, MAKE_SYM = 1 << 4, 1 << 5, 1 << 7, 1 << 8, 1 << 12
REFER, TRUNCATE = 1 << 13, 1 << 14
READ = READ_FILE | READ_DIR
WRITE = WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SYM | REFER | TRUNCATE
ON_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | 1 << 15

ABOVE = 40
"""The ruleset's descriptor, out of the way of the low numbers that a child puts in place."""
FILES_OF = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 4: 0x7FFF, 5: 0xFFFF}
"""All file rights of each version; later versions have those of 5."""


def version(libc: ctypes.CDLL) -> int:
    """Return the kernel's Landlock version, 0 where there is none or it is switched off."""
    return max(0, int(libc.syscall(CREATE, None, 0, 1)))


class Ruleset:
    """What may be opened; nothing but what `allow` names."""

    def __init__(self, libc: ctypes.CDLL) -> None:
        self.libc = libc
        self.version = version(libc)
        if not self.version:
            raise OSError(ctypes.get_errno(), "this kernel has no Landlock, or it is switched off")
        self.files = FILES_OF[min(self.version, 5)]
        network = 3 if self.version >= 4 else 0  # TCP bind and connect
        scopes = 3 if self.version >= 6 else 0  # abstract sockets and signals to the outside
        attributes = struct.pack("=QQQ", self.files, network, scopes)
        size = 24 if self.version >= 6 else 16 if self.version >= 4 else 8
        made = int(libc.syscall(CREATE, attributes, size, 0))
        if made < 0:
            raise OSError(ctypes.get_errno(), "the kernel refuses a Landlock ruleset")
        self.descriptor = fcntl.fcntl(made, fcntl.F_DUPFD_CLOEXEC, ABOVE)
        os.close(made)

    def allow(self, path: str, rights: int) -> None:
        """Allow `rights` at `path` and below; a path that is not there is passed over."""
        try:
            target = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            return
        try:
            rights &= self.files
            if not stat.S_ISDIR(os.fstat(target).st_mode):
                rights &= ON_FILES
            if self.libc.syscall(ADD, self.descriptor, 1, struct.pack("=Qi", rights, target), 0):
                raise OSError(ctypes.get_errno(), f"the kernel refuses a Landlock rule for {path}")
        finally:
            os.close(target)

    def enforce(self) -> None:
        """Restrict this process for good. Raises OSError; needs no_new_privs."""
        if self.libc.syscall(RESTRICT, self.descriptor, 0):
            raise OSError(ctypes.get_errno(), "the kernel refuses the Landlock domain")
