"""Distillation losses: how far the student's next-token distribution q is from the teacher's p.

    labels          -100 -100   12    7      a row counts where its label is not -100; row i predicts labels[i], no shift
    divergence(student_logits, teacher_logits, labels, kind="forward")                    0.4621  nats a token
    fused_divergence(student_hidden, student_head, teacher_hidden, teacher_head, labels)  the same, without [T, V] logits

| loss                          | what the student is compared with                                                  |
|-------------------------------|------------------------------------------------------------------------------------|
| `divergence`                  | the teacher's logits                                                               |
| `fused_divergence`            | the teacher's hidden states and head; memory of a few [128, V] buffers             |
| `top_k_divergence`            | k log-probabilities a token, from a cache or an API                                |
| `fused_top_k_divergence`      | the same, from the student's hidden states                                         |
| `sampled_divergence`          | the teacher's log-probability of each token that the student sampled               |
| `uld`                         | a teacher with another tokenizer: sorted probabilities                             |
| `span_divergence`             | a teacher with another tokenizer: log-probabilities of spans of the same text      |
| `cross_entropy`, `fused_...`  | tokens the teacher wrote: sequence-level distillation (Kim & Rush 2016), or plain SFT |

All compute in 32 bits whatever the inputs (in 64 if they have 64), take -inf for what it means, leave masked rows out
before anything is computed, and send no gradient to the teacher. `docs/distillation-losses.md` says which to take.

The divergences, with m = beta p + (1 - beta) q:

    forward        sum p ln(p/q)        KL(teacher || student): covers every mode of the teacher
    reverse        sum q ln(q/p)        KL(student || teacher): prefers to sit inside one
    jsd            beta KL(p || m) + (1 - beta) KL(q || m); at beta 0 forward, at beta 1 reverse     GKD, 2306.13649
    skew_forward   KL(p || skew p + (1 - skew) q)                                                    DistiLLM, 2402.03898
    skew_reverse   KL(q || skew q + (1 - skew) p)
    tvd            sum |p - q| / 2
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from limbeck.train._loss_autograd import from_hidden, from_logits, precision
from limbeck.train._loss_kernels import Full, Labels, Lost, fetch_hidden, fetch_logits
from limbeck.train._loss_options import (
    Kind,
    SharedIds,
    check_head,
    check_labels,
    check_temperature,
    chunk_size,
    formula,
    shared_tokens,
    tell,
    tempered,
)
from limbeck.train._loss_rows import Reduction, Rows
from limbeck.train._loss_sampled import Estimator, estimate
from limbeck.train._loss_tokenizers import Sorted, Span, align, span_sums
from limbeck.train._loss_top_k import Tail, TopK, doubtful, teacher_of

__all__ = [
    "align",
    "cross_entropy",
    "divergence",
    "fused_cross_entropy",
    "fused_divergence",
    "fused_top_k_divergence",
    "sampled_divergence",
    "span_divergence",
    "top_k_divergence",
    "uld",
]

Items = float | torch.Tensor | None


def divergence(
    student_logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    labels: torch.Tensor,
    *,
    kind: Kind = "jsd",
    beta: float = 0.5,
    student_temperature: float = 1.0,
    teacher_temperature: float = 1.0,
    reduction: Reduction = "token_mean",
    rescale: bool = False,
    skew: float = 0.1,
    t_squared: bool = False,
    shared: SharedIds | None = None,
    items: Items = None,
    sequences: torch.Tensor | None = None,
    lost: dict[str, float] | None = None,
) -> torch.Tensor:
    """Return the divergence of the student from the teacher in nats (definitions of GKD, arXiv 2306.13649, as in TRL).

    `student_logits` and `teacher_logits` are [..., V], `labels` [...]. A row whose label is -100 is ignored; which token
    another label names does not matter. No shift is applied: pass `logits[:, :-1]` with `labels[:, 1:]`.

    - `beta` weighs the teacher's term of `jsd` (default 0.5). `rescale` divides the JSD by beta (1 - beta): it then tends to
      the forward KL at 0 and to the reverse KL at 1, and its gradients have a like size for every beta. Others ignore it.
    - `student_temperature` and `teacher_temperature` divide the logits (default 1). `t_squared` multiplies the loss by the
      square of the student's, so that its gradients keep their size (Hinton et al. 2015, arXiv 1503.02531).
    - `reduction`: `token_mean`, the mean over all valid tokens; `sequence_mean`, the mean over sequences of each one's mean;
      `sum`; `none`, a value for each label, 0 where it is -100. `items` is what the means divide by in place of this
      batch's own count of tokens (or sequences): that of the whole update, so that splitting it changes nothing.
      `sequences`, of the shape of `labels`, names the sequence of each token where packed rows hold several.
    - `skew` is the share mixed in by `skew_forward` and `skew_reverse` (default 0.1).
    - `shared` restricts both to the tokens they share and renormalises: `shared=151936` for the first ids of both, or two
      lists of ids. `lost`, a dictionary, is then told the mean mass outside: {"student": 1e-6, "teacher": 2e-5}.

    -inf is taken as it stands. Where the true value is +inf (the reverse KL against a teacher that rules a token out, the
    forward KL of a student that does) +inf is returned, and such a row has no gradient.

    Raises UsageError for options outside of their range, for shapes that do not fit, and for vocabularies of different size
    without `shared`.
    """
    rows = Rows(labels, reduction, items, sequences)
    dtype = precision(student_logits, teacher_logits)
    fetch = fetch_logits(rows.take(teacher_logits, "teacher_logits"), dtype)
    options = tempered(formula(kind, beta, skew, rescale), student_temperature, teacher_temperature, t_squared)
    common = shared_tokens(shared, student_logits.shape[-1], teacher_logits.shape[-1])
    report = None if lost is None else Lost()
    kernel = Full(options, fetch, student_temperature, teacher_temperature, common, report)
    loss = from_logits(student_logits, rows, kernel, dtype)
    tell(kernel, lost)
    return loss


def fused_divergence(
    student_hidden: torch.Tensor,
    student_head: torch.Tensor,
    teacher_hidden: torch.Tensor,
    teacher_head: torch.Tensor,
    labels: torch.Tensor,
    *,
    student_bias: torch.Tensor | None = None,
    teacher_bias: torch.Tensor | None = None,
    chunk: int | None = None,
    kind: Kind = "jsd",
    beta: float = 0.5,
    student_temperature: float = 1.0,
    teacher_temperature: float = 1.0,
    reduction: Reduction = "token_mean",
    rescale: bool = False,
    skew: float = 0.1,
    t_squared: bool = False,
    shared: SharedIds | None = None,
    items: Items = None,
    sequences: torch.Tensor | None = None,
    lost: dict[str, float] | None = None,
) -> torch.Tensor:
    """Return `divergence` of the logits `hidden @ head.T + bias`, which never exist but for `chunk` rows at a time.

    Hidden states are [..., H] (the two models may differ in H), heads [V, H], biases [V], `labels` [...]. Only valid rows
    are projected. The gradient, in closed form, is made in the same pass as the value: one projection a chunk, the head's
    gradient summed in 32 bits. Peak memory is two buffers [chunk, V] and that gradient, whatever the size of the batch.
    With reduction `none` the chunks are projected once more in the backward pass. A head may be tied to the embedding.

    `chunk` is the number of rows at a time (default 128 on a CPU, elsewhere as many as make 2^26 logits); it does not change
    the value. The other options are those of `divergence`, and so are the errors.
    """
    rows = Rows(labels, reduction, items, sequences)
    dtype = precision(student_hidden, student_head, teacher_hidden, teacher_head)
    size = chunk_size(chunk, student_head)
    check_head("student", student_hidden, student_head, student_bias)
    check_head("teacher", teacher_hidden, teacher_head, teacher_bias)
    fetch = fetch_hidden(rows.take(teacher_hidden, "teacher_hidden"), teacher_head, teacher_bias, size, dtype)
    options = tempered(formula(kind, beta, skew, rescale), student_temperature, teacher_temperature, t_squared)
    common = shared_tokens(shared, len(student_head), len(teacher_head))
    report = None if lost is None else Lost()
    kernel = Full(options, fetch, student_temperature, teacher_temperature, common, report)
    loss = from_hidden(student_hidden, student_head, student_bias, rows, kernel, chunk=size, dtype=dtype)
    tell(kernel, lost)
    return loss


def top_k_divergence(
    student_logits: torch.Tensor,
    teacher_log_probs: torch.Tensor,
    teacher_ids: torch.Tensor,
    labels: torch.Tensor,
    *,
    tail: Tail = "bucket",
    kind: Kind = "forward",
    beta: float = 0.5,
    student_temperature: float = 1.0,
    teacher_temperature: float = 1.0,
    reduction: Reduction = "token_mean",
    rescale: bool = False,
    skew: float = 0.1,
    t_squared: bool = False,
    items: Items = None,
    sequences: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the divergence from a teacher of whom k log-probabilities a token are known.

    `teacher_log_probs` and `teacher_ids` are [..., k]: natural logarithms of the teacher's whole softmax, and the student's
    ids of those tokens, each once; -1 where a row has fewer than k. `student_logits` are [..., V], `labels` [...].

    - `tail` (projects differ here; a number is only comparable under the same one). `bucket` (default) makes one more token
      of the rest: never above the full divergence, and the only one fit for `reverse`. `renormalise` restricts both to the k
      tokens (TRL's server): the student's tail is then free, and with `reverse` it collapses (verl#5041). `full` restricts the
      teacher alone and keeps the student's whole softmax (DistillKit's ZERO).
    - `kind` is `forward` by default. `teacher_temperature` needs `renormalise` or `full`. The rest is as in `divergence`.

    Raises UsageError for options outside of their range and for shapes that do not fit.
    """
    rows = Rows(labels, reduction, items, sequences)
    options = tempered(formula(kind, beta, skew, rescale), student_temperature, teacher_temperature, t_squared)
    dtype = precision(student_logits)
    ids = rows.take(teacher_ids, "teacher_ids").long()
    known = rows.take(teacher_log_probs, "teacher_log_probs")
    teacher = teacher_of(known, ids, tail, teacher_temperature, student_logits.shape[-1], dtype)
    kernel = TopK(options, teacher, ids, tail != "renormalise", student_temperature, doubtful(known))
    return from_logits(student_logits, rows, kernel, dtype)


