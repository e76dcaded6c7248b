"""`train.losses` beside the full divergence: top-k teachers, sampled tokens, other tokenizers, and written text."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_reference import KINDS, V, case, kl, reference

from limbeck.core.errors import InputError, UsageError
from limbeck.train import _loss_autograd, _loss_math
from limbeck.train.losses import (
    align,
    cross_entropy,
    divergence,
    fused_cross_entropy,
    fused_divergence,
    fused_top_k_divergence,
    sampled_divergence,
    span_divergence,
    top_k_divergence,
    uld,
)


def merged(student, log_probs, ids, tail):
    """The two distributions over k or k + 1 tokens, from the definitions, in 64 bits with autograd."""
    q, p = student.double().softmax(-1), log_probs.double().exp()
    q_k = q.gather(-1, ids)
    if tail == "renormalise":
        return q_k / q_k.sum(-1, keepdim=True), p / p.sum(-1, keepdim=True)
    q_rest, p_rest = (1 - x.sum(-1, keepdim=True) for x in (q_k, p))
    if tail == "full":
        return torch.cat([q_k, q_rest], -1), torch.cat([p / p.sum(-1, keepdim=True), torch.zeros_like(p_rest)], -1)
    return torch.cat([q_k, q_rest], -1), torch.cat([p, p_rest], -1)


@pytest.mark.parametrize("name", ["small", "peaky", "masked_teacher", "all_masked"])
@pytest.mark.parametrize("tail", ["bucket", "renormalise", "full"])
@pytest.mark.parametrize("kind", KINDS)
def test_top_k_is_the_divergence_of_merged_distributions(kind, tail, name):
    if kind == "reverse" and tail == "full":
        return  # +inf: below
    student, teacher, labels = case(name)
    log_probs, ids = teacher.double().nan_to_num().log_softmax(-1).topk(4)
    own, exact_in = student.clone().requires_grad_(), student.double().requires_grad_()
    q, p = merged(exact_in, log_probs, ids, tail)
    exact = reference(q.log(), p.log(), labels, kind=kind, beta=0.3)
    loss = top_k_divergence(own, log_probs, ids, labels, kind=kind, beta=0.3, tail=tail)
    loss.backward(), exact.backward()
    assert loss.item() == pytest.approx(exact.item(), rel=1e-5, abs=1e-12)
    assert float((own.grad.double() - exact_in.grad.nan_to_num()).abs().max()) <= 1e-5


def test_the_whole_student_against_a_restricted_teacher():
    """Without a tail of the teacher's, `full` is the divergence from it; reverse is infinite, the student's tail forbidden."""
    student, teacher, labels = case("small")
    log_probs, ids = teacher.log_softmax(-1).topk(4)
    restricted = torch.full_like(teacher, -math.inf).scatter(-1, ids, log_probs)
    for kind in KINDS:
        whole = divergence(student, restricted, labels, kind=kind)
        torch.testing.assert_close(top_k_divergence(student, log_probs, ids, labels, kind=kind, tail="full"), whole)
        assert (whole == math.inf) == (kind == "reverse")


@pytest.mark.parametrize("tail", ["bucket", "renormalise", "full"])
@pytest.mark.parametrize("kind", KINDS)
def test_top_k_from_hidden_states_is_the_same(kind, tail):
    draw = torch.Generator().manual_seed(3)
    hidden, head, bias = (torch.randn(*s, generator=draw, requires_grad=True) for s in ((2, 5, 6), (V, 6), (V,)))
    log_probs, ids = torch.randn(2, 5, V, generator=draw).log_softmax(-1).topk(3)
    labels = torch.randint(0, V, (2, 5), generator=draw)
    labels[0, :2] = -100
    options = {"kind": kind, "tail": tail, "student_temperature": 1.5, "t_squared": True}
    plain = top_k_divergence(hidden @ head.T + bias, log_probs, ids, labels, **options)
    fused = fused_top_k_divergence(hidden, head, log_probs, ids, labels, student_bias=bias, chunk=3, **options)
    torch.testing.assert_close(fused, plain)
    if torch.isfinite(plain):
        pairs = zip(*(torch.autograd.grad(x, (hidden, head, bias)) for x in (plain, fused)), strict=True)
        for a, b in pairs:
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_a_row_may_have_fewer_than_k():
    student, teacher, labels = case("small")
    log_probs, ids = teacher.log_softmax(-1).topk(3)
    more = torch.cat([ids, torch.full_like(ids[..., :1], -1)], -1)
    unread = torch.cat([log_probs, torch.full_like(log_probs[..., :1], math.nan)], -1)
    own = student.clone().requires_grad_()
    for tail in ("bucket", "renormalise", "full"):
        few, padded = (
            top_k_divergence(own, *x, labels, tail=tail, reduction="sum") for x in ((log_probs, ids), (unread, more))
        )
        torch.testing.assert_close(padded, few)
        torch.testing.assert_close(*(torch.autograd.grad(x, own)[0] for x in (padded, few)))


def test_temperatures_of_a_top_k_teacher():
    student, teacher, labels = case("small")
    log_probs, ids = teacher.log_softmax(-1).topk(V)
    for tail in ("renormalise", "full"):
        all_of_it = top_k_divergence(student, log_probs, ids, labels, tail=tail, teacher_temperature=2.0)
        torch.testing.assert_close(
            all_of_it, divergence(student, teacher, labels, kind="forward", teacher_temperature=2.0)
        )
    with pytest.raises(UsageError, match="cannot be tempered"):
        top_k_divergence(student, log_probs, ids, labels, teacher_temperature=2.0)
    with pytest.raises(UsageError, match="no tail 'buckets'"):
        top_k_divergence(student, log_probs, ids, labels, tail="buckets")


def test_a_rest_too_small_to_be_known_makes_nothing_infinite():
    """In 32 bits the k may add up to 1 and the rest to 0, which would forbid the student what is only unlikely."""
    teacher, student = torch.tensor([[40.0, 30.0, 0.0, 0.0]]), torch.zeros(1, 4, requires_grad=True)
    log_probs, ids = teacher.log_softmax(-1).topk(2)
    loss = top_k_divergence(student, log_probs, ids, torch.tensor([0]), kind="reverse")
    loss.backward()
    assert torch.isfinite(loss) and loss < divergence(student, teacher, torch.tensor([0]), kind="reverse")
    far = torch.tensor([[300.0, 290.0, 0.0, 1.0]])  # the student's rest underflows, and is not 0 either
    forward = top_k_divergence(far, torch.tensor([[0.9, 0.05]]).log(), ids, torch.tensor([0]))
    assert forward.item() == pytest.approx(15.04, rel=1e-4)


def test_reverse_on_the_renormalised_top_k_does_not_feel_the_tail():
    """Why `bucket` is the default: a student with nearly all its mass outside looks perfect to the other."""
    teacher = torch.tensor([[3.0, 2.0, 0.0, 0.0, 0.0]])
    student = torch.tensor([[3.0, 2.0, 9.0, 9.0, 9.0]])
    log_probs, ids = teacher.log_softmax(-1).topk(2)
    label = torch.zeros(1, dtype=torch.long)
    worth = {
        t: top_k_divergence(student, log_probs, ids, label, kind="reverse", tail=t) for t in ("renormalise", "bucket")
    }
    assert worth["renormalise"] < 1e-6 and worth["bucket"] > 1.5


# ---- text that was written


@pytest.mark.parametrize("name", ["small", "faint", "peaky", "wide", "masked_student", "all_masked"])
@pytest.mark.parametrize("reduction", ["token_mean", "sequence_mean", "sum"])
def test_cross_entropy(name, reduction):
    student, _, labels = case(name)
    if name == "masked_student":
        labels.clamp_(max=V - 5)
    one_hot = torch.full((*labels.shape, V), -math.inf).scatter(-1, labels.clamp_min(0)[..., None], 0.0)
    exact_in, own = student.double().requires_grad_(), student.clone().requires_grad_()
    exact = reference(exact_in, one_hot, labels, kind="forward", reduction=reduction)  # KL from what is certain
    loss = cross_entropy(own, labels, reduction=reduction)
    loss.backward(), exact.backward()
    assert loss.item() == pytest.approx(exact.item(), rel=1e-5, abs=1e-12)
    assert float((own.grad.double() - exact_in.grad.nan_to_num()).abs().max()) <= 1e-5


def test_cross_entropy_from_hidden_states_and_against_torch():
    draw = torch.Generator().manual_seed(5)
    hidden, head, bias = (torch.randn(*s, generator=draw, requires_grad=True) for s in ((2, 5, 6), (V, 6), (V,)))
    labels = torch.randint(0, V, (2, 5), generator=draw)
    labels[1, 2:] = -100
    logits = hidden @ head.T + bias
    plain = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").reshape(2, 5)
    weights = torch.rand(2, 5, generator=draw)
    for ours in (
        cross_entropy(logits, labels, reduction="none"),
        fused_cross_entropy(hidden, head, labels, student_bias=bias, chunk=2, reduction="none"),
    ):
        torch.testing.assert_close(ours, plain)
        pairs = zip(
            *(torch.autograd.grad((x * weights).sum(), (hidden, head, bias), retain_graph=True) for x in (ours, plain)),
            strict=True,
        )
        for a, b in pairs:
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_a_label_that_is_ruled_out_or_no_token():
    student = torch.tensor([[0.0, -math.inf], [1.0, 0.0]], requires_grad=True)
    loss = cross_entropy(student, torch.tensor([1, 1]), reduction="sum")
    loss.backward()
    assert loss == math.inf and not student.grad[0].any() and student.grad[1].any()
    with pytest.raises(UsageError, match="between -1 and 2"):
        cross_entropy(student, torch.tensor([-1, 2]))


# ---- tokens that were sampled


def everything(draw_seed: int = 0):
    """A student and a teacher over all tokens: means over the student's samples can be had exactly."""
    draw = torch.Generator().manual_seed(draw_seed)
    student = torch.randn(V, generator=draw, dtype=torch.float64, requires_grad=True)
    return student, torch.randn(V, generator=draw, dtype=torch.float64).log_softmax(-1)


