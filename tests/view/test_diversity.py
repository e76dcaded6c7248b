"""The diversity numbers on sets whose answer is known by hand."""

from __future__ import annotations

import pytest

from limbeck.view import diversity, numbers


def test_a_collapsed_set_and_a_varied_one() -> None:
    same = diversity.measure("same", ["We add 3 and 4."] * 10, ["g"] * 10)
    assert (same.rows, same.prompts, same.responses) == (10, 1, 1)
    assert same.openers == pytest.approx(1) and same.opener_share == 1
    varied = diversity.measure("varied", [f"{word} is the start" for word in "abcdefgh"])
    assert varied.openers == pytest.approx(8) and varied.opener_share == 1 / 8


def test_numbers_are_masked_in_templates() -> None:
    one = diversity.measure("x", ["3 + 4 = 7", "12 + 5 = 17", "1.5 + 2,000 = 2,001.5"])
    assert one.templates == pytest.approx(1) and one.responses == 3


def test_distinct_pairs_are_compared_over_equally_many_words() -> None:
    assert diversity.distinct_pairs(["a b a b a"], 4) == pytest.approx(2 / 4)
    assert diversity.distinct_pairs(["a b c", "d e f"], 4) == 1.0
    assert diversity.distinct_pairs(["a b"], 4) is None


def test_the_common_size_leaves_out_sets_that_are_too_small() -> None:
    big, small = ["w " * 3001], ["w w"]
    assert diversity.common_size([big, small]) == 3000
    assert diversity.common_size([small]) == 1


def test_every_length_is_in_a_bin() -> None:
    lengths = [0, 1, 5, 9, 400]
    edges = diversity.bins([lengths])
    assert sum(diversity.shares(lengths, edges)) == pytest.approx(1)
    assert diversity.bins([[]]) == [] and diversity.shares([], [0, 1]) == ()


def test_figures_are_written_for_people() -> None:
    assert numbers.count(6000) == "6,000" and numbers.count(None) == "–"
    assert numbers.points(-0.021) == "\u22122.1" and numbers.points(-0.0001) == "0.0"
    assert numbers.money(None) == "unknown" and numbers.money(0.0) == "$0" and numbers.money(0.0123) == "$0.0123"
    assert numbers.duration(4210) == "1 h 10 min" and numbers.duration(3.21) == "3.2 s"
    assert numbers.short(1_240_000) == "1.24\u202fM" and numbers.short(52_900) == "52.9\u202fk"
    assert numbers.listed(["a", "b", "c"]) == "a, b and c"
