"""The sandbox's end inside a container: takes jobs on stdin, has them run as anywhere else, and writes what was seen to stdout.

    {"jobs": [{"work": {"mode": "program", "source": "print(1)"}, "seconds": 2.0, ..., "packages": [], "role": "candidate"}]}
    {"results": [{"reason": "eA==", "exit_code": 0, "stdout": "MQo=", ...}]}

See `container.py` for the other end. Two jobs are a candidate and its tests, and get a line between them.
"""

from __future__ import annotations

import contextlib
import socket
from base64 import b64decode
from typing import Any

from limbeck.sandbox import pool
from limbeck.sandbox.inside import frames
from limbeck.sandbox.job import HarnessFailure, Job, Result
from limbeck.sandbox.outcome import SandboxUnavailable
from limbeck.sandbox.session import perform, perform_both


def main() -> None:
    """Say whether programs can be confined in here, and serve until the other end hangs up."""
    try:
        pool.best("strict")
        why = ""
    except SandboxUnavailable as fault:
        why = str(fault)
    frames.write(1, {"reason": why})
    while not why and (request := frames.read(0, 2 * frames.MAX_JOB)) is not None:
        frames.write(1, _served(request["jobs"]))
    pool.close()


def _served(jobs: list[dict[str, Any]]) -> dict[str, Any]:
    try:
        return {"results": [result.packed() for result in _performed(jobs)]}
    except ValueError as fault:  # a package that the image does not have
        return {"refused": str(fault)}
    except (HarnessFailure, SandboxUnavailable) as fault:
        return {"failed": str(fault)}


def _performed(jobs: list[dict[str, Any]]) -> list[Result]:
    flavours = [
        pool.Flavour(level=pool.best("strict"), packages=tuple(job["packages"]), disk=job["disk"], role=job["role"])
        for job in jobs
    ]
    if len(jobs) == 1:
        return [perform(_job(jobs[0], None), flavours[0])]
    ours, its = socket.socketpair()
    with contextlib.closing(ours), contextlib.closing(its):
        return list(perform_both(_job(jobs[0], its), flavours[0], _job(jobs[1], ours), flavours[1]))


def _job(plain: dict[str, Any], peer: socket.socket | None) -> Job:
    names = ("work", "seconds", "memory", "disk", "tests")
    return Job(**{name: plain[name] for name in names}, stdin=b64decode(plain["stdin"]), peer=peer)
