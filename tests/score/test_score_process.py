"""The step verifier: arithmetic computed again, and Monte-Carlo labels of steps with the verifier asked by name."""

from __future__ import annotations

import json
import random
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import limbeck
from driving import drive
from limbeck.core.ask import Ask
from limbeck.core.row import Message, Row, new_row
from limbeck.score._process_arithmetic import equations
from limbeck.score.process import Process, step_ends

RIGHT = "1. Start with 12: 12.\n2. Add 5: 12 + 5 = 17.\n3. Double: 17 * 2 = 34.\nAnswer: 34"


def row(response: str, **task: Any) -> Row:
    turns = (Message(role="user", content="Start with 12. Add 5. Double."), Message(role="assistant", content=response))
    return new_row(messages=turns, task={"kind": "math", "reference": "34", **task}, made_by={})


def test_gold_and_planted_errors() -> None:
    for example, score in Process.validate():
        assert drive(Process(), example).scores == {"process": score}, example.response


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("12 + 5 = 17.", [True]),
        ("12 + 5 = 18.", [False]),
        ("so 3 x 4 = 12, and 12 / 4 = 3", [True, True]),
        ("2 + 3 = 5 = 6", [True]),  # 5 = 6 computes nothing
        ("2 + 3 = 4 + 1 = 6", [True, False]),
        ("$1,000 - $1 = $999", [True]),
        ("2 * (3 + 4) = 14; 2(3+4)=15", [True, False]),
        ("-3 + 5 = 2", [True]),
        ("2^10 = 1024, 2**3 = 9", [True, False]),
        (r"\frac{1}{2} \times 6 = 3", [True]),
        (r"\frac{1}{2} \cdot 6 = 4", [False]),
        ("10 / 3 = 3.33", [True]),
        ("10 / 3 = 3.34", [False]),
        ("10 / 3 = 3", [False]),
        ("10 / 3 ≈ 3", [True]),
        ("20% of 50 = 10", [True]),
        ("20% * 50 = 11", [False]),
        ("12/48 = 25%", [True]),
        ("<<48/2=24>>24 and <<48/2=25>>25", [True, False]),
        ("12 apples + 5 apples = 17 apples", [True]),
        ("3 hours * 60 minutes/hour = 180 minutes", [True]),
        ("**12 + 5 = 17**", [True]),
        ("0.1 + 0.2 = 0.3", [True]),
        ("5 feet * 12 inches = 61", [False]),
        # nothing to check, and so never wrong
        ("2 hours + 30 minutes = 150 minutes", []),
        ("2 * 50 cents = $1", []),
        ("x = 5, 2x + 3 = 7, 10N = 6N + 48", []),
        ("2 + 1 1/2 = 3 1/2", []),
        ("Area of 4 rooms = 11 * 11", []),
        ("6:00 + 18 = 24", []),
        ("a + b = c", []),
        ("1 / 0 = 1", []),
        ("9^999999999 = 1", []),
        ("9" * 100 + " + 1 = 2", []),
        ("(" * 500 + "1" + ")" * 500 + " + 1 = 2", []),
        ("17", []),
    ],
)
def test_equations(text: str, holds: list[bool]) -> None:
    assert [found.holds for found in equations(text)] == holds, equations(text)


@given(st.integers(-999, 9999), st.integers(0, 9999), st.sampled_from("+-*"), st.integers(-3, 3))
def test_sums_and_products_of_whole_numbers(left: int, right: int, sign: str, off: int) -> None:
    value = {"+": left + right, "-": left - right, "*": left * right}[sign]
    assert [e.holds for e in equations(f"So: {left} {sign} {right} = {value + off}.")] == [off == 0]


@given(st.integers(1, 10**6), st.integers(1, 999), st.integers(1, 6))
def test_a_quotient_may_be_rounded_to_the_places_it_shows(left: int, right: int, places: int) -> None:
    scaled = round(Fraction(left, right) * 10**places)
    shown = f"{scaled // 10**places}.{scaled % 10**places:0{places}d}"
    wrong = f"{(scaled + 2) // 10**places}.{(scaled + 2) % 10**places:0{places}d}"
    assert [e.holds for e in equations(f"{left} / {right} = {shown}\n{left} / {right} = {wrong}")] == [True, False]


@given(st.text(alphabet="0123456789+-*/()=.,%$x ^<>abc\\{}\n", max_size=80))
def test_no_text_makes_the_parser_raise(text: str) -> None:
    assert all(isinstance(found.holds, bool) for found in equations(text))


def test_real_solutions_are_hardly_ever_called_wrong_and_planted_slips_mostly_are(corpora: Path) -> None:
    draw, seen, called, caught, planted = random.Random(7), 0, 0, 0, 0
    for line in (corpora / "gsm8k" / "test.jsonl").read_text(encoding="utf-8").splitlines():
        text = re.sub(r"<<.*?>>", "", json.loads(line)["answer"])
        found = equations(text)
        seen, called = seen + len(found), called + sum(not one.holds for one in found)
        results = list(re.finditer(r"[-+*/]\s*\$?[\d.,]+\s*=\s*\$?(\d+)(?![\d.,]*\d)", text))
        if results:
            at = draw.choice(results)
            slipped = text[: at.start(1)] + str(int(at[1]) + draw.choice((1, 2, 10))) + text[at.end(1) :]
            planted, caught = planted + 1, caught + any(not one.holds for one in equations(slipped))
    assert seen > 3000 and called / seen < 0.006  # what is called wrong includes the slips of the data set itself
    assert planted > 1000 and caught / planted > 0.85


