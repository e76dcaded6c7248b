"""The picture of a run under way on a terminal: a bar for each running step, why rows were dropped, and the traffic.

    sample  ━━━━━━━━━╺────────  812 of 1,500 (54 %), 38 s left, 3 dropped, 9.2 rows/s
        dropped 2: refused: the prompt breaks the content policy
        dropped 1: the row has no user turn to answer
    math                        810
    0:41  $0.38 of $5.00, 64 in flight, 21 requests/s, 1,034 tokens/s, 12 retries

Lines that are too long go on in the next one, at a comma; only the text of a reason is cut.
"""

from __future__ import annotations

from collections.abc import Sequence

from limbeck.view.numbers import count
from limbeck.view.running import Running, progressed

BAR = 18
LONGEST_NAME = 24
INDENT = "    "
ROOM = 24
"""Columns beside name and bar under which what is told begins on a line of its own."""


def board(running: Running, now: float, width: int, height: int) -> list[str]:
    """Return the lines, at most `width` wide and `height` of them."""
    names = list(running.steps)
    clock = int(now - running.begun)
    time = (
        f"{clock // 3600}:{clock // 60 % 60:02d}:{clock % 60:02d}"
        if clock >= 3600
        else f"{clock // 60}:{clock % 60:02d}"
    )
    last = packed(running.traffic(now), width, first=time + "  ", rest=" " * (len(time) + 2))
    room = max(1, height - len(last))
    indent = max((len(_short(name)) for name in names), default=0) + 2
    bar = BAR if width >= 72 else max(4, BAR - (72 - width))
    for why in (True, False):
        blocks = [_step(running, name, now, indent=indent, bar=bar, width=width, why=why) for name in names]
        if sum(map(len, blocks)) <= room:
            return [line for block in blocks for line in block] + last
    shown = 0
    while shown < len(blocks) and sum(map(len, blocks[-shown - 1 :])) < room:
        shown += 1
    before = f"and {len(names) - shown} more steps before these"
    return [before[:width], *(line for block in blocks[len(blocks) - shown :] for line in block), *last][-height:]


def _step(running: Running, name: str, now: float, *, indent: int, bar: int, width: int, why: bool) -> list[str]:
    event = running.steps[name].last
    done, total = progressed(event), event.get("total")
    first = f"{_short(name).ljust(indent)}{drawn(done / total, bar) if total else ' ' * bar}  "
    parts = running.step(name, now)
    if width - len(first) < ROOM:
        out = [first.rstrip()[:width], *packed(parts, width, first=INDENT, rest=INDENT)]
    else:
        out = packed(parts, width, first=first, rest=INDENT)
    return [*out, *told_reasons(running.reasons(name), width)] if why else out


def drawn(share: float, width: int) -> str:
    """Draw a bar.

    >>> drawn(0.5, 8)
    '━━━━╺───'
    """
    full = min(width, int(share * width))
    return (
        "━" * full + ("╺" if 0 < share < 1 and full < width else "─" * (width > full)) + "─" * max(0, width - full - 1)
    )


def told_reasons(reasons: Sequence[tuple[int, str]], width: int) -> list[str]:
    """Return a line for each of the two most frequent reasons, cut to the width, and how many rows have others.

    >>> told_reasons([(41, "refused: the prompt breaks the policy"), (1, "odd"), (1, "rare")], 40)
    ['    dropped 41: refused: the prompt bre…', '    dropped 1: odd; 1 for other reasons']
    """
    others = sum(number for number, _ in reasons[2:])
    tail = f"; {count(others)} for other reasons" if others else ""
    out = []
    for place, (number, text) in enumerate(reasons[:2]):
        head, end = f"{INDENT}dropped {count(number)}: ", tail if place == 1 else ""
        out.append(f"{head}{_cut(text, max(4, width - len(head) - len(end)))}{end}"[:width])
    return out


def packed(parts: Sequence[str], width: int, *, first: str = "", rest: str = "") -> list[str]:
    """Join parts with commas into lines of at most `width`; a part is never broken.

    >>> packed(["one", "two", "three"], 12, first="> ", rest="  ")
    ['> one, two,', '  three']
    """
    lines, line = [], first
    for place, part in enumerate(parts):
        piece = part + ("," if place < len(parts) - 1 else "")
        if line.strip() and line not in (first, rest) and len(line) + 1 + len(piece) > width:
            lines.append(line)
            line = rest
        line += piece if line in (first, rest) else " " + piece
    return [*lines, line.rstrip()]


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[:11]}…{name[-12:]}"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(1, width - 1)].rstrip() + "…"
