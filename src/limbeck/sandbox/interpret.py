"""Run a short Python function safely: an interpreter for a small, total subset of Python, walked node by node.

    >>> call("def f(xs):\\n    xs = [x * 2 for x in xs]\\n    return max(xs)", "f", [[1, 5, 3]])
    10
    >>> call("def f(x):\\n    return 10 ** 10 ** 10", "f", [1])
    Traceback (most recent call last):
    ...
    limbeck.sandbox.interpret.Rejected: the number grows beyond 256 bits

Nothing is ever handed to `exec` or `eval`: the source is parsed, and only the nodes named here are walked. One function; names
assigned and returned; list comprehensions; slices and indices; arithmetic, comparisons, and/or/not; calls to a white list. There
is no loop and no recursion, and size, depth and number of steps are capped, so every call ends. Everything else - an import, an
attribute that is not a listed method, a name that was never assigned, a division by zero - is `Rejected` with its reason.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

MAX_SOURCE = 2000
"""Characters of source."""
MAX_STEPS = 20_000
"""Nodes walked in one call, plus the items of every list that a node gives."""
MAX_BITS = 256
"""Size of an integer."""
MAX_LENGTH = 2000
"""Length of a string or a list."""
MAX_DEPTH = 40
"""How deep expressions, and the values given and returned, may nest."""


class Rejected(Exception):
    """The function left the subset, failed or reached a cap; the message says which."""


def call(source: str, name: str, args: list[Any]) -> Any:
    """Call the function `name` of `source` with `args` and return its value, or raise `Rejected`."""
    try:
        function = _function(source, name)
        return _Frame(function, [_checked(value) for value in args]).run()
    except Rejected:
        raise
    except (RecursionError, MemoryError):
        raise Rejected("the source nests too deeply") from None
    except Exception as fault:  # noqa: BLE001 - an error of the program itself, such as an index out of range
        raise Rejected(f"the function fails: {type(fault).__name__}: {fault}"[:200]) from None


@lru_cache(maxsize=256)
def _function(source: str, name: str) -> ast.FunctionDef:
    """Parse the source, which must be one plain function of that name; a program is run on many cases but parsed once."""
    if not isinstance(source, str) or len(source) > MAX_SOURCE:
        raise Rejected(f"the source is longer than {MAX_SOURCE} characters")
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError) as fault:
        raise Rejected(f"the source is not Python: {fault}") from None
    if len(body) != 1 or not isinstance(body[0], ast.FunctionDef) or body[0].name != name:
        raise Rejected(f"the source must be one function named {name}")
    function = body[0]
    rules = function.args
    if (
        function.decorator_list
        or rules.vararg
        or rules.kwarg
        or rules.kwonlyargs
        or rules.defaults
        or rules.posonlyargs
    ):
        raise Rejected("the function must have plain parameters and no decorator")
    return function


def _checked(value: Any, depth: int = 0) -> Any:
    """Return the value if it is of a known type and within the caps."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise Rejected(f"the number grows beyond {MAX_BITS} bits")
    if isinstance(value, (int, float)):
        return value
    if not isinstance(value, (str, list, tuple)):
        raise Rejected(f"a value of type {type(value).__name__} is not in the subset")
    if len(value) > MAX_LENGTH or depth > MAX_DEPTH:
        raise Rejected(f"the value grows beyond {MAX_LENGTH} items or {MAX_DEPTH} levels")
    if not isinstance(value, str):
        for item in value:
            _checked(item, depth + 1)
    return value


def _multiply(left: Any, right: Any) -> Any:
    """Multiply; a repetition is refused before it is carried out, since `'a' * 10**9` would fill the memory."""
    for many, times in ((left, right), (right, left)):
        if isinstance(many, (str, list, tuple)) and isinstance(times, int) and len(many) * times > MAX_LENGTH:
            raise Rejected(f"the value grows beyond {MAX_LENGTH} items")
    return left * right


def _power(left: Any, right: Any) -> Any:
    """Raise numbers to a small power."""
    if not isinstance(left, (int, float)) or not isinstance(right, int) or right < 0:
        raise Rejected("a power needs a number and a whole exponent from 0 on")
    if right > MAX_BITS or (isinstance(left, int) and left.bit_length() * right > 2 * MAX_BITS):
        raise Rejected(f"the number grows beyond {MAX_BITS} bits")
    return left**right


