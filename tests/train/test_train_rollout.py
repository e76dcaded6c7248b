"""Rollouts: the decoder is the model, the draw is the distribution, and nothing but the arguments decides."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_students import make_model

from limbeck.train._compiled_decoder import Compiled
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
    assert is_plain(model) and isinstance(decoder_for(model, 2), Compiled)
    expected = []
    for prompt in PROMPTS:
        ids = torch.tensor([prompt])
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=20, eos_token_id=2, pad_token_id=0
        )
        expected.append(tuple(out[0, len(prompt) :].tolist()))
    for decoder in (Compiled(model, 2), Plain(model, 2), Own(model)):
        assert [r.tokens for r in write(model, decoder=decoder, rows=2)] == expected


@pytest.mark.parametrize("kind", [Plain, Compiled])
def test_decoders_give_the_logits_of_the_model_while_rows_come_and_go(kind):
    model = make_model(num_key_value_heads=1).eval()
    plain = kind(model, 4)
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
    made = [write(model, PROMPTS[:2], long, decoder=d) for d in (Compiled(model, 64), Plain(model, 64), Own(model))]
    assert max(len(r.tokens) for r in made[0]) > 150, "no text went over the first room"
    assert [r.tokens for r in made[0]] == [r.tokens for r in made[1]] == [r.tokens for r in made[2]]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 9))
def test_any_coming_and_going_leaves_each_row_with_its_own_text(seed, rows, turns):
    """Rows join, leave and change places at random; each has, all the time, the logits of its own text alone."""
    rng, model = np.random.default_rng(seed), make_model(vocab_size=40).eval()
    decoder, texts = Compiled(model, rows), []
    with torch.inference_mode():
        for _ in range(turns):
            joining = [[1, *rng.integers(3, 40, rng.integers(1, 9)).tolist()] for _ in range(rows - len(texts))]
            joining = joining[: rng.integers(0, len(joining) + 1)]
            if joining:
                decoder.admit(joining)
                texts += joining
            if not texts:
                continue
            tokens = rng.integers(3, 40, len(texts)).tolist()
            logits = decoder.step(torch.tensor(tokens))
            for text, token, got in zip(texts, tokens, logits, strict=True):
                text.append(token)
                assert torch.allclose(got, model(torch.tensor([text])).logits[0, -1], atol=1e-4)
            order = rng.permutation(len(texts))[: rng.integers(0, len(texts) + 1)].tolist()
            decoder.keep(order)
            texts = [texts[place] for place in order]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 300), st.floats(0.1, 4), st.sampled_from([0.1, 3.0, 40.0]))
def test_the_compiled_draw_is_the_other_one(seed, width, temperature, spread):
    """Same logits, same chances: the same tokens, but where a chance falls on an edge, and the same log-probabilities."""
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(0, spread, (50, width)).astype(np.float32))
    logits[rng.random(logits.shape) < 0.1] = -torch.inf
    logits[:, 0] = 0.0
    chances = torch.from_numpy(rng.random(50))
    decoder = Compiled(make_model(), 1)
    tokens, scores = decoder.draw(logits, chances, temperature)
    assert torch.allclose(scores, logits.log_softmax(-1).gather(1, tokens[:, None])[:, 0], atol=1e-5, rtol=1e-5)
    expected = draw(logits, chances, Sampling(temperature=temperature))
    bounds = (logits.double() / temperature).softmax(-1).cumsum(-1)
    for row in (tokens != expected).nonzero()[:, 0].tolist():
        assert (bounds[row] - chances[row]).abs().min() < 1e-5


def test_extreme_states_stay_finite():
    """Gates and scores of hundreds: the polynomial exponential neither overflows nor loses the largest."""
    model = make_model(initializer_range=1.0).eval()
    assert is_plain(model, Compiled)
    ids = [1, *range(5, 60)]
    with torch.inference_mode():
        got = Compiled(model, 1).admit([ids])[0]
        assert torch.allclose(got, model(torch.tensor([ids])).logits[0, -1], rtol=1e-3, atol=0.05)


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