def mean_of(estimator: str, **options):
    """The exact mean of the estimate and of its gradient over the student's samples."""
    student, p = everything()
    q = student.log_softmax(-1)
    labels = torch.zeros(V, dtype=torch.long)
    each = sampled_divergence(q, p, labels, estimator=estimator, reduction="none", **options)
    mean = (each * q.exp().detach()).sum()  # the sampling is not differentiated
    return mean.item(), torch.autograd.grad(mean, student)[0]


def exactly(kind: str):
    student, p = everything()
    value = kl(student.log_softmax(-1), p) if kind == "reverse" else kl(p, student.log_softmax(-1))
    return value.item(), torch.autograd.grad(value, student)[0]


def test_k1_and_k3_are_unbiased_values():
    value, _ = exactly("reverse")
    assert mean_of("k1")[0] == pytest.approx(value) and mean_of("k3")[0] == pytest.approx(value)
    assert mean_of("k2")[0] != pytest.approx(value, rel=0.05)


def test_what_the_estimators_train_towards():
    """k1 as it stands: nowhere. k2: the reverse KL. k3: the forward KL. k1 with the score function: the reverse KL."""
    none = torch.zeros(V, dtype=torch.float64)
    torch.testing.assert_close(mean_of("k1")[1], none, rtol=0, atol=1e-12)
    torch.testing.assert_close(mean_of("k2")[1], exactly("reverse")[1])
    torch.testing.assert_close(mean_of("k3")[1], exactly("forward")[1])
    torch.testing.assert_close(mean_of("k1", score_function=True)[1], exactly("reverse")[1])
    assert mean_of("k1", score_function=True)[0] == pytest.approx(mean_of("k1")[0])


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_sampled_tokens_that_do_not_count_or_cannot_be(estimator):
    own = torch.tensor([-1.0, -2.0, math.nan], requires_grad=True)
    other = torch.tensor([-math.inf, -1.5, math.nan], requires_grad=True)
    for labels, worth in (([-100, 1, -100], None), ([1, 1, -100], math.inf), ([-100, -100, -100], 0.0)):
        loss = sampled_divergence(own, other, torch.tensor(labels), estimator=estimator, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, own)
        assert worth is None or loss == worth
        assert torch.isfinite(gradient).all() and not gradient[0] and not gradient[2] and other.grad is None
    few = sampled_divergence(own[1:2].bfloat16(), other[1:2].bfloat16(), torch.tensor([0]), estimator=estimator)
    assert few.dtype == torch.float32


