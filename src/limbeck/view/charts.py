"""Small pure functions that draw: data in, one SVG as text out. No state, no library, no colours of their own.

    dots([Dot(label="raw traces", mean=.41, low=.38, high=.44, runs=(.40, .42), paint="arm-1")], width=720)
        -> '<svg viewBox="0 0 720 92" role="img" aria-label="…"><title>…</title>…</svg>'

Colour comes from the page: each mark has the class `paint` of its series, which sets the variable `--ink-of-mark`;
so one drawing serves light, dark and print. Every chart is drawn for a width and never shrunk below readable text:
the page shows a wide drawing or a narrow one. All text is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from limbeck.view.numbers import percent, short

Scale = Callable[[float], float]
Place = Callable[[tuple[float, float]], str]
SHAPES = ("circle", "square", "diamond", "triangle")
"""Arms differ in shape as well as in colour, for eyes that do not tell the colours apart."""


@dataclass(frozen=True, kw_only=True)
class Dot:
    """One line of a dot plot: a mean, its interval, and the single runs behind it."""

    label: str
    mean: float
    low: float | None = None
    high: float | None = None
    runs: tuple[float, ...] = ()
    paint: str = "arm-0"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One curve; `faint` draws it thin, as one seed among several."""

    label: str
    points: tuple[tuple[float, float], ...]
    paint: str = "arm-0"
    faint: bool = False


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One distribution of a histogram: the share of each bin."""

    label: str
    shares: tuple[float, ...]
    paint: str = "kept"


def svg(body: str, *, width: float, height: float, title: str, kind: str) -> str:
    """Wrap marks in an SVG that scales and that a screen reader can name."""
    name = escape(title)
    return (
        f'<svg class="chart {kind}" viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" role="img" '
        f'aria-label="{name}"><title>{name}</title>{body}</svg>'
    )


def text(x: float, y: float, words: str, *, kind: str = "", anchor: str = "start") -> str:
    """Write words at a point."""
    end = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}"{end}>{escape(words)}</text>'


def fit(words: str, width: float, size: float = 13) -> str:
    """Cut words that would run past `width`, with an ellipsis; an estimate, since nothing here knows the font."""
    room = max(3, int(width / (size * 0.54)))
    return words if len(words) <= room else words[: room - 1].rstrip() + "…"


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return round numbers that cover low to high.

    >>> ticks(0, 0.62)
    [0.0, 0.2, 0.4, 0.6, 0.8]
    """
    # a single value still needs an axis to stand on
    high = high if high > low else low + (abs(low) or 1.0)
    span = high - low
    raw = span / max(1, most - 1)
    power = 10 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


# -- accuracy ----------------------------------------------------------------------------------------------------------


def dots(rows: Sequence[Dot], *, width: float = 720, title: str = "Accuracy with 95 % intervals") -> str:
    """Draw means as large marks, intervals as bars, single runs as small dots, on one axis from nought."""
    narrow = width < 500
    left, right, pitch, top = (6.0, width - 14, 50.0, 26.0) if narrow else (164.0, width - 84, 38.0, 24.0)
    shown = [v for row in rows for v in (row.mean, row.high or 0.0, *row.runs)]
    marks = ticks(0, min(1.0, max(shown, default=1.0) or 1.0), 5 if narrow else 6)
    bottom = top + pitch * len(rows)

    def x(value: float) -> float:
        return left + (right - left) * value / marks[-1]

    grid = "".join(
        f'<line class="grid" x1="{x(m):.1f}" x2="{x(m):.1f}" y1="{top - 6:.1f}" y2="{bottom:.1f}"/>'
        + text(x(m), top - 11, percent(m, 0), kind="tick", anchor="start" if m == 0 and narrow else "middle")
        for m in marks
    )
    body = "".join(_dot(row, top + pitch * (i + 0.5), x, narrow, left, width) for i, row in enumerate(rows))
    return svg(grid + body, width=width, height=bottom + 6, title=title, kind="dots")


