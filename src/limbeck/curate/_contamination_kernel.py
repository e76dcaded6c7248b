"""The inverted index and its search, compiled: rows of tokens in, what they share with evaluation items out.

An item's part (its prompt, its answer) is cut into grams of five tokens. Numbers are masked in a gram of three words or more, so
that a problem with other numbers is found too; which it was is told afterwards by comparing the numbers themselves:

    item   each week she buys 12 eggs           grams   [each week she buys #] [week she buys # eggs]
    row    Each week, she buys 15 eggs          grams   the same two; number of the item that is there: 0, that differs: 1

A posting is one place of one part; its weight says how telling the gram is there (see `_contamination_index`). For every row and
part the search returns a line of `FEATURES`, about the window of the row in which the part is covered best.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from limbeck.curate._compile import compiled

GRAM = 5
"""Tokens of a gram. A part that is shorter is one gram: looked for as a phrase and as a whole turn."""
FEATURES = ("row", "part", "weighted", "mass", "raw", "run", "run_mass", "begin", "end", "same", "other", "length")
"""What is told of a row and a part: the share of the part's weight and of its tokens that the row holds, the weight
itself, the longest run in tokens and its weight, the first and last token of the window, how many numbers of the part
are the same and differ."""
ROW, PART, WEIGHTED, MASS, RAW, RUN, RUN_MASS, BEGIN, END, SAME, OTHER, LENGTH = range(len(FEATURES))
MOST_POSTINGS = 64
"""Places of a gram that are followed; a gram in more places than this is boilerplate and counts almost nothing."""
WHOLE_TURN = 7
"""The salt of the gram that stands for a whole turn of fewer than GRAM tokens."""
NUMBER = np.uint64(0x9A3F5D7C11E8B2F5)
GRAM_FACTOR, GRAM_FINISH = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xFF51AFD7ED558CCD)


@compiled
def number_flags(
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    offsets: NDArray[np.int64],
    begins: NDArray[np.uint32],
    closes: NDArray[np.uint32],
) -> NDArray[np.uint8]:
    """Return for each token whether it consists of ASCII digits alone."""
    flags = np.zeros(begins.size, dtype=np.uint8)
    for piece in range(starts.size):
        for token in range(offsets[piece], offsets[piece + 1]):
            flags[token] = 1
            for at in range(starts[piece] + begins[token], starts[piece] + closes[token]):
                if data[at] < 48 or data[at] > 57:
                    flags[token] = 0
                    break
    return flags


@compiled
def gram(hashes: NDArray[np.uint64], numbers: NDArray[np.uint8], at: int, size: int, salt: int) -> np.uint64:
    """Return the hash of `size` tokens from `at`, numbers masked where three words or more are left."""
    count = 0
    for token in range(at, at + size):
        count += numbers[token]
    masking = size - count >= 3
    value = np.uint64(size * 16 + salt)
    for token in range(at, at + size):
        word = NUMBER if masking and numbers[token] else hashes[token]
        value = (value ^ word) * GRAM_FACTOR
        value ^= value >> np.uint64(29)
    value *= GRAM_FINISH
    return value ^ (value >> np.uint64(32))


@compiled
def postings(
    hashes: NDArray[np.uint64], numbers: NDArray[np.uint8], offsets: NDArray[np.int64], phrases: NDArray[np.uint8]
) -> tuple[NDArray[np.uint64], NDArray[np.int32], NDArray[np.int32]]:
    """Return gram, part and place of every gram of every part; `phrases` says which short parts may stand within a text."""
    room = hashes.size + 2 * offsets.size
    grams, parts, places = np.empty(room, np.uint64), np.empty(room, np.int32), np.empty(room, np.int32)
    filled = 0
    for part in range(offsets.size - 1):
        first, length = offsets[part], offsets[part + 1] - offsets[part]
        size = min(length, GRAM)
        for place in range(max(0, length - GRAM + 1)):
            grams[filled] = gram(hashes, numbers, first + place, GRAM, 0)
            parts[filled], places[filled] = part, place
            filled += 1
        if 0 < length < GRAM:
            for salt in (0, WHOLE_TURN):
                if salt == WHOLE_TURN or phrases[part]:
                    grams[filled] = gram(hashes, numbers, first, size, salt)
                    parts[filled], places[filled] = part, 0
                    filled += 1
    return grams[:filled], parts[:filled], places[:filled]


@compiled
def spread(
    grams: NDArray[np.uint64], first: NDArray[np.int64], parts: NDArray[np.int32], item_of: NDArray[np.int32]
) -> NDArray[np.int32]:
    """Return in how many different items each gram stands; its postings are `first[g] : first[g + 1]`, in order of items."""
    counts = np.zeros(first.size - 1, dtype=np.int32)
    for g in range(first.size - 1):
        last = -1
        for posting in range(first[g], first[g + 1]):
            item = item_of[parts[posting]]
            counts[g] += item != last
            last = item
    return counts


@compiled
def table_of(grams: NDArray[np.uint64], bits: int) -> tuple[NDArray[np.uint64], NDArray[np.int32], NDArray[np.uint64]]:
    """Return an open hash table of 2**bits places (keys, gram numbers) and a filter of 16 bits a place for quick misses."""
    mask = np.uint64((1 << bits) - 1)
    keys, values = np.zeros(1 << bits, dtype=np.uint64), np.full(1 << bits, -1, dtype=np.int32)
    sieve = np.zeros(1 << max(bits - 2, 10), dtype=np.uint64)
    narrow = np.uint64(sieve.size - 1)
    for g in range(grams.size):
        at = grams[g] & mask
        while values[at] >= 0:
            at = (at + np.uint64(1)) & mask
        keys[at], values[at] = grams[g], g
        sieve[(grams[g] >> np.uint64(6)) & narrow] |= np.uint64(1) << (grams[g] & np.uint64(63))
    return keys, values, sieve


@compiled
def lookup(value: np.uint64, keys: NDArray[np.uint64], values: NDArray[np.int32], sieve: NDArray[np.uint64]) -> int:
    """Return the number of a gram, or -1."""
    word = sieve[(value >> np.uint64(6)) & np.uint64(sieve.size - 1)]
    if not (word >> (value & np.uint64(63))) & np.uint64(1):
        return -1
    mask = np.uint64(keys.size - 1)
    at = value & mask
    while values[at] >= 0:
        if keys[at] == value:
            return int(values[at])
        at = (at + np.uint64(1)) & mask
    return -1


@compiled
def follow(
    g: int,
    token: int,
    filled: int,
    first: NDArray[np.int64],
    at_token: NDArray[np.int32],
    at_posting: NDArray[np.int32],
) -> int:
    """Write down the first postings of a gram at a token; returns how many there are now, or -1 where there is no room."""
    if filled + MOST_POSTINGS > at_token.size:
        return -1
    for posting in range(first[g], min(first[g + 1], first[g] + MOST_POSTINGS)):
        at_token[filled], at_posting[filled] = token, posting
        filled += 1
    return filled


@compiled
def hits_of_row(
    hashes: NDArray[np.uint64],
    numbers: NDArray[np.uint8],
    bounds: NDArray[np.int64],
    keys: NDArray[np.uint64],
    values: NDArray[np.int32],
    sieve: NDArray[np.uint64],
    first: NDArray[np.int64],
    sizes: NDArray[np.uint8],
    at_token: NDArray[np.int32],
    at_posting: NDArray[np.int32],
    common: NDArray[np.int32],
) -> int:
    """Fill in where (token of the row) which postings are met, and in `common` the gram at each token where it is a common one.

    Turns are parted at `bounds`. Returns how many postings are met, or -1 where there is no room for them.
    """
    filled, six, narrow = 0, np.uint64(6), np.uint64(sieve.size - 1)
    common[: bounds[-1] - bounds[0]] = -1
    for piece in range(bounds.size - 1):
        begin, end = bounds[piece], bounds[piece + 1]
        for token in range(begin, end - GRAM + 1):
            count = 0
            for at in range(GRAM):  # `gram` and the sieve of `lookup` written out: calls cost more than they do
                count += numbers[token + at]
            value = np.uint64(GRAM * 16)
            for at in range(GRAM):
                word = NUMBER if GRAM - count >= 3 and numbers[token + at] else hashes[token + at]
                value = (value ^ word) * GRAM_FACTOR
                value ^= value >> np.uint64(29)
            value *= GRAM_FINISH
            value ^= value >> np.uint64(32)
            if not (sieve[(value >> six) & narrow] >> (value & np.uint64(63))) & np.uint64(1):
                continue
            g = lookup(value, keys, values, sieve)
            if g < 0:
                continue
            if first[g + 1] - first[g] > MOST_POSTINGS:
                common[token - bounds[0]] = g
            filled = follow(g, token - bounds[0], filled, first, at_token, at_posting)
            if filled < 0:
                return -1
        for size in range(1, GRAM):
            for token in range(begin, end - size + 1 if sizes[size] else begin):
                g = lookup(gram(hashes, numbers, token, size, 0), keys, values, sieve)
                filled = follow(g, token - bounds[0], filled, first, at_token, at_posting) if g >= 0 else filled
                if filled < 0:
                    return -1
        if 0 < end - begin < GRAM and sizes[0]:
            g = lookup(gram(hashes, numbers, begin, end - begin, WHOLE_TURN), keys, values, sieve)
            filled = follow(g, begin - bounds[0], filled, first, at_token, at_posting) if g >= 0 else filled
            if filled < 0:
                return -1
    return filled


@compiled
def best_window(
    tokens: NDArray[np.int32], places: NDArray[np.int32], weights: NDArray[np.float32], length: int
) -> tuple[int, int]:
    """Return the first and the end of the hits, in order of tokens, that hold most weight within three lengths of the part."""
    counts = np.zeros(length, dtype=np.int32)
    span, low, best, best_low, best_high, current = 3 * length + 60, 0, -1.0, 0, 0, 0.0
    for high in range(tokens.size):
        if counts[places[high]] == 0:
            current += weights[high]
        counts[places[high]] += 1
        while tokens[high] - tokens[low] > span:
            counts[places[low]] -= 1
            if counts[places[low]] == 0:
                current -= weights[low]
            low += 1
        if current > best + 1e-6:
            best, best_low, best_high = current, low, high + 1
    return best_low, best_high


@compiled
def compared_numbers(
    tokens: NDArray[np.int32],
    places: NDArray[np.int32],
    grown_to: NDArray[np.int32],
    size: int,
    row_hashes: NDArray[np.uint64],
    part_hashes: NDArray[np.uint64],
    part_numbers: NDArray[np.uint8],
    row_length: int,
) -> NDArray[np.uint8]:
    """Return for each token of the part 2 where it is a number that the row has in its place, 1 where the row has another there.

    A sentence that occurs twice with two numbers meets itself crosswise; so a token of the row is compared only within the
    longest run that it belongs to. `grown_to` is the length of each hit's run up to it.
    """
    state = np.zeros(part_hashes.size, np.uint8)
    run_at, run = np.full(part_hashes.size + 1, -9, np.int32), np.zeros(part_hashes.size + 1, np.int32)
    claim = np.zeros(row_length, np.int32)
    whole = grown_to.copy()
    for hit in range(tokens.size - 1, -1, -1):  # a run's hits learn from its end how long it is
        token, place = tokens[hit], places[hit]
        if run_at[place + 1] == token + 1:
            whole[hit] = run[place + 1]
        run_at[place], run[place] = token, whole[hit]
        for step in range(size):
            claim[token + step] = max(claim[token + step], whole[hit])
    for hit in range(tokens.size):
        for step in range(size):
            token, place = tokens[hit] + step, places[hit] + step
            if part_numbers[place] and whole[hit] == claim[token]:
                state[place] = max(state[place], 2 if row_hashes[token] == part_hashes[place] else 1)
    return state


@compiled
def features_of(
    line: NDArray[np.float64],
    tokens: NDArray[np.int32],
    places: NDArray[np.int32],
    weights: NDArray[np.float32],
    row_hashes: NDArray[np.uint64],
    part_hashes: NDArray[np.uint64],
    part_numbers: NDArray[np.uint8],
    part_common: NDArray[np.int32],
    row_common: NDArray[np.int32],
    total: float,
) -> None:
    """Fill in the features of one row and one part from their hits, in order of tokens.

    Common grams are followed to their first postings only; `part_common` and `row_common` say where else they stand.
    """
    length = part_hashes.size
    low, high = best_window(tokens, places, weights, length)
    size = min(length, GRAM)
    seen, covered = np.zeros(length, np.uint8), np.zeros(length, np.uint8)
    run_at, run, run_mass = np.full(length, -9, np.int32), np.zeros(length, np.int32), np.zeros(length, np.float64)
    grown_to = np.zeros(high - low, np.int32)
    mass, longest, longest_mass = 0.0, 0, 0.0
    for hit in range(low, high):
        token, place = tokens[hit], places[hit]
        if not seen[place]:
            seen[place] = 1
            mass += weights[hit]
        covered[place : place + size] = 1
        grown = place > 0 and run_at[place - 1] == token - 1
        run[place] = run[place - 1] + 1 if grown else size
        run_mass[place] = weights[hit] + (run_mass[place - 1] if grown else 0.0)
        run_at[place], grown_to[hit - low] = token, run[place]
        longest, longest_mass = max(longest, run[place]), max(longest_mass, run_mass[place])
    state = compared_numbers(
        tokens[low:high], places[low:high], grown_to, size, row_hashes, part_hashes, part_numbers, row_common.size
    )
    begin, end = tokens[low], tokens[high - 1] + size
    for place in range(length - size + 1):
        if part_common[place] >= 0 and not seen[place]:
            for token in range(max(0, begin - length), min(end + length, row_common.size)):
                if row_common[token] == part_common[place]:
                    covered[place : place + size] = 1
                    break
    line[WEIGHTED], line[MASS], line[RAW] = mass / total, mass, covered.sum() / length
    line[RUN], line[RUN_MASS], line[LENGTH] = longest, longest_mass, length
    line[BEGIN], line[END] = begin, end
    line[SAME], line[OTHER] = (state == 2).sum(), (state == 1).sum()


@compiled
def hits_of_part(
    part: int,
    hits: int,
    size: int,
    at_token: NDArray[np.int32],
    at_posting: NDArray[np.int32],
    parts: NDArray[np.int32],
    places: NDArray[np.int32],
    weights: NDArray[np.float32],
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    """Return tokens, places and weights of the hits of one part, in order of tokens."""
    tokens, own, weight = np.empty(size, np.int32), np.empty(size, np.int32), np.empty(size, np.float32)
    filled = 0
    for hit in range(hits):
        posting = at_posting[hit]
        if parts[posting] == part:
            tokens[filled], own[filled], weight[filled] = at_token[hit], places[posting], weights[posting]
            filled += 1
    order = np.argsort(tokens, kind="mergesort")
    return tokens[order], own[order], weight[order]


@compiled
def search(
    hashes: NDArray[np.uint64],
    numbers: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    row_pieces: NDArray[np.int64],
    keys: NDArray[np.uint64],
    values: NDArray[np.int32],
    sieve: NDArray[np.uint64],
    first: NDArray[np.int64],
    sizes: NDArray[np.uint8],
    parts: NDArray[np.int32],
    places: NDArray[np.int32],
    weights: NDArray[np.float32],
    part_offsets: NDArray[np.int64],
    part_hashes: NDArray[np.uint64],
    part_numbers: NDArray[np.uint8],
    part_common: NDArray[np.int32],
    totals: NDArray[np.float64],
    least: float,
) -> NDArray[np.float64]:
    """Return a line of FEATURES for each row and part of which the row holds `least` of the weight, or half the grams."""
    found = np.empty((256, 12), dtype=np.float64)
    filled = 0
    met, met_part = np.full(parts.size, -1, np.int64), np.full(totals.size, -1, np.int64)
    score, count, total_hits = np.zeros(totals.size), np.zeros(totals.size, np.int32), np.zeros(totals.size, np.int64)
    touched = np.empty(totals.size, np.int32)
    at_token, at_posting = np.empty(1 << 16, np.int32), np.empty(1 << 16, np.int32)
    common = np.empty(1 << 12, np.int32)
    for row in range(row_pieces.size - 1):
        bounds = offsets[row_pieces[row] : row_pieces[row + 1] + 1]
        if bounds.size < 2 or bounds[0] == bounds[-1]:
            continue
        if bounds[-1] - bounds[0] > common.size:
            common = np.empty(2 * (bounds[-1] - bounds[0]), np.int32)
        hits = -1
        while hits < 0:
            hits = hits_of_row(hashes, numbers, bounds, keys, values, sieve, first, sizes, at_token, at_posting, common)
            if hits < 0:
                at_token, at_posting = np.empty(2 * at_token.size, np.int32), np.empty(2 * at_token.size, np.int32)
        reached = 0
        for hit in range(hits):
            posting = at_posting[hit]
            part = parts[posting]
            if met_part[part] != row:
                met_part[part], score[part], count[part], total_hits[part] = row, 0.0, 0, 0
                touched[reached] = part
                reached += 1
            total_hits[part] += 1
            if met[posting] != row:
                met[posting] = row
                score[part] += weights[posting]
                count[part] += 1
        for t in range(reached):
            part = touched[t]
            length = part_offsets[part + 1] - part_offsets[part]
            if score[part] < least * totals[part] and 2 * count[part] < length - GRAM + 1 and count[part] < 9:
                continue
            if filled == found.shape[0]:
                found = np.concatenate((found, np.empty_like(found)))
            own_token, own_place, own_weight = hits_of_part(
                part, hits, total_hits[part], at_token, at_posting, parts, places, weights
            )
            found[filled, ROW], found[filled, PART] = row, part
            features_of(
                found[filled],
                own_token,
                own_place,
                own_weight,
                hashes[bounds[0] : bounds[-1]],
                part_hashes[part_offsets[part] : part_offsets[part + 1]],
                part_numbers[part_offsets[part] : part_offsets[part + 1]],
                part_common[part_offsets[part] : part_offsets[part + 1]],
                common[: bounds[-1] - bounds[0]],
                totals[part],
            )
            filled += 1
    return found[:filled]


@compiled
def overlap(
    row_hashes: NDArray[np.uint64],
    row_numbers: NDArray[np.uint8],
    part_hashes: NDArray[np.uint64],
    part_numbers: NDArray[np.uint8],
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return which tokens of a stretch of a row, and which of a part, stand in grams that both hold."""
    in_row, in_part = np.zeros(row_hashes.size, np.uint8), np.zeros(part_hashes.size, np.uint8)
    size = min(part_hashes.size, GRAM)
    of_part = np.empty(part_hashes.size - size + 1, np.uint64)
    for place in range(of_part.size):
        of_part[place] = gram(part_hashes, part_numbers, place, size, 0)
    for token in range(row_hashes.size - size + 1):
        value = gram(row_hashes, row_numbers, token, size, 0)
        for place in range(of_part.size):
            if of_part[place] == value:
                in_row[token : token + size] = 1
                in_part[place : place + size] = 1
    return in_row, in_part
