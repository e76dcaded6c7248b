"""Corpora for the near-duplicate benchmark: 20 000 real texts, and as many made-up ones as wanted.

texts = real(folder)                    every prompt with its answer, in a fixed order, mixed by a fixed seed
pairs = planted(texts, 400)             (original, edited, kind) with kinds such as "edit 3 %", "truncated", "nbsp and quotes"
sizes, pieces = MadeUp(1_000_000)       texts of a vocabulary of 50 000 words, one in ten a near copy of another
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.curate._near import Pieces


def real(folder: Path, most: int = 20_000) -> list[str]:
    """Return the texts of the public corpora, at most so many, in an order fixed by a seed."""
    texts = [text for text in _all(folder) if text.strip()]
    random.Random(7).shuffle(texts)
    return texts[:most]


def _all(folder: Path) -> Iterator[str]:
    for name in ("train", "test"):
        for row in _lines(folder / "gsm8k" / f"{name}.jsonl"):
            yield f"{row['question']}\n{row['answer']}"
    for row in _lines(folder / "gsm8k" / "example_model_solutions.jsonl"):
        for value in row.values():
            if isinstance(value, dict) and "solution" in value:
                yield f"{row['question']}\n{value['solution']}"
    for file in (
        "Toolformer/toolformer-dedupe-only-dataset",
        "Codegen/codegen-instruct",
        "Roleplay/roleplay-simple-deduped-roleplay-instruct",
    ):
        for row in json.loads((folder / "gpteacher" / f"{file}.json").read_text()):
            yield f"{row['instruction']}\n{row.get('input', '')}\n{row['response']}"
    for row in _lines(folder / "mbpp" / "mbpp.jsonl"):
        yield "\n".join(str(value) for value in row.values() if isinstance(value, str))
    with gzip.open(folder / "humaneval" / "HumanEval.jsonl.gz", "rt") as file:
        for line in file:
            row = json.loads(line)
            yield f"{row['prompt']}{row['canonical_solution']}"
    for row in _lines(folder / "ifeval" / "input_response_data_gpt4_20231107_145030.jsonl"):
        yield f"{row['prompt']}\n{row['response']}"
    for file in sorted((folder / "bbh").glob("*.json")):
        for example in json.loads(file.read_text())["examples"]:
            yield f"{example['input']}\n{example['target']}"
    for file in sorted((folder / "self_instruct" / "predictions").glob("*.jsonl")):
        for row in _lines(file):
            yield "\n".join(str(value) for value in row.values() if isinstance(value, str))


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


class Flat:
    """Texts in one buffer, as Arrow has them."""

    def __init__(self, data: NDArray[np.uint8], bounds: NDArray[np.int64]) -> None:
        self.data, self.bounds = data, bounds

    def sizes(self) -> NDArray[np.int64]:
        """Return the bytes of every text."""
        return np.diff(self.bounds)

    def pieces(self, first: int, last: int) -> Pieces:
        """Return texts `first` to `last`, not copied."""
        bounds = self.bounds[first : last + 1]
        return Pieces(self.data, bounds[:-1], bounds[1:], np.arange(bounds.size))


def made_up(count: int, seed: int = 5) -> Flat:
    """Return texts of 30 to 150 words, drawn as often as their rank in a vocabulary says; every tenth is an edited copy."""
    draw = np.random.default_rng(seed)
    letters = np.array(list("etaoinshrdlu"))
    vocabulary = ["".join(draw.choice(letters, 2 + rank.bit_length() // 2)) for rank in range(50_000)]
    data, sizes = bytearray(), np.empty(count, dtype=np.int64)
    for first in range(0, count, 10_000):
        lengths = draw.integers(30, 150, min(10_000, count - first))
        ranks = (np.exp(draw.random(int(lengths.sum())) * np.log(50_000)) - 1).astype(np.int64)
        before: NDArray[np.int64] = ranks[:0]
        for number, words in enumerate(np.split(ranks, np.cumsum(lengths)[:-1])):
            if number % 10 == 9:
                words = before.copy()
                words[draw.integers(words.size)] = draw.integers(50_000)
            before = words
            text = " ".join([vocabulary[rank] for rank in words.tolist()]).encode()
            data += text
            sizes[first + number] = len(text)
    return Flat(np.frombuffer(data, dtype=np.uint8), np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes)]))
