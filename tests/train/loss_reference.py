"""The divergences once more: in 64 bits, from the definitions, a row at a time, with autograd. Slow and plain.

Tokens that neither distribution can produce are taken out of a row first; where one of the two can, the definition decides.
"""

from __future__ import annotations

import math

import torch

KINDS = ("forward", "reverse", "jsd", "skew_forward", "skew_reverse", "tvd")


def kl(log_a: torch.Tensor, log_b: torch.Tensor) -> torch.Tensor:
    """KL(a || b): terms where a is 0 are 0."""
    there = log_a > -math.inf
    return (log_a[there].exp() * (log_a[there] - log_b[there])).sum()


def mixed(log_a: torch.Tensor, log_b: torch.Tensor, weight: float) -> torch.Tensor:
    """ln(weight * a + (1 - weight) * b)."""
    return (weight * log_a.exp() + (1 - weight) * log_b.exp()).log()


def row(
    student: torch.Tensor, teacher: torch.Tensor, kind: str, beta: float, skew: float, rescale: bool
) -> torch.Tensor:
    there = (student > -math.inf) | (teacher > -math.inf)
    q, p = student[there].log_softmax(-1), teacher[there].log_softmax(-1)
    if kind == "forward" or (kind == "jsd" and beta == 0):
        return kl(p, q)
    if kind == "reverse" or (kind == "jsd" and beta == 1):
        return kl(q, p)
    if kind == "jsd":
        m = mixed(p, q, beta)
        value = beta * kl(p, m) + (1 - beta) * kl(q, m)
        return value / (beta * (1 - beta)) if rescale else value
    if kind == "skew_forward":
        return kl(p, mixed(p, q, skew))
    if kind == "skew_reverse":
        return kl(q, mixed(q, p, skew))
    return (p.exp() - q.exp()).abs().sum() / 2


def reference(
    student: torch.Tensor,
    teacher: torch.Tensor,
    labels: torch.Tensor,
    *,
    kind: str = "jsd",
    beta: float = 0.5,
    skew: float = 0.1,
    rescale: bool = False,
    student_temperature: float = 1.0,
    teacher_temperature: float = 1.0,
    reduction: str = "token_mean",
    t_squared: bool = False,
) -> torch.Tensor:
    """The loss, with autograd; labels [B, S]."""
    factor = student_temperature**2 if t_squared else 1
    lines = []
    for s_SV, t_SV, l_S in zip(student.double(), teacher.double(), labels, strict=True):
        own = [
            factor * row(s / student_temperature, t / teacher_temperature, kind, beta, skew, rescale)
            for s, t, label in zip(s_SV, t_SV, l_S.tolist(), strict=True)
            if label != -100
        ]
        if own:
            lines.append(torch.stack(own))
    if not lines:
        return (student.double() * 0).nan_to_num().sum()
    if reduction == "sequence_mean":
        return torch.stack([line.mean() for line in lines]).mean()
    values = torch.cat(lines)
    return values.sum() if reduction == "sum" else values.mean()


B, S, V = 3, 5, 13
CASES = ("small", "faint", "peaky", "wide", "equal", "masked_both", "masked_teacher", "masked_student", "all_masked")


def case(name: str, vocabulary: int = V) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Student logits, teacher logits and labels of a kind of input that goes wrong somewhere in public."""
    draw = torch.Generator().manual_seed(CASES.index(name))
    scale = {"faint": 1e-3, "wide": 25.0, "peaky": 2.0}.get(name, 1.0)
    student, teacher = (torch.randn(B, S, vocabulary, generator=draw) * scale for _ in range(2))
    labels = torch.randint(0, vocabulary, (B, S), generator=draw)
    labels[0, :2], labels[1, 2:], labels[2, :] = -100, -100, torch.tensor([-100, 1, -100, 2, 3])
    if name == "peaky":
        student[..., 3] += 30
        teacher[..., ::4] += 20
    if name == "equal":
        teacher = student.clone()
    if name in ("masked_both", "masked_teacher"):
        teacher[..., -4:] = -math.inf
    if name in ("masked_both", "masked_student"):
        student[..., -4:] = -math.inf
    if name == "all_masked":
        labels[:] = -100
        student[0, 0], teacher[1] = math.nan, math.inf
    return student, teacher, labels
