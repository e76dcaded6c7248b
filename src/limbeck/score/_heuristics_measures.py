"""What can be counted in a text: Gopher's measures of shape and of repetition.

    measures("ha ha ha ha ha ha")["top_2_gram"]                       1.0      "ha ha" is all there is
    measures("# Title\\n- one\\n- two")["bullet_lines"]               0.667

Definitions and limits: Rae et al. 2021 ("Gopher", arXiv 2112.11446), appendix A.1.1 and table A1. Three things the paper leaves
open, and what is done here:

* *Characters of duplicate n-grams*: of the words covered by an n-gram that occurred before, each counted once. The first
  occurrence itself is no duplicate (as in datatrove).
* *The most frequent n-gram*: 0 where none occurs three times; of equally frequent ones the longest counts. (Twice is no habit in
  an answer of fifty words, though it is a fifth of it.)
* Shares of characters are shares of the characters of words, without the white space between.

`loop` is ours: the share of the text in its longest stretch of one piece of up to 20 words, four times or more in a row, which is
what a model does that has lost its thread.

A word is what stands between white space; lines and paragraphs that are empty do not count.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

STOP_WORDS = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})
"""Gopher's; a text should contain two of them."""
BULLETS = ("-", "*", "•", "‣", "▪", "●", "◦", "–")
TOP = {2: 0.20, 3: 0.18, 4: 0.16}
"""Table A1: the most that the most frequent n-gram may make up."""
DUPLICATE = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
"""Table A1: the most that duplicate n-grams may make up."""
REPEATED = {
    "duplicate_lines": 0.30,
    "duplicate_paragraphs": 0.30,
    "duplicate_line_characters": 0.20,
    "duplicate_paragraph_characters": 0.20,
    **{f"top_{n}_gram": most for n, most in TOP.items()},
    **{f"duplicate_{n}_grams": most for n, most in DUPLICATE.items()},
}
"""Table A1 whole: the measure and the most it may be."""
LOOP = 0.1
"""The most of a text that may be one stretch of the same few words again and again."""
PERIOD, TURNS = 20, 4


def measures(text: str) -> dict[str, float]:
    """Return all measures of a text by name; shares lie in [0, 1], and those of an empty text are 0."""
    words, lines = text.split(), _parts(text, r"\n")
    return {
        "characters": float(len(text.strip())),
        "words": float(len(words)),
        **_shape(text, words, lines),
        **repetition(text, words, lines),
        "loop": _share(_loop(words), len(words)),
    }


def _shape(text: str, words: Sequence[str], lines: Sequence[str]) -> dict[str, float]:
    symbols = max(text.count("#"), text.count("...") + text.count("…"))
    seen = STOP_WORDS & {word.strip(".,;:!?\"'()").lower() for word in words}
    return {
        "mean_word_length": _share(sum(map(len, words)), len(words)),
        "symbols_per_word": _share(symbols, len(words)),
        "bullet_lines": _share(sum(line.startswith(BULLETS) for line in lines), len(lines)),
        "ellipsis_lines": _share(sum(line.endswith(("...", "…")) for line in lines), len(lines)),
        "alphabetic_words": _share(sum(any(map(str.isalpha, word)) for word in words), len(words)),
        "stop_words": float(len(seen)),
    }


def repetition(text: str, words: Sequence[str], lines: Sequence[str]) -> dict[str, float]:
    """Return the measures of table A1, under the names of `REPEATED`."""
    paragraphs = _parts(text, r"\n\s*\n")
    found = {
        "duplicate_lines": _repeats(lines),
        "duplicate_paragraphs": _repeats(paragraphs),
        "duplicate_line_characters": _repeated_characters(lines),
        "duplicate_paragraph_characters": _repeated_characters(paragraphs),
    }
    lengths = [len(word) for word in words]
    total = sum(lengths)
    found |= {f"top_{n}_gram": _share(_top(words, n), total) for n in TOP}
    return found | {f"duplicate_{n}_grams": _share(_covered(words, lengths, n), total) for n in DUPLICATE}


def _parts(text: str, between: str) -> list[str]:
    return [part for piece in re.split(between, text) if (part := piece.strip())]


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _repeats(parts: Sequence[str]) -> float:
    return _share(len(parts) - len(set(parts)), len(parts))


def _repeated_characters(parts: Sequence[str]) -> float:
    total = sum(map(len, parts))
    return _share(total - sum(map(len, set(parts))), total)


def _top(words: Sequence[str], n: int) -> int:
    """Return the characters of all occurrences of the most frequent n-gram."""
    counts = Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
    most = max(counts.values(), default=0)
    if most < 3:
        return 0
    longest = max(sum(map(len, gram)) for gram, count in counts.items() if count == most)
    # occurrences of one n-gram may overlap ("ha ha ha"): they make up no more than the text
    return min(most * longest, sum(map(len, words)))


def _covered(words: Sequence[str], lengths: Sequence[int], n: int) -> int:
    """Return the characters of the words that lie in an n-gram seen before."""
    seen: set[tuple[str, ...]] = set()
    upto, characters = 0, 0
    for begin in range(len(words) - n + 1):
        gram = tuple(words[begin : begin + n])
        if gram in seen:
            characters += sum(lengths[max(begin, upto) : begin + n])
            upto = begin + n
        seen.add(gram)
    return characters


def _loop(words: Sequence[str]) -> int:
    """Return the words of the longest stretch in which one piece stands at least `TURNS` times in a row."""
    longest = 0
    for period in range(1, min(PERIOD, len(words) // TURNS) + 1):
        run = 0
        for one, other in zip(words, words[period:], strict=False):
            run = run + 1 if one == other else 0
            if run >= (TURNS - 1) * period:
                longest = max(longest, run + period)
    return longest
