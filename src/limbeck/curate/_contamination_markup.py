"""Texts as they are quoted: escapes of JSON, entities and tags of HTML put by what they stand for, byte for byte.

    b'Janet\\u2019s ducks.\\nShe &quot;sells&quot; <b>them</b>'
    b'Janet’   s ducks.  She       sells          them    '      the same length, so spans stay true

What is shorter than its escape is filled up with spaces, or within a word with characters of no width.
"""

from __future__ import annotations

import html
import re

import numpy as np
from numpy.typing import NDArray

_TAGS = (
    b"a b i u p em tt td tr th li ul ol br hr h1 h2 h3 h4 h5 h6 div pre sub sup span code body html head table strong section "
    b"blockquote"
)
_PATTERN = re.compile(
    rb"\\u[0-9a-fA-F]{4}|\\[nrt\"/]|&(?:[a-z]{2,8}|#[0-9]{2,5}|#x[0-9a-f]{2,4});"
    rb"|</?(?:" + b"|".join((_TAGS + b" " + _TAGS.upper()).split()) + rb")(?:\s[^<>]{0,200})?/?>"
)


def plain(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the bytes with escapes, entities and tags replaced; the same array where there are none."""
    begins = _FIRST[data]
    if data.size == 0 or not begins.any():
        return data
    # a byte that can begin one, and after it a byte that can go on: few enough to be looked at one by one
    places = np.flatnonzero((begins[:-1] & _SECOND[data[1:]]) != 0)
    raw, changed, done = data.tobytes(), data.copy(), 0
    for place in places.tolist():
        if place >= done and (match := _PATTERN.match(raw, place)):
            done = match.end()
            changed[place:done] = np.frombuffer(_replaced(match), dtype=np.uint8)
    return changed


def _table(*kinds: bytes) -> NDArray[np.uint8]:
    """Return for every byte a bit set for each of the kinds it is among."""
    table = np.zeros(256, dtype=np.uint8)
    for bit, kind in enumerate(kinds):
        table[list(kind)] |= 1 << bit
    return table


_LETTERS = b"abcdefghijklmnopqrstuvwxyz"
_FIRST = _table(b"\\", b"&", b"<")
_SECOND = _table(b'unrt"/', _LETTERS + b"#", _LETTERS + _LETTERS.upper() + b"/")


def _replaced(match: re.Match[bytes]) -> bytes:
    found = match[0]
    if found[:2] == b"\\u":
        return _fitted(chr(int(found[2:], 16)), len(found))
    if found[:1] == b"&":
        return _fitted(html.unescape(found.decode()), len(found))
    return b" " * len(found)


def _fitted(character: str, size: int) -> bytes:
    """Return the character's bytes filled up to `size`: with nothing visible for what belongs to a word, else with spaces."""
    try:
        code = character.encode("utf-8")
    except UnicodeEncodeError:  # one half of a pair
        return b" " * size
    if len(character) != 1 or len(code) > size:
        return b" " * size
    rest = size - len(code)
    joined = character.isalnum() or character in "'\u2019"
    if not joined or rest == 1:
        return code + b" " * rest
    threes = rest % 2
    return code + "\u200b".encode() * threes + "\u00ad".encode() * ((rest - 3 * threes) // 2)
