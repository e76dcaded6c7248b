"""Documents held out: measured as they should be, never trained on, and the judge of when to stop; and half precision."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_train_adapter import Stopping
from tiny_students import Here, copying

from limbeck.train._held_out import held_out_rows
from limbeck.train.distill import Distill
from limbeck.train.examples import encode
from limbeck.train.packing import collate
from limbeck.train.preference import Preference
from limbeck.train.sft import Sft
from limbeck.train.student import load_student, predicting_logits, predicting_states, summed_loss

FAST = {"student": "embedded:student", "updates": 12, "batch_tokens": 400, "learning_rate": 1e-2}
PAIR = {"rejected": [{"role": "assistant", "content": "It is red today."}], "pair": {"shared": 1}}
# few rows and many passes: the loss of other rows falls, and then rises
WRONG = {
    **FAST,
    "updates": 60,
    "batch_tokens": 100,
    "hold_out": 0.5,
    "evaluate_every": 4,
    "patience": 3,
    "log_every": 2,
}


def curve(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]


def summary(folder: Path) -> dict:
    return json.loads((folder / "train.json").read_text())


def loss_of(folder: Path, rows) -> float:
    """The mean loss of the rows' responses, by transformers itself."""
    student = load_student(folder)
    examples, _ = encode(rows, student.tokenizer, student.stops, end=student.end)
    total = 0.0
    for example in examples:
        ids = torch.tensor([example.ids])
        labels = torch.where(torch.tensor([example.trained]), ids, -100)
        with torch.no_grad():
            total += student.model.eval()(input_ids=ids, labels=labels).loss.item() * example.targets
    return total / sum(e.targets for e in examples)


def test_groups_are_held_out_whole_and_whatever_other_rows_there_are():
    rows = [replace(row, id=str(n), group=str(n // 4)) for n, row in enumerate(copying(400))]
    out = held_out_rows(rows, 0.2)
    groups = {row.group for row in rows if row.id in out}
    assert out == {row.id for row in rows if row.group in groups} and 10 <= len(groups) <= 30
    assert held_out_rows(rows[:100], 0.2) == out & {row.id for row in rows[:100]}
    assert held_out_rows(rows, 0.0) == set()


def test_the_loss_of_held_out_rows_is_measured_and_they_are_not_trained_on(here):
    rows, context, without = copying(80), here("run"), here("without")
    kept = list(Sft(**FAST, hold_out=0.25, evaluate_every=5, log_every=10).make(rows, context))
    assert kept == rows
    lines = curve(context.folder)
    assert [(line["update"], "held_out" in line) for line in lines] == [(5, True), (10, True), (12, True)]
    out = held_out_rows(rows, 0.25)
    held = [row for row in rows if row.id in out]
    assert lines[-1]["held_out"] == pytest.approx(loss_of(context.folder / "student", held), abs=2e-5)
    told = summary(context.folder)
    assert (told["held_out_rows"], told["trained_rows"]) == (len(held), len(rows) - len(held))
    list(Sft(**FAST).make([row for row in rows if row.id not in out], without))
    ours, theirs = (load_file(c.folder / "student" / "model.safetensors") for c in (context, without))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours), "measuring changed the training"


def test_training_ends_when_it_no_longer_helps_and_keeps_the_best(here):
    rows, context = copying(16), here("run")
    list(Sft(**WRONG | {"updates": 200}).make(rows, context))
    measured = {line["update"]: line["held_out"] for line in curve(context.folder) if "held_out" in line}
    best = min(measured, key=measured.get)
    told = summary(context.folder)
    assert told["best_update"] == best and told["updates"] == best + 12 == max(measured) < 200
    out = held_out_rows(rows, 0.5)
    held = [row for row in rows if row.id in out]
    assert loss_of(context.folder / "student", held) == pytest.approx(measured[best], abs=2e-5)
    assert measured[max(measured)] > measured[best] + 0.01


def test_stopped_and_run_again_is_bit_equal_to_uninterrupted(tmp_path, student):
    step, rows = Sft(**WRONG, checkpoint_every="5"), copying(16)
    folders = tmp_path / "cut", tmp_path / "whole"
    for folder in folders:
        folder.mkdir()
    with pytest.raises(KeyboardInterrupt):
        list(step.make(rows, Stopping(folders[0], student, stop=14)))
    for folder in folders:
        list(step.make(rows, Here(folder, student)))
    assert summary(folders[0])["resumed_at"] == 10
    first, second = ((f / "student" / "model.safetensors").read_bytes() for f in folders)
    assert first == second
    timeless = [[{k: v for k, v in line.items() if k != "seconds"} for line in curve(folder)] for folder in folders]
    assert timeless[0] == timeless[1]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_student_and_teacher_compute_alike(here, student, precision):
    """Of the same weights, in whatever precision, there is nothing to learn."""
    rows = copying(20)
    pairs = [replace(row, extra=PAIR) for row in rows]
    given = {"student": "embedded:student", "updates": 1, "log_every": 1, "precision": precision}
    list(Distill(teacher=f"hf:{student}", prefix="data", **given).make(rows, here("distill")))
    list(Preference(reference=f"hf:{student}", **given).make(pairs, here("preference")))
    assert curve(here("distill").folder)[0]["loss"] == pytest.approx(0, abs=1e-6)
    # the reference is computed in other batches, which rounds otherwise
    assert abs(curve(here("preference").folder)[0]["margin"]) < (1e-4 if precision == "float32" else 0.05)


def test_half_precision_computes_in_it_and_keeps_weights_and_losses_in_full(here, student):
    rows, contexts = copying(60), (here("full"), here("half"))
    for context, precision in zip(contexts, ("float32", "bfloat16"), strict=True):
        list(Sft(**FAST | {"updates": 30}, precision=precision).make(rows, context))
    full, half = (curve(context.folder) for context in contexts)
    for line, other in zip(full, half, strict=True):
        assert other["loss"] != line["loss"] and other["loss"] == pytest.approx(line["loss"], rel=0.05)
    weights = load_file(contexts[1].folder / "student" / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    loaded = replace(load_student(student), precision="bfloat16")
    example = encode(rows[:1], loaded.tokenizer, loaded.stops, end=loaded.end)[0][0]
    batch = collate([[example]], loaded.pad)
    assert predicting_logits(loaded, batch).dtype == torch.bfloat16
    assert predicting_states(loaded, batch).dtype == summed_loss(loaded, batch).dtype == torch.float32
