"""Evidence that a person can read: the row's text and the item's side by side, what they share marked.

    row    ... He told me: ⟦Robert bought 12 apples and gave 5⟧ of them away ...
    item   ⟦Robert bought 12 apples and gave 5⟧ to his sister. How many are left?

Spans are places in the characters of a turn: [turn, begin, end].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.curate._contamination_index import Index, Pieces, Read

OPEN, CLOSE = "⟦", "⟧"
AROUND = 60
"""Characters shown before and after what is shared."""
SHOWN = 1200
"""Characters of a text that are shown at most."""
Span = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Match:
    """What a row shares with one item: how much, where, and the two texts marked."""

    item: int
    verdict: str
    part: str
    share: float
    how: str = "words"
    spans: tuple[Span, ...] = ()
    row: str = ""
    text: str = ""

    def record(self, name: str, from_set: str) -> dict[str, Any]:
        """Return the match as JSON-able evidence."""
        return {
            "item": name,
            "set": from_set,
            "verdict": self.verdict,
            "by": self.how,
            "part": self.part,
            "share": round(self.share, 3),
            "spans": [list(span) for span in self.spans],
            "row": self.row,
            "text": self.text,
        }


def shared(
    index: Index, given: Pieces, found: Read, row: int, part: int, begin: int, end: int, item_text: str
) -> tuple[tuple[Span, ...], str, str]:
    """Return the spans of the row's text that are in the part, and both texts marked; `begin` and `end` are tokens."""
    from limbeck.curate._contamination_kernel import overlap

    first, last = given.rows[row], given.rows[row + 1]
    offsets = found.tokens.offsets
    base = offsets[first]
    low, high = base + begin, base + end
    own = index.read.tokens
    mine = slice(own.offsets[part], own.offsets[part + 1])
    in_row, in_part = overlap(
        found.tokens.hashes[low:high], found.numbers[low:high], own.hashes[mine], index.read.numbers[mine]
    )
    spans: list[Span] = []
    texts = [given.data[given.starts[p] : given.ends[p]].tobytes() for p in range(first, last)]
    for turn, piece in enumerate(range(first, last)):
        here = slice(max(low, offsets[piece]), min(high, offsets[piece + 1]))
        if here.start < here.stop:
            kept = in_row[here.start - low : here.stop - low]
            spans += [
                (turn, a, b) for a, b in _runs(texts[turn], found.tokens.begins[here], found.tokens.ends[here], kept)
            ]
    encoded = item_text.encode("utf-8", "surrogatepass")
    in_item = _runs(encoded, own.begins[mine], own.ends[mine], in_part)
    of_turn = {turn: [(a, b) for t, a, b in spans if t == turn] for turn in range(len(texts))}
    shown = "\n".join(_shown(text, of_turn[turn]) for turn, text in enumerate(texts) if of_turn[turn])
    return tuple(spans), shown, _marked(item_text, in_item)


def _runs(
    text: bytes, begins: NDArray[np.uint32], ends: NDArray[np.uint32], kept: NDArray[np.uint8]
) -> list[tuple[int, int]]:
    """Return the stretches of characters under tokens that are kept; neighbours are one stretch."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], kept, [0]])))
    places = [(int(begins[a]), int(ends[b - 1])) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    return [(_characters(text, a), _characters(text, b)) for a, b in places]


def _characters(text: bytes, place: int) -> int:
    return len(text[:place].decode("utf-8", "replace")) if not text[:place].isascii() else place


def _shown(text: bytes, spans: list[tuple[int, int]]) -> str:
    decoded = text.decode("utf-8", "replace")
    begin, end = max(0, spans[0][0] - AROUND), min(len(decoded), spans[-1][1] + AROUND)
    moved = [(a - begin, b - begin) for a, b in spans]
    return ("…" if begin else "") + _marked(decoded[begin:end], moved) + ("…" if end < len(decoded) else "")


def _marked(text: str, spans: list[tuple[int, int]]) -> str:
    out, at = [], 0
    for begin, end in spans:
        out += [text[at:begin], OPEN, text[begin:end], CLOSE]
        at = end
    whole = "".join([*out, text[at:]])
    if len(whole) <= SHOWN:
        return whole
    cut = whole[:SHOWN]
    return cut + (CLOSE if cut.count(OPEN) > cut.count(CLOSE) else "") + "…"
