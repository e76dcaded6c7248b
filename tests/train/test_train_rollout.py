"""Rollouts: the decoder is the model, the draw is the distribution, and nothing but the arguments decides."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_students import make_model

from limbeck.train._decoder import Own, Plain, decoder_for, is_plain
from limbeck.train._rollout import Sampling, draw, rollouts

PROMPTS = [[1, 5, 9, 30], [1, 7], [1, *range(40, 60)], [1, 3, 3, 8, 90, 17], [1, 44]]
GREEDY = Sampling(temperature=0.0, max_tokens=20)


def write(model, prompts=PROMPTS, sampling=GREEDY, *, seeds=None, **given):
    seeds = seeds or [[0, i] for i in range(len(prompts))]
    return rollouts(model, prompts, sampling=sampling, stops={2}, seeds=seeds, **given)


@pytest.mark.parametrize(
    "changes",
    [{}, {"num_key_value_heads": 1}, {"attention_bias": True}, {"head_dim": 24}, {"tie_word_embeddings": False}],
)
def test_greedy_rollouts_are_those_of_generate(changes):
    """With grouped heads, biases, other widths; prompts of different lengths, fewer rows than prompts."""
    model = make_model(**changes).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "norm" in name:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    assert is_plain(model)
    expected = []
    for prompt in PROMPTS:
        ids = torch.tensor([prompt])
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=20, eos_token_id=2, pad_token_id=0
        )
        expected.append(tuple(out[0, len(prompt) :].tolist()))
    for decoder in (Plain(model, 2), Own(model)):
        assert [r.tokens for r in write(model, decoder=decoder, rows=2)] == expected


def test_both_decoders_give_the_logits_of_the_model_while_rows_come_and_go():
    model = make_model(num_key_value_heads=1).eval()
    plain = Plain(model, 4)
    texts = [[1, 5, 9, 30], [1, 7], [1, 8, 8]]
    with torch.inference_mode():
        plain.admit(texts[:2])
        texts[0].append(11), texts[1].append(12)
        plain.step(torch.tensor([11, 12]))
        plain.keep([1])
        got = [plain.admit([texts[2]])]
        texts[1].append(13), texts[2].append(14)
        got = plain.step(torch.tensor([13, 14]))
        for row, text in enumerate(texts[1:]):
            assert torch.allclose(got[row], model(torch.tensor([text])).logits[0, -1], atol=1e-4)


def test_the_room_grows_with_the_text():
    model = make_model().eval()
    long = Sampling(temperature=1.0, max_tokens=230)
    a, b = (write(model, PROMPTS[:2], long, decoder=d) for d in (Plain(model, 64), Own(model)))
    assert max(len(r.tokens) for r in a) > 150, "no text went over the first room"
    assert [r.tokens for r in a] == [r.tokens for r in b]


def test_models_of_another_make_are_left_to_their_own_forward():
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=400, n_positions=64, n_embd=32, n_layer=2, n_head=2)).eval()
    assert isinstance(decoder_for(gpt2, 4), Own)
    ids = torch.tensor([PROMPTS[0]])
    expected = gpt2.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=20, pad_token_id=0
    )
    assert write(gpt2, rows=4)[0].tokens == tuple(expected[0, 4:].tolist())
    scaled = make_model()
    scaled.model.layers[0].self_attn.scaling *= 2  # looks plain, and is not
    assert not is_plain(scaled)


def test_a_rollout_does_not_depend_on_who_shares_its_batch():
    model, warm = make_model(), Sampling(temperature=1.0, max_tokens=30)
    seeds = [[3, i] for i in range(5)]
    together = write(model, sampling=warm, seeds=seeds)
    assert [r.tokens for r in write(model, sampling=warm, seeds=seeds, rows=2)] == [r.tokens for r in together]
    alone = [write(model, [p], warm, seeds=[s])[0].tokens for p, s in zip(PROMPTS, seeds, strict=True)]
    assert alone == [r.tokens for r in together]
    assert write(model, sampling=warm, seeds=[[4, i] for i in range(5)]) != together


def test_generation_config_and_the_model_s_mode_are_left_alone():
    model, warm = make_model(attention_dropout=0.5), Sampling(max_tokens=30)
    before = write(model, sampling=warm)
    model.generation_config.update(top_p=0.01, top_k=1, temperature=0.01, do_sample=False, max_new_tokens=2)
    assert model.training and write(model, sampling=warm) == before
    assert max(len(r.tokens) for r in before) > 2


def test_ends_limits_and_logprobs():
    model = make_model()
    out = write(model, sampling=Sampling(max_tokens=40), context=24)
    assert out[2].tokens and all(len(p) + len(r.tokens) <= 24 for p, r in zip(PROMPTS, out, strict=True))
    assert write(model, [[1] * 24], context=24)[0].tokens == ()
    for prompt, rollout in zip(
        PROMPTS, write(model, sampling=Sampling(max_tokens=12, temperature=2.0, top_k=50)), strict=True
    ):
        assert rollout.finished == (rollout.tokens[-1] == 2) and 2 not in rollout.tokens[:-1]
        with torch.no_grad():
            scores = model.eval()(torch.tensor([[*prompt, *rollout.tokens]])).logits[0].log_softmax(-1)
        own = [scores[len(prompt) - 1 + i, t].item() for i, t in enumerate(rollout.tokens)]
        assert rollout.logprobs == pytest.approx(own, abs=1e-4)  # at temperature 1, whatever was sampled at
    every = rollouts(model, PROMPTS, sampling=GREEDY, stops=set(range(400)), seeds=[[i] for i in range(5)])
    assert all(r.finished and len(r.tokens) == 1 for r in every)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(-32, 32).map(lambda n: n / 4), min_size=2, max_size=12),
    st.floats(0.2, 3),
    st.floats(0.05, 1),
    st.integers(0, 12),
)
def test_the_draw_is_the_distribution(logits, temperature, top_p, top_k):
    """An even sweep of the line from 0 to 1 gives each token its share: temperature, then top_k, then top_p."""
    sweep = (np.arange(4000) + 0.5) / 4000
    rows = torch.tensor(logits, dtype=torch.float32).repeat(4000, 1)
    drawn = draw(rows, torch.tensor(sweep), Sampling(temperature=temperature, top_p=top_p, top_k=top_k)).numpy()
    counts = np.bincount(drawn, minlength=len(logits)) / 4000
    mass = np.exp((np.float64(logits) - max(logits)) / temperature)
    if 0 < top_k < len(logits):
        mass[mass < np.sort(mass)[-top_k] * (1 - 1e-6)] = 0
    share = mass / mass.sum()
    order = np.argsort(-share, kind="stable")
    likelier = np.cumsum(share[order]) - share[order]
    if np.abs(likelier - top_p).min() < 1e-5:
        return  # on the edge, rounding decides
    share[order[likelier >= top_p]] = 0
    if top_p == 1:
        share = mass / mass.sum()
    assert np.abs(counts - share / share.sum()).max() < 1.1e-3


def test_greedy_takes_the_likeliest():
    assert draw(torch.tensor([[0.0, 2.0, 1.0]]), torch.tensor([0.99]), Sampling(temperature=0.0)).tolist() == [1]
