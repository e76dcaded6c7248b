"""`train.losses`: every divergence against a reference in 64 bits, on every kind of input, for any chunk."""

from __future__ import annotations

import math

import pytest
import torch
from loss_reference import CASES, KINDS, S, V, case, reference
from torch.utils._python_dispatch import TorchDispatchMode

from limbeck.core.errors import UsageError
from limbeck.train.losses import divergence, fused_cross_entropy, fused_divergence, fused_top_k_divergence

OPTIONS = {
    "plain": {},
    "beta": {"beta": 0.1},
    "rare": {"beta": 1e-4},
    "rescaled": {"beta": 0.01, "rescale": True},
    "temperatures": {"student_temperature": 2.0, "teacher_temperature": 0.7, "t_squared": True},
    "sequences": {"reduction": "sequence_mean", "beta": 0.9},
    "sum": {"reduction": "sum", "skew": 0.5},
}


def close(ours: torch.Tensor, exact: torch.Tensor) -> None:
    """1e-5 of the value, of however small a one."""
    assert ours.dtype == torch.float32 and ours.item() == pytest.approx(exact.item(), rel=1e-5, abs=1e-12)


def close_gradient(ours: torch.Tensor, exact: torch.Tensor) -> None:
    assert torch.isfinite(ours).all() and float((ours.double() - exact.double()).abs().max()) <= 1e-5


def both(name: str, kind: str, options: dict) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    student, teacher, labels = case(name)
    exact_in, own = student.double().requires_grad_(), student.clone().requires_grad_()
    teacher.requires_grad_()
    exact = reference(exact_in, teacher.detach(), labels, kind=kind, **options)
    loss = divergence(own, teacher, labels, kind=kind, **options)
    loss.backward()
    assert teacher.grad is None, "no gradient reaches the teacher"
    if torch.isfinite(exact):
        exact.backward()
        return loss, exact, own.grad, exact_in.grad.nan_to_num()  # -inf gives NaN in a plain softmax; the truth is 0
    return loss, exact, own.grad, torch.zeros_like(own)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CASES)
def test_the_definition(name, kind, options):
    loss, exact, gradient, exact_gradient = both(name, kind, options)
    close(loss, exact)
    if torch.isfinite(exact):
        close_gradient(gradient, exact_gradient)
    else:
        assert (name, kind) in (("masked_teacher", "reverse"), ("masked_student", "forward"))
        assert not gradient.any(), "where the truth is infinite there is no direction to go"


def heads(name: str, widths=(8, 6), dtype=torch.float32):
    """Hidden states, heads and biases whose logits are like those of the case: -inf comes in through the biases."""
    draw = torch.Generator().manual_seed(7)
    scale = {"faint": 1e-3, "wide": 10.0}.get(name, 1.0)
    _, _, labels = case(name)
    made = []
    for width in widths:
        hidden, head = torch.randn(3, S, width, generator=draw) * scale, torch.randn(V, width, generator=draw)
        made.append([hidden.to(dtype), head.to(dtype), (torch.randn(V, generator=draw) * scale).to(dtype)])
    if name == "equal":
        made[1] = [t.clone() for t in made[0]]
    if name in ("masked_both", "masked_teacher"):
        made[1][2][-4:] = -math.inf
    if name in ("masked_both", "masked_student"):
        made[0][2][-4:] = -math.inf
    if name == "peaky":
        made[0][2][3], made[1][2][::4] = 30.0, 20.0
    return *made, labels


def logits_of(hidden, head, bias):
    return hidden @ head.T + bias


@pytest.mark.parametrize("chunk", [1, 3, 7, 1000, None])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CASES)
def test_from_hidden_states_it_is_the_same(name, kind, chunk):
    student, teacher, labels = heads(name)
    own = [t.clone().requires_grad_() for t in student]
    exact_in = [t.double().requires_grad_() for t in student]
    exact = reference(logits_of(*exact_in), logits_of(*(t.double() for t in teacher)), labels, kind=kind, beta=0.3)
    hidden, head, bias = own
    options = {"kind": kind, "beta": 0.3, "student_bias": bias, "teacher_bias": teacher[2], "chunk": chunk}
    loss = fused_divergence(hidden, head, *teacher[:2], labels, **options)
    loss.backward()
    assert loss.item() == pytest.approx(exact.item(), rel=1e-5, abs=1e-12)
    if torch.isfinite(exact):
        exact.backward()
        for ours, theirs in zip(own, exact_in, strict=True):
            # a hidden state ten times as large makes a head's gradient ten times as large
            bound = 1e-5 * max(1.0, float(student[0].abs().max()))
            assert float((ours.grad.double() - theirs.grad.nan_to_num()).abs().max()) <= bound
    else:
        assert not any(t.grad.any() for t in own)


