"""Plain Python for what the kernels do: tokens, shingles, Jaccard similarity of all pairs; and planted near-duplicates."""

from __future__ import annotations

import json
import random
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

ALIKE = str.maketrans("‘’‚‛′ʼʹ‐‑‒–—―−⁄∕×⋅∗", "'''''''-------//***")
PART = re.compile(
    r"(?P<word>(?:[^\W\d_]|\d)(?:[^\W_]|[\u0900-\u0903\u093e-\u094d])*)|(?P<line>[\n\r\x85\u2028\u2029])|(?P<space>\s)"
    r"|(?P<sign>[-+*/=<>^%±≤≥≠√∑∞¬])|(?P<open>[(\[{])|(?P<close>[)\]}])|(?P<other>.)",
    re.DOTALL,
)


def tokens(text: str) -> list[str]:
    """The tokens of a text without unspaced scripts and emoji, by the rules of `curate._tokens`."""
    text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text.translate(ALIKE)).casefold()).translate(
        ALIKE
    )
    text = re.sub("[\u0300-\u036f\u200b-\u200f\u2060\ufeff\u00ad\ufe00-\ufe0f]", "", text)
    text = re.sub(r"(?<=[^\W\d_])'(?=[^\W\d_])", "", text)
    parts = [(match.lastgroup or "", match[0]) for match in PART.finditer(text)]
    out: list[str] = []
    left, gap, waiting = "", False, None  # the operand before, white space since, a sign in waiting
    for number, (kind, part) in enumerate(parts):
        if kind == "word":
            first = "digit" if part[0].isdigit() else "letter"
            if waiting is not None and counts(*waiting, first, gap):
                out.append(waiting[0])
            out.append(part)
            left, gap, waiting = ("digit" if part[-1].isdigit() else "letter"), False, None
        elif kind == "space":
            gap = True
        elif kind == "line":
            left, gap, waiting = "", False, None
        elif kind == "sign" and waiting is not None and parts[number - 1][0] == "sign" and not gap:
            waiting = (waiting[0] + part, *waiting[1:])
        elif kind == "sign" and part == "%" and left == "digit" and not gap:
            out.append(part)
        elif kind == "sign":
            waiting, gap = (part, left, gap), False
        else:
            if kind == "open" and waiting is not None and counts(*waiting, "letter", gap):
                out.append(waiting[0])
            left, gap, waiting = (left if kind == "close" else ""), False, None
    return out


def counts(sign: str, left: str, before: bool, right: str, after: bool) -> bool:
    """Whether a sign between two operands is a token."""
    number = "digit" in (left, right)
    if before != after or not left:
        return sign == "-" and right == "digit" and not after
    if sign[0] in "-/" or (sign[0] in "*<>" and not before) or sign[0] == "%":
        return number
    return True


def shingles(words: list[str], size: int) -> frozenset[tuple[str, ...]]:
    """The set of shingles; those of size 2 have a mark at either end."""
    if size == 2:
        words = ["<", *words, ">"]
    return frozenset(tuple(words[n : n + size]) for n in range(max(1, len(words) - size + 1)))


def level(count: int) -> int:
    return 2 if count < 12 else 3 if count < 40 else 5


def all_pairs(texts: list[str]) -> Iterator[tuple[int, int, float]]:
    """Every pair that has a shingle in common, with its similarity by the shingles of the shorter text."""
    words = [tokens(text) for text in texts]
    for size in (2, 3, 5):
        sets = [shingles(mine, size) if mine else frozenset() for mine in words]
        holders = defaultdict(list)
        for place, mine in enumerate(sets):
            for shingle in mine:
                holders[shingle].append(place)
        shared = Counter(pair for places in holders.values() for pair in combinations(places, 2))
        for (one, other), common in shared.items():
            if level(min(len(words[one]), len(words[other]))) == size:
                yield one, other, common / (len(sets[one]) + len(sets[other]) - common)


def closure(count: int, pairs: list[tuple[int, int]]) -> list[int]:
    """The first place of the cluster of every place."""
    first = list(range(count))

    def root(place: int) -> int:
        while first[place] != place:
            place = first[place]
        return place

    for one, other in pairs:
        low, high = sorted((root(one), root(other)))
        first[high] = low
    return [root(place) for place in range(count)]


def real_texts(corpora: Path, each: int) -> list[str]:
    """Some texts of several public corpora, short and long."""
    draw = random.Random(3)
    gsm8k = [json.loads(line) for line in (corpora / "gsm8k" / "train.jsonl").read_text().splitlines()]
    seeds = [json.loads(line) for line in (corpora / "self_instruct" / "seed_tasks.jsonl").read_text().splitlines()]
    tools = json.loads((corpora / "gpteacher/Toolformer/toolformer-dedupe-only-dataset.json").read_text())
    code = json.loads((corpora / "gpteacher/Codegen/codegen-instruct.json").read_text())
    pools = [
        [row["question"] for row in gsm8k],
        [f"{row['question']}\n{row['answer']}" for row in gsm8k],
        [row["instruction"] for row in seeds],
        [f"{row['instruction']}\n{row['response']}" for row in tools],
        [f"{row['instruction']}\n{row['response']}" for row in code],
    ]
    return [text for pool in pools for text in draw.sample(pool, min(each, len(pool)))]


def edits(text: str, draw: random.Random) -> Iterator[tuple[str, str]]:
    """Near copies of a text: the kind of change, and the changed text."""
    for percent in (1, 3, 6, 10):
        words = text.split(" ")
        for place in draw.sample(range(len(words)), max(1, len(words) * percent // 100)):
            words[place] = draw.choice(["quite", "", "other", "42", words[draw.randrange(len(words))]])
        yield f"edit {percent} %", " ".join(words)
    yield "truncated", text[: len(text) * 9 // 10]
    yield "case", text.upper()
    yield "nbsp and quotes", text.replace(" ", "\u00a0").replace("'", "\u2019").replace('"', "\u201d")
    yield "template", f"### Instruction:\n{text}\n\n### Response:"
