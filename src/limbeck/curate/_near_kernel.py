"""The compiled half of near-duplicates: sets of shingles, their MinHash sketches, and the check of every candidate.

    tokens   a b c d e f g      (hashes; 7 of them, so shingles of 2, with a mark at either end)
    set      {^a, ab, bc, cd, de, ef, fg, g$}
    sketch   128 numbers, each the least of one random order of the set; 32 bands of 4, each hashed to 32 bits

A text has one set, or two when its length is close to where the shingle size changes: a pair is compared by the shingle
size of its shorter text, so the longer one has to be cut in the same way. Those further sets are called spare.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from limbeck.curate._compile import compiled
from limbeck.curate._token_kernel import mixed

EDGE = np.uint64(0xA0761D6478BD642F)
"""Stands for the beginning of a short text; one more stands for its end."""
STEP = np.uint64(0x9E3779B97F4A7C15)
MOST = np.uint32(0xFFFFFFFF)


@compiled
def cut(tokens: NDArray[np.uint64], size: int, out: NDArray[np.uint64]) -> int:
    """Write down the shingles of a text and return how many; a text shorter than a shingle is one shingle."""
    count = tokens.size
    if size == 2:  # with a mark at either end, so that the order of very few words counts
        before = EDGE
        for place in range(count):
            out[place] = mixed(before * STEP + tokens[place]) | np.uint64(1)
            before = tokens[place]
        out[count] = mixed(before * STEP + EDGE + np.uint64(1)) | np.uint64(1)
        return count + 1
    width = min(size, count)
    value, top = np.uint64(0), np.uint64(1)
    for place in range(width):
        value = value * STEP + tokens[place]
        top *= STEP
    out[0] = mixed(value) | np.uint64(1)  # never 0, which marks an empty slot
    for start in range(1, count - width + 1):  # rolled on: one word leaves, one comes
        value = value * STEP + tokens[start + width - 1] - top * tokens[start - 1]
        out[start] = mixed(value) | np.uint64(1)
    return count - width + 1


@compiled
def slots(count: int) -> int:
    """Return the size of a hash table for so many shingles: a power of two, at most half full."""
    size = 16
    while size < 2 * count:
        size *= 2
    return size


@compiled
def add(table: NDArray[np.uint64], shingle: np.uint64) -> bool:
    """Put a shingle into a table; returns whether it is new."""
    mask = np.uint64(table.size - 1)
    slot = (shingle >> np.uint64(1)) & mask
    while table[slot] != 0:
        if table[slot] == shingle:
            return False
        slot = (slot + np.uint64(1)) & mask
    table[slot] = shingle
    return True


@compiled
def sketch(
    shingles: NDArray[np.uint64],
    factors: NDArray[np.uint32],
    addends: NDArray[np.uint32],
    least: NDArray[np.uint32],
) -> None:
    """Fill `least` with the smallest value of each of the random orders x -> factor * x + addend (mod 2^32)."""
    least[:] = MOST
    for shingle in shingles:
        high = np.uint32(shingle >> np.uint64(32))
        for order in range(least.size):
            least[order] = min(least[order], np.uint32(factors[order] * high + addends[order]))


@compiled
def sets_of(
    tokens: NDArray[np.uint64],
    offsets: NDArray[np.int64],
    bounds: NDArray[np.int64],
    sizes: NDArray[np.int64],
    reach: float,
    factors: NDArray[np.uint32],
    addends: NDArray[np.uint32],
    rows: int,
    shingles: NDArray[np.uint64],
    text: NDArray[np.int32],
    count: NDArray[np.int32],
    spare: NDArray[np.bool_],
    whole: NDArray[np.uint64],
    keys: NDArray[np.uint32],
    nibbles: NDArray[np.uint64],
) -> tuple[int, int]:
    """Cut every text and sketch its sets; returns how many sets and how many shingles were written down.

    A text of n tokens is cut into shingles of `sizes[level]`, `level` being the number of `bounds` that n reaches, and
    again by the level below while n is less than `reach` times the bound. `whole` is a hash of the whole set, `nibbles`
    holds 4 bits of a hash of every number of the sketch, 16 in a word.
    """
    made, filled = 0, 0
    least = np.empty(factors.size, dtype=np.uint32)
    weights = np.empty(rows, dtype=np.uint64)
    for row in range(rows):
        weights[row] = mixed(np.uint64(row + 1)) | np.uint64(1)
    longest = 0
    for t in range(offsets.size - 1):
        longest = max(longest, offsets[t + 1] - offsets[t])
    scratch = np.zeros(slots(longest + 2), dtype=np.uint64)
    for t in range(offsets.size - 1):
        words = tokens[offsets[t] : offsets[t + 1]]
        level = 0
        while level < bounds.size and words.size >= bounds[level]:
            level += 1
        cuts = 0 if words.size == 0 else 2 if level > 0 and words.size < reach * bounds[level - 1] else 1
        for lower in range(cuts):
            size = sizes[level - lower]
            cuttings = cut(words, size, shingles[filled:])
            table = scratch[: slots(cuttings)]
            table[:] = 0
            kept, total = 0, np.uint64(size)
            for place in range(filled, filled + cuttings):
                shingle = shingles[place]
                if add(table, shingle):
                    shingles[filled + kept] = shingle
                    total += shingle
                    kept += 1
            sketch(shingles[filled : filled + kept], factors, addends, least)
            for band in range(keys.shape[1]):
                key = np.uint64(size) * STEP
                for row in range(rows):
                    key += np.uint64(least[band * rows + row]) * weights[row]
                keys[made, band] = np.uint32(key >> np.uint64(32))
            nibbles[made] = 0
            for order in range(least.size):
                shift = np.uint64(4 * (order & 15))
                mark = np.uint32(least[order] * np.uint32(0x9E3779B1)) >> np.uint32(28)
                nibbles[made, order >> 4] |= np.uint64(mark) << shift
            text[made], count[made], spare[made], whole[made] = t, kept, lower == 1, total
            made, filled = made + 1, filled + kept
    return made, filled


@compiled
def find(parent: NDArray[np.int32], item: int) -> int:
    """Return the first item of the set that `item` is in, and shorten the way there."""
    while parent[item] != item:
        parent[item] = parent[parent[item]]
        item = parent[item]
    return item


@compiled
def union(parent: NDArray[np.int32], one: int, other: int) -> bool:
    """Make two sets one, under the smaller first item: the result does not depend on the order of unions."""
    one, other = find(parent, one), find(parent, other)
    if one == other:
        return False
    parent[max(one, other)] = min(one, other)
    return True


@compiled
def union_all(parent: NDArray[np.int32], pairs: NDArray[np.int32]) -> None:
    """Make the sets of every pair one."""
    for place in range(pairs.shape[0]):
        union(parent, pairs[place, 0], pairs[place, 1])


@compiled
def flatten(parent: NDArray[np.int32]) -> None:
    """Let every item point at the first of its set."""
    for item in range(parent.size):
        parent[item] = find(parent, item)


@compiled
def load(shingles: NDArray[np.uint64], table: NDArray[np.uint64], bits: NDArray[np.uint64]) -> None:
    """Put a set into an empty table, and mark it in a Bloom filter with at least 32 bits a shingle."""
    table[:] = 0
    bits[:] = 0
    word, six = np.uint64(bits.size - 1), np.uint64(6)
    for shingle in shingles:
        add(table, shingle)
        hashed = shingle >> np.uint64(1)
        bits[(hashed >> six) & word] |= np.uint64(1) << (hashed & np.uint64(63))


@compiled
def alike(
    table: NDArray[np.uint64], bits: NDArray[np.uint64], held: int, shingles: NDArray[np.uint64], threshold: float
) -> bool:
    """Say whether the Jaccard similarity of a set and the set of `held` shingles in the table reaches the threshold.

    `bits` is a Bloom filter of the same set: without a branch to mispredict it rules out most pairs that do not.
    """
    needed = threshold / (1.0 + threshold) * (held + shingles.size) - 1e-9
    possible, word, six = np.uint64(0), np.uint64(bits.size - 1), np.uint64(6)
    for shingle in shingles:
        hashed = shingle >> np.uint64(1)
        possible += (bits[(hashed >> six) & word] >> (hashed & np.uint64(63))) & np.uint64(1)
    if possible < needed:
        return False
    mask = np.uint64(table.size - 1)
    hits, left = 0, shingles.size
    for shingle in shingles:
        if hits + left < needed:
            return False
        slot = (shingle >> np.uint64(1)) & mask
        while table[slot] != 0 and table[slot] != shingle:
            slot = (slot + np.uint64(1)) & mask
        hits += table[slot] != 0
        left -= 1
    return hits >= needed


@compiled
def agreeing(nibbles: NDArray[np.uint64], one: np.int64, other: np.int64) -> int:
    """Return in how many of their 4-bit fields two sketches are equal."""
    total = np.uint64(0)
    for word in range(nibbles.shape[1]):
        differ = nibbles[one, word] ^ nibbles[other, word]
        differ |= differ >> np.uint64(2)
        differ |= differ >> np.uint64(1)
        same = ~differ & np.uint64(0x1111111111111111)
        total += (same + (same >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    low = np.uint64(0x00FF00FF00FF00FF)
    return int((((total & low) + ((total >> np.uint64(8)) & low)) * np.uint64(0x0001000100010001)) >> np.uint64(48))


@compiled
def join_band(
    packed: NDArray[np.uint64],
    further: NDArray[np.uint32],
    most: int,
    threshold: float,
    agree: int,
    shingles: NDArray[np.uint64],
    begin: NDArray[np.int64],
    count: NDArray[np.int32],
    text: NDArray[np.int32],
    spare: NDArray[np.bool_],
    nibbles: NDArray[np.uint64],
    parent: NDArray[np.int32],
    failed: NDArray[np.uint64],
    pairs: NDArray[np.int32],
) -> tuple[int, int]:
    """Compare the members of every bucket of one band; writes down pairs that join two clusters.

    `packed` holds key << 32 | set, sorted. In a bucket of more than `most` members each is compared with the `most` before
    it, in the order of their `further` keys, those of the next band: the more alike, the closer. Sketches that agree in
    fewer than `agree` places are too different to be worth the exact comparison; `failed` remembers pairs compared in vain.
    Returns how many pairs were written and how many buckets were so large.
    """
    found, crowded, start = 0, 0, 0
    low, remembered = np.uint64(0xFFFFFFFF), np.uint64(failed.size - 1)
    scratch, filter_ = np.empty(16, dtype=np.uint64), np.empty(16, dtype=np.uint64)
    while start < packed.size:
        end = start + 1
        while end < packed.size and packed[end] >> np.uint64(32) == packed[start] >> np.uint64(32):
            end += 1
        bucket = packed[start:end]
        start = end
        if bucket.size > most:
            crowded += 1
            for place in range(bucket.size):
                member = bucket[place] & low
                bucket[place] = np.uint64(further[member]) << np.uint64(32) | member
            bucket.sort()
        for place in range(1, bucket.size):
            one = np.int64(bucket[place] & low)
            size, loaded, root = slots(count[one]), False, find(parent, text[one])
            for before in range(place - 1, max(0, place - most) - 1, -1):
                other = np.int64(bucket[before] & low)
                if spare[one] and spare[other]:
                    continue
                if agreeing(nibbles, one, other) < agree or find(parent, text[other]) == root:
                    continue
                smaller, larger = min(count[one], count[other]), max(count[one], count[other])
                if smaller < threshold * larger - 1e-9:
                    continue
                pair = np.uint64(min(one, other)) << np.uint64(32) | np.uint64(max(one, other))
                memory = mixed(pair) & remembered
                if failed[memory] == pair:
                    continue
                if not loaded:
                    if scratch.size < size:
                        scratch, filter_ = np.empty(size, dtype=np.uint64), np.empty(size, dtype=np.uint64)
                    load(shingles[begin[one] : begin[one] + count[one]], scratch[:size], filter_[: size // 4])
                    loaded = True
                against = shingles[begin[other] : begin[other] + count[other]]
                if alike(scratch[:size], filter_[: size // 4], count[one], against, threshold):
                    union(parent, text[one], text[other])
                    pairs[found, 0], pairs[found, 1] = text[one], text[other]
                    found, root = found + 1, find(parent, root)
                else:
                    failed[memory] = pair
    return found, crowded


@compiled
def jaccard(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> float:
    """Return the Jaccard similarity of two sets of shingles."""
    table, common = np.zeros(slots(one.size + other.size), dtype=np.uint64), 0
    for shingle in one:
        add(table, shingle)
    for shingle in other:
        common += not add(table, shingle)
    return common / (one.size + other.size - common)
