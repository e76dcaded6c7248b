"""The tokeniser itself, compiled: UTF-8 bytes in, one 64-bit hash a token out. See `_tokens` for what a token is."""

from __future__ import annotations

from typing import Any

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
    NEWLINE,
    OPEN,
    OPERATOR,
    OTHER,
    PLANES,
    SEVERAL,
    SINGLE,
    SPACE,
)

BASIS = np.uint64(0xCBF29CE484222325)
PRIME = np.uint64(0x9E3779B97F4A7C15)
LOWER = np.uint64(0x2020202020202020)
"""Makes eight ASCII letters lower-case and leaves digits as they are."""
WIDE = np.uint64(1 << 63)
"""Marks a character beyond ASCII, so that no eight ASCII letters hash like it."""
signed: Any = np.int64
"""Makes an unsigned number an int; `int` would leave it unsigned under numba, and the sum of the two would be a float."""
UNSURE, IN_WORD, BLANK, BREAK = range(4)
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
def eight(data: Bytes, at: int) -> np.uint64:
    """Return the eight bytes from `at` on as one number, the first the lowest, with zeros after the end; the data has eight."""
    begin = min(at, data.size - 8)
    b = np.uint64(begin)  # unsigned, so that no index is looked at for being negative; all of it becomes one read
    return (
        np.uint64(data[b])
        | np.uint64(data[b + np.uint64(1)]) << np.uint64(8)
        | np.uint64(data[b + np.uint64(2)]) << np.uint64(16)
        | np.uint64(data[b + np.uint64(3)]) << np.uint64(24)
        | np.uint64(data[b + np.uint64(4)]) << np.uint64(32)
        | np.uint64(data[b + np.uint64(5)]) << np.uint64(40)
        | np.uint64(data[b + np.uint64(6)]) << np.uint64(48)
        | np.uint64(data[b + np.uint64(7)]) << np.uint64(56)
    ) >> np.uint64(8 * (at - begin))


@compiled
def decoded(chunk: np.uint64, left: int) -> tuple[int, int]:
    """Return the code point that eight bytes begin with and how many it has; a stray one of the `left` stands for itself."""
    byte = np.uint64(0xFF)
    lead, second = signed(chunk & byte), signed(chunk >> np.uint64(8) & byte)
    third, fourth = signed(chunk >> np.uint64(16) & byte), signed(chunk >> np.uint64(24) & byte)
    if lead < 0x80:
        return lead, 1
    if 0xC0 <= lead < 0xE0 and left > 1:
        return (lead & 0x1F) << 6 | (second & 0x3F), 2
    if 0xE0 <= lead < 0xF0 and left > 2:
        return (lead & 0x0F) << 12 | (second & 0x3F) << 6 | (third & 0x3F), 3
    if lead >= 0xF0 and left > 3:
        return (lead & 0x07) << 18 | (second & 0x3F) << 12 | (third & 0x3F) << 6 | (fourth & 0x3F), 4
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
    """Write one token down and return how many there are now; places go into arrays of one where nobody wants them."""
    hashes[filled] = mixed(value)
    place = min(filled, begins.size - 1)
    begins[place], ends[place] = begin, end
    return filled + 1


@compiled
def classes_of(fold: NDArray[np.uint32], kinds: NDArray[np.uint8], operators: bool) -> NDArray[np.uint8]:
    """Return for every byte what it is outside a word: IN_WORD, BLANK, BREAK (parts operands), or UNSURE."""
    table = np.full(256, UNSURE, dtype=np.uint8)
    for byte in range(128):
        kind = kinds[fold[byte]]
        if kind in (LETTER, DIGIT):
            table[byte] = IN_WORD
        elif kind == SPACE:
            table[byte] = BLANK
        elif kind in (OTHER, NEWLINE, APOSTROPHE) or (kind == OPERATOR and not operators):
            table[byte] = BREAK
    return table


@compiled
def leading(value: np.uint64) -> int:
    """Return how many of eight bytes, from the lowest, are ASCII letters or digits, up to the first that is not."""
    low, high = np.uint64(0x7F7F7F7F7F7F7F7F), np.uint64(0x8080808080808080)
    # a byte of 7 bits plus 0x80 - c has its high bit set if it is at least c; letters are looked at in lower case
    letter, digit = (value | LOWER) & low, value & low
    letters = (letter + np.uint64(0x1F1F1F1F1F1F1F1F)) & ~(letter + np.uint64(0x0505050505050505))
    digits = (digit + np.uint64(0x5050505050505050)) & ~(digit + np.uint64(0x4646464646464646))
    outside = ~((letters | digits) & ~value) & high
    if outside == 0:
        return 8
    first = (outside & (~outside + np.uint64(1))) >> np.uint64(7)
    count: int = signed((first * np.uint64(0x0001020304050607)) >> np.uint64(56))
    return count


