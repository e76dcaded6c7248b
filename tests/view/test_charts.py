"""The drawings as pure functions: every one is well-formed XML, escaped, and says what the numbers say."""

from __future__ import annotations

import xml.etree.ElementTree as xml

import pytest

from limbeck.view import charts
from limbeck.view.funnel import funnel
from limbeck.view.graph import fold
from limbeck.view.run_folder import Stage

HOSTILE = '</svg><script>alert("1")</script>&'


def parsed(drawing: str) -> xml.Element:
    return xml.fromstring(drawing)


def marks(drawing: str, kind: str) -> list[xml.Element]:
    return [e for e in parsed(drawing).iter() if kind in (e.get("class") or "").split()]


def stage(
    name: str,
    step: str = "score.math",
    after: tuple[str, ...] = (),
    kept: int = 0,
    dropped: int = 0,
    read: int = 0,
    **more,
) -> Stage:
    rows = {"in": read or kept + dropped, "kept": kept, "dropped": dropped}
    return Stage(
        name=name, step=step, after=after, rows=rows, reasons={f"{step}: why": dropped} if dropped else {}, **more
    )


def test_dots_stand_where_their_values_are() -> None:
    rows = [charts.Dot(label="a", mean=0.25, low=0.2, high=0.3, runs=(0.2, 0.3)), charts.Dot(label="b", mean=0.75)]
    drawing = charts.dots(rows, width=720)
    first, second = (float(m.get("cx", "")) for m in marks(drawing, "mark"))
    grid = sorted(float(g.get("x1", "")) for g in marks(drawing, "grid"))
    assert first == pytest.approx(grid[0] + 0.25 / 0.8 * (grid[-1] - grid[0]), abs=0.2)
    assert second == pytest.approx(grid[0] + 0.75 / 0.8 * (grid[-1] - grid[0]), abs=0.2)
    assert len(marks(drawing, "seed")) == 2
    assert len(marks(drawing, "interval")) == 1


@pytest.mark.parametrize("width", [343, 760])
def test_every_drawing_escapes_its_words(width: float) -> None:
    drawings = [
        charts.dots([charts.Dot(label=HOSTILE, mean=0.5)], width=width, title=HOSTILE),
        charts.lines(
            [charts.Line(label=HOSTILE, points=((0, 1), (1, 2)))],
            width=width,
            title=HOSTILE,
            across=HOSTILE,
            up=HOSTILE,
        ),
        charts.histogram([charts.Shape(label=HOSTILE, shares=(0.5, 0.5))], [0, 1, 2], width=width, title=HOSTILE),
        charts.span(0.1, 0.0, 0.2, (0, 1), resolved=True),
        funnel(fold([stage(HOSTILE, kept=2, dropped=1)]), width=width, title=HOSTILE),
    ]
    for drawing in drawings:
        parsed(drawing)
        assert "<script" not in drawing


def test_empty_data_is_said_and_not_drawn() -> None:
    for drawing in (charts.dots([]), charts.lines([]), charts.histogram([], []), funnel([])):
        parsed(drawing)
    assert "Nothing was logged yet." in charts.lines([charts.Line(label="x", points=())])
    assert "Nothing to count." in charts.histogram([charts.Shape(label="x", shares=(0.0, 0.0))], [0, 1, 2])


def test_curves_with_a_wide_range_are_logarithmic_and_others_start_at_nought() -> None:
    wide = charts.lines([charts.Line(label="x", points=((0, 10.0), (5, 0.3)))])
    assert [t.text for t in marks(wide, "tick") if t.text in ("0.2", "10")] == ["0.2", "10"]
    narrow = charts.lines([charts.Line(label="x", points=((0, 3.0), (5, 2.0)))])
    assert "0" in [t.text for t in marks(narrow, "tick")]


def test_a_not_a_number_in_a_curve_is_left_out() -> None:
    drawing = charts.lines([charts.Line(label="x", points=((0, 3.0), (1, float("nan")), (2, 2.0)))])
    assert "nan" not in drawing


def test_thinning_keeps_the_ends_and_the_mean() -> None:
    points = [(float(i), float(i % 7)) for i in range(5000)]
    thinned = charts.thin(points, 100)
    assert len(thinned) <= 100
    assert thinned[0] == points[0] and thinned[-1] == points[-1]
    assert sum(y for _, y in thinned) / len(thinned) == pytest.approx(3.0, abs=0.2)


@pytest.mark.parametrize(("low", "high"), [(0, 0.62), (0, 0), (-3, 7), (0, 1e6), (2, 2), (0, 1e-9)])
def test_ticks_cover_the_range(low: float, high: float) -> None:
    marks_ = charts.ticks(low, high)
    assert marks_[0] <= low and marks_[-1] >= high
    assert 2 <= len(marks_) <= 9


def test_the_bars_of_the_funnel_are_as_long_as_their_rows() -> None:
    stages = [stage("a", "seeds.tasks", kept=100), stage("b", after=("a",), kept=25, dropped=75)]
    drawing = funnel(fold(stages), width=760)
    kept = [float(r.get("width", "")) for r in marks(drawing, "kept-bar")]
    dropped = [float(r.get("width", "")) for r in marks(drawing, "dropped-bar")]
    assert kept[1] == pytest.approx(kept[0] / 4, abs=0.5)
    assert dropped[0] == pytest.approx(kept[0] * 0.75, abs=1.5)
    assert "− 75  why" in drawing


def test_an_interval_that_leaves_out_nought_looks_like_it() -> None:
    away, over = (
        charts.span(0.2, 0.1, 0.3, (-0.1, 0.4), resolved=True),
        charts.span(0.0, -0.1, 0.1, (-0.1, 0.4), resolved=False),
    )
    assert 'class="chart span resolved"' in away and 'class="chart span"' in over
    nought = float(marks(away, "nought")[0].get("x1", ""))
    assert float(marks(away, "interval")[0].get("x1", "")) > nought > float(marks(over, "interval")[0].get("x1", ""))
