"""`train.losses` against TRL and Liger: equal where the definitions are, and each place named where they are not.

Neither is needed to use or test the rest; without them the tests are skipped and say so.
"""

from __future__ import annotations

import math
import os
from types import ModuleType
from typing import Any

import pytest
import torch
from loss_reference import S, V, case

from limbeck.train.losses import cross_entropy, divergence, fused_cross_entropy, fused_divergence, top_k_divergence, uld

BETAS = [0.0, 0.1, 0.5, 0.9, 1.0]


def peer(name: str) -> ModuleType:
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    return pytest.importorskip(name, reason=f"SKIPPED: {name} is not installed; nothing is compared with it.")


@pytest.fixture(scope="session")
def trl() -> Any:
    """TRL's generalized_jsd_loss."""
    return peer("trl.experimental.gkd").GKDTrainer.generalized_jsd_loss


@pytest.fixture(scope="session")
def trl_chunked() -> Any:
    return peer("trl.kernels.chunked_divergence").ChunkedDivergenceFunction.apply


@pytest.fixture(scope="session")
def liger() -> Any:
    """Liger's fused linear JSD: this part of it is plain torch, its Triton kernels need a GPU."""
    return peer("liger_kernel.chunked_loss").LigerFusedLinearJSDLoss


def gradients(loss: torch.Tensor, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return torch.autograd.grad(loss, inputs)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("name", ["small", "peaky", "wide", "equal"])
def test_trl_gkd(trl, name, beta):
    student, teacher, labels = case(name)
    student.requires_grad_()
    ours = divergence(student, teacher, labels, beta=beta, student_temperature=1.7, teacher_temperature=1.7)
    theirs = trl(student, teacher, labels, beta=beta, temperature=1.7)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradients(ours, student), gradients(theirs, student), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("beta", BETAS)
def test_trl_gkd_reductions(trl, beta):
    student, teacher, labels = case("small")
    each = divergence(student, teacher, labels, beta=beta, reduction="none")
    torch.testing.assert_close(trl(student, teacher, labels, beta=beta, reduction="none").sum(-1), each[labels != -100])
    torch.testing.assert_close(trl(student, teacher, labels, beta=beta, reduction="sum"), each.sum())
    by_items = trl(student, teacher, labels, beta=beta, num_items_in_batch=torch.tensor(40))
    torch.testing.assert_close(by_items, divergence(student, teacher, labels, beta=beta, items=40))


def test_where_trl_differs_mean_and_no_labels(trl):
    """`mean` divides by the vocabulary too; without labels the sum is divided by the batch, not by its tokens."""
    student, teacher, labels = case("small")
    ours = divergence(student, teacher, labels)
    torch.testing.assert_close(trl(student, teacher, labels, reduction="mean") * V, ours)
    every = divergence(student, teacher, torch.zeros_like(labels))
    torch.testing.assert_close(trl(student, teacher, None) / S, every)


def test_where_trl_differs_ruled_out_tokens(trl):
    """A teacher's -inf: NaN there. Ours is what a very low logit tends to."""
    student, teacher, labels = case("masked_teacher")
    ours = divergence(student, teacher, labels)
    low = divergence(student, teacher.clamp_min(-60.0), labels)
    assert trl(student, teacher, labels).isnan() and torch.isfinite(ours)
    torch.testing.assert_close(ours, low)
    torch.testing.assert_close(trl(student, teacher.clamp_min(-60.0), labels), ours)


def test_where_trl_differs_half_precision(trl):
    """It computes in the inputs' type: the error in bfloat16 is a thousand times ours, and near 0 it turns negative."""
    student, teacher, labels = (t.bfloat16() if t.is_floating_point() else t for t in case("small"))
    exact = divergence(student.double(), teacher.double(), labels)
    ours, theirs = divergence(student, teacher, labels), trl(student, teacher, labels)
    assert abs(ours - exact) < 1e-6 < 1e-4 < abs(theirs - exact)
    near = [
        trl(student[:1], (student + torch.randn(student.shape, generator=torch.Generator().manual_seed(i)) / 50)[:1])
        for i in range(20)
    ]
    assert min(near) < 0


def test_where_trl_differs_near_zero(trl):
    """A divergence of 1e-7: in 32 bits the sum of first-order terms leaves an error of some percent."""
    student, teacher, labels = case("faint")
    exact = divergence(student.double(), teacher.double(), labels)
    assert (
        abs(divergence(student, teacher, labels) / exact - 1)
        < 1e-5
        < 1e-3
        < abs(trl(student, teacher, labels) / exact - 1)
    )


def test_where_trl_and_we_agree_on_a_jump(trl):
    """At beta 0 and 1 GKD's loss jumps from near 0 to the KL; `rescale` is without the jump."""
    student, teacher, labels = case("small")
    for loss in (divergence, trl):
        near, at = loss(student, teacher, labels, beta=1e-6), loss(student, teacher, labels, beta=0.0)
        assert near < 1e-5 < 0.1 < at
    torch.testing.assert_close(divergence(student, teacher, labels, beta=1e-6, rescale=True), at, rtol=1e-4, atol=0)


def hidden_inputs() -> tuple[list[torch.Tensor], list[torch.Tensor], torch.Tensor]:
    draw = torch.Generator().manual_seed(11)
    student = [torch.randn(*shape, generator=draw, requires_grad=True) for shape in ((15, 8), (V, 8), (V,))]
    teacher = [torch.randn(*shape, generator=draw) for shape in ((15, 6), (V, 6), (V,))]
    return student, teacher, case("small")[2].flatten()


@pytest.mark.parametrize("beta", BETAS)
def test_trl_chunked(trl_chunked, beta):
    student, teacher, labels = hidden_inputs()
    values, _ = trl_chunked(*student, *teacher, beta, 1.3)
    theirs = (values * (labels != -100)).sum() / (labels != -100).sum()
    options = {"student_temperature": 1.3, "teacher_temperature": 1.3, "chunk": 4}
    ours = fused_divergence(
        *student[:2], *teacher[:2], labels, student_bias=student[2], teacher_bias=teacher[2], beta=beta, **options
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradients(ours, *student), gradients(theirs, *student), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("beta", BETAS)
def test_liger_fused_jsd(liger, beta):
    """Without its cross entropy. (Its mean is over valid tokens too; a chunk of it is at least a row.)"""
    student, teacher, labels = hidden_inputs()
    theirs = liger(0.0, 1.0, beta=beta, temperature=1.3, compiled=False, chunk_size=4)(
        *student[:2], *teacher[:2], labels, student[2], teacher[2]
    )
    options = {"student_temperature": 1.3, "teacher_temperature": 1.3, "chunk": 4}
    ours = fused_divergence(
        *student[:2], *teacher[:2], labels, student_bias=student[2], teacher_bias=teacher[2], beta=beta, **options
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradients(ours, *student), gradients(theirs, *student), rtol=1e-5, atol=2e-6)


def test_liger_cross_entropy(liger):
    student, teacher, labels = hidden_inputs()
    theirs = liger(1.0, 0.0, compiled=False, chunk_size=4)(*student[:2], *teacher[:2], labels, student[2], teacher[2])
    ours = fused_cross_entropy(*student[:2], labels, student_bias=student[2], chunk=4)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(gradients(ours, *student), gradients(theirs, *student), rtol=1e-5, atol=2e-6)
    torch.testing.assert_close(cross_entropy(student[0] @ student[1].T + student[2], labels), theirs)


def test_where_liger_differs_default_is_half_cross_entropy(liger):
    """Left at its defaults it is 0.5 CE + 0.5 JSD (trl#5731: 6.0 where teacher and student are equal)."""
    student, teacher, labels = hidden_inputs()
    theirs = liger(compiled=False)(*student[:2], *teacher[:2], labels)
    ours = fused_divergence(*student[:2], *teacher[:2], labels)
    entropy = fused_cross_entropy(*student[:2], labels)
    torch.testing.assert_close(theirs, (ours + entropy) / 2)


def test_where_liger_differs_vocabularies(liger):
    """A larger teacher: it pads the student's logits with 0, which is mass on tokens that do not exist; we restrict the teacher."""
    student, teacher, labels = hidden_inputs()
    head = student[1][:10]
    theirs = liger(0.0, 1.0, compiled=False)(student[0], head, *teacher[:2], labels)
    ours = fused_divergence(student[0], head, *teacher[:2], labels, shared=10)
    padded = torch.cat([student[0] @ head.T, torch.zeros(15, V - 10)], 1)
    torch.testing.assert_close(divergence(padded, teacher[0] @ teacher[1].T, labels), theirs)
    assert abs(ours - theirs) > 0.01


def test_where_liger_differs_ruled_out_tokens_and_half_precision(liger):
    student, teacher, labels = hidden_inputs()
    teacher[2][-3:] = -math.inf
    loss = liger(0.0, 1.0, compiled=False)
    assert loss(*student[:2], *teacher[:2], labels, student[2], teacher[2]).isnan()
    ours = fused_divergence(*student[:2], *teacher[:2], labels, student_bias=student[2], teacher_bias=teacher[2])
    assert torch.isfinite(ours)
    small = [t.detach().bfloat16() for t in (*student[:2], *teacher[:2])]
    exact = fused_divergence(*(t.double() for t in small), labels)
    assert abs(fused_divergence(*small, labels) - exact) < 1e-6 < 1e-4 < abs(loss(*small, labels) - exact)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("tail", ["bucket", "renormalise"])
def test_trl_server_top_k(tail, beta):
    """The k tokens with a tail bucket (its `loss_add_tail`), or both renormalised; its own beta > 0 goes to a support of 1 or 2."""
    module = peer("trl.experimental.server_distillation.server_distillation_trainer")
    student, teacher, labels = case("small")
    log_probs, ids = teacher.log_softmax(-1).topk(4)
    own = student.log_softmax(-1).gather(-1, ids)
    if tail == "bucket":
        mask = torch.ones_like(ids, dtype=torch.bool)
        (q, _), (p, _) = (module._add_tail_bucket(x, mask) for x in (own, log_probs))
    else:
        q, p = own.log_softmax(-1), log_probs.log_softmax(-1)
    each = module._jsd_divergence(q, p, beta).sum(-1)[labels != -100]
    ours = top_k_divergence(student, log_probs, ids, labels, kind="jsd", beta=beta, tail=tail)
    torch.testing.assert_close(ours, each.mean(), rtol=1e-5, atol=1e-6)


def test_trl_universal_logit_distillation():
    """TRL's ULD of one sequence, without its merging of split tokens: the same; its batch is a mean of sequence means."""
    module = peer("trl.experimental.gold.gold_trainer")
    student, _, _ = case("small")
    _, teacher, _ = case("small", 20)
    config = type(
        "Config",
        (),
        {
            "uld_crossentropy_weight": 0.0,
            "uld_distillation_weight": 1.0,
            "uld_student_temperature": 1.0,
            "uld_teacher_temperature": 1.0,
            "uld_skip_student_eos": False,
            "uld_skip_teacher_eos": False,
            "use_extended_uld": False,
            "uld_token_merge_strategy": "observed",
            "uld_use_hybrid_loss": False,
            "uld_hybrid_matched_weight": None,
            "uld_hybrid_unmatched_weight": None,
        },
    )()
    labels = torch.zeros(student.shape[:2], dtype=torch.long)
    labels[1, 3:] = -100
    theirs = module.ULDLoss(config)(
        student_logits=student,
        teacher_logits=teacher,
        student_labels=labels,
        teacher_labels=labels,
        student_input_ids=labels.clamp_min(0),
        teacher_input_ids=labels.clamp_min(0),
    )
    torch.testing.assert_close(uld(student, teacher, labels, reduction="sequence_mean"), theirs)
