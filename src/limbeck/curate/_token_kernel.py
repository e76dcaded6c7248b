"""The tokeniser itself, compiled: UTF-8 bytes in, one 64-bit hash a token out. See `_tokens` for what a token is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from limbeck.curate._compile import compiled
from limbeck.curate._fold import (
    APOSTROPHE,
    CLOSE,
    DIGIT,
    IGNORED,
    LETTER,
    MARK,
    OPEN,
    OPERATOR,
    PLANES,
    SEVERAL,
    SINGLE,
    SPACE,
)

BASIS = np.uint64(0xCBF29CE484222325)
PRIME = np.uint64(0x9E3779B97F4A7C15)
MINUS, SLASH, STAR, LESS, MORE, PERCENT = (ord(c) for c in "-/*<>%")

Bytes = NDArray[np.uint8]
Hashes = NDArray[np.uint64]
Places = NDArray[np.uint32]
Tables = tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.uint8]]
"""Fold, expansion and kinds of `_fold`."""
Out = tuple[Hashes, Places, Places]
"""Hashes, begins and ends of tokens."""


@compiled
def mixed(value: np.uint64) -> np.uint64:
    """Return the value with every bit depending on every bit: the finaliser of MurmurHash3."""
    value ^= value >> np.uint64(33)
    value *= np.uint64(0xFF51AFD7ED558CCD)
    value ^= value >> np.uint64(33)
    value *= np.uint64(0xC4CEB9FE1A85EC53)
    value ^= value >> np.uint64(33)
    return value


@compiled
def decoded(data: NDArray[np.uint8], at: int, end: int) -> tuple[int, int]:
    """Return the code point that begins at `at` and how many bytes it has; a stray byte stands for itself."""
    lead = int(data[at])
    if lead < 0x80:
        return lead, 1
    if 0xC0 <= lead < 0xE0 and at + 1 < end:
        return (lead & 0x1F) << 6 | (int(data[at + 1]) & 0x3F), 2
    if 0xE0 <= lead < 0xF0 and at + 2 < end:
        return (lead & 0x0F) << 12 | (int(data[at + 1]) & 0x3F) << 6 | (int(data[at + 2]) & 0x3F), 3
    if lead >= 0xF0 and at + 3 < end:
        high = (lead & 0x07) << 18 | (int(data[at + 1]) & 0x3F) << 12
        return high | (int(data[at + 2]) & 0x3F) << 6 | (int(data[at + 3]) & 0x3F), 4
    return lead, 1


@compiled
def counts(sign: int, length: int, left: int, right: int, gap_before: bool, gap_after: bool) -> bool:
    """Say whether an operator between two operands is a token: `3 + 5`, `x=1`, `-15`, but no bullet, tag or hyphen."""
    number = left == DIGIT or right == DIGIT
    if gap_before != gap_after or left == 0:
        return sign == MINUS and length == 1 and right == DIGIT and not gap_after
    if sign in (MINUS, SLASH):
        return number
    if sign in (STAR, LESS, MORE) and not gap_before:
        return number
    return sign != PERCENT or number


@compiled
def put(value: np.uint64, begin: int, end: int, filled: int, hashes: Hashes, begins: Places, ends: Places) -> int:
    """Write one token down and return how many there are now."""
    hashes[filled] = mixed(value)
    if begins.size:
        begins[filled], ends[filled] = begin, end
    return filled + 1


@compiled
def ascii_words(fold: NDArray[np.uint32], kinds: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the folded letter or digit of every byte that is one, else 0."""
    table = np.zeros(256, dtype=np.uint8)
    for byte in range(128):
        if kinds[byte] == LETTER or kinds[byte] == DIGIT:
            table[byte] = fold[byte]
    return table


