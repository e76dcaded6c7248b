"""Preference pairs on a real tiny Llama: the loss is DPO's, chosen answers gain on rejected ones, a kill changes nothing."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_students import WORDS, Here, copying, make_model, make_tokenizer, row_of

from limbeck.core.errors import InputError, SealedError, UsageError
from limbeck.select.pairs import Pairs as SelectPairs
from limbeck.train._pairs import Pair, Pairs
from limbeck.train.examples import Example
from limbeck.train.preference import Preference
from limbeck.train.student import load_student

FAST = {"student": "embedded:student", "updates": 12, "batch": 8, "learning_rate": 3e-3, "log_every": 3}


def pairs(count: int, seed: int = 0):
    """Made by select.pairs itself: the right word, scored 1, with a wrong one, scored 0."""
    scored = []
    for row in copying(count, seed):
        last = row.response.removeprefix("It is ").removesuffix(".")
        wrong = next(w for w in WORDS if w not in row.question)
        for word, score in ((last, 1.0), (wrong, 0.0)):
            answer = row_of(("user", row.question), ("assistant", f"It is {word}."), group=row.id)
            scored.append(replace(answer, scores={"verified": score}))
    return [row for row in SelectPairs().whole(scored) if row.dropped is None]


def curve(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]


def score(student, question: str, response: str) -> float:
    """The log-probability of a response, by hand."""
    tokenizer, model = student.tokenizer, student.model.eval()
    head = tokenizer(f"<bos><user>{question}<assistant>", add_special_tokens=False)["input_ids"]
    ids = tokenizer(f"<bos><user>{question}<assistant>{response}<eos>", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        scores = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    return sum(scores[i - 1, ids[i]].item() for i in range(len(head), len(ids)))


@pytest.mark.parametrize("loss", ["dpo", "ipo"])
@pytest.mark.parametrize("by_length", [False, True])
def test_the_loss_is_that_of_the_papers(here, tmp_path, loss, by_length):
    """One update over one pair, against a reference of other weights, computed by hand in Python's floats."""
    make_model(initializer_range=0.2).save_pretrained(tmp_path / "other")
    make_tokenizer().save_pretrained(tmp_path / "other")
    rows, context = pairs(6)[:1], here("run")
    given = FAST | {"updates": 1, "batch": 1, "log_every": 1, "beta": 0.3, "reference": f"hf:{tmp_path / 'other'}"}
    list(Preference(**given, loss=loss, length_normalized=by_length).make(rows, context))
    models, row, h = [load_student(context.student), load_student(tmp_path / "other")], rows[0], 0.0
    for sign, response in ((1, row.response), (-1, row.extra["rejected"][0]["content"])):
        length = len(models[0].tokenizer(response, add_special_tokens=False)["input_ids"]) + 1 if by_length else 1
        h += sign * (score(models[0], row.question, response) - score(models[1], row.question, response)) / length
    assert abs(h) > 0.01
    expected = math.log1p(math.exp(-0.3 * h)) if loss == "dpo" else (h - 1 / 0.6) ** 2
    line = curve(context.folder)[0]
    assert line["loss"] == pytest.approx(expected, rel=1e-4)
    assert line["margin"] == pytest.approx(h, abs=1e-4)


@pytest.mark.parametrize("options", [{}, {"loss": "ipo"}, {"length_normalized": True, "beta": 2.0}])
def test_chosen_answers_gain_on_rejected_ones_also_in_unseen_pairs(here, options):
    context, unseen = here("run"), pairs(40, seed=9)
    list(Preference(**FAST | options | {"updates": 60}).make(pairs(200), context))
    lines = curve(context.folder)
    # before the first update the student is its own reference
    assert lines[-1]["accuracy"] > 0.9 and lines[-1]["margin"] > lines[0]["margin"]
    before, after = load_student(context.student), load_student(context.folder / "student")
    gains = []
    for row in unseen:
        sides = row.response, row.extra["rejected"][0]["content"]
        gains.append([score(after, row.question, s) - score(before, row.question, s) for s in sides])
    assert sum(chosen > rejected for chosen, rejected in gains) >= 36


