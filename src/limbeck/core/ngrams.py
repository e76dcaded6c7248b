"""Texts as vectors without a model: n-grams of words, hashed into a fixed number of columns.

    hashed(["the cat sat"], size=1 << 18)       one row: the, cat, sat, the_cat, cat_sat, each 1/sqrt(5), in some five columns
    projected(["the cat sat"], 256)             the same as one dense vector of length 1, with signs (+1 or -1) by hash

Hashing needs no vocabulary, so equal texts have equal vectors in every process and for ever: the hash is CRC-32 of a word,
mixed. Words are runs of letters and digits, and each other mark is a word of its own; case and Unicode compatibility forms are
folded. An n-gram that occurs t times weighs 1 + ln t, and rows have length 1 (Weinberger et al. 2009 for the signs, arXiv
0902.2206)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Hashes = NDArray[np.uint64]
WORD = re.compile(r"\w+|[^\w\s]")
LONGEST = 2
"""Words of the longest n-gram."""


@dataclass(frozen=True, slots=True)
class Sparse:
    """Rows of few values: those of row i are `values[begins[i]:begins[i+1]]`, in the columns `columns[...]`."""

    begins: NDArray[np.int64]
    columns: NDArray[np.int64]
    values: Floats
    size: int
    """Columns in all."""

    def __len__(self) -> int:
        return len(self.begins) - 1

    def dot(self, weights: Floats) -> Floats:
        """Return the product of each row with the weights."""
        products = self.values * weights[self.columns]
        summed = np.concatenate([[0.0], np.cumsum(products)])
        return np.asarray(summed[self.begins[1:]] - summed[self.begins[:-1]])

    def back(self, amounts_N: Floats) -> Floats:
        """Return the sum of the rows, each times its amount."""
        of_row = np.repeat(amounts_N, np.diff(self.begins))
        return np.bincount(self.columns, weights=self.values * of_row, minlength=self.size).astype(np.float64)

    def take(self, places: Sequence[int]) -> Sparse:
        """Return some of the rows."""
        spans = [np.arange(self.begins[p], self.begins[p + 1]) for p in places]
        picked = np.concatenate(spans) if spans else np.zeros(0, dtype=np.int64)
        return Sparse(_begins(map(len, spans)), self.columns[picked], self.values[picked], self.size)


def words_of(text: str) -> list[str]:
    """Return the folded words of a text, in order.

    >>> words_of("It's 12 O'Clock.")
    ['it', "'", 's', '12', 'o', "'", 'clock', '.']
    """
    text = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return WORD.findall(text.casefold())


def ngram_hashes(words: Sequence[str]) -> Hashes:
    """Return the 64-bit hashes of all n-grams of 1 to `LONGEST` words, with repetitions: first the words, then the pairs."""
    # a lone surrogate has no UTF-8 form of its own
    codes = [crc32(word.encode("utf-8", "surrogatepass")) for word in words]
    single = _mixed(np.array(codes, dtype=np.uint64))
    parts, joined = [single], single
    for n in range(1, LONGEST):
        joined = _mixed(joined[:-1] * np.uint64(0x9E3779B97F4A7C15) + single[n:]) if len(single) > n else joined[:0]
        parts.append(joined)
    return np.concatenate(parts)


def hashed(texts: Iterable[str], size: int) -> Sparse:
    """Return the texts as sparse rows of length 1 over `size` columns; a text without words is a row of nothing."""
    columns, values, lengths = [], [], []
    for text in texts:
        found, counts = np.unique(ngram_hashes(words_of(text)) % np.uint64(size), return_counts=True)
        weights = 1 + np.log(counts)
        columns.append(found.astype(np.int64))
        values.append(weights / np.sqrt((weights**2).sum()) if len(weights) else weights)
        lengths.append(len(found))
    whole = np.concatenate(columns) if columns else np.zeros(0, dtype=np.int64)
    return Sparse(_begins(lengths), whole, np.concatenate(values) if values else np.zeros(0), size)


def of_vectors(vectors: NDArray[np.float64]) -> Sparse:
    """Return dense rows, such as embeddings, in the same form, each brought to length 1."""
    count, size = vectors.shape
    columns = np.tile(np.arange(size, dtype=np.int64), count)
    return Sparse(_begins([size] * count), columns, unit(vectors).ravel().astype(np.float64), size)


def projected(texts: Iterable[str], dimensions: int) -> NDArray[np.float32]:
    """Return the texts as dense rows of length 1, whose products approximate the cosines of their n-grams.

    The error of a cosine is about 1/sqrt(dimensions).
    """
    rows = []
    for text in texts:
        found, counts = np.unique(ngram_hashes(words_of(text)), return_counts=True)
        signs = np.where(found >> np.uint64(63), 1.0, -1.0)
        rows.append(
            np.bincount(
                (found % np.uint64(dimensions)).astype(np.int64),
                weights=signs * (1 + np.log(counts)),
                minlength=dimensions,
            )
        )
    return unit(np.array(rows, dtype=np.float64).reshape(-1, dimensions)).astype(np.float32)


def unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rows brought to length 1; rows of zeros stay."""
    norms = np.sqrt((vectors**2).sum(axis=1, keepdims=True))
    return np.asarray(vectors / np.where(norms > 0, norms, 1.0))


def _begins(lengths: Iterable[int]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(np.fromiter(lengths, dtype=np.int64))]).astype(np.int64)


def _mixed(values: Hashes) -> Hashes:
    # the finaliser of splitmix64: CRC alone keeps like words in like columns
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
