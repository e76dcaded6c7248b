"""Losses whose gradient is computed with their value: from logits, or from hidden states and a head.

A *kernel* knows a loss and its target, and nothing of where logits come from. It is given logits of some rows in scratch
memory, returns the loss of each row and writes the derivative over the logits:

    kernel(logits_CV, start=256, stop=384, gradient=True) -> values_C       C rows: 256 to 383 of the valid ones

From hidden states, 128 rows at a time, with V = 128,000 and two buffers of 65 MB for any size of batch:

    logits = hidden @ head.T + bias  ->  kernel: values, and logits become their gradient g  ->  hidden' = g @ head
                                                                                                 head'  += g.T @ hidden
One projection a chunk and no graph over the vocabulary, where autograd would keep several copies of it. The gradient of
the head is summed in 32 bits: rounding each chunk's part to bfloat16 biases training. Where no gradient is asked for none
is computed. With reduction "none" the rows' weights are not known before the backward pass, so the chunks are done again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from limbeck.train._loss_rows import Rows

Kernel = Callable[[torch.Tensor, int, int, bool], torch.Tensor]
HALF = (torch.float16, torch.bfloat16)
TILE = 1 << 22
"""Elements of a head that are widened to 32 bits at a time."""


def precision(*tensors: torch.Tensor) -> torch.dtype:
    """Return the type to compute in: 64 bits where an input has 64, else 32, also for inputs in half precision."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def default_chunk(width: int, device: torch.device) -> int:
    """Return how many rows to take at a time: 128 on a CPU, elsewhere as many as make 2^26 logits."""
    return 128 if device.type == "cpu" else max(64, (1 << 26) // max(1, width))


def from_logits(logits: torch.Tensor, rows: Rows, kernel: Kernel, dtype: torch.dtype) -> torch.Tensor:
    """Return the reduced loss of the valid rows of logits."""
    taken = rows.take(logits, "student_logits")
    wanted = torch.is_grad_enabled() and taken.requires_grad
    return rows.reduce(
        _applied(_FromLogits, taken, kernel, dtype) if wanted else _logits_sweep(taken, kernel, dtype, None)
    )


def from_hidden(
    hidden: torch.Tensor,
    head_VH: torch.Tensor,
    bias_V: torch.Tensor | None,
    rows: Rows,
    kernel: Kernel,
    *,
    chunk: int,
    dtype: torch.dtype,
) -> torch.Tensor:
    """Return the reduced loss of the valid rows, given hidden states and a head [V, H]."""
    taken = rows.take(hidden, "student_hidden")
    inputs = (taken, head_VH, bias_V)
    if not (torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs)):
        return rows.reduce(_hidden_sweep(*inputs, kernel, chunk, dtype, None, ())[0])
    if rows.reduction == "none":
        return rows.reduce(_applied(_HiddenValues, *inputs, kernel, chunk, dtype))
    weights_R = rows.weights_R(torch.empty(0, dtype=dtype, device=hidden.device))
    return _applied(_HiddenLoss, *inputs, weights_R, kernel, chunk, dtype)


def _applied(function: type[torch.autograd.Function], *inputs: Any) -> torch.Tensor:
    return function.apply(*inputs)  # type: ignore[no-any-return,no-untyped-call]


class _FromLogits(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits_RV: torch.Tensor, kernel: Kernel, dtype: torch.dtype) -> torch.Tensor:
        gradient_RV = torch.empty_like(logits_RV)
        values_R = _logits_sweep(logits_RV, kernel, dtype, gradient_RV)
        ctx.save_for_backward(gradient_RV)
        return values_R

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream_R: torch.Tensor) -> Any:
        (gradient_RV,) = ctx.saved_tensors
        return gradient_RV * upstream_R[:, None].to(gradient_RV.dtype), None, None


def _logits_sweep(
    logits_RV: torch.Tensor, kernel: Kernel, dtype: torch.dtype, gradient_RV: torch.Tensor | None
) -> torch.Tensor:
    count, width = logits_RV.shape
    values_R = torch.empty(count, dtype=dtype, device=logits_RV.device)
    step = default_chunk(width, logits_RV.device)
    for start in range(0, count, step):
        stop = min(count, start + step)
        scratch = logits_RV[start:stop].detach().to(dtype, copy=True)
        values_R[start:stop] = kernel(scratch, start, stop, gradient_RV is not None)
        if gradient_RV is not None:
            gradient_RV[start:stop] = scratch
    return values_R


