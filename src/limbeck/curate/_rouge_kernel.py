"""The compiled half of ROUGE-L among prompts: an index of the rarest words of kept prompts, and the exact score."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from limbeck.curate._compile import compiled


@compiled
def longest_common(one: NDArray[np.int32], other: NDArray[np.int32]) -> int:
    """Return the length of the longest common subsequence."""
    row = np.zeros(other.size + 1, dtype=np.int32)
    for word in one:
        corner = np.int32(0)
        for place in range(other.size):
            above = row[place + 1]
            if word == other[place]:
                row[place + 1] = corner + 1
            elif row[place] > above:
                row[place + 1] = row[place]
            corner = above
    return int(row[other.size])


@compiled
def common(one: NDArray[np.int32], other: NDArray[np.int32]) -> int:
    """Return how many features two sorted lists share."""
    shared, first, second = 0, 0, 0
    while first < one.size and second < other.size:
        if one[first] == other[second]:
            shared, first, second = shared + 1, first + 1, second + 1
        elif one[first] < other[second]:
            first += 1
        else:
            second += 1
    return shared


@compiled
def f_measure(shared: int, one: int, other: int) -> float:
    """Return the F-measure in the very order of operations of rouge_score, so that a score at the limit falls alike."""
    if shared == 0:
        return 0.0
    precision, recall = shared / one, shared / other
    return 2 * precision * recall / (precision + recall)


@compiled
def prefix(count: int, most: float) -> int:
    """Return how many of its rarest features a prompt of `count` words is found by.

    A score above `most` takes more than most / (2 - most) of the words of either prompt in common, so of the features in one
    global order at least one among the first count - that + 1 is shared (the prefix filter of Chaudhuri et al. 2006).
    """
    return min(count, count - int(most / (2.0 - most) * count - 1e-9) + 1)


@compiled
def keep_unlike(
    words: NDArray[np.int32],
    features: NDArray[np.int32],
    offsets: NDArray[np.int64],
    stays: NDArray[np.bool_],
    most: float,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Take prompts in order and keep those like none kept before; returns the kept one most alike, and the score."""
    count = offsets.size - 1
    best, score = np.arange(count), np.ones(count)
    distinct = features.max() + 1 if features.size else 0
    begin = np.zeros(distinct + 1, dtype=np.int64)
    for prompt in range(count):
        start, end = offsets[prompt], offsets[prompt + 1]
        for place in range(start, start + prefix(end - start, most)):
            begin[features[place] + 1] += 1
    begin = np.cumsum(begin)
    filled, posted = np.zeros(distinct, dtype=np.int64), np.empty(begin[-1], dtype=np.int32)
    seen = np.full(count, -1, dtype=np.int32)
    for prompt in range(count):
        start, end = offsets[prompt], offsets[prompt + 1]
        size, found, highest = end - start, prompt, most
        for place in range(start, start + (0 if stays[prompt] else prefix(size, most))):
            feature = features[place]
            for other in posted[begin[feature] : begin[feature] + filled[feature]]:
                if seen[other] == prompt:
                    continue
                seen[other] = prompt
                first, last = offsets[other], offsets[other + 1]
                if f_measure(min(size, last - first), size, last - first) <= most:
                    continue
                if f_measure(common(features[start:end], features[first:last]), size, last - first) <= most:
                    continue
                value = f_measure(longest_common(words[start:end], words[first:last]), size, last - first)
                if value > highest or (value == highest and value > most and other < found):
                    found, highest = other, value
        if found != prompt:
            best[prompt], score[prompt] = found, highest
            continue
        for place in range(start, start + prefix(size, most)):
            feature = features[place]
            posted[begin[feature] + filled[feature]] = prompt
            filled[feature] += 1
    return best, score
