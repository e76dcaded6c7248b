"""Diversity at a glance: a few plain numbers per set of responses, each explained where it is shown.

    measure("kept", ["12 + 5 = 17.\\nAnswer: 17", ...]) -> Variety(rows=3112, distinct_responses=2904, ...)

    distinct-2                 different word pairs / all word pairs, over equally many words for every set
    most common opener         how many responses begin with the same three words
    effective openers          exp(entropy) of the openers: 5 means "as varied as five used equally often"
    effective templates        the same for whole responses with every number replaced by #

They notice collapse and repetition. They do not measure whether the content is varied; `limbeck audit` looks closer.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

WORDS_COMPARED, FEWEST = 20_000, 2_000


@dataclass(frozen=True, kw_only=True)
class Variety:
    """The numbers of one set of responses."""

    name: str
    rows: int
    prompts: int
    responses: int
    distinct_2: float | None = None
    opener: str
    opener_share: float
    openers: float
    templates: float
    median_words: float
    lengths: tuple[int, ...] = ()


def measure(name: str, responses: Sequence[str], prompts: Iterable[str] = ()) -> Variety:
    """Measure a set of responses; `prompts` are their groups."""
    masked = [re.sub(r"\d+(?:[.,]\d+)*", "#", text).split() for text in responses]
    openers = Counter(" ".join(words[:3]) for words in masked)
    templates = Counter(" ".join(words) for words in masked)
    lengths = sorted(len(text.split()) for text in responses)
    opener, most = min(openers.items(), key=lambda item: (-item[1], item[0])) if openers else ("", 0)
    return Variety(
        name=name,
        rows=len(responses),
        prompts=len(set(prompts)),
        responses=len(set(responses)),
        opener=opener,
        opener_share=most / len(responses) if responses else 0.0,
        openers=effective(openers),
        templates=effective(templates),
        median_words=lengths[len(lengths) // 2] if lengths else 0,
        lengths=tuple(lengths),
    )


def effective(counts: Counter[str]) -> float:
    """Return exp(entropy): how many equally frequent kinds would be as varied.

    >>> round(effective(Counter(a=5, b=5)), 3)
    2.0
    """
    total = sum(counts.values())
    return math.exp(-sum(n / total * math.log(n / total) for n in counts.values())) if total else 0.0


def distinct_pairs(responses: Iterable[str], words_compared: int) -> float | None:
    """Return distinct-2 over the first `words_compared` word pairs, or None where there are fewer.

    The share falls as a text grows, so sets can be compared over equally many pairs only.
    """
    pairs: set[tuple[str, str]] = set()
    seen = 0
    for text in responses:
        words = text.lower().split()
        for pair in pairwise(words):
            pairs.add(pair)
            seen += 1
            if seen == words_compared:
                return len(pairs) / seen
    return None


def common_size(sets: Iterable[Sequence[str]]) -> int:
    """Return over how many word pairs sets of responses can be compared: those of the smallest that has enough."""
    sizes = [sum(max(0, len(text.split()) - 1) for text in responses) for responses in sets]
    enough = [size for size in sizes if size >= FEWEST] or sizes
    return min([*enough, WORDS_COMPARED])


def bins(lengths: Iterable[Sequence[int]], most: int = 20) -> list[int]:
    """Return round edges that cover all lengths; the last two hundredths are gathered in the last bin."""
    values = sorted(v for part in lengths for v in part)
    if not values:
        return []
    top = values[min(len(values) - 1, int(len(values) * 0.98))] + 1
    width = next(w for w in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10**6) if top / w <= most)
    return [i * width for i in range(math.ceil(top / width) + 1)]


def shares(lengths: Sequence[int], edges: Sequence[int]) -> tuple[float, ...]:
    """Return the share of lengths in each bin; what lies past the last edge counts in the last bin."""
    if len(edges) < 2 or not lengths:
        return ()
    counts = [0] * (len(edges) - 1)
    for value in lengths:
        counts[min(len(counts) - 1, value // (edges[1] - edges[0]))] += 1
    return tuple(n / len(lengths) for n in counts)
