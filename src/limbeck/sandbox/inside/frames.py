"""Messages on a descriptor: four bytes of length, then that many bytes of JSON in ASCII.

    write(3, {"ready": True})       # 00 00 00 0f {"ready": true}
    read(3)                         # the next message, or None at the end

Both ends may be hostile to each other, so a length above the cap is an error before anything is read.
"""

from __future__ import annotations

import json
import os
from typing import Any

MAX_FRAME = 1 << 20
"""Bytes of one message from a candidate."""
MAX_JOB = 1 << 26
"""Bytes of a job: source, calls and tests, which come from the parent."""


class FrameError(Exception):
    """The other end does not keep to the format."""


def pack(message: Any) -> bytes:
    """Return the message with its length before it."""
    body = json.dumps(message, separators=(",", ":")).encode("ascii")
    return len(body).to_bytes(4, "big") + body


def write(descriptor: int, message: Any) -> None:
    """Write a whole message, waiting as long as it takes."""
    write_packed(descriptor, pack(message))


def write_packed(descriptor: int, packed: bytes) -> None:
    """Write what `pack` made."""
    left = memoryview(packed)
    while left:
        left = left[os.write(descriptor, left) :]


def read(descriptor: int, most: int = MAX_FRAME) -> Any:
    """Read the next message, or None at the end. Raises FrameError."""
    head = _exactly(descriptor, 4)
    if head is None:
        return None
    size = int.from_bytes(head, "big")
    if size > most:
        raise FrameError(f"a message of {size} bytes is above the cap of {most}")
    body = _exactly(descriptor, size)
    if body is None:
        raise FrameError("the message breaks off")
    return parse(body)


def parse(body: bytes) -> Any:
    """Parse the JSON of one message. Raises FrameError, also where the JSON is there to hurt: too deep, too many parts."""
    if body.count(b",") + body.count(b"[") + body.count(b"{") > MAX_PARTS:
        raise FrameError(f"a message of more than {MAX_PARTS} parts")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as fault:
        raise FrameError(f"not JSON: {type(fault).__name__}") from None


MAX_PARTS = 200_000
"""Values in one message: what bounds the memory of whoever parses it, since `[]` is two bytes on the wire and 56 in memory."""


def _exactly(descriptor: int, size: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < size:
        more = os.read(descriptor, min(size - len(parts), 1 << 20))
        if not more:
            return None
        parts += more
    return bytes(parts)
