"""Comparing two answers, kind by kind, without any help from outside.

    compare("1,234.50", "1234.5")                      "same"        numbers, exactly
    compare(r"\\sqrt{8}", r"2\\sqrt{2}")                 "same"        formulas, to hundreds of digits
    compare("x > 2", r"(2, \\infty)")                   "same"        sets of real numbers
    compare("12 + 5", "17")                            "different"   a sum that was not worked out is no answer
    compare(r"\\int_0^1 x dx", r"\\frac{1}{2}")          "unread"      for a computer algebra system
    compare("Paris", "London")                         "different"   words

"unread" means that at least one side is a formula which is not understood here.
"""

from __future__ import annotations

import re
from collections import Counter
from fractions import Fraction
from typing import Literal

from limbeck.score._answers import ENVIRONMENT, boxes
from limbeck.score._math_parse import KNOWN, Node, Unreadable, is_word, number, parse
from limbeck.score._math_sets import ASSIGNED, Items, Spans, bare, items, matrix, spans, split
from limbeck.score._math_value import proportional, same_formula
from limbeck.score._numbers import MAX_TEXT, Quantity, quantity, same, unit_of
from limbeck.score._plain import plain, spelling, wordy

Comparison = Literal["same", "different", "unread"]
MAX_PARTS = 200
MAX_SET = 30
"""Of a set's parts that are not all plain numbers: each is held against each."""
ARITHMETIC = frozenset({"number", "+", "*", "/", "neg"})
FRACTION = frozenset({"number", "/", "neg"})
UNIT_BEHIND = re.compile(r"(?P<value>.*[^\s\\A-Za-z]|.*\\[a-z]+)\s+(?P<unit>[A-Za-z]{2,}[A-Za-z /^0-9{}]*)", re.DOTALL)
EQUALS = re.compile(r"(?<![<>!=\\])=(?![=<>])")
COMMAND = re.compile(r"\\[A-Za-z]+")
LETTERS = re.compile(r"[^\W\d_]{2,}|[^\W\d_A-Za-z]")
DIFFERENTIAL = re.compile(r"(?<![A-Za-z])d[xyztu](?![A-Za-z])")
DELIMITED = re.compile(r"\$\$?([^$]+)\$\$?|\\\((.+)\\\)|\\\[(.+)\\\]", re.DOTALL)
EMPTY = re.compile(r"\\(?:emptyset|varnothing)|∅|\\\{\s*\\\}")


def compare(left: str, right: str, tolerance: float = 0.0, depth: int = 0) -> Comparison:
    """Say whether two answers are the same; `tolerance` is relative to the right one, and 0 is exact."""
    if not left.strip() or not right.strip():
        return "different"
    left, right = _unboxed(left), _unboxed(right)
    one, other = quantity(left), quantity(right)
    if one is not None and other is not None:
        return _said(same(one, other, tolerance))
    if max(len(left), len(right)) > MAX_TEXT:
        return _said(left.split() == right.split())
    if one is None and other is None and spelling(left) == spelling(right) != "":
        return "same"
    if depth < 3:
        told = _of_several(left, right, tolerance, depth) or _equation(left, right, tolerance, depth)
        if told:
            return told
    return _formula(left, right, one, other, tolerance)


def formal(left: str, right: str) -> bool:
    """Say whether two texts are formulas with something in them that is not read here: an integral, a limit."""
    texts = [ENVIRONMENT.sub(r" \\begin ", bare(text)) for text in (left, right)]
    if any(is_word(run) for text in texts for run in LETTERS.findall(COMMAND.sub(" ", text))):
        return False
    return any(DIFFERENTIAL.search(text) or set(COMMAND.findall(text)) - KNOWN for text in texts)


def _unboxed(text: str) -> str:
    """Take away the delimiters and the box around a whole answer."""
    text = text.strip()
    if "box" not in text:
        return text
    inside = DELIMITED.fullmatch(text)
    inner = (inside[1] or inside[2] or inside[3]).strip() if inside else text
    return next((b for begin, end, b in boxes(inner) if (begin, end) == (0, len(inner)) and b.strip()), text)


