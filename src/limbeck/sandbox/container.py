"""The backend `docker`: the whole sandbox once more, inside a container that `docker` or `podman` runs.

    with lease_container() as worker:
        worker.ask({"jobs": [...]}, seconds=12.0)       # {"results": [{"reason": "eA==", "exit_code": 0, "stdout": ..., ...}]}

The container has no network, no capabilities, a read-only tree of its image's, an unknown user, and the sandbox's source; in it
`serving.py` runs jobs at the level `strict` or better, so programs can reach neither it nor each other. Only its stdin and stdout
lead out, and verdicts are decided out here as ever. The image is never fetched: `docker pull` it, or name another that has Python
3.11 or newer in LIMBECK_SANDBOX_IMAGE. Its Python is what programs run on, and its packages are those that can be allowed.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

from limbeck.sandbox.inside import frames
from limbeck.sandbox.job import HarnessFailure
from limbeck.sandbox.outcome import SandboxUnavailable

START_SECONDS = 60.0
"""How long a container may take to start."""
MAX_REPLY = 1 << 25
"""Bytes of a reply: at most two results of 6 MiB, as base64."""
SOURCE = Path(__file__).resolve().parent
OPTIONS = (
    "--rm", "--interactive", "--pull=never", "--network=none", "--read-only", "--cap-drop=ALL", "--user=65534:65534",
    "--security-opt=no-new-privileges", "--security-opt=label=disable", "--ulimit=nofile=1024:1024",
    "--tmpfs=/boxes:rw,mode=1777", "--env=TMPDIR=/boxes",
    f"--mount=type=bind,src={SOURCE},dst=/limbeck/sandbox,readonly",
)  # fmt: skip
BOOT = """
import sys, types
module = types.ModuleType("limbeck")
module.__path__ = ["/limbeck"]
sys.modules["limbeck"] = module
from limbeck.sandbox.serving import main
main()
"""
"""As in `pool.BOOT`: `limbeck` is an empty shell that holds the sandbox and nothing else."""


def image() -> str:
    """Return the name of the image: LIMBECK_SANDBOX_IMAGE, or the official one of this Python's version."""
    return os.environ.get("LIMBECK_SANDBOX_IMAGE") or f"python:{sys.version_info.major}.{sys.version_info.minor}-slim"


class Container:
    """One running container, which serves one request at a time."""

    def __init__(self) -> None:
        self.program = shutil.which("docker") or shutil.which("podman")
        if self.program is None:
            raise SandboxUnavailable("neither docker nor podman is in PATH")
        self.name = f"limbeck-{os.getpid()}-{secrets.token_hex(4)}"
        self.line, theirs = socket.socketpair()
        command = [self.program, "run", f"--name={self.name}", *OPTIONS, image(), "python3", "-c", BOOT]
        try:
            with theirs, tempfile.TemporaryFile() as complaints:
                self.process = subprocess.Popen(
                    command, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=complaints, start_new_session=True
                )
                theirs.close()
                self._await_start(complaints)
        except BaseException:
            self.end()
            raise

    def _await_start(self, complaints: IO[bytes]) -> None:
        try:
            why = self.ask(None, START_SECONDS)["reason"]
        except HarnessFailure as fault:
            complaints.seek(0)
            said = complaints.read().decode("utf-8", "replace").strip()[-300:] or str(fault)
            raise SandboxUnavailable(f"the container of {image()} did not start: {said}") from None
        if why:
            raise SandboxUnavailable(f"inside the container: {why}")

    def ask(self, request: dict[str, Any] | None, seconds: float) -> dict[str, Any]:
        """Send a request, or none, and return the reply. Raises HarnessFailure if there is none in time."""
        self.line.settimeout(seconds)
        try:
            if request is not None:
                self.line.sendall(frames.pack(request))
            size = int.from_bytes(self._exactly(4), "big")
            if size > MAX_REPLY:
                raise HarnessFailure(f"the container sends {size} bytes")
            reply = frames.parse(self._exactly(size))
        except (OSError, frames.FrameError) as fault:
            raise HarnessFailure(f"the container does not answer: {fault}") from None
        return reply if isinstance(reply, dict) else {}

    def _exactly(self, size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            more = self.line.recv(size - len(parts))
            if not more:
                raise HarnessFailure("the container has ended")
            parts += more
        return bytes(parts)

    def end(self) -> None:
        """End the container: it ends by itself when its line closes, and is removed if it does not."""
        self.line.close()
        process = getattr(self, "process", None)
        if process is None or self.program is None:
            return
        try:
            process.wait(3.0)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):  # nothing more can be done from here
                quiet = subprocess.DEVNULL
                subprocess.run(
                    [self.program, "rm", "--force", self.name], stdout=quiet, stderr=quiet, timeout=20, check=False
                )
            process.kill()
            process.wait()
