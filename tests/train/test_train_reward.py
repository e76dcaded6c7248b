"""The reward model: the loss by hand, what it learns, what is read from it, and a kill in between."""

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
from test_train_preference import curve, pairs
from tiny_students import Here, copying, make_model, make_tokenizer

from limbeck.core.errors import InputError, SealedError, UsageError
from limbeck.core.models import give
from limbeck.score.reward import Reward as Score
from limbeck.train.reward import Reward

FAST = {"student": "embedded:student", "updates": 80, "batch": 16, "learning_rate": 5e-3, "log_every": 4}


def rewards(folder: Path, rows) -> list[tuple[float, float]]:
    """What score.reward says of both sides of each pair."""
    other = [
        replace(r, messages=(*r.prompt, replace(r.messages[-1], content=r.extra["rejected"][0]["content"])))
        for r in rows
    ]
    scored = Score(model=str(folder / "model")).whole([*rows, *other])
    values = [row.scores["reward"] for row in scored]
    return list(zip(values[: len(rows)], values[len(rows) :], strict=True))


def test_it_learns_what_is_better_also_for_pairs_it_has_not_seen(here) -> None:
    context, unseen = here("run"), pairs(60, seed=9)
    rows = pairs(300)
    assert list(Reward(**FAST | {"updates": 150}).make(rows, context)) == rows
    told = json.loads((context.folder / "train.json").read_text())
    assert told["held_out"]["pairs"] >= 15 and told["pairs"] + told["held_out"]["pairs"] == len(rows)
    assert told["held_out"]["accuracy"] >= 0.85 and told["held_out"]["loss"] < 0.45
    found = rewards(context.folder, unseen)
    assert sum(better > worse for better, worse in found) >= 51
    lines = curve(context.folder)
    assert lines[-1]["accuracy"] > 0.9 > lines[0]["accuracy"] and lines[-1]["difference"] > lines[0]["difference"]


@pytest.mark.parametrize(("margin", "center"), [(0.0, 0.0), (0.7, 0.0), (0.0, 0.3), (1.0, 0.1)])
def test_the_loss_is_that_of_the_papers_and_the_scorer_reads_the_same_rewards(here, margin, center) -> None:
    """Nothing is learnt at a rate of (almost) 0: the loss of the one update is that of what was saved."""
    rows, context = pairs(6)[:3], here("run")
    rows = [row.with_extra(pair=row.extra["pair"] | {"chosen_score": 1.0, "rejected_score": 0.25}) for row in rows]
    given = FAST | {
        "updates": 1,
        "batch": 3,
        "log_every": 1,
        "learning_rate": 1e-12,
        "weight_decay": 0.0,
        "hold_out": 0.0,
    }
    list(Reward(**given, margin=margin, center=center).make(rows, context))
    expected, found = 0.0, rewards(context.folder, rows)
    for better, worse in found:
        expected += math.log1p(math.exp(-(better - worse - margin * 0.75))) + center * (better + worse) ** 2
    line = curve(context.folder)[0]
    assert line["loss"] == pytest.approx(expected / 3, rel=1e-4)
    assert line["difference"] == pytest.approx(sum(a - b for a, b in found) / 3, abs=1e-4)


def test_a_step_of_the_run_is_read_by_its_name(here) -> None:
    context, rows = here("run"), pairs(12)
    list(Reward(**FAST | {"updates": 1}).make(rows, context))
    step = Score(model="step:judge")
    give(step, {"judge": context.folder})
    by_name, by_folder = step.whole(rows), Score(model=str(context.folder / "model")).whole(rows)
    assert [r.scores for r in by_name] == [r.scores for r in by_folder]
    assert step.needs() == ("judge",) and "reward" in by_name[0].scores


def test_splitting_does_not_change_an_update(here) -> None:
    made = []
    for name, extra in {"whole": {}, "split": {"micro_tokens": 40}}.items():
        list(Reward(**FAST | {"updates": 12, "learning_rate": 1e-3} | extra).make(pairs(30), here(name)))
        made.append(here(name).folder / "model")
    first, second = (rewards(folder.parent, pairs(8, seed=3)) for folder in made)
    assert [pytest.approx(values, abs=2e-3) for values in first] == second


def test_a_reward_model_goes_on_from_a_reward_model(here) -> None:
    """The head of one that is given is kept, and not drawn anew."""
    context, again = here("run"), here("again")
    list(Reward(**FAST | {"updates": 5}).make(pairs(20), context))
    given = FAST | {"updates": 1, "learning_rate": 1e-12, "weight_decay": 0.0, "seed": 5}
    list(Reward(**given | {"student": f"hf:{context.folder / 'model'}"}).make(pairs(20), again))
    before, after = (rewards(c.folder, pairs(4, seed=3)) for c in (context, again))
    assert [pytest.approx(values, abs=1e-4) for values in before] == after