def test_the_first_update_starts_at_the_reference(here):
    context = here("run")
    list(Preference(**FAST | {"updates": 1, "log_every": 1}).make(pairs(20), context))
    line = curve(context.folder)[0]
    assert line["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert line["margin"] == pytest.approx(0, abs=1e-4)
    reference = json.loads((context.folder / "reference.json").read_text())["scores"]
    assert len(reference) == len(pairs(20)) and all(a < 0 and b < 0 for a, b in reference)


def test_splitting_and_packing_do_not_change_an_update(here):
    made = []
    for name, extra in {"whole": {}, "split": {"micro_tokens": 30}, "packed": {"pack_width": 90}}.items():
        list(Preference(**FAST | {"learning_rate": 1e-3} | extra).make(pairs(30), here(name)))
        made.append(load_student(here(name).folder / "student").model.state_dict())
    for name, tensor in made[0].items():
        assert all(torch.allclose(tensor, other[name], atol=3e-4) for other in made[1:]), name


def test_packed_rows_hold_several_whole_pairs_in_order(student):
    def side(name: str, length: int) -> Example:
        return Example(name, (1,) * length, (True,) * length)

    short = [Pair(name, side(name, 4 + place), side(name, 5)) for place, name in enumerate("01234")]
    stream = Pairs(load_student(student), short, "dpo", 0.1, False, 16384, 32)
    rows = [row for batch in stream.split(stream.take(0, range(5))) for row in batch]
    assert max(len(row) for row in rows) >= 4 and all(sum(len(e.ids) for e in row) <= 32 for row in rows)
    assert all([a.row for a in row[::2]] == [b.row for b in row[1::2]] for row in rows)
    assert sorted(e.row for row in rows for e in row) == sorted("0123401234")


def test_only_what_comes_after_the_shared_turns_is_trained_on(here):
    """Two assistant turns: the shared one says the same in both and must not move the loss."""
    talk = (("user", "Say red."), ("assistant", "It is red."), ("user", "Say blue."))
    chosen = replace(row_of(*talk, ("assistant", "It is blue."), group="g"), scores={"verified": 1.0})
    rejected = replace(row_of(*talk, ("assistant", "It is grey."), group="g"), scores={"verified": 0.0})
    rows = [r for r in SelectPairs().whole([chosen, rejected]) if r.dropped is None]
    assert rows[0].extra["pair"]["shared"] == 3
    context = here("run")
    list(Preference(**FAST | {"updates": 1, "batch": 1}).make(rows, context))
    tokenizer = load_student(context.student).tokenizer
    each = [len(tokenizer(t, add_special_tokens=False)["input_ids"]) + 1 for t in ("It is blue.", "It is grey.")]
    assert json.loads((context.folder / "train.json").read_text())["trained_tokens"] == sum(each)


def test_what_can_not_be_a_pair_is_dropped_or_refused(here):
    rows = pairs(10)
    long = replace(
        rows[0], id="long", extra=rows[0].extra | {"rejected": [{"role": "assistant", "content": "red " * 90}]}
    )
    same = replace(rows[1], id="same", extra={"rejected": [{"role": "assistant", "content": rows[1].response}]})
    out = list(Preference(**FAST | {"updates": 1, "max_length": 60}).make([*rows, long, same], here("a")))
    assert [r.dropped for r in out[:-2]] == [None] * len(rows)
    assert "max_length 60" in out[-2].dropped and "same tokens" in out[-1].dropped
    with pytest.raises(InputError, match=r"no preference pair.*select\.pairs"):
        list(Preference(**FAST).make(copying(3), here("b")))
    with pytest.raises(SealedError):
        list(Preference(**FAST).make([replace(rows[0], sealed=True)], here("c")))
    with pytest.raises(UsageError, match="write reference as"):
        Preference(student="embedded:student", reference="gpt2")


KILLED = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from test_train_preference import Here, pairs
from limbeck.train.preference import Preference
list(Preference(**json.loads(sys.argv[4])).make(pairs(60), Here(Path(sys.argv[2]), Path(sys.argv[3]))))
"""


def test_killed_and_run_again_is_bit_equal_to_uninterrupted(tmp_path):
    """SIGKILL a real process after some checkpoints; dropout makes the generators matter."""
    base, cut, whole = tmp_path / "base", tmp_path / "cut", tmp_path / "whole"
    make_model(attention_dropout=0.1).save_pretrained(base)
    make_tokenizer().save_pretrained(base)
    cut.mkdir()
    given = FAST | {"updates": 80, "log_every": 3, "checkpoint_every": "7"}
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(cut), str(base), json.dumps(given)]
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE)
    far, deadline = "update-000000[2345]*.pt", time.monotonic() + 300
    while not list((cut / "checkpoints").glob(far)) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.001)
    assert list((cut / "checkpoints").glob(far)), "no checkpoint to be killed after"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"
    written = (cut / "reference.json").stat().st_mtime_ns
    for folder in (cut, whole):
        folder.mkdir(exist_ok=True)
        list(Preference(**given).make(pairs(60), Here(folder, base)))
    assert (cut / "reference.json").stat().st_mtime_ns == written, "the reference was computed again"
    saved = [(f / "student" / "model.safetensors").read_bytes() for f in (cut, whole)]
    assert saved[0] == saved[1]
    timeless = [[{k: v for k, v in line.items() if k != "seconds"} for line in curve(f)] for f in (cut, whole)]
    assert timeless[0] == timeless[1]
    starts = [json.loads((f / "train.json").read_text())["resumed_at"] for f in (cut, whole)]
    assert starts[0] >= 20 and starts[1] == 0