@compiled
def scan_piece(
    data: Bytes, start: int, end: int, tables: Tables, plain: Bytes, operators: bool, filled: int, out: Out
) -> int:
    """Append the tokens of `data[start:end]` and return how many there are now, or -1 when they do not fit."""
    (fold, expansion, kinds), (hashes, begins, ends), at, room = tables, out, start, out[0].size
    # word 0: not within a word; left: the operand last seen on this line; gap: whether white space followed it
    word, begin, close, joining, left, gap = np.uint64(0), start, start, False, 0, False
    # an operator that waits for its right operand: its first character, bytes (0: there is none), left operand, ...
    sign, length, sign_left, gap_before, sign_at, value = 0, 0, 0, False, start, np.uint64(0)
    while at < end:
        if word == 0 and data[at] == 0x20:
            gap, at = True, at + 1
            continue
        if word == 0 and length == 0 and plain[data[at]] != 0:
            if filled + 4 > room:
                return -1
            word, begin, gap = BASIS, at, False
        else:
            point, width = decoded(data, at, end)
            folded = int(fold[point]) if point < PLANES else point
            several, place = (folded & 0xFF, (folded >> 8) & 0x7FFFFF) if folded & SEVERAL else (1, 0)
            if filled + 2 * several + 2 > room:
                return -1
            for step in range(several):
                character = int(expansion[place + step]) if folded & SEVERAL else folded
                kind = int(kinds[character]) if character < PLANES else SINGLE
                fed = (BASIS ^ np.uint64(character)) * PRIME
                if kind in (LETTER, DIGIT) or (kind == MARK and word != 0):
                    if joining and kind == DIGIT:  # an apostrophe between a letter and a digit parts them
                        filled = put(word, begin - start, close - start, filled, hashes, begins, ends)
                        word = np.uint64(0)
                    if word == 0:
                        if length > 0 and counts(sign, length, sign_left, kind, gap_before, gap):
                            filled = put(value, sign_at - start, sign_at + length - start, filled, hashes, begins, ends)
                        word, begin, length = BASIS, at, 0
                    word = (word ^ np.uint64(character)) * PRIME
                    close, joining, gap, left = at + width, False, False, kind
                    continue
                apostrophe = kind == APOSTROPHE and left == LETTER and word != 0 and not joining
                if kind in (IGNORED, MARK) or apostrophe:
                    joining = joining or apostrophe
                    continue
                if word != 0:
                    filled = put(word, begin - start, close - start, filled, hashes, begins, ends)
                    word, joining, left = np.uint64(0), False, 0 if joining else left
                if kind == SPACE:
                    gap = True
                elif kind == SINGLE:
                    if length > 0 and counts(sign, length, sign_left, LETTER, gap_before, gap):
                        filled = put(value, sign_at - start, sign_at + length - start, filled, hashes, begins, ends)
                    filled = put(fed, at - start, at + width - start, filled, hashes, begins, ends)
                    length, left, gap = 0, LETTER, False
                elif kind == OPERATOR and operators and length > 0 and not gap:  # ==, **, <=
                    length, value = length + width, (value ^ np.uint64(character)) * PRIME
                elif kind == OPERATOR and operators and character == PERCENT and left == DIGIT and not gap:
                    filled = put(fed, at - start, at + width - start, filled, hashes, begins, ends)
                elif kind == OPERATOR and operators:
                    sign, length, sign_left, sign_at = character, width, left, at
                    gap_before, value, gap = gap, fed, False
                else:
                    # a bracket that opens is an operand as good as any: 3 * (x + 1)
                    if kind == OPEN and length > 0 and counts(sign, length, sign_left, LETTER, gap_before, gap):
                        filled = put(value, sign_at - start, sign_at + length - start, filled, hashes, begins, ends)
                    length, left, gap = 0, left if kind == CLOSE else 0, False
            at += width
        if word != 0 and not joining:
            before = at  # the rest of the word, and ASCII words with single spaces between them: most of most texts
            while at < end:
                if plain[data[at]] != 0:
                    word = (word ^ np.uint64(plain[data[at]])) * PRIME
                    at += 1
                elif data[at] == 0x20 and filled + 4 < room and at + 1 < end and plain[data[at + 1]] != 0:
                    filled, at = put(word, begin - start, at - start, filled, hashes, begins, ends), at + 1
                    word, begin = BASIS, at
                else:
                    break
            if at > before:
                close, left = at, int(kinds[data[at - 1]])
    return put(word, begin - start, close - start, filled, hashes, begins, ends) if word != 0 else filled


@compiled
def scan(
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    tables: Tables,
    operators: bool,
    out: Out,
    until: NDArray[np.int64],
) -> int:
    """Fill the hashes of `out`, and its spans in bytes from the piece's start unless they are empty; piece p ends at `until[p]`.

    Returns how many tokens there are, or -1 when they do not fit.
    """
    filled, plain = 0, ascii_words(tables[0], tables[2])
    for p in range(starts.size):
        filled = scan_piece(data, starts[p], ends[p], tables, plain, operators, filled, out)
        if filled < 0:
            return -1
        until[p] = filled
    return filled
