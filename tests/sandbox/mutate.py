"""Break a right solution in a small way: a number off by one, a comparison turned, a wrong return, a loop that never ends.

    mutants("def f(x):\\n    return x + 1", "f")      # the source with `x + 2`, with `return None`, with `x - 1`, ...

Mutants come with the subtle ones first. Some are equal to the original (a bound that is never reached), so a test takes the first
that its problem's own tests can tell; the last is always one they can.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator

TURNED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.And: ast.Or, ast.Or: ast.And, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip


def mutants(source: str) -> Iterator[str]:
    """Yield broken versions of a source, one change each."""
    for change in (_off_by_one, _turned, _wrong_return):
        for place in range(sum(1 for _ in ast.walk(ast.parse(source)))):
            tree = ast.parse(source)
            if change(list(ast.walk(tree))[place]):
                yield ast.unparse(tree)


def endless(source: str) -> str:
    """Return the source with every function looping for ever, and with a loop at its end if it has none."""
    tree = ast.parse(source)
    loop = ast.parse("while True: pass").body[0]
    found = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.Lambda))]
    for node in found:
        if isinstance(node, ast.FunctionDef):
            node.body.insert(0, copy.deepcopy(loop))
    if not any(isinstance(node, ast.FunctionDef) for node in found):
        tree.body.append(loop)
    return ast.unparse(ast.fix_missing_locations(tree))


def _off_by_one(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        node.value += 1
        return True
    return False


def _turned(node: ast.AST) -> bool:
    if isinstance(node, ast.Compare) and type(node.ops[0]) in TURNED:
        node.ops[0] = TURNED[type(node.ops[0])]()  # type: ignore[assignment]
        return True
    if isinstance(node, (ast.BinOp, ast.BoolOp)) and type(node.op) in TURNED:
        node.op = TURNED[type(node.op)]()  # type: ignore[assignment]
        return True
    return False


def _wrong_return(node: ast.AST) -> bool:
    if isinstance(node, ast.Return) and node.value is not None:
        wrong: Callable[[str], ast.expr] = lambda text: ast.parse(text, mode="eval").body  # noqa: E731
        node.value = wrong("'wrong'")
        return True
    return False
