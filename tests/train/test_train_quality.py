"""The quality classifier: the fit, calibration on known probabilities, planted quality, the files, the teacher."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driving import drive
from limbeck import Recipe, api
from limbeck.core.ask import Ask
from limbeck.core.classifier import load_classifier
from limbeck.core.errors import InputError, UsageError
from limbeck.core.find import find_step
from limbeck.core.ngrams import hashed
from limbeck.core.row import Message, Row, new_row
from limbeck.score.quality import Quality as Score
from limbeck.train._quality_card import wilson
from limbeck.train._quality_fit import auc, ece, fit, isotonic, logistic, platt
from limbeck.train.quality import Quality

TEACHING = [
    "because",
    "therefore",
    "which",
    "means",
    "first",
    "then",
    "so",
    "we",
    "divide",
    "both",
    "sides",
    "example",
    "shows",
    "why",
    "proof",
    "step",
    "follows",
]
SELLING = [
    "buy",
    "now",
    "click",
    "here",
    "offer",
    "best",
    "price",
    "subscribe",
    "limited",
    "deal",
    "free",
    "shipping",
    "order",
    "today",
    "sale",
    "win",
]
COMMON = ["the", "a", "of", "to", "and", "in", "is", "it", "this", "that", "for", "with", "on", "as"]


def text(kind: list[str], rng: random.Random) -> str:
    return " ".join(rng.choice(kind if rng.random() < 0.35 else COMMON) for _ in range(rng.randint(15, 60)))


def row_of(response: str, **made: object) -> Row:
    turns = (Message(role="user", content="Tell me."), Message(role="assistant", content=response))
    return new_row(messages=turns, made_by=made)


def planted(count: int, flipped: float, seed: int) -> tuple[list[Row], list[bool]]:
    """Return rows of two kinds, labelled in `grade`, a share of the labels turned round; and what they really are."""
    rng, rows, truth = random.Random(seed), [], []
    for index in range(count):
        good = rng.random() < 0.5
        label = good != (rng.random() < flipped)
        rows.append(
            row_of(text(TEACHING if good else SELLING, rng), index=index, seed=seed).with_scores(grade=float(label))
        )
        truth.append(good)
    return rows, truth


class Context:
    """What the step needs of the engine: a folder, and other steps by name, their asks answered by `judge`."""

    def __init__(self, folder: Path, judge: Any = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.seed, self._judge = folder, 0, judge

    def apply(self, step: str, rows: Sequence[Row], **fields: Any) -> list[Row]:
        return [drive(find_step(step)(**fields), row, self._judge) for row in rows]  # type: ignore[arg-type]


def trained(folder: Path, rows: list[Row], **fields: Any) -> list[Row]:
    return list(Quality(**{"score": "grade", **fields}).make(rows, Context(folder)))  # type: ignore[arg-type]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.1, 1.0, 30.0]))
def test_the_fit_is_the_minimum(seed: int, strength: float) -> None:
    rng = random.Random(seed)
    words = "abcdefghijkl"
    features = hashed([" ".join(rng.choices(words, k=6)) for _ in range(40)], 256)
    labels = np.array([float(rng.random() < 0.5) for _ in range(40)])
    weights, bias = fit(features, labels, strength)
    wrong = strength * (logistic(features.dot(weights) + bias) - labels)
    scale = max(1.0, strength * 40)
    assert np.abs(weights + features.back(wrong)).max() < 1e-3 * scale and abs(wrong.sum()) < 1e-3 * scale


def test_platt_finds_the_line_that_made_the_labels() -> None:
    rng = np.random.default_rng(0)
    margins = rng.normal(size=20_000)
    labels = (rng.random(20_000) < logistic(2.0 * margins - 0.5)).astype(float)
    slope, offset = platt(margins, labels)
    assert slope == pytest.approx(2.0, abs=0.1) and offset == pytest.approx(-0.5, abs=0.1)
    assert ece(logistic(margins), labels) > 0.05 > 0.02 > ece(logistic(slope * margins + offset), labels)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=1, max_size=40))
def test_isotonic_rises_and_keeps_the_mean(pairs: list[tuple[int, bool]]) -> None:
    margins = np.array([float(m) for m, _ in pairs])
    labels = np.array([float(y) for _, y in pairs])
    knots, heights = isotonic(margins, labels)
    assert knots == sorted(set(knots)) and heights == sorted(heights) and 0 <= heights[0] <= heights[-1] <= 1
    fitted = np.interp(margins, knots, heights)
    assert fitted.mean() == pytest.approx(labels.mean())
    # no constant and no step of the right kind fits better: squares of the block means are least
    assert ((fitted - labels) ** 2).sum() <= ((labels.mean() - labels) ** 2).sum() + 1e-9


def test_what_the_figures_mean() -> None:
    assert auc(np.array([0.1, 0.4, 0.4, 0.9]), np.array([0.0, 0.0, 1.0, 1.0])) == 0.875
    assert math.isnan(auc(np.array([0.1]), np.array([1.0])))
    assert ece(np.array([0.95, 0.95, 0.05, 0.05]), np.array([1.0, 1.0, 0.0, 1.0])) == pytest.approx(0.25)
    assert wilson(0, 0)["mean"] is None and wilson(50, 50)["high"] == 1.0 and (wilson(50, 50)["low"] or 0) > 0.9


def test_planted_quality_is_found_through_wrong_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, _ = planted(600, 0.15, seed=1)
    kept = trained(tmp_path / "q", rows, size=1 << 14)
    assert kept == rows
    fresh, truth = planted(400, 0.0, seed=2)
    step = Score(classifier=str(tmp_path / "q"))
    values = [drive(step, row).scores["quality"] for row in fresh]
    found = [value >= 0.5 for value in values]
    right = sum(f and t for f, t in zip(found, truth, strict=True))
    precision, recall = right / sum(found), right / sum(truth)
    held = json.loads((tmp_path / "q" / "quality.json").read_text())["card"]["held_out"]
    with capsys.disabled():
        print(
            f"\n  quality: precision {precision:.3f}  recall {recall:.3f}  ECE {held['ece']:.3f} at 15 % wrong labels",
            end="",
        )
    assert precision >= 0.95 and recall >= 0.95
    # of rows that are surely good, 85 % have the label: the classifier may not be surer than that
    assert held["ece"] < 0.12 and np.mean(sorted(values)[-100:]) < 0.95


def test_the_card_tells_what_was_learnt(tmp_path: Path) -> None:
    rows, _ = planted(300, 0.0, seed=3)
    trained(tmp_path / "q", rows, size=1 << 14)
    card = json.loads((tmp_path / "q" / "quality.json").read_text())["card"]
    held = card["held_out"]
    assert card["trained"]["rows"] + held["rows"] == 300 and held["auc"] > 0.99
    half = next(row for row in held["thresholds"] if row["threshold"] == 0.5)
    assert half["precision"]["low"] < half["precision"]["mean"] <= half["precision"]["high"] <= 1.0
    assert set(card["leans"]["good"][:5]) <= set(TEACHING) and set(card["leans"]["bad"][:5]) <= set(SELLING)
    page = (tmp_path / "q" / "card.md").read_text()
    assert "| 0.5 |" in page and "Wilson" in page and f"`{card['leans']['good'][0]}`" in page


def test_labels_that_mean_nothing_give_a_classifier_that_says_so(tmp_path: Path) -> None:
    rng = random.Random(0)
    rows = [row_of(text(COMMON, rng), i=i).with_scores(grade=float(rng.random() < 0.3)) for i in range(400)]
    trained(tmp_path / "q", rows, size=1 << 14)
    held = json.loads((tmp_path / "q" / "quality.json").read_text())["card"]["held_out"]
    assert 0.3 < held["auc"] < 0.7 and held["ece"] < 0.15


def test_prompts_are_never_on_both_sides(tmp_path: Path) -> None:
    rows, _ = planted(200, 0.0, seed=4)
    one = [
        new_row(messages=row.messages, made_by={"i": i}, group="same").with_scores(**row.scores)
        for i, row in enumerate(rows)
    ]
    with pytest.raises(UsageError, match="several prompts"):
        trained(tmp_path / "q", one)


@pytest.mark.parametrize("calibration", ["platt", "isotonic", "none"])
def test_calibrations_survive_the_disk(calibration: str, tmp_path: Path) -> None:
    rows, _ = planted(200, 0.1, seed=5)
    trained(tmp_path / "q", rows, size=1 << 12, calibration=calibration)
    assert sorted(f.name for f in (tmp_path / "q").iterdir()) == ["card.md", "quality.json", "weights.npz"]
    found = load_classifier(tmp_path / "q")
    values = found.probability(rows)
    assert found.calibration["kind"] == calibration and all(0 <= value <= 1 for value in values)
    trained(tmp_path / "again", rows, size=1 << 12, calibration=calibration)
    assert (tmp_path / "again" / "quality.json").read_bytes() == (tmp_path / "q" / "quality.json").read_bytes()
    assert load_classifier(tmp_path / "again").probability(rows) == values


def test_a_teacher_labels_a_sample(tmp_path: Path) -> None:
    rows, truth = planted(300, 0.0, seed=6)
    good = {row.id: kind for row, kind in zip(rows, truth, strict=True)}
    by_text = {row.response: good[row.id] for row in rows}
    asked: list[str] = []

    def judge(ask: Ask, sample: int) -> str:
        whole = " ".join(message.content for message in ask.messages)
        asked.append(whole)
        return json.dumps(
            {"reason": "So it is.", "rating": 5 if next(v for t, v in by_text.items() if t in whole) else 1}
        )

    step = Quality(teacher="some", sample=80, size=1 << 14)
    kept = list(step.make(rows, Context(tmp_path / "q", judge)))  # type: ignore[arg-type]
    assert len(asked) == len(kept) == 80 and all("student" in whole for whole in asked)
    assert all(row.scores["judge"] == float(good[row.id]) for row in kept)
    values = load_classifier(tmp_path / "q").probability(rows)
    assert sum((v >= 0.5) == t for v, t in zip(values, truth, strict=True)) / 300 > 0.9


def test_embeddings_instead_of_words(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for i in range(200):
        vector = rng.normal(size=8)
        rows.append(row_of(f"text {i}").with_extra(e=vector.tolist()).with_scores(grade=float(vector[2] > 0)))
    trained(tmp_path / "q", rows, vector="e")
    found = load_classifier(tmp_path / "q")
    assert len(found.weights) == 8 and int(np.argmax(found.weights)) == 2
    made = drive(Score(classifier=str(tmp_path / "q")), rows[0])
    assert (made.scores["quality"] > 0.5) == (rows[0].scores["grade"] == 1.0)
    with pytest.raises(InputError, match="no list of numbers"):
        found.probability([row_of("bare")])


def test_scoring_a_row_again_and_one_without_words(tmp_path: Path) -> None:
    rows, _ = planted(100, 0.0, seed=7)
    trained(tmp_path / "q", rows, size=1 << 12)
    step = Score(classifier=str(tmp_path / "q"))
    made = drive(step, rows[0].with_scores(quality=9.0))
    assert (
        0 <= made.scores["quality"] <= 1 and made.labels["quality"] == "scored" and made.scores["grade"] in (0.0, 1.0)
    )
    none = drive(step, row_of(" ").with_scores(quality=9.0))
    assert none.scores == {} and none.labels["quality"] == "no-text"
    before = step.fingerprint()
    (tmp_path / "q" / "weights.npz").write_bytes(b"else")
    assert step.fingerprint() != before
    with pytest.raises(InputError, match="holds no classifier"):
        drive(step, rows[0])


def test_in_a_run(tmp_path: Path) -> None:
    rows, _ = planted(120, 0.0, seed=8)
    result = api.apply(find_step("train.quality")(score="grade", size=1 << 12), rows, out=tmp_path / "run")
    folder = next(result.folder.glob("*-quality"))
    assert (folder / "card.md").is_file() and (folder / "done").is_file()
    assert {row.id for row in result.rows("quality")} == {row.id for row in rows}
    scored = api.apply(Score(classifier=str(folder)), rows, out=tmp_path / "scored")
    right = [(row.scores["quality"] >= 0.5) == (row.scores["grade"] == 1.0) for row in scored.rows("quality")]
    assert sum(right) / len(right) > 0.95


def test_too_few_labels_and_no_artefact(tmp_path: Path) -> None:
    rows, _ = planted(60, 0.0, seed=9)
    with pytest.raises(UsageError, match="at least 20 rows with the score 'other'"):
        trained(tmp_path / "q", rows, score="other")
    with pytest.raises(UsageError, match="5 of them good"):
        trained(tmp_path / "q", [row.with_scores(grade=1.0) for row in rows])
    with pytest.raises(UsageError, match="there is no folder"):
        drive(Score(classifier=str(tmp_path / "none")), rows[0])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "quality.json").write_text('{"form": 9}')
    with pytest.raises(InputError, match="has form 9"):
        drive(Score(classifier=str(tmp_path / "other")), rows[0])


def test_only_a_run_with_the_step_is_a_recipe() -> None:
    steps = [find_step("seeds.tasks")(count=30, solved=True), Score(classifier="step:edu")]
    with pytest.raises(UsageError, match="edu"):
        Recipe(steps=steps).resolved()
