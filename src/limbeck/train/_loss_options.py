"""The options of the losses, checked: a wrong one is a sentence before anything is computed.

formula("jsd", beta=0.0, ...)                  -> Formula("forward")      GKD's endpoints are the two KLs
formula("jsd", beta=0.1, rescale=True, ...)    -> Formula("jsd", weight=0.1, scale=11.1)
shared_tokens(None, 151936, 152064)            -> UsageError: The student has 151936 tokens and the teacher 152064 ...
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch

from limbeck.core.errors import UsageError, nearest
from limbeck.train._loss_autograd import default_chunk
from limbeck.train._loss_kernels import Full, Shared
from limbeck.train._loss_math import Formula

Kind = Literal["forward", "reverse", "jsd", "skew_forward", "skew_reverse", "tvd"]
SharedIds = int | tuple[torch.Tensor, torch.Tensor]


def formula(kind: str, beta: float, skew: float, rescale: bool) -> Formula:
    """Return the formula of `kind`. Raises UsageError for options outside of their range."""
    if kind not in get_args(Kind):
        raise UsageError(f"There is no divergence '{kind}'.{nearest(kind, get_args(Kind))}")
    if not 0 <= beta <= 1:
        raise UsageError(f"beta is {beta}; it weighs the teacher's term and must lie between 0 and 1.")
    if not 0 <= skew < 1:
        raise UsageError(f"skew is {skew}; it mixes one distribution into the other and must lie in 0 <= skew < 1.")
    if kind == "jsd" and beta in (0, 1):
        kind = "reverse" if beta else "forward"
    if kind.startswith("skew_") and skew == 0:
        kind = kind.removeprefix("skew_")
    weight = {"jsd": beta, "skew_forward": skew, "skew_reverse": 1 - skew}.get(kind, 0.0)
    return Formula(kind, weight, 1 / (beta * (1 - beta)) if rescale and kind == "jsd" else 1.0)


def tempered(options: Formula, student: float, teacher: float, t_squared: bool) -> Formula:
    """Return the formula, with `t_squared` times the square of the student's temperature. Raises UsageError for bad ones."""
    check_temperature("student_temperature", student)
    check_temperature("teacher_temperature", teacher)
    return options._replace(scale=options.scale * student * student) if t_squared else options


def tell(kernel: Full, lost: dict[str, float] | None) -> None:
    """Write the mean mass outside of the shared tokens into the caller's dictionary; zeros where nothing is restricted."""
    if lost is not None and kernel.lost is not None:
        rows = max(1, kernel.lost.rows)
        lost.update(student=float(kernel.lost.student) / rows, teacher=float(kernel.lost.teacher) / rows)


def check_head(whose: str, hidden: torch.Tensor, head_VH: torch.Tensor, bias_V: torch.Tensor | None) -> None:
    """Raise UsageError unless head and bias fit the hidden states."""
    if head_VH.ndim != 2 or head_VH.shape[1] != hidden.shape[-1]:
        raise UsageError(
            f"{whose}_head has the shape {tuple(head_VH.shape)} and {whose}_hidden {tuple(hidden.shape)}; a head is "
            "[vocabulary, hidden size], as torch.nn.Linear keeps its weight."
        )
    if bias_V is not None and bias_V.shape != head_VH.shape[:1]:
        raise UsageError(
            f"{whose}_bias has the shape {tuple(bias_V.shape)}; the head has {len(head_VH)} tokens, so it must be "
            f"({len(head_VH)},)."
        )


def check_labels(labels_R: torch.Tensor, vocabulary: int) -> None:
    """Raise UsageError for a label that is no token."""
    if len(labels_R) and not 0 <= int(labels_R.min()) <= int(labels_R.max()) < vocabulary:
        raise UsageError(
            f"Labels lie between {int(labels_R.min())} and {int(labels_R.max())}, but the student has {vocabulary} tokens; "
            "only -100 stands for no label."
        )


def chunk_size(chunk: int | None, head_VH: torch.Tensor) -> int:
    """Return how many rows to take at a time. Raises UsageError for less than one."""
    if chunk is not None and chunk < 1:
        raise UsageError(f"chunk is {chunk}; it is the number of rows at a time, at least 1.")
    return chunk or default_chunk(len(head_VH), head_VH.device)


def check_temperature(name: str, value: float) -> None:
    """Raise UsageError unless the temperature is a number above 0."""
    if not (0 < value < math.inf):
        raise UsageError(f"{name} is {value}; logits are divided by it, so it must be a finite number above 0.")


def shared_tokens(shared: SharedIds | None, student: int, teacher: int) -> Shared | None:
    """Return the tokens to compare on; None for all of equally large vocabularies. Raises UsageError where they differ."""
    if shared is None:
        if student == teacher:
            return None
        raise UsageError(
            f"The student has {student} tokens and the teacher {teacher}. If the same ids mean the same tokens, and only "
            f"the padding differs, say shared={min(student, teacher)} (or fewer); else give shared=(student_ids, teacher_ids)."
        )
    if isinstance(shared, int):
        if not 0 < shared <= min(student, teacher):
            raise UsageError(f"shared is {shared}; the vocabularies have {student} and {teacher} tokens.")
        return Shared(count=shared)
    student_ids, teacher_ids = shared
    if student_ids.ndim != 1 or student_ids.shape != teacher_ids.shape or not len(student_ids):
        raise UsageError(
            f"shared=(student_ids, teacher_ids) needs two lists of ids of one length, at least 1; the shapes are "
            f"{tuple(student_ids.shape)} and {tuple(teacher_ids.shape)}."
        )
    if any(len(torch.unique(ids)) < len(ids) for ids in shared):
        raise UsageError("shared=(student_ids, teacher_ids) names a token twice; each id may stand there once.")
    return Shared(student_K=student_ids, teacher_K=teacher_ids)
