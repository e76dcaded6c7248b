"""Programs compared by what they do, not how they are written: statements of the syntax tree with the names taken out.

    def total(values):                    def kalo(mi):            # sums up
        result = 0                            tu = 0
        for value in values:                  for ve in mi:
            result += value                       tu += ve
        return result                         return tu

Both have the same shapes: v0 = 0; for v0 in v1: v2 += v0; return v0. Names of one's own are numbered in the order in which a
statement uses them; attributes, built-in names, constants and operators stay; docstrings and annotations are gone. A statement
that is not found whole is looked for in its parts, so an inserted line costs that line. Only Python is understood, function by
function, wherever in a text it stands; what does not parse is left to the search for words.
"""

from __future__ import annotations

import ast
import builtins
import re
import textwrap
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

LEAST_SHARE = 0.6
"""The share of an item's program, in syntax nodes, that a row must hold."""
LEAST_NODES = 35
"""How many nodes that must be at least: shorter programs are anybody's."""
RARE = 3
"""In how many items a shape may stand to count: a loop over a range says nothing."""
LEAST_SHAPE = 5
"""Nodes of the smallest statement that is looked at."""

_FUNCTION = re.compile(r"^[ \t]*(?:async[ \t]+)?def[ \t]+\w+[ \t]*\(", re.MULTILINE)
_KEPT = frozenset(dir(builtins))
_DEEPEST = 40
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(slots=True)
class Shape:
    """One statement: the hash of its normalised tree, its nodes, and the statements within it."""

    name: int
    nodes: int
    parts: list[Shape] = field(default_factory=list)


@dataclass(frozen=True)
class Programs:
    """The programs of the items, by item number, and in how many items each shape stands."""

    shapes: dict[int, list[Shape]]
    spread: Counter[int]
    holders: dict[int, tuple[int, ...]]

    def found(self, text: str) -> Iterator[tuple[int, float]]:
        """Yield the items whose program the text holds in good part, with the share that it holds."""
        here = {shape.name for function in shapes_of(text) for shape in _all(function)}
        candidates = sorted({item for name in here for item in self.holders.get(name, ())})
        for item in candidates:
            total = sum(shape.nodes for shape in self.shapes[item])
            covered = sum(_covered(shape, here) for shape in self.shapes[item])
            rare = sum(_covered(shape, {n for n in here if self.spread[n] <= RARE}) for shape in self.shapes[item])
            if covered >= LEAST_SHARE * total and rare >= LEAST_NODES:
                yield item, covered / total


def programs(texts: Sequence[str]) -> Programs:
    """Return the programs that stand in the texts of items; texts without one are left out."""
    shapes = {item: found for item, text in enumerate(texts) if (found := shapes_of(text))}
    spread: Counter[int] = Counter()
    holders: dict[int, list[int]] = {}
    for item, functions in shapes.items():
        for name in dict.fromkeys(s.name for function in functions for s in _all(function)):
            spread[name] += 1
            holders.setdefault(name, []).append(item)
    telling = {name: tuple(items) for name, items in holders.items() if len(items) <= RARE}
    return Programs(shapes, spread, telling)


def shapes_of(text: str) -> list[Shape]:
    """Return the functions that stand in a text as shapes; those that are not Python 3 are passed over."""
    return [_Spelling(tree).shape for source in _functions(text) if (tree := _parsed(source)) is not None]


def _functions(text: str) -> Iterator[str]:
    """Yield the source of each outermost function: its first line, and what follows farther in."""
    if not _FUNCTION.search(text):
        return
    lines = text.expandtabs(4).splitlines()
    at = 0
    while at < len(lines):
        if not _FUNCTION.match(lines[at]):
            at += 1
            continue
        margin = len(lines[at]) - len(lines[at].lstrip())
        end = at + 1
        while end < len(lines) and (not lines[end].strip() or len(lines[end]) - len(lines[end].lstrip()) > margin):
            end += 1
        yield textwrap.dedent("\n".join(lines[at:end]))
        at = end


def _parsed(source: str) -> ast.stmt | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return body[0] if len(body) == 1 else None


class _Spelling:
    """A function as a list of words, read off its tree once; every statement is a stretch of them.

    A name stands there as `\0name` until it is known which names the function binds: `sum` and `list` are often among them,
    and are then no built-ins.
    """

    def __init__(self, tree: ast.stmt) -> None:
        self.words: list[str] = []
        self.bound: set[str] = set()
        self.stretches: list[_Stretch] = []
        self._statement(tree, self.stretches, 0)
        self.shape = self._shape(self.stretches[0])

    def _statement(self, node: ast.AST, into: list[_Stretch], depth: int) -> None:
        begin, parts = len(self.words), list[_Stretch]()
        self._node(node, parts, depth)
        into.append((begin, len(self.words), parts))

    def _node(self, node: ast.AST, parts: list[_Stretch], depth: int) -> None:
        words, kind = self.words, type(node)
        if kind is ast.Name:
            words.append("\0" + node.id)  # type: ignore[attr-defined]
            if type(node.ctx) is not ast.Load:  # type: ignore[attr-defined]
                self.bound.add(node.id)  # type: ignore[attr-defined]
            return
        if kind is ast.Constant:
            words.append(repr(node.value))  # type: ignore[attr-defined]
            return
        if kind is ast.arg:
            words.append("\0" + node.arg)  # type: ignore[attr-defined]
            self.bound.add(node.arg)  # type: ignore[attr-defined]
            return
        words.append(f".{node.attr}" if kind is ast.Attribute else kind.__name__)  # type: ignore[attr-defined]
        if depth < _DEEPEST:
            for child in _body(node) if isinstance(node, _FUNCTIONS) else _children(node):
                if isinstance(child, ast.stmt):
                    self._statement(child, parts, depth + 1)
                elif child._fields:
                    self._node(child, parts, depth + 1)
                else:  # an operator
                    words += (type(child).__name__, ")")
        words.append(")")

    def _shape(self, stretch: _Stretch) -> Shape:
        begin, end, parts = stretch
        numbered: dict[str, str] = {}
        out = self.words[begin:end]
        for place, word in enumerate(out):
            if word[0] == "\0" and (word[1:] in self.bound or word[1:] not in _KEPT):
                out[place] = numbered.setdefault(word, f"v{len(numbered)}")
        name = hash(tuple(out))  # of this process only: shapes are compared and never kept
        return Shape(name, len(out) - out.count(")"), [self._shape(part) for part in parts])


_Stretch = tuple[int, int, list["_Stretch"]]


def _children(node: ast.AST) -> list[ast.AST]:
    found: list[ast.AST] = []
    for name in node._fields:
        value = getattr(node, name, None)
        if type(value) is list:
            found += [child for child in value if isinstance(child, ast.AST)]  # `global` holds bare names
        elif isinstance(value, ast.AST) and not isinstance(value, ast.expr_context):
            found.append(value)
    return found


def _body(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.AST]:
    """Return arguments and statements of a function, without docstring, decorators and annotations."""
    body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return [*arguments, *node.args.defaults, *body]


def _all(shape: Shape) -> Iterator[Shape]:
    if shape.nodes >= LEAST_SHAPE:
        yield shape
    for part in shape.parts:
        yield from _all(part)


def _covered(shape: Shape, here: set[int]) -> int:
    """Return how many nodes of a statement stand in a program: all, or those of its parts that do."""
    if shape.nodes >= LEAST_SHAPE and shape.name in here:
        return shape.nodes
    return sum(_covered(part, here) for part in shape.parts)
