"""The scorer of steps: a tiny token classifier, made here, saved to disk and read back."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from test_score_reward import row, save

from limbeck.core.errors import UsageError
from limbeck.score.process_reward import ProcessReward

torch = pytest.importorskip("torch")
STEPS = "red blue\ngreen . red\nblue"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the reward model of `test_score_reward`, its classifier replaced."""
    from transformers import AutoConfig, LlamaForTokenClassification

    folder = save(tmp_path_factory.mktemp("process_reward"))
    torch.manual_seed(3)
    LlamaForTokenClassification(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    return folder


def values(model: Path, *texts: str, **given: object) -> list[list[float]]:
    scored = ProcessReward(model=str(model), **given).whole([row(text) for text in texts])  # type: ignore[arg-type]
    return [one.extra["process_reward"]["values"] for one in scored]


def test_values_are_those_of_each_step_whatever_else_is_in_the_batch(model: Path) -> None:
    texts = [STEPS, "red . . . . . . .\nblue", "green", "red\nblue\ngreen\nred"]
    together = values(model, *texts, batch=2)
    assert [len(found) for found in together] == [3, 2, 1, 4]
    for text, found in zip(texts, together, strict=True):
        assert found == pytest.approx(values(model, text)[0], abs=1e-5)
    # what comes behind a step does not change its value
    assert values(model, STEPS + " red red")[0][:2] == pytest.approx(together[0][:2], abs=1e-5)


@pytest.mark.parametrize("combine", ["min", "product", "last", "mean"])
def test_they_become_one_score(model: Path, combine: str) -> None:
    (found,) = values(model, STEPS)
    (scored,) = ProcessReward(model=str(model), combine=combine).whole([row(STEPS)])  # type: ignore[arg-type]
    expected = {"min": min(found), "product": math.prod(found), "last": found[-1], "mean": sum(found) / 3}[combine]
    assert scored.scores["process_reward"] == pytest.approx(expected, abs=1e-5)


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"score\.reward reads models of whole conversations"):
        ProcessReward(model=str(save(tmp_path))).whole([row(STEPS)])
