"""Kernels: what a row of the student's logits is compared with.

    Full      the teacher's whole distribution, from logits or from its hidden states and head
    Labels    one token that was written: cross entropy

A kernel works on blocks small enough for a CPU's cache and leaves the gradient where the logits were; see
`_loss_autograd.py`. Temperatures divide logits here: with T = 2 the logits [4, 0] are those of [2, 0], and the derivative
by the logits is half of that by the tempered ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from limbeck.train._loss_autograd import project
from limbeck.train._loss_math import MASKED, Formula, blocks, divergence_rows, log_weights

Fetch = Callable[[int, int], torch.Tensor]
"""Return the teacher's logits of the valid rows start to stop, in memory that may be overwritten."""


@dataclass(frozen=True)
class Shared:
    """The tokens that both vocabularies have: the first `count` ids of both, or a list of ids of each."""

    count: int = 0
    student_K: torch.Tensor | None = None
    teacher_K: torch.Tensor | None = None

    def of(self, logits_RV: torch.Tensor, ids_K: torch.Tensor | None) -> torch.Tensor:
        """Return a copy of the shared columns."""
        if ids_K is None:
            return logits_RV[:, : self.count].clone()
        return logits_RV.index_select(1, ids_K)

    def back(self, gradient_RK: torch.Tensor, logits_RV: torch.Tensor) -> None:
        """Write the gradient into the student's shared columns, and 0 into the others."""
        if self.student_K is None:
            logits_RV[:, : self.count] = gradient_RK
            logits_RV[:, self.count :] = 0
        else:
            logits_RV.zero_().index_copy_(1, self.student_K, gradient_RK)


@dataclass
class Lost:
    """How much probability lies outside of the shared tokens: sums over rows, of the student and of the teacher."""

    student: torch.Tensor | float = 0.0
    teacher: torch.Tensor | float = 0.0
    rows: int = 0


@dataclass
class Full:
    """The teacher's whole distribution."""

    formula: Formula
    fetch: Fetch
    student_temperature: float = 1.0
    teacher_temperature: float = 1.0
    shared: Shared | None = None
    lost: Lost | None = None

    def __call__(self, student_CV: torch.Tensor, start: int, stop: int, gradient: bool) -> torch.Tensor:
        """Return the divergence of each row and leave its gradient in `student_CV`."""
        teacher_CV = self.fetch(start, stop)
        values = torch.empty(len(student_CV), dtype=student_CV.dtype, device=student_CV.device)
        steps = blocks(len(student_CV), student_CV.shape[1], student_CV.device)
        for first in steps:
            block = slice(first, first + steps.step)
            values[block] = self._block(student_CV[block], teacher_CV[block], gradient)
        return values

    def _block(self, student_RV: torch.Tensor, teacher_RV: torch.Tensor, gradient: bool) -> torch.Tensor:
        for logits, temperature in ((student_RV, self.student_temperature), (teacher_RV, self.teacher_temperature)):
            if temperature != 1:
                logits.div_(temperature)
        if self.shared is None:
            values = divergence_rows(self.formula, student_RV, teacher_RV, gradient)
        else:
            student = self.shared.of(student_RV, self.shared.student_K)
            teacher = self.shared.of(teacher_RV, self.shared.teacher_K)
            if self.lost is not None:
                self._count(student_RV, student, teacher_RV, teacher)
            values = divergence_rows(self.formula, student, teacher, gradient)
            if gradient:
                self.shared.back(student, student_RV)
        if gradient and self.student_temperature != 1:
            student_RV.div_(self.student_temperature)
        return values

    def _count(
        self, student_RV: torch.Tensor, student_RK: torch.Tensor, teacher_RV: torch.Tensor, teacher_RK: torch.Tensor
    ) -> None:
        assert self.lost is not None
        self.lost.student = self.lost.student + _outside(student_RV, student_RK)
        self.lost.teacher = self.lost.teacher + _outside(teacher_RV, teacher_RK)
        self.lost.rows += len(student_RV)


def _outside(logits_RV: torch.Tensor, logits_RK: torch.Tensor) -> torch.Tensor:
    kept = logits_RK.double().logsumexp(-1) - logits_RV.double().logsumexp(-1)
    return -torch.expm1(kept).sum()


@dataclass
class Labels:
    """The tokens that were written: cross entropy."""

    labels_R: torch.Tensor

    def __call__(self, student_CV: torch.Tensor, start: int, stop: int, gradient: bool) -> torch.Tensor:
        """Return -ln q(label) of each row and leave q - onehot(label) in `student_CV`."""
        values = torch.empty(len(student_CV), dtype=student_CV.dtype, device=student_CV.device)
        steps = blocks(len(student_CV), student_CV.shape[1], student_CV.device)
        for first in steps:
            logits = student_CV[first : first + steps.step]
            labels_R1 = self.labels_R[start + first : start + first + len(logits), None]
            values[first : first + len(logits)] = self._block(logits, labels_R1, gradient)
        return values

    def _block(self, logits_RV: torch.Tensor, labels_R1: torch.Tensor, gradient: bool) -> torch.Tensor:
        weights, total = log_weights(logits_RV)
        own_R = logits_RV.gather(1, labels_R1).squeeze(1)
        never_R = own_R < -MASKED
        if gradient:
            torch.div(weights, total, out=logits_RV)
            logits_RV.scatter_add_(1, labels_R1, torch.full_like(labels_R1, -1, dtype=logits_RV.dtype))
            logits_RV.masked_fill_(never_R[:, None], 0.0)
        return (total.log().squeeze(1) - own_R).clamp_min_(0).masked_fill_(never_R, math.inf)


def fetch_logits(logits_RV: torch.Tensor, dtype: torch.dtype) -> Fetch:
    """Return a fetch from rows of logits."""
    return lambda start, stop: logits_RV[start:stop].detach().to(dtype, copy=True)


def fetch_hidden(
    hidden_RH: torch.Tensor, head_VH: torch.Tensor, bias_V: torch.Tensor | None, chunk: int, dtype: torch.dtype
) -> Fetch:
    """Return a fetch that projects the teacher's hidden states, always into the same memory."""
    buffers: list[torch.Tensor] = []

    def fetch(start: int, stop: int) -> torch.Tensor:
        if not buffers:
            rows = min(len(hidden_RH), chunk)
            buffers.append(torch.empty((rows, len(head_VH)), dtype=dtype, device=hidden_RH.device))
        logits = buffers[0][: stop - start]
        project(logits, hidden_RH[start:stop].detach(), head_VH, bias_V)
        return logits

    return fetch
