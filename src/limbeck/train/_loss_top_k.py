"""A teacher of whom only the k likeliest tokens are known, as caches and APIs give them.

    teacher   ids [7, 2]   log-probabilities ln [0.6, 0.3]       a vocabulary of 5 of which 0.1 is unknown
    bucket         teacher [0.6, 0.3 | 0.1]     student [q7, q2 | 1 - q7 - q2]     the rest is one more token
    renormalise    teacher [2/3, 1/3]           student [q7, q2] / (q7 + q2)       both restricted to the k
    full           teacher [2/3, 1/3 | 0]       student [q7, q2 | 1 - q7 - q2]     the teacher restricted, the student whole

All three are divergences between distributions over k or k + 1 tokens, and are computed as such. Merging tokens never
increases a divergence, so that 0 <= bucket <= that of the full distributions. The derivative by a token in the bucket is
that by the bucket, times the token's share of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from limbeck.core.errors import UsageError, nearest
from limbeck.train._loss_math import FLOOR, Formula, blocks, divergence_rows

Tail = Literal["bucket", "renormalise", "full"]


@dataclass
class TopK:
    """The kernel of a teacher of k tokens a row."""

    formula: Formula
    teacher_RK: torch.Tensor
    """Log-probabilities; of k + 1 tokens where there is a bucket, the last."""
    ids_RK: torch.Tensor
    """-1 where a row has fewer than k."""
    bucket: bool
    student_temperature: float = 1.0
    doubtful: float = -torch.inf
    """Up to this logarithm the teacher's bucket may hold nothing."""

    def __call__(self, student_CV: torch.Tensor, start: int, stop: int, gradient: bool) -> torch.Tensor:
        """Return the divergence of each row and leave its gradient in `student_CV`."""
        values = torch.empty(len(student_CV), dtype=student_CV.dtype, device=student_CV.device)
        steps = blocks(len(student_CV), student_CV.shape[1], student_CV.device)
        for first in steps:
            logits = student_CV[first : first + steps.step]
            own = slice(start + first, start + first + len(logits))
            values[first : first + len(logits)] = self._block(
                logits, self.teacher_RK[own].to(logits.dtype, copy=True), self.ids_RK[own], gradient
            )
        return values

    def _block(
        self, logits_RV: torch.Tensor, teacher_RK: torch.Tensor, ids_RK: torch.Tensor, gradient: bool
    ) -> torch.Tensor:
        width = logits_RV.shape[1]
        logits_RV.div_(self.student_temperature)
        logits_RV.sub_(logits_RV.amax(-1, keepdim=True)).clamp_min_(FLOOR)
        absent = ids_RK < 0
        picked = logits_RV.gather(1, ids_RK.clamp_min(0)).masked_fill_(absent, FLOOR)
        places = ids_RK.masked_fill(absent, width)  # one column more, for what is not there
        rest = torch.cat([logits_RV, logits_RV.new_full((len(logits_RV), 1), FLOOR)], 1).scatter_(1, places, FLOOR)
        # the rest under a maximum of its own, which may be hundreds of nats below the row's
        most = rest.amax(-1, keepdim=True)
        outside = rest.sub_(most).exp_().sum(-1, keepdim=True)
        student = torch.cat([picked, outside.log() + most], 1) if self.bucket else picked
        if (
            self.bucket
        ):  # a student that rules the rest out may well be right about a teacher's rest that is but rounding
            nothing = (student[:, -1] <= FLOOR) & (teacher_RK[:, -1] <= self.doubtful)
            teacher_RK[:, -1].masked_fill_(nothing, -torch.inf)
        values = divergence_rows(self.formula, student, teacher_RK, gradient)
        if gradient:
            k = places.shape[1]
            shares = rest.div_(outside).mul_(student[:, k:]) if self.bucket else rest.zero_()
            shares.scatter_(1, places, student[:, :k])
            torch.div(shares[:, :width], self.student_temperature, out=logits_RV)
        return values


def teacher_of(
    log_probs_RK: torch.Tensor, ids_RK: torch.Tensor, tail: str, temperature: float, vocabulary: int, dtype: torch.dtype
) -> torch.Tensor:
    """Return the teacher's log-probabilities as the kernel wants them: with a last one for the bucket, where there is one.

    From log-probabilities of 32 bits the rest is known to 1e-7. It is taken for at least that, so that rounding alone never
    makes it 0 and a reverse KL infinite; where a row names all tokens it is 0.

    Raises UsageError for an unknown `tail`, and for a bucket with a temperature: what it holds cannot be tempered.
    """
    if tail not in get_args(Tail):
        raise UsageError(f"There is no tail '{tail}'.{nearest(tail, get_args(Tail))}")
    if tail == "bucket" and temperature != 1:
        raise UsageError(
            f"teacher_temperature is {temperature}, but the tokens in the bucket are not known one by one, so that it "
            "cannot be tempered; take tail='renormalise' or tail='full', or leave teacher_temperature at 1."
        )
    known = log_probs_RK.detach().double().masked_fill(ids_RK < 0, -torch.inf) / temperature
    if tail == "renormalise":
        return known.to(dtype)
    if tail == "full":
        return torch.cat([known, torch.full_like(known[:, :1], -torch.inf)], 1).to(dtype)
    rest = -torch.expm1(known.logsumexp(-1, keepdim=True))
    all_named = (ids_RK >= 0).sum(-1, keepdim=True) >= vocabulary
    return torch.cat(
        [known, rest.clamp_min(0).log().clamp_min(least_of(log_probs_RK)).masked_fill(all_named, -torch.inf)], 1
    ).to(dtype)


def least_of(log_probs_RK: torch.Tensor) -> float:
    """Return the logarithm of the least rest that can be told from 0: log-probabilities are known to their last bit."""
    return math.log(torch.finfo(torch.float64 if log_probs_RK.dtype == torch.float64 else torch.float32).eps)


def doubtful(log_probs_RK: torch.Tensor) -> float:
    """Return the logarithm of the largest rest that may be nothing but the rounding of k probabilities and of their sum."""
    return least_of(log_probs_RK) + math.log(log_probs_RK.shape[-1] + 2)
