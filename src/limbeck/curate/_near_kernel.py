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
from limbeck.curate._token_kernel import mixed, signed

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
    fours = shingles.size // 4 * 4
    for place in range(
        0, fours, 4
    ):  # four at a time, so that the orders are read and `least` is written a quarter as often
        one, two = np.uint32(shingles[place] >> np.uint64(32)), np.uint32(shingles[place + 1] >> np.uint64(32))
        three, four = np.uint32(shingles[place + 2] >> np.uint64(32)), np.uint32(shingles[place + 3] >> np.uint64(32))
        for order in range(least.size):
            factor, addend = factors[order], addends[order]
            low = min(np.uint32(factor * one + addend), np.uint32(factor * two + addend))
            high = min(np.uint32(factor * three + addend), np.uint32(factor * four + addend))
            least[order] = min(least[order], min(low, high))
    for shingle in shingles[fours:]:
        high = np.uint32(shingle >> np.uint64(32))
        for order in range(least.size):
            least[order] = min(least[order], np.uint32(factors[order] * high + addends[order]))


@compiled
def distinct(shingles: NDArray[np.uint64], table: NDArray[np.uint64]) -> int:
    """Move every shingle's first occurrence to the front, in order, and return how many there are."""
    mask, kept = np.uint64(table.size - 1), 0
    table[:] = 0
    for shingle in shingles:  # `add` written out: a call costs more than it does
        slot = (shingle >> np.uint64(1)) & mask
        while table[slot] != 0 and table[slot] != shingle:
            slot = (slot + np.uint64(1)) & mask
        if table[slot] == 0:
            table[slot] = shingle
            shingles[kept] = shingle
            kept += 1
    return kept


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
            kept = distinct(shingles[filled : filled + cuttings], scratch[: slots(cuttings)])
            total = np.uint64(size)
            for shingle in shingles[filled : filled + kept]:
                total += shingle
            sketch(shingles[filled : filled + kept], factors, addends, least)
            for band in range(keys.shape[1]):
                key = np.uint64(size) * STEP
                for row in range(rows):
                    key += np.uint64(least[band * rows + row]) * weights[row]
                keys[made, band] = np.uint32(key >> np.uint64(32))
            for first in range(0, least.size, 16):
                word = np.uint64(0)
                for order in range(first, min(first + 16, least.size)):
                    mark = np.uint32(least[order] * np.uint32(0x9E3779B1)) >> np.uint32(28)
                    word |= np.uint64(mark) << np.uint64(4 * (order - first))
                nibbles[made, first >> 4] = word
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
    mask, word, six = np.uint64(table.size - 1), np.uint64(bits.size - 1), np.uint64(6)
    for shingle in shingles:
        hashed = shingle >> np.uint64(1)
        slot = hashed & mask
        while table[slot] != 0:  # they are all different
            slot = (slot + np.uint64(1)) & mask
        table[slot] = shingle
        bits[(hashed >> six) & word] |= np.uint64(1) << (hashed & np.uint64(63))