def test_padding_that_is_the_end_of_text_and_a_student_without_a_template(tmp_path: Path) -> None:
    """Where the two are one token, transformers reads the reward before it, and so must training."""
    base, folder = tmp_path / "base", tmp_path / "run"
    make_model().save_pretrained(base)
    tokenizer = make_tokenizer()
    tokenizer.pad_token = "<eos>"
    tokenizer.save_pretrained(base)
    for name, template in (("template", "plain"), ("none", "")):
        if name == "none":
            tokenizer.chat_template = None
            tokenizer.save_pretrained(base)
            (base / "chat_template.jinja").unlink(missing_ok=True)
        context = Here(folder / name, base)
        context.folder.mkdir(parents=True)
        rows = pairs(4)
        given = FAST | {"updates": 1, "batch": len(rows), "log_every": 1, "learning_rate": 1e-12, "hold_out": 0.0}
        list(Reward(**given, chat_template=template).make(rows, context))
        found = rewards(context.folder, rows)
        wanted = sum(a - b for a, b in found) / len(rows)
        assert curve(context.folder)[0]["difference"] == pytest.approx(wanted, abs=1e-4)


def test_what_can_not_be_a_pair_is_dropped_or_refused(here) -> None:
    rows = pairs(10)
    long = replace(
        rows[0], id="long", extra=rows[0].extra | {"rejected": [{"role": "assistant", "content": "red " * 90}]}
    )
    same = replace(rows[1], id="same", extra={"rejected": [{"role": "assistant", "content": rows[1].response}]})
    out = list(Reward(**FAST | {"updates": 1, "max_length": 60}).make([*rows, long, same], here("a")))
    assert [r.dropped for r in out[:-2]] == [None] * len(rows)
    assert "max_length 60" in out[-2].dropped and "same tokens" in out[-1].dropped
    with pytest.raises(InputError, match=r"no preference pair.*select\.pairs"):
        list(Reward(**FAST).make(copying(3), here("b")))
    with pytest.raises(SealedError):
        list(Reward(**FAST).make([replace(rows[0], sealed=True)], here("c")))
    with pytest.raises(UsageError, match="lora_rank does not go with a reward model"):
        Reward(**FAST, lora_rank=4)
    with pytest.raises(InputError, match="can not become a reward model"):
        list(Reward(**FAST | {"student": f"hf:{here('empty').folder}"}).make(rows, here("d")))


KILLED = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from tiny_students import Here
import {module} as module
list(module.killed(json.loads(sys.argv[4]), Here(Path(sys.argv[2]), Path(sys.argv[3]))))
"""


def assert_bit_equal(module, given: dict, tmp_path: Path, weights: str) -> None:
    """SIGKILL a real process after some checkpoints, go on, and compare with what was never killed."""
    base, cut, whole = tmp_path / "base", tmp_path / "cut", tmp_path / "whole"
    make_model(attention_dropout=0.1).save_pretrained(base)
    make_tokenizer().save_pretrained(base)
    cut.mkdir()
    given = given | {"updates": 60, "log_every": 3, "checkpoint_every": "7"}
    code = KILLED.replace("{module}", module.__name__)
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(cut), str(base), json.dumps(given)]
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE)
    far, deadline = "update-000000[234]*.pt", time.monotonic() + 300
    while not list((cut / "checkpoints").glob(far)) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.001)
    assert list((cut / "checkpoints").glob(far)), "no checkpoint to be killed after"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"
    for folder in (cut, whole):
        folder.mkdir(exist_ok=True)
        list(module.killed(given, Here(folder, base)))
    saved = [(f / weights).read_bytes() for f in (cut, whole)]
    assert saved[0] == saved[1]
    timeless = [[{k: v for k, v in line.items() if k != "seconds"} for line in curve(f)] for f in (cut, whole)]
    assert timeless[0] == timeless[1]
    starts = [json.loads((f / "train.json").read_text())["resumed_at"] for f in (cut, whole)]
    assert starts[0] >= 20 and starts[1] == 0


def killed(given: dict, context: Here):
    return Reward(**given).make(pairs(60), context)


def test_killed_and_run_again_is_bit_equal_to_uninterrupted(tmp_path: Path) -> None:
    assert_bit_equal(sys.modules[__name__], FAST, tmp_path, "model/model.safetensors")
