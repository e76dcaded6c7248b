"""Estimates of the reverse KL from single tokens that the student sampled.

student ln q(token) = -1.0, teacher ln p(token) = -1.5:   d = 0.5    k1 = 0.5    k2 = 0.125    k3 = 0.107
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch

from limbeck.core.errors import UsageError, nearest
from limbeck.train._loss_autograd import precision

Estimator = Literal["k1", "k2", "k3"]


def estimate(student_R: torch.Tensor, teacher_R: torch.Tensor, estimator: str, score_function: bool) -> torch.Tensor:
    """Return the estimate of each token, with the gradient that `sampled_divergence` tells of."""
    if estimator not in get_args(Estimator):
        raise UsageError(f"There is no estimator '{estimator}'.{nearest(estimator, get_args(Estimator))}")
    if score_function and estimator != "k1":
        raise UsageError(
            f"score_function goes with estimator='k1'; with '{estimator}' the mean gradient would be that of no divergence."
        )
    dtype = precision(student_R, teacher_R)
    own, other = student_R.to(dtype), teacher_R.to(dtype)
    never = other == -math.inf
    difference = own - other.masked_fill(never, 0.0)
    value = _value(difference.detach() if score_function else difference, estimator)
    if score_function:
        value = value + value * (own - own.detach())
    return torch.where(never, torch.full_like(value, math.inf), value)


def _value(d_R: torch.Tensor, estimator: str) -> torch.Tensor:
    if estimator == "k1":
        return d_R
    return d_R.square() / 2 if estimator == "k2" else torch.expm1(-d_R) + d_R
