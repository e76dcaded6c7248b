"""Zygotes and who uses them: a few per configuration, each serving one job at a time, shared by all threads.

    with lease(Flavour(level="strict")) as zygote:
        zygote.line         # the socket on which it takes a job

A zygote takes a tenth of a second to start and a few milliseconds to serve, so they are kept. They end when this process ends,
however it ends: their only line is a socket whose other end is ours. After a fork the child forgets its parent's zygotes.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from limbeck.sandbox import bubblewrap
from limbeck.sandbox.container import Container
from limbeck.sandbox.inside import boxes
from limbeck.sandbox.inside.jail import OWN_WORLD
from limbeck.sandbox.layout import layout
from limbeck.sandbox.outcome import BACKENDS, LEVELS, Level, SandboxUnavailable

START_SECONDS = 30.0
"""How long a zygote may take to start, on however busy a machine."""
PACKAGE = Path(__file__).resolve().parent.parent
BOOT = """
import os, sys, types
for name, folder in (("limbeck", {package!r}), ("limbeck.sandbox", {package!r} + "/sandbox")):
    module = types.ModuleType(name)
    module.__path__ = [folder]
    sys.modules[name] = module
register, os.register_at_fork = os.register_at_fork, lambda **hooks: None
from limbeck.sandbox.inside.zygote import main
os.register_at_fork = register
main()
"""
"""What the zygote's interpreter starts with: `limbeck` as an empty shell, so that nothing but the sandbox's inside is loaded.

What `threading` and `random` would do after every fork - forget other threads, take a new seed - is left out: a zygote has one
thread, its children take one seed, and the two cost as much as the rest of the fork.
"""

# no -I, which would also ignore this one harmless setting: sets of text must have the same order in every run
ENVIRONMENT = {"PYTHONHASHSEED": "0", "TZ": "UTC", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
if libraries := os.environ.get("LD_LIBRARY_PATH"):
    ENVIRONMENT["LD_LIBRARY_PATH"] = libraries  # some Pythons find their own library by it, and would not start
COMMAND = (sys.executable, "-s", "-P", "-S", "-X", "utf8", "-c")


@dataclass(frozen=True)
class Flavour:
    """What zygotes differ in."""

    level: Level
    packages: tuple[str, ...] = ()
    disk: int = 0
    """Bytes of a writable box; 0 for none."""
    role: str = "candidate"
    """Tests run in zygotes of their own, so that no check waits for a zygote that another check like it holds."""


class Zygote:
    """One running zygote."""

    def __init__(self, flavour: Flavour) -> None:
        self.flavour = flavour
        self.box = "/box" if flavour.level in OWN_WORLD else tempfile.mkdtemp(prefix="limbeck-box-")
        self.line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with theirs:
                self.process = subprocess.Popen(
                    self._command(theirs.fileno()),
                    env=ENVIRONMENT, cwd="/", pass_fds=(theirs.fileno(),), start_new_session=True,
                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                )  # fmt: skip
            with cast("IO[bytes]", self.process.stderr) as complaints:
                self._await_start(complaints)
        except BaseException:
            self.end()
            raise

    def _command(self, line: int) -> list[str]:
        """Return what starts the zygote. Raises SandboxUnavailable."""
        flavour, files = self.flavour, layout(self.flavour.packages)
        settings = {"level": flavour.level, "box": self.box, "disk": flavour.disk, **vars(files)}
        package = bubblewrap.PACKAGE if flavour.level == "bubblewrap" else str(PACKAGE)
        command = [*COMMAND, BOOT.format(package=package), str(line), json.dumps(settings)]
        if flavour.level != "bubblewrap":
            return command
        try:
            return bubblewrap.wrap(command, files, self.box, flavour.disk)
        except FileNotFoundError as fault:
            raise SandboxUnavailable(str(fault)) from None

    def _await_start(self, complaints: IO[bytes]) -> None:
        self.line.settimeout(START_SECONDS)
        try:
            note = self.line.recv(256, socket.MSG_WAITALL)
        except TimeoutError:
            raise SandboxUnavailable(f"its interpreter did not start within {START_SECONDS:.0f} seconds") from None
        self.line.settimeout(None)
        if len(note) < 256:
            os.set_blocking(complaints.fileno(), False)  # what it had to say is there, and no more is waited for
            said = (complaints.read() or b"").decode("utf-8", "replace").strip()[-300:] or "it says nothing"
            raise SandboxUnavailable(f"its interpreter ended while it was being set up: {said}")
        if text := note.rstrip(b"\0").decode("utf-8", "replace"):
            raise SandboxUnavailable(text)

    def end(self) -> None:
        """End the zygote and whatever it runs, and remove its box."""
        self.line.close()
        process = getattr(self, "process", None)
        if process is not None:
            try:
                process.wait(0.5)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
                process.wait()
        if self.box != "/box":
            boxes.remove(self.box)


class Pool:
    """The zygotes of one flavour, or containers: as many as there are cores, made when first needed."""

    def __init__(self, flavour: Flavour) -> None:
        self.flavour = flavour
        self.idle: list[Any] = []
        self.lent: set[Any] = set()
        self.free = threading.Semaphore(max(2, os.cpu_count() or 2))

    @contextlib.contextmanager
    def lease(self) -> Iterator[Any]:
        """Lend a zygote to this thread, waiting for one if all are busy; one that failed is ended, not taken back."""
        with self.free:
            zygote = self._take()
            self.lent.add(zygote)
            try:
                yield zygote
            except BaseException:
                zygote.end()
                raise
            finally:
                self.lent.discard(zygote)
            self.idle.append(zygote)

    def _take(self) -> Any:
        """Return an idle zygote that is still alive, or a new one."""
        while True:
            try:
                zygote = self.idle.pop()
            except IndexError:
                return self._start()
            if zygote.process.poll() is None:
                return zygote
            zygote.end()

    def _start(self) -> Any:
        """Start a zygote; a second time if the first fails, for it may have been no more than a machine short of memory."""
        if self.flavour.level == "docker":
            return Container()
        try:
            return Zygote(self.flavour)
        except SandboxUnavailable:
            return Zygote(self.flavour)


_pools: dict[Flavour, Pool] = {}
_lock = threading.Lock()


@contextlib.contextmanager
def lease(flavour: Flavour) -> Iterator[Zygote]:
    """Lend a zygote of this flavour. Raises SandboxUnavailable if the level can not be had."""
    with _pool(flavour).lease() as zygote:
        yield zygote


@contextlib.contextmanager
def lease_container() -> Iterator[Container]:
    """Lend a container; packages and boxes are matters of the zygotes inside. Raises SandboxUnavailable."""
    with _pool(Flavour(level="docker")).lease() as container:
        yield container


def _pool(flavour: Flavour) -> Pool:
    with _lock:
        return _pools.setdefault(flavour, Pool(flavour))


def close() -> None:
    """End all idle zygotes; new ones start when they are needed. Called at the interpreter's exit."""
    with _lock:
        pools = list(_pools.values())
        _pools.clear()
    for pool in pools:
        while pool.idle:
            pool.idle.pop().end()