@compiled
def ascii_run(data: Bytes, at: int, end: int, ahead: np.uint64) -> tuple[np.uint64, np.uint64, int, np.uint64, int]:
    """Hash the ASCII letters and digits that begin at `at`; return state, waiting chunk, its bytes, those seen last, the end."""
    state, held = BASIS, min(leading(ahead), end - at)
    while held == 8:
        state, at = mixed(state ^ (ahead | LOWER)), at + 8
        ahead = eight(data, min(at, data.size - 1))
        held = min(leading(ahead), end - at)
    chunk = (ahead | LOWER) & ((np.uint64(1) << np.uint64(8 * held)) - np.uint64(1))
    return state, chunk, held, ahead, at + held


@compiled
def scan_piece(
    data: Bytes, start: int, end: int, tables: Tables, classes: Bytes, operators: bool, filled: int, out: Out
) -> int:
    """Append the tokens of `data[start:end]` and return how many there are now, or -1 when they do not fit."""
    (fold, expansion, kinds), (hashes, begins, ends), at, room = tables, out, start, out[0].size
    # `state` is the hash so far, `chunk` waits with `held` bytes; left: the operand last seen on this line; gap: white space after
    inside, state, chunk, held = False, BASIS, np.uint64(0), 0
    begin, close, joining, left, gap = start, start, False, 0, False
    # an operator that waits for its right operand: its first character, bytes (0: there is none), left operand, ...
    sign, length, sign_left, gap_before, sign_at, value = 0, 0, 0, False, start, np.uint64(0)
    while at < end:
        if filled + 4 > room:
            return -1
        ahead = eight(data, at)
        found = classes[ahead & np.uint64(0xFF)]
        if not inside and found != UNSURE:  # most of most texts: ASCII words with something between them
            if found == BLANK:
                gap, at = True, at + 1
                continue
            if found == BREAK:
                length, left, gap, at = 0, 0, False, at + 1
                continue
            if length > 0 and counts(sign, length, sign_left, int(kinds[data[at]]), gap_before, gap):
                filled = put(value, sign_at - start, sign_at + length - start, filled, hashes, begins, ends)
            begin = at
            state, chunk, held, ahead, close = ascii_run(data, at, end, ahead)
            at, length, left, gap = close, 0, int(kinds[data[close - 1]]), False
            after = ahead >> np.uint64(8 * held) & np.uint64(0xFF)
            if at < end and (after >= 0x80 or after == 0x27):  # the word may go on
                inside = True
            else:
                filled = put(state ^ chunk, begin - start, close - start, filled, hashes, begins, ends)
            continue
        point, width = decoded(ahead, end - at)
        folded = int(fold[point]) if point < PLANES else point
        several, place = (folded & 0xFF, (folded >> 8) & 0x7FFFFF) if folded & SEVERAL else (1, 0)
        if filled + 2 * several + 2 > room:
            return -1
        for step in range(several):
            character = int(expansion[place + step]) if folded & SEVERAL else folded
            kind = int(kinds[character]) if character < PLANES else SINGLE
            fed = (BASIS ^ np.uint64(character)) * PRIME
            if kind in (LETTER, DIGIT) or (kind == MARK and inside):
                if joining and kind == DIGIT:  # an apostrophe between a letter and a digit parts them
                    filled = put(state ^ chunk, begin - start, close - start, filled, hashes, begins, ends)
                    inside = False
                if not inside:
                    if length > 0 and counts(sign, length, sign_left, kind, gap_before, gap):
                        filled = put(value, sign_at - start, sign_at + length - start, filled, hashes, begins, ends)
                    inside, begin, length, state, chunk, held = True, at, 0, BASIS, np.uint64(0), 0
                state, chunk, held = longer(state, chunk, held, character)
                close, joining, gap, left = at + width, False, False, kind
                continue
            apostrophe = kind == APOSTROPHE and left == LETTER and inside and not joining
            if kind in (IGNORED, MARK) or apostrophe:
                joining = joining or apostrophe
                continue
            if inside:
                filled = put(state ^ chunk, begin - start, close - start, filled, hashes, begins, ends)
                inside, joining, left = False, False, 0 if joining else left
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
            else:  # a bracket that opens is an operand as good as any: 3 * (x + 1)
                if kind == OPEN and length > 0 and counts(sign, length, sign_left, LETTER, gap_before, gap):
                    filled = put(value, sign_at - start, sign_at + length - start, filled, hashes, begins, ends)
                length, left, gap = 0, left if kind == CLOSE else 0, False
        at += width
    return put(state ^ chunk, begin - start, close - start, filled, hashes, begins, ends) if inside else filled


@compiled
def longer(state: np.uint64, chunk: np.uint64, held: int, character: int) -> tuple[np.uint64, np.uint64, int]:
    """Return the hash of a word with one more character, as it is read by eights where all are ASCII."""
    if character >= 0x80:
        if held > 0:
            state = mixed(state ^ chunk)
        return mixed(state ^ (np.uint64(character) | WIDE)), np.uint64(0), 0
    chunk |= np.uint64(character) << np.uint64(8 * held)
    if held == 7:
        return mixed(state ^ chunk), np.uint64(0), 0
    return state, chunk, held + 1


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
    filled, classes = 0, classes_of(tables[0], tables[2], operators)
    for p in range(starts.size):
        filled = scan_piece(data, starts[p], ends[p], tables, classes, operators, filled, out)
        if filled < 0:
            return -1
        until[p] = filled
    return filled
