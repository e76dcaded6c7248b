"""Divergences of rows of logits, with their gradients, in closed form and without autograd.

Two rows over a vocabulary of three, p the teacher's distribution and q the student's:

    student logits [0, 0, 0]       q = [1/3, 1/3, 1/3]
    teacher logits [ln 2, 0, -inf] p = [2/3, 1/3, 0]        d = ln p - ln q = [ln 2, 0, -inf]

    forward   sum p ln(p/q)             = 0.462       gradient by the student's logits: q - p = [-1/3, 0, 1/3]
    reverse   sum q ln(q/p)             = +inf        a teacher that rules a token out rules the student out
    jsd 1/2   (KL(p|m) + KL(q|m)) / 2   = 0.144       m = (p + q)/2

How it is kept exact in 32 bits:

- **-inf** becomes -1e30 after the row's maximum is taken off. Its exponential is exactly 0, and 0 * 1e30 is 0 where
  0 * inf is NaN (TRL 1.16 gives NaN here). Where the true value is +inf, +inf is returned, and the row's gradient is 0.
- **Nearly equal rows.** KL = sum p d cancels: its terms are of first order in d and the sum of second, so 32 bits leave
  nothing of a KL of 1e-6. The terms of sum (p d - p + q) are of second order themselves, and the sum is the same
  (Csiszar's generalised divergence, whose value does not feel a small error in the normalisation). They are never negative.
- **Mixtures.** With w the teacher's weight, ln(m/q) = ln(1 + w (e^d - 1)): one expm1 and one log1p, exact for every w.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

FLOOR = -1e30
"""What stands for -inf: finite, so that 0 times it is 0. Lower logits, such as the -3.4e38 of some masks, count as -inf too."""
MASKED = 5e29
"""A difference of log-probabilities beyond this is one between a token ruled out and one that is not."""
SMALL = 0.03
"""Below this a series of three terms is exact to 2e-6 of the value."""
PLAIN = 1e-3
"""Rows above this need no series: the rounding of their terms is 3e-6 of the value."""
BLOCK = 1 << 17
"""Elements of a block on a CPU: what is worked on at a time stays in its cache, up to twice as fast."""


class Formula(NamedTuple):
    """Which divergence: one of six names and the weight it needs."""

    kind: str
    """forward, reverse, jsd, skew_forward, skew_reverse or tvd."""
    weight: float = 0.0
    """Of the teacher in the mixture m = weight * p + (1 - weight) * q, strictly between 0 and 1."""
    scale: float = 1.0
    """The value is multiplied by this."""


class Pair(NamedTuple):
    """The two distributions of a block: R rows, V tokens."""

    q_RV: torch.Tensor
    p_RV: torch.Tensor
    d_RV: torch.Tensor
    """ln p - ln q: about 1e30 where only the student rules a token out, about -1e30 where only the teacher does."""


def blocks(rows: int, width: int, device: torch.device) -> range:
    """Return the first row of each block: small ones on a CPU, for its cache; elsewhere one."""
    step = max(1, BLOCK // max(1, width)) if device.type == "cpu" else max(1, rows)
    return range(0, rows, step)


def log_weights(logits_RV: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn logits, in place, into logits under a maximum of 0 without -inf; return their exponentials and the sums of those."""
    logits_RV.sub_(logits_RV.amax(-1, keepdim=True)).clamp_min_(FLOOR)
    weights_RV = logits_RV.exp()
    return weights_RV, weights_RV.sum(-1, keepdim=True)


def pair(student_RV: torch.Tensor, teacher_RV: torch.Tensor) -> Pair:
    """Return the distributions of both; the memory of both inputs is used up."""
    q, q_total = log_weights(student_RV)
    p, p_total = log_weights(teacher_RV)
    d = teacher_RV.sub_(student_RV).sub_((p_total / q_total).log_())
    return Pair(q.div_(q_total), p.div_(p_total), d)


def divergence_rows(
    formula: Formula, student_RV: torch.Tensor, teacher_RV: torch.Tensor, gradient: bool
) -> torch.Tensor:
    """Return the divergence of each row in nats; with `gradient`, write its derivative by the student's logits over them.

    Both inputs are scratch memory in 32 or 64 bits and hold nothing of use afterwards but that gradient.
    """
    both = pair(student_RV, teacher_RV)
    value_R, gradient_RV = _KINDS[formula.kind](both, formula.weight, gradient)
    value_R = value_R.clamp_min_(0).mul_(formula.scale)
    unbounded_R = _unbounded(formula.kind, both.d_RV)
    if unbounded_R is not None:
        value_R.masked_fill_(unbounded_R, math.inf)
    if gradient:
        torch.mul(gradient_RV, formula.scale, out=student_RV)
        if unbounded_R is not None:
            student_RV.masked_fill_(unbounded_R[:, None], 0.0)
    return value_R


def _unbounded(kind: str, d_RV: torch.Tensor) -> torch.Tensor | None:
    if kind == "forward":
        return d_RV.amax(-1) > MASKED
    return d_RV.amin(-1) < -MASKED if kind == "reverse" else None


