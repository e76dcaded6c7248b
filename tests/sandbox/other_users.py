"""Running a script as others would: as a user without a home, and where the kernel refuses some system calls."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import limbeck

SOURCE = Path(limbeck.__file__).parents[1]
AS_NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
NUMBERS = {
    "x86_64": {"unshare": 272, "mount": 165, "landlock": 444, "seccomp": 317},
    "aarch64": {"unshare": 97, "mount": 40, "landlock": 444, "seccomp": 277},
}


def python_for_everyone() -> str | None:
    """Return a Python that a user without a home can run: root's own may lie in root's home."""
    if not shutil.which("setpriv"):
        return None
    for name in (sys.executable, "/usr/local/bin/python3", "/usr/bin/python3"):
        again = "subprocess.call([sys.executable, '-c', ''])"
        code = f"import subprocess, sys; sys.exit(sys.version_info < (3, 11) or {again})"
        found = shutil.which(name) and subprocess.run([*AS_NOBODY, name, "-c", code], capture_output=True, check=False)
        if found and found.returncode == 0:
            return name
    return None


def ordinary() -> list[str] | None:
    """Return how a Python is started as an ordinary user, which this may be already; None where there is none."""
    if os.geteuid() != 0:
        return [sys.executable]
    python = python_for_everyone()
    return [*AS_NOBODY, python] if python else None


def without(*names: str) -> str:
    """Return the beginning of a script, after which this process's kernel refuses those system calls, as a container may."""
    return f"""
import sys; sys.path[:0] = [{str(SOURCE)!r}, {str(Path(__file__).parent)!r}]
import ctypes, errno, os
from limbeck.sandbox.inside import seccomp
from limbeck.sandbox.inside.seccomp import _step, LOAD, JUMP_EQUAL, RETURN, ALLOW
libc = ctypes.CDLL(None, use_errno=True)
calls = {[NUMBERS[platform.machine()][name] for name in names]}
code = _step(LOAD, 0) + b"".join(_step(JUMP_EQUAL, n, 0, 1) + _step(RETURN, 0x50000 | errno.EPERM) for n in calls)
libc.prctl(38, 1, 0, 0, 0)
seccomp.install(libc, bytearray(code + _step(RETURN, ALLOW)), os.uname().machine)
"""