@pytest.mark.parametrize(
    ("response", "steps"),
    [
        (RIGHT, ["1. Start with 12: 12.", "2. Add 5: 12 + 5 = 17.", "3. Double: 17 * 2 = 34.", "Answer: 34"]),
        ("Step 1: a\nmore\nStep 2: b", ["Step 1: a\nmore", "Step 2: b"]),
        ("a\nb\n\nc\n", ["a\nb", "c"]),
        ("a\nb\n", ["a", "b"]),
        ("a", ["a"]),
        ("", []),
        (" \n", []),
    ],
)
def test_steps(response: str, steps: list[str]) -> None:
    ends = step_ends(response)
    assert [response[a:b].strip() for a, b in zip([0, *ends], ends, strict=False)] == steps


@given(st.text(alphabet="1. a\n=Step", max_size=60))
def test_steps_are_prefixes_in_order(text: str) -> None:
    ends = step_ends(text)
    assert ends == sorted(set(ends)) and (not ends or not text[ends[-1] :].strip())


def test_the_first_error_is_told() -> None:
    judged = drive(Process(), row(RIGHT.replace("17 * 2 = 34", "17 * 2 = 35")))
    assert judged.extra["process"] == {
        "steps": 4,
        "ends": step_ends(judged.response),
        "arithmetic": [None, 1.0, 0.0, None],
        "first_error": 3,
    }
    assert judged.scores == {"process": 0.0}


def test_nothing_to_check_is_no_score() -> None:
    judged = drive(Process(), row("I would say thirty-four."))
    assert judged.scores == {} and judged.labels["process"] == "nothing-to-check"
    assert drive(Process(), row("")).labels["process"] == "no-response"


def completer(right: dict[int, int]) -> Any:
    """Complete to the right answer so many times in eight, by the number of lines begun."""

    def answer(ask: Ask, sample: int) -> str:
        begun = ask.messages[-1].content.rpartition("\n\n")[2].count("\n") + 1
        return "Answer: 34" if sample < right[begun] else "Answer: 35"

    return answer


def test_soft_labels_are_shares_and_hard_labels_are_any() -> None:
    teacher = completer({1: 6, 2: 8, 3: 1})
    soft = drive(Process(teacher="t"), row(RIGHT), teacher)
    assert soft.extra["process"]["values"] == [0.75, 1.0, 0.125, 1.0] and soft.scores == {"process": 0.125}
    hard = drive(Process(teacher="t", labels="hard"), row(RIGHT), teacher)
    assert hard.extra["process"]["values"] == [1.0, 1.0, 1.0, 1.0] and hard.scores["process"] == 1.0
    product = drive(Process(teacher="t", combine="product"), row(RIGHT), teacher)
    assert product.scores["process"] == pytest.approx(0.75 * 0.125)
    wrong = drive(Process(teacher="t", combine="last"), row(RIGHT.replace("34", "35")), teacher)
    assert wrong.scores["process"] == 0.0 and wrong.extra["process"]["first_error"] == 3


def test_the_last_step_is_verified_and_not_continued() -> None:
    asked: list[Ask] = []

    def answer(ask: Ask, sample: int) -> str:
        asked.append(ask)
        return "Answer: 34"

    drive(Process(teacher="t", completions=2), row(RIGHT), answer)
    assert len(asked) == 2 * 3 and all("Answer: 34" not in ask.messages[-1].content for ask in asked)
    assert asked[0].messages[-1].content.startswith("Start with 12. Add 5. Double.")


def test_a_beginning_can_be_given_as_the_servers_own_turn() -> None:
    def answer(ask: Ask, sample: int) -> str:
        assert ask.messages[-1].role == "assistant" and RIGHT.startswith(ask.messages[-1].content)
        return RIGHT.removeprefix(ask.messages[-1].content)

    judged = drive(Process(teacher="t", prefix="begun"), row(RIGHT), answer)
    assert judged.extra["process"]["values"] == [1.0] * 4


def test_without_a_reference_steps_have_no_value() -> None:
    bare = new_row(messages=row(RIGHT).messages, task={"kind": "math"}, made_by={})
    judged = drive(Process(teacher="t"), bare, lambda ask, sample: "Answer: 34")
    assert judged.labels["process"] == "unverifiable" and judged.scores == {}


def test_another_verifier_by_name() -> None:
    judged = drive(Process(teacher="t", verifier="score.exact"), row("a\n35"), lambda ask, sample: "34")
    assert judged.extra["process"]["values"] == [1.0, 0.0]


def test_the_embedded_teacher_finds_the_wrong_step(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers", reason="SKIPPED: the embedded teacher needs the train extra.")
    question = "Start with 12. Add 5. Double it. What is the result?"
    rows = []
    for result in (17, 19):
        text = f"1. Start with 12: 12.\n2. Add 5: 12 + 5 = {result}.\n3. Double it: 17 * 2 = 34.\nAnswer: 34"
        turns = (Message(role="user", content=question), Message(role="assistant", content=text))
        rows.append(new_row(messages=turns, task={"kind": "math", "reference": "34"}, made_by={}))
    step = Process(teacher="embedded", prefix="begun", completions=4)
    right, wrong = limbeck.apply(step, rows, out=tmp_path / "run").rows("process")
    assert right.extra["process"]["values"][1] >= 0.75 and right.scores["process"] >= 0.5
    assert wrong.extra["process"]["values"][1] <= 0.25 and wrong.extra["process"]["first_error"] == 2
    assert wrong.extra["process"]["values"][-1] == 1.0  # the right answer after a wrong step