def test_wrong_estimators_are_sentences():
    q, labels = torch.zeros(2), torch.zeros(2, dtype=torch.long)
    with pytest.raises(UsageError, match="no estimator 'k4'"):
        sampled_divergence(q, q, labels, estimator="k4")
    with pytest.raises(UsageError, match="score_function goes with"):
        sampled_divergence(q, q, labels, estimator="k3", score_function=True)
    with pytest.raises(UsageError, match="teacher_log_probs"):
        sampled_divergence(q, q[:1], labels)


# ---- another tokenizer


def sorted_distance(student, teacher):
    q, p = (x.double().softmax(-1).sort(-1, descending=True).values for x in (student, teacher))
    width = max(q.shape[-1], p.shape[-1])
    q, p = (torch.nn.functional.pad(x, (0, width - x.shape[-1])) for x in (q, p))
    return (q - p).abs().sum(-1)


@pytest.mark.parametrize("sizes", [(13, 13), (13, 20), (13, 8)])
@pytest.mark.parametrize("name", ["small", "peaky", "wide", "masked_student", "all_masked"])
def test_universal_logit_distillation(name, sizes):
    student, teacher, labels = case(name)
    _, other, _ = case(name, sizes[1])
    exact_in, own = student.double().requires_grad_(), student.clone().requires_grad_()
    valid = labels != -100
    each = sorted_distance(exact_in[valid] / 2, other[valid])
    exact = each.mean() if len(each) else (exact_in * 0).nan_to_num().sum()
    loss = uld(own, other, labels, student_temperature=2.0)
    loss.backward(), exact.backward()
    assert loss.item() == pytest.approx(exact.item(), rel=1e-5, abs=1e-12)
    assert float((own.grad.double() - exact_in.grad.nan_to_num()).abs().max()) <= 1e-5
    assert name != "small" or uld(teacher, teacher.flip(-1), labels) < 1e-6, "which token is which does not matter"


