"""Exact values of short answers: integers, fractions, decimals, percentages, money, units, scientific notation.

    quantity("$1,234.50")           -> Quantity(value=Fraction(2469, 2), unit={"dollar"})
    quantity("-1 \\\\frac{1}{2}")      -> Quantity(value=Fraction(-3, 2))
    quantity("1.5 * 10^3 m")        -> Quantity(value=Fraction(1500), unit={"metre"})
    quantity("2x")                  -> None: not a number, compared as text

Nothing is evaluated: `12 + 5` is not a number, and no text of a model's reaches `eval` or a computer algebra system.
Digits and exponents are capped, so `1e999999999` costs nothing. All arithmetic is on `fractions.Fraction`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from limbeck.score._plain import plain

MAX_DIGITS = 400
"""Longer numbers, and larger exponents, are compared as text."""
MAX_TEXT = 2000
"""Longer answers are compared as text."""

FAST = re.compile(r"[-+]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?")
WHOLE = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,3}(?: [0-9]{3})+(?![0-9]|\s*/)|[0-9]{1,3}(?:'[0-9]{3})+|[0-9]+)"
DECIMAL = rf"(?:{WHOLE}(?:\.[0-9]*)?|\.[0-9]+)"
FORMS = tuple(
    re.compile(form)
    for form in (
        r"(?P<mixed>[0-9]+)(?:\s+|\s*\+\s*|\s+and\s+)(?P<top>[0-9]+)\s*/\s*(?P<bottom>[0-9]+)",
        r"(?P<start>[0-9]*)\.(?P<fixed>[0-9]*)\\overline\{(?P<cycle>[0-9]+)\}",
        rf"(?P<left>{DECIMAL})\s*(?:\*|x(?=\s*10\s*\^))\s*10\s*\^\s*\{{?\(?(?P<ten>[-+]?[0-9]+)\)?\}}?",
        rf"(?P<left>{DECIMAL})[eE](?P<ten>[-+]?[0-9]+)(?![0-9A-Za-z])",
        r"(?P<base>[0-9]+)\s*\^\s*\{?(?P<power>-?[0-9]+)\}?",
        rf"(?P<left>{DECIMAL})\s*/\s*(?P<sign>-?)(?P<right>{DECIMAL})",
        rf"(?P<left>{DECIMAL})",
    )
)
OPENING = re.compile(
    r"(?:(?P<variable>[A-Za-z](?:_\{?[A-Za-z0-9]+\}?)?)\s*=\s*)?(?P<sign>[-+]?)\s*"
    r"(?P<coin>US\$|USD|[$£€¥₹])?\s*(?P<late>[-+]?)\s*"
)
COINS = {
    "$": "dollar",
    "US$": "dollar",
    "USD": "dollar",
    "£": "pound",
    "€": "euro",
    "¥": "yen",
    "₹": "rupee",
    "¢": "cent",
}
SCALES = {"dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
SYNONYMS = {
    "usd": "dollar", "buck": "dollar", "eur": "euro", "metre": "meter", "kilometre": "kilometer", "centimetre": "centimeter",
    "millimetre": "millimeter", "litre": "liter", "mm": "millimeter", "cm": "centimeter", "m": "meter", "km": "kilometer",
    "in": "inch", "inche": "inch", "ft": "foot", "feet": "foot", "yd": "yard", "mi": "mile", "g": "gram", "kg": "kilogram",
    "mg": "milligram", "lb": "pound", "oz": "ounce", "l": "liter", "L": "liter", "ml": "milliliter", "s": "second", "sec": "second",
    "min": "minute", "h": "hour", "hr": "hour", "mph": "mile per hour", "kph": "kilometer per hour", "sq": "square",
    "penny": "cent", "pennie": "cent", "people": "person", "children": "child",
}  # fmt: skip
EXACT_UNITS: dict[str, tuple[str, Fraction]] = {
    "cent": ("money", Fraction(1, 100)), "dollar": ("money", Fraction(1)),
    "millimeter": ("length", Fraction(1, 1000)), "centimeter": ("length", Fraction(1, 100)), "meter": ("length", Fraction(1)),
    "kilometer": ("length", Fraction(1000)), "inch": ("feet", Fraction(1, 12)), "foot": ("feet", Fraction(1)),
    "yard": ("feet", Fraction(3)), "mile": ("feet", Fraction(5280)),
    "milligram": ("mass", Fraction(1, 1000)), "gram": ("mass", Fraction(1)), "kilogram": ("mass", Fraction(1000)),
    "second": ("time", Fraction(1)), "minute": ("time", Fraction(60)), "hour": ("time", Fraction(3600)),
    "day": ("time", Fraction(86400)), "week": ("time", Fraction(604800)),
    "milliliter": ("volume", Fraction(1, 1000)), "liter": ("volume", Fraction(1)),
}  # fmt: skip
"""Units that convert into each other without rounding: 50 cents are $0.50."""
SHORT_UNITS = frozenset(["mm", "cm", "km", "in", "ft", "yd", "mi", "kg", "mg", "lb", "oz", "ml", "hr", "am", "pm"])
ONE_LETTER_UNITS = frozenset("mgshlL")
NOT_UNITS = frozenset({
    "or", "and", "to", "mod", "choose", "plus", "minus", "times", "over", "squared", "cubed", "sqrt", "root", "pi", "theta",
    "sin", "cos", "tan", "log", "ln", "exp", "not", "if", "factorial", "remainder", "less", "more", "than", "at", "least",
    "most", "about", "halves", "half", "thirds", "third", "fourths", "fourth", "quarters", "fifths", "fifth", "sixths",
    "eighths", "tenths", "tenth", "sevenths", "seventh", "eighth", "ninths", "ninth", "elevenths", "twelfths", "twelfth",
    "sixteenths", "twentieths", "tens", "ones", "below", "above", "under", "negative", "modulo", "hundredths", "hundredth",
    "thousandths", "but", "instead", "between", "equals", "is", "was", "the", "either", "nor", "no",
})  # fmt: skip
"""Words after a number that change it or make it part of a sentence."""
CHANGES = frozenset({"square", "cubic", "per", "degree", "negative", "minus", "half"})
"""Words that make another unit of one: 5 square metres are not 5 metres."""
UNIT_WORDS = re.compile(r"[A-Za-z]+(?:[ -][A-Za-z]+){0,4}")


@dataclass(frozen=True, slots=True)
class Quantity:
    """An exact number with what stood around it."""

    value: Fraction
    unit: frozenset[str] = frozenset()
    percent: bool = False
    variable: str = ""


def quantity(text: str) -> Quantity | None:
    """Return the number that the whole of `text` is, or None."""
    text = text.strip()
    if len(text) <= MAX_DIGITS and FAST.fullmatch(text):
        return Quantity(Fraction(text.replace(",", "")))
    if not text or len(text) > MAX_TEXT:
        return None
    text = plain(text)
    for bracket in ("()", "{}"):
        if text.startswith(bracket[0]) and text.endswith(bracket[1]) and not set(text[1:-1]) & set("(){},"):
            text = text[1:-1].strip()
    return _read(text)


def same(left: Quantity, right: Quantity, tolerance: float = 0.0) -> bool:
    """Say whether two quantities are equal: exactly, or within a relative tolerance of the second."""
    if left.variable and right.variable and left.variable != right.variable:
        return False
    if left.percent != right.percent:
        part, whole = (left, right) if left.percent else (right, left)
        # 50 may answer "what percentage?"; 0.5 is a share of one, and no half percent
        bare = abs(whole.value) > 1 and _close(part.value, whole.value, tolerance)
        return not whole.unit and (bare or _close(part.value / 100, whole.value, tolerance))
    if left.unit and right.unit and left.unit != right.unit:
        return _converted(left, right, tolerance)
    return _close(left.value, right.value, tolerance)


def _converted(left: Quantity, right: Quantity, tolerance: float) -> bool:
    """Compare quantities whose units are written differently."""
    if len(left.unit) == len(right.unit) == 1:
        one, other = (EXACT_UNITS.get(next(iter(side.unit))) for side in (left, right))
        if one and other:
            return one[0] == other[0] and _close(left.value * one[1], right.value * other[1], tolerance)
    small, large = sorted((left.unit, right.unit), key=len)
    return small <= large and not (large - small) & CHANGES and _close(left.value, right.value, tolerance)


def _close(left: Fraction, right: Fraction, tolerance: float) -> bool:
    # relative to the reference: an absolute tolerance calls 1/2^99 and 1/2^98 equal (Math-Verify#14)
    return left == right or (tolerance > 0 and abs(left - right) <= Fraction(tolerance) * abs(right))


def _read(text: str) -> Quantity | None:
    opening = OPENING.match(text)
    if opening is None or (opening["sign"] and opening["late"]):
        return None
    for form in FORMS:
        found = form.match(text, opening.end())
        value = _value(found.groupdict()) if found else None
        after = None if found is None or value is None else _suffix(text[found.end() :])
        if value is None or after is None:
            continue
        scale, percent, words = after
        coin = (COINS[opening["coin"]],) if opening["coin"] else ()
        sign = -1 if "-" in (opening["sign"], opening["late"]) else 1
        return Quantity(sign * value * scale, frozenset((*coin, *words)), percent, opening["variable"] or "")
    return None


def _value(parts: dict[str, str | None]) -> Fraction | None:
    """Turn the digits that a form matched into a fraction; None past the caps or for a zero divisor."""
    if sum(len(part or "") for part in parts.values()) > MAX_DIGITS:
        return None
    get = {name: re.sub(r"[, ']", "", part) for name, part in parts.items() if part is not None}
    if "mixed" in get:
        top, bottom = int(get["top"]), int(get["bottom"])
        return Fraction(int(get["mixed"])) + Fraction(top, bottom) if top < bottom else None
    if "cycle" in get:
        nines = (10 ** len(get["cycle"]) - 1) * 10 ** len(get["fixed"])
        return Fraction(f"{get['start'] or 0}.{get['fixed'] or 0}") + Fraction(int(get["cycle"]), nines)
    if "ten" in get:
        return Fraction(get["left"]) * Fraction(10) ** int(get["ten"]) if abs(int(get["ten"])) <= MAX_DIGITS else None
    if "power" in get:
        base, power = int(get["base"]), int(get["power"])
        fits = abs(power) * max(base.bit_length(), 1) <= 4 * MAX_DIGITS and (base or power > 0)
        return Fraction(base) ** power if fits else None
    if "right" in get:
        below = Fraction(get["right"])
        return None if below == 0 else Fraction(get["left"]) / below * (-1 if get["sign"] else 1)
    return Fraction(get["left"])


def _suffix(text: str) -> tuple[int, bool, tuple[str, ...]] | None:
    """Read what follows the digits: a scale, a percent sign, a unit. None if it makes the whole something else."""
    spaced, rest = text[:1].isspace(), text.strip().removesuffix(".").strip()
    if not rest:
        return 1, False, ()
    if rest in COINS:
        return 1, False, (COINS[rest],)
    if re.fullmatch(r"%|percent(?:age)?(?: points?)?|per cent|pct", rest.lower()):
        return 1, True, ()
    rest = re.sub(r"\s*/\s*(?=[A-Za-z])", " per ", rest)
    rest = re.sub(
        r"([A-Za-z]+)\s*\^\s*\{?([23])\}?", lambda m: f"{'square' if m[2] == '2' else 'cubic'} {m[1]}", rest
    ).strip()
    if not UNIT_WORDS.fullmatch(rest):
        return None
    words = re.split(r"[ -]", rest if len(rest) == 1 else rest.lower())
    scale = 1
    while words and words[0].removesuffix("s") in SCALES:
        scale *= SCALES[words.pop(0).removesuffix("s")]
    if not all(_is_unit(word, spaced) for word in words):
        return None
    named = [SYNONYMS.get(word, SYNONYMS.get(_singular(word), _singular(word))) for word in words]
    return scale, False, tuple(" ".join(word for word in named if word not in ("of", "old")).split())


def unit_of(text: str) -> tuple[str, ...] | None:
    """Return the words of a unit in their plain spelling, or None if the text is none: `sq cm` -> square, centimeter."""
    found = _suffix(f" {text}")
    return found[2] if found is not None and found[0] == 1 and not found[1] and found[2] else None


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 2 and word.endswith("s") and not word.endswith("ss") else word


def _is_unit(word: str, spaced: bool) -> bool:
    # 3x and 2i are no threes and twos: short words count only where they are known units, single letters only after a space
    if word in NOT_UNITS:
        return False
    return len(word) > 2 or word in SHORT_UNITS or word == "of" or (spaced and word in ONE_LETTER_UNITS)