def _said(equal: bool) -> Comparison:
    return "same" if equal else "different"


def _of_several(left: str, right: str, tolerance: float, depth: int) -> Comparison | None:
    """Compare matrices, sets of real numbers, lists; None where neither side is one."""
    empty = [bool(EMPTY.fullmatch(bare(text))) for text in (left, right)]
    if any(empty):
        return _said(all(empty))
    if r"\begin" in left or r"\begin" in right:
        cells, others = matrix(left), matrix(right)
        return _same_items(cells, others, tolerance, depth) if cells and others else None
    reals, range_ = spans(left), spans(right)
    if reals and range_ and (reals.sure or range_.sure):
        return _same_spans(reals, range_, tolerance, depth)
    if (reals and reals.sure) or (range_ and range_.sure):
        return None if formal(left, right) else "different"
    parts, others = items(left), items(right)
    if parts and others:
        return _same_items(parts, others, tolerance, depth)
    # a list is no number; but what looks like a list to us may be another formula
    return "different" if (parts or others) and (quantity(left) or quantity(right)) else None


def _same_items(left: Items, right: Items, tolerance: float, depth: int) -> Comparison:
    if len(left.parts) != len(right.parts) or left.shape != right.shape or len(left.parts) > MAX_PARTS:
        return "different"
    if left.names and right.names and left.names != right.names:
        if set(left.names) != set(right.names):
            return "different"
        right = Items(left.brackets, tuple(right.parts[right.names.index(n)] for n in left.names), left.names)
    kinds = {left.brackets, right.brackets}
    letters = {name.split("_")[0] for name in (*left.names, *right.names)}
    if "{}" in kinds and bool(left.names) != bool(right.names) and len(letters) > 1:
        return "different"  # x = 1, y = 2 is no set; x_1 = 1, x_2 = 2 is one
    if "{}" in kinds and kinds <= {"{}", ""}:
        return _any_order(left.parts, right.parts, tolerance, depth)
    named = bool(left.names) != bool(right.names) and kinds <= {"()", ""}
    if len(kinds) > 1 and not named:
        return "different"
    told = [compare(a, b, tolerance, depth + 1) for a, b in zip(left.parts, right.parts, strict=True)]
    return "different" if "different" in told else "unread" if "unread" in told else "same"


def _any_order(left: tuple[str, ...], right: tuple[str, ...], tolerance: float, depth: int) -> Comparison:
    numbers = [[_plain_number(part) for part in side] for side in (left, right)]
    if not tolerance and None not in numbers[0] and None not in numbers[1]:
        return _said(Counter(numbers[0]) == Counter(numbers[1]))
    if len(left) > MAX_SET:
        return _said(left == right)
    rest, unread = list(right), False
    for item in left:
        told = [compare(item, other, tolerance, depth + 1) for other in rest]
        if "same" not in told:
            unread = True if "unread" in told else unread
            if "unread" not in told:
                return "different"
            continue
        rest.pop(told.index("same"))
    return "unread" if unread else "same"


def _plain_number(text: str) -> Fraction | None:
    found = quantity(text)
    return None if found is None or found.unit or found.percent or found.variable else found.value


def _same_spans(left: Spans, right: Spans, tolerance: float, depth: int) -> Comparison:
    if len(left.parts) != len(right.parts) or (left.name and right.name and left.name != right.name):
        return "different"
    for ours, theirs in zip(left.parts, right.parts, strict=True):
        for end, other in zip(ours, theirs, strict=True):
            if end.closed != other.closed:
                return "different"
            if end.text and other.text:
                told = compare(end.text, other.text, tolerance, depth + 1)
                if told != "same":
                    return told
            elif end.value != other.value:
                return "different"
    return "same"


