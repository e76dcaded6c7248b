"""Near-duplicates among texts: sketches, buckets, checked pairs, clusters.

    texts      0 "Tom has 12 apples and eats 3 of them ..."   1 "tom has 12 apples, and eats 3 of them ..."   2 "A train ..."
    clusters   [0, 0, 2]                                      every text points at the first of its cluster

1. Every text is cut into shingles (`_near_kernel`), of 2 tokens when it has under 12 of them, of 3 under 40, else of 5: one changed
   word in a short text must not make it a different one, and long texts must not be alike for common phrases.
2. MinHash sketches are cut into bands; texts that agree in a band meet in a bucket (Broder 1997; Leskovec, Rajaraman and
   Ullman, Mining of Massive Datasets, chapter 3). With 32 bands of 4, a pair of Jaccard similarity J meets with
   probability 1 - (1 - J^4)^32: .9999 at .7, .87 at .5.
3. Every two members of a bucket are compared exactly, by their sets of shingles, unless they are in one cluster already.
   In a bucket of more than `CROWD` different texts each is compared with the CROWD nearest before it, which keeps the work linear;
   how many such buckets there were is part of the result.
4. Pairs that reach the threshold are joined; a cluster is what hangs together.

Sets and sketches take about 8 bytes a token and 150 bytes a text. Where that is more than a quarter of the memory that is
free they are put on disk, band by band, in a temporary folder (`TMPDIR`), and read from there.
"""

from __future__ import annotations

import math
import os
import queue
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from limbeck.curate._tokens import cores, in_threads, tokens_of_bytes

SIZES = (2, 3, 5)
"""Tokens in a shingle, by length."""
BOUNDS = (12, 40)
"""From how many tokens on the next size is taken."""
CROWD = 512
"""With how many members of one bucket a text is compared at most."""
CHUNK = 1 << 20
"""Bytes of text that one thread takes at a time."""
REPORT_EVERY = 5.0
"""Seconds between two lines of progress."""
MEMORY = "LIMBECK_MEMORY_MB"
"""The variable that says how much memory sets and sketches may take before they go to disk."""


class Pieces(NamedTuple):
    """Some texts as UTF-8 bytes: text t is made of pieces `of[t]` to `of[t + 1]`; piece p is `data[starts[p] : ends[p]]`."""

    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    of: NDArray[np.int64]


class Texts(Protocol):
    """Texts that can be taken by the slice, so that they need not be in memory twice."""

    def sizes(self) -> NDArray[np.int64]:
        """Return the size of every text, in characters or bytes."""
        ...

    def pieces(self, first: int, last: int) -> Pieces:
        """Return texts `first` to `last`, without the latter."""
        ...


class Lists:
    """Texts that are lists of strings: a piece a string, so that no token reaches from one into the next."""

    def __init__(self, pieces: Sequence[Sequence[str]]) -> None:
        self._pieces = pieces

    def sizes(self) -> NDArray[np.int64]:
        """Return the characters of every text."""
        return np.fromiter((sum(map(len, text)) for text in self._pieces), np.int64, len(self._pieces))

    def pieces(self, first: int, last: int) -> Pieces:
        """Return texts `first` to `last` as UTF-8."""
        mine = self._pieces[first:last]
        encoded = [piece.encode("utf-8", "surrogatepass") for text in mine for piece in text]
        bounds = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        data = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        return Pieces(data, bounds[:-1], bounds[1:], np.cumsum([0, *map(len, mine)], dtype=np.int64))


Told = Callable[[int, int, str], None]
"""Is told how much of how much is done, and what."""