def _forget() -> None:
    """In a forked child: let go of the parent's zygotes without ending them."""
    global _lock, _pools
    pools, _pools, _lock = _pools, {}, threading.Lock()
    for pool in pools.values():
        for zygote in [*pool.idle, *pool.lent]:
            zygote.line.close()
            zygote.process.returncode = 0  # not ours to wait for


os.register_at_fork(after_in_child=_forget)
atexit.register(close)

_found: dict[Level, str] = {}
"""Per level tried so far: why it can not be had, or nothing if it can."""


def reason(level: Level) -> str:
    """Say why a level can not be had here; empty if it can. Found out once, by setting it up."""
    if level not in _found:
        try:
            with _pool(Flavour(level=level)).lease():
                _found[level] = ""
        except (SandboxUnavailable, OSError) as fault:
            _found[level] = str(fault)
    return _found[level]


def only(level: Level | None) -> None:
    """Use this level and no stronger one from now on; None for the strongest again. For those who compare levels."""
    global _strongest
    _strongest = level


_strongest: Level | None = None


def best(least: Level) -> Level:
    """Return the strongest level that can be had, if it is at least `least`. Raises SandboxUnavailable, ValueError.

    A backend is had where it is asked for by name, and instead of it nothing.
    """
    if least in BACKENDS:
        if why := reason(least):
            raise SandboxUnavailable(f"This system can not confine programs with {least}, so nothing was run ({why}).")
        return least
    if least not in LEVELS:
        raise ValueError(f"There is no sandbox level '{least}'. There are: {', '.join([*LEVELS, *BACKENDS])}.")
    allowed = LEVELS[LEVELS.index(_strongest) if _strongest else 0 : LEVELS.index(least) + 1]
    for level in allowed:
        if not reason(level):
            return level
    why = "; ".join(f"{level}: {reason(level)}" for level in allowed)
    raise SandboxUnavailable(
        f"This system can not confine programs at the level '{least}', so nothing was run ({why}). "
        "On a machine you can afford to lose, level='rlimit-only' runs them unconfined."
    )
