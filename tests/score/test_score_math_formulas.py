"""Formulas: reading, exact and ball arithmetic against independent oracles, sets of numbers; nothing costs much."""

from __future__ import annotations

import cmath
import contextlib
import math
import time
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from math_pairs import BY_KIND, CONTESTED, PAIRS

from limbeck.score import _math_ball as ball
from limbeck.score._math_ball import Ball, Vague, compare, precision
from limbeck.score._math_compare import compare as compare_answers
from limbeck.score._math_parse import MAX_DEPTH, Unreadable, parse
from limbeck.score._math_sets import items, matrix, spans
from limbeck.score._math_value import evaluate, exact, same_formula
from limbeck.score.math import equivalent

SMALL = st.integers(-40, 40)


def test_the_labelled_set_is_large_and_holds_every_kind() -> None:
    assert len(PAIRS) >= 400 and len(set(PAIRS)) == len(PAIRS)
    assert sum(not same for _, _, same in PAIRS) >= 150
    assert len(BY_KIND) >= 15 and all(len(pairs) >= 7 for pairs in BY_KIND.values())
    assert not {p[:2] for p in CONTESTED} & {p[:2] for p in PAIRS}


@pytest.mark.parametrize(
    ("prediction", "reference", "same"), [p[:3] for p in CONTESTED if "takes math-verify" not in p[3]]
)
def test_contested_pairs_are_decided_as_documented(prediction: str, reference: str, same: bool) -> None:
    assert equivalent(prediction, reference) is same
    assert equivalent(reference, prediction) is same


# --- reading


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1+2*3", 7),
        ("2^3^2", 512),
        ("-2^2", -4),
        ("(-2)^2", 4),
        ("6/2/3", 1),
        ("2(3)(4)", 24),
        (r"\frac12\cdot4", 2),
        (r"1\frac{1}{2}", Fraction(3, 2)),
        (r"2\frac{3}{4}\cdot 4", 11),
        ("3!", 6),
        ("|2-5|", 3),
        (r"\lvert -3\rvert", 3),
        (r"\lfloor -1.5\rfloor + \lceil 0.2 \rceil", -1),
        (r"\binom{6}{2}", 15),
        (r"\sqrt{16}+\sqrt[3]{27}", 7),
        ("1,000 - 1", 999),
        ("2^{-2}", Fraction(1, 4)),
        ("2-3-4", -5),
        ("-1+2", 1),
    ],
)
def test_what_a_formula_means(text: str, value: Fraction | int) -> None:
    assert exact(parse(text), {}) == value


@pytest.mark.parametrize(
    "text",
    ["", "1/2x", "1/2(x+1)", "3 4", "x2", "1 2/3x", "the sum", "x +", "(1", "1)", "2..3", "--5", "x^", r"\frac{1}", r"\foo",
     r"\sin x/2", "|x|y|z|", "dx", "a = b", "1,2", "if", "x_", "2^3!", "[1)", r"\sqrt", r"\log_28"],
)  # fmt: skip
def test_what_would_have_to_be_guessed_is_unreadable(text: str) -> None:
    with pytest.raises(Unreadable):
        parse(text)


def test_depth_is_capped() -> None:
    assert parse("(" * (MAX_DEPTH - 1) + "x" + ")" * (MAX_DEPTH - 1)).kind == "variable"
    with pytest.raises(Unreadable):
        parse("(" * MAX_DEPTH + "x" + ")" * MAX_DEPTH)


@st.composite
def arithmetic(draw: st.DrawFn, depth: int = 3) -> tuple[str, Fraction]:
    """Return a formula in LaTeX and its value, computed beside it and not by reading it."""
    if depth == 0 or draw(st.booleans()):
        number = draw(SMALL)
        return (f"({number})" if number < 0 else str(number)), Fraction(number)
    (left, a), (right, b) = draw(arithmetic(depth - 1)), draw(arithmetic(depth - 1))
    kind = draw(st.sampled_from("+-*/f^n"))
    if kind in "/f":
        assume(b != 0)
        return (f"({left})/({right})" if kind == "/" else rf"\frac{{{left}}}{{{right}}}"), a / b
    if kind == "^":
        power = draw(st.integers(0, 3))
        assume(a != 0 or power > 0)
        return f"({left})^{{{power}}}", a**power
    if kind == "n":
        return f"-({left})", -a
    sign = {"*": draw(st.sampled_from(["*", r"\cdot ", r" \times "]))}.get(kind, kind)
    value = {"+": a + b, "-": a - b, "*": a * b}[kind]
    return f"({left}){sign}({right})", value