def _equation(left: str, right: str, tolerance: float, depth: int) -> Comparison | None:
    """Compare where at least one side holds one `=`: `y = 2x` with `2x`, `2x + y = 3` with `y = 3 - 2x`."""
    sides, others = _sides(left), _sides(right)
    if len(sides) == 1 and len(others) == 1:
        return None
    sides, others = _chained(sides), _chained(others)
    if max(len(sides), len(others)) > 2:
        return "different"
    if len(sides) == 1 and len(others) == 1:
        return compare(sides[0], others[0], tolerance, depth + 1)
    if len(sides) == 1 or len(others) == 1:
        solved = _solved(others if len(sides) == 1 else sides)
        alone = (sides if len(sides) == 1 else others)[0]
        return compare(solved[1], alone, tolerance, depth + 1) if solved else "different"
    mine, theirs = _solved(sides), _solved(others)
    if mine and theirs and mine[0] == theirs[0]:
        return compare(mine[1], theirs[1], tolerance, depth + 1)
    try:
        trees = [Node("+", (parse(a), Node("neg", (parse(b),)))) for a, b in (sides, others)]
    except Unreadable:
        return "unread" if formal(left, right) else "different"
    # 2x = 10 is a question and x = 5 is its answer
    constant = [bool(solved) and len(tree.names()) == 1 for solved, tree in zip((mine, theirs), trees, strict=True)]
    return _said(constant[0] == constant[1] and proportional(*trees))


def _sides(text: str) -> list[str]:
    """Split at each `=` that stands outside of all brackets, where no other sign goes with it."""
    text = bare(text)
    if "=" not in text:
        return [text]
    pieces = split(EQUALS.sub("\x00", text), "\x00")
    return [text] if pieces is None else [p.replace("\x00", "=").strip() for p in pieces]


def _chained(sides: list[str]) -> list[str]:
    """Shorten `A = 3 * 4 / 2 = 6` to `A = 6`, if what it says is true."""
    try:
        trees = [parse(side) for side in sides[1:]]
    except Unreadable:
        return sides
    true = len(sides) > 2 and all(same_formula(tree, trees[-1]) == "same" for tree in trees)
    return [sides[0], sides[-1]] if true else sides


def _solved(sides: list[str]) -> tuple[str, str] | None:
    """Return the name and the value of `x = 5` and `5 = x`; None for an equation that still has to be solved."""
    for name, value in (sides, sides[::-1]):
        assigned = ASSIGNED.fullmatch(f"{name}={value}")
        if assigned and value:
            try:
                return None if re.sub(r"\(.*", "", name) in parse(value).names() else (name.replace(" ", ""), value)
            except Unreadable:
                return name.replace(" ", ""), value
    return None


def _formula(left: str, right: str, one: Quantity | None, other: Quantity | None, tolerance: float) -> Comparison:
    texts, units = zip(*(_without_unit(text, found) for text, found in ((left, one), (right, other))), strict=True)
    if units[0] and units[1] and units[0] != units[1]:
        return "different"
    trees: list[Node] = []
    for text, found in zip(texts, (one, other), strict=True):
        try:
            trees.append(_number(found) or parse(text) if found else parse(text))
        except Unreadable:
            return "unread" if formal(left, right) else "different"
    for tree, found in zip(trees, (other, one), strict=True):
        if found is not None and tree.kinds() <= ARITHMETIC and not tree.kinds() <= FRACTION:
            return "different"
    # both were read; what is undefined, or too large to tell apart, is not shown to be the same
    return _said(same_formula(trees[0], trees[1], tolerance) == "same")


def _number(found: Quantity) -> Node | None:
    return None if "degree" in found.unit else number(found.value / 100 if found.percent else found.value)


def _without_unit(text: str, found: Quantity | None) -> tuple[str, tuple[str, ...]]:
    if found is not None:
        return text, tuple(sorted(found.unit))
    behind = UNIT_BEHIND.fullmatch(bare(text))
    words = unit_of(behind["unit"]) if behind and not wordy(plain(behind["value"])) else None
    if behind is None or not words or "degree" in words:
        return text, ()
    return behind["value"], tuple(sorted(words))