def test_infinite_rows_leave_the_gradient_of_others_alone():
    student, teacher, labels = case("small")
    teacher[1, 0, 0] = -math.inf
    own = student.clone().requires_grad_()
    loss = divergence(own, teacher, labels, kind="reverse", reduction="sum")
    loss.backward()
    assert loss == math.inf and not own.grad[1, 0].any() and own.grad[0, 3].any() and torch.isfinite(own.grad).all()


def test_a_value_for_each_label_and_its_gradient():
    student, teacher, labels = heads("small")
    own = [t.clone().requires_grad_() for t in student]
    weights = torch.rand(labels.shape, generator=torch.Generator().manual_seed(1))
    logits = logits_of(*own)
    plain = divergence(logits, logits_of(*teacher), labels, reduction="none")
    wanted = torch.autograd.grad((plain * weights).sum(), own)
    fused = fused_divergence(
        own[0], own[1], *teacher[:2], labels, student_bias=own[2], teacher_bias=teacher[2], reduction="none", chunk=2
    )
    got = torch.autograd.grad((fused * weights).sum(), own)
    assert plain.shape == fused.shape == labels.shape and not plain[labels == -100].any()
    torch.testing.assert_close(fused, plain)
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_a_tied_head_gets_both_its_gradients():
    """The head is the embedding, and even the teacher's head: one tensor, and only the student's side is trained."""
    table = torch.randn(V, 8, requires_grad=True)
    ids, labels = torch.randint(0, V, (2, 4)), torch.randint(0, V, (2, 4))
    other = torch.randn(2, 4, 8)

    def loss(weight, student_head, teacher_head):
        hidden = torch.tanh(weight[ids])
        return reference(hidden @ student_head.T, (other @ teacher_head.T).detach(), labels)

    exact = table.detach().double().requires_grad_()
    loss(exact, exact, table.detach()).backward()
    fused_divergence(torch.tanh(table[ids]), table, other, table, labels).backward()
    assert float((table.grad.double() - exact.grad).abs().max()) <= 1e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_is_computed_in_32_bits(kind, dtype):
    """Equal to the 32-bit loss of the rounded inputs; the head's gradient is rounded once, after it is summed."""
    student, teacher, labels = heads("small", dtype=dtype)
    wide = [t.float().requires_grad_() for t in student]
    own = [t.clone().requires_grad_() for t in student]
    arguments = [(*x[:2], *t[:2], labels) for x, t in ((own, teacher), (wide, [t.float() for t in teacher]))]
    biases = [
        {"student_bias": x[2], "teacher_bias": t[2]} for x, t in ((own, teacher), (wide, [t.float() for t in teacher]))
    ]
    loss, exact = (fused_divergence(*a, **b, kind=kind, chunk=1) for a, b in zip(arguments, biases, strict=True))
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(exact.item(), rel=1e-6)
    loss.backward(), exact.backward()
    for a, b in zip(own, wide, strict=True):
        assert a.grad.dtype == dtype and torch.equal(a.grad, b.grad.to(dtype))
    logits = logits_of(*student).requires_grad_()
    value = divergence(logits, logits_of(*teacher), labels, kind=kind)
    value.backward()
    exact = reference(logits.detach(), logits_of(*teacher), labels, kind=kind)
    assert logits.grad.dtype == dtype and value.item() == pytest.approx(exact.item(), rel=1e-5)


def test_the_heads_gradient_is_summed_in_32_bits():
    """Many small parts: added up in bfloat16, all but the first would be lost."""
    rows, labels = 2000, torch.zeros(2000, dtype=torch.long)
    hidden, other = torch.ones(rows, 1, dtype=torch.bfloat16), torch.ones(rows, 1, dtype=torch.bfloat16)
    head = torch.zeros(3, 1, dtype=torch.bfloat16, requires_grad=True)
    target = torch.tensor([[1.0], [0.0], [-1.0]], dtype=torch.bfloat16)
    fused_divergence(hidden, head, other, target, labels, kind="forward", reduction="sum", chunk=1).backward()
    exact = rows * (1 / 3 - target.double().squeeze(1).softmax(0))
    torch.testing.assert_close(head.grad.squeeze(1).double(), exact, rtol=2**-8, atol=0)