@settings(max_examples=200, deadline=None)
@given(arithmetic(), arithmetic())
def test_arithmetic_agrees_with_an_oracle(one: tuple[str, Fraction], other: tuple[str, Fraction]) -> None:
    (text, value), (text2, value2) = one, other
    assert exact(parse(text), {}) == value
    with precision(60):
        assert compare(evaluate(parse(text), {}), Ball.of(value)) == "same"
    assert (same_formula(parse(text), parse(text2)) == "same") == (value == value2)


# --- balls


@settings(max_examples=150, deadline=None)
@given(st.fractions(-20, 20, max_denominator=997))
def test_functions_agree_with_the_mathematics_of_python(x: Fraction) -> None:
    number = float(x)
    with precision(60):
        z = Ball.of(x)
        cosine, sine = ball.cosine_and_sine(z)
        for ours, theirs in (
            (ball.exp(z), math.exp(number)),
            (cosine, math.cos(number)),
            (sine, math.sin(number)),
            (ball.arctan(z), math.atan(number)),
            *([(ball.sqrt(z), cmath.sqrt(number)), (ball.ln(z), cmath.log(number))] if x else []),
        ):
            assert complex(float(ours.re), float(ours.im)) == pytest.approx(theirs, rel=1e-12, abs=1e-12)
            assert ours.error < Ball.of(1).re.scaleb(-45)


@settings(max_examples=40, deadline=None)
@given(
    st.fractions(-20, 20, max_denominator=997),
    st.fractions(-20, 20) | st.sampled_from([Fraction(1, 10**30), Fraction(0)]),
)
def test_complex_functions_undo_each_other(x: Fraction, y: Fraction) -> None:
    assume(x or y)
    for digits in (60, 420):
        with precision(digits):
            z = Ball(Ball.of(x).re, Ball.of(y).re, Ball.of(x).error + Ball.of(y).error)
            assert compare(ball.exp(ball.ln(z)), z) == "same"
            root = ball.sqrt(z)
            assert compare(root * root, z) == "same"
            assert compare(z / z, Ball.of(1)) == "same"
            with contextlib.suppress(Vague):  # where one of the two is lost in the other
                cosine, sine = ball.cosine_and_sine(z)
                assert compare(cosine * cosine + sine * sine, Ball.of(1)) in ("same", "vague")
                assert compare(z, z + Ball.of(Fraction(1, 10**20))) == "different"


def test_what_is_lost_is_vague_and_not_equal() -> None:
    with precision(60):
        huge = Ball.of(10).power(100)
        with pytest.raises(Vague):
            huge + Ball.of(1)
        with pytest.raises(Vague):
            Ball.of(1) / ball.cosine_and_sine(ball.pi() / Ball.of(2))[0]
    assert same_formula(parse("9^{9^9}+1"), parse("9^{9^9}")) == "vague"
    assert same_formula(parse(r"\tan(\pi/2)"), parse("0")) == "vague"


def test_a_relative_tolerance_is_relative() -> None:
    left, right = parse(r"\sqrt{2}\cdot 10^{-30}"), parse(r"1.4142\cdot 10^{-30}")
    assert same_formula(left, right) == "different"
    assert same_formula(left, right, 1e-4) == "same"
    assert same_formula(left, parse(r"1.5\cdot 10^{-30}"), 1e-4) == "different"


# --- parts


