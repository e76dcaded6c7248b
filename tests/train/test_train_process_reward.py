"""The process reward model: where values are read, the loss by hand, what it learns, and best of N by steps."""

from __future__ import annotations

import json
import math
import random
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from test_train_preference import curve
from test_train_reward import assert_bit_equal
from tiny_students import WORDS, Here, copying, row_of

from limbeck.core.errors import InputError, UsageError
from limbeck.score._classifier_model import loaded
from limbeck.score.process import step_ends
from limbeck.score.process_reward import COMBINED, read_steps
from limbeck.score.process_reward import ProcessReward as Score
from limbeck.score.reward import Reward as ScoreReward
from limbeck.train._classifiers import load_classifier
from limbeck.train._valued_steps import document_of
from limbeck.train.process_reward import ProcessReward

FAST = {"student": "embedded:student", "updates": 100, "batch": 16, "learning_rate": 5e-3, "log_every": 5}
FINE = [word for word in WORDS if word != "grey"]


def solved(question: list[str], said: list[str]):
    """A response that says a word a line; a step is worth something as long as no step up to it said "grey"."""
    response = "\n".join(f"{place}. It is {word}." for place, word in enumerate(said, 1))
    right = [word != "grey" for word in said]
    values = [float(all(right[: place + 1])) for place in range(len(right))]
    row = row_of(("user", "Say " + " ".join(question) + "."), ("assistant", response), group=" ".join(question))
    return row.with_extra(process={"ends": step_ends(response), "values": values})


def responses(count: int, seed: int = 0, each: int = 1):
    """Responses of two or three steps, `each` of them to a question, three in ten steps wrong."""
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        question = [rng.choice(FINE) for _ in range(rng.randint(2, 3))]
        for _ in range(each):
            said = ["grey" if rng.random() < 0.3 else word for word in question]
            rows.append(solved(question, said))
    return rows


def test_it_learns_at_which_step_it_goes_wrong_and_picks_the_best_of_many(here) -> None:
    context = here("run")
    list(ProcessReward(**FAST | {"updates": 100}).make(responses(400), context))
    told = json.loads((context.folder / "train.json").read_text())["held_out"]
    assert told["steps"] >= 60 and told["accuracy"] >= 0.85 and told["brier"] < 0.12
    unseen = responses(30, seed=9, each=6)
    scored = Score(model=str(context.folder / "model"), combine="min").whole(unseen)
    best: dict[str, tuple[float, float]] = {}
    for row in scored:
        right = min(row.extra["process"]["values"])
        best[row.group] = max(best.get(row.group, (-1.0, 0.0)), (row.scores["process_reward"], right))
    chance = sum(min(row.extra["process"]["values"]) for row in unseen) / len(unseen)
    found = sum(right for _, right in best.values()) / len(best)
    assert found >= 0.8 and found > chance + 0.2, (found, chance)


def test_the_loss_is_the_cross_entropy_with_soft_values_where_the_scorer_reads(here) -> None:
    rows, context = responses(4), here("run")
    rows = [row.with_extra(process=row.extra["process"] | {"values": soft(row)}) for row in rows]
    given = {"updates": 1, "batch": 4, "log_every": 1, "learning_rate": 1e-12, "weight_decay": 0.0, "hold_out": 0.0}
    list(ProcessReward(**FAST | given).make(rows, context))
    expected, steps = 0.0, 0
    for row in Score(model=str(context.folder / "model"), batch=3).whole(rows):
        for p, v in zip(row.extra["process_reward"]["values"], row.extra["process"]["values"], strict=True):
            expected, steps = expected - v * math.log(p) - (1 - v) * math.log(1 - p), steps + 1
    assert curve(context.folder)[0]["loss"] == pytest.approx(expected / steps, rel=1e-4)


def soft(row) -> list[float]:
    return [round(0.9 / (place + 1), 3) for place in range(len(row.extra["process"]["values"]))]


def test_a_value_is_read_at_the_last_token_of_its_step_and_sees_nothing_behind_it(here) -> None:
    context, rows = here("run"), responses(8)
    list(ProcessReward(**FAST | {"updates": 3}).make(rows, context))
    row = next(r for r in rows if len(r.extra["process"]["ends"]) == 3)
    _, tokenizer = loaded(str(context.folder / "model"), "token")
    read = read_steps(tokenizer, row, row.extra["process"]["ends"])
    texts = [tokenizer.decode(read.ids[: place + 1], skip_special_tokens=True) for place in read.places]
    for end, text in zip(read.ends, texts, strict=True):
        assert text.rstrip("\n").endswith(row.response[:end].splitlines()[-1]) and text.rstrip().endswith(".")
    scorer = Score(model=str(context.folder / "model"))
    other = row.response[: read.ends[1]] + "\n3. It is something else altogether."
    changed = replace(row, messages=(*row.prompt, replace(row.messages[-1], content=other)))
    one, two = (r.extra["process_reward"]["values"] for r in scorer.whole([row, changed]))
    assert one[:2] == pytest.approx(two[:2], abs=1e-5) and one[2] != two[2]
    training = load_classifier(context.folder / "model", "token", seed=0)
    document = document_of(row, training, "process")
    assert [i - 1 for i, mark in enumerate(document.trained) if mark] == read.places


@pytest.mark.parametrize(("combine", "score"), [("min", 0.2), ("product", 0.08), ("last", 0.8), ("mean", 0.5)])
def test_values_become_one_score(combine: str, score: float) -> None:
    assert COMBINED[combine]([0.5, 0.2, 0.8]) == pytest.approx(score)


def test_rows_that_are_not_scored_and_models_that_are_not_meant(here) -> None:
    context, rows = here("run"), responses(6)
    list(ProcessReward(**FAST | {"updates": 1}).make(rows, context))
    model = str(context.folder / "model")
    bare = replace(rows[0], messages=rows[0].prompt)
    stale = rows[1].with_scores(process_reward=9.0, verified=1.0)
    none, scored, long = Score(model=model, max_tokens=70).whole(
        [bare, stale, row_of(("user", "a"), ("assistant", "red " * 90))]
    )
    assert "process_reward" not in none.scores and scored.scores["verified"] == 1.0
    assert 0 < scored.scores["process_reward"] < 1 and long.labels["process_reward"] == "too-long"
    with pytest.raises(UsageError, match=r"score\.process_reward those of steps"):
        ScoreReward(model=model).whole(rows)


def test_rows_without_usable_labels_are_dropped_or_refused(here) -> None:
    rows = responses(12)
    long = solved(["red"] * 12, ["red"] * 12)
    unlabelled = replace(copying(1)[0], id="unlabelled")
    out = list(ProcessReward(**FAST | {"updates": 1, "max_length": 60}).make([*rows, unlabelled, long], here("a")))
    assert [r.dropped for r in out[:-2]] == [None] * len(rows)
    assert "holds no values of steps" in out[-2].dropped and "over max_length 60" in out[-1].dropped
    for wrong in ({"values": [0.5, 0.5]}, {"values": [2.0]}, {"ends": [10**6]}, {"ends": []}):
        process = {"ends": [len(rows[0].response)], "values": [0.5]} | wrong
        with pytest.raises(InputError, match=r"ends|between 0 and 1"):
            list(ProcessReward(**FAST).make([rows[0].with_extra(process=process)], here("b")))


def killed(given: dict, context: Here):
    return ProcessReward(**given).make(responses(60), context)


def test_killed_and_run_again_is_bit_equal_to_uninterrupted(tmp_path: Path) -> None:
    assert_bit_equal(sys.modules[__name__], FAST, tmp_path, "model/model.safetensors")
