"""Published rules, under the names `rule` gives them, to compare decisions with. All look at an item's prompt only.

    any-8gram            one shared 8-gram of white-space words, in lower case      open-r1 (scripts/decontaminate.py), s1
    gpt3-13gram          one shared 13-gram, in lower case, no punctuation          GPT-3, appendix C (2005.14165), at its longest N
    tulu3-8gram-50       8-grams cover over half of the item's words                Tulu 3 (2411.15124), without Elasticsearch
    open-thoughts-ratio  rapidfuzz ratio of a turn and the item of 95 or more       open-thoughts (decontaminate.py)

They are written for comparison, not for speed: plain Python, row by row. What they find has no spans.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from limbeck.core.errors import UsageError
from limbeck.curate._contamination_evidence import Match
from limbeck.curate._contamination_items import Item
from limbeck.curate._contamination_search import Found, pieces_of

if TYPE_CHECKING:
    import pyarrow as pa

_PUNCTUATION = re.compile(r"[^\w\s]")
Rated = list[tuple[int, float]]


class Rule:
    """A published rule over items: `held(turns)` tells the items a row leaks, each with a share."""

    def __init__(self, name: str, items: Sequence[Item]) -> None:
        self.name, self.items = name, items
        self.held: Callable[[Sequence[str]], Rated]
        if name == "open-thoughts-ratio":
            self.held = _ratio([item.prompt for item in items])
        else:
            size = 13 if name == "gpt3-13gram" else 8
            clean = _as_it_stands if name == "any-8gram" else _without_punctuation
            self.held = _grams(
                [clean(item.prompt) for item in items], clean, size, 0.5 if name.startswith("tulu3") else 0.0
            )

    def matches(self, batch: pa.RecordBatch) -> Found:
        """Return by row what the rule finds; all of it counts as contaminated."""
        given, found = pieces_of(batch), Found()
        for row in range(batch.num_rows):
            pieces = range(given.rows[row], given.rows[row + 1])
            turns = [given.data[given.starts[p] : given.ends[p]].tobytes().decode("utf-8", "replace") for p in pieces]
            if held := sorted(self.held(turns), key=lambda hit: (-hit[1], hit[0])):
                texts = "\n".join(turns)[:1200]
                found[row] = [
                    Match(item, "contaminated", "prompt", share, self.name, (), texts, self.items[item].prompt)
                    for item, share in held
                ]
        return found


def _grams(
    items: Sequence[list[str]], clean: Callable[[str], list[str]], size: int, over: float
) -> Callable[[Sequence[str]], Rated]:
    """Return the rule that a row holds an item when shared grams cover more than `over` of its words."""
    index: dict[tuple[str, ...], list[tuple[int, int]]] = defaultdict(list)
    for item, words in enumerate(items):
        for at in range(len(words) - size + 1):
            index[tuple(words[at : at + size])].append((item, at))

    def held(turns: Sequence[str]) -> Rated:
        words = clean("\n".join(turns))
        covered: dict[int, set[int]] = defaultdict(set)
        for at in range(len(words) - size + 1):
            for item, place in index.get(tuple(words[at : at + size]), ()):
                covered[item] |= set(range(place, place + size))
        return [(item, share) for item, places in covered.items() if (share := len(places) / len(items[item])) > over]

    return held


def _ratio(prompts: Sequence[str]) -> Callable[[Sequence[str]], Rated]:
    try:
        from rapidfuzz import fuzz, process
    except ImportError:
        raise UsageError("The rule open-thoughts-ratio needs the package rapidfuzz: pip install rapidfuzz.") from None

    def held(turns: Sequence[str]) -> Rated:
        best: dict[int, float] = {}
        for turn in turns:
            for _, score, item in process.extract(turn, prompts, scorer=fuzz.ratio, score_cutoff=95.0, limit=None):
                best[item] = max(best.get(item, 0.0), score / 100)
        return list(best.items())

    return held


def _as_it_stands(text: str) -> list[str]:
    return text.lower().split()


def _without_punctuation(text: str) -> list[str]:
    return _PUNCTUATION.sub(" ", text.lower()).split()