def _modulo(left: Any, right: Any) -> Any:
    """Take the remainder; the old string formatting by % is not in the subset."""
    if isinstance(left, (int, float)):
        return left % right
    raise Rejected("% is for numbers only")


def _text(value: Any) -> str:
    """Write a number as text."""
    if isinstance(value, (int, float, str)):
        return str(value)
    raise Rejected("str is for numbers and texts only")


def _replace(text: str, old: str, new: str) -> str:
    """Replace within the length cap, which is checked before the new text is built."""
    if len(text) + text.count(old) * len(new) > 4 * MAX_LENGTH:
        raise Rejected(f"the value grows beyond {MAX_LENGTH} items")
    return text.replace(old, new)


def _join(text: str, parts: list[str]) -> str:
    """Join within the length cap."""
    if sum(len(part) + len(text) for part in parts) > 2 * MAX_LENGTH:
        raise Rejected(f"the value grows beyond {MAX_LENGTH} items")
    return text.join(parts)


OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: _multiply, ast.FloorDiv: operator.floordiv, ast.Div: operator.truediv,
    ast.Mod: _modulo, ast.Pow: _power, ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Not: operator.not_,
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda left, right: left in right, ast.NotIn: lambda left, right: left not in right,
}  # fmt: skip
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "len": len, "sum": sum, "max": max, "min": min, "abs": abs, "sorted": sorted, "list": list,
    "reversed": lambda items: list(reversed(items)), "str": _text, "int": int,
}  # fmt: skip
METHODS: dict[str, Callable[..., Any]] = {
    "upper": str.upper, "lower": str.lower, "title": str.title, "capitalize": str.capitalize, "strip": str.strip,
    "lstrip": str.lstrip, "rstrip": str.rstrip, "split": str.split, "replace": _replace, "join": _join, "count": str.count,
    "startswith": str.startswith, "endswith": str.endswith, "find": str.find, "isdigit": str.isdigit, "isalpha": str.isalpha,
}  # fmt: skip


