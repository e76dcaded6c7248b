"""The working folder of a writable job: is it within its cap, and how it is emptied after a job that wished it were not.

fits("/box", 64 << 20)    # False: more bytes, more files (one per 16 KiB of the cap), deeper than 64
empty("/box")             # also if a folder is a hundred thousand deep, or its owner has no right to open it
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

BYTES_PER_FILE = 16384
"""One file, folder or link is allowed for so many bytes of the cap."""
DEEPEST = 64
"""Folders within folders."""
FEWEST = 256
"""Files that even a small box may hold."""


def most_files(disk: int) -> int:
    """Return how many files, folders and links a box of `disk` bytes may hold."""
    return max(FEWEST, disk // BYTES_PER_FILE)


def fits(box: str, disk: int) -> bool:
    """Say whether the box is within its cap; what can not be looked into is not. Stops looking as soon as it is not."""
    left, room = most_files(disk), disk
    waiting = [(box, 0)]
    while waiting:
        folder, depth = waiting.pop()
        if depth > DEEPEST:
            return False
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    left -= 1
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append((entry.path, depth + 1))
                    else:
                        room -= entry.stat(follow_symlinks=False).st_blocks * 512
                    if left < 0 or room < 0:
                        return False
        except FileNotFoundError:
            continue  # removed while we looked
        except OSError:
            return False
    return True


def empty(box: str) -> None:
    """Remove all that a job left in its box, however deep it is and whatever rights the job took from it.

    What a folder holds is moved up into the box before the folder goes, so that no path grows longer than two names.
    """
    moved = 0
    root = Path(box)
    while entries := list(root.iterdir()):
        for entry in entries:
            if not _is_folder(entry):
                entry.unlink()
                continue
            entry.chmod(0o700)
            for inner in list(entry.iterdir()):
                if _is_folder(inner):
                    inner.chmod(0o700)  # moving a folder rewrites its "..", which needs the right to write it
                    moved += 1
                    inner.rename(root / f"~{moved}")
                else:
                    inner.unlink()
            entry.rmdir()


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def remove(box: str) -> None:
    """Remove the box itself, with all that is in it."""
    with contextlib.suppress(OSError):
        empty(box)
        Path(box).rmdir()
