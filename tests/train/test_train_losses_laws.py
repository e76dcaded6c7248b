"""`train.losses`: what must hold of every divergence, on inputs that hypothesis thinks up."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_reference import KINDS

from limbeck.core.errors import UsageError
from limbeck.train.losses import divergence, fused_divergence, top_k_divergence

TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32, "float64": torch.float64}
betas = st.one_of(st.sampled_from([0.0, 1.0, 0.5]), st.floats(1e-6, 1 - 1e-6))
law = settings(deadline=None, max_examples=40)


@st.composite
def inputs(draw):
    """Student and teacher logits [B, S, V] of every size and spread, some -inf in both, and labels some of which are -100."""
    sizes = [draw(st.integers(1, most)) for most in (3, 5, 40)]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    spread, apart = draw(st.sampled_from([1e-3, 1.0, 10.0, 60.0])), draw(st.sampled_from([0.0, 1e-4, 1.0]))
    student = torch.randn(*sizes, generator=generator) * spread
    teacher = student * (1 - apart) + torch.randn(*sizes, generator=generator) * spread * apart
    dtype = TYPES[draw(st.sampled_from(sorted(TYPES)))]
    student, teacher = student.to(dtype), teacher.to(dtype)
    ruled_out = torch.rand(sizes[-1], generator=generator) < draw(st.sampled_from([0.0, 0.3]))
    ruled_out[0] = False
    student[..., ruled_out], teacher[..., ruled_out] = -math.inf, -math.inf
    labels = torch.where(torch.rand(sizes[:2], generator=generator) < 0.3, -100, 0)
    return student, teacher, labels


def values(student, teacher, labels, **options):
    return divergence(student, teacher, labels, reduction="none", **options)


@law
@given(inputs(), st.sampled_from(KINDS), betas)
def test_it_is_never_negative_and_0_of_itself(batch, kind, beta):
    student, teacher, labels = batch
    assert (values(student, teacher, labels, kind=kind, beta=beta) >= 0).all()
    assert not values(student, student, labels, kind=kind, beta=beta).any()


@law
@given(inputs(), st.floats(1e-6, 1 - 1e-6))
def test_the_jsd_is_at_most_the_entropy_of_beta(batch, beta):
    entropy = -beta * math.log(beta) - (1 - beta) * math.log1p(-beta)
    assert (values(*batch, beta=beta) <= entropy * (1 + 1e-5)).all()


@law
@given(inputs(), betas)
def test_swapping_the_two_is_swapping_their_weights(batch, beta):
    student, teacher, labels = batch
    one, other = values(student, teacher, labels, beta=beta), values(teacher, student, labels, beta=1 - beta)
    torch.testing.assert_close(one, other, rtol=2e-5, atol=1e-10)


@law
@given(inputs(), st.sampled_from(KINDS), st.integers(-8, 8))
def test_a_constant_in_a_row_of_logits_changes_nothing(batch, kind, constant):
    student, teacher, labels = (t.double() if t.is_floating_point() else t for t in batch)  # adding must not round
    moved = values(student + constant, teacher - 3 * constant, labels, kind=kind)
    torch.testing.assert_close(moved, values(student, teacher, labels, kind=kind), rtol=1e-6, atol=1e-9)


@law
@given(inputs(), st.sampled_from(KINDS), st.integers(1, 2))
def test_splitting_a_batch_changes_nothing_when_it_is_told_how_many_there_are(batch, kind, cut):
    student, teacher, labels = batch
    items = max(1, int((labels != -100).sum()))
    lines = int((labels != -100).any(-1).sum()) or 1
    for reduction, count in (("token_mean", items), ("sequence_mean", lines)):
        whole = divergence(student, teacher, labels, kind=kind, reduction=reduction)
        parts = [
            divergence(s, t, n, kind=kind, reduction=reduction, items=torch.tensor(count))
            for s, t, n in ((student[:cut], teacher[:cut], labels[:cut]), (student[cut:], teacher[cut:], labels[cut:]))
        ]
        torch.testing.assert_close(sum(parts), whole, rtol=1e-5, atol=1e-12)


@law
@given(inputs(), st.sampled_from(KINDS), st.sampled_from(["token_mean", "sequence_mean", "sum"]), st.randoms())
def test_order_padding_and_packing_change_nothing(batch, kind, reduction, random):
    student, teacher, labels = batch
    whole = divergence(student, teacher, labels, kind=kind, reduction=reduction)
    order = list(range(len(labels)))
    random.shuffle(order)
    permuted = divergence(student[order], teacher[order], labels[order], kind=kind, reduction=reduction)
    garbage = student.new_full((len(student), 2, student.shape[-1]), math.nan)
    padded = divergence(
        torch.cat([student, garbage], 1),
        torch.cat([teacher, garbage], 1),
        torch.nn.functional.pad(labels, (0, 2), value=-100),
        kind=kind,
        reduction=reduction,
    )
    names = torch.arange(len(labels))[:, None].expand_as(labels)
    packed = divergence(
        student.flatten(0, 1)[None],
        teacher.flatten(0, 1)[None],
        labels.flatten()[None],
        kind=kind,
        reduction=reduction,
        sequences=names.flatten()[None],
    )
    for other in (permuted, padded, packed):
        torch.testing.assert_close(other, whole, rtol=1e-5, atol=1e-12)


@law
@given(st.integers(1, 9), st.integers(1, 30), st.sampled_from(KINDS), st.integers(0, 99))
def test_the_chunk_changes_nothing(rows, chunk, kind, seed):
    """One row at a time up to more than there are. (There is no chunk of the vocabulary: a row is always whole.)"""
    draw = torch.Generator().manual_seed(seed)
    hidden, other = torch.randn(rows, 4, generator=draw), torch.randn(rows, 6, generator=draw)
    head, teacher_head = torch.randn(11, 4, generator=draw), torch.randn(11, 6, generator=draw)
    labels = torch.where(torch.rand(rows, generator=draw) < 0.3, -100, 0)
    results = []
    for size in (chunk, 10**6):
        own = [hidden.clone().requires_grad_(), head.clone().requires_grad_()]
        loss = fused_divergence(*own, other, teacher_head, labels, kind=kind, chunk=size)
        results.append([loss, *torch.autograd.grad(loss, own)])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


@law
@given(inputs(), st.sampled_from(KINDS), st.sampled_from(["token_mean", "sequence_mean", "sum"]))
def test_masked_rows_have_no_gradient_and_the_teacher_has_none(batch, kind, reduction):
    student, teacher, labels = batch
    for masked in (labels, torch.full_like(labels, -100)):
        own, other = student.clone().requires_grad_(), teacher.clone().requires_grad_()
        with torch.no_grad():
            own[masked == -100] = math.nan
            other[masked == -100] = math.inf
        loss = divergence(own, other, masked, kind=kind, reduction=reduction)
        loss.backward()
        assert other.grad is None and torch.isfinite(own.grad).all() and not own.grad[masked == -100].any()
    assert loss == 0 and loss.dtype == (torch.float64 if student.dtype == torch.float64 else torch.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_all_masked_is_exactly_0_from_hidden_states_too(kind):
    own = [torch.full((2, 3, 4), math.nan, requires_grad=True), torch.ones(7, 4, requires_grad=True)]
    bias = torch.zeros(7, requires_grad=True)
    labels = torch.full((2, 3), -100)
    for reduction in ("token_mean", "sequence_mean", "sum", "none"):
        loss = fused_divergence(
            *own, torch.ones(2, 3, 5), torch.ones(7, 5), labels, student_bias=bias, kind=kind, reduction=reduction
        )
        gradients = torch.autograd.grad(loss.sum(), [*own, bias])
        assert (
            not loss.any() and not any(g.any() for g in gradients) and all(torch.isfinite(g).all() for g in gradients)
        )


@law
@given(inputs(), betas, st.integers(0, 39))
def test_a_teacher_that_rules_tokens_out(batch, beta, token):
    """Finite below beta = 1; there, +inf: the student gives mass to what cannot be."""
    student, teacher, labels = batch
    if student.shape[-1] < 2:
        return
    token = 1 + token % (student.shape[-1] - 1)  # the first remains possible
    student[..., token], teacher[..., token] = 0.5, -math.inf
    valid = labels != -100
    value = values(student, teacher, labels, beta=beta)[valid]
    assert (torch.isfinite(value) if beta < 1 else value == math.inf).all()


@law
@given(inputs(), st.floats(1e-6, 1e-3))
def test_rescaled_it_goes_over_into_the_two_kls(batch, beta):
    student, teacher, labels = batch
    student, teacher = (t.double().clamp(-3, 3) for t in (student, teacher))  # of wide ones the limit is farther away
    for kind, at in (("forward", beta), ("reverse", 1 - beta)):
        limit = values(student, teacher, labels, kind=kind)
        torch.testing.assert_close(
            values(student, teacher, labels, beta=at, rescale=True), limit, rtol=500 * beta, atol=1e-9
        )
    for end in (0, 1):
        plain = values(student, teacher, labels, beta=end)
        assert torch.equal(values(student, teacher, labels, beta=end, rescale=True), plain)


@given(st.one_of(st.floats(max_value=-1e-9), st.floats(min_value=1 + 1e-9), st.just(math.nan)))
def test_beta_outside_of_0_and_1_raises(beta):
    with pytest.raises(UsageError, match="beta is"):
        divergence(torch.zeros(1, 2), torch.zeros(1, 2), torch.zeros(1, dtype=torch.long), beta=beta)


@given(st.one_of(st.floats(max_value=0), st.just(math.nan)), st.sampled_from(["student", "teacher"]))
def test_a_temperature_not_above_0_raises(temperature, whose):
    with pytest.raises(UsageError, match=f"{whose}_temperature is"):
        divergence(
            torch.zeros(1, 2),
            torch.zeros(1, 2),
            torch.zeros(1, dtype=torch.long),
            **{f"{whose}_temperature": temperature},
        )


@law
@given(inputs(), st.sampled_from(KINDS), betas, st.integers(1, 40))
def test_the_tail_bucket_is_between_0_and_the_full_divergence(batch, kind, beta, k):
    student, teacher, labels = (t.double() if t.is_floating_point() else t for t in batch)
    k = min(k, student.shape[-1])
    log_probs, ids = teacher.log_softmax(-1).topk(k)
    options = {"kind": kind, "beta": beta}
    full = values(student, teacher, labels, **options)
    bucket = top_k_divergence(student, log_probs, ids, labels, reduction="none", **options)
    # what the k leave over is known to some 1e-16: of a smaller rest only that it is small, and that is told to be finite
    known = -torch.expm1(log_probs.logsumexp(-1)) > 1e-7
    assert (bucket >= 0).all() and bucket[full.isfinite()].isfinite().all()
    assert (bucket <= full * (1 + 1e-6) + 1e-9)[known].all()
    if k == student.shape[-1]:
        torch.testing.assert_close(bucket, full, rtol=1e-5, atol=1e-8)
