"""Re-executing the arithmetic of a worked solution, exactly, without `eval`.

    equations("2. Add 5: 12 + 5 = 17.")            [("12 + 5 = 17", True)]
    equations("So 3 * 4 = 13 eggs.")               [("3 * 4 = 13", False)]
    equations("10 / 3 = 3.33")                     [("10 / 3 = 3.33", True)]       rounded to the places it shows
    equations("x = 5; 2 hours + 30 minutes = 150 minutes")       []      a variable, a change of units: nothing to check

Numbers are fractions of whole numbers; `$`, thousands separators, `%`, `x`, `×`, `÷`, `^`, brackets and LaTeX's `\\times`,
`\\cdot`, `\\div`, `\\frac` are read; words behind a number are its unit. What is not plainly an equation between numbers is
left alone: a check that guesses would call right steps wrong."""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

TOKEN = re.compile(
    r"\s*(?:(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?P<percent>\s?%)?"
    r"|(?P<operator>\*\*|//|[-+*/^()=≈])|(?P<money>[$€£])|(?P<word>[^\W\d_]+(?:['’-][^\W\d_]+)*)|(?P<other>.))",
    re.DOTALL,
)
CALCULATION = re.compile(r"<<([^<>\n]{1,200})>>")
SPELLED = (
    (re.compile(r"\\(?:d|t)?frac\{([^{}]*)\}\{([^{}]*)\}"), r"((\1)/(\2))"),
    (re.compile(r"\\(?:times|cdot)\b"), "*"),
    (re.compile(r"\\div\b"), "/"),
    (re.compile(r"\\approx\b"), "≈"),
    (re.compile(r"\\(?:left|right|,|!|;|text\{([^{}]*)\})"), r"\1"),
    (re.compile(r"[×·∙⋅]"), "*"),
    (re.compile("÷"), "/"),
    (re.compile("[−–]"), "-"),
    (re.compile(r"\\\$"), "$"),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"(?<=[\d)%$])\s*[xX]\s*(?=[$(\d])|(?<=[a-z])\s[xX]\s+(?=[$(\d])"), " * "),
    (re.compile(r"(?<=%)\s+of\s+(?=[$(\d])"), " * "),
    (re.compile(r"/ ?[A-Za-z]{2,}"), ""),  # per hour
    (re.compile(r"\*\*(?=\S[^*\n]*\*\*)|(?<=\S)\*\*(?!\s*[\d(])"), ""),
)
MAX_LINE = 2000
MAX_DIGITS = 60
MAX_POWER = 64


class Equation(NamedTuple):
    """An equation of a solution, and whether it holds."""

    text: str
    holds: bool


class _Side(NamedTuple):
    tokens: list[str]
    units: frozenset[str]
    places: int
    """Decimal places of a side that is one number; -1 otherwise."""


class _NoNumber(ValueError):
    """Not an expression of numbers that can be computed."""


def equations(text: str) -> list[Equation]:
    """Return the equations between numbers in a text, in order, each with whether it holds."""
    found: list[Equation] = []
    for line in text.splitlines():
        line = line[:MAX_LINE]
        for inner in CALCULATION.findall(line):
            found += _in_line(inner)
        for pattern, put in SPELLED:
            line = pattern.sub(put, line)
        found += _in_line(CALCULATION.sub("", line).replace("$ ", "$"))
    return found


def _in_line(line: str) -> list[Equation]:
    found = []
    for chain in _chains(line):
        for (left, _), (right, sign) in pairwise(chain):
            holds = _holds(left, right, sign)
            if holds is not None:
                found.append(Equation(f"{' '.join(left.tokens)} {sign} {' '.join(right.tokens)}", holds))
    return found


def _chains(line: str) -> list[list[tuple[_Side, str]]]:
    """Part a line into chains `a = b = c` of sides, at whatever can not be part of an expression."""
    chains: list[list[tuple[_Side, str]]] = []
    chain: list[tuple[_Side, str]] = []
    tokens: list[re.Match[str]] = []
    sign = ""

    def close(broken: bool) -> None:
        nonlocal chain, tokens
        side = _side(tokens, first=not chain)
        if side is not None:
            chain.append((side, sign))
        if broken or side is None:
            chains.append(chain)
            chain = []
        tokens = []

    for match in TOKEN.finditer(line):
        if match["operator"] in ("=", "≈"):
            close(broken=False)
            sign = match["operator"]
        elif match["other"]:
            close(broken=True)
        else:
            tokens.append(match)
    close(broken=True)
    return [chain for chain in chains if len(chain) > 1]


def _side(tokens: list[re.Match[str]], *, first: bool) -> _Side | None:
    """Read one side. On the left of a chain only its end counts ("so she has 3 + 4 = 7"), on the right only its beginning."""
    parts = [m for m in tokens if not m["money"]]
    start, stop = (_start(parts), len(parts)) if first else (0, _stop(parts))
    kept, around = parts[start:stop], parts[max(0, start - 1) : stop + 1]
    if (
        not any(m["number"] for m in kept)
        or _unclear(parts, kept, start)
        or any(len(m["word"] or "") == 1 for m in around)
    ):
        return None
    units = frozenset(m["word"].casefold().rstrip("s.") for m in kept if m["word"])
    numbers = [m for m in kept if not m["word"]]
    spelled = [
        m["number"].replace(",", "") + ("%" if m["percent"] else "") if m["number"] else m["operator"] for m in numbers
    ]
    if any(m["money"] for m in tokens):
        units |= {"$"}
    places = len(spelled[0].partition(".")[2]) if len(spelled) == 1 and "%" not in spelled[0] else -1
    return _Side(spelled, units, places)


