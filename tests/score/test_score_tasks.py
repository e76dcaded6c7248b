"""Problems of reasoning-gym: the full mark or none, after a trip through JSON, and only of trusted tasks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from limbeck.core.row import Message, Row, new_row
from limbeck.score.tasks import ALLOWED, Tasks, candidates

reasoning_gym = pytest.importorskip("reasoning_gym", reason="SKIPPED: reasoning-gym is not installed.")


def judge(response: str, entry: dict[str, Any]) -> Row:
    turns = (Message(role="user", content=entry["question"]), Message(role="assistant", content=response))
    extra = {"answer": entry["answer"], "metadata": entry["metadata"]}
    judged = Tasks().each(new_row(messages=turns, extra=extra, made_by={}))
    assert isinstance(judged, Row)
    return judged


def test_gold_and_planted_errors() -> None:
    for row, score in Tasks.validate():
        judged = Tasks().each(row)
        assert isinstance(judged, Row) and judged.scores == {"tasks": score, "verified": score}, (
            row.response,
            judged.labels,
        )


@pytest.mark.parametrize("name", sorted(ALLOWED))
def test_every_allowed_task_knows_its_own_answers_and_no_others(name: str) -> None:
    made = reasoning_gym.create_dataset(name, size=15, seed=3)
    entries = [json.loads(json.dumps(made[at], default=str)) for at in range(15)]
    assert [e["question"] for e in entries] == [
        reasoning_gym.create_dataset(name, size=15, seed=3)[at]["question"] for at in range(15)
    ]
    for entry, other in zip(entries, [*entries[1:], entries[0]], strict=True):
        assert judge(entry["answer"], entry).scores["verified"] == 1.0, entry["answer"]
        assert judge(f"  {entry['answer']} \n", entry).scores["verified"] == 1.0
        assert judge(f"<answer>{entry['answer']}</answer>", entry).scores["verified"] == 1.0
        if other["answer"] != entry["answer"]:
            assert judge(other["answer"], entry).scores["verified"] == 0.0, (other["answer"], entry["answer"])
        for wrong in (f"{entry['answer']} or 7", f"x{entry['answer']}", "", "I can not say.", "[" * 5000):
            assert judge(wrong, entry).scores["verified"] == 0.0, wrong


@pytest.mark.parametrize(
    "name", ["game_of_life_halting", "time_intervals", "bitwise_arithmetic", "prime_factorization", "no_such_task"]
)
def test_other_tasks_are_not_scored(name: str) -> None:
    judged = judge("7", {"question": "?", "answer": "7", "metadata": {"source_dataset": name}})
    assert (
        judged.labels["verdict"] == "unreadable-reference" and judged.scores == {} and name in judged.labels["detail"]
    )


@pytest.mark.parametrize(
    "extra",
    [{}, {"answer": "7"}, {"answer": 7, "metadata": {"source_dataset": "gcd"}}, {"answer": "7", "metadata": "gcd"}],
)
def test_what_is_no_entry(extra: dict[str, Any]) -> None:
    turns = (Message(role="user", content="?"), Message(role="assistant", content="7"))
    judged = Tasks().each(new_row(messages=turns, extra=extra, made_by={}))
    assert isinstance(judged, Row) and judged.labels["verdict"] == "unreadable-reference" and judged.scores == {}


def test_several_answers_are_none() -> None:
    assert candidates("<answer>1</answer> no, <answer>2</answer>") == []
    assert candidates("The answer is 3.\nThe answer is 4.") == []
    assert candidates("<think>9") == []