def test_under_autocast_nothing_is_rounded():
    student, teacher, labels = heads("small")
    own = [t.requires_grad_() for t in student[:2]]
    plain = fused_divergence(*own, *teacher[:2], labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = fused_divergence(*own, *teacher[:2], labels)
    assert torch.equal(under, plain)
    for a, b in zip(torch.autograd.grad(under, own), torch.autograd.grad(plain, own), strict=True):
        assert torch.equal(a, b)


def test_64_bits_stay_64_bits():
    student, teacher, labels = heads("small", dtype=torch.float64)
    own = [t.clone().requires_grad_() for t in student]

    def loss(hidden, head, bias):
        return fused_divergence(hidden, head, *teacher[:2], labels, student_bias=bias, kind="skew_reverse", chunk=4)

    assert torch.autograd.gradcheck(loss, own)


def test_the_gradient_can_be_asked_for_twice_and_scaled():
    student, teacher, labels = heads("small")
    head = student[1].requires_grad_()
    loss = fused_divergence(student[0], head, *teacher[:2], labels)
    (first,) = torch.autograd.grad(loss, head, retain_graph=True)
    (second,) = torch.autograd.grad(loss * 3, head, retain_graph=True)
    (third,) = torch.autograd.grad(loss, head)
    torch.testing.assert_close(second, first * 3)
    assert torch.equal(first, third)


def test_no_gradient_is_made_where_none_is_wanted(monkeypatch):
    from limbeck.train import _loss_kernels

    asked = []
    plain = _loss_kernels.divergence_rows

    def watched(formula, student, teacher, gradient):
        asked.append(gradient)
        return plain(formula, student, teacher, gradient)

    monkeypatch.setattr(_loss_kernels, "divergence_rows", watched)
    student, teacher, labels = heads("small")
    head = student[1].requires_grad_()
    with torch.no_grad():
        fused_divergence(student[0], head, *teacher[:2], labels)
        divergence(student[0] @ head.T, teacher[0] @ teacher[1].T, labels)
    assert asked and not any(asked)
    fused_divergence(student[0], head, *teacher[:2], labels)
    assert asked[-1]


class Largest(TorchDispatchMode):
    """Remembers the most elements that any operation made."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return made


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("reduction", ["token_mean", "none"])
def test_nothing_of_tokens_by_vocabulary_is_ever_made(reduction, dtype):
    rows, vocabulary, width, chunk = 300, 1000, 4, 16
    hidden, head, bias = (
        torch.randn(*shape, dtype=dtype, requires_grad=True)
        for shape in ((rows, width), (vocabulary, width), (vocabulary,))
    )
    other, teacher = torch.randn(rows, width, dtype=dtype), torch.randn(vocabulary, width, dtype=dtype)
    labels = torch.zeros(rows, dtype=torch.long)
    with Largest() as largest:
        options = {"student_bias": bias, "chunk": chunk, "reduction": reduction}
        fused_divergence(hidden, head, other, teacher, labels, **options, shared=990).sum().backward()
        fused_cross_entropy(hidden, head, labels, **options).sum().backward()
        log_probs = torch.zeros(rows, 3).log_softmax(-1)
        ids = torch.arange(3).expand(rows, 3)
        fused_top_k_divergence(hidden, head, log_probs, ids, labels, **options).sum().backward()
    assert largest.elements <= chunk * (vocabulary + 1), "the largest is a chunk of logits"
    with Largest() as largest:
        divergence(hidden @ head.T, other @ teacher.T, labels)
    assert largest.elements == rows * vocabulary, "it would be seen"


def test_only_what_is_trained_gets_a_gradient():
    student, teacher, labels = heads("small")
    hidden = student[0].requires_grad_()
    fused_divergence(hidden, student[1], *teacher[:2], labels).backward()
    assert hidden.grad is not None and student[1].grad is None


@pytest.mark.parametrize("shared", [9, "ids"])
@pytest.mark.parametrize("kind", KINDS)
def test_shared_tokens_are_renormalised_and_the_rest_is_reported(kind, shared):
    """151,936 tokens against 152,064: padding of one with zeros gives it mass, cutting off the other loses some unseen."""
    student, teacher, labels = heads("small")
    student[1], student[2] = student[1][:11], student[2][:11]
    ids = (torch.tensor([1, 0, 7, 10]), torch.tensor([12, 5, 7, 2]))
    if shared == "ids":
        shared = ids
        s_ids, t_ids = ids
    else:
        s_ids = t_ids = torch.arange(shared)
    own = [t.clone().requires_grad_() for t in student]
    exact_in = [t.double().requires_grad_() for t in student]
    t_logits = logits_of(*(t.double() for t in teacher))
    exact = reference(logits_of(*exact_in)[..., s_ids], t_logits[..., t_ids], labels, kind=kind)
    lost: dict[str, float] = {}
    options = {"student_bias": own[2], "teacher_bias": teacher[2], "kind": kind, "shared": shared}
    loss = fused_divergence(*own[:2], *teacher[:2], labels, **options, lost=lost, chunk=4)
    loss.backward(), exact.backward()
    close(loss, exact)
    for ours, theirs in zip(own, exact_in, strict=True):
        close_gradient(ours.grad, theirs.grad)
    valid = labels != -100
    for whose, logits, at in (("student", logits_of(*exact_in), s_ids), ("teacher", t_logits, t_ids)):
        outside = 1 - logits.detach().softmax(-1)[..., at].sum(-1)
        assert lost[whose] == pytest.approx(float(outside[valid].mean()), rel=1e-5)
    again: dict[str, float] = {}
    plain = divergence(logits_of(*own), logits_of(*teacher), labels, kind=kind, shared=shared, lost=again)
    close(plain, exact)
    assert again == pytest.approx(lost, rel=1e-5)


def test_nothing_is_lost_where_nothing_is_restricted():
    lost = {}
    divergence(*case("small"), lost=lost)
    assert lost == {"student": 0.0, "teacher": 0.0}


WRONG = {
    "no divergence 'revers'": {"kind": "revers"},
    "beta is 1.1": {"beta": 1.1},
    "beta is nan": {"beta": math.nan},
    "beta is -0.1": {"beta": -0.1, "kind": "forward"},
    "skew is 1": {"skew": 1},
    "student_temperature is 0": {"student_temperature": 0},
    "teacher_temperature is -1": {"teacher_temperature": -1},
    "teacher_temperature is inf": {"teacher_temperature": math.inf},
    "no reduction 'mean'": {"reduction": "mean"},
    "shared is 14": {"shared": 14},
    "names a token twice": {"shared": (torch.tensor([1, 1]), torch.tensor([1, 2]))},
    "two lists of ids": {"shared": (torch.tensor([1]), torch.tensor([1, 2]))},
    "sequences has the shape": {"sequences": torch.zeros(2)},
}


@pytest.mark.parametrize("told", WRONG)
def test_a_wrong_option_is_a_sentence(told):
    student, teacher, labels = heads("small")
    with pytest.raises(UsageError, match=told):
        divergence(*case("small"), **WRONG[told])
    with pytest.raises(UsageError, match=told):
        fused_divergence(*student[:2], *teacher[:2], labels, **WRONG[told])


def test_shapes_that_do_not_fit_are_a_sentence():
    student, teacher, labels = case("small")
    with pytest.raises(UsageError, match=r"student has 12 tokens and the teacher 13.*shared=12"):
        divergence(student[..., :12], teacher, labels)
    with pytest.raises(UsageError, match="No shift is applied"):
        divergence(student, teacher, labels[:, 1:])
    with pytest.raises(UsageError, match="teacher_logits has the shape"):
        divergence(student, teacher[:, 1:], labels)
    own, other, labels = heads("small")
    with pytest.raises(UsageError, match="student_head has the shape"):
        fused_divergence(own[0], own[1].T, *other[:2], labels)
    with pytest.raises(UsageError, match="teacher_bias has the shape"):
        fused_divergence(*own[:2], *other[:2], labels, teacher_bias=other[2][:3])
    with pytest.raises(UsageError, match="chunk is 0"):
        fused_divergence(*own[:2], *other[:2], labels, chunk=0)
