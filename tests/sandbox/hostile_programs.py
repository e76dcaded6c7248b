"""The programs of the corpus, read from `programs/`: what a candidate might try, and what it must be allowed to do.

    === connect tame
    import socket
    socket.create_connection(('127.0.0.1', @TCP@), 1).sendall(b'hello')

A program prints BREACH where only it can see that it got through; everything else is seen from outside (`hostile_world.py`):
connections that arrive, files that change, secrets in the output, processes that are left or hurt, time and memory that are used.
Words in @AT@ signs are filled in with the world's ports, paths and process numbers. After the name stand options: `tame` ones do
no harm outside a sandbox either, so they are run without one as well, where they must succeed: else the detector proves nothing.
`writable` ones get a folder; `seconds=` is their limit, and `expect=` the statuses one of which they must end in.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).with_name("programs")
LIBC = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
KINDS = ("network", "reading", "writing", "devices", "processes", "resources", "kernel")


@dataclass(frozen=True)
class Attack:
    """One hostile program."""

    kind: str
    name: str
    source: str
    tame: bool = False
    writable: bool = False
    seconds: float = 1.0
    expect: tuple[str, ...] = ()


@dataclass(frozen=True)
class Honest:
    """A program that must run as it would outside, and print `fine`."""

    name: str
    source: str
    writable: bool = False
    allow: tuple[str, ...] = ()
    stdin: str = ""


def programs(file: str) -> list[tuple[str, dict[str, str], str]]:
    """Read a file of programs: name, options and source of each."""
    found = []
    for part in (FOLDER / f"{file}.txt").read_text("utf-8").split("=== ")[1:]:
        head, _, source = part.partition("\n")
        name, *words = head.split()
        options = dict(word.partition("=")[::2] for word in words)
        found.append((name, options, source.strip("\n").replace("@LIBC@\n", LIBC) + "\n"))
    return found


def _attack(kind: str, name: str, options: dict[str, str], source: str) -> Attack:
    expect = tuple(options.get("expect", "").split(",")) if "expect" in options else ()
    seconds = float(options.get("seconds", 1.0))
    return Attack(kind, name, source, "tame" in options, "writable" in options, seconds, expect)


def _honest(name: str, options: dict[str, str], source: str) -> Honest:
    stdin = options.get("stdin", "").encode("latin-1").decode("unicode_escape")
    allow = tuple(options["allow"].split(",")) if "allow" in options else ()
    return Honest(name, source + "print('fine')\n", "writable" in options, allow, stdin)


ATTACKS = [_attack(kind, *program) for kind in KINDS for program in programs(kind)]
ATTACKS += [
    Attack("resources", "source-null", "x = 1\0\nprint('BREACH')", expect=("error",)),
    Attack("resources", "source-surrogate", "x = '\ud800'\nprint('fine')"),
    Attack("resources", "source-large", f"x = '{'a' * (5 << 20)}'\nprint(len(x))", seconds=5.0, expect=("ok",)),
    Attack("resources", "source-deep", f"x = {'[' * 5000}{']' * 5000}", expect=("error", "memory")),
]
HONEST = [_honest(*program) for program in programs("honest")]
HONEST.append(
    Honest("input-large", "import sys\nassert sum(map(int, sys.stdin)) == sum(range(100000))\nprint('fine')\n",
           stdin="".join(f"{n}\n" for n in range(100000)))
)  # fmt: skip
FUNCTIONS = {name: source for name, _, source in programs("forged_functions")}
"""Forged solutions of `add(a, b)` for `check_function` and `check_asserts`: wrong on (2, 3), (10, -4) and (0, 0), or missing."""
OTHER_TYPES = {name: source for name, _, source in programs("other_types")}
"""The number is right and the type is not, which `==` in an assert is happy with: for `check_function` only."""
PROGRAMS = {name: source for name, _, source in programs("forged_outputs")}
"""Forged solutions of "print twice each number read" for `check_program`: 4 -> 8, and 4, 10 -> 8, 20."""
