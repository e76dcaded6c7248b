"""score.quality with a classifier made by hand, so that every probability is known; `tests/train` trains some."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from planted_quality import row_of

from driving import drive
from limbeck import api
from limbeck.core import models
from limbeck.core.classifier import Classifier, calibrated, load_classifier
from limbeck.core.errors import InputError, UsageError
from limbeck.core.find import find_step
from limbeck.core.ngrams import ngram_hashes
from limbeck.score.quality import Quality

SIZE = 1 << 10


def made(folder: Path, words: dict[str, float], bias: float = 0.0, **fields: object) -> Path:
    """Write a classifier that knows a few words."""
    weights = np.zeros(SIZE)
    for word, weight in words.items():
        weights[int(ngram_hashes([word])[0] % np.uint64(SIZE))] = weight
    folder.mkdir(parents=True)
    Classifier(weights=weights, bias=bias, **fields).save(folder)  # type: ignore[arg-type]
    return folder


def logistic(margin: float) -> float:
    return 1 / (1 + math.exp(-margin))


def test_the_score_is_the_logistic_of_the_margin(tmp_path: Path) -> None:
    step = find_step("score.quality")(classifier=str(made(tmp_path / "q", {"proof": 4.0, "buy": -4.0}, bias=0.5)))
    for text, margin in (("proof", 4.5), ("buy", -3.5), ("proof buy", 0.5), ("Proof!", 0.5 + 4 / math.sqrt(3))):
        scored = drive(step, row_of("?", text))  # type: ignore[arg-type]
        assert scored.scores == {"quality": pytest.approx(logistic(margin))} and scored.labels["quality"] == "scored"
    assert drive(step, row_of("?", "")).labels["quality"] == "no-text"  # type: ignore[arg-type]


@pytest.mark.parametrize(("part", "margin"), [("response", 0.0), ("prompt", 4.0), ("both", 4 / math.sqrt(3))])
def test_which_text_is_read_is_the_classifiers_own(part: str, margin: float, tmp_path: Path) -> None:
    step = Quality(classifier=str(made(tmp_path / "q", {"proof": 4.0}, part=part)))
    assert drive(step, row_of("proof", "else")).scores["quality"] == pytest.approx(logistic(margin))


def test_calibrations() -> None:
    margins = np.array([-2.0, 0.0, 1.0, 5.0])
    platt = calibrated(margins, {"kind": "platt", "slope": 2.0, "offset": -1.0})
    assert platt.tolist() == pytest.approx([logistic(2 * m - 1) for m in margins])
    steps = calibrated(margins, {"kind": "isotonic", "margins": [-1.0, 1.0], "probabilities": [0.2, 0.6]})
    assert steps.tolist() == pytest.approx([0.2, 0.4, 0.6, 0.6])


def test_a_row_is_scored_anew_and_the_rest_of_it_stays(tmp_path: Path) -> None:
    step = Quality(classifier=str(made(tmp_path / "q", {"proof": 4.0})))
    again = drive(step, row_of("?", "proof").with_scores(quality=9.0, math=1.0))
    assert again.scores == {"math": 1.0, "quality": pytest.approx(logistic(4.0))}
    bare = drive(step, row_of("?", " ").with_scores(quality=9.0))
    assert bare.scores == {}


def test_another_classifier_in_the_folder_is_another_step(tmp_path: Path) -> None:
    folder = made(tmp_path / "q", {"proof": 4.0})
    step = Quality(classifier=str(folder))
    before, first = step.fingerprint(), drive(step, row_of("?", "proof")).scores
    made(tmp_path / "other", {"proof": -1.0})
    for name in ("weights.npz", "quality.json"):
        (folder / name).write_bytes((tmp_path / "other" / name).read_bytes())
    assert step.fingerprint() != before and drive(step, row_of("?", "proof")).scores != first


def test_by_the_name_of_a_step_and_in_a_run(tmp_path: Path) -> None:
    folder = made(tmp_path / "q", {"proof": 4.0})
    rows = [row_of("?", "proof"), row_of("?", "else")]
    result = api.apply(Quality(classifier=str(folder)), rows, out=tmp_path / "run")
    assert [round(row.scores["quality"], 3) for row in result.rows("quality")] == [0.982, 0.5]
    step = Quality(classifier="step:edu")
    assert step.needs() == ("edu",)
    with pytest.raises(UsageError, match="in a run that has made it"):
        drive(step, rows[0])
    models.give(step, {"step:edu": folder})
    assert drive(step, rows[0]).scores == result.rows("quality")[0].scores


def test_nothing_is_unpickled_and_what_is_no_classifier_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no folder"):
        drive(Quality(classifier=str(tmp_path / "none")), row_of("?", "a"))
    folder = made(tmp_path / "q", {"proof": 4.0})
    with (folder / "weights.npz").open("wb") as file:
        np.savez(file, columns=np.array([{"a": 1}], dtype=object), weights=np.zeros(1))
    with pytest.raises(InputError, match="holds no classifier"):
        load_classifier(folder)
    (folder / "quality.json").write_text(json.dumps({"form": 9}))
    with pytest.raises(InputError, match="has form 9"):
        drive(Quality(classifier=str(folder)), row_of("?", "a"))
