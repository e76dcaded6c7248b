"""What a character is to the tokeniser: its folded form and its kind, as two tables over Unicode.

    'É' -> 'e'     (compatibility form, lower case, mark dropped unless diacritics are kept)
    '’' -> "'"     '−' and '–' -> '-'     U+00A0 -> space     'ﬁ' -> 'f' 'i'     '½' -> '1' '/' '2'
    '²' -> '²'     (10² is not 102: raised and lowered characters are left as they are)

Decomposed forms are used (NFKD), so that a letter and its mark hash alike whether they came as one code point or as two.
The tables cover the first two planes; what lies beyond (rare ideographs) stands for itself.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

OTHER, SPACE, NEWLINE, LETTER, DIGIT, SINGLE, MARK, IGNORED, OPERATOR, OPEN, CLOSE, APOSTROPHE = range(12)
"""The kinds of characters: SINGLE is a token by itself (scripts without spaces, emoji), IGNORED is as if it were not there."""

PLANES = 0x20000
SEVERAL = 0x80000000
"""Set in `fold` where a character becomes several or none: bits 8-30 say where they stand in `expansion`, bits 0-7 how many."""

_ALIKE = {
    **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u02bc\u02b9\uff07", "'"),
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe63\uff0d", "-"),
    "\u2044": "/",
    "\u2215": "/",
    "\u00d7": "*",
    "\u22c5": "*",
    "\u2217": "*",
    "\u2236": ":",
}
_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x3400, 0x4DBF),  # ideographs
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x1F300, 0x1FAFF),  # emoji
)


class Folding(NamedTuple):
    """The tables: `fold[character]`, `expansion` of those that become several, and `kind[folded character]`."""

    fold: NDArray[np.uint32]
    expansion: NDArray[np.uint32]
    kind: NDArray[np.uint8]


@cache
def folding(diacritics: bool = False) -> Folding:
    """Return the tables; `diacritics` keeps accents (é is not e). Made in about a tenth of a second, once a process."""
    folded = _folded_characters()
    fold = np.arange(PLANES, dtype=np.uint32)
    expansion: list[int] = []
    for character, text in enumerate(folded):
        if len(text) == 1:
            fold[character] = ord(text)
        else:
            fold[character] = SEVERAL | len(expansion) << 8 | len(text)
            expansion += map(ord, text)
    return Folding(fold, np.array(expansion, dtype=np.uint32), _kinds(diacritics))


def _folded_characters() -> list[str]:
    # one call for all: a line break neither composes nor folds, so it parts what was joined
    every = "\n".join(chr(c) if c != 0x0A and not 0xD800 <= c < 0xE000 else " " for c in range(PLANES))
    once = unicodedata.normalize("NFKD", every).casefold()
    folded = unicodedata.normalize("NFKD", once).split("\n")
    folded[0x0A] = "\n"
    for alike, plain in _ALIKE.items():
        folded[ord(alike)] = plain
    for character in range(0x80, PLANES):
        if unicodedata.decomposition(chr(character)).startswith(("<super>", "<sub>")):
            folded[character] = chr(character)
        elif len(folded[character]) > 1 and "\u2044" in folded[character]:
            folded[character] = folded[character].replace("\u2044", "/")
    return folded


def _kinds(diacritics: bool) -> NDArray[np.uint8]:
    by_category = {"L": LETTER, "N": DIGIT, "M": MARK, "Z": SPACE}
    exact = {"Sm": OPERATOR, "Cf": IGNORED, "Zl": NEWLINE, "Zp": NEWLINE, "Ps": OPEN, "Pe": CLOSE}
    categories = [unicodedata.category(chr(character)) for character in range(PLANES)]
    kind = np.array([exact.get(c, by_category.get(c[0], OTHER)) for c in categories], dtype=np.uint8)
    for first, last in _UNSPACED:
        named = kind[first : last + 1]
        wanted = np.ones_like(named, dtype=bool) if first >= 0x1F300 else (named == LETTER) | (named == MARK)
        named[wanted] = SINGLE
    for kinds, characters in (
        (SPACE, " \t\x0b\x0c"),
        (NEWLINE, "\n\r\x85"),
        (OPERATOR, "+-*/=<>^%"),
        (OTHER, "|~"),  # in tables and paths far more often than in formulas
        (APOSTROPHE, "'"),
    ):
        for character in characters:
            kind[ord(character)] = kinds
    kind[0xFE00:0xFE10] = IGNORED  # variation selectors
    if not diacritics:
        kind[0x0300:0x0370] = IGNORED
    return kind
