"""Compiling kernels with numba: when first needed, with a word to the user, and kept on disk for the next time.

    @compiled
    def count(data: ...) -> int: ...

Importing numba costs a third of a second and compiling some seconds, so modules that hold kernels are imported only by
functions that run them. Compiled code is kept in `limbeck/kernels-...` in the user's cache folder (`NUMBA_CACHE_DIR` or
`XDG_CACHE_HOME` move it), never beside the source: an installed package may be read-only, and numba notices a change
in the file of a kernel but not in the files of the kernels that it calls. The folder's name is therefore a hash of all
files called `_..._kernel.py` (which is where kernels have to be) and of the constants they share.
Where no folder can be written to, the kernels are compiled anew by every process.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

Kernel = TypeVar("Kernel", bound=Callable[..., Any])

_said = False


def compiled(function: Kernel) -> Kernel:
    """Return the function compiled for the machine: without the interpreter lock, unsigned sums wrap, floats are exact."""
    import numba

    folder = kernel_folder()
    if folder is None:
        return cast("Kernel", numba.njit(nogil=True)(function))
    config: Any = numba.config
    before = config.CACHE_DIR
    config.CACHE_DIR = str(folder)  # read when the function is wrapped, so others' caches stay where they are
    try:
        return cast("Kernel", numba.njit(nogil=True, cache=True)(function))
    finally:
        config.CACHE_DIR = before


def announce() -> None:
    """Say on stderr that kernels are about to be compiled, if nobody has compiled them yet; once a process."""
    global _said
    folder = kernel_folder()
    if _said or (folder is not None and any(folder.rglob("*.nbi"))):
        return
    _said = True
    kept = f"kept in {folder}" if folder is not None else "not kept: no cache folder can be written to"
    print(f"limbeck: compiling the text kernels, once, about half a minute ({kept})", file=sys.stderr, flush=True)


@cache
def kernel_folder() -> Path | None:
    """Return the folder compiled kernels are kept in, made if need be; None where none can be written to."""
    base = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME")
    try:
        folder = (Path(base) if base else Path.home() / ".cache") / "limbeck" / f"kernels-{_version()}"
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK | os.X_OK)
    except (OSError, RuntimeError):  # no home at all is a RuntimeError
        return None
    return folder if writable else None


def _version() -> str:
    import numba

    state = hashlib.blake2b(f"{numba.__version__} {sys.version_info[:2]}".encode(), digest_size=6)
    here = Path(__file__).parent
    for file in [*sorted(here.glob("_*kernel.py")), here / "_fold.py"]:
        state.update(file.name.encode() + file.read_bytes())
    return state.hexdigest()