class _Frame:
    """One call under way: its variables and the steps it has left."""

    def __init__(self, function: ast.FunctionDef, args: list[Any]) -> None:
        names = [argument.arg for argument in function.args.args]
        if len(names) != len(args):
            raise Rejected(f"the function takes {len(names)} arguments, not {len(args)}")
        self.body = function.body
        self.names: dict[str, Any] = dict(zip(names, args, strict=True))
        self.left = MAX_STEPS

    def run(self) -> Any:
        """Walk the statements in order to the first return."""
        for statement in self.body:
            if isinstance(statement, ast.Return):
                return None if statement.value is None else self.value(statement.value)
            if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
                raise Rejected(f"a statement of type {type(statement).__name__} is not in the subset")
            target = statement.targets[0]
            if not isinstance(target, ast.Name):
                raise Rejected("only a plain name can be assigned")
            self.names[target.id] = self.value(statement.value)
        raise Rejected("the function ends without a return")

    def value(self, node: ast.AST, depth: int = 0) -> Any:
        """Work out one expression, counting the step and checking the result."""
        self.left -= 1
        if self.left < 0:
            raise Rejected(f"the function takes more than {MAX_STEPS} steps")
        if depth > MAX_DEPTH:
            raise Rejected(f"an expression nests deeper than {MAX_DEPTH} levels")
        walk: Callable[[Any, int], Any] | None = getattr(self, f"_{type(node).__name__.lower()}", None)
        if walk is None:
            raise Rejected(f"an expression of type {type(node).__name__} is not in the subset")
        result = walk(node, depth + 1)
        return self._charged(result) if isinstance(result, (list, tuple)) else _checked(result)

    def _charged(self, items: Any, depth: int = 0) -> Any:
        """Pay a step for every item, nested ones too: a list that twice holds one that twice holds another doubles each time."""
        self.left -= len(items)
        if self.left < 0:
            raise Rejected(f"the function takes more than {MAX_STEPS} steps")
        if len(items) > MAX_LENGTH or depth > MAX_DEPTH:
            raise Rejected(f"the value grows beyond {MAX_LENGTH} items or {MAX_DEPTH} levels")
        for item in items:
            if isinstance(item, (list, tuple)):
                self._charged(item, depth + 1)
            else:
                _checked(item)
        return items

    def _constant(self, node: ast.Constant, depth: int) -> Any:
        if not isinstance(node.value, (int, float, str, type(None))):
            raise Rejected(f"a constant of type {type(node.value).__name__} is not in the subset")
        return node.value

    def _name(self, node: ast.Name, depth: int) -> Any:
        if node.id not in self.names:
            raise Rejected(f"the name {node.id} was never assigned")
        return self.names[node.id]

    def _list(self, node: ast.List, depth: int) -> Any:
        return [self.value(item, depth) for item in node.elts]

    def _binop(self, node: ast.BinOp, depth: int) -> Any:
        return self._apply(node.op, self.value(node.left, depth), self.value(node.right, depth))

    def _unaryop(self, node: ast.UnaryOp, depth: int) -> Any:
        return self._apply(node.op, self.value(node.operand, depth))

    def _apply(self, kind: ast.AST, *operands: Any) -> Any:
        if type(kind) not in OPERATORS:
            raise Rejected(f"the operator {type(kind).__name__} is not in the subset")
        return OPERATORS[type(kind)](*operands)

    def _boolop(self, node: ast.BoolOp, depth: int) -> Any:
        stop_at = isinstance(node.op, ast.Or)
        for operand in node.values:
            if bool(result := self.value(operand, depth)) is stop_at:
                break
        return result

    def _compare(self, node: ast.Compare, depth: int) -> Any:
        left = self.value(node.left, depth)
        for kind, operand in zip(node.ops, node.comparators, strict=True):
            right = self.value(operand, depth)
            if not self._apply(kind, left, right):
                return False
            left = right
        return True

    def _ifexp(self, node: ast.IfExp, depth: int) -> Any:
        return self.value(node.body if self.value(node.test, depth) else node.orelse, depth)

    def _subscript(self, node: ast.Subscript, depth: int) -> Any:
        return self.value(node.value, depth)[self._place(node.slice, depth)]

    def _place(self, node: ast.AST, depth: int) -> Any:
        if not isinstance(node, ast.Slice):
            return self.value(node, depth)
        parts = (node.lower, node.upper, node.step)
        return slice(*(None if part is None else self.value(part, depth) for part in parts))

    def _listcomp(self, node: ast.ListComp | ast.GeneratorExp, depth: int) -> Any:
        return list(self._each(node, depth))

    _generatorexp = _listcomp

    def _each(self, node: ast.ListComp | ast.GeneratorExp, depth: int) -> Iterator[Any]:
        if (
            len(node.generators) != 1
            or not isinstance(node.generators[0].target, ast.Name)
            or node.generators[0].is_async
        ):
            raise Rejected("a comprehension runs one plain name over one list")
        loop = node.generators[0]
        name, outer = loop.target.id, dict(self.names)  # type: ignore[attr-defined]
        for item in self.value(loop.iter, depth):
            self.names[name] = item
            if all(self.value(test, depth) for test in loop.ifs):
                yield self.value(node.elt, depth)
        self.names = outer

    def _call(self, node: ast.Call, depth: int) -> Any:
        if any(word.arg != "reverse" for word in node.keywords) or any(
            isinstance(arg, ast.Starred) for arg in node.args
        ):
            raise Rejected("only plain arguments, and reverse=, are in the subset")
        args = [self.value(arg, depth) for arg in node.args]
        words = {str(word.arg): self.value(word.value, depth) for word in node.keywords}
        if isinstance(node.func, ast.Attribute):
            return self._method(node.func, depth)(self.value(node.func.value, depth), *args, **words)
        if not isinstance(node.func, ast.Name) or node.func.id not in FUNCTIONS:
            raise Rejected("only the listed functions can be called")
        return FUNCTIONS[node.func.id](*args, **words)

    def _method(self, node: ast.Attribute, depth: int) -> Callable[..., Any]:
        if node.attr not in METHODS:
            raise Rejected(f"the method {node.attr} is not in the subset")
        return METHODS[node.attr]
