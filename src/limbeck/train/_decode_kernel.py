"""What decoding does beside its matrix products, compiled: normalise, attend, gate and draw, each in one pass over memory.

    mixed    [T, (heads + 2 groups) width]   queries, keys and values of T tokens as the projection gives them
    rows     [T]                             whose tokens they are; those of one row in their order
    places   [T]                             where each stands in its row: its key goes there, and it looks back at all before
    turns    [room, 2 width]                 cosines and sines of each place
    keys     [rows, groups, width, room]     positions last, so that both sums run along memory
    answers  [T, heads width]                what comes out

Batched matrix products pad all rows to the longest, and being one vector each they read the cache at a fifth of the speed of
memory; around them stand ten small operations on small tensors. Here a token costs its own length and nothing else, and what
it gets does not depend on the other rows. Prompts go the same way, token after token, without padding.

The exponential is a polynomial (2 to the fraction, to 2e-7) times a power of two made of its bits, in loops that the compiler
turns into vector instructions; the library's exp is called value by value and would take half of the time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float32]]
Ints = np.ndarray[Any, np.dtype[Any]]
Kernel = TypeVar("Kernel", bound=Callable[..., Any])
LOG2_E = np.float32(1.4426950408889634)
LEAST = np.float32(-120.0)
"""As a power of two; below, the result is 0 for all purposes."""
ONE, HALF = np.float32(1.0), np.float32(0.5)
C1, C2, C3, C4, C5, C6 = (
    np.float32(value) for value in (0.6931472, 0.2402265, 0.05550411, 0.009618129, 0.0013333558, 0.00015403530)
)
"""The powers of ln 2 over the factorials: 2 to the x between -1/2 and 1/2."""


FREELY = {"reassoc", "contract", "arcp", "nsz"}
"""Sums may be taken in any order, which vector instructions need; infinities stay what they are."""


def compiled(function: Kernel) -> Kernel:
    """Return the function compiled, kept on disk where there is a folder for it."""
    try:
        return cast("Kernel", numba.njit(nogil=True, cache=True, fastmath=FREELY)(function))
    except RuntimeError:
        return cast("Kernel", numba.njit(nogil=True, fastmath=FREELY)(function))


@compiled
def attend(
    mixed: Floats,
    rows: Ints,
    places: Ints,
    turns: Floats,
    keys: Floats,
    values: Floats,
    answers: Floats,
    bits: Ints,
    powers: Floats,
) -> None:
    """Store the tokens' keys and values and fill `answers`; `bits` and `powers` are scratch of the room's length, one memory."""
    groups, width = keys.shape[1], keys.shape[2]
    heads = mixed.shape[1] // width - 2 * groups
    half, share = width // 2, heads // groups
    query, scores = np.empty(width, np.float32), np.empty(keys.shape[3], np.float32)
    for token in range(mixed.shape[0]):
        row, at = rows[token], places[token]
        count = at + 1
        for group in range(groups):
            base = (heads + group) * width
            for w in range(width):
                other = mixed[token, base + (w + half if w < half else w - half)]
                keys[row, group, w, at] = mixed[token, base + w] * turns[at, w] + other * turns[at, width + w]
                values[row, group, w, at] = mixed[token, base + groups * width + w]
        for head in range(heads):
            base = head * width
            for w in range(width):
                other = mixed[token, base + (w + half if w < half else w - half)]
                query[w] = (mixed[token, base + w] * turns[at, w] + other * turns[at, width + w]) * LOG2_E
            own, told = keys[row, head // share], values[row, head // share]
            for s in range(count):
                scores[s] = query[0] * own[0, s] + query[1] * own[1, s]
            for w in range(2, width, 2):
                for s in range(count):
                    scores[s] += query[w] * own[w, s] + query[w + 1] * own[w + 1, s]
            most = scores[0]
            for s in range(count):
                most = max(most, scores[s])
            for s in range(count):
                x = max(scores[s] - most, LEAST)
                whole = np.int32(x - HALF)
                f = x - np.float32(whole)
                scores[s] = ONE + f * (C1 + f * (C2 + f * (C3 + f * (C4 + f * (C5 + f * C6)))))
                bits[s] = (whole + np.int32(127)) << np.int32(23)
            total = np.float32(0.0)
            for s in range(count):
                scores[s] *= powers[s]
                total += scores[s]
            for w in range(width):
                found = np.float32(0.0)
                for s in range(count):
                    found += scores[s] * told[w, s]
                answers[token, base + w] = found / total


@compiled
def normalise(hidden: Floats, epsilon: float, out: Floats) -> None:
    """Divide each row by the root of its mean square (RMSNorm; its weights stand in the matrix that follows)."""
    rows, width = hidden.shape
    for row in range(rows):
        total = np.float32(0.0)
        for w in range(width):
            total += hidden[row, w] * hidden[row, w]
        scale = ONE / np.sqrt(total / np.float32(width) + np.float32(epsilon))
        for w in range(width):
            out[row, w] = hidden[row, w] * scale


@compiled
def gate(both: Floats, out: Floats, bits: Ints, powers: Floats) -> None:
    """Multiply the right half of each row by the SiLU of the left one; `bits` and `powers` as in `attend`, of half a row."""
    rows, width = out.shape
    for row in range(rows):
        for w in range(width):
            x = max(min(-both[row, w] * LOG2_E, np.float32(120.0)), LEAST)
            whole = np.int32(np.floor(x + HALF))
            f = x - np.float32(whole)
            out[row, w] = ONE + f * (C1 + f * (C2 + f * (C3 + f * (C4 + f * (C5 + f * C6)))))
            bits[w] = (whole + np.int32(127)) << np.int32(23)
        for w in range(width):
            out[row, w] = both[row, w] * both[row, width + w] / (ONE + out[row, w] * powers[w])


@compiled
def draw(
    logits: Floats, chances: Any, temperature: float, tokens: Ints, scores: Floats, bits: Ints, powers: Floats
) -> None:
    """Draw a token a row among all, and tell its log-probability at temperature 1; `chances` are numbers in [0, 1)."""
    rows, width = logits.shape
    share = np.empty(width, np.float32)
    for row in range(rows):
        most = logits[row, 0]
        for v in range(width):
            most = max(most, logits[row, v])
        for turn in range(2 if temperature != 1.0 else 1):
            scale = LOG2_E if turn or temperature == 1.0 else LOG2_E / np.float32(temperature)
            for v in range(width):
                x = max((logits[row, v] - most) * scale, LEAST)
                whole = np.int32(x - HALF)
                f = x - np.float32(whole)
                share[v] = ONE + f * (C1 + f * (C2 + f * (C3 + f * (C4 + f * (C5 + f * C6)))))
                bits[v] = (whole + np.int32(127)) << np.int32(23)
            total = 0.0
            for v in range(width):
                share[v] *= powers[v]
                total += np.float64(share[v])
            if turn == 0:
                goal, reached, token = chances[row] * total, 0.0, width - 1
                for v in range(width):
                    reached += np.float64(share[v])
                    if reached > goal:
                        token = v
                        break
                tokens[row] = token
        scores[row] = logits[row, tokens[row]] - most - np.float32(np.log(total))
