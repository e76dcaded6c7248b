"""A teacher with another tokenizer: what of the two can be compared at all.

The same text in two ways, with the characters at which each token begins and ends:

    student   "un" "believ" "able" "!"      (0,2) (2,8) (8,12) (12,13)
    teacher   "unbeliev" "ably"...          texts differ: an error
    teacher   "unbeliev" "able!"            (0,8) (8,13)

    spans     [((0, 1), (0,)), ((2, 3), (1,))]     the shortest runs of tokens that begin and end at the same places

At the start of a span both models have read the same text: their next-token distributions may be compared there (by sorted
probabilities, since the tokens differ), and over a span their log-probabilities of the same text. Both hold up to this: a
tokenizer may write the same text otherwise, and those ways are not summed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from limbeck.core.errors import InputError
from limbeck.train._loss_autograd import precision
from limbeck.train._loss_math import blocks, log_weights

Offsets = Sequence[tuple[int, int]]
Span = tuple[tuple[int, ...], tuple[int, ...]]
"""Indices of the student's tokens, and of the teacher's, that cover the same stretch of text."""


def align(student_offsets: Offsets, teacher_offsets: Offsets) -> list[Span]:
    """Return the shortest spans that both tokenizations have in common.

    Offsets are (begin, end) of each token in the same text, in characters or bytes, ascending; empty tokens (special ones) go
    to no span. Tokens before the first and after the last common place are left out.

    >>> align([(0, 2), (2, 8), (8, 12), (12, 13)], [(0, 8), (8, 13)])
    [((0, 1), (0,)), ((2, 3), (1,))]

    Raises InputError where offsets do not ascend.
    """
    for whose, offsets in (("student", student_offsets), ("teacher", teacher_offsets)):
        if any(end < begin for begin, end in offsets) or any(a[1] > b[0] for a, b in pairwise(_filled(offsets))):
            raise InputError(
                f"The {whose}'s offsets do not ascend, or overlap; give (begin, end) of each token in the text."
            )
    common = sorted(_edges(student_offsets) & _edges(teacher_offsets))
    spans = []
    for begin, end in pairwise(common):
        own, other = (_inside(offsets, begin, end) for offsets in (student_offsets, teacher_offsets))
        if own and other:
            spans.append((own, other))
    return spans


def _filled(offsets: Offsets) -> list[tuple[int, int]]:
    return [pair for pair in offsets if pair[1] > pair[0]]


def _edges(offsets: Offsets) -> set[int]:
    return {edge for pair in _filled(offsets) for edge in pair}


def _inside(offsets: Offsets, begin: int, end: int) -> tuple[int, ...]:
    return tuple(i for i, (a, b) in enumerate(offsets) if begin <= a < b <= end)


@dataclass
class Sorted:
    """The kernel of universal logit distillation: both distributions sorted, the smaller vocabulary filled up with zeros."""

    teacher_RV: torch.Tensor
    student_temperature: float = 1.0
    teacher_temperature: float = 1.0

    def __call__(self, student_CV: torch.Tensor, start: int, stop: int, gradient: bool) -> torch.Tensor:
        """Return the distance of each row and leave its gradient in `student_CV`."""
        values = torch.empty(len(student_CV), dtype=student_CV.dtype, device=student_CV.device)
        steps = blocks(len(student_CV), student_CV.shape[1], student_CV.device)
        for first in steps:
            logits = student_CV[first : first + steps.step]
            teacher = self.teacher_RV[start + first : start + first + len(logits)].detach().to(logits.dtype, copy=True)
            values[first : first + len(logits)] = self._block(logits, teacher, gradient)
        return values

    def _block(self, student_RV: torch.Tensor, teacher_RV: torch.Tensor, gradient: bool) -> torch.Tensor:
        weights, total = log_weights(teacher_RV.div_(self.teacher_temperature))
        p = weights.div_(total).sort(-1, descending=True).values
        weights, total = log_weights(student_RV.div_(self.student_temperature))
        q, order = weights.div_(total).sort(-1, descending=True)
        both = min(q.shape[1], p.shape[1])
        gap = q.clone()
        gap[:, :both] -= p[:, :both]
        values = gap.abs().sum(-1) + p[:, both:].sum(-1)
        if gradient:
            product = q * gap.sign()
            product.addcmul_(q, product.sum(-1, keepdim=True), value=-1)
            student_RV.scatter_(1, order, product.div_(self.student_temperature))
        return values


def span_sums(log_probs: torch.Tensor, groups: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return the sums of log-probabilities [T] over groups of tokens, in at least 32 bits; gradients pass through."""
    wide = log_probs.to(precision(log_probs))
    index = torch.tensor([i for group in groups for i in group], dtype=torch.long, device=wide.device)
    to = torch.tensor([n for n, group in enumerate(groups) for _ in group], dtype=torch.long, device=wide.device)
    return wide.new_zeros(len(groups)).index_add(0, to, wide[index])
