"""All verifiers on their own gold data and planted errors, and on the gold responses of the task families."""

from __future__ import annotations

import itertools

import pytest

from driving import drive
from limbeck.core.find import find_step
from limbeck.core.row import Message, Row, new_row
from limbeck.seeds.families import families, problems

VERIFIERS = ("math", "exact", "program", "tools")


def judge(kind: str, row: Row) -> Row:
    judged = drive(find_step(f"score.{kind}")(), row)  # type: ignore[arg-type]
    assert isinstance(judged, Row)
    return judged


@pytest.mark.parametrize("kind", VERIFIERS)
def test_gold_scores_one_and_planted_errors_score_zero(kind: str) -> None:
    examples = find_step(f"score.{kind}").validate()  # type: ignore[attr-defined]
    assert {score for _, score in examples} == {0.0, 1.0}
    for row, score in examples:
        judged = judge(kind, row)
        assert judged.scores == {kind: score, "verified": score}, row.response
        assert (judged.labels["verdict"] == "pass") == (score == 1.0)


@pytest.mark.parametrize("family", families())
def test_family_gold_passes_and_anothers_gold_does_not(family: str) -> None:
    made = list(problems(family, count=60, seed=5))
    for problem, other in itertools.pairwise(made):
        kind = problem.task["kind"]
        assert judge(kind, _row(problem.prompt, problem.response, problem.task)).scores["verified"] == 1.0
        if problem.answer != other.answer:
            crossed = judge(kind, _row(problem.prompt, other.response, problem.task))
            assert crossed.scores["verified"] == 0.0 or kind == "program"  # another program may do the same


@pytest.mark.parametrize("kind", VERIFIERS)
@pytest.mark.parametrize(
    "response",
    ["", "\x00", "{" * 3000, "[" * 100_000, "def f(:", "```", "é\ud800", "def f(xs):\n    return xs" + "[0]" * 900],
)
def test_odd_responses_never_raise_and_never_pass(kind: str, response: str) -> None:
    gold = find_step(f"score.{kind}").validate()[0][0]  # type: ignore[attr-defined]
    judged = judge(kind, _row("?", response, dict(gold.task)))
    assert judged.scores["verified"] == 0.0


@pytest.mark.parametrize("kind", VERIFIERS)
def test_without_a_reference_there_is_no_score(kind: str) -> None:
    judged = judge(kind, _row("?", "Answer: 17", {}))
    assert judged.labels["verdict"] == "unreadable-reference"
    assert judged.scores == {}


@pytest.mark.parametrize("kind", VERIFIERS)
def test_a_row_without_a_response_has_no_answer(kind: str) -> None:
    gold = find_step(f"score.{kind}").validate()[0][0]  # type: ignore[attr-defined]
    bare = new_row(messages=gold.prompt, task=gold.task, made_by={})
    assert judge(kind, bare).labels["verdict"] == "no-answer"


def _row(prompt: str, response: str, task: dict[str, object]) -> Row:
    turns = (Message(role="user", content=prompt), Message(role="assistant", content=response))
    return new_row(messages=turns, task=task, made_by={"step": "test"})