class Shape(NamedTuple):
    """How texts are cut and sketched."""

    threshold: float
    shingle: int
    bands: int
    rows: int

    def levels(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the lengths from which on the next shingle size is taken, and the sizes."""
        bounds, sizes = ((), (self.shingle,)) if self.shingle else (BOUNDS, SIZES)
        return np.array(bounds, dtype=np.int64), np.array(sizes, dtype=np.int64)

    def words(self) -> int:
        """Return how many words of 64 bits the 4-bit places of a sketch take."""
        return -(-self.bands * self.rows // 16)

    def agree(self) -> int:
        """Return in how many 4-bit places of their sketches two texts at the threshold agree, less 3.5 standard deviations.

        One pair in 4 000 that is just at the threshold is missed for it, of pairs well above it none.
        """
        places, chance = self.bands * self.rows, self.threshold + (1 - self.threshold) / 16
        padding = -places % 16
        return padding + math.floor(places * chance - 3.5 * math.sqrt(places * chance * (1 - chance)))

    def orders(self) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """Return the factors (odd) and addends of the random orders."""
        raw = np.random.PCG64(20240229).random_raw(2 * self.bands * self.rows).astype(np.uint64)
        high = (raw >> np.uint64(32)).astype(np.uint32)
        return high[: high.size // 2] | np.uint32(1), high[high.size // 2 :].copy()


class Sets(NamedTuple):
    """All sets of shingles: `shingles[begin[s] : begin[s] + size[s]]` is set s of text `text[s]`; `keys[band][s]`."""

    shingles: NDArray[np.uint64]
    begin: NDArray[np.int64]
    size: NDArray[np.int32]
    text: NDArray[np.int32]
    spare: NDArray[np.bool_]
    nibbles: NDArray[np.uint64]
    whole: NDArray[np.uint64]
    keys: list[NDArray[np.uint32]]


class Clusters(NamedTuple):
    """`first[t]` is the first text of the cluster of text t; `empty` texts without a token; `crowded` buckets too large."""

    first: NDArray[np.int32]
    empty: int
    crowded: int
    sets: Sets | None

    def similarity(self, others: Sequence[int]) -> list[float]:
        """Return how alike each text and the one named for it are: Jaccard, 1 for itself, 0 where the lengths differ too much."""
        if self.sets is None:
            return [1.0] * len(others)
        from limbeck.curate._near_kernel import jaccard

        shingles, begin, count, text = self.sets[:4]
        start = np.searchsorted(text, np.arange(len(others) + 1))

        def mine(t: int) -> list[NDArray[np.uint64]]:
            return [shingles[begin[s] : begin[s] + count[s]] for s in range(start[t], start[t + 1])]

        # sets cut by different sizes have nothing in common, so the largest is the one that counts
        return [
            1.0 if t == other else max((jaccard(a, b) for a in mine(t) for b in mine(other)), default=0.0)
            for t, other in enumerate(others)
        ]


def clusters(texts: Texts, shape: Shape, told: Told = lambda done, total, what: None) -> Clusters:
    """Return the clusters of near-duplicates; the same whatever the number of threads and wherever the sets are kept."""
    sizes = texts.sizes()
    parent = np.arange(sizes.size, dtype=np.int32)
    if sizes.size == 0:
        return Clusters(parent, 0, 0, None)
    with tempfile.TemporaryDirectory(prefix="limbeck-near-") as folder:
        needed = int(sizes.sum()) * 2 + sizes.size * (4 * shape.bands + 32)
        sets = sketched(texts, shape, Path(folder) if needed > memory() else None, told)
        members = joined_equal(sets, parent)
        crowded = joined_alike(sets, members, parent, shape, told)
        from limbeck.curate._near_kernel import flatten

        flatten(parent)
        empty = sizes.size - np.unique(sets.text).size
    # files on disk have lost their names by now; what is mapped of them stays readable until it is let go
    return Clusters(parent, empty, crowded, sets)


def reporter(step: str) -> Told:
    """Return what tells on stderr, every five seconds, how far a long comparison has come."""
    begun = said = time.monotonic()

    def told(done: int, total: int, what: str) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said >= REPORT_EVERY:
            said = now
            print(f"limbeck: {step}: {done:,} of {total:,} {what}, {now - begun:.0f} s", file=sys.stderr, flush=True)

    return told


def memory() -> int:
    """Return how many bytes sets and sketches may take in memory: a quarter of what is free, or what the user says."""
    if os.environ.get(MEMORY):
        return int(float(os.environ[MEMORY]) * 1e6)
    if not hasattr(os, "sysconf") or "SC_AVPHYS_PAGES" not in os.sysconf_names:
        return 1 << 31
    return max(1 << 28, os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4)


class Shelf:
    """An array that grows at its end: in memory, or in a file of the folder."""

    def __init__(self, folder: Path | None, name: str, kind: type[np.generic]) -> None:
        self._array, self._size = np.empty(0, dtype=kind), 0
        self._path = None if folder is None else folder / name
        self._file = None if self._path is None else self._path.open("wb")

    def append(self, more: NDArray[Any]) -> None:
        """Add values at the end."""
        if self._file is not None:
            self._file.write(np.ascontiguousarray(more).data)
        else:
            if self._array.size < self._size + more.size:
                # grown in place where the system can (a realloc of pages), never copied element by element
                self._array.resize(max(self._size + more.size, self._size * 5 // 4), refcheck=False)
            self._array[self._size : self._size + more.size] = more
        self._size += more.size

    def whole(self) -> NDArray[Any]:
        """Return all that was appended; nothing can be appended after."""
        if self._file is not None and self._path is not None:
            self._file.close()
            if self._size:
                self._array = np.memmap(self._path, dtype=self._array.dtype, mode="r").view(np.ndarray)
        else:
            self._array.resize(self._size, refcheck=False)
        # read-only in both cases, so that kernels are compiled for one kind of array
        self._array.flags.writeable = False
        return self._array


def sketched(texts: Texts, shape: Shape, folder: Path | None, told: Told) -> Sets:
    """Cut and sketch all texts, a chunk a thread, and put what comes out side by side in the order of the texts."""
    kinds = (np.uint64, np.int32, np.int32, np.bool_, np.uint64, np.uint64)
    shelves = [Shelf(folder if n in (0, 5) else None, f"sets-{n}", kind) for n, kind in enumerate(kinds)]
    bands = [Shelf(folder, f"band-{band}", np.uint32) for band in range(shape.bands)]
    slices = chunks(texts.sizes())
    for (first, last), made in zip(slices, in_threads(lambda s: sets_of_slice(texts, s, shape), slices), strict=True):
        shingles, text, count, spare, whole, keys, nibbles = made
        mine = (shingles, count, text + np.int32(first), spare, whole, nibbles.ravel())
        for shelf, more in zip(shelves, mine, strict=True):
            shelf.append(more)
        for band, shelf in enumerate(bands):
            shelf.append(keys[:, band])
        told(last, slices[-1][1], "sketched")
    shingles, count, text, spare, whole, nibbles = (shelf.whole() for shelf in shelves)
    begin = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(count[:-1], dtype=np.int64)])[: count.size]
    nibbles = nibbles.reshape(count.size, shape.words())
    return Sets(shingles, begin, count, text, spare, nibbles, whole, [shelf.whole() for shelf in bands])


def chunks(sizes: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return slices of about CHUNK bytes, none empty."""
    cuts = np.flatnonzero(np.diff(np.cumsum(sizes) // CHUNK)) + 1
    return list(pairwise([0, *map(int, cuts), int(sizes.size)]))


def sets_of_slice(texts: Texts, slice_: tuple[int, int], shape: Shape) -> tuple[NDArray[Any], ...]:
    """Return the shingles, texts, counts, spare marks, whole hashes and band keys of the sets of some texts."""
    from limbeck.curate._near_kernel import sets_of

    data, starts, ends, of = texts.pieces(*slice_)
    tokens = tokens_of_bytes(data, starts, ends)
    bounds, sizes = shape.levels()
    offsets = tokens.offsets[of]
    most = 2 * (offsets.size - 1)
    shingles = np.empty(2 * (tokens.hashes.size + most), dtype=np.uint64)
    text, count = np.empty(most, dtype=np.int32), np.empty(most, dtype=np.int32)
    spare, whole = np.empty(most, dtype=np.bool_), np.empty(most, dtype=np.uint64)
    keys = np.empty((most, shape.bands), dtype=np.uint32)
    nibbles = np.empty((most, shape.words()), dtype=np.uint64)
    out: Any = (shingles, text, count, spare, whole, keys, nibbles)
    made, filled = sets_of(
        tokens.hashes, offsets, bounds, sizes, 1.0 / shape.threshold, *shape.orders(), shape.rows, *out
    )
    return shingles[:filled], *(part[:made] for part in out[1:])


def joined_equal(sets: Sets, parent: NDArray[np.int32]) -> NDArray[np.uint32]:
    """Join texts whose sets are equal and return the sets that stand for all of them: the rest need not be sketched."""
    from limbeck.curate._near_kernel import union_all

    order = np.argsort(sets.whole, kind="stable")
    order = order[~sets.spare[order]]
    whole, count = sets.whole[order], sets.size[order]
    new = np.ones(order.size, dtype=bool)
    new[1:] = (whole[1:] != whole[:-1]) | (count[1:] != count[:-1])
    leader = sets.text[order[np.maximum.accumulate(np.where(new, np.arange(order.size), 0))]]
    follower = sets.text[order]
    union_all(parent, np.stack([leader, follower], axis=1)[~new])
    stands = np.zeros(parent.size, dtype=bool)
    stands[leader] = True
    return np.flatnonzero(stands[sets.text]).astype(np.uint32)


def joined_alike(sets: Sets, members: NDArray[np.uint32], parent: NDArray[np.int32], shape: Shape, told: Told) -> int:
    """Compare what meets in a bucket, band by band, and join what is alike; returns how many buckets were crowded."""
    from limbeck.curate._near_kernel import join_band, union_all

    memories: queue.SimpleQueue[NDArray[np.uint64]] = queue.SimpleQueue()
    for _ in range(cores()):
        memories.put(np.zeros(1 << 16, dtype=np.uint64))

    def band(number: int) -> tuple[NDArray[np.int32], int]:
        packed = sets.keys[number][members].astype(np.uint64) << np.uint64(32) | members
        packed.sort()
        shared = np.flatnonzero(packed[1:] >> np.uint64(32) == packed[:-1] >> np.uint64(32))
        mine, pairs = parent.copy(), np.empty((shared.size, 2), dtype=np.int32)
        met = np.zeros(packed.size, dtype=bool)
        met[shared] = met[shared + 1] = True
        further, failed = sets.keys[(number + 1) % shape.bands], memories.get()
        found, crowded = join_band(
            packed[met], further, CROWD, shape.threshold, shape.agree(), *sets[:6], mine, failed, pairs
        )
        memories.put(failed)
        return pairs[:found].copy(), crowded

    total = 0
    for number, (pairs, crowded) in enumerate(in_threads(band, range(shape.bands))):
        union_all(parent, pairs)
        total += crowded
        told(number + 1, shape.bands, "bands compared")
    return total