def test_parts_of_lists_and_sets() -> None:
    assert items("(3, 4)") is not None and items("(3, 4)").parts == ("3", "4")  # type: ignore[union-attr]
    assert items(r"x = 1 \text{ or } x = 2") == items(r"\{1, 2\}")
    assert items("(0; 1; 2)") == items("(0, 1, 2)")
    assert items("17") is None and items("(17)") is None and items("(1, 2") is None
    assert matrix(r"\begin{pmatrix} 1 & 2 \\ 3 \end{pmatrix}") is None
    assert matrix(r"\left[\begin{array}{cc} 1 & 2 \\ 3 & 4 \end{array}\right]").shape == (2, 2)  # type: ignore[union-attr]


@given(st.integers(-50, 50), st.integers(1, 50), st.booleans(), st.booleans())
def test_an_interval_and_its_inequality_are_the_same(low: int, width: int, left: bool, right: bool) -> None:
    high = low + width
    signs = ("\\le" if left else "<", "\\le" if right else "<")
    interval = f"{'[' if left else '('}{low}, {high}{']' if right else ')'}"
    inequality = f"{low} {signs[0]} x {signs[1]} {high}"
    assert compare_answers(interval, inequality) == compare_answers(inequality, interval) == "same"
    assert compare_answers(f"x \\in {interval}", f"{high} {signs[1].replace('<', '>').replace('le', 'ge')} x "
                           f"{signs[0].replace('<', '>').replace('le', 'ge')} {low}") == "same"  # fmt: skip
    other = f"{'(' if left else '['}{low}, {high}{']' if right else ')'}"
    assert compare_answers(other, inequality) == "different"
    assert compare_answers(inequality, f"{low} {signs[0]} x {signs[1]} {high + 1}") == "different"
    assert spans(inequality) is not None


@given(st.lists(st.integers(-99, 99), min_size=2, max_size=8), st.randoms())
def test_sets_have_no_order_and_tuples_have_one(values: list[int], random: object) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = (", ".join(map(str, v)) for v in (values, shuffled))
    assert equivalent(rf"\{{{one}\}}", rf"\left\{{ {other} \right\}}")
    assert equivalent(f"({one})", f"({other})") is (values == shuffled)
    changed = [*values[:-1], values[-1] + 1]
    assert not equivalent(rf"\{{{one}\}}", rf"\{{{', '.join(map(str, changed))}\}}")


# --- cost

HOSTILE = [
    "9^{9^{9^9}}", "9^9^9^9^9", "(" * 300 + "1" + ")" * 300, "{" * 300, r"\frac{" * 60 + "1" + "}{2}" * 60,
    r"\sqrt{" * 29 + "2" + "}" * 29, r"e^{" * 20 + "1" + "}" * 20, "3000!+2999!" * 50, "2000!^{2000!}",
    "x^{500}" * 60, "(x+1)^{400}" * 30 + "y", r"\sin(" * 25 + "x" + ")" * 25, r"\ln x+" * 80 + "1", "1" * 590,
    r"\sqrt{" + "7" * 500 + "}", "2^{" + "7" * 300 + "}x", "10^{999999999}x", "1/" * 200 + "2", "-" * 500 + "1",
    r"[1,2]\cup" * 80 + "[3,4]", "x<1 or " * 80 + "x>2", "x=" * 200 + "1", "x^{x^{x^{x^{x^{x}}}}}", r"2^{\sqrt2}" * 60,
    "(1,2)," * 100 + "(3,4)", r"\{" + ",".join(rf"\sin {i}" for i in range(200)) + r"\}", "(" + "1," * 300 + "1)",
    r"\begin{pmatrix}" + r"1&2\\" * 150 + r"\end{pmatrix}", r"\pm" * 100 + "2", "|" * 500, r"\arctan(" * 25 + "x" + ")" * 25,
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_formula_costs_little(text: str) -> None:
    begun = time.process_time()
    for other in (text + "+1", text, "1", "x", text[::-1]):
        compare_answers(text, other)
        compare_answers(other, text)
    assert time.process_time() - begun < 5.0  # ten comparisons


def test_formulas_take_milliseconds() -> None:
    pairs = [(a, b) for a, b, _ in PAIRS]
    begun = time.process_time()
    for left, right in pairs:
        compare_answers(left, right)
    assert len(pairs) / (time.process_time() - begun) > 500