def cuts(length: int, at) -> list[tuple[int, int]]:
    edges = [0, *sorted(set(at) - {0, length}), length]
    return list(pairwise(edges))


@settings(deadline=None)
@given(st.integers(1, 40), st.sets(st.integers(1, 39)), st.sets(st.integers(1, 39)))
def test_spans_cover_the_text_once_on_both_sides(length, one, two):
    own, other = (cuts(length, {x for x in at if x < length}) for at in (one, two))
    spans = align(own, other)
    for side, offsets in ((0, own), (1, other)):
        assert [i for span in spans for i in span[side]] == list(range(len(offsets)))
    for a, b in spans:
        assert (own[a[0]][0], own[a[-1]][1]) == (other[b[0]][0], other[b[-1]][1])
        inner = {own[i][1] for i in a[:-1]} & {other[i][1] for i in b[:-1]}
        assert not inner, "the shortest: no common place within"


def test_spans_of_real_cases():
    assert align([(0, 2), (2, 8), (8, 12), (12, 13)], [(0, 8), (8, 13)]) == [((0, 1), (0,)), ((2, 3), (1,))]
    special = align([(0, 0), (0, 3), (3, 5), (5, 5)], [(0, 5)])
    assert special == [((1, 2), (0,))], "empty tokens belong to no span"
    assert align([(0, 2)], [(0, 3)]) == [] and align([], []) == []
    assert align([(0, 3), (4, 6)], [(0, 3), (4, 6)]) == [((0,), (0,)), ((1,), (1,))], "a gap is no span"
    with pytest.raises(InputError, match="teacher's offsets do not ascend"):
        align([(0, 1)], [(2, 3), (0, 1)])


