"""ROUGE-L among prompts, by an index: which prompt kept before is most alike, without comparing all pairs.

words of two prompts          a b c d e          a x c d        LCS = a c d = 3
ROUGE-L                       2 * 3 / (5 + 4) = .667
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import chain

import numpy as np

_WORD = re.compile("[a-z0-9]+")

Word = str | int
"""A word as rouge_score has it, or the hash of a token."""


def words(prompts: Sequence[str], *, plain: bool) -> list[list[Word]]:
    """Return the words of every prompt: runs of a-z and 0-9 if `plain` and there are any, else token hashes."""
    from limbeck.curate._tokens import tokens

    found: list[list[Word]] = [list(_WORD.findall(prompt.lower())) if plain else [] for prompt in prompts]
    rest = [place for place, mine in enumerate(found) if not mine]
    if rest:
        hashes, offsets, _, _ = tokens([prompts[place] for place in rest])
        for number, place in enumerate(rest):
            found[place] = hashes[offsets[number] : offsets[number + 1]].tolist()
    return found


def most_alike(prompts: Sequence[Sequence[Word]], most: float, stays: Sequence[bool]) -> list[tuple[int, float]]:
    """Return for every prompt the kept prompt before it whose ROUGE-L with it is highest and above `most`, and the score.

    A prompt without such another is kept and names itself, with score 1; one that `stays` is kept whatever it is like.
    """
    from limbeck.curate._compile import announce

    if not prompts:
        return []
    announce()
    from limbeck.curate._rouge_kernel import keep_unlike

    names = {word: number for number, word in enumerate(dict.fromkeys(chain.from_iterable(prompts)))}
    features = _features(prompts)
    offsets = np.cumsum([0, *map(len, prompts)], dtype=np.int64)
    flat = np.array([names[word] for prompt in prompts for word in prompt], dtype=np.int32)
    best, score = keep_unlike(flat, features, offsets, np.array(stays, dtype=np.bool_), most)
    return list(zip(best.tolist(), score.tolist(), strict=True))


def _features(prompts: Sequence[Sequence[Word]]) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """Number every word with its count so far ("the" and the second "the" differ), rarest first, sorted within a prompt."""
    counted = []
    for prompt in prompts:
        seen: Counter[Word] = Counter()
        mine = []
        for word in prompt:
            mine.append((word, seen[word]))
            seen[word] += 1
        counted.append(mine)
    frequency = Counter(chain.from_iterable(counted))
    rank = {feature: number for number, (feature, _) in enumerate(reversed(frequency.most_common()))}
    return np.array([r for mine in counted for r in sorted(rank[feature] for feature in mine)], dtype=np.int32)
