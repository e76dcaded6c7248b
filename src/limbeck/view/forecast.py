"""A plan as text for people: a line for every step, its 95 % ranges below, totals, and what was assumed.

step       rows  calls  answers  tokens in  tokens out      money       time
prompts   7,473      -        -          -           -          -      0.4 s
sample   59,784  7,473   59,784    712,000      6.10 M     $10.05      7 min
                                 680k-745k  5.81-6.39M  $9.6-10.5   7-32 min

It is made from the plan's record (plain dictionaries, as `--json` prints it), and fits into 100 columns.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from limbeck.view.numbers import count, duration, money, ranged, short

Record = Mapping[str, Any]
HEADS = ("step", "rows", "calls", "answers", "tokens in", "tokens out", "money", "time")
WIDTH = 100


def _large(value: float | None) -> str:
    return count(value) if value is None or abs(value) < 1e6 else short(value)


WRITTEN: dict[str, Callable[[float | None], str]] = {
    "rows": _large,
    "calls": _large,
    "answers": _large,
    "tokens_in": _large,
    "tokens_out": _large,
    "usd": money,
    "seconds": duration,
}


def lines(plan: Record, width: int = WIDTH) -> list[str]:
    """Return the lines of a plan."""
    rows = [row for step in plan["steps"] for row in _rows(step)]
    rows += ["", *_rows(plan["total"])]
    stopped = plan["first_pass"]
    if stopped:
        extra = [row for step in stopped for row in _rows(step)] + ["", *_rows(plan["first_pass_total"])]
    table = _table([HEADS, *rows], [HEADS, *extra] if stopped else [])
    out = table[: len(rows) + 1]
    if stopped:
        out += ["", *_wrapped(_saving(plan), width), *table[len(rows) + 1 :]]
    out.append("")
    for sentence in (*_each(plan), _paid(plan), *plan["notes"]):
        out += _wrapped(sentence, width)
    return [*out, *plan["unknown"]]  # with a file to be copied: not wrapped


def _rows(step: Record) -> list[Sequence[str]]:
    if not step["measured"]:
        return [(step["step"], "not measured: it trains, or needs what does")]
    asked = bool(step["calls"] or step["answers"])
    names = list(WRITTEN) if asked or step["step"] == "total" else ["rows", "seconds"]
    if step["step"] == "total":
        names.remove("rows")
    first = [WRITTEN[name](step[name]) if name in names else "–" for name in WRITTEN]
    below = [_range(step, name) if name in names else "" for name in WRITTEN]
    return [(step["step"], *first), *([("", *below)] if any(below) else [])]


def _range(step: Record, name: str) -> str:
    write = WRITTEN[name] if name in ("usd", "seconds") else short
    return ranged(step["low"].get(name), step["high"].get(name), write)


def _saving(plan: Record) -> str:
    samples = plan["samples"]
    ends = ranged(samples.get("low"), samples.get("high"), lambda value: f"{value:.1f}")
    return (
        f"Stopping at the first answer that passes would need {samples['needed']:.1f}{f' ({ends})' if ends else ''} of the "
        f"{samples['made']:.3g} answers to a prompt, each a call of its own:"
    )


def _each(plan: Record) -> list[str]:
    rows = next((step["rows"] for step in reversed(plan["steps"]) if step["measured"]), 0)
    usd = plan["total"]["usd"]
    return [f"That is {money(usd / rows)} for each of the {count(rows)} rows that come out."] if rows and usd else []


def _paid(plan: Record) -> str:
    tried = sum(pilot for pilot, _ in plan["pilot"].values())
    cost = plan["paid"]
    priced = f" (${cost:.4f} of the above)" if cost else ""
    return f"The answers to the pilot's {count(tried)} rows{priced} are in the cache and will not be bought again."


def _table(*parts: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows of all parts, the columns of the same widths; an empty row is a rule."""
    cells = [row for part in parts for row in part]
    full = [row for row in cells if len(row) == len(HEADS)]
    widths = [max(len(row[place]) for row in full) for place in range(len(HEADS))]
    widths[0] = max([widths[0], *(len(row[0]) for row in cells if row)])
    rule = "  ".join("─" * width for width in widths)
    return [_line(row, widths) if row else rule for row in cells]


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first = row[0].ljust(widths[0])
    if len(row) == 2:
        return f"{first}  {row[1]}"
    return "  ".join([first, *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]).rstrip()


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