def test_span_divergence_speaks_of_the_same_text():
    own = torch.tensor([-1.0, -2.0, -0.5, -0.25], requires_grad=True)
    other = torch.tensor([-2.5, -1.5], requires_grad=True)
    spans = align([(0, 2), (2, 8), (8, 12), (12, 13)], [(0, 8), (8, 13)])
    d = torch.tensor([-3.0 + 2.5, -0.75 + 1.5])
    assert span_divergence(own, other, spans, estimator="k1").item() == pytest.approx(float(d.mean()))
    loss = span_divergence(own, other, spans)
    loss.backward()
    assert loss.item() == pytest.approx(float((d**2 / 2).mean())) and other.grad is None
    torch.testing.assert_close(own.grad, torch.stack([d[0], d[0], d[1], d[1]]) / 2)
    assert span_divergence(own, other, []) == 0
    same = span_divergence(own, own, [((i,), (i,)) for i in range(4)], estimator="k1", score_function=True)
    assert same == 0


# ---- how the work is cut up


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_blocks_tiles_and_chunks_change_nothing(monkeypatch, dtype):
    """300 rows, of which 2 at a time fit the pretended cache, with heads widened 3 tokens at a time; and all at once."""
    draw = torch.Generator().manual_seed(9)
    rows, width = 300, 8
    made = [
        torch.randn(*shape, generator=draw).to(dtype) for shape in ((rows, width), (V, width), (rows, 6), (V + 4, 6))
    ]
    hidden, head, other, teacher = (t.requires_grad_() for t in made)
    labels = torch.randint(0, V, (rows,), generator=draw)
    labels[::5] = -100
    ids = torch.rand(rows, V, generator=draw).topk(3).indices
    log_probs = torch.randn(rows, V, generator=draw).log_softmax(-1).gather(-1, ids)

    def everything_at_once():
        logits, more = hidden @ head.T, other @ teacher.T
        losses = [
            divergence(logits, more, labels, shared=V),
            fused_divergence(hidden, head, other, teacher, labels, shared=V, chunk=7),
            top_k_divergence(logits, log_probs, ids, labels),
            fused_top_k_divergence(hidden, head, log_probs, ids, labels),
            cross_entropy(logits, labels),
            fused_cross_entropy(hidden, head, labels),
            uld(logits, more, labels),
        ]
        return [(x.detach(), *torch.autograd.grad(x, (hidden, head), retain_graph=True)) for x in losses]

    whole = everything_at_once()
    monkeypatch.setattr(_loss_math, "BLOCK", 2 * V)
    monkeypatch.setattr(_loss_autograd, "TILE", 3 * width)
    monkeypatch.setattr(_loss_autograd, "default_chunk", lambda width, device: 11)
    for one, many in zip(whole, everything_at_once(), strict=True):
        for a, b in zip(one, many, strict=True):
            torch.testing.assert_close(b, a, rtol=1e-5 if dtype == torch.float32 else 2**-7, atol=1e-6)
