"""A reward model from the embedded student on an embedded family: it must read the prompt to know which working is its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from tiny_students import Here

from limbeck.core.models import folder_of
from limbeck.seeds.tasks import Tasks
from limbeck.train.reward import Reward


def test_it_learns_which_working_belongs_to_the_problem(tmp_path: Path) -> None:
    """The rejected side is the true working of another problem: right in itself, and of the same form."""
    step = Tasks(family=("word_problems",), count=500, difficulty=(2, 3), seed=3, solved=True)
    made = list(step.rows())
    others = [*made[1:], made[0]]
    rows = [
        row.with_extra(rejected=[{"role": "assistant", "content": other.response}])
        for row, other in zip(made, others, strict=True)
    ]
    context = Here(tmp_path, Path(folder_of(step, "embedded:student")))
    given = {"student": "embedded:student", "updates": 100, "learning_rate": 3e-3, "hold_out": 0.2}
    list(Reward(**given).make(rows, context))
    told = json.loads((tmp_path / "train.json").read_text())["held_out"]
    # .74 of 111 pairs when written; a coin gets .65 of so many less than once in a thousand times
    assert told["pairs"] >= 100 and told["accuracy"] >= 0.65, told
