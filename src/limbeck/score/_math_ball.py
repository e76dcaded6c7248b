"""Complex numbers with an error bound, on decimal arithmetic of any precision; the standard library only.

    with precision(60):
        root = sqrt(Ball.of(2))          # 1.41421356237309504880… ± 1e-59
        compare(root * root, Ball.of(2)) # "same": they agree to the last digit that is known
        compare(root, Ball.of("1.41421356237309"))  # "different", and that is proven

A computer algebra system proves that two formulas are equal, or runs for ever. Here every value knows how far off it can
be: two values further apart than that are different for certain, and two that agree in hundreds of digits are the same.
What can be told neither way (a sum whose smaller part is lost in the digits of the larger) raises Vague.

This is midpoint-radius ("ball") arithmetic as in Arb (Johansson 2017, IEEE Transactions on Computers 66), with bounds
chosen generously and not as tight as can be.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, getcontext, localcontext
from fractions import Fraction
from functools import lru_cache
from typing import Literal

LARGEST_EXPONENT = 10**9
LARGEST_ARGUMENT = 10**6
"""Of exp, sin and cos: beyond it the digits are not worth their cost."""
KEPT_DIGITS = 25
"""A value of which fewer digits are certain is vague; a summand is lost when it has no more than these in common."""
ZERO, ONE, TWO = Decimal(0), Decimal(1), Decimal(2)

Outcome = Literal["same", "different", "vague"]


class Vague(ArithmeticError):
    """The value has too few certain digits, is out of range or is not defined."""


@contextmanager
def precision(digits: int) -> Iterator[None]:
    """Compute with so many digits inside the block; contexts belong to a thread, so threads do not meet."""
    with localcontext(Context(prec=digits, Emax=MAX_EMAX, Emin=MIN_EMIN)):
        yield


@dataclass(frozen=True, slots=True)
class Ball:
    """A complex number `re + im i`, known up to `error`."""

    re: Decimal
    im: Decimal = ZERO
    error: Decimal = ZERO

    @staticmethod
    def of(value: int | str | Fraction) -> Ball:
        """Return the ball of a rational number."""
        value = Fraction(value)
        if value.denominator == 1 and value.numerator.bit_length() < 3 * getcontext().prec:
            return Ball(Decimal(value.numerator))
        quotient = +Decimal(value.numerator) / +Decimal(value.denominator)
        return Ball(quotient, ZERO, _ulp(quotient))

    @property
    def size(self) -> Decimal:
        """A bound of the absolute value, at most 1.42 times too large."""
        return abs(self.re) + abs(self.im)

    @property
    def real(self) -> bool:
        """Whether the imaginary part can be 0."""
        return abs(self.im) <= self.error

    def __neg__(self) -> Ball:
        return Ball(-self.re, -self.im, self.error)

    def __add__(self, other: Ball) -> Ball:
        small, large = (self, other) if self.size < other.size else (other, self)
        if small.size > small.error and small.size < large.size.scaleb(KEPT_DIGITS - getcontext().prec):
            raise Vague("a summand is lost in the digits of the other")
        return _ball(self.re + other.re, self.im + other.im, self.error + other.error + _ulp(large.size))

    def __sub__(self, other: Ball) -> Ball:
        return self + -other

    def __mul__(self, other: Ball) -> Ball:
        re = self.re * other.re - self.im * other.im
        im = self.re * other.im + self.im * other.re
        error = self.size * other.error + other.size * self.error + self.error * other.error
        return _ball(re, im, error + _ulp(self.size * other.size))

    def __truediv__(self, other: Ball) -> Ball:
        squared = other.re * other.re + other.im * other.im
        if other.size <= 2 * other.error or not squared:
            raise Vague("a division by what may be 0")
        re = (self.re * other.re + self.im * other.im) / squared
        im = (self.im * other.re - self.re * other.im) / squared
        size = abs(re) + abs(im)
        error = (self.error + size * other.error) / (squared.sqrt() - other.error)
        return _ball(re, im, error + _ulp(size))

    def power(self, exponent: int) -> Ball:
        """Return the ball raised to a whole number, by squaring."""
        if abs(exponent) > LARGEST_EXPONENT:
            raise Vague("an exponent out of range")
        result, base, left = Ball(ONE), self, abs(exponent)
        while left:
            result, base, left = (result * base if left & 1 else result), (base * base if left > 1 else base), left >> 1
        return result if exponent >= 0 else Ball(ONE) / result


def compare(left: Ball, right: Ball, tolerance: float = 0.0) -> Outcome:
    """Say whether two values are the same; `tolerance` is relative to the right one."""
    apart = (left.re - right.re, left.im - right.im)
    distance, error = abs(apart[0]) + abs(apart[1]), left.error + right.error
    if tolerance and distance <= Decimal(tolerance) * right.size:
        return "same"
    if distance > error:
        return "different"
    larger = max(left.size, right.size)
    if not larger or error <= larger.scaleb(-KEPT_DIGITS):
        return "same"
    both_zero = left.size <= left.error and right.size <= right.error
    return "same" if both_zero and error < ONE.scaleb(-KEPT_DIGITS) else "vague"


def pi() -> Ball:
    """Return π."""
    return Ball(_pi(getcontext().prec), ZERO, ONE.scaleb(3 - getcontext().prec))


def sqrt(z: Ball) -> Ball:
    """Return the principal square root."""
    if not z.size:
        return z
    if z.size <= 2 * z.error:
        raise Vague("the root of what may be 0")
    if z.real:
        root = abs(z.re).sqrt()
        at = (root, ZERO) if z.re > 0 else (ZERO, root)
    else:
        # the larger part first, and the other from it: their difference would lose digits near the axes
        root = _length(z).sqrt()
        larger = ((_length(z) + abs(z.re)) / 2).sqrt()
        smaller = abs(z.im) / (2 * larger)
        re, im = (larger, smaller) if z.re > 0 else (smaller, larger)
        at = (re, im.copy_sign(z.im))
    return _ball(*at, z.error / root + _ulp(root) * 10)


def exp(z: Ball) -> Ball:
    """Return e raised to z."""
    if z.size > LARGEST_ARGUMENT or z.error > ONE.scaleb(-KEPT_DIGITS):
        raise Vague("an exponent out of range")
    length = z.re.exp()
    cosine, sine = _turn(z.im) if z.im else (ONE, ZERO)
    return _ball(length * cosine, length * sine, length * (2 * z.error + _ulp(max(ONE, z.size)) * 100))


def ln(z: Ball) -> Ball:
    """Return the principal natural logarithm."""
    if z.size <= 2 * z.error:
        raise Vague("the logarithm of what may be 0")
    re = _length(z).ln()
    im = ZERO if z.real and z.re > 0 else _angle(z)
    return _ball(re, im, 2 * z.error / z.size + _ulp(abs(re) + ONE) * 100)


def cosine_and_sine(z: Ball) -> tuple[Ball, Ball]:
    """Return cos z and sin z."""
    if z.real:
        if abs(z.re) > LARGEST_ARGUMENT:
            raise Vague("an angle out of range")
        error = z.error + _ulp(max(ONE, abs(z.re))) * 100
        cosine, sine = _turn(z.re)
        return _ball(cosine, ZERO, error), _ball(sine, ZERO, error)
    turned = Ball(-z.im, z.re, z.error)
    forth, back = exp(turned), exp(-turned)
    half, half_i = Ball(TWO), Ball(ZERO, TWO)
    return (forth + back) / half, (forth - back) / half_i


def arctan(z: Ball) -> Ball:
    """Return the arc tangent of a real number."""
    if not z.real:
        raise Vague("arctan of a complex number")
    return _ball(_arctan(z.re), ZERO, z.error + _ulp(TWO) * 100)


def _ball(re: Decimal, im: Decimal, error: Decimal) -> Ball:
    if not (re.is_finite() and im.is_finite() and error.is_finite()):
        raise Vague("a value out of range")
    return Ball(re, im, error)


def _ulp(size: Decimal) -> Decimal:
    return abs(size).scaleb(2 - getcontext().prec)


def _length(z: Ball) -> Decimal:
    return (z.re * z.re + z.im * z.im).sqrt()


def _turn(angle: Decimal) -> tuple[Decimal, Decimal]:
    """Return cosine and sine of a real angle by Taylor's series, after whole turns are taken away."""
    full = _pi(getcontext().prec) * 2
    angle = angle - (angle / full).to_integral_value() * full
    small = angle / 16  # four doublings cost less than the terms they save
    square, cosine, sine = small * small, ONE, small
    term, other, n = ONE, small, 0
    end = ONE.scaleb(-getcontext().prec - 2)
    while abs(term) > end:
        n += 2
        term = -term * square / (n * (n - 1))
        other = -other * square / (n * (n + 1))
        cosine, sine = cosine + term, sine + other
    for _ in range(4):
        cosine, sine = cosine * cosine - sine * sine, 2 * sine * cosine
    return cosine, sine


