"""What is to be run, and what was seen of it.

Job({"mode": "program", "source": "print(input())"}, stdin=b"hello")
Result(reason=b"x", exit_code=0, stdout=b"hello\\n", ...)
"""

from __future__ import annotations

import socket
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from typing import Any

from limbeck.sandbox.inside import frames

BYTES = ("reason", "stdout", "stderr", "messages")
"""What of a result is bytes, and travels as base64."""


class HarnessFailure(Exception):
    """The sandbox failed, not the program."""


@dataclass
class Job:
    """What is to be run."""

    work: dict[str, Any]
    """The message to the driver; see `inside.candidate` and `inside.examiner`."""
    stdin: bytes = b""
    seconds: float = 2.0
    memory: int = 256 << 20
    disk: int = 0
    peer: socket.socket | None = None
    """This job's end of the line between candidate and tests."""
    tests: bool = False

    def packed(self) -> dict[str, Any]:
        """Return all of it but the peer as plain data, for the way into a container."""
        return {
            "work": self.work, "stdin": b64encode(self.stdin).decode(), "seconds": self.seconds,
            "memory": self.memory, "disk": self.disk, "tests": self.tests,
        }  # fmt: skip


@dataclass
class Result:
    """What was seen of a job."""

    reason: bytes = b""
    exit_code: int = 0
    cpu_seconds: float = 0.0
    seconds: float = 0.0
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    messages: bytearray = field(default_factory=bytearray)
    overflow: str = ""
    """What went over its cap: stdout, stderr or messages."""

    def packed(self) -> dict[str, Any]:
        """Return all of it as plain data, for the way out of a container."""
        texts = {name: b64encode(getattr(self, name)).decode() for name in BYTES}
        return {**vars(self), **texts}

    @classmethod
    def unpacked(cls, plain: dict[str, Any]) -> Result:
        """Return what `packed` packed."""
        parts = {name: bytearray(b64decode(plain[name])) for name in BYTES[1:]}
        return cls(**{**plain, **parts, "reason": b64decode(plain["reason"])})

    def frames(self) -> list[dict[str, Any]]:
        """Return the messages that arrived whole, up to the first that is malformed."""
        found: list[dict[str, Any]] = []
        at = 0
        while at + 4 <= len(self.messages):
            size = int.from_bytes(self.messages[at : at + 4], "big")
            body = bytes(self.messages[at + 4 : at + 4 + size])
            if size > frames.MAX_FRAME or len(body) < size:
                break
            try:
                message = frames.parse(body)
            except frames.FrameError:
                break
            if not isinstance(message, dict):
                break
            found.append(message)
            at += 4 + size
        return found
