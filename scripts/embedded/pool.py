"""Documents turned into token ids once, before training starts, and the batches that are drawn from them.

A pool is three flat arrays, because half a million Python lists would not be quick to draw from:

    ids      1 4 97 ...        all documents, one after another
    ends     113 201 ...       where each document ends
    answers  61 140 ...        where its response begins (the loss is on the response alone)
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

MAX_TOKENS = 320


@dataclass(frozen=True)
class Pool:
    """Many documents of one kind."""

    ids: np.ndarray
    ends: np.ndarray
    answers: np.ndarray

    def __len__(self) -> int:
        return len(self.ends)

    def document(self, place: int) -> tuple[np.ndarray, int]:
        """One document and where its response begins in it."""
        begin = int(self.ends[place - 1]) if place else 0
        return self.ids[begin : self.ends[place]], int(self.answers[place]) - begin


def tokenised(texts: Iterable[str], tokenizer: PreTrainedTokenizerFast) -> Pool:
    """Turn documents into ids."""
    marker = tokenizer.convert_tokens_to_ids("<assistant>")
    chunks: list[np.ndarray] = []
    ends, answers, total = [], [], 0
    source = iter(texts)
    while batch := list(islice(source, 5000)):
        for ids in tokenizer(batch)["input_ids"]:
            if len(ids) > MAX_TOKENS:
                continue
            chunks.append(np.array(ids, dtype=np.uint16))
            answers.append(total + ids.index(marker) + 1)
            total += len(ids)
            ends.append(total)
    return Pool(np.concatenate(chunks), np.array(ends), np.array(answers))


def save(pool: Pool, path: Path) -> None:
    """Write a pool; it appears whole or not at all."""
    part = path.with_suffix(".part.npz")
    np.savez(part, ids=pool.ids, ends=pool.ends, answers=pool.answers)
    part.rename(path)


def load(path: Path) -> Pool:
    """Read a pool."""
    with np.load(path) as arrays:
        return Pool(arrays["ids"], arrays["ends"], arrays["answers"])


def digest(pools: dict[str, Pool]) -> str:
    """Hash the whole training data, for the card."""
    state = hashlib.blake2b(digest_size=16)
    for name in sorted(pools):
        state.update(name.encode() + pools[name].ids.tobytes() + pools[name].ends.tobytes())
    return state.hexdigest()


class Drawer:
    """Draws documents by a mix of kinds, each kind in its own shuffled order, and never the same twice before all were seen."""

    def __init__(self, pools: dict[str, Pool], seed: int) -> None:
        self.pools = pools
        self.rng = random.Random(seed)
        self.waiting: dict[str, list[int]] = {name: [] for name in pools}

    def batches(self, mix: dict[str, float], tokens: int, count: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield about `count` batches of about `tokens` tokens, documents of like length together."""
        documents = self._documents(mix, tokens * count)
        documents.sort(key=lambda document: len(document[0]) + 8 * self.rng.random())
        groups: list[list[tuple[np.ndarray, int]]] = [[]]
        for document in documents:
            if groups[-1] and (len(groups[-1]) + 1) * len(document[0]) > tokens:
                groups.append([])
            groups[-1].append(document)
        self.rng.shuffle(groups)
        yield from (padded(group) for group in groups)

    def _documents(self, mix: dict[str, float], tokens: int) -> list[tuple[np.ndarray, int]]:
        """Draw documents until they hold so many tokens."""
        drawn: list[tuple[np.ndarray, int]] = []
        left = tokens
        while left > 0:
            kind = self.rng.choices(list(mix), list(mix.values()))[0]
            if not self.waiting[kind]:
                self.waiting[kind] = list(range(len(self.pools[kind])))
                self.rng.shuffle(self.waiting[kind])
            drawn.append(self.pools[kind].document(self.waiting[kind].pop()))
            left -= len(drawn[-1][0])
        return drawn


def padded(group: list[tuple[np.ndarray, int]]) -> tuple[Tensor, Tensor]:
    """Stack documents, padded on the right; labels are -100 outside the responses."""
    longest = max(len(ids) for ids, _ in group)
    ids = torch.zeros(len(group), longest, dtype=torch.long)
    labels = torch.full((len(group), longest), -100, dtype=torch.long)
    for row, (document, begin) in enumerate(group):
        ids[row, : len(document)] = torch.from_numpy(document.astype(np.int64))
        labels[row, begin : len(document)] = ids[row, begin : len(document)]
    return ids, labels
