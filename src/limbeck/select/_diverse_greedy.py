"""Choosing rows that stand for all rows: facility location by lazy greedy, and k-center by farthest first.

    facility location    maximise F(S) = sum over rows i of max over j in S of sim(i, j)
    gain of j            sum over i of max(0, sim(i, j) - what i has already)
    k-center             again and again the row that is farthest from all chosen ones (Gonzalez 1985): the largest gap is at most
                         twice the smallest possible

Greedy reaches 1 - 1/e of the best F (Nemhauser, Wolsey & Fisher 1978). Gains only shrink, so an old gain is an upper bound:
lazy greedy (Minoux 1978) looks again only at the row on top of the heap, and chooses exactly what plain greedy chooses, at a
fraction of the work.

Similarities are cosines, those under 0 counted as 0. They are computed on whole numbers (vectors of length 1 times SCALE,
rounded): every product is exact in single precision, so no machine, thread count or block size changes a choice, and ties are
real ties, which go to the row that comes first."""

from __future__ import annotations

import heapq
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
SCALE = 2047
"""Sums of products of two such vectors stay under 2^24, up to which single precision counts without error."""
BLOCK = 512


def whole_numbers(vectors_ND: NDArray[np.float32]) -> Vectors:
    """Return vectors of length 1 as whole numbers, in single precision."""
    return np.rint(vectors_ND * SCALE).astype(np.float32)


def similarity(vectors_ND: Vectors, to_MD: Vectors) -> NDArray[np.float32]:
    """Return the similarities of all rows to some, at least 0, exact; 1 is SCALE squared."""
    return np.asarray(np.maximum(vectors_ND @ to_MD.T, 0.0))


def facility_location(
    vectors_ND: Vectors, witnesses_WD: Vectors, count: int, told: Callable[[int], None] = lambda done: None
) -> list[int]:
    """Return `count` rows in the order of choice; the witnesses are the rows that have to be stood for."""
    best_W = np.zeros(len(witnesses_WD), dtype=np.float32)
    heap = [(-gain, place) for place, gain in enumerate(first_gains(vectors_ND, witnesses_WD))]
    heapq.heapify(heap)
    chosen: list[int] = []
    while heap and len(chosen) < count:
        _, place = heapq.heappop(heap)
        found_W = similarity(witnesses_WD, vectors_ND[place : place + 1])[:, 0]
        now = (-gain_of(found_W, best_W), place)
        if heap and now > heap[0]:  # others may be better, or as good and earlier
            heapq.heappush(heap, now)
            continue
        chosen.append(place)
        np.maximum(best_W, found_W, out=best_W)
        told(len(chosen))
    return chosen


def gain_of(found_W: NDArray[np.float32], best_W: NDArray[np.float32]) -> float:
    """Return how much better the witnesses would be stood for: a whole number."""
    return float(np.maximum(found_W - best_W, 0.0).sum(dtype=np.float64))


def first_gains(vectors_ND: Vectors, witnesses_WD: Vectors) -> list[float]:
    """Return every row's gain while nothing is chosen, in blocks, so that no table of all pairs is held."""
    gains: list[float] = []
    for begin in range(0, len(vectors_ND), BLOCK):
        block = similarity(witnesses_WD, vectors_ND[begin : begin + BLOCK])
        gains += block.sum(axis=0, dtype=np.float64).tolist()
    return gains


def k_center(vectors_ND: Vectors, count: int) -> list[int]:
    """Return `count` rows in the order of choice: first the one most like the mean, then always the farthest."""
    if not len(vectors_ND):
        return []
    mean = np.rint(vectors_ND.mean(axis=0, dtype=np.float64)).astype(np.float32)
    chosen = [int(np.argmax(vectors_ND @ mean))]
    nearest_N = similarity(vectors_ND, vectors_ND[chosen])[:, 0]
    nearest_N[chosen] = np.inf
    while len(chosen) < min(count, len(vectors_ND)):
        place = int(np.argmin(nearest_N))
        chosen.append(place)
        np.maximum(nearest_N, similarity(vectors_ND, vectors_ND[place : place + 1])[:, 0], out=nearest_N)
        nearest_N[place] = np.inf
    return chosen
