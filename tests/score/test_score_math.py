"""The math verifier: labelled pairs, real model solutions, and properties on arbitrary text."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from math_pairs import PAIRS, RESPONSES

from limbeck.core.row import Message, Row, new_row
from limbeck.score.math import Math, equivalent, final_answer, reference_answer

NUMBERS = st.integers(-(10**12), 10**12)


def row(response: str, reference: object = "17", **labels: str) -> Row:
    turns = (Message(role="user", content="?"), Message(role="assistant", content=response))
    return new_row(messages=turns, task={"reference": reference}, labels=labels, made_by={"step": "test"})


@pytest.mark.parametrize(("prediction", "reference", "same"), PAIRS)
def test_labelled_pairs(prediction: str, reference: str, same: bool) -> None:
    assert equivalent(prediction, reference) is same
    assert equivalent(reference, prediction) is same, "the comparison must not depend on the order"


def test_there_are_enough_labelled_pairs() -> None:
    assert len(PAIRS) >= 100
    assert sum(1 for p in PAIRS if not p[2]) >= 60


@pytest.mark.parametrize(("response", "answer"), RESPONSES)
def test_final_answers(response: str, answer: str | None) -> None:
    assert final_answer(response) == answer


@pytest.mark.parametrize(
    ("response", "answer"),
    [("12 + 5 = 17.\nAnswer: 1", None), ("so it is \\boxed{17}", "17"), ("Answer: 17\nThis is", "17"), ("17", None)],
)
def test_a_cut_off_response_has_no_answer_at_its_end(response: str, answer: str | None) -> None:
    assert final_answer(response, truncated=True) == answer


def test_tolerance_is_relative() -> None:
    assert equivalent("0.333", "1/3", tolerance=0.01)
    assert not equivalent("0.0000001", "0.0000002", tolerance=0.01)
    assert not equivalent("0.333", "1/3")
    assert equivalent("17.999999999999996", "18", tolerance=1e-9)


def settled(answer: str) -> bool:
    """An answer is its own answer, at least in a box: `1 and 2` in a sentence is none."""
    return answer in (final_answer(answer), final_answer(f"\\boxed{{{answer}}}"))


@given(st.text(max_size=400))
def test_extraction_never_raises_and_is_idempotent(text: str) -> None:
    answer = final_answer(text)
    assert answer is None or settled(answer)


PIECES = st.sampled_from(
    [
        "\\boxed{",
        "}",
        "Answer: ",
        "The answer is ",
        "#### ",
        "A: ",
        "not ",
        "</think>",
        "<think>",
        "3",
        "4.5",
        " or ",
        "\n",
        ". ",
        "$",
        "\\frac{1}{2}",
        "x",
        "=",
        "(",
        ")",
        ",",
        "words here",
        "<answer>",
        "</answer>",
        "**",
        "-",
        "%",
    ]
)


@settings(max_examples=400)
@given(st.lists(PIECES, max_size=12).map("".join))
def test_extraction_is_idempotent_on_answers_of_every_shape(text: str) -> None:
    answer = final_answer(text)
    assert answer is None or settled(answer)


@settings(deadline=None)
@given(st.text(max_size=100), st.text(max_size=100))
def test_equivalence_never_raises_and_is_symmetric(left: str, right: str) -> None:
    assert equivalent(left, right) is equivalent(right, left)


@given(st.text(max_size=100))
def test_every_answer_equals_itself(text: str) -> None:
    assert equivalent(text, text) or not any(letter.isalnum() for letter in text)


@given(NUMBERS, st.integers(1, 10**6))
def test_spellings_of_a_fraction_agree(top: int, bottom: int) -> None:
    assert equivalent(f"{top}/{bottom}", f"\\frac{{{top}}}{{{bottom}}}")
    assert equivalent(f"{top * 7}/{bottom * 7}", f"{top}/{bottom}")
    assert not equivalent(f"{top}/{bottom}", f"{top + 1}/{bottom}")


@given(NUMBERS)
def test_spellings_of_an_integer_agree(number: int) -> None:
    for text in (f"{number:,}", f"${number}$", f"{number}.0", f"{number} apples", f"\\boxed{{{number}}}"):
        assert equivalent(text, str(number))
        assert not equivalent(text, str(number + 1))
    assert final_answer(f"Work.\nAnswer: {number:,}") == f"{number:,}"


@pytest.mark.parametrize(
    "text",
    [
        "answer is " * 9000,
        "\\boxed{" * 9000,
        "(" * 20000,
        "A: \n" * 5000,
        "1," * 20000,
        "$" * 20000,
        "<answer>" * 9000,
        "{" * 5000,
        "\\frac" * 5000,
        "9" * 50000,
        "Answer: " + "( . " * 9000,
        "Answer: " + ", " * 9000,
        "\\frac{" * 500 + "1" + "}" * 500,
        "1e" + "9" * 5000,
        "<<" * 9000,
    ],
)
def test_hostile_text_costs_little(text: str) -> None:
    begun = time.process_time()
    final_answer(text)
    equivalent(text[:1999], text[:1998] + "b")
    assert time.process_time() - begun < 1.0


def test_verdicts_and_scores() -> None:
    for response, verdict, score in (
        ("Answer: 17", "pass", 1.0),
        ("Answer: 18", "wrong", 0.0),
        ("I can not say what it is at all", "no-answer", 0.0),
    ):
        judged = Math().each(row(response))
        assert isinstance(judged, Row)
        assert judged.labels["verdict"] == verdict
        assert judged.scores == {"math": score, "verified": score}
        assert judged.dropped is None


@pytest.mark.parametrize("reference", [None, "", "  ", "It is hard to say.\nOne does not know."])
def test_an_unreadable_reference_is_not_a_wrong_row(reference: object) -> None:
    judged = Math().each(row("Answer: 17", reference).with_scores(math=1.0, verified=1.0))
    assert isinstance(judged, Row)
    assert judged.labels["verdict"] == "unreadable-reference"
    assert judged.scores == {}


def test_references_may_be_numbers_or_worked_solutions() -> None:
    assert reference_answer("12 + 5 = <<12+5=17>>17\n#### 17") == "17"
    assert reference_answer("She has 18.\nA: 5,600") == "5,600"
    judged = Math().each(row("Answer: 17", 17))
    assert isinstance(judged, Row) and judged.scores["verified"] == 1.0


def test_a_length_finish_is_taken_into_account() -> None:
    judged = Math().each(row("12 + 5 = 17.\nAnswer: 17", finish="length"))
    assert isinstance(judged, Row) and judged.labels["verdict"] == "no-answer"


def test_a_new_verdict_replaces_the_old_one() -> None:
    first = Math().each(row("Answer: 17"))
    assert isinstance(first, Row)
    again = Math().each(
        new_row(
            messages=(Message(role="user", content="?"),), task={"reference": "17"}, labels=first.labels, made_by={}
        )
    )
    assert isinstance(again, Row) and again.labels == {"verdict": "no-answer"}


@pytest.mark.real
def test_agrees_with_the_labels_of_real_solutions(corpora: Path) -> None:
    seen = agreed = 0
    for line in (corpora / "gsm8k" / "example_model_solutions.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        reference = reference_answer(record["ground_truth"])
        assert reference is not None
        for solution in (v for v in record.values() if isinstance(v, dict)):
            answer = final_answer(solution["solution"])
            seen += 1
            agreed += (answer is not None and equivalent(answer, reference)) == solution["is_correct"]
    assert seen == 5276
    assert agreed >= 0.995 * seen


@pytest.mark.real
def test_every_gold_solution_passes_and_none_passes_for_another_answer(corpora: Path) -> None:
    for line in (corpora / "gsm8k" / "test.jsonl").read_text(encoding="utf-8").splitlines():
        answer = json.loads(line)["answer"]
        reference = answer.rsplit("#### ", 1)[1]
        found = final_answer(answer)
        assert found is not None and equivalent(found, reference), answer
        assert not equivalent(found, str(int(reference.replace(",", "")) + 1))


def test_the_fast_path_is_fast() -> None:
    pairs = [("1,234", "1234"), ("17", "17"), ("18", "19"), ("0.5", "0.50"), ("-3", "3")] * 2000
    begun = time.process_time()
    for left, right in pairs:
        equivalent(left, right)
    assert len(pairs) / (time.process_time() - begun) > 20_000


def test_the_examples_of_the_module_hold() -> None:
    import doctest

    import limbeck.score.math

    result = doctest.testmod(limbeck.score.math)
    assert result.attempted >= 4 and result.failed == 0
