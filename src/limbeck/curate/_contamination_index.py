"""One index over the items of any number of evaluation sets: what is telling in each, and which rows hold it.

    index = Index([("Janet's ducks lay 16 eggs per day. ...", "Janet sells 16 - 3 - 4 = ..."), ...])
    lines = index.search(texts)         one line of FEATURES for each row and part that share enough

How telling a gram is: 1 / (items that hold it)^2 x the share of its words that are no function words. So "Write a python
function to find" and "Options: (A) (B) (C)", which hundreds of items begin or end with, weigh next to nothing, and what one
item alone says weighs most. A part's total is the sum over its grams, and what counts of a row is the share of that total
that it holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from limbeck.curate._tokens import Tokens, tokens_of_bytes

PROMPT, ANSWER = 0, 1
_STOP = """
    a about after all also an and any are as at be been before both but by can could did do does down each every find for
    from function get give given gives had has have he her here him his how i if import in into is it its just let like
    list made make makes many may more most much must my need needs new no not number of off on one only or other our out
    over per program python response return returns same says self she should so some string such than that the their them
    then there these they this to total two up us use using value want wants was we were what when where which while who
    will with would write you your def elements element array numbers result answer following example question true false
    none int str
"""
LEAST = 0.2
"""The share of a part's weight from which a row is looked at closely."""


class Pieces(NamedTuple):
    """Texts as bytes: piece p is `data[starts[p] : ends[p]]`, and row r has the pieces `rows[r] : rows[r + 1]`."""

    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    rows: NDArray[np.int64]


class Read(NamedTuple):
    """Pieces after tokenising: the tokens with their spans, and which of them are numbers."""

    tokens: Tokens
    numbers: NDArray[np.uint8]


def pieces(rows: Sequence[Sequence[str]]) -> Pieces:
    """Return rows of texts as one buffer of bytes."""
    encoded = [text.encode("utf-8", "surrogatepass") for row in rows for text in row]
    bounds = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    starts = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    return Pieces(np.frombuffer(b"".join(encoded), dtype=np.uint8), bounds[:-1], bounds[1:], starts)


def read(given: Pieces) -> Read:
    """Tokenise pieces, escapes and tags blanked."""
    from limbeck.curate._contamination_kernel import number_flags
    from limbeck.curate._contamination_markup import plain

    data = plain(given.data)
    found = tokens_of_bytes(data, given.starts, given.ends, operators=False, spans=True)
    return Read(found, number_flags(data, given.starts, found.offsets, found.begins, found.ends))


class Index:
    """The index: part 2 i is the prompt of item i, part 2 i + 1 its answer."""

    def __init__(self, items: Sequence[tuple[str, str]]) -> None:
        from limbeck.curate import _contamination_kernel as kernel

        self.read = read(pieces(items))
        tokens, numbers = self.read
        self.lengths = np.diff(tokens.offsets)
        content = ~np.isin(tokens.hashes, _stop_hashes()) & (numbers == 0)
        self._running = np.concatenate([np.zeros(1), np.cumsum(content + 0.3 * numbers)])
        phrases = self.phrases = self._phrases()
        grams, parts, places = kernel.postings(tokens.hashes, numbers, tokens.offsets, phrases)
        order = np.argsort(grams, kind="stable")
        grams, self.parts, self.places = grams[order], parts[order], places[order]
        new = np.flatnonzero(np.concatenate([[True], grams[1:] != grams[:-1]])) if grams.size else np.zeros(0, np.int64)
        self.first = np.append(new, grams.size).astype(np.int64)
        item_of = self._different()
        self.spread = kernel.spread(grams, self.first, self.parts, item_of)
        self.weights = self._weights()
        self.totals = np.bincount(self.parts, self.weights, minlength=2 * len(items)).astype(np.float64)
        short = (self.lengths > 0) & (self.lengths < kernel.GRAM)
        self.totals[short] = np.maximum(self.totals[short] / (1 + phrases[short]), 1e-9)
        self.totals = np.maximum(self.totals, 1e-9)
        bits = max(10, int(np.ceil(np.log2(2 * new.size + 2))))
        self.keys, self.values, self.sieve = kernel.table_of(grams[new], bits)
        self.sizes = np.zeros(kernel.GRAM + 1, dtype=np.uint8)
        self.sizes[np.minimum(self.lengths[self.lengths >= kernel.GRAM], kernel.GRAM)] = 1
        self.sizes[self.lengths[phrases == 1]] = 1
        self.sizes[0] = bool(short.any())
        self.common = np.full(tokens.hashes.size, -1, dtype=np.int32)
        gram_of = np.repeat(np.arange(new.size, dtype=np.int32), np.diff(self.first))
        often = (np.diff(self.first)[gram_of] > kernel.MOST_POSTINGS) & (self.lengths[self.parts] >= kernel.GRAM)
        self.common[tokens.offsets[self.parts[often]] + self.places[often]] = gram_of[often]

    def search(self, given: Pieces, found: Read | None = None) -> NDArray[np.float64]:
        """Return lines of FEATURES: what each row shares with each part, where it is enough to be looked at."""
        from limbeck.curate import _contamination_kernel as kernel

        found = found or read(given)
        own = self.read.tokens
        return kernel.search(
            found.tokens.hashes, found.numbers, found.tokens.offsets, given.rows, self.keys, self.values, self.sieve,
            self.first, self.sizes, self.parts, self.places, self.weights, own.offsets, own.hashes, self.read.numbers,
            self.common, self.totals, LEAST,
        )  # fmt: skip

    def _phrases(self) -> NDArray[np.uint8]:
        """Say which short parts may be looked for within a text: prompts of three tokens or more, two of them telling."""
        offsets = self.read.tokens.offsets
        telling = self._running[offsets[1:]] - self._running[offsets[:-1]]
        is_prompt = np.arange(self.lengths.size) % 2 == PROMPT
        found: NDArray[np.uint8] = ((self.lengths >= 3) & (self.lengths < 5) & (telling >= 2) & is_prompt).astype(
            np.uint8
        )
        return found

    def _different(self) -> NDArray[np.int32]:
        """Return for each part which item it is of; the same problem in two sets is one item, or it would be twice as common."""
        tokens = self.read.tokens
        seen: dict[bytes, int] = {}
        out = np.zeros(self.lengths.size, dtype=np.int32)
        for item in range(self.lengths.size // 2):
            begin, end = tokens.offsets[2 * item], tokens.offsets[2 * item + 1]
            out[2 * item : 2 * item + 2] = seen.setdefault(
                tokens.hashes[begin:end].tobytes() or str(item).encode(), item
            )
        return out

    def _weights(self) -> NDArray[np.float32]:
        """Return each posting's weight: rare among the items, and made of words that say something."""
        rarity = 1.0 / np.repeat(self.spread, np.diff(self.first)).astype(np.float64) ** 2
        begin = self.read.tokens.offsets[self.parts] + self.places
        size = np.minimum(self.lengths[self.parts], 5)
        telling = (self._running[begin + size] - self._running[begin]) / np.maximum(size, 1)
        weights: NDArray[np.float32] = (rarity * (0.05 + 0.95 * telling)).astype(np.float32)
        return weights


def _stop_hashes() -> NDArray[np.uint64]:
    return tokens_of_bytes(*pieces([_STOP.split()])[:3], operators=False).hashes
