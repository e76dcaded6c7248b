"""Which documents make up each update, and how they lie in memory.

The whole plan of a training run is a pure function of lengths, seed and size, made before the first update:

    plan([5, 3, 4, 6], batch_tokens=9, updates=3, seed=0) -> [[2, 1], [3], [0, 1]]     # indices of documents

so the position of the sampler is one number, the update, and two arms with equal `updates` and `batch_tokens` see
equal work. Documents of an update are packed into rows of equal width, longest first:

    row 0   a a a a a a a a          a row may hold several documents; each has positions from 0, and a
    row 1   b b b b b c c c          block-diagonal mask lets no token see another document. Where every
    row 2   d d d d d d . .          row holds one, causality alone hides the padding and no mask is made.

Packed batches that leak are a common silent fault (transformers#46634, AReaL#1442): the student is probed with a
perturbed neighbour before training (`student.py`), and a model that leaks is trained one document a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from limbeck.train.examples import Example

if TYPE_CHECKING:
    import torch


NARROW = 0.8
"""A row under this share of the widest is too short to be padded to it ..."""
WORTHWHILE = 800
"""... provided that the micro-batch has so many tokens already; each costs some milliseconds of its own."""


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """What goes through the model at once. B rows of S tokens; T tokens in all are trained on."""

    ids_BS: torch.Tensor
    positions_BS: torch.Tensor | None
    """None where every row holds one document: then positions are plain, and no mask is needed."""
    mask_B1SS: torch.Tensor | None
    """Added to the attention scores: 0 where a token may look, hugely negative where it may not."""
    predicts_BS: torch.Tensor
    """True at the positions whose *next* token is trained on."""
    targets_T: torch.Tensor
    """Those next tokens, in the order in which `predicts_BS` selects."""
    documents: tuple[Example, ...] = ()
    """The documents in the order of their tokens: row by row, and within a row from left to right."""


def plan(
    lengths: Sequence[int], *, batch_tokens: int, seed: int, updates: int = 0, epochs: float = 0.0
) -> list[list[int]]:
    """Return the documents of each update: shuffled epochs, cut where the next document would pass `batch_tokens`.

    Give `updates` (exactly so many) or `epochs` (so many passes, the last one possibly in part). A document longer than
    `batch_tokens` makes an update of its own.
    """
    count = len(lengths)
    wanted = None if updates else max(1, round(epochs * count))
    made: list[list[int]] = []
    current: list[int] = []
    filled = taken = 0
    while wanted is None or taken < wanted:
        epoch = np.random.default_rng([seed, taken // count]).permutation(count).tolist()
        for index in epoch if wanted is None else epoch[: wanted - taken]:
            if current and filled + lengths[index] > batch_tokens:
                made.append(current)
                current, filled = [], 0
                if len(made) == updates:
                    return made
            current.append(index)
            filled += lengths[index]
            taken += 1
    return [*made, current]


def rows_of(lengths: Sequence[int], width: int) -> list[list[int]]:
    """Pack documents into rows of `width` tokens, first-fit decreasing; `width` 0 is one document a row."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    if not width:
        return [[index] for index in order]
    rows: list[list[int]] = []
    free: list[int] = []
    for index in order:
        place = next((r for r, room in enumerate(free) if room >= lengths[index]), len(rows))
        if place == len(rows):
            rows.append([])
            free.append(max(width, lengths[index]))
        rows[place].append(index)
        free[place] -= lengths[index]
    return rows


def micro_batches(examples: Sequence[Example], *, width: int, micro_tokens: int) -> list[list[list[Example]]]:
    """Split an update into micro-batches of rows of documents, none above `micro_tokens` unless one row alone is.

    Rows come longest first. Where they have become much shorter than the first of their micro-batch, another begins:
    less padding took training of short documents from 26,700 to 31,800 tokens a second on one core.
    """
    lengths = [len(e.ids) for e in examples]
    batches: list[list[list[Example]]] = []
    widest = 0
    for row in rows_of(lengths, width):
        size = sum(lengths[i] for i in row)
        rows = len(batches[-1]) if batches else 0
        wider = max(widest, size)
        full = (rows + 1) * wider > micro_tokens
        padded = size < NARROW * widest and rows * widest >= WORTHWHILE
        if not batches or full or padded:
            batches.append([])
            wider = size
        widest = wider
        batches[-1].append([examples[i] for i in row])
    return batches


def collate(rows: Sequence[Sequence[Example]], pad: int, device: str = "cpu") -> MicroBatch:
    """Lay rows of documents out as tensors. Padding stands at the right, where no trained token can see it."""
    import torch

    width = max(sum(len(e.ids) for e in row) for row in rows)
    ids = np.full((len(rows), width), pad, dtype=np.int64)
    positions, segments = np.zeros_like(ids), np.full_like(ids, -1)
    trained = np.zeros(ids.shape, dtype=bool)
    for r, row in enumerate(rows):
        start = 0
        for segment, example in enumerate(row):
            end = start + len(example.ids)
            ids[r, start:end] = example.ids
            positions[r, start:end] = np.arange(end - start)
            segments[r, start:end] = segment
            # position i predicts token i + 1; the first token of a document is predicted by nothing
            trained[r, start : end - 1] = example.trained[1:]
            start = end
    packed = any(len(row) > 1 for row in rows)
    ids_BS, predicts_BS = torch.from_numpy(ids), torch.from_numpy(trained)
    nexts = torch.from_numpy(np.roll(ids, -1, axis=1))
    return MicroBatch(
        ids_BS=ids_BS.to(device),
        positions_BS=torch.from_numpy(positions).to(device) if packed else None,
        mask_B1SS=block_mask(torch.from_numpy(segments)).to(device) if packed else None,
        predicts_BS=predicts_BS.to(device),
        targets_T=nexts[predicts_BS].to(device),
        documents=tuple(example for row in rows for example in row),
    )


def block_mask(segments_BS: torch.Tensor) -> torch.Tensor:
    """Return the additive mask: a token sees the tokens of its own segment up to itself, and nothing else.

    Padding is a segment of its own, so that no row of the softmax is empty (an empty one gives NaN).
    """
    import torch

    size = segments_BS.shape[1]
    same = segments_BS[:, None, :, None] == segments_BS[:, None, None, :]
    sees = same & torch.ones(size, size, dtype=torch.bool).tril()
    # finite, not -inf: a sum with -inf in reduced precision or in an eager softmax turns to NaN
    return torch.zeros(sees.shape).masked_fill_(~sees, torch.finfo(torch.float32).min)