def _arctan(x: Decimal) -> Decimal:
    halvings = 0
    while abs(x) > Decimal("0.05"):
        x, halvings = x / (1 + (1 + x * x).sqrt()), halvings + 1
    square, term, n = x * x, x, 1
    total: Decimal = x
    end = ONE.scaleb(-getcontext().prec - 2)
    while abs(term) > end:
        n += 2
        term = -term * square
        total += term / n
    return total * Decimal(2**halvings)


def _angle(z: Ball) -> Decimal:
    half = _pi(getcontext().prec) / 2
    if z.real:
        return half * 2
    if abs(z.re) <= z.error:
        return half.copy_sign(z.im)
    angle = _arctan(z.im / z.re)
    return angle if z.re > 0 else angle + (2 * half).copy_sign(z.im)


@lru_cache(maxsize=8)
def _pi(digits: int) -> Decimal:
    """Return π by Machin's formula: 16 arctan(1/5) - 4 arctan(1/239)."""
    with precision(digits + 10):
        value = 16 * _inverse_arctan(5) - 4 * _inverse_arctan(239)
    return value


def _inverse_arctan(n: int) -> Decimal:
    term, square, total, k = ONE / n, n * n, ONE / n, 1
    end = ONE.scaleb(-getcontext().prec - 2)
    while abs(term) > end:
        k += 2
        term = -term / square
        total += term / k
    return total
