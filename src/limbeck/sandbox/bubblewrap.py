"""The backend `bubblewrap`: a zygote in namespaces that `bwrap` makes, for systems that let `bwrap` make them and not us.

    wrap(["/usr/bin/python3.11", "-S", ...], files, box="/box", disk=0)
        ["bwrap", "--unshare-user", ..., "--ro-bind", "/usr/lib", "/usr/lib", ..., "--", "/usr/bin/python3.11", ...]

The tree holds the library, the interpreter and the sandbox's own inside, read-only, and nothing else. What is inside puts on the
rest of the jail itself: limits, the seccomp filter, and Landlock where the kernel has it (`inside.jail`). Two traps: bubblewrap's
own environment can be read inside, so it is started with the zygote's; and `--die-with-parent` ends it together with the *thread*
that started it, so the zygote is left to end when its line closes. See https://github.com/containers/bubblewrap.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from limbeck.sandbox.inside.jail import threads_are_counted
from limbeck.sandbox.inside.namespaces import DEVICES
from limbeck.sandbox.layout import Layout

PACKAGE = "/limbeck"
"""Where the sandbox's own source stands in the tree: nobody need know where it is installed."""
INSIDE = str(Path(__file__).resolve().parent / "inside")
NAMESPACES = ("--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts")
"""All but the cgroup's, which older kernels lack and which hides nothing here."""


def wrap(command: list[str], files: Layout, box: str, disk: int) -> list[str]:
    """Return the command that runs `command` in a tree of its own. Raises FileNotFoundError where there is no `bwrap`."""
    if (program := shutil.which("bwrap")) is None:
        raise FileNotFoundError("bubblewrap is not installed: there is no bwrap in PATH")
    interpreter = os.path.realpath(command[0])  # a link of a virtual environment leads out of the tree
    arguments = [program, *NAMESPACES, "--as-pid-1", "--cap-drop", "ALL", "--chdir", "/"]
    for path in outermost([*files.shown, interpreter]):
        arguments += ["--ro-bind", path, path]
    arguments += ["--ro-bind", INSIDE, f"{PACKAGE}/sandbox/inside"]
    for path in DEVICES:
        arguments += ["--dev-bind-try", path, path]
    if not threads_are_counted():
        arguments += ["--proc", "/proc"]  # they are counted there, and Landlock hides it from the programs
    arguments += ["--size", str(disk), "--tmpfs", box] if disk else ["--dir", box]
    return [*arguments, "--remount-ro", "/", "--", interpreter, *command[1:]]


def outermost(paths: list[str]) -> list[str]:
    """Return those that are there and not below another, each once: what is below comes along, and can be added to no more."""
    chosen: list[str] = []
    for path in sorted({path for path in paths if Path(path).exists()}, key=len):
        if not any(Path(path).is_relative_to(other) for other in chosen):
            chosen.append(path)
    return chosen
