"""Hashed n-grams: the same vectors everywhere, lengths of 1, products that approximate cosines."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.core.ngrams import hashed, ngram_hashes, of_vectors, projected, words_of


def test_the_hashes_are_the_same_for_ever() -> None:
    longer = ngram_hashes(["the", "cat", "sat"]).tolist()
    assert ngram_hashes(["the", "cat"]).tolist() == [*longer[:2], longer[3]]
    assert ngram_hashes(["the"]).tolist() == [GOLDEN]
    assert len(ngram_hashes([])) == 0 and len(ngram_hashes(["a", "b"])) == 3


GOLDEN = 6376101248758873914


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=60), max_size=6))
def test_rows_have_length_one_or_are_empty(texts: list[str]) -> None:
    made = hashed(texts, 1 << 12)
    assert len(made) == len(texts)
    squares = np.add.reduceat(np.append(made.values**2, 0), made.begins[:-1]) if texts else np.zeros(0)
    for text, square, count in zip(texts, squares, np.diff(made.begins), strict=True):
        assert (count == 0) == (not words_of(text)) and (count == 0 or abs(square - 1) < 1e-9)
    dense = projected(texts, 64)
    assert dense.shape == (len(texts), 64) and (np.abs((dense**2).sum(axis=1) - 1) < 1e-5).sum() <= len(texts)


def test_products_of_rows() -> None:
    made = hashed(["a b c", "", "c d"], 512)
    weights = np.random.default_rng(0).normal(size=512)
    full = np.zeros((3, 512))
    for row in range(3):
        span = slice(made.begins[row], made.begins[row + 1])
        np.add.at(full[row], made.columns[span], made.values[span])
    assert np.allclose(made.dot(weights), full @ weights)
    assert np.allclose(made.back(np.array([1.0, 2.0, 3.0])), full.T @ [1.0, 2.0, 3.0])
    assert np.allclose(made.take([2, 0]).dot(weights), (full @ weights)[[2, 0]])
    assert np.allclose(of_vectors(np.array([[3.0, 4.0], [0.0, 0.0]])).dot(np.array([1.0, 1.0])), [1.4, 0.0])


def test_projections_approximate_the_cosines_of_n_grams() -> None:
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(400)]
    texts = [" ".join(rng.choice(words, 40)) for _ in range(20)]
    texts += [text + " and a little more" for text in texts]
    exact = hashed(texts, 1 << 22)
    table = np.zeros((40, 1 << 12))
    used = {column: place for place, column in enumerate(dict.fromkeys(exact.columns.tolist()))}
    for row in range(40):
        for at in range(exact.begins[row], exact.begins[row + 1]):
            table[row, used[int(exact.columns[at])]] += exact.values[at]
    made = projected(texts, 1024)
    assert np.abs(made @ made.T - table @ table.T).max() < 5 / np.sqrt(1024)
    assert (made[:20] * made[20:]).sum(axis=1).min() > 0.85
