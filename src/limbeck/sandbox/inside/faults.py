"""What a candidate raised, put into words that can be sent: `{"kind": "memory", "type": "MemoryError", "text": ""}`."""

from __future__ import annotations

import errno

MAX_TEXT = 500
"""Characters of an error's text that are sent on."""


def describe(fault: BaseException) -> dict[str, str]:
    """Name the type of what was raised, its text cut short, and whether it was memory or the jail that stopped it."""
    kind = "error"
    if isinstance(fault, MemoryError):
        kind = "memory"
    elif isinstance(fault, OSError) and fault.errno in (errno.EPERM, errno.EACCES, errno.EROFS):
        kind = "refused"
    try:
        text = str(fault)[:MAX_TEXT]
    except BaseException:  # noqa: BLE001 - __str__ is the candidate's too
        text = ""
    return {"kind": kind, "type": type(fault).__name__[:100], "text": text}
