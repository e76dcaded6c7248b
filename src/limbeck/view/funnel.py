"""The funnel: every step a bar as long as its rows, what was kept in one colour, what was dropped in another.

    ●  problems   seeds.problems          1,500
    ●  sample     generate.sample  1,500 → 6,000
    ●  verdicts   score.math               6,000
    ├─●  until-pass  select.until_pass     3,112    − 2,888 wrong
    │ ●  train ×3    train.sft      3,112 rows each

A step that reads the one above it is joined to it by a ribbon; a branch has a lane of its own. It is drawn from
`after` in the order of `graph.fold`, so any shape of recipe can be drawn, and it is as readable on a phone.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from limbeck.view.charts import fit, svg, text
from limbeck.view.graph import Knot
from limbeck.view.numbers import count, counted

LANE, BAR, HEAD, LINE = 15.0, 13.0, 21.0, 17.0


def funnel(knots: Sequence[Knot], *, width: float = 720, title: str = "Rows through the steps") -> str:
    """Draw the knots from top to bottom with lanes on the left."""
    lanes = 1 + max((knot.lane for knot in knots), default=0)
    left = 12 + lanes * LANE
    most = max((max(k.mean("kept") + k.mean("dropped"), k.mean("read")) for k in knots), default=0) or 1
    tops, height = _tops(knots)
    body = _edges(knots, tops) + _ribbons(knots, tops, left, (width - left) / most)
    for index, knot in enumerate(knots):
        body += _knot(knot, knots, 12 + knot.lane * LANE, tops[index], left, width, (width - left) / most)
    return svg(body, width=width, height=height, title=title, kind="funnel")


def reasons(knot: Knot) -> list[tuple[str, int]]:
    """Return why a knot dropped rows, most frequent first, as the mean over its stages."""
    total: dict[str, int] = {}
    for stage in knot.finished:
        for why, number in stage.reasons.items():
            total[_own(why, stage.step, stage.name)] = total.get(_own(why, stage.step, stage.name), 0) + number
    return sorted(
        ((why, round(n / len(knot.finished))) for why, n in total.items()), key=lambda item: (-item[1], item[0])
    )


def _own(why: str, step: str, name: str) -> str:
    # the step stands in the same line already
    head, colon, rest = why.partition(": ")
    return rest if colon and head in (step, name) else why


def _tops(knots: Sequence[Knot]) -> tuple[list[float], float]:
    tops, y = [], 4.0
    for knot in knots:
        tops.append(y)
        y += HEAD + (BAR if _bar_rows(knot) else 0) + LINE * len(_notes(knot)) + 15
    return tops, y


def _notes(knot: Knot) -> list[str]:
    dropped = [f"− {count(number)}  {why}" for why, number in reasons(knot)[:5]]
    rest = sum(number for _, number in reasons(knot)[5:])
    return dropped + ([f"− {count(rest)}  for other reasons"] if rest else [])


def _bar_rows(knot: Knot) -> int:
    return knot.mean("read") if knot.stages[0].room == "train" else knot.mean("kept") + knot.mean("dropped")


def _told(knot: Knot, brief: bool = False) -> str:
    """Say what became of the rows."""
    states = {stage.state for stage in knot.stages}
    if "done" not in states:
        return "not finished" if "unfinished" in states else "not started"
    each = " each" if knot.count > 1 else ""
    each += f", {len(knot.finished)} of {knot.count} done" if len(knot.finished) < knot.count else ""
    room, read, kept = knot.stages[0].room, knot.mean("read"), knot.mean("kept")
    if room == "train":
        return f"{'' if brief else 'trained on '}{counted(read, 'row')}{each}"
    if knot.stages[0].compare:
        return f"{len(knot.stages[0].compare.get('arms') or [])} arms compared"
    if any(stage.results for stage in knot.stages):
        return f"{counted(kept, 'answer')}{each}"
    grown = read and kept + knot.mean("dropped") != read
    return f"{count(read)} → {count(kept)}{each}" if grown or knot.mean("dropped") else f"{count(kept)}{each}"


def _knot(knot: Knot, knots: Sequence[Knot], x: float, top: float, left: float, width: float, scale: float) -> str:
    done = all(stage.state == "done" for stage in knot.stages)
    times = f" ×{knot.count}" if knot.count > 1 else ""
    told, step = _told(knot, brief=width < 500), knot.stages[0].step
    name = fit(knot.title, width - left - len(told) * 7.2 - 30) + times
    used = len(name) * 8.2 + len(told) * 7.2 + 24
    aside = step + (" · uses " + ", ".join(knots[i].title for i in knot.uses) if knot.uses else "")
    aside = fit(aside, width - left - used, 12) if width > 500 and width - left - used > 60 else ""
    body = f'<circle class="stop{"" if done else " open"}" cx="{x:.1f}" cy="{top + 9:.1f}" r="4.5"/>'
    body += f'<text x="{left:.1f}" y="{top + 14:.1f}"><tspan class="label">{escape(name)}</tspan>'
    body += f'<tspan class="aside" dx="9">{escape(aside)}</tspan></text>'
    body += text(width, top + 14, told, kind="value", anchor="end")
    body += _bar(knot, left, top + HEAD, scale)
    y = top + HEAD + BAR + LINE
    for note in _notes(knot):
        body += text(left, y, fit(note, width - left, 12), kind="why")
        y += LINE
    return f"<g><title>{escape(f'{knot.title}{times} ({step}): {told}')}</title>{body}</g>"


def _bar(knot: Knot, left: float, y: float, scale: float) -> str:
    rows = _bar_rows(knot)
    if not rows:
        return ""
    kept = knot.mean("kept") * scale
    if knot.stages[0].room == "train":
        return f'<rect class="taken" x="{left:.1f}" y="{y:.1f}" width="{max(1.5, rows * scale):.1f}" height="{BAR:g}"/>'
    body = _rect("kept-bar", left, y, max(1.5, kept), f"{count(knot.mean('kept'))} kept") if kept else ""
    x = left + kept
    for why, number in reasons(knot):
        wide = number * scale
        body += _rect("dropped-bar", x + 0.75, y, max(0.8, wide - 0.75), f"{count(number)} dropped: {why}")
        x += wide
    return body


def _rect(kind: str, x: float, y: float, wide: float, told: str) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{BAR:g}"'
    return f'<rect class="{kind}" {place}><title>{escape(told)}</title></rect>'


def _ribbons(knots: Sequence[Knot], tops: Sequence[float], left: float, scale: float) -> str:
    """Join a bar to the bar right below it when that one reads its rows."""
    body = ""
    for index in range(1, len(knots)):
        above, below = knots[index - 1], knots[index]
        if index - 1 not in below.parents or not _bar_rows(above) or not _bar_rows(below):
            continue
        start, end = tops[index - 1] + HEAD + BAR, tops[index] + HEAD
        out, into = above.mean("kept") * scale, (below.mean("read") or below.mean("kept")) * scale
        corners = (
            f"{left:.1f},{start:.1f} {left + out:.1f},{start:.1f} {left + into:.1f},{end:.1f} {left:.1f},{end:.1f}"
        )
        body += f'<polygon class="ribbon" points="{corners}"/>'
    return body


def _edges(knots: Sequence[Knot], tops: Sequence[float]) -> str:
    """Draw the lanes: down the parent's lane, then over to the child's at the child's height."""
    body = ""
    for index, knot in enumerate(knots):
        x, y = 12 + knot.lane * LANE, tops[index] + 9
        for parent in knot.parents:
            px, py = 12 + knots[parent].lane * LANE, tops[parent] + 9
            if px == x:
                body += f'<path class="lane" d="M{x:.1f} {py:.1f}V{y:.1f}"/>'
            elif x > px:
                body += f'<path class="lane" d="M{px:.1f} {py:.1f}V{y - 12:.1f}Q{px:.1f} {y:.1f} {px + 10:.1f} {y:.1f}H{x:.1f}"/>'
            else:
                body += f'<path class="lane" d="M{px:.1f} {py:.1f}V{y - 12:.1f}Q{px:.1f} {y:.1f} {px - 10:.1f} {y:.1f}H{x:.1f}"/>'
    return body
