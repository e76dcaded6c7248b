"""Laws of comparing answers, on text of every shape: no exception, symmetry, reflexivity, invariance, planted changes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from math_pairs import PAIRS

from limbeck.score.math import equivalent, final_answer

PIECES = st.sampled_from(
    [r"\frac{1}{2}", r"\frac", r"\sqrt{2}", r"\sqrt", "{", "}", "(", ")", "[", "]", r"\{", r"\}", ",", ";", "|", "x", "y", "i", "e",
     "2", "10", "3.5", "-", "+", "*", "/", "^", "_", "=", "<", ">", r"\le", r"\ne", r"\pm", r"\cup", r"\infty", r"\pi", r"\sin ",
     r"\ln", "!", "%", r"\%", "$", r"\$", r"\text{ or }", " and ", " cm", "^\\circ",
     r"\begin{pmatrix}", r"\end{pmatrix}", "&", r"\\",
     r"\in", " ", "\n", "f(x)", "**", "é", "²", "½", "∞", "x > 2", "(1, 2)", "[0, 1)", r"\left", r"\right", "0", "word"]
)  # fmt: skip
ODD = st.lists(PIECES, max_size=9).map("".join)


@settings(max_examples=150, deadline=None)
@given(ODD, ODD)
def test_any_two_texts_compare_in_both_directions(left: str, right: str) -> None:
    assert equivalent(left, right) is equivalent(right, left)


@settings(max_examples=400, deadline=None)
@given(ODD)
def test_a_text_with_something_in_it_equals_itself(text: str) -> None:
    plain = any(letter.isalnum() for letter in text.replace("\\text", "").replace("\\begin", "").replace("\\end", ""))
    if plain and "=" not in text and "$" not in text:
        assert equivalent(text, text) or not any(c.isalnum() for c in _visible(text))


def _visible(text: str) -> str:
    from limbeck.score._plain import spelling

    return spelling(text)


N = st.integers(2, 10**6)
TEMPLATES = [
    "{n}", "{n}.5", "{n}%", "${n}", "{n} cm", r"\frac{{{n}}}{{7}}", "{n}/11", "{n} 1/2", r"{n}\sqrt{{3}}", r"\sqrt{{{n}}}",
    r"{n}\pi", "{n}x", "x^2 + {n}", "x - {n}", "y = {n}x + 1", "x > {n}", "({n}, 3)", r"\{{{n}, -1\}}", r"[0, {n}]",
    r"(-\infty, {n})", "{n}e5", r"{n} \times 10^{{-30}}", r"\pm {n}", "x = {n} or x = -1", "{n}!/({n}-1)! + x",
    r"\begin{{pmatrix}} {n} \\ 1 \end{{pmatrix}}", r"\ln {n}", r"e^{{{n}/1000}}", r"\frac{{1}}{{{n}}}", "10^{{-{n}}}",
    "{n}^{{99}}", "{n}i + 1", "{n} dollars", r"{n}^\circ", r"\sin\frac{{1}}{{{n}}}", r"\log_2 {n}", "{n} hours", "{n} mph",
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(TEMPLATES), N, st.integers(1, 50))
def test_a_planted_change_of_a_number_is_never_accepted(template: str, number: int, change: int) -> None:
    right, wrong = template.format(n=number), template.format(n=number + change)
    assert equivalent(right, right)
    assert not equivalent(wrong, right) and not equivalent(right, wrong)


WRAPPINGS = [
    "${}$", r"\({}\)", r"\[ {} \]", r"\boxed{{{}}}", " {} ", r"\displaystyle {}", "{}.", "$ {} $", "$$ {} $$", r"$\boxed{{{}}}$",
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(TEMPLATES), N, st.sampled_from(WRAPPINGS))
def test_wrappings_change_nothing(template: str, number: int, wrapping: str) -> None:
    text = template.format(n=number)
    if "$" in text and "$" in wrapping:
        return  # money inside of mathematics is written with a backslash
    assert equivalent(wrapping.format(text), text)
    assert not equivalent(wrapping.format(template.format(n=number + 1)), text)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([t for t in TEMPLATES if " " in t]), N)
def test_spaces_between_signs_change_nothing(template: str, number: int) -> None:
    text = template.format(n=number)
    assert equivalent(text.replace(" ", "  "), text)
    if "+" in text or "=" in text or ">" in text:
        assert equivalent(text.replace(" + ", "+").replace(" = ", "=").replace(" > ", ">"), text)


@given(st.integers(1000, 10**15))
def test_thousands_separators_change_nothing(number: int) -> None:
    for text in (
        f"{number:,}",
        f"{number:,}".replace(",", "{,}"),
        f"{number:,}".replace(",", r",\!"),
        f"{number:,}".replace(",", " "),
    ):
        assert equivalent(text, str(number))
        assert not equivalent(text, str(number + 1)) and not equivalent(text, str(number * 10))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([t for t in TEMPLATES if "dollars" not in t]), N)
def test_what_stands_in_the_one_box_is_found(template: str, number: int) -> None:
    text = template.format(n=number)
    found = final_answer(f"<think>Perhaps \\boxed{{0}}.</think>\nSo it is $\\boxed{{{text}}}$.")
    assert found is not None and equivalent(found, text)
    assert final_answer(f"It is \\boxed{{{text}}}, or \\boxed{{{template.format(n=number + 1)}}}.") is None


@pytest.mark.parametrize("response", [
    "So x must be > 5.", r"So the area is 25\pi.", "So the length is √5.", "So x = ±3.",
    r"So $x \ge 5$ or so.", "Hence it is 10^5 - 1.",
])  # fmt: skip
def test_a_number_inside_of_something_else_is_not_the_answer(response: str) -> None:
    found = final_answer(response)
    assert found is None or not any(equivalent(found, number) for number in ("5", "25", "3", "10", "1"))


def test_eight_threads_say_the_same_as_one() -> None:
    pairs = [p[:2] for p in PAIRS]
    alone = [equivalent(*pair) for pair in pairs]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            assert list(pool.map(lambda pair: equivalent(*pair), pairs)) == alone
