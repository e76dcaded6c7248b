"""Numbers and names as people write them.

count(6000)            -> "6,000"
percent(0.473)         -> "47.3 %"
points(-0.021)         -> "−2.1"
duration(4210)         -> "1 h 10 min"
money(None)            -> "unknown"
"""

from __future__ import annotations

import math
from collections.abc import Callable

MINUS, NARROW = "\u2212", "\u202f"


def count(value: float | None) -> str:
    """Write a count with separators; an unknown one as a dash."""
    return "–" if value is None else f"{round(value):,}"


def short(value: float | None) -> str:
    """Write a large count in three figures: 1.25 M."""
    if value is None:
        return "–"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            scale = 1e3 if unit == "k" else size
            return f"{value / scale:.3g}{NARROW}{unit}"
    return count(value)


def percent(share: float | None, digits: int = 1) -> str:
    """Write a share as a percentage."""
    return "–" if share is None else f"{signed(share * 100, digits)}{NARROW}%"


def points(share: float, digits: int = 1) -> str:
    """Write a difference of shares in percentage points, without the unit."""
    return signed(share * 100, digits)


def signed(value: float, digits: int) -> str:
    """Write a number with a true minus sign, and never `-0.0`."""
    text = f"{value:.{digits}f}"
    text = text.lstrip("-") if float(text) == 0 else text
    return text.replace("-", MINUS)


def duration(seconds: float | None) -> str:
    """Write a time in the two units that matter."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def money(usd: float | None) -> str:
    """Write US dollars, small sums with two figures; a price that nobody told is unknown, not zero.

    >>> money(1234.5), money(0.0381), money(0.0000124), money(0.0), money(None)
    ('$1,234.50', '$0.0381', '$0.000012', '$0', 'unknown')
    """
    if usd is None:
        return "unknown"
    if usd == 0 or usd >= 0.1:
        return "$0" if usd == 0 else f"${usd:,.2f}"
    return f"${usd:.{max(4, 1 - math.floor(math.log10(usd)))}f}"


def brief(seconds: float | None) -> str:
    """Write a time that may be far below a second.

    >>> brief(0.0021), brief(0.000004), brief(2.04)
    ('2.1 ms', '0.004 ms', '2.0 s')
    """
    if seconds is None or seconds >= 1:
        return duration(seconds)
    return f"{seconds * 1000:.2g} ms" if seconds < 0.1 else f"{seconds * 1000:.0f} ms"


def counted(number: float, thing: str, things: str = "") -> str:
    """Write `1 row`, `2 rows`."""
    return f"{count(number)} {thing if round(number) == 1 else things or thing + 's'}"


def listed(items: list[str]) -> str:
    """Write a list as a phrase: `a, b and c`."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1] if items else ""


def opening(text: str) -> str:
    """Begin a sentence with `text`, the rest of it left as it stands."""
    return text[:1].upper() + text[1:]


def ranged(low: float | None, high: float | None, write: Callable[[float | None], str]) -> str:
    """Write the two ends of a range, what they share only once; nothing where it is a point or unknown.

    >>> ranged(9.61, 10.52, money), ranged(3.0, 3.0, count), ranged(420, 1920, duration)
    ('$9.61–10.52', '', '7–32 min')
    """
    if low is None or high is None:
        return ""
    first, last = write(low), write(high)
    if first == last:
        return ""
    unit = last.lstrip("0123456789.,$")
    if (
        unit
        and first.endswith(unit)
        and first.removesuffix(unit).lstrip("$").replace(",", "").replace(".", "").isdigit()
    ):
        first = first.removesuffix(unit)
    return f"{first}–{last.removeprefix('$') if first.startswith('$') else last}"
