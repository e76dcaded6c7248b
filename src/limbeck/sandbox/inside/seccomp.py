"""The seccomp filter: a classic BPF program, built once by the zygote and handed to the kernel by every child.

    program = build("x86_64", writable=False)
    install(program.for_process(os.getpid()))       # from here on this process may only do what `syscalls` lists

A filter is an array of 8-byte instructions (code, jump if true, jump if false, constant) over the call's number, machine and six
arguments. Ours allows by list. Five calls are looked into: `clone` makes threads only; `kill` and `tgkill` reach only
the process itself; `socketpair` makes connected streams only; `fcntl`, `ioctl` and `prctl` do a few named things. A refused call
fails with EPERM, which Python shows as PermissionError; calls newer than the table fail with ENOSYS, so that libraries fall
back to older ones. Another machine's calls (32-bit x86, x32) end the process.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from dataclasses import dataclass

from limbeck.sandbox.inside.syscalls import ALLOWED, TOUCHING, number

AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""The kernel's name of each machine (AUDIT_ARCH_*)."""
LOAD, JUMP, JUMP_EQUAL, JUMP_AT_LEAST, JUMP_ANY_BIT, AND, RETURN = 0x20, 0x05, 0x15, 0x35, 0x45, 0x54, 0x06
ALLOW, KILL = 0x7FFF0000, 0x80000000
REFUSE, NOT_THERE = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
NEWEST = 451
"""Calls numbered from here on are newer than the table and are said not to exist."""
PID = 0x7FFFFFF1
"""Stands for the process's own number until the child fills it in."""

CLONE_THREAD = 0x00010000
CLONE_NEW = 0x7E020080
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET and NEWTIME."""
FCNTL = (0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030, 1032)
"""F_DUPFD, GETFD, SETFD, GETFL, SETFL, the locks, DUPFD_CLOEXEC, GETPIPE_SZ; not SETOWN, which aims signals at others."""
IOCTL = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
"""TCGETS (isatty), TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX; not TIOCSTI, which types into a terminal."""
PRCTL = (15, 16, 39, 40, 41, 23)
"""PR_SET_NAME, GET_NAME, GET_NO_NEW_PRIVS, GET_TID_ADDRESS, SET_THP_DISABLE, CAPBSET_READ; not PR_SET_PDEATHSIG."""


@dataclass(frozen=True)
class Filter:
    """A finished program; `pids` are the byte offsets at which the process's own number is filled in."""

    code: bytes
    pids: tuple[int, ...]

    def for_process(self, pid: int) -> bytearray:
        """Return the program for the process numbered `pid`."""
        code = bytearray(self.code)
        for offset in self.pids:
            struct.pack_into("=I", code, offset, pid)
        return code


def _step(code: int, constant: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, constant)


def _argument(place: int) -> bytes:
    """Load the low half of an argument; both machines are little-endian."""
    return _step(LOAD, 16 + 8 * place)


def _one_of(place: int, values: tuple[int, ...]) -> bytes:
    """Allow if the argument is one of `values`, else refuse."""
    tests = b"".join(_step(JUMP_EQUAL, value, 0, 1) + _step(RETURN, ALLOW) for value in values)
    return _argument(place) + tests + _step(RETURN, REFUSE)


def _blocks() -> dict[str, bytes]:
    """What is decided by arguments; every block ends in a return."""
    refuse, allow, absent = _step(RETURN, REFUSE), _step(RETURN, ALLOW), _step(RETURN, NOT_THERE)
    threads = (
        _argument(0) + _step(JUMP_ANY_BIT, CLONE_NEW, 2, 0) + _step(JUMP_ANY_BIT, CLONE_THREAD, 0, 1) + allow + refuse
    )
    streams = (  # AF_UNIX, and SOCK_STREAM under the flags: a datagram socket could be aimed at any path
        _argument(0)
        + _step(JUMP_EQUAL, 1, 0, 4)
        + _argument(1)
        + _step(AND, 0xF)
        + _step(JUMP_EQUAL, 1, 0, 1)
        + allow
        + refuse
    )
    to_nobody = (  # send to the other end only: no address, in either half of the pointer
        _argument(4)
        + _step(JUMP_EQUAL, 0, 0, 3)
        + _step(LOAD, 16 + 8 * 4 + 4)
        + _step(JUMP_EQUAL, 0, 0, 1)
        + allow
        + refuse
    )
    return {
        "clone": threads,
        "kill": _one_of(0, (PID,)),
        "tgkill": _one_of(0, (PID,)),
        "socketpair": streams,
        "sendto": to_nobody,
        "fcntl": _one_of(1, FCNTL),
        "ioctl": _one_of(1, IOCTL),
        "prctl": _one_of(0, PRCTL),
        "prlimit64": _one_of(0, (0,)),
        "setrlimit": allow,
        "clone3": absent,
        "openat2": absent,
        "futex_waitv": absent,
    }


def build(machine: str, *, writable: bool = False) -> Filter:
    """Build the filter for a machine; `writable` allows changing modes and times, for where only the box can be changed."""
    code = _step(LOAD, 4) + _step(JUMP_EQUAL, AUDIT[machine], 1, 0) + _step(RETURN, KILL) + _step(LOAD, 0)
    code += _tree(_stretches(_decisions(machine, writable), machine))
    pids = tuple(at + 4 for at in range(0, len(code), 8) if code[at + 4 : at + 8] == struct.pack("=I", PID))
    return Filter(code, pids)


def _decisions(machine: str, writable: bool) -> dict[int, bytes]:
    """Return what is done with each call that is known by number; all others are refused."""
    names = {**dict.fromkeys(ALLOWED, _step(RETURN, ALLOW)), **_blocks()}
    if writable:
        names.update(dict.fromkeys(TOUCHING, _step(RETURN, ALLOW)))
    return {call: block for name, block in names.items() if (call := number(name, machine)) is not None}


def _stretches(decisions: dict[int, bytes], machine: str) -> list[tuple[int, bytes]]:
    """Return where each stretch of calls with one decision begins, and the decision."""
    refuse, absent = _step(RETURN, REFUSE), _step(RETURN, NOT_THERE)
    found: list[tuple[int, bytes]] = []
    for call in range(NEWEST):
        block = decisions.get(call, refuse)
        if not found or found[-1][1] != block:
            found.append((call, block))
    found.append((NEWEST, absent))
    if machine == "x86_64":
        found.append((0x40000000, _step(RETURN, KILL)))  # the x32 calls
    return found


def _tree(stretches: list[tuple[int, bytes]]) -> bytes:
    """Lay the stretches out as a binary search: the kernel walks the filter once for every call when it is installed."""
    if len(stretches) == 1:
        return stretches[0][1]
    middle = len(stretches) // 2
    lower, upper = _tree(stretches[:middle]), _tree(stretches[middle:])
    begins, over = stretches[middle][0], len(lower) // 8
    if over <= 255:  # what a conditional jump can skip
        return _step(JUMP_AT_LEAST, begins, over, 0) + lower + upper
    return _step(JUMP_AT_LEAST, begins, 0, 1) + _step(JUMP, over) + lower + upper


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))


def install(libc: ctypes.CDLL, code: bytearray, machine: str) -> None:
    """Put the filter on this process and all its threads to come. Raises OSError; needs no_new_privs."""
    held = (ctypes.c_char * len(code)).from_buffer(code)
    program = _Program(len(code) // 8, ctypes.addressof(held))
    seccomp = number("seccomp", machine)
    if libc.syscall(seccomp, 1, 0, ctypes.byref(program)):
        raise OSError(ctypes.get_errno(), "the kernel refuses the seccomp filter")
