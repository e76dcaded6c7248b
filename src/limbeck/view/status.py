"""The state of a run as text for people: a line for every step, sums, and what is left to do.

step     state      kept  dropped  answers  cached  tokens in  tokens out    money  a kept row   time
prompts  done      7,473        0        -       -          -           -        -           -  1.2 s
sample   begun         -        -   12,024       0    142,113   1,201,900    $1.91           -      -
         begun but not finished
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from limbeck.view.numbers import count, counted, duration, listed, money

Facts = Mapping[str, Any]
WIDTH = 100


def lines(steps: Sequence[Facts], *, why: bool = False, width: int = WIDTH) -> list[str]:
    """Return the lines; `why` adds below each step why it would run again."""
    every, steps = steps, [step for step in steps if step["step"]]
    rows = [_cells(step) for step in steps]
    columns = [place for place in range(len(HEADS)) if place < 3 or any(row[place] for row in rows)]
    table = [[HEADS[place] for place in columns], *([row[place] or "–" for place in columns] for row in rows)]
    sums = _sums(steps)
    if sums is not None:
        table.append([sums[place] for place in columns])
    widths = [max(len(row[place]) for row in table) for place in range(len(columns))]
    out = [_line(table[0], widths)]
    for step, row in zip(steps, table[1:], strict=False):
        out.append(_line(row, widths))
        if why:
            out += textwrap.wrap(step["why"], width, initial_indent="    ", subsequent_indent="    ")
    if sums is not None:
        out += ["  ".join("─" * size for size in widths), _line(table[-1], widths)]
    for sentence in _sentences(steps, every):
        out += ["", *textwrap.wrap(sentence, width)]
    return out


HEADS = (
    "step",
    "state",
    "kept",
    "dropped",
    "answers",
    "cached",
    "tokens in",
    "tokens out",
    "money",
    "a kept row",
    "time",
)
TEXTS = 2
"""How many columns stand at the left."""


def _cells(step: Facts) -> list[str]:
    rows, usage = step.get("rows") or {}, step.get("usage") or {}
    asked = bool(usage.get("answers") or usage.get("cached"))
    kept = rows.get("kept")
    usd = dollars(usage)
    each = money(usd / kept) if asked and usd and kept else ""

    def told(name: str) -> str:
        return count(usage.get(name, 0)) if asked else ""

    counts = [count(rows[name]) if name in rows else "" for name in ("kept", "dropped")]
    asks = [told("answers"), told("cached"), told("tokens_in"), told("tokens_out")]
    price = money(usd) if asked else ""
    seconds = step.get("seconds")
    time = duration(seconds) if seconds is not None else ""
    return [step["name"], step["state"], *counts, *asks, price, each, time]


def dollars(usage: Facts) -> float | None:
    """Return what a step has cost, None where the price of an answer is unknown."""
    return None if usage.get("unpriced") else usage.get("usd", 0.0)


def _sums(steps: Sequence[Facts]) -> list[str] | None:
    """Return the sum over steps; None where no model was asked."""
    usages = [step["usage"] for step in steps if step.get("usage")]
    names = ("answers", "cached", "tokens_in", "tokens_out")
    totals = [sum(usage.get(name) or 0 for usage in usages) for name in names]
    if not any(totals):
        return None
    prices = [dollars(usage) for usage in usages]
    usd = None if None in prices else sum(price for price in prices if price is not None)
    kept = next((s["rows"]["kept"] for s in reversed(steps) if s["done"] and s.get("rows")), 0)
    whole = all(step["done"] for step in steps)
    each = money(usd / kept) if usd and kept and whole else ""
    return ["total", "", "", "", *map(count, totals), money(usd), each, ""]


def _sentences(steps: Sequence[Facts], every: Sequence[Facts]) -> list[str]:
    done = sum(step["done"] for step in steps)
    out = [f"{done} of {counted(len(steps), 'step')} {'is' if done == 1 else 'are'} done."]
    left = [step for step in steps if not step["done"]]
    if left:
        out[0] += f" To do: {listed([_left(step) for step in left])}."
        busy = any(step["state"] == "under way" for step in steps)
        out[0] += " The run is under way." if busy else " Run the same command again to go on."
    sums = {name: sum((step.get("usage") or {}).get(name) or 0 for step in every) for name in _TOLD}
    return out + [say(sums[name]) for name, say in _TOLD.items() if sums[name]]


def _left(step: Facts) -> str:
    rows = step.get("rows_in")
    return f"{step['name']} ({counted(rows, 'row')} to read)" if rows is not None else str(step["name"])


_TOLD: Mapping[str, Callable[[float], str]] = {
    "retries": lambda number: f"{counted(number, 'request')} had to be sent again.",
    "lost": lambda number: f"{counted(number, 'request')} got no reply, and may have been charged all the same.",
    "at_risk": lambda usd: (
        f"Requests without a reply may have cost up to {money(usd)}, which counts against the budget."
    ),
    "unpriced": lambda number: f"The price of {counted(number, 'answer')} is unknown; give it with --prices FILE.",
}


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        cell.ljust(size) if place < TEXTS else cell.rjust(size)
        for place, (cell, size) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()