def _dot(row: Dot, y: float, at: Scale, narrow: bool, left: float, width: float) -> str:
    y = y + 9 if narrow else y
    value = percent(row.mean)
    label_y = y - 17 if narrow else y + 4.5
    words = text(0, label_y, fit(row.label, 230 if narrow else left - 10), kind="label")
    words += text(width, label_y, value, kind="value", anchor="end")
    bar = ""
    if row.low is not None and row.high is not None:
        bar = f'<line class="interval" x1="{at(row.low):.1f}" x2="{at(row.high):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
    seeds = "".join(
        f'<circle class="seed" cx="{at(r):.1f}" cy="{y + 9:.1f}" r="2.4"/>' for r in row.runs if len(row.runs) > 1
    )
    told = f"{row.label}: {value}"
    if row.low is not None and row.high is not None:
        told += f", 95 % interval {percent(row.low)} to {percent(row.high)}"
    if len(row.runs) > 1:
        told += "; single runs " + ", ".join(percent(r) for r in row.runs)
    mark = marker(at(row.mean), y, row.paint)
    return f'<g class="{escape(row.paint)}"><title>{escape(told)}</title>{bar}{seeds}{mark}</g>{words}'


def marker(x: float, y: float, paint: str, size: float = 5.5) -> str:
    """Draw the mark of a series: its shape goes with its colour."""
    number = int(paint[4:]) if paint.startswith("arm-") and paint[4:].isdigit() else -1
    shape = SHAPES[number % len(SHAPES)] if number >= 0 else "circle"
    if shape == "square":
        return f'<rect class="mark" x="{x - size:.1f}" y="{y - size:.1f}" width="{2 * size:g}" height="{2 * size:g}"/>'
    if shape == "diamond":
        reach = size * 1.35
        corners = [(x, y - reach), (x + reach, y), (x, y + reach), (x - reach, y)]
    elif shape == "triangle":
        reach = size * 1.3
        corners = [(x, y - reach), (x + reach, y + reach * 0.8), (x - reach, y + reach * 0.8)]
    else:
        return f'<circle class="mark{" hollow" if number < 0 else ""}" cx="{x:.1f}" cy="{y:.1f}" r="{size:g}"/>'
    return f'<polygon class="mark" points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in corners)}"/>'


# -- curves ------------------------------------------------------------------------------------------------------------


def lines(
    series: Sequence[Line],
    *,
    width: float = 720,
    height: float = 300,
    title: str = "Curves",
    across: str = "",
    up: str = "",
) -> str:
    """Draw curves over a common axis; the y axis is logarithmic where the values span more than a factor of eight."""
    values = [y for s in series for _, y in s.points if math.isfinite(y)]
    reach = [px for s in series for px, _ in s.points]
    if not values or not reach:
        return svg(
            text(8, 20, "Nothing was logged yet.", kind="tick"), width=width, height=32, title=title, kind="lines"
        )
    logarithmic = min(values) > 0 and max(values) / min(values) > 8
    marks = _log_ticks(min(values), max(values)) if logarithmic else ticks(min(0.0, *values), max(values), 5)
    left, right, top, bottom = 46.0, width - 14, 24.0, height - 40
    low, high = (math.log(marks[0]), math.log(marks[-1])) if logarithmic else (marks[0], marks[-1])
    most = max(reach) or 1.0

    def at(point: tuple[float, float]) -> str:
        value = math.log(max(point[1], marks[0])) if logarithmic else point[1]
        return f"{left + (right - left) * point[0] / most:.1f},{bottom - (bottom - top) * (value - low) / ((high - low) or 1):.1f}"

    body = _frame(marks, [t for t in ticks(0, most, 5) if t <= most], at, left, right, bottom, across, up)
    for one in series:
        path = " ".join(at(p) for p in thin(one.points) if math.isfinite(p[1]))
        weight = "curve faint" if one.faint else "curve"
        body += f'<g class="{escape(one.paint)}"><title>{escape(one.label)}</title><polyline class="{weight}" points="{path}"/></g>'
    return svg(body, width=width, height=height, title=title, kind="lines")


def _frame(
    marks: Sequence[float],
    steps: Sequence[float],
    place: Place,
    left: float,
    right: float,
    bottom: float,
    across: str,
    up: str,
) -> str:
    body = text(left, 12, up, kind="tick") + text(right, bottom + 34, across, kind="tick", anchor="end")
    for mark in marks:
        y = float(place((0, mark)).split(",")[1])
        body += f'<line class="grid" x1="{left:g}" x2="{right:g}" y1="{y:.1f}" y2="{y:.1f}"/>'
        body += text(left - 8, y + 4, f"{mark:g}", kind="tick", anchor="end")
    for step in steps:
        body += text(
            float(place((step, marks[0])).split(",")[0]), bottom + 18, short(step), kind="tick", anchor="middle"
        )
    return body


