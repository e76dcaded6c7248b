"""Laws of training: a verifier knows gold from error, and what must be erased is never trained on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from driving import drive
from limbeck import Message, Recipe, Row, Source, api
from limbeck.core.errors import LimbeckError
from limbeck.core.find import find_step, step_names
from limbeck.core.row import new_row
from limbeck.core.step import Each, Whole

RULES = ("score.heuristics",)
"""What writes a score for each of many rules; its own tests hold its gold."""
VERIFIERS = [n for n in step_names() if n.startswith("score.") and n not in RULES and "validate" in vars(find_step(n))]
TRAINERS = [n for n in step_names() if n.startswith("train.") and n != "train.quality"]
"""What trains a language model; a classifier of quality reads prompts as they stand."""


OPINIONS = ("score.agreement", "score.judge", "score.process")
"""What scores by an opinion, or only the steps: it writes no `verified` and no verdict."""


@pytest.mark.parametrize("name", VERIFIERS)
def test_a_verifier_scores_its_gold_one_and_its_planted_errors_zero(name: str) -> None:
    kind = find_step(name)
    assert issubclass(kind, Each | Whole)
    if name == "score.tasks":
        pytest.importorskip("reasoning_gym", reason="SKIPPED: reasoning-gym is not installed.")
    step = kind(**{field: "echo" for field, info in kind.model_fields.items() if info.is_required()})
    examples = kind.validate()  # type: ignore[call-arg,arg-type,var-annotated,misc]
    assert {score for _, score in examples} == {0.0, 1.0} and len(examples) >= 4
    for row, score in examples:
        replies = row.extra.get("replies", ())
        judged = step.whole([row])[0] if isinstance(step, Whole) else drive(step, row, replies)
        assert judged.dropped is None and judged.scores[name.removeprefix("score.")] == score, (row.task, row.response)
        if name in OPINIONS:
            assert "verified" not in judged.scores and "verdict" not in judged.labels
        else:
            assert judged.scores["verified"] == score and (judged.labels["verdict"] == "pass") == (score == 1.0)


def test_there_is_a_verifier_for_every_kind_of_task() -> None:
    kinds = {"math", "exact", "program", "code", "tools", "format", "tasks"}
    assert {f"score.{kind}" for kind in kinds} <= set(VERIFIERS)


class Hinted(Source):
    """Rows of which one still carries a hint that has to be erased."""

    def rows(self) -> Iterator[Row]:
        turns = [Message(role="user", content="2+3? (Hint: 5)"), Message(role="assistant", content="5")]
        for i in range(4):
            attached = [{"by": "prompts.hint", "text": " (Hint: 5)"}] if i == 2 else []
            yield new_row(messages=turns, made_by={"i": i}, extra={"attached": attached})


@pytest.mark.parametrize("name", TRAINERS)
def test_no_trainer_takes_a_row_with_something_left_to_erase(name: str, tmp_path: Path) -> None:
    kind = find_step(name)
    fields: dict[str, Any] = {f: "embedded:student" for f, v in kind.model_fields.items() if v.is_required()}
    with pytest.raises(LimbeckError, match=r"prompts\.erase|attached"):
        api.run(Recipe(steps=[Hinted(), kind(**fields)]), out=tmp_path / "run", report=False)
