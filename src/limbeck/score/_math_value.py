"""Whether two formulas are the same: by exact fractions where that is possible, else by balls of hundreds of digits.

    same_formula(parse(r"\\sqrt{8}"), parse(r"2\\sqrt{2}"))         "same"
    same_formula(parse("(x+1)^2"), parse("x^2+2x+1"))             "same"       at six points, in exact fractions
    same_formula(parse(r"\\sqrt{x^2}"), parse("x"))                "different"  at x = -1.37…
    same_formula(parse("9^{9^9}+1"), parse("9^{9^9}"))            "vague"      no digits are kept that could tell

Two formulas with variables are the same when they agree at every tried point at which both are real (Schwartz 1980,
Zippel 1979: different polynomials hardly ever agree at random points). The points are fixed by the variables' names, so
that a verdict never depends on chance.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from fractions import Fraction
from functools import lru_cache

from limbeck.score import _math_ball as ball
from limbeck.score._math_ball import Ball, Outcome, Vague, compare, precision
from limbeck.score._math_parse import Node

DIGITS = (60, 420)
"""Precisions: at the first most pairs are told apart, at the second equal ones are confirmed."""
MAX_BITS = 5_000
"""Of an exact fraction."""
MAX_FACTORIAL = 2_100
POINTS = 6
"""Two positive points, a negative one, one of mixed signs, and two of positive whole numbers."""

Values = Mapping[str, Fraction]


class Inexact(ArithmeticError):
    """The value is no fraction, or one too long to write down."""


def same_formula(left: Node, right: Node, tolerance: float = 0.0) -> Outcome:
    """Say whether two formulas have the same value wherever both are real."""
    names = sorted(left.names() | right.names())
    points: list[Values] = [_point(names, i) for i in range(POINTS)] if names else [{}]
    for real_only in (True, False):
        outcomes = [_same_at(left, right, point, tolerance, real_only) for point in points]
        told = [o for o in outcomes if o is not None]
        if "different" in told:
            return "different"
        if told:
            return "same" if told.count("same") >= min(2, len(points)) else "vague"
    return "vague"


def proportional(left: Node, right: Node) -> bool:
    """Say whether two formulas with variables differ by a constant factor other than 0, as `2x - 2` and `1 - x` do."""
    names = sorted(left.names() | right.names())
    if not names or left.names() != right.names():
        return False
    ratios = []
    for point in (_point(names, i) for i in range(POINTS)):
        try:
            with precision(DIGITS[0]):
                ratios.append(evaluate(left, point) / evaluate(right, point))
        except ArithmeticError:
            continue
    with precision(DIGITS[0]):
        return (
            len(ratios) > 2
            and ratios[0].size > 2 * ratios[0].error
            and all(r.real and compare(r, ratios[0]) == "same" for r in ratios)
        )


def nearby(node: Node) -> float | None:
    """Return a constant's value in ordinary precision, for putting endpoints in order; None if it is not a real number."""
    if node.names():
        return None
    try:
        with precision(DIGITS[0]):
            value = evaluate(node, {})
        return float(value.re) if value.real and abs(value.re) < ball.ONE.scaleb(300) else None
    except ArithmeticError:
        return None


def _same_at(left: Node, right: Node, point: Values, tolerance: float, real_only: bool) -> Outcome | None:
    """Compare at one point; None where one of the two is not defined there, or not real although that is asked."""
    # where there is no exact value at this point, such as a root of 2, it is worked out to more and more digits
    with suppress(ArithmeticError):
        if not tolerance:
            return "same" if exact(left, point) == exact(right, point) else "different"
    outcome: Outcome = "vague"
    for digits in DIGITS:
        try:
            with precision(digits):
                one, other = evaluate(left, point), evaluate(right, point)
                if real_only and not (one.real and other.real):
                    return None
                outcome = compare(one, other, tolerance)
        except ArithmeticError:
            outcome = "vague"
        if outcome == "different" or (tolerance and outcome == "same"):
            break
    return None if outcome == "vague" and point else outcome