def _start(parts: list[re.Match[str]]) -> int:
    """Return where the last expression begins: after the last word that is no unit."""
    start = 0
    for at, match in enumerate(parts):
        if match["word"] and not (at and parts[at - 1]["number"] and _goes_on(parts, at)):
            start = at + 1
    return start


def _stop(parts: list[re.Match[str]]) -> int:
    """Return where the first expression ends: after a unit that no operator follows, or before any other word."""
    for at, match in enumerate(parts):
        if match["word"] and not (at and parts[at - 1]["number"] and _goes_on(parts, at)):
            return at + 1 if at and parts[at - 1]["number"] else at
    return len(parts)


def _unclear(parts: list[re.Match[str]], kept: list[re.Match[str]], start: int) -> bool:
    """Say whether a side is more than an expression: `1 1/2`, `1 hour 20 minutes`, the `00` of a time, `4 rooms` (= 4 * 12)."""
    beside = any(a["number"] and b["number"] for a, b in pairwise(kept))
    compound = start > 1 and bool(parts[start - 1]["word"] and parts[start - 2]["number"])
    clock = any(re.match(r"0\d", m["number"] or "") for m in kept)
    named = len(kept) < len(parts) and start > 0 and sum(bool(m["number"]) for m in kept) == 1
    return beside or compound or clock or named


def _goes_on(parts: list[re.Match[str]], at: int) -> bool:
    return at + 1 == len(parts) or (parts[at + 1]["operator"] or "(") != "("


def _holds(left: _Side, right: _Side, sign: str) -> bool | None:
    """Say whether two sides are equal; None if there is nothing to check."""
    joined = {"+", "-"} & set(left.tokens[1:])
    computes = any(t in "+-*/^**//" for t in left.tokens[1:]) or any(t in "+-*/^**//" for t in right.tokens[1:])
    changes = bool(left.units and right.units and not right.units <= left.units) or (
        len(left.tokens) == 1 and bool(left.units - {"$"})
    )
    if not computes or changes or (joined and len(left.units) > 1):
        return None
    try:
        a, b = _Parser(left.tokens).value(), _Parser(right.tokens).value()
    except (_NoNumber, ZeroDivisionError):
        return None
    if "%" in right.tokens[-1] and len(right.tokens) == 1 and "%" not in "".join(left.tokens) and a == b * 100:
        return True  # 12 / 48 * 100 = 25%
    if a == b:
        return True
    shown = max(right.places, left.places)
    if shown > 0 or sign == "≈":
        slack = Fraction(1, 2 * 10**shown) if shown >= 0 else abs(a) / 100
        return abs(a - b) <= (max(slack, abs(a) / 20) if sign == "≈" else slack)
    return False


class _Parser:
    """Recursive descent over tokens: sums of products of powers, with brackets."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens, self.at, self.depth = tokens, 0, 0

    def value(self) -> Fraction:
        result = self._sum()
        if self.at != len(self.tokens):
            raise _NoNumber
        return result

    def _next(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def _take(self, *wanted: str) -> str:
        token = self._next()
        if token and token in wanted:
            self.at += 1
            return token
        return ""

    def _sum(self) -> Fraction:
        result = self._product()
        while sign := self._take("+", "-"):
            other = self._product()
            result = result + other if sign == "+" else result - other
        return result

    def _product(self) -> Fraction:
        result = self._power()
        while True:
            sign = self._take("*", "/", "//")
            if not sign and self._next() != "(":
                return _small(result)
            other = self._power()
            result = (
                result * other if sign in ("*", "") else result / other if sign == "/" else Fraction(result // other)
            )

    def _power(self) -> Fraction:
        if self._take("-"):
            return -self._power()
        base = self._atom()
        if not self._take("^", "**"):
            return base
        exponent = self._power()
        if exponent.denominator != 1 or abs(exponent) > MAX_POWER:
            raise _NoNumber
        return _small(base ** int(exponent))

    def _atom(self) -> Fraction:
        token = self._next()
        self.at += 1
        if token == "(":
            self.depth += 1
            result = self._sum() if self.depth < 50 else None
            if result is None or not self._take(")"):
                raise _NoNumber
            return result
        number = token.removesuffix("%")
        if not number[:1].isdigit() and not number.startswith("."):
            raise _NoNumber
        if len(number) > MAX_DIGITS:
            raise _NoNumber
        return Fraction(number) / (100 if token.endswith("%") else 1)


def _small(value: Fraction) -> Fraction:
    if value.numerator.bit_length() + value.denominator.bit_length() > 8 * MAX_DIGITS:
        raise _NoNumber
    return value
