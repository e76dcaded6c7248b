"""Weak-to-strong: the loss by hand, its ramp, what it does against wrong labels, and a kill in between."""

from __future__ import annotations

import random
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_train_preference import curve
from test_train_reward import assert_bit_equal
from tiny_students import WORDS, Here, copying

from limbeck.train.sft import Sft
from limbeck.train.student import load_student
from limbeck.train.weak_to_strong import WeakToStrong

FAST = {"student": "embedded:student", "updates": 12, "batch_tokens": 200, "learning_rate": 3e-3, "log_every": 3}


def token_losses(student, row) -> list[tuple[float, float]]:
    """The negative log-likelihood of each response token, and of the likeliest token in its place."""
    text = f"<bos><user>{row.question}<assistant>"
    head = student.tokenizer(text, add_special_tokens=False)["input_ids"]
    ids = student.tokenizer(f"{text}{row.response}<eos>", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        scores = student.model.eval()(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    return [(-scores[i - 1, ids[i]].item(), -scores[i - 1].max().item()) for i in range(len(head), len(ids))]


@pytest.mark.parametrize("confidence", [0.0, 0.4, 1.0])
def test_the_loss_is_that_of_the_paper(here, confidence: float) -> None:
    rows, context = copying(5), here("run")
    given = FAST | {
        "updates": 0,
        "epochs": 1.0,
        "batch_tokens": 10_000,
        "log_every": 1,
        "ramp": 0.0,
        "confidence": confidence,
    }
    list(WeakToStrong(**given).make(rows, context))
    student = load_student(context.student)
    given_tokens = {row.id: token_losses(student, row) for row in rows}
    line = curve(context.folder)[0]
    mixed = [(1 - confidence) * weak + confidence * own for one in given_tokens.values() for weak, own in one]
    assert line["strength"] == pytest.approx(confidence, abs=1e-6)
    assert line["loss"] == pytest.approx(sum(mixed) / len(mixed), rel=1e-4)


def test_without_confidence_it_is_fine_tuning_on_the_weak_answers(here) -> None:
    list(WeakToStrong(**FAST, confidence=0.0).make(copying(40), here("weak")))
    list(Sft(**FAST).make(copying(40), here("sft")))
    one, two = (load_student(here(n).folder / "student").model.state_dict() for n in ("weak", "sft"))
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())


def test_the_weight_rises_over_the_ramp_and_stays(here) -> None:
    list(
        WeakToStrong(**FAST | {"updates": 20, "log_every": 1}, confidence=0.6, ramp=0.5).make(copying(60), here("run"))
    )
    found = [line["strength"] for line in curve(here("run").folder)]
    assert found == pytest.approx([min(0.6, 0.06 * place) for place in range(20)], abs=1e-5)
    assert all(0 <= line["agreement"] <= 1 for line in curve(here("run").folder))


def test_a_sure_student_holds_to_what_it_knows_against_wrong_labels(here) -> None:
    """A strong student that has learnt the task sees labels of which four in ten are wrong at random."""
    list(Sft(**FAST | {"updates": 120, "batch_tokens": 400, "learning_rate": 1e-2}).make(copying(400), here("strong")))
    rng = random.Random(0)
    weak = [
        replace(row, messages=(*row.prompt, replace(row.messages[-1], content=f"It is {rng.choice(WORDS)}.")))
        if rng.random() < 0.4
        else row
        for row in copying(300, seed=5)
    ]
    kept: dict[str, float] = {}
    unseen = copying(60, seed=9)
    for name, confidence in (("naive", 0.0), ("confident", 0.75)):
        given = FAST | {"student": f"hf:{here('strong').folder / 'student'}", "updates": 40, "batch_tokens": 400}
        list(WeakToStrong(**given, confidence=confidence).make(weak, here(name)))
        student = load_student(here(name).folder / "student")
        losses = [sum(weak for weak, _ in token_losses(student, row)) for row in unseen]
        kept[name] = sum(losses) / len(losses)
    assert kept["confident"] < 0.75 * kept["naive"], kept


def killed(given: dict, context: Here):
    return WeakToStrong(**given).make(copying(60), context)


def test_killed_and_run_again_is_bit_equal_to_uninterrupted(tmp_path: Path) -> None:
    assert_bit_equal(sys.modules[__name__], FAST, tmp_path, "student/model.safetensors")
