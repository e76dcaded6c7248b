"""From a table of rows to what each leaks: words first, then programs, then (where asked for) meaning.

    search = Search(items)
    search.matches(batch)       {17: [Match(item=3, verdict="contaminated", part="prompt", share=1.0, ...)], ...}

Texts are read where they lie in the Arrow buffers; a row becomes a Python object only when something was found in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from limbeck.curate._contamination_code import Programs, programs
from limbeck.curate._contamination_evidence import Match, shared
from limbeck.curate._contamination_index import Index, Pieces, Read, read
from limbeck.curate._contamination_items import Item
from limbeck.curate._contamination_verdict import NAMES, verdicts
from limbeck.curate._tokens import in_threads

if TYPE_CHECKING:
    import pyarrow as pa

SLICE = 1 << 22
"""Bytes of text that are searched at a time."""
MOST_ITEMS = 20
"""Items that are told of one row at most."""
Found = dict[int, list[Match]]


class Search:
    """An index over items, and everything that looks rows up in it."""

    def __init__(self, items: Sequence[Item], *, code: bool = True) -> None:
        self.items = items
        self.index = Index([(item.prompt, item.answer) for item in items])
        self.programs: Programs | None = programs([_program(item) for item in items]) if code else None

    def unsearchable(self) -> list[Item]:
        """Return the items that hold no word at all: nothing can be said of them."""
        lengths = self.index.lengths.reshape(-1, 2)
        return [item for item, (prompt, answer) in zip(self.items, lengths, strict=True) if prompt + answer == 0]

    def whole_turns_only(self) -> list[Item]:
        """Return the items too short to be looked for within a text: found only where they are all that somebody says."""
        lengths = self.index.lengths.reshape(-1, 2)[:, 0]
        inside = self.index.phrases.reshape(-1, 2)[:, 0]
        return [i for i, n, said in zip(self.items, lengths, inside, strict=True) if 0 < n < 5 and not said]

    def matches(self, batch: pa.RecordBatch) -> Found:
        """Return by row what it leaks, worst first; rows that leak nothing are left out."""
        slices = list(_slices(pieces_of(batch)))
        found: Found = {}
        for (start, _), part in zip(slices, in_threads(lambda s: self._slice(s[1]), slices), strict=True):
            found |= {start + row: matches for row, matches in part.items()}
        return found

    def _slice(self, given: Pieces) -> Found:
        tokens = read(given)
        lines = self.index.search(given, tokens)
        told = verdicts(lines)
        by_row: dict[int, list[tuple[int, float, int]]] = {}
        for at in np.flatnonzero(told):
            item, is_answer = divmod(int(lines[at, 1]), 2)
            if is_answer and self.programs is not None and item in self.programs.shapes:
                continue  # how a sort is written down is nobody's own; programs are compared as trees
            by_row.setdefault(int(lines[at, 0]), []).append((int(told[at]), float(lines[at, 2]), int(at)))
        found = {row: self._told(given, tokens, lines, best) for row, best in by_row.items()}
        if self.programs is not None and self.programs.shapes:
            self._add_programs(given, found)
        return found

    def _told(self, given: Pieces, tokens: Read, lines: Any, best: list[tuple[int, float, int]]) -> list[Match]:
        worst = max(verdict for verdict, _, _ in best)
        chosen: dict[int, Match] = {}
        for verdict, share, at in sorted(best, key=lambda b: (-b[1], b[2])):
            item, part = divmod(int(lines[at, 1]), 2)
            if verdict < worst or item in chosen or len(chosen) == MOST_ITEMS:
                continue
            text = self.items[item].answer if part else self.items[item].prompt
            begin, end = int(lines[at, 7]), int(lines[at, 8])
            where = shared(self.index, given, tokens, int(lines[at, 0]), 2 * item + part, begin, end, text)
            name = "answer" if part else "prompt"
            chosen[item] = Match(item, NAMES[verdict], name, min(share, 1.0), "words", *where)
        return list(chosen.values())

    def _add_programs(self, given: Pieces, found: Found) -> None:
        """Look for items' programs in the rows that hold a function and were not found contaminated."""
        assert self.programs is not None
        for piece in _with(b"def ", given):
            row = int(np.searchsorted(given.rows, piece, side="right")) - 1
            if row in found and found[row][0].verdict == "contaminated":
                continue
            text = given.data[given.starts[piece] : given.ends[piece]].tobytes().decode("utf-8", "replace")
            held = sorted(self.programs.found(text), key=lambda hit: (-hit[1], hit[0]))[:MOST_ITEMS]
            if held:
                span = (int(piece - given.rows[row]), 0, len(text))
                found[row] = [
                    Match(
                        item, "contaminated", "program", share, "code", (span,), text[:1200], _program(self.items[item])
                    )
                    for item, share in held
                ]


def pieces_of(batch: pa.RecordBatch) -> Pieces:
    """Return the turns of a batch of rows where they lie in memory."""
    import pyarrow.compute as pc

    messages = batch.column("messages")
    content = pc.struct_field(messages.values, "content")
    offsets = np.asarray(messages.offsets, dtype=np.int64)
    width = np.int64 if str(content.type).startswith("large") else np.int32
    _, bounds, data = content.buffers()
    places = np.zeros(1, dtype=np.int64)
    if len(content):
        places = np.frombuffer(bounds, dtype=width)[content.offset : content.offset + len(content) + 1].astype(np.int64)
    raw = np.frombuffer(data, dtype=np.uint8) if data is not None and data.size else np.zeros(0, dtype=np.uint8)
    return Pieces(raw, places[:-1], places[1:], offsets)


def _slices(given: Pieces) -> Iterator[tuple[int, Pieces]]:
    """Cut rows into slices of about SLICE bytes, each with its first row."""
    edges = np.append(given.starts, given.ends[-1:] if given.ends.size else [0])[given.rows]
    cuts = np.flatnonzero(np.diff((edges - edges[:1]) // SLICE)) + 1
    for begin, end in pairwise(dict.fromkeys([0, *map(int, cuts), given.rows.size - 1])):
        low, high, base = int(given.rows[begin]), int(given.rows[end]), int(edges[begin])
        yield (
            begin,
            Pieces(
                given.data[base : int(edges[end])],
                given.starts[low:high] - base,
                given.ends[low:high] - base,
                given.rows[begin : end + 1] - low,
            ),
        )


def _with(word: bytes, given: Pieces) -> list[int]:
    """Return the pieces that hold a word."""
    raw, at, found = given.data.tobytes(), -1, []
    while (at := raw.find(word, at + 1)) >= 0:
        piece = int(np.searchsorted(given.ends, at, side="right"))
        if piece < given.ends.size and given.starts[piece] <= at:
            found.append(piece)
            at = int(given.ends[piece]) - 1
    return found


def _program(item: Item) -> str:
    """Return the text in which an item's program stands: HumanEval begins it in the prompt and ends it in the answer."""
    return item.prompt + item.answer if "def " in item.prompt else item.answer