def _log_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2, 5 times powers of ten around low to high."""
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    steps = [round(m * 10.0**p, 12) for p in powers for m in (1, 2, 5)]
    first = max((i for i, s in enumerate(steps) if s <= low), default=0)
    last = min((i for i, s in enumerate(steps) if s >= high), default=len(steps) - 1)
    return steps[first : last + 1]


def thin(points: Sequence[tuple[float, float]], most: int = 120) -> list[tuple[float, float]]:
    """Average neighbouring points until at most `most` are left; the first and the last stay as they are."""
    if len(points) <= most:
        return list(points)
    size = (len(points) - 2) / (most - 2)
    middle = [points[1 + int(i * size) : 1 + max(int(i * size) + 1, int((i + 1) * size))] for i in range(most - 2)]
    return [points[0], *(_centre(part) for part in middle if part), points[-1]]


def _centre(part: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return sum(p[0] for p in part) / len(part), sum(p[1] for p in part) / len(part)


# -- distributions -----------------------------------------------------------------------------------------------------


def histogram(
    shapes: Sequence[Shape], edges: Sequence[float], *, width: float = 720, title: str = "Lengths", across: str = ""
) -> str:
    """Draw one small histogram per distribution under each other, over one axis; each is scaled to its own peak."""
    shapes = [shape for shape in shapes if any(shape.shares)]
    if not shapes or len(edges) < 2:
        return svg(text(0, 20, "Nothing to count.", kind="tick"), width=width, height=32, title=title, kind="histogram")
    narrow = width < 500
    left, pitch, tall = (0.0, 66.0, 34.0) if narrow else (190.0, 50.0, 36.0)
    step = (width - 12 - left) / (len(edges) - 1)
    bottom = pitch * len(shapes) + 4
    body = ""
    for number, shape in enumerate(shapes):
        floor = pitch * (number + 1)
        body += text(
            0, floor - (tall + 10 if narrow else 4), fit(shape.label, width if narrow else left - 12), kind="label"
        )
        bars = _bars(shape.shares, left, step, floor, tall)
        body += f'<g class="{escape(shape.paint)}"><title>{escape(_peak(shape, edges))}</title>{bars}</g>'
        body += f'<line class="grid" x1="{left:g}" x2="{width - 12:g}" y1="{floor:g}" y2="{floor:g}"/>'
    every = math.ceil((len(edges) - 1) / (6 if narrow else 12))
    body += "".join(
        text(left + i * step, bottom + 14, f"{edge:g}", kind="tick", anchor="middle" if i else "start")
        for i, edge in enumerate(edges)
        if i % every == 0
    )
    body += text(width - 12, bottom + 31, across, kind="tick", anchor="end")
    return svg(body, width=width, height=bottom + 36, title=title, kind="histogram")


def _peak(shape: Shape, edges: Sequence[float]) -> str:
    top = max(range(len(shape.shares)), key=lambda i: shape.shares[i])
    return f"{shape.label}: most often {edges[top]:g} to {edges[top + 1]:g} ({percent(shape.shares[top], 0)})"


def _bars(shares: Sequence[float], left: float, step: float, floor: float, tall: float) -> str:
    top = max(shares)
    return "".join(
        f'<rect class="bar" x="{left + i * step + 0.75:.1f}" y="{floor - tall * s / top:.1f}" '
        f'width="{step - 1.5:.1f}" height="{tall * s / top:.1f}"/>'
        for i, s in enumerate(shares)
        if s
    )


def span(
    mean: float,
    low: float,
    high: float,
    reach: tuple[float, float],
    *,
    resolved: bool,
    width: float = 190,
    height: float = 18,
) -> str:
    """Draw one interval with a nought line, for a cell of a table; `reach` is the lowest and highest value of the column."""
    bottom, top = min(0.0, reach[0]), max(0.0, reach[1])
    scale, y = (width - 14) / ((top - bottom) or 1.0), height / 2
    nought, a, b, m = (7 + scale * (v - bottom) for v in (0.0, low, high, mean))
    body = (
        f'<line class="nought" x1="{nought:.1f}" x2="{nought:.1f}" y1="0" y2="{height:g}"/>'
        f'<line class="interval" x1="{a:.1f}" x2="{b:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<circle class="mark" cx="{m:.1f}" cy="{y:.1f}" r="3.5"/>'
    )
    told = f"{percent(mean)} (95 % interval {percent(low)} to {percent(high)})"
    return svg(body, width=width, height=height, title=told, kind="span resolved" if resolved else "span")
