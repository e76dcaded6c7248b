"""Clusters of texts by the meaning of their windows. See `semantic` for when two texts are taken to mean the same.

    texts      0 (1 window)   1 (1 window)   2 (3 windows)
    vectors    5 x 384, of length 1; texts 0 and 1 are joined if their cosine reaches the threshold

If the mean over windows of the best cosine reaches a threshold, some pair of windows does: only texts with such a pair are
compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from limbeck.core.errors import UsageError

BLOCK = 1024
"""Windows compared with all before them at a time."""
SLAB = 4096
"""Windows encoded between two words of progress."""
NEIGHBOURS = 32
DIMENSIONS = 4096
"""Of the vectors made without a model."""
_DIGITS = re.compile(r"\d[\d,]*(?:\.\d+)?")

Vectors = NDArray[np.float32]


class Meanings(NamedTuple):
    """`first[t]` is the first text of the cluster of text t; `vectors[start[t] : start[t + 1]]` are its windows."""

    first: list[int]
    vectors: Vectors
    start: list[int]

    def similarity(self, one: int, other: int) -> float:
        """Return the similarity of two texts: the mean best cosine of the windows of either, the lower of the two."""
        if one == other:
            return 1.0
        mine, theirs = (self.vectors[self.start[t] : self.start[t + 1]] for t in (one, other))
        cosines = mine @ theirs.T
        return float(min(cosines.max(axis=1).mean(), cosines.max(axis=0).mean()))


def clusters(texts: Sequence[str], *, model: str, threshold: float, numbers: bool, index: str, step: str) -> Meanings:
    """Return the clusters of texts that mean the same. Raises UsageError where the model or the index is not installed."""
    from limbeck.curate._contamination_embed import numbers_of, windows_of

    parts = [[text[a:b] for a, b in windows_of(text)] or [text][: bool(text.strip())] for text in texts]
    start = [0, *np.cumsum([len(mine) for mine in parts]).tolist()] if parts else [0]
    windows = [window for mine in parts for window in mine]
    found = Meanings(list(range(len(texts))), _vectors(windows, model, step), start)
    owner = np.repeat(np.arange(len(texts)), np.diff(start))
    digits = [set(_plain(_DIGITS.findall(text))) for text in texts] if numbers else []
    spoken = [numbers_of(text) for text in texts] if numbers else []
    for one, other in _pairs(found.vectors, threshold, index):
        a, b = sorted((int(owner[one]), int(owner[other])))
        if a == b or _root(found.first, a) == _root(found.first, b):
            continue
        if numbers and not (digits[a] <= spoken[b] and digits[b] <= spoken[a]):
            continue
        if found.similarity(a, b) >= threshold - 1e-6:
            low, high = sorted((_root(found.first, a), _root(found.first, b)))
            found.first[high] = low
    for place in range(len(texts)):
        found.first[place] = _root(found.first, place)
    return found


def _plain(numbers: Sequence[str]) -> Iterator[str]:
    for number in numbers:
        plain = number.replace(",", "")
        yield plain.rstrip("0").rstrip(".") if "." in plain else plain


def _root(first: list[int], place: int) -> int:
    while first[place] != place:
        first[place] = first[first[place]]
        place = first[place]
    return place


def _pairs(vectors: Vectors, threshold: float, index: str) -> Iterator[tuple[int, int]]:
    """Yield pairs of windows whose cosine reaches the threshold."""
    if index == "usearch":
        yield from _pairs_by_usearch(vectors, threshold)
        return
    for begin, end in pairwise([*range(0, len(vectors), BLOCK), len(vectors)]):
        cosines = vectors[begin:end] @ vectors[:end].T
        for one, other in zip(*np.nonzero(cosines >= threshold - 1e-6), strict=True):
            if other < begin + one:
                yield begin + int(one), int(other)


def _pairs_by_usearch(vectors: Vectors, threshold: float) -> Iterator[tuple[int, int]]:
    try:
        from usearch.index import Index
    except ImportError:
        raise UsageError(
            "index='usearch' needs the package usearch: pip install usearch, or use index='exact'."
        ) from None
    if len(vectors) < 2:
        return
    nearest = Index(ndim=vectors.shape[1], metric="cos", dtype="f32")
    nearest.add(np.arange(len(vectors)), vectors, threads=1)  # more threads: another graph each time
    for begin in range(0, len(vectors), BLOCK):
        matches: Any = nearest.search(vectors[begin : begin + BLOCK], min(NEIGHBOURS, len(vectors)), threads=1)
        for place in range(len(matches)):
            for match in matches[place]:
                if match.key != begin + place and 1.0 - match.distance >= threshold - 1e-6:
                    yield begin + place, int(match.key)


def _vectors(windows: Sequence[str], model: str, step: str) -> Vectors:
    from limbeck.curate._near import reporter

    if not windows:
        return np.zeros((0, 1), dtype=np.float32)
    if model == "none":
        return _hashed(windows)
    from limbeck.curate._contamination_embed import Encoder

    encoder, told, made = Encoder(model), reporter(step), []
    for begin in range(0, len(windows), SLAB):
        made.append(encoder.encode(windows[begin : begin + SLAB]))
        told(min(begin + SLAB, len(windows)), len(windows), "windows encoded")
    return np.concatenate(made)


def _hashed(windows: Sequence[str]) -> Vectors:
    """Return a vector a window: its words and pairs of words, each a dimension by its hash, weighed by rarity."""
    from limbeck.curate._tokens import tokens

    hashes, offsets, _, _ = tokens(windows)
    out = np.zeros((len(windows), DIMENSIONS), dtype=np.float32)
    for place, (begin, end) in enumerate(pairwise(offsets.tolist())):
        mine = hashes[begin:end]
        both = np.concatenate([mine, mine[1:] * np.uint64(3) + mine[:-1]]) % np.uint64(DIMENSIONS)
        np.add.at(out[place], both.astype(np.int64), 1.0)
    rarity = np.log((1 + len(windows)) / (1 + (out > 0).sum(axis=0))) + 1.0
    np.log1p(out, out=out)
    out *= rarity.astype(np.float32)
    norms = np.linalg.norm(out, axis=1, keepdims=True)
    scaled: Vectors = out / np.maximum(norms, 1e-9)
    return scaled
