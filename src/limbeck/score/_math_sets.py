"""Answers of several parts: lists, tuples, sets, matrices, intervals and inequalities, read from LaTeX or plain text.

items(r"x = 1 \\text{ or } x = 2")     Items("{}", ("1", "2"))          any order
items("(3, 4)")                       Items("()", ("3", "4"))          in this order
items(r"\\pm\\sqrt{2}")                 Items("{}", (r"+\\sqrt{2}", r"-\\sqrt{2}"))
spans("x > 2"), spans(r"(2, \\infty)")  the same Spans
matrix(r"\\begin{pmatrix} 1 & 2 \\\\\\\\ 3 & 4 \\end{pmatrix}")   Items("matrix", ("1", "2", "3", "4"), shape=(2, 2))
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from limbeck.score._math_parse import Unreadable, parse
from limbeck.score._math_value import nearby
from limbeck.score._plain import unwrapped

OPENINGS = (r"\{", r"\langle", r"\lbrace", "(", "[", "{")
CLOSINGS = (r"\}", r"\rangle", r"\rbrace", ")", "]", "}")
BRACKETS = {r"\{": "{", r"\lbrace": "{", r"\langle": "(", r"\}": "}", r"\rbrace": "}", r"\rangle": ")"}
NAME = r"[A-Za-z]\^\{-1\}\([A-Za-z]\)|(?=[^=]*[A-Za-z])(?:[A-Za-z\\{}()|,: ]|_\{?[A-Za-z0-9]+\}?){1,40}?"
"""What may stand before `=`: `x`, `y_{1}`, `f(x)`, `(p, q)`, `|AB|`, `\\angle ABC`, `Area`; no digits and no arithmetic."""
ASSIGNED = re.compile(rf"\s*({NAME})\s*=(?!=)\s*(.+)", re.DOTALL)
JOINED = re.compile(
    r"\s*,?\s+(?:and|or)\s+|\s*,\s*(?:and|or)\s+|(?<=[)\]}])\s*(?:and|or)\s*(?=[(\[{\\])|\s*\\(?:lor|vee)(?![A-Za-z])\s*"
)
BOTH_SIGNS = re.compile(r"\\(?:pm|mp)(?![A-Za-z])|±|∓|\+/-|\+-")
UNION = re.compile(r"\\cup(?![A-Za-z])|∪|\s+U\s+|\s+or\s+|\\lor(?![A-Za-z])|\\vee(?![A-Za-z])")
MEMBER = re.compile(r"\s*([A-Za-z]|\\[a-z]+)\s*(?:\\in(?![A-Za-z])|∈)\s*(.*)", re.DOTALL)
REALS = re.compile(r"(?:\\mathbb\s*\{?\s*R\s*\}?|\\R|ℝ|all real(?: number)?s?)", re.IGNORECASE)
ORDER = re.compile(r"\\(leq?|geq?|lt|gt|neq?)(?:slant)?(?![A-Za-z])|(<=|>=|!=|=<|=>|<|>|≠)")
SIGNS = {"le": "<=", "leq": "<=", "lt": "<", "ge": ">=", "geq": ">=", "gt": ">", "ne": "!=", "neq": "!="}
VARIABLE = re.compile(r"[A-Za-z](?:\([A-Za-z]\))?|\\[a-z]+")
INFINITE = re.compile(r"([-+]?)\s*(?:\\infty|∞|oo|inf(?:inity)?)")
MATRIX = re.compile(
    r"\\begin\s*\{(?P<kind>[pbBv]?matrix|Vmatrix|array)\}(?:\{[lcr| ]*\})?(?P<cells>.*)\\end\s*\{(?P=kind)\}", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Items:
    """The parts of an answer as texts. `brackets` is `()`, `[]`, `{}` (any order), a mixed pair, `matrix` or nothing."""

    brackets: str
    parts: tuple[str, ...]
    names: tuple[str, ...] = ()
    """What the parts are called, where every part says so: `x = 1, y = 2`."""
    shape: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class End:
    """One end of an interval: its text, its value for putting ends in order, and whether it belongs to the interval."""

    text: str
    value: float
    closed: bool


@dataclass(frozen=True, slots=True)
class Spans:
    """A set of real numbers as intervals from left to right; `sure` is False for `(1, 2)`, which may be a point too."""

    parts: tuple[tuple[End, End], ...]
    name: str = ""
    sure: bool = True


def split(text: str, separator: str = ",") -> list[str] | None:
    """Split at a character (a comma gives way to a semicolon) outside of all brackets; None where they do not match."""
    if separator == "," and ";" in text:
        halves = split(text, ";")
        if halves is None or len(halves) > 1:
            return halves
    parts, depth, start = [], 0, 0
    for at, letter in enumerate(text):
        if letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
        elif letter == separator and depth == 0:
            parts.append(text[start:at])
            start = at + 1
        if depth < 0:
            return None
    return None if depth else [*parts, text[start:]]


def bare(text: str) -> str:
    """Return an answer without LaTeX's wrappings and Markdown, on one line."""
    return " ".join(unwrapped(text).replace("**", " ").replace("`", " ").split()).removesuffix(".").strip()


