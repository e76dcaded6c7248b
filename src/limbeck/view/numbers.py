"""Numbers and names as people write them.

count(6000)            -> "6,000"
percent(0.473)         -> "47.3 %"
points(-0.021)         -> "−2.1"
duration(4210)         -> "1 h 10 min"
money(None)            -> "unknown"
"""

from __future__ import annotations

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
    """Write US dollars; a price that nobody told is unknown, not zero."""
    if usd is None:
        return "unknown"
    return "$0" if usd == 0 else f"${usd:.4f}" if usd < 0.1 else f"${usd:,.2f}"


def counted(number: float, thing: str, things: str = "") -> str:
    """Write `1 row`, `2 rows`."""
    return f"{count(number)} {thing if round(number) == 1 else things or thing + 's'}"


def listed(items: list[str]) -> str:
    """Write a list as a phrase: `a, b and c`."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1] if items else ""


def opening(text: str) -> str:
    """Begin a sentence with `text`, the rest of it left as it stands."""
    return text[:1].upper() + text[1:]