def fused_top_k_divergence(
    student_hidden: torch.Tensor,
    student_head: torch.Tensor,
    teacher_log_probs: torch.Tensor,
    teacher_ids: torch.Tensor,
    labels: torch.Tensor,
    *,
    student_bias: torch.Tensor | None = None,
    chunk: int | None = None,
    tail: Tail = "bucket",
    kind: Kind = "forward",
    beta: float = 0.5,
    student_temperature: float = 1.0,
    teacher_temperature: float = 1.0,
    reduction: Reduction = "token_mean",
    rescale: bool = False,
    skew: float = 0.1,
    t_squared: bool = False,
    items: Items = None,
    sequences: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return `top_k_divergence` of `hidden @ head.T + bias`, which never exists but for `chunk` rows (see `fused_divergence`)."""
    rows = Rows(labels, reduction, items, sequences)
    options = tempered(formula(kind, beta, skew, rescale), student_temperature, teacher_temperature, t_squared)
    dtype = precision(student_hidden, student_head)
    check_head("student", student_hidden, student_head, student_bias)
    ids = rows.take(teacher_ids, "teacher_ids").long()
    known = rows.take(teacher_log_probs, "teacher_log_probs")
    teacher = teacher_of(known, ids, tail, teacher_temperature, len(student_head), dtype)
    kernel = TopK(options, teacher, ids, tail != "renormalise", student_temperature, doubtful(known))
    size = chunk_size(chunk, student_head)
    return from_hidden(student_hidden, student_head, student_bias, rows, kernel, chunk=size, dtype=dtype)


def cross_entropy(
    student_logits: torch.Tensor,
    labels: torch.Tensor,
    *,
    reduction: Reduction = "token_mean",
    items: Items = None,
    sequences: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return -ln q(label): sequence-level distillation on text that the teacher wrote (Kim & Rush 2016, 1606.07947), or SFT.

    No shift is applied; options and errors as in `divergence`. A label that the student rules out gives +inf and no gradient.
    """
    rows = Rows(labels, reduction, items, sequences)
    check_labels(rows.labels_R, student_logits.shape[-1])
    return from_logits(student_logits, rows, Labels(rows.labels_R), precision(student_logits))


def fused_cross_entropy(
    student_hidden: torch.Tensor,
    student_head: torch.Tensor,
    labels: torch.Tensor,
    *,
    student_bias: torch.Tensor | None = None,
    chunk: int | None = None,
    reduction: Reduction = "token_mean",
    items: Items = None,
    sequences: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return `cross_entropy` of `hidden @ head.T + bias`, which never exists but for `chunk` rows (see `fused_divergence`).

    With reduction `none` it is minus the log-probability of each label, differentiable: what `sampled_divergence`,
    `span_divergence` and preference losses start from.
    """
    rows = Rows(labels, reduction, items, sequences)
    check_head("student", student_hidden, student_head, student_bias)
    check_labels(rows.labels_R, len(student_head))
    kernel, dtype = Labels(rows.labels_R), precision(student_hidden, student_head)
    size = chunk_size(chunk, student_head)
    return from_hidden(student_hidden, student_head, student_bias, rows, kernel, chunk=size, dtype=dtype)


def sampled_divergence(
    student_log_probs: torch.Tensor,
    teacher_log_probs: torch.Tensor,
    labels: torch.Tensor,
    *,
    estimator: Estimator = "k3",
    score_function: bool = False,
    reduction: Reduction = "token_mean",
    items: Items = None,
    sequences: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return an estimate of the reverse KL from tokens that the *student* sampled (Schulman 2020, "Approximating KL divergence").

    Log-probabilities of the sampled tokens are [...], as are `labels`. With d = ln q - ln p at the sampled token:

        k1   d                    unbiased; may be negative
        k2   d^2 / 2              biased, of small variance
        k3   exp(-d) - 1 + d      unbiased and never negative; unbounded where the teacher finds likely what the student did not

    As a *value* take k1 or k3. As a *loss*, differentiated as they stand, they are not what they estimate: the mean gradient of
    k1 is 0, that of k2 the gradient of the reverse KL, that of k3 the gradient of the *forward* KL. `score_function`, for k1
    alone, makes the gradient d * grad ln q: the policy gradient with reward -d, whose mean is that of the reverse KL too.

    A teacher that rules a sampled token out gives +inf and no gradient. Raises UsageError as `divergence` does.
    """
    rows = Rows(labels, reduction, items, sequences)
    own, other = (
        rows.take(t[..., None], name).squeeze(-1)
        for t, name in ((student_log_probs, "student_log_probs"), (teacher_log_probs, "teacher_log_probs"))
    )
    return rows.reduce(estimate(own, other.detach(), estimator, score_function))


def uld(
    student_logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    labels: torch.Tensor,
    *,
    student_temperature: float = 1.0,
    teacher_temperature: float = 1.0,
    reduction: Reduction = "token_mean",
    items: Items = None,
    sequences: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the universal logit distillation loss for vocabularies that differ (Boizard et al. 2024, arXiv 2402.12030).

    It is sum_i |q_(i) - p_(i)| over both distributions sorted by probability, the smaller filled up with zeros: the Wasserstein
    distance where every two tokens lie equally far apart. It compares how sure the models are, not of what.

    `student_logits` are [..., V], `teacher_logits` [..., W], row against row. Which rows belong together is the caller's
    choice: `align` gives the places at which both models have read the same text. The paper pairs the i-th tokens.
    Options and errors as in `divergence`.
    """
    rows = Rows(labels, reduction, items, sequences)
    check_temperature("student_temperature", student_temperature)
    check_temperature("teacher_temperature", teacher_temperature)
    kernel = Sorted(rows.take(teacher_logits, "teacher_logits"), student_temperature, teacher_temperature)
    return from_logits(student_logits, rows, kernel, precision(student_logits, teacher_logits))


def span_divergence(
    student_log_probs: torch.Tensor,
    teacher_log_probs: torch.Tensor,
    spans: Sequence[Span],
    *,
    estimator: Estimator = "k2",
    score_function: bool = False,
) -> torch.Tensor:
    """Return the mean over spans of a sampled estimate of the reverse KL, for a teacher with another tokenizer.

    `student_log_probs` [S] and `teacher_log_probs` [T] are of the tokens of one text that the student wrote, `spans` come from
    `align`. A span's log-probability is the sum over its tokens, so that both sides speak of the same characters. What the
    estimators mean, as values and as losses, is told at `sampled_divergence`. Without spans the loss is 0.
    """
    own = span_sums(student_log_probs, [s for s, _ in spans])
    other = span_sums(teacher_log_probs.detach(), [t for _, t in spans])
    return estimate(own, other, estimator, score_function).sum() / max(1, len(spans))