def items(text: str) -> Items | None:
    """Return the parts of a list, tuple or set; None for anything else."""
    text = bare(text)
    opening = next((o for o in OPENINGS if text.startswith(o)), "")
    closing = next((c for c in CLOSINGS if text.endswith(c)), "") if opening else ""
    inner = text[len(opening) : len(text) - len(closing)].strip() if closing else text
    parts = split(inner) if closing else None
    brackets = BRACKETS.get(opening, opening) + BRACKETS.get(closing, closing) if parts else ""
    if not parts or (len(parts) < 2 and brackets != "{}"):
        brackets, parts = "", split(text)
    if parts is None:
        return None
    joined = [piece for part in parts for piece in JOINED.split(part)] if brackets in ("", "{}") else parts
    signed = [piece for part in joined for piece in _both(part)] if brackets in ("", "{}") else joined
    if len(signed) < 2 or not all(p.strip() for p in signed):
        return None
    points = brackets == "" and all(p.strip()[:1] == "(" and p.strip()[-1:] == ")" for p in signed)
    any_order = brackets == "{}" or points or len(signed) > len(parts)
    return _named(Items("{}" if any_order else brackets, tuple(p.strip() for p in signed)))


def _both(part: str) -> list[str]:
    """Write `2 ± x` as two parts; what holds ± more than once is left as it is, unreadable."""
    found = BOTH_SIGNS.findall(part)
    if len(found) != 1:
        return [part]
    name = ASSIGNED.match(part)
    part = name[2] if name else part
    head = f"{name[1]} = " if name else ""
    return [head + BOTH_SIGNS.sub(sign, part) for sign in "+-"]


def _named(found: Items) -> Items:
    assigned = [ASSIGNED.fullmatch(part) for part in found.parts]
    if found.brackets not in ("", "{}") or not all(assigned):
        return found
    names = tuple(m[1].strip() for m in assigned if m)
    values = tuple(m[2].strip() for m in assigned if m)
    if len(set(names)) == 1:
        return Items("{}", values)
    return Items(found.brackets, values, names) if len(set(names)) == len(names) else found


def matrix(text: str) -> Items | None:
    """Return the cells of a matrix, row by row; a determinant is another kind of thing."""
    text = re.sub(
        r"^(?:\\left\s*)?[(\[]\s*(?=\\begin)|(?<=\})\s*(?:\\right\s*)?[)\]]$", "", text.strip().strip("$").strip()
    )
    found = MATRIX.fullmatch(text)
    if found is None:
        return None
    kind = "determinant" if found["kind"] in ("vmatrix", "Vmatrix") else "matrix"
    rows = [row.split("&") for row in re.split(r"\\\\|\\cr(?![A-Za-z])", found["cells"]) if row.strip()]
    cells = tuple(cell.strip() for row in rows for cell in row)
    even = rows and all(len(row) == len(rows[0]) for row in rows) and all(cells)
    return Items(kind, cells, shape=(len(rows), len(rows[0]))) if even else None


