"""Test generation agreement: programs and tests that nobody vouches for, scored by how many agree."""

from __future__ import annotations

import pytest

from limbeck.core.row import Message, Row, new_row
from limbeck.score.agreement import Agreement

PLUS, SUM, MINUS = (
    "def add(a, b):\n    return a + b",
    "def add(*xs):\n    return sum(xs)",
    "def add(a, b):\n    return a - b",
)
GOOD = ["assert add(1, 2) == 3", "assert add(0, 5) == 5", "assert add(-1, 1) == 0"]
BAD = "assert add(2, 2) == 0"


def row(response: str, *, role: str = "", group: str = "g", **task: object) -> Row:
    turns = (Message(role="user", content="Add."), Message(role="assistant", content=response))
    made = new_row(messages=turns, group=group, task={"name": "add", **task}, made_by={"of": response, "role": role})
    return made.with_labels(role=role) if role else made


def python(*lines: str) -> str:
    return "```python\n" + "\n".join(lines) + "\n```"


def test_programs_that_pass_the_same_tests_support_each_other() -> None:
    rows = [
        row(python(PLUS)),
        row(python(SUM)),
        row(python(MINUS)),
        row(python(*GOOD), role="tests"),
        row(BAD, role="tests"),
    ]
    plus, total, minus, good, bad = Agreement().whole(rows)
    assert plus.scores == total.scores == {"agreement": pytest.approx(2 / 3 * 3 / 4), "tests_passed": 0.75}
    assert minus.scores == {"agreement": pytest.approx(1 / 3 * 1 / 4), "tests_passed": 0.25}
    assert good.scores["agreement"] == pytest.approx(0.5) and bad.scores["agreement"] == pytest.approx(1 / 12)
    assert [r.labels["agreement"] for r in (plus, good)] == ["program", "tests"]
    assert [r.id for r in (plus, total, minus, good, bad)] == [r.id for r in rows] and plus.dropped is None


def test_a_program_that_was_written_twice_counts_twice() -> None:
    rows = [row(python(PLUS)), row(f"Again: {python(PLUS)}"), row(python(MINUS)), row(GOOD[0], role="tests")]
    scored = Agreement().whole(rows)
    assert [round(r.scores["agreement"], 3) for r in scored] == [0.667, 0.667, 0.0, 0.667]


def test_groups_do_not_see_each_other() -> None:
    mine = [row(python(PLUS)), row(GOOD[0], role="tests")]
    others = [row(python(MINUS), group="h"), row(BAD, role="tests", group="h")]
    together = Agreement().whole([mine[0], others[0], mine[1], others[1]])
    apart = Agreement().whole(mine) + Agreement().whole(others)
    assert [together[i].scores for i in (0, 2, 1, 3)] == [r.scores for r in apart]
    assert Agreement().key(mine[0]) != Agreement().key(others[0])


def test_a_test_that_can_not_fail_or_run_is_left_out() -> None:
    silly = ["assert", "assert True", "assert add(1,", "print(add(1, 2))", "assert add(1, 2) == 3"]
    program, tests = Agreement().whole([row(python(PLUS)), row(python(*silly), role="tests")])
    assert program.scores == {"agreement": 1.0, "tests_passed": 1.0} and tests.scores["agreement"] == 1.0


def test_hostile_programs_pass_no_test() -> None:
    hostile = "import os\nclass Yes:\n    def __eq__(self, other): return True\ndef add(a, b):\n    return Yes()"
    leaver = "import os\ndef add(a, b):\n    os._exit(0)"
    rows = [row(python(hostile)), row(python(leaver)), row(python(PLUS)), row(python(*GOOD), role="tests")]
    assert [r.scores.get("tests_passed") for r in Agreement().whole(rows)] == [0.0, 0.0, 1.0, None]


def test_tests_may_stand_in_the_task_and_the_name_be_unsaid() -> None:
    turns = (Message(role="user", content="Add."), Message(role="assistant", content=python(PLUS)))
    (judged,) = Agreement().whole([new_row(messages=turns, task={"agreement_tests": [*GOOD, BAD]}, made_by={})])
    assert judged.scores == {"agreement": 0.75, "tests_passed": 0.75}


def test_without_programs_or_tests_there_is_no_score() -> None:
    for rows in ([row(python(PLUS))], [row(GOOD[0], role="tests")], [row("Nothing.")]):
        (judged,) = Agreement().whole(rows)
        assert judged.scores == {} and judged.labels["agreement"] == "nothing-to-compare"
    nothing, *_ = Agreement().whole([row("Nothing."), row(python(PLUS)), row(GOOD[0], role="tests")])
    assert nothing.scores == {"agreement": 0.0, "tests_passed": 0.0} and nothing.labels["agreement"] == "no-answer"


def test_validate() -> None:
    """Also all together: the examples are groups of their own."""
    examples = Agreement.validate()
    scored = Agreement().whole([example for example, _ in examples])
    assert [row.scores.get("agreement", 0.0) for row in scored] == [score for _, score in examples]
    assert {score for _, score in examples} == {0.0, 1.0}
