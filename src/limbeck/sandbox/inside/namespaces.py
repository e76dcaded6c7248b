"""Namespaces of its own for a zygote: no network, no other processes, and a file tree that holds nothing but what it may read.

    enter(libc, shown=["/usr/lib/python3.11", "/usr/lib", ...], box="/box", disk=0)

Works for an ordinary user wherever the system lets users make namespaces; where it does not, the first step that is refused is
named, and the level `strict` remains. The caller returns from `enter` as process 1 of the new namespaces, and the old process
stays behind only to wait: when the first dies the kernel ends everything in them, so nothing can survive.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import stat
from pathlib import Path

from limbeck.sandbox.inside import boxes

NEW_FILES, NEW_HOST, NEW_QUEUES = 0x00020000, 0x04000000, 0x08000000
NEW_USERS, NEW_PROCESSES, NEW_NETWORK = 0x10000000, 0x20000000, 0x40000000
READ_ONLY, NO_SUID, NO_DEVICES, REMOUNT, BIND, RECURSIVE, PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
KEPT = {8: 8, 1024: 1024, 2048: 2048, 4096: 1 << 21}
"""statvfs flags of a mount that a user namespace must keep, and their names for mount(2)."""
DETACH = 2
SET_DEATH_SIGNAL = 1
# only a place to hang the new tree on: what is mounted there is seen by nobody else
PLACES = ("/tmp", "/var/tmp", "/mnt", "/media", "/proc")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
ROOT_BYTES = 1 << 20


class Refused(OSError):
    """The system does not allow one of the steps; the message names it."""


def _call(name: str, done: int) -> None:
    if done != 0:
        number = ctypes.get_errno()
        raise Refused(number, f"{name} is refused ({os.strerror(number)})")


def unshare(libc: ctypes.CDLL) -> None:
    """Leave the user, file, process, network, host-name and queue namespaces of the parent, keeping the user's own number."""
    user, group = os.geteuid(), os.getegid()
    kinds = NEW_USERS | NEW_FILES | NEW_PROCESSES | NEW_NETWORK | NEW_HOST | NEW_QUEUES
    _call("a user namespace", libc.unshare(kinds))
    try:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    except OSError as fault:
        raise Refused(fault.errno, f"mapping the user is refused ({fault.strerror})") from None


def fork_first(libc: ctypes.CDLL) -> None:
    """Return as process 1 of the new process namespace; the process that called waits for it and ends as it ends."""
    first = os.fork()
    if first:
        os.closerange(0, 64)
        _, status = os.waitpid(first, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    libc.prctl(SET_DEATH_SIGNAL, int(signal.SIGKILL), 0, 0, 0)


def private_tree(libc: ctypes.CDLL, shown: list[str], box: str, disk: int) -> None:
    """Change into a tree that holds `shown` and a few devices, read-only, and an empty box, writable up to `disk` bytes."""
    _call("making the mounts private", libc.mount(None, b"/", None, RECURSIVE | PRIVATE, None))
    place = next((name for name in PLACES if Path(name).is_dir()), "/")
    _mount_memory(libc, place, ROOT_BYTES)
    os.chdir(place)
    Path("old").mkdir()
    _call("changing the root", libc.syscall(_pivot_root(), b".", b"old"))
    os.chdir("/")
    for path in sorted({*shown, *DEVICES}, key=len):
        _show(libc, path)
    Path(box).mkdir(parents=True, exist_ok=True)
    if disk:
        _mount_memory(libc, box, disk)
    _call("letting go of the old root", libc.umount2(b"/old", DETACH))
    Path("/old").rmdir()
    _call("closing the new root", libc.mount(None, b"/", None, REMOUNT | BIND | READ_ONLY | NO_SUID | NO_DEVICES, None))


def _pivot_root() -> int:
    return {"x86_64": 155, "aarch64": 41}[os.uname().machine]


def _mount_memory(libc: ctypes.CDLL, place: str, size: int) -> None:
    options = f"size={size},nr_inodes={boxes.most_files(size)},mode=0755".encode()
    done = libc.mount(b"none", place.encode(), b"tmpfs", NO_SUID | NO_DEVICES, options)
    _call("a file system in memory", done)


def _show(libc: ctypes.CDLL, path: str) -> None:
    """Bind a file or folder of the old tree, found under /old, to the same place in the new one."""
    inside = _resolve(path)
    if os.path.lexists(path) or not os.path.lexists(f"/old{inside}"):
        return  # below something that is shown already, or not there at all
    _bind(libc, inside)
    if inside != path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            Path(path).symlink_to(inside)


def _resolve(path: str, hops: int = 40) -> str:
    """Return where a path of the old tree leads; the targets of its links are meant from the old root."""
    done: list[str] = []
    left = list(Path(path).parts[1:])
    while left:
        part = left.pop(0)
        if part == "..":
            done = done[:-1]
            continue
        here = Path("/old", *done, part)
        if here.is_symlink() and hops:
            hops -= 1
            target = here.readlink()
            done = [] if target.is_absolute() else done
            left = [piece for piece in target.parts if piece != "/"] + left
        else:
            done.append(part)
    return "/" + "/".join(done)


def _bind(libc: ctypes.CDLL, path: str) -> None:
    source, target = f"/old{path}".encode(), path.encode()
    mode = Path(f"/old{path}").stat().st_mode
    if stat.S_ISDIR(mode):
        Path(path).mkdir(parents=True, exist_ok=True)
    else:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()
    _call(f"binding {path}", libc.mount(source, target, None, BIND | RECURSIVE, None))
    if stat.S_ISCHR(mode):
        return
    flags = sum(name for flag, name in KEPT.items() if os.statvfs(path).f_flag & flag)
    done = libc.mount(None, target, None, REMOUNT | BIND | READ_ONLY | NO_SUID | NO_DEVICES | flags, None)
    _call(f"making {path} read-only", done)