def spans(text: str) -> Spans | None:
    """Return the intervals that an interval, a union of intervals or an inequality stands for; None for anything else."""
    text = bare(text)
    member = MEMBER.fullmatch(text)
    name, text = (member[1], member[2].strip()) if member else ("", text)
    if REALS.fullmatch(text):
        return Spans((_everything(),), name)
    parts: list[tuple[End, End]] = []
    names = {name} - {""}
    sure, pieces = bool(member), [p.strip() for p in UNION.split(text)]
    for piece in pieces:
        found = _interval(piece) or _points(piece, len(pieces) > 1)
        if found is None:
            ordered = _inequality(piece)
            if ordered is None:
                return None
            names.add(ordered[0])
            found, sure = ordered[1], True
        parts += found
    if len(names) > 1:
        return None
    sure = sure or len(pieces) > 1 or any(math.isinf(e.value) for p in parts for e in p)
    sure = sure or any(low.closed != high.closed for low, high in parts)
    return Spans(tuple(sorted(parts, key=lambda p: (p[0].value, p[1].value))), "".join(names), sure)


def _everything() -> tuple[End, End]:
    return End("", -math.inf, False), End("", math.inf, False)


def _end(text: str, closed: bool) -> End | None:
    infinite = INFINITE.fullmatch(text.strip())
    if infinite:
        return End("", -math.inf if infinite[1] == "-" else math.inf, False)
    try:
        value = nearby(parse(text))
    except Unreadable:
        return None
    return None if value is None else End(text.strip(), value, closed)


def _pair(low: End | None, high: End | None) -> list[tuple[End, End]] | None:
    return [(low, high)] if low and high and low.value < high.value else None


def _interval(text: str) -> list[tuple[End, End]] | None:
    if text[:1] not in ("(", "[") or text[-1:] not in (")", "]"):
        return None
    # what is inside, not the whole, must be balanced: [1, 2) is not
    parts = split(text[1:-1])
    if parts is None or len(parts) != 2:
        return None
    return _pair(_end(parts[0], text[0] == "["), _end(parts[1], text[-1] == "]"))


def _points(text: str, among_others: bool) -> list[tuple[End, End]] | None:
    inner = re.fullmatch(r"\\\{(.*)\\\}", text)
    parts = split(inner[1]) if inner and among_others else None
    ends = [_end(part, True) for part in parts or []]
    return [(end, end) for end in ends if end] if ends and all(ends) else None


def _inequality(text: str) -> tuple[str, list[tuple[End, End]]] | None:
    """Read `x > 2`, `1 < x <= 3`, `x != 2` in one variable and with constant ends."""
    signs = [SIGNS.get(m[1] or "", m[2] or "") for m in ORDER.finditer(text)]
    signs = [{"=<": "<=", "=>": ">=", "≠": "!="}.get(sign, sign) for sign in signs]
    sides = [side.strip() for side in ORDER.sub("\x00", text).split("\x00")]
    at = [i for i, side in enumerate(sides) if VARIABLE.fullmatch(side) and side != r"\pi"]
    if len(at) != 1 or len(signs) not in (1, 2) or (len(signs) == 2 and at != [1]):
        return None
    name, low, high = sides[at[0]], _everything()[0], _everything()[1]
    for place, sign in enumerate(signs):
        side = sides[place if place < at[0] else place + 1]
        end = _end(side, sign.endswith("="))
        if end is None or math.isinf(end.value):
            return None
        if sign == "!=":
            hole = End(end.text, end.value, False)
            return (name, [(low, hole), (hole, high)]) if len(signs) == 1 else None
        if (sign[0] == "<") == (place < at[0]):
            low = end
        else:
            high = end
    if len(signs) == 2 and signs[0][0] != signs[1][0]:
        return None
    found = _pair(low, high)
    return (name, found) if found else None