def _point(names: list[str], index: int) -> Values:
    return {name: _coordinate(name, index) for name in names}


def _coordinate(name: str, index: int) -> Fraction:
    drawn = int.from_bytes(hashlib.blake2b(f"{index} {name}".encode(), digest_size=8).digest(), "big")
    if index >= 4:
        return Fraction(drawn % 30 + 2)
    value = Fraction(drawn % 200_003 + 50_000, 99_991)
    return -value if index == 2 or (index == 3 and drawn & 1 << 60) else value


def exact(node: Node, point: Values) -> Fraction:
    """Return the value as a fraction. Raises Inexact where it is none."""
    return _short(_exact(node, point))


def _exact(node: Node, point: Values) -> Fraction:
    kind = node.kind
    if kind == "number":
        return node.value
    if kind == "variable":
        return point[node.name]
    if kind not in EXACT:
        raise Inexact(kind)
    return EXACT[kind](*(exact(a, point) for a in node.arguments))


def _short(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise Inexact("too long")
    return value


def _exact_product(*factors: Fraction) -> Fraction:
    result = Fraction(1)
    for factor in factors:
        result = _short(result * factor)
    return result


def _exact_sum(*terms: Fraction) -> Fraction:
    result = Fraction(0)
    for term in terms:
        result = _short(result + term)
    return result


def _exact_power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        return _exact_root(_exact_power(base, Fraction(exponent.numerator)), Fraction(exponent.denominator))
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(exponent.numerator) * bits > MAX_BITS or (not base and exponent <= 0):
        raise Inexact("a power out of range")
    return base**exponent.numerator


def _exact_root(base: Fraction, degree: Fraction = Fraction(2)) -> Fraction:
    if degree.denominator != 1 or not 2 <= degree <= 64 or base < 0:
        raise Inexact("not a plain root")
    parts = [_whole_root(part, degree.numerator) for part in (base.numerator, base.denominator)]
    return Fraction(*parts)


def _whole_root(value: int, degree: int) -> int:
    root = math.isqrt(value) if degree == 2 else round(value ** (1 / degree)) if value.bit_length() < 500 else 0
    if root**degree != value:
        raise Inexact("no rational root")
    return root


def _whole(value: Fraction, largest: int = MAX_FACTORIAL) -> int:
    if value.denominator != 1 or not 0 <= value <= largest:
        raise Vague("not a whole number in range")
    return value.numerator


def _exact_factorial(value: Fraction) -> Fraction:
    return _factorial_of(_whole(value))


@lru_cache(maxsize=64)
def _factorial_of(value: int) -> Fraction:
    return Fraction(math.factorial(value))


def _exact_binom(upper: Fraction, lower: Fraction) -> Fraction:
    return Fraction(math.comb(_whole(upper), _whole(lower)))


EXACT: dict[str, Callable[..., Fraction]] = {
    "+": _exact_sum,
    "*": _exact_product,
    "/": lambda a, b: a / b,
    "neg": lambda a: -a,
    "^": _exact_power,
    "sqrt": _exact_root,
    "root": _exact_root,
    "abs": abs,
    "factorial": _exact_factorial,
    "binom": _exact_binom,
    "floor": lambda a: Fraction(math.floor(a)),
    "ceil": lambda a: Fraction(math.ceil(a)),
}


def evaluate(node: Node, point: Values) -> Ball:
    """Return the value in the present precision. Raises Vague, or another ArithmeticError, where it has none."""
    kind = node.kind
    if kind == "number":
        return Ball.of(node.value)
    if kind == "variable":
        return Ball.of(point[node.name])
    if kind in ("^", "root", "factorial", "binom", "floor", "ceil"):
        return _special(node, point)
    return BALLS[kind](*(evaluate(a, point) for a in node.arguments))


def _special(node: Node, point: Values) -> Ball:
    """Evaluate what needs an exact argument: powers, roots, factorials."""
    if node.kind in ("factorial", "binom", "floor", "ceil"):
        return Ball.of(exact(node, point) if node.kind != "factorial" else _factorial(node, point))
    base, other = node.arguments
    under = evaluate(base, point)
    try:
        exponent = exact(other, point) if node.kind == "^" else 1 / exact(other, point)
    except Inexact:
        exponent = None
    if exponent is None:
        raised = evaluate(other, point)
        return ball.exp((Ball.of(1) / raised if node.kind == "root" else raised) * ball.ln(under))
    return _power(under, exponent, real_root=node.kind == "root")


def _power(base: Ball, exponent: Fraction, real_root: bool) -> Ball:
    if exponent.denominator == 1:
        if exponent <= 0 and not base.size:
            raise Vague("0 to the power of 0 or less")
        return base.power(exponent.numerator)
    if exponent.denominator == 2:
        return ball.sqrt(base).power(exponent.numerator)
    if not base.size and exponent > 0:
        return base
    negative = base.real and base.re < 0
    if negative and real_root and exponent.denominator % 2:  # the cube root of -8 is -2
        root = _power(-base, Fraction(1, exponent.denominator), real_root=False)
        return (-root).power(exponent.numerator)
    return ball.exp(Ball.of(exponent) * ball.ln(base))


def _factorial(node: Node, point: Values) -> Fraction:
    return _exact_factorial(exact(node.arguments[0], point))


def _product(*factors: Ball) -> Ball:
    result = factors[0]
    for factor in factors[1:]:
        result = result * factor
    return result


def _sum(*terms: Ball) -> Ball:
    result = terms[0]
    for term in terms[1:]:
        result = result + term
    return result


def _abs(value: Ball) -> Ball:
    if value.real:
        return Ball(abs(value.re), error=value.error)
    return ball.sqrt(Ball(value.re * value.re + value.im * value.im, error=4 * value.size * value.error))


def _circular(choose: Callable[[Ball, Ball], Ball]) -> Callable[[Ball], Ball]:
    return lambda angle: choose(*ball.cosine_and_sine(angle))


def _arcsin(value: Ball) -> Ball:
    if compare(_abs(value), Ball.of(1)) == "same":
        return (ball.pi() if value.re > 0 else -ball.pi()) / Ball.of(2)
    return ball.arctan(value / ball.sqrt(Ball.of(1) - value * value))


def _log(value: Ball, base: Ball | None = None) -> Ball:
    # without a base it may be 2, e or 10: an unknown factor makes laws of logarithms hold and no value come out
    return ball.ln(value) / (ball.ln(base) if base is not None else Ball.of(Fraction(99_991, 31_337)))


def _hyperbolic(sign: int) -> Callable[[Ball], Ball]:
    return lambda x: (ball.exp(x) + Ball.of(sign) * ball.exp(-x)) / Ball.of(2)


BALLS: dict[str, Callable[..., Ball]] = {
    "+": _sum,
    "*": _product,
    "/": lambda a, b: a / b,
    "neg": lambda a: -a,
    "sqrt": ball.sqrt,
    "abs": _abs,
    "pi": ball.pi,
    "e": lambda: ball.exp(Ball.of(1)),
    "i": lambda: Ball(ball.ZERO, ball.ONE),
    "exp": ball.exp,
    "ln": ball.ln,
    "log": _log,
    "sin": _circular(lambda c, s: s),
    "cos": _circular(lambda c, s: c),
    "tan": _circular(lambda c, s: s / c),
    "cot": _circular(lambda c, s: c / s),
    "sec": _circular(lambda c, s: Ball.of(1) / c),
    "csc": _circular(lambda c, s: Ball.of(1) / s),
    "arctan": ball.arctan,
    "arcsin": _arcsin,
    "arccos": lambda x: ball.pi() / Ball.of(2) - _arcsin(x),
    "sinh": _hyperbolic(-1),
    "cosh": _hyperbolic(1),
    "tanh": lambda x: _hyperbolic(-1)(x) / _hyperbolic(1)(x),
}
