"""The plan of updates and the layout of batches; and, on real models, that no document sees another."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_students import make_model

from limbeck.train.examples import Example
from limbeck.train.packing import collate, micro_batches, plan, rows_of


def document(name: str, length: int, prompt: int = 2, seed: int = 0) -> Example:
    ids = np.random.default_rng([seed, length]).integers(5, 400, length).tolist()
    return Example(name, tuple(ids), tuple(i >= prompt for i in range(length)))


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(1, 100), st.integers(0, 5))
def test_plan_of_whole_epochs_holds_every_document_once_each(lengths, batch_tokens, seed):
    made = plan(lengths, batch_tokens=batch_tokens, seed=seed, epochs=2)
    flat = [i for update in made for i in update]
    assert sorted(flat[: len(lengths)]) == sorted(flat[len(lengths) :]) == list(range(len(lengths)))
    assert all(len(u) == 1 or sum(lengths[i] for i in u) <= batch_tokens for u in made)
    assert made == plan(lengths, batch_tokens=batch_tokens, seed=seed, epochs=2)


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(1, 100), st.integers(1, 50))
def test_plan_of_so_many_updates_has_exactly_so_many(lengths, batch_tokens, updates):
    made = plan(lengths, batch_tokens=batch_tokens, seed=0, updates=updates)
    assert len(made) == updates and all(made)
    longer = plan(lengths, batch_tokens=batch_tokens, seed=0, updates=updates + 3)
    assert longer[:updates] == made, "more updates go on with the same order"


def test_seeds_and_epochs_differ():
    lengths = [1] * 50
    one = plan(lengths, batch_tokens=50, seed=0, epochs=2)
    assert one[0] != one[1] and one != plan(lengths, batch_tokens=50, seed=1, epochs=2)
    assert sum(map(len, plan(lengths, batch_tokens=10, seed=0, epochs=0.5))) == 25


@settings(deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=25), st.integers(0, 60))
def test_rows_hold_every_document_once_and_fit(lengths, width):
    rows = rows_of(lengths, width)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(len(row) == 1 or sum(lengths[i] for i in row) <= width for row in rows)


@given(st.lists(st.integers(2, 30), min_size=1, max_size=25), st.integers(0, 60), st.integers(1, 200))
@settings(max_examples=50, deadline=None)
def test_micro_batches_bound_the_tokens_and_lose_no_target(lengths, width, micro_tokens):
    documents = [document(str(i), length) for i, length in enumerate(lengths)]
    batches = micro_batches(documents, width=width, micro_tokens=micro_tokens)
    assert sorted(e.row for b in batches for row in b for e in row) == sorted(e.row for e in documents)
    wanted = sorted(t for e in documents for t, trained in zip(e.ids[1:], e.trained[1:], strict=True) if trained)
    tensors = [collate(b, pad=0) for b in batches]
    assert sorted(t for b in tensors for t in b.targets_T.tolist()) == wanted
    assert all(b.ids_BS.numel() <= micro_tokens or len(b.ids_BS) == 1 for b in tensors)


def test_golden_layout():
    a, b, c = (
        Example("a", (5, 6, 7), (False, True, True)),
        Example("b", (8, 9), (False, True)),
        Example("c", (10, 11, 12, 13), (False,) * 3 + (True,)),
    )
    batch = collate([[a, b], [c]], pad=0)
    assert batch.ids_BS.tolist() == [[5, 6, 7, 8, 9], [10, 11, 12, 13, 0]]
    assert batch.positions_BS.tolist() == [[0, 1, 2, 0, 1], [0, 1, 2, 3, 0]]
    assert batch.predicts_BS.int().tolist() == [[1, 1, 0, 1, 0], [0, 0, 1, 0, 0]]
    assert batch.targets_T.tolist() == [6, 7, 9, 13]
    sees = (batch.mask_B1SS[0, 0] == 0).int().tolist()
    assert sees == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 1, 1]]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_no_token_sees_another_document(attention):
    """Change any document of a packed row: nothing but itself changes; and each equals its output alone."""
    model = make_model(attn_implementation=attention).eval()
    documents = [document(str(i), length, seed=i) for i, length in enumerate((7, 5, 9))]

    def outputs(docs):
        batch = collate([docs], pad=0)
        with torch.no_grad():
            logits = model(
                input_ids=batch.ids_BS, attention_mask=batch.mask_B1SS, position_ids=batch.positions_BS, use_cache=False
            ).logits[0]
        return torch.split(logits, [len(d.ids) for d in docs])

    before = outputs(documents)
    for changed in range(3):
        others = [document(d.row, len(d.ids), seed=77) if i == changed else d for i, d in enumerate(documents)]
        after = outputs(others)
        for i in range(3):
            assert torch.equal(before[i], after[i]) == (i != changed)
    for document_, logits in zip(documents, before, strict=True):
        with torch.no_grad():
            alone = model(input_ids=torch.tensor([document_.ids])).logits[0]
        assert torch.allclose(alone, logits, atol=1e-5)


def test_padding_changes_nothing():
    model = make_model().eval()
    short, long = document("s", 6, seed=1), document("l", 20, seed=2)
    batch = collate([[short], [long]], pad=0)
    assert batch.mask_B1SS is None
    with torch.no_grad():
        padded = model(input_ids=batch.ids_BS).logits[0, :6]
        alone = model(input_ids=torch.tensor([short.ids])).logits[0]
    assert torch.allclose(padded, alone, atol=1e-5)