Result = tuple[torch.Tensor, torch.Tensor]


def _relative(x_RV: torch.Tensor, y_RV: torch.Tensor, log_ratio_RV: torch.Tensor) -> torch.Tensor:
    # sum of x ln(x/y) - x + y, the larger of x and y taken out of each term, so that no exponential can overflow.
    # Two halves of which one is 0: torch.where, which is not vectorised, would take four times as long
    above, below = log_ratio_RV.clamp_min(0), log_ratio_RV.clamp(-25, 0)  # x below e^-25 y is nothing beside y
    e = torch.expm1(below)
    terms_RV = torch.expm1(-above).add_(above).mul_(x_RV)
    terms_RV.addcmul_(y_RV, (below - e).addcmul_(e, below))
    return _refined(terms_RV, y_RV, log_ratio_RV)


def _relative_to_mixture(m_RV: torch.Tensor, log_ratio_RV: torch.Tensor) -> torch.Tensor:
    # the same of x and a mixture m that holds some x: x/m is bounded, so that one form does, with half the passes
    e = torch.expm1(log_ratio_RV)
    terms_RV = (log_ratio_RV - e).addcmul_(e, log_ratio_RV).mul_(m_RV)
    return _refined(terms_RV, m_RV, log_ratio_RV)


def _refined(terms_RV: torch.Tensor, y_RV: torch.Tensor, log_ratio_RV: torch.Tensor) -> torch.Tensor:
    # the sum of the terms, those of small ratios by a series where their rounding would show
    value_R = terms_RV.sum(-1)
    if value_R.device.type == "cpu" and bool((value_R > PLAIN).all()):
        return value_R  # (elsewhere than on a CPU to ask would cost more)
    ratio = log_ratio_RV.clamp(-1, 1)
    series_RV = (ratio / 8).add_(1 / 3).mul_(ratio).add_(0.5).mul_(ratio).mul_(ratio).mul_(y_RV)
    return torch.where(log_ratio_RV.abs() < SMALL, series_RV, terms_RV).sum(-1)


def _centred(q_RV: torch.Tensor, slope_RV: torch.Tensor) -> torch.Tensor:
    # the chain rule of the softmax: from the slope by q to the slope by the logits
    product = q_RV * slope_RV
    return product.addcmul_(q_RV, product.sum(-1, keepdim=True), value=-1)


def _forward(both: Pair, weight: float, gradient: bool) -> Result:
    q, p, d = both
    return _relative(p, q, d), q - p if gradient else q


def _reverse(both: Pair, weight: float, gradient: bool) -> Result:
    q, p, d = both
    return _relative(q, p, -d), _centred(q, -d) if gradient else q


def _mixture(d_RV: torch.Tensor, weight: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ln(m/p) and ln(m/q) for m = weight * p + (1 - weight) * q."""
    # beyond the bound the smaller of p and q is nothing beside its part of m
    bound = min(21.0 - math.log(min(weight, 1 - weight)), 80.0)
    d = d_RV.clamp(-bound, bound)
    above, below = d.clamp_min(0), d.clamp_max(0)
    log_m = torch.expm1(above).mul_(weight).add_(torch.expm1(-below), alpha=1 - weight).log1p_()
    return log_m - above, log_m + below


def _jsd(both: Pair, weight: float, gradient: bool) -> Result:
    q, p, d = both
    over_p, over_q = (side.neg_() for side in _mixture(d, weight))
    m = torch.lerp(q, p, weight)
    value = _relative_to_mixture(m, over_p).mul_(weight).add_(_relative_to_mixture(m, over_q), alpha=1 - weight)
    return value, _centred(q, over_q.mul_(1 - weight)) if gradient else q


def _skew_forward(both: Pair, weight: float, gradient: bool) -> Result:
    q, p, d = both
    over_p = _mixture(d, weight)[0].neg_()
    value = _relative_to_mixture(torch.lerp(q, p, weight), over_p)
    return value, _centred(q, over_p.exp_().mul_(weight - 1)) if gradient else q


def _skew_reverse(both: Pair, weight: float, gradient: bool) -> Result:
    q, p, d = both
    over_q = _mixture(d, weight)[1].neg_()
    value = _relative_to_mixture(torch.lerp(q, p, weight), over_q)
    slope = over_q.sub_(over_q.exp(), alpha=1 - weight) if gradient else over_q
    return value, _centred(q, slope) if gradient else q


def _tvd(both: Pair, weight: float, gradient: bool) -> Result:
    q, p, d = both
    value = torch.maximum(p, q).mul_(torch.expm1(-d.abs())).sum(-1).mul_(-0.5)
    return value, _centred(q, d.sign_().mul_(-0.5)) if gradient else q


_KINDS = {
    "forward": _forward,
    "reverse": _reverse,
    "jsd": _jsd,
    "skew_forward": _skew_forward,
    "skew_reverse": _skew_reverse,
    "tvd": _tvd,
}