class _HiddenLoss(torch.autograd.Function):
    """A weighted sum over rows: the gradients are ready with the value, up to one number."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_RH: torch.Tensor,
        head_VH: torch.Tensor,
        bias_V: torch.Tensor | None,
        weights_R: torch.Tensor,
        kernel: Kernel,
        chunk: int,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        values_R, gradients = _hidden_sweep(
            hidden_RH, head_VH, bias_V, kernel, chunk, dtype, weights_R, ctx.needs_input_grad[:3]
        )
        ctx.save_for_backward(*gradients)
        ctx.dtypes = [t.dtype if t is not None else None for t in (hidden_RH, head_VH, bias_V)]
        return (values_R * weights_R).sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: torch.Tensor) -> Any:
        # never in place: with retain_graph the same gradients are asked for again
        scaled = [_times(g, upstream, t) for g, t in zip(ctx.saved_tensors, ctx.dtypes, strict=True)]
        return (*scaled, None, None, None, None)


def _times(gradient: torch.Tensor | None, upstream: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor | None:
    if gradient is None:
        return None
    if upstream.device.type == "cpu" and upstream == 1:
        return gradient.to(dtype)
    return (gradient * upstream).to(dtype)


class _HiddenValues(torch.autograd.Function):
    """The value of each row: the backward pass goes through the chunks again, once it knows what each row weighs."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_RH: torch.Tensor,
        head_VH: torch.Tensor,
        bias_V: torch.Tensor | None,
        kernel: Kernel,
        chunk: int,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        ctx.save_for_backward(hidden_RH, head_VH, bias_V)
        ctx.how = (kernel, chunk, dtype)
        return _hidden_sweep(hidden_RH, head_VH, bias_V, kernel, chunk, dtype, None, ())[0]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream_R: torch.Tensor) -> Any:
        inputs = hidden_RH, head_VH, bias_V = ctx.saved_tensors
        kernel, chunk, dtype = ctx.how
        _, gradients = _hidden_sweep(
            hidden_RH, head_VH, bias_V, kernel, chunk, dtype, upstream_R, ctx.needs_input_grad[:3]
        )
        cast = [g if g is None else g.to(t.dtype) for g, t in zip(gradients, inputs, strict=True)]
        return (*cast, None, None, None)


def _hidden_sweep(
    hidden_RH: torch.Tensor,
    head_VH: torch.Tensor,
    bias_V: torch.Tensor | None,
    kernel: Kernel,
    chunk: int,
    dtype: torch.dtype,
    weights_R: torch.Tensor | None,
    needs: tuple[bool, ...],
) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
    """Go through all rows in chunks; with weights, also return the gradients of the weighted sum by those inputs needed."""
    rows, vocabulary = len(hidden_RH), len(head_VH)
    values_R = torch.empty(rows, dtype=dtype, device=hidden_RH.device)
    buffer = torch.empty((min(rows, chunk), vocabulary), dtype=dtype, device=hidden_RH.device)
    inputs = (hidden_RH, head_VH, bias_V)
    wanted = zip(inputs, needs or (False,) * 3, strict=True)
    sums = [torch.zeros_like(t, dtype=dtype) if t is not None and need else None for t, need in wanted]
    with torch.no_grad(), torch.autocast(hidden_RH.device.type, enabled=False):
        for start in range(0, rows, chunk):
            stop = min(rows, start + chunk)
            hidden, logits = hidden_RH[start:stop].detach(), buffer[: stop - start]
            project(logits, hidden, head_VH, bias_V)
            values_R[start:stop] = kernel(logits, start, stop, weights_R is not None)
            if weights_R is not None:
                logits.mul_(weights_R[start:stop, None])
                _backward(logits, hidden, head_VH, sums, start)
    return values_R, sums


def _backward(
    gradient_CV: torch.Tensor,
    hidden_CH: torch.Tensor,
    head_VH: torch.Tensor,
    sums: list[torch.Tensor | None],
    start: int,
) -> None:
    hidden_sum, head_sum, bias_sum = sums
    if bias_sum is not None:
        bias_sum += gradient_CV.sum(0)
    halves = gradient_CV.is_cuda and head_VH.dtype in HALF and hidden_CH.dtype == head_VH.dtype
    if halves:
        # matrix cores: factors in half precision, products and sums in 32 bits
        gradient_CV = gradient_CV.to(head_VH.dtype)
    if hidden_sum is not None:
        into = hidden_sum[start : start + len(gradient_CV)]
        for first, tile_WH in tiles(head_VH, gradient_CV.dtype):
            into += gradient_CV[:, first : first + len(tile_WH)] @ tile_WH
    if head_sum is not None:
        if halves:
            head_sum += torch.mm(gradient_CV.t(), hidden_CH, out_dtype=head_sum.dtype)
        else:
            head_sum.addmm_(gradient_CV.t(), hidden_CH.to(head_sum.dtype))


def project(
    logits_CV: torch.Tensor, hidden_CH: torch.Tensor, head_VH: torch.Tensor, bias_V: torch.Tensor | None
) -> None:
    """Write hidden @ head.T + bias, products and sums in the precision of `logits_CV`, whatever that of the factors."""
    head_VH = head_VH.detach()
    if hidden_CH.is_cuda and head_VH.dtype in HALF and hidden_CH.dtype == head_VH.dtype:
        torch.mm(hidden_CH, head_VH.t(), out_dtype=logits_CV.dtype, out=logits_CV)
    else:
        wide_CH = hidden_CH.to(logits_CV.dtype)
        for first, tile_WH in tiles(head_VH, logits_CV.dtype):
            torch.mm(wide_CH, tile_WH.t(), out=logits_CV[:, first : first + len(tile_WH)])
    if bias_V is not None:
        logits_CV.add_(bias_V.detach())


def tiles(head_VH: torch.Tensor, dtype: torch.dtype) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield the head in tiles of `dtype`, with the first row of each: whole if it has that type, else some rows at a time."""
    if head_VH.dtype == dtype:
        yield 0, head_VH.detach()
        return
    step = max(1, TILE // head_VH.shape[1])
    for first in range(0, len(head_VH), step):
        yield first, head_VH[first : first + step].detach().to(dtype)
