"""Which files a jailed program may read: the standard library, the system's shared libraries, and the packages that are let in.

    layout(("numpy",)).readable     [".../lib/python3.11/json", ..., "/usr/lib", ".../site-packages/numpy", ".../numpy.libs"]

Site packages lie below the standard library's folder, so the library's entries are listed one by one and site-packages is left out.
"""

from __future__ import annotations

import importlib.util
import sys
import sysconfig
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

LIBRARIES = (
    "/lib",
    "/lib64",
    "/lib32",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/etc/ld.so.cache",
    "/usr/share/zoneinfo",
)
OUTSIDE = ("site-packages", "dist-packages", "__pycache__")


@dataclass(frozen=True)
class Layout:
    """What exists, may be read and may be listed inside; see `inside.jail.Settings`."""

    shown: list[str]
    readable: list[str]
    listable: list[str]
    path: list[str]
    preload: list[str]


@lru_cache(maxsize=64)
def layout(packages: tuple[str, ...]) -> Layout:
    """Return the layout for a bare interpreter and these packages. Raises ValueError for a package that is not installed."""
    library = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")]
    roots = sorted({str(folder) for folder in library if folder.is_dir()})
    entries = [str(entry) for root in roots for entry in Path(root).iterdir() if entry.name not in OUTSIDE]
    shared = [str(file) for file in Path(sys.base_prefix, "lib").glob("lib*.so*")]
    system = [name for name in LIBRARIES if Path(name).exists()]
    found = [file for name in packages for file in _package(name)]
    sites = sorted({str(Path(file).parent) for file in found})
    return Layout(
        shown=[*roots, *shared, *system, *found],
        readable=[*entries, *shared, *system, *found],
        listable=[*roots, *(f"{root}/__pycache__" for root in roots), *sites],
        path=sites,
        preload=list(packages),
    )


def _package(name: str) -> list[str]:
    """Return a package's folder or file, and the folder of shared libraries that its wheel may have brought."""
    try:
        spec = importlib.util.find_spec(name) if name.isidentifier() else None
    except (ImportError, ValueError):
        spec = None
    if spec is None or (spec.origin is None and not spec.submodule_search_locations):
        raise ValueError(
            f"The package '{name}' can not be let into the sandbox: it is not installed in this environment."
        )
    places = [Path(place) for place in spec.submodule_search_locations or [str(spec.origin)]]
    beside = [place.parent / f"{name}.libs" for place in places]
    return [str(place) for place in [*places, *beside] if place.exists()]
