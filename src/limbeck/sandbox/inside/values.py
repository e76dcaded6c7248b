"""Plain values on their way out of a candidate's process, and back into values where they are compared.

    encode((1, 2.0, {"a"}))                         {"t": [1, 2.0, {"s": ["a"]}]}
    decode({"t": [1, 2.0, {"s": ["a"]}]})           (1, 2.0, {"a"})
    encode(SomethingAlwaysEqual())                  raises NotPlain: it is never sent

JSON carries None, booleans, text, lists, floats and small integers as they are; every other type has a tag. Only *exact* types are
plain: a subclass of int may say it equals anything, so it is not sent as an int. What comes out of `decode` is made of the
decoder's own types, whatever the sender did to its own. Depth, number of values and hash collisions are capped.
"""

from __future__ import annotations

import collections
import datetime
import decimal
import fractions
from collections.abc import Callable, Iterable
from typing import Any

MAX_DEPTH = 60
"""How deep values may nest."""
MAX_VALUES = 100_000
"""How many values one may hold, itself included."""
MAX_KEYS = 20_000
"""How many members a set or keys a dictionary may hold."""
MAX_SAME_HASH = 64
"""How many of them may share a hash: more is an attack on whoever builds the set."""
SMALL = 1 << 53
"""Integers from here on travel in hexadecimal."""


class NotPlain(Exception):
    """The value can not be sent as plain data; the message names its type or the cap it breaks."""


class TooLarge(NotPlain):
    """The value is plain, and more than may be sent."""


class Malformed(Exception):
    """What arrived was not made by `encode`."""


def encode(value: Any, other: Callable[[Any], Any] | None = None) -> Any:
    """Return the JSON form of a plain value. `other` is asked for the form of what is not plain; by default that is refused."""
    return _Encoder(other).form(value, 0)


class _Encoder:
    """One value on its way out, with its count."""

    def __init__(self, other: Callable[[Any], Any] | None) -> None:
        self.left = MAX_VALUES
        self.other = other

    def form(self, value: Any, depth: int) -> Any:
        """Return the form of one value."""
        self.left -= 1
        if self.left < 0:
            raise TooLarge(f"a value of more than {MAX_VALUES} parts")
        if depth > MAX_DEPTH:
            raise TooLarge(f"a value nested deeper than {MAX_DEPTH} levels")
        kind = type(value)
        if value is None or kind is bool or kind is str:
            return value
        if kind is int:
            return value if -SMALL < value < SMALL else {"i": hex(value)}
        if kind is float:
            return value if value - value == 0.0 else {"f": float.__repr__(value)}
        if kind is type and value in _TYPES:
            return {"ty": _TYPES[value]}
        if kind is list:
            return self._all(value, depth)
        if kind in _MANY:
            return {_MANY[kind]: self._all(value, depth)}
        if kind in _PAIRS:
            return {_PAIRS[kind]: [self._all(pair, depth) for pair in dict.items(value)]}
        if kind in _PARTS:
            tag, parts = _PARTS[kind]
            return {tag: self._all(parts(value), depth)}
        if self.other is None:
            raise NotPlain(f"a value of type {kind.__name__}"[:200])
        return self.other(value)

    def _all(self, values: Iterable[Any], depth: int) -> list[Any]:
        return [self.form(value, depth + 1) for value in values]


