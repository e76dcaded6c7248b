"""Compare a value that came out of a candidate's process with the expected one, by exact type.

    difference(5, 5)            None
    difference(5, 5.0)          'expected 5 (int), got 5.0 (float)'
    difference(0.3, 0.1 + 0.2)  None          within the tolerance
    difference([1, 2], (1, 2))  'expected [1, 2] (list), got (1, 2) (tuple)'

Integers never equal floats, True is not 1, and a list is not a tuple, at any depth. Floats may differ by a relative tolerance, or
by that much absolutely where the expected one is exactly 0; NaN equals NaN.
"""

from __future__ import annotations

import collections
import math
from typing import Any

TOLERANCE = 1e-9
"""Relative difference at which floats still count as equal, unless the caller says otherwise."""
SHOWN = 120
"""Characters of a value in a message."""


def difference(expected: Any, got: Any, tolerance: float = TOLERANCE) -> str | None:
    """Return None for equal values, else a sentence on where they differ."""
    if type(expected) is not type(got):
        return f"expected {show(expected)} ({type(expected).__name__}), got {show(got)} ({type(got).__name__})"
    return None if _same(expected, got, tolerance) else f"expected {show(expected)}, got {show(got)}"


def show(value: Any) -> str:
    """Write a value, cut short."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python cares to write
        text = hex(value) if isinstance(value, int) else type(value).__name__
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _same(expected: Any, got: Any, tolerance: float) -> bool:
    kind = type(expected)
    if kind is not type(got):
        return False
    if kind is float:
        return _close(expected, got, tolerance)
    if kind is complex:
        return _close(expected.real, got.real, tolerance) and _close(expected.imag, got.imag, tolerance)
    if kind in (list, tuple, collections.deque):
        return len(expected) == len(got) and all(_same(a, b, tolerance) for a, b in zip(expected, got, strict=True))
    if kind in (set, frozenset):
        return {typed(item) for item in expected} == {typed(item) for item in got}
    if isinstance(expected, dict):
        return _same_dictionaries(expected, got, tolerance)
    return bool(expected == got)


def _close(expected: float, got: float, tolerance: float) -> bool:
    if math.isnan(expected) or math.isnan(got):
        return math.isnan(expected) and math.isnan(got)
    if expected == 0.0:
        return abs(got) <= tolerance
    return math.isclose(expected, got, rel_tol=tolerance)


def _same_dictionaries(expected: dict[Any, Any], got: dict[Any, Any], tolerance: float) -> bool:
    """Compare by key, whatever the order; an OrderedDict has an order."""
    if isinstance(expected, collections.OrderedDict) and [*map(typed, expected)] != [*map(typed, got)]:
        return False
    theirs = {typed(key): value for key, value in got.items()}
    return len(expected) == len(theirs) and all(
        typed(key) in theirs and _same(value, theirs[typed(key)], tolerance) for key, value in expected.items()
    )


def typed(value: Any) -> Any:
    """Return a hashable value with the types in it, so that 1, 1.0 and True are three different keys."""
    if isinstance(value, tuple):
        return ("tuple", *map(typed, value))
    if isinstance(value, frozenset):
        return ("frozenset", frozenset(map(typed, value)))
    return (type(value).__name__, value)
