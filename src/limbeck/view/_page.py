"""The template's compiled form, kept where Python keeps that of its modules: compiling takes longer than filling it in.

    src/limbeck/view/static/report.html  ->  src/limbeck/view/static/__pycache__/report.cpython-311.opt-jinja.pyc

The same rules hold as for a module: PYTHONDONTWRITEBYTECODE and PYTHONPYCACHEPREFIX are followed, a folder that can not be
written to is no reason to complain, and what was compiled from another text is not used (jinja2 compares checksums).
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from pathlib import Path

from jinja2 import BytecodeCache
from jinja2.bccache import Bucket


class PageCache(BytecodeCache):
    """Keeps the compiled templates of one folder in its `__pycache__`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load_bytecode(self, bucket: Bucket) -> None:
        """Fill the bucket if the template was compiled before."""
        with contextlib.suppress(OSError):  # there is none yet: jinja2 compiles
            bucket.bytecode_from_string(self._path(bucket.key).read_bytes())

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep what was compiled, in one move: two runs may end at the same time."""
        if sys.dont_write_bytecode:
            return
        path = self._path(bucket.key)
        temporary = path.with_suffix(f".{os.getpid()}")
        with contextlib.suppress(OSError):  # an installation that is read-only: the next run compiles again
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(bucket.bytecode_to_string())
            temporary.replace(path)

    def _path(self, key: str) -> Path:
        return Path(importlib.util.cache_from_source(str(self.folder / f"{key}.html"), optimization="jinja"))
