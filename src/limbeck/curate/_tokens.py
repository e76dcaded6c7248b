"""Text as token hashes: the common ground of near-duplicates and decontamination, a few hundred megabytes a second.

    texts      "It’s 3 + 5 = 8."          "IT'S 3+5 = 8"
    tokens     its 3 + 5 = 8              its 3 + 5 = 8         the same six hashes
    spans      0-6 7-8 9-10 11-12 ...                           bytes of the UTF-8 text, for the evidence

What a token is:

- a run of letters and digits after Unicode folding (`_fold`: compatibility forms, case, curly quotes, no-break spaces,
  zero-width characters; accents unless `diacritics`). **Digits are kept**: problems that differ in a number differ.
- an apostrophe between letters is as if it were not there (don't, don’t and dont are one token);
- one character of a script that is written without spaces (Chinese, Japanese, Thai, ...) or an emoji;
- with `operators`, a sign between two operands (3 + 5, x=1, -15, 50%), because 3 + 5 is not 3 - 5; bullets, tags, emphasis
  and hyphens are not. All other punctuation parts tokens and is gone.

Two tokens with equal hashes are taken to be equal: 64 bits, so one chance in 10^8 among a million different words.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

CHUNK = 1 << 20
"""Bytes of text that one thread takes at a time."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Tokens(NamedTuple):
    """The tokens of some texts: those of text t are `hashes[offsets[t] : offsets[t + 1]]`.

    `begins` and `ends` are their places in the UTF-8 bytes of that text; empty unless spans were asked for.
    """

    hashes: NDArray[np.uint64]
    offsets: NDArray[np.int64]
    begins: NDArray[np.uint32]
    ends: NDArray[np.uint32]


def tokens(texts: Sequence[str], *, diacritics: bool = False, operators: bool = True, spans: bool = False) -> Tokens:
    """Return the tokens of texts, worked out on all cores.

    `diacritics` keeps accents apart (é is not e), `operators` makes signs of formulas tokens, `spans` asks for the places.
    """
    parts = in_threads(
        lambda slice_: _of_texts(texts[slice_[0] : slice_[1]], diacritics, operators, spans),
        _cut([len(text) for text in texts]),
    )
    return _joined(list(parts))


def tokens_of_bytes(
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    *,
    diacritics: bool = False,
    operators: bool = True,
    spans: bool = False,
) -> Tokens:
    """Return the tokens of pieces `data[starts[p] : ends[p]]` of UTF-8 bytes, in this thread and without copying them."""
    from limbeck.curate._compile import announce
    from limbeck.curate._fold import folding

    announce()
    from limbeck.curate._token_kernel import scan

    starts, ends = np.ascontiguousarray(starts, dtype=np.int64), np.ascontiguousarray(ends, dtype=np.int64)
    # the kernel reads eight bytes at a time
    data = data.view() if data.size >= 8 else np.concatenate([data, np.zeros(8, dtype=np.uint8)])
    data.flags.writeable = False  # as bytes are, so that the kernel is compiled for one kind of array
    until = np.zeros(starts.size, dtype=np.int64)
    room = int((ends - starts).sum()) // 3 + 64
    table = folding(diacritics)
    while True:
        hashes = np.empty(room, dtype=np.uint64)
        begins, closes = (np.empty(room if spans else 1, dtype=np.uint32) for _ in range(2))
        filled = scan(
            data, starts, ends, (table.fold, table.expansion, table.kind), operators, (hashes, begins, closes), until
        )
        if filled >= 0:
            break
        room *= 4  # one-letter words and ideographs: rare enough to be done again
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), until])
    # not copied: what is left over of the arrays was never touched, so it takes no memory
    return Tokens(hashes[:filled], offsets, begins[: filled * spans], closes[: filled * spans])


def in_threads(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield `work(item)` in the order of the items, made by as many threads as this process may use cores."""
    waiting = list(items)
    if len(waiting) < 2 or cores() == 1:
        yield from map(work, waiting)
        return
    with ThreadPoolExecutor(max_workers=min(cores(), len(waiting)), thread_name_prefix="limbeck-curate") as pool:
        yield from pool.map(work, waiting)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _of_texts(texts: Sequence[str], diacritics: bool, operators: bool, spans: bool) -> Tokens:
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    bounds = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    data = np.frombuffer(b"".join(encoded), dtype=np.uint8)
    return tokens_of_bytes(data, bounds[:-1], bounds[1:], diacritics=diacritics, operators=operators, spans=spans)


def _cut(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Return slices of about CHUNK, never empty."""
    total = np.cumsum(sizes) // CHUNK if len(sizes) else np.zeros(0, dtype=np.int64)
    cuts = np.flatnonzero(np.diff(total)) + 1
    return list(pairwise([0, *map(int, cuts), len(sizes)])) if len(sizes) else []


def _joined(parts: list[Tokens]) -> Tokens:
    if not parts:
        none = np.zeros(0, dtype=np.uint32)
        return Tokens(np.zeros(0, dtype=np.uint64), np.zeros(1, dtype=np.int64), none, none)
    bases = np.cumsum([0, *(p.hashes.size for p in parts[:-1])])
    offsets = [part.offsets[1:] + base for part, base in zip(parts, bases, strict=True)]
    return Tokens(
        np.concatenate([p.hashes for p in parts]),
        np.concatenate([np.zeros(1, dtype=np.int64), *offsets]),
        np.concatenate([p.begins for p in parts]),
        np.concatenate([p.ends for p in parts]),
    )