@compiled
def compare(
    one: int,
    others: NDArray[np.int64],
    threshold: float,
    shingles: NDArray[np.uint64],
    begin: NDArray[np.int64],
    count: NDArray[np.int32],
    text: NDArray[np.int32],
    parent: NDArray[np.int32],
    failed: NDArray[np.uint64],
    table: NDArray[np.uint64],
    bits: NDArray[np.uint64],
    pairs: NDArray[np.int32],
    found: int,
) -> int:
    """Join a set with those of the others whose Jaccard similarity to it reaches the threshold; returns how many pairs there are.

    `bits` is a Bloom filter: without a branch to mispredict it rules out most sets that are not alike enough.
    """
    root, loaded = find(parent, text[one]), False
    mask, word, six = np.uint64(table.size - 1), np.uint64(bits.size - 1), np.uint64(6)
    for other in others:
        pair = np.uint64(min(one, other)) << np.uint64(32) | np.uint64(max(one, other))
        memory = mixed(pair) & np.uint64(failed.size - 1)
        theirs = text[other]
        while parent[theirs] != theirs:  # `find` written out
            theirs = parent[theirs]
        if theirs == root or failed[memory] == pair:
            continue
        if not loaded:
            load(shingles[begin[one] : begin[one] + count[one]], table, bits)
            loaded = True
        needed = threshold / (1.0 + threshold) * (count[one] + count[other]) - 1e-9
        place, last, hits = begin[other], begin[other] + count[other], 0
        while place < last and hits + (last - place) >= needed:
            block, possible = min(place + 32, last), np.uint64(0)
            for at in range(place, block):
                hashed = shingles[at] >> np.uint64(1)
                possible += (bits[(hashed >> six) & word] >> (hashed & np.uint64(63))) & np.uint64(1)
            hits, place = hits + signed(possible), block
        if place < last:
            failed[memory] = pair
            continue
        place = begin[other]
        while hits >= needed and place < last:  # `hits` falls by every shingle that the table does not hold after all
            shingle = shingles[place]
            hashed = shingle >> np.uint64(1)
            if (bits[(hashed >> six) & word] >> (hashed & np.uint64(63))) & np.uint64(1):
                slot = hashed & mask
                while table[slot] != 0 and table[slot] != shingle:
                    slot = (slot + np.uint64(1)) & mask
                hits -= table[slot] == 0
            place += 1
        if hits < needed:
            failed[memory] = pair
        elif union(parent, text[one], text[other]):
            pairs[found, 0], pairs[found, 1] = text[one], text[other]
            found, root = found + 1, find(parent, root)
    return found


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
    it, in the order of their `further` keys, those of the next band: the more alike, the closer. Sketches that agree in fewer
    than `agree` places are too different to be worth the exact comparison; `failed` remembers pairs compared in vain.
    Returns how many pairs were written and how many buckets were so large.
    """
    found, crowded, start = 0, 0, 0
    low, ones, bytes_ = np.uint64(0xFFFFFFFF), np.uint64(0x1111111111111111), np.uint64(0x0F0F0F0F0F0F0F0F)
    table, bits, others = np.empty(16, dtype=np.uint64), np.empty(16, dtype=np.uint64), np.empty(most, dtype=np.int64)
    while start < packed.size:
        end = start + 1
        while end < packed.size and packed[end] >> np.uint64(32) == packed[start] >> np.uint64(32):
            end += 1
        if end - start > most:
            crowded += 1
            for place in range(start, end):
                member = packed[place] & low
                packed[place] = np.uint64(further[member]) << np.uint64(32) | member
            packed[start:end].sort()
        for place in range(
            start + 1, end
        ):  # no function is called for every pair: a call costs more than the comparison
            one, met = signed(packed[place] & low), 0
            root = text[one]
            while parent[root] != root:
                root = parent[root]
            for before in range(place - 1, max(start, place - most) - 1, -1):
                other, agreed = signed(packed[before] & low), np.uint64(0)
                for word in range(nibbles.shape[1]):
                    differ = nibbles[one, word] ^ nibbles[other, word]
                    differ |= differ >> np.uint64(2)
                    same = ~(differ | differ >> np.uint64(1)) & ones
                    same = (same + (same >> np.uint64(4))) & bytes_
                    agreed += (same * np.uint64(0x0101010101010101)) >> np.uint64(56)
                if signed(agreed) < agree or (spare[one] and spare[other]):
                    continue
                theirs = text[other]
                while parent[theirs] != theirs:
                    theirs = parent[theirs]
                alike = min(count[one], count[other]) >= threshold * max(count[one], count[other]) - 1e-9
                if theirs != root and alike:
                    others[met] = other
                    met += 1
            if met > 0:
                size = slots(count[one])
                if table.size < size:
                    table, bits = np.empty(size, dtype=np.uint64), np.empty(size, dtype=np.uint64)
                found = compare(
                    one, others[:met], threshold, shingles, begin, count, text, parent, failed, table[:size],
                    bits[: size // 4], pairs, found,
                )  # fmt: skip
        start = end
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