_TYPES: dict[type, str] = {
    kind: kind.__name__
    for kind in (bool, int, float, complex, str, bytes, list, tuple, set, frozenset, dict, type(None), object)
}
_TYPE_NAMED = {name: kind for kind, name in _TYPES.items()}
_MANY: dict[type, str] = {tuple: "t", set: "s", frozenset: "z", collections.deque: "q"}
_PAIRS: dict[type, str] = {
    dict: "d",
    collections.OrderedDict: "od",
    collections.Counter: "n",
    collections.defaultdict: "dd",
}
_PARTS: dict[type, tuple[str, Callable[[Any], Iterable[Any]]]] = {
    bytes: ("b", lambda value: [value.hex()]),
    bytearray: ("ba", lambda value: [value.hex()]),
    complex: ("c", lambda value: [value.real, value.imag]),
    range: ("r", lambda value: [value.start, value.stop, value.step]),
    decimal.Decimal: ("m", lambda value: [str(value)]),
    fractions.Fraction: ("fr", lambda value: [value.numerator, value.denominator]),
    datetime.date: ("day", lambda value: [value.toordinal()]),
    datetime.datetime: ("dt", lambda value: [value.isoformat()]),
    datetime.timedelta: ("td", lambda value: [value.days, value.seconds, value.microseconds]),
}


def decode(form: Any, other: Callable[[Any], Any] | None = None) -> Any:
    """Return the value of a form. `other` is asked for the value of `{"h": …}`. Raises Malformed."""
    try:
        return _decode(form, other, 0)
    except (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, MemoryError) as fault:
        raise Malformed(f"not a value: {type(fault).__name__}") from None


def _decode(form: Any, other: Callable[[Any], Any] | None, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise Malformed(f"a value nested deeper than {MAX_DEPTH} levels")
    if form is None or isinstance(form, (bool, int, float, str)):
        return form
    if isinstance(form, list):
        return [_decode(item, other, depth + 1) for item in form]
    ((tag, body),) = form.items()
    if tag == "h" and other is not None:
        return other(body)
    if tag == "i":
        return int(_text(body), 16)
    if tag == "f":
        return {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}[body]
    if tag == "ty":
        return _TYPE_NAMED[body]
    if tag in _PAIR_MAKERS:
        pairs = [tuple(_decode(pair, other, depth + 1)) for pair in body]
        _no_collisions([key for key, _ in pairs])
        return _PAIR_MAKERS[tag](pairs)
    return _MAKERS[tag]([_decode(item, other, depth + 1) for item in body])


def _text(value: Any) -> str:
    """Return a short text as it is; anything else is malformed."""
    if not isinstance(value, str) or len(value) > 1 << 19:
        raise Malformed("a text was expected")
    return value


def _no_collisions(keys: list[Any]) -> list[Any]:
    """Return hashable keys unless so many share a hash that building a set of them would hang."""
    if len(keys) > MAX_KEYS:
        raise Malformed(f"more than {MAX_KEYS} keys")
    shared = collections.Counter(hash(key) for key in keys)
    if shared and max(shared.values()) > MAX_SAME_HASH:
        raise Malformed("keys made to collide")
    return keys


def _counter(pairs: list[Any]) -> Any:
    made: collections.Counter[Any] = collections.Counter()
    for key, value in pairs:
        made[key] = value
    return made


def _defaultdict(pairs: list[Any]) -> Any:
    return collections.defaultdict(None, pairs)


_PAIR_MAKERS: dict[str, Callable[[list[Any]], Any]] = {
    "d": dict,
    "od": collections.OrderedDict,
    "n": _counter,
    "dd": _defaultdict,
}
_MAKERS: dict[str, Callable[[list[Any]], Any]] = {
    "t": tuple,
    "s": lambda items: set(_no_collisions(items)),
    "z": lambda items: frozenset(_no_collisions(items)),
    "q": collections.deque,
    "b": lambda items: bytes.fromhex(_text(items[0])),
    "ba": lambda items: bytearray.fromhex(_text(items[0])),
    "c": lambda items: complex(float(items[0]), float(items[1])),
    "r": lambda items: range(*items),
    "m": lambda items: decimal.Decimal(_text(items[0])[:2000]),
    "fr": lambda items: fractions.Fraction(*items),
    "day": lambda items: datetime.date.fromordinal(items[0]),
    "dt": lambda items: datetime.datetime.fromisoformat(_text(items[0])),
    "td": lambda items: datetime.timedelta(*items),
}
