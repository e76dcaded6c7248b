"""The world a hostile program tries to reach, and what of it was reached: every detector stands outside the program's process.

with World() as world:
    world.fill("connect to @TCP@")      # the program, with this world's ports and paths in it
    ... run it ...
    world.breaches(output)              # ["the TCP listener was reached", ...]; empty if nothing was
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import limbeck


class World:
    """Listeners, a secret, files that must not change, and a process that must not be hurt."""

    def __enter__(self) -> World:
        self.folder = Path(tempfile.mkdtemp(prefix="limbeck-world-"))
        self.outside = self.folder / "outside"
        self.mark = "mark" + secrets.token_hex(8)
        self.secret = self.folder / "secret"
        self.secret.write_text(self.mark)
        os.environ["LIMBECK_TEST_SECRET"] = self.mark
        self.memory = ctypes.create_string_buffer(self.mark.encode())
        self.leaked = os.open(self.secret, os.O_RDONLY)
        os.set_inheritable(self.leaked, True)
        self.listeners = {
            "TCP": self._listen(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
            "UDP": self._listen(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
            "UNIX": self._listen(socket.AF_UNIX, socket.SOCK_STREAM, str(self.folder / "unix")),
            "DGRAM": self._listen(socket.AF_UNIX, socket.SOCK_DGRAM, str(self.folder / "dgram")),
        }
        if sys.platform == "linux":
            self.listeners["ABSTRACT"] = self._listen(socket.AF_UNIX, socket.SOCK_STREAM, "\0" + self.mark)
        self.sentinel = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        self.restore()
        return self

    def __exit__(self, *_: object) -> None:
        for listener in self.listeners.values():
            listener.close()
        os.close(self.leaked)
        os.environ.pop("LIMBECK_TEST_SECRET", None)
        self.sentinel.kill()
        self.sentinel.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    @staticmethod
    def _listen(family: int, kind: int, address: object) -> socket.socket:
        listener = socket.socket(family, kind)
        listener.bind(address)  # type: ignore[arg-type]
        if kind == socket.SOCK_STREAM:
            listener.listen(16)
        listener.setblocking(False)
        return listener

    def restore(self) -> None:
        """Put the files back as they were, so that one program's success does not hide another's."""
        shutil.rmtree(self.outside, ignore_errors=True)
        self.outside.mkdir()
        (self.outside / "victim").write_text("as it was")
        self.before = self._files()
        if self.sentinel.poll() is not None:
            self.sentinel = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])

    def _files(self) -> dict[str, tuple[object, ...]]:
        found = {}
        for file in sorted(self.outside.rglob("*")):
            status = file.lstat()
            content = file.read_bytes() if file.is_file() and not file.is_symlink() else b""
            found[str(file)] = (status.st_mode, status.st_mtime_ns, status.st_nlink, content)
        return found

    def fill(self, source: str) -> str:
        """Put this world's particulars into a program."""
        words = {
            "TCP": self.listeners["TCP"].getsockname()[1],
            "UDP": self.listeners["UDP"].getsockname()[1],
            "UNIX": self.folder / "unix",
            "DGRAM": self.folder / "dgram",
            "ABSTRACT": self.mark,
            "GRADER": os.getpid(),
            "SENTINEL": self.sentinel.pid,
            "ADDRESS": ctypes.addressof(self.memory),
            "SECRET": self.secret,
            "OUTSIDE": self.outside,
            "VICTIM": self.outside / "victim",
            "PACKAGE": Path(str(limbeck.__file__)).parent,
            "MARK": self.mark,
            "MARK_UP": "".join(chr(ord(letter) + 1) for letter in self.mark),
        }
        for word, value in words.items():
            source = source.replace(f"@{word}@", str(value))
        return source

    def breaches(self, output: str) -> list[str]:
        """Return what was reached since the last look."""
        found = [f"the {name} listener was reached" for name, one in self.listeners.items() if _reached(one)]
        if "BREACH" in output:
            found.append("it says that it got through")
        if self.mark in output:
            found.append("a secret is in the output")
        if not self.outside.is_dir() or self._files() != self.before:
            found.append("files outside have changed")
        if (state := _state(self.sentinel.pid)) not in "SR":
            found.append(f"another process was hurt ({state})")
        return found


def _reached(listener: socket.socket) -> bool:
    with contextlib.suppress(BlockingIOError):
        if listener.type == socket.SOCK_STREAM:
            listener.accept()[0].close()
        else:
            listener.recv(100)
        return True
    return False


def _state(pid: int) -> str:
    """Return a process's state letter; X if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def descendants(root: int | None = None) -> set[int]:
    """Return the live processes below this one, whatever sessions and groups they made themselves."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "stat").read_text().rpartition(")")[2].split()
            if words[0] not in "ZX":
                parents.setdefault(int(words[1]), []).append(int(folder.name))
    found: set[int] = set()
    waiting = [root or os.getpid()]
    while waiting:
        for child in parents.get(waiting.pop(), []):
            found.add(child)
            waiting.append(child)
    return found


def rss_mb() -> float:
    """Return this process's resident memory in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
