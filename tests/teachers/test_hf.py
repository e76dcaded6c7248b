"""Local models: the same arithmetic as transformers, and answers that depend on nothing but the request."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from limbeck.core.ask import Ask, Reply, Teacher
from limbeck.core.errors import EndpointError, RefusedError, UsageError
from limbeck.core.row import Message
from limbeck.seeds.families import families, problems
from limbeck.teachers._decode import Decoder, Job, Outcome, chances, draw
from limbeck.teachers._llama import Llama, plain
from limbeck.teachers._words import Words
from limbeck.teachers.embedded import Embedded
from limbeck.teachers.hf import HF

pytest.importorskip("torch", reason="local models are compared with transformers: pip install 'limbeck[train]'")
pytest.importorskip("transformers", reason="local models are compared with transformers: pip install 'limbeck[train]'")

TEACHER = Embedded.folder("")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def random_model(folder: Path, kind: str, **options) -> Path:
    """Save a random model of transformers beside the embedded teacher's tokenizer."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(json.loads((TEACHER / "tokenizer.json").read_text())["model"]["vocab"]) + 16,
        hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=256,
        bos_token_id=1, eos_token_id=2, pad_token_id=0, **options,
    )  # fmt: skip
    model = getattr(transformers, f"{kind}ForCausalLM")(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)  # sharper than at birth, so that single precision has something to get wrong
    model.to(options.get("dtype", torch.float32)).save_pretrained(folder)
    for name in TOKENIZER_FILES:
        shutil.copy(TEACHER / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama with fewer key heads than query heads, a head of its own, an odd base of positions, in bfloat16."""
    import torch

    rope = {"rope_theta": 5000.0, "rope_type": "default"}
    options = {"num_key_value_heads": 2, "head_dim": 16, "tie_word_embeddings": False, "rope_parameters": rope}
    return random_model(tmp_path_factory.mktemp("grouped"), "Llama", dtype=torch.bfloat16, **options)


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that is not a plain Llama."""
    return random_model(tmp_path_factory.mktemp("qwen"), "Qwen2", num_key_value_heads=2)


def prompts(count: int) -> list[str]:
    each = -(-count // len(families()))
    return [p.prompt for family in families() for p in problems(family, count=each, seed=3)][:count]


def question(text: str, **options) -> Ask:
    return Ask(messages=[Message(role="user", content=text)], teacher="hf", **options)


def decoded(
    decoder: Decoder, jobs: Sequence[Job], order: random.Random | None = None
) -> dict[tuple[int, int], Outcome]:
    """Run the jobs, all at once or dribbling in at random."""
    waiting, found = list(jobs), {}
    while decoder.busy or waiting:
        for _ in range(order.randint(0, 3) if order else len(waiting)):
            if waiting:
                decoder.add(waiting.pop())
        found |= {(outcome.job, outcome.sample): outcome for outcome in decoder.step()}
    return found


def answered(teacher, asks: Sequence[Ask], samples: Sequence[Sequence[int]] | None = None) -> list[Reply]:
    async def all_of_them() -> list[Reply]:
        try:
            wanted = samples or [list(range(ask.n)) for ask in asks]
            return await asyncio.gather(*(teacher.answer(a, s) for a, s in zip(asks, wanted, strict=True)))
        finally:
            await teacher.close()

    return asyncio.run(all_of_them())


# --- the arithmetic ---------------------------------------------------------------------------------------------------


@lru_cache
def reference(folder: Path):
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)


def reference_logits(folder: Path, ids: list[int]) -> np.ndarray:
    import torch

    with torch.no_grad():
        return reference(folder)(torch.tensor([ids])).logits[0].numpy()


@pytest.mark.parametrize("which", ["embedded", "grouped"])
def test_logits_are_those_of_transformers(which, grouped):
    folder = TEACHER if which == "embedded" else grouped
    assert plain(folder)
    model, rng = Llama(folder, rows=8), np.random.default_rng(0)
    rows = [rng.integers(3, 300, size).tolist() for size in (5, 40, 17)]
    found = model.admit(rows, [2, 1, 3])
    rows = [rows[0], rows[0], rows[1], rows[2], rows[2], rows[2]]
    for turn in range(3):
        for logits, row in zip(found, rows, strict=True):
            expected = reference_logits(folder, row)
            assert np.abs(model.exact(row) - expected).max() < 1e-3
            assert np.abs(logits - expected[-1]).max() < 1e-3
        if turn == 1:  # rows leave, and another comes in
            model.keep([5, 1, 2])
            rows = [rows[5], rows[1], rows[2], [7, 8, 9]]
            found = np.concatenate([found[[5, 1, 2]], model.admit([rows[3]], [1])])
        tokens = found.argmax(1)
        rows = [[*row, int(token)] for row, token in zip(rows, tokens, strict=True)]
        found = model.step(tokens)


def test_more_positions_than_were_set_aside(grouped):
    model, row = Llama(grouped, rows=2), list(range(3, 199))
    found = model.admit([row], [1])
    for token in range(10, 30):
        found, row = model.step(np.array([token])), [*row, token]
    assert np.abs(found[0] - reference_logits(grouped, row)[-1]).max() < 1e-3


def test_prompts_are_those_of_transformers():
    from transformers import AutoTokenizer

    words, tokenizer = Words(TEACHER), AutoTokenizer.from_pretrained(TEACHER)
    system = {"role": "system", "content": "Answer briefly."}
    for text in [*prompts(20), "Grüße, 世界! 😀\n  tabs\tand <eos>"]:
        for turns in ([{"role": "user", "content": text}], [system, {"role": "user", "content": text}]):
            rendered = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
            assert words.encode(turns) == tokenizer(rendered, add_special_tokens=False)["input_ids"]
            assert words.decode(words.encode(turns)) == tokenizer.decode(words.encode(turns), skip_special_tokens=True)


def test_greedy_answers_are_those_of_generate():
    import torch

    model, words = reference(TEACHER), Words(TEACHER)
    asks = [question(text, temperature=0.0, max_tokens=60) for text in prompts(12)]
    replies = answered(HF(str(TEACHER)), asks)
    for ask, reply in zip(asks, replies, strict=True):
        ids = words.encode(ask.payload()["messages"])
        made = model.generate(torch.tensor([ids]), max_new_tokens=60, do_sample=False, use_cache=True)[0]
        assert reply.text == words.decode(made[len(ids) :].tolist())


# --- sampling ---------------------------------------------------------------------------------------------------------


def test_draws_follow_the_softmax():
    logits = np.tile(np.array([[2.0, 1.0, 0.0, -1.0, -9.0]], dtype=np.float32), (20_000, 1))
    chance = np.random.default_rng(1).random(len(logits))
    for heat, nucleus, weights in (
        (1.0, 1.0, np.exp([2, 1, 0, -1, -9])),
        (0.5, 1.0, np.exp([4, 2, 0, -2, -18])),
        (1.0, 0.8, np.exp([2, 1, -np.inf, -np.inf, -np.inf])),
        (1.0, 0.1, np.array([1, 0, 0, 0, 0])),
        (0.0, 1.0, np.array([1, 0, 0, 0, 0])),
    ):
        tokens, _ = draw(logits, chance, np.full(len(logits), heat), np.full(len(logits), nucleus))
        shares = np.bincount(tokens, minlength=5) / len(tokens)
        assert np.abs(shares - weights / weights.sum()).max() < 0.012
        assert not shares[weights == 0].any()


def test_close_calls_are_seen():
    logits, one = np.log(np.array([[0.3, 0.7]])), np.ones(1)
    for chance, close in ((0.3001, True), (0.2999, True), (0.31, False), (0.0, True), (0.6, False)):
        assert draw(logits, np.array([chance]), one, one)[1].tolist() == [close]
    assert draw(np.array([[1.0, 1.0001]]), np.array([0.5]), 0 * one, one)[1].tolist() == [True]
    assert draw(logits, np.array([0.9]), one, np.array([0.70001]))[1].tolist() == [True], "the edge of the nucleus"


def test_every_sample_has_random_numbers_of_its_own():
    payload = question("q").payload()
    first = chances(payload, 0, 50)
    assert np.array_equal(first, chances(payload, 0, 50)) and np.array_equal(first[:9], chances(payload, 0, 9))
    others = (
        chances(payload, 1, 50),
        chances(question("q", seed=1).payload(), 0, 50),
        chances({**payload, "top_p": 0.9}, 0, 50),
    )
    assert not any(np.intersect1d(first, other).size for other in others)
    assert first.min() >= 0 and first.max() < 1


@pytest.mark.slow
def test_an_answer_does_not_depend_on_what_else_is_in_the_batch():
    """300 prompts, four samples each, real weights: other batch sizes, orders, arrivals and splits give the same bytes."""
    found = []
    for rows, seed in ((64, 0), (24, 1)):
        program = [sys.executable, str(Path(__file__).with_name("batches.py")), str(rows), str(seed)]
        env = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        lines = subprocess.run(program, capture_output=True, text=True, check=True, env=env).stdout.splitlines()
        assert json.loads(lines.pop()) > 20, "close calls are decided, not absent"
        found.append(lines)
    assert len(found[0]) == 1200 and len(set(found[0])) == 1200
    assert found[0] == found[1]


def test_the_general_way_does_not_depend_on_the_batch_either(qwen):
    from limbeck.teachers._torch import Torch

    assert not plain(qwen)
    payloads = [question(text, max_tokens=20).payload() for text in prompts(24)]
    model, words, found = Torch(qwen), Words(qwen), []
    for rows, seed in ((32, 1), (5, 2)):
        jobs = [Job(number, payload, [0, 1]) for number, payload in enumerate(payloads)]
        random.Random(seed).shuffle(jobs)
        found.append(decoded(Decoder(model, words, rows=rows), jobs, random.Random(seed)))
    assert found[0] == found[1] and len(found[0]) == 48


def test_both_ways_give_the_same_answers(grouped):
    from limbeck.teachers._torch import Torch

    words = Words(grouped)
    jobs = [(number, question(text, max_tokens=20).payload()) for number, text in enumerate(prompts(16))]
    fast, general = (
        decoded(Decoder(model, words, rows=16), [Job(number, payload, [0, 1]) for number, payload in jobs])
        for model in (Llama(grouped, rows=16), Torch(grouped))
    )
    same = sum(fast[key] == general[key] for key in fast)
    assert same >= len(fast) - 1, "two implementations may differ in a call that is close beyond single precision"


# --- requests ---------------------------------------------------------------------------------------------------------


def test_samples_asked_for_singly_are_those_asked_for_together():
    asks = [question(text, n=4, max_tokens=30) for text in prompts(6)]
    together = answered(HF(str(TEACHER)), asks)
    singly = answered(
        HF(str(TEACHER)), [ask for ask in asks for _ in range(4)], [[i] for _ in asks for i in (3, 0, 2, 1)]
    )
    by_place = [[singly[4 * place + (3, 0, 2, 1).index(i)].text for i in range(4)] for place in range(6)]
    assert [[a.text for a in reply.answers] for reply in together] == by_place


def test_usage_length_and_stop():
    text = prompts(1)[0]
    whole, short, stopped = answered(
        HF(str(TEACHER)),
        [question(text, temperature=0.0), question(text, temperature=0.0, max_tokens=5),
         question(text, temperature=0.0, stop=("\n2", ":"))],
    )  # fmt: skip
    assert (whole.answers[0].finish, short.answers[0].finish, stopped.answers[0].finish) == ("stop", "length", "stop")
    assert short.usage.tokens_out == short.answers[0].tokens_out == 5 and whole.text.startswith(short.text)
    assert stopped.text == whole.text[: min(at for at in (whole.text.find("\n2"), whole.text.find(":")) if at >= 0)]
    assert whole.usage.tokens_in == len(Words(TEACHER).encode([{"role": "user", "content": text}]))
    assert whole.usage.seconds > 0


def test_logprobs_are_those_of_the_model():
    ask = question(prompts(1)[0], max_tokens=12, temperature=0.7, logprobs=3)
    answer = answered(HF(str(TEACHER)), [ask])[0].answers[0]
    words = Words(TEACHER)
    prompt = words.encode(ask.payload()["messages"])
    assert answer.logprobs is not None and len(answer.logprobs) == 12
    assert "".join(entry.token for entry in answer.logprobs) == answer.text
    tokens = words._tokenizer.encode(answer.text, add_special_tokens=False).ids
    logits = reference_logits(TEACHER, prompt + tokens)[len(prompt) - 1 : -1]
    expected = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    for entry, token, row in zip(answer.logprobs, tokens, expected, strict=True):
        assert abs(entry.logprob - row[token]) < 1e-3
        assert len(entry.top) == 3 and abs(max(entry.top.values()) - row.max()) < 1e-3


def test_more_samples_than_rows():
    replies = answered(HF(str(TEACHER)), [question("Start with 3. Add 4.", n=150, max_tokens=4)])
    assert len(replies[0].answers) == 150


def test_a_prompt_that_does_not_fit_is_refused_and_others_are_not():
    async def both():
        teacher = HF(str(TEACHER))
        long, short = question("apples " * 600), question("Start with 3. Add 4.", max_tokens=10_000)
        found = await asyncio.gather(teacher.answer(long, [0]), teacher.answer(short, [0]), return_exceptions=True)
        await teacher.close()
        return found

    long, short = asyncio.run(both())
    assert isinstance(long, RefusedError) and "no room for an answer" in str(long)
    assert short.answers[0].text


# --- folders ----------------------------------------------------------------------------------------------------------


def test_it_is_a_teacher_and_shows_its_folder(grouped):
    assert isinstance(HF(str(grouped)), Teacher)
    assert HF.folder(str(grouped)) == grouped


def test_equal_weights_at_two_paths_share_an_identity(grouped, tmp_path):
    shutil.copytree(grouped, tmp_path / "copy")
    (tmp_path / "copy" / "README.md").write_text("a remark changes nothing")
    assert HF(str(tmp_path / "copy")).identity == HF(str(grouped)).identity
    with (tmp_path / "copy" / "model.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    assert HF(str(tmp_path / "copy")).identity != HF(str(grouped)).identity


def test_sentences_for_folders_that_will_not_do(grouped, tmp_path):
    with pytest.raises(UsageError, match="There is no folder"):
        HF(str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="after the colon"):
        HF("")
    with pytest.raises(UsageError, match=r"no config\.json"):
        HF(str(tmp_path))
    for change, error in (
        (drop_weights, "no weights"),
        (drop_template, "no chat template"),
        (drop_end, "no end-of-sequence"),
    ):
        folder = tmp_path / change.__name__
        shutil.copytree(grouped, folder)
        change(folder)
        with pytest.raises(EndpointError, match=error):
            HF(str(folder))


def drop_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def drop_template(folder: Path) -> None:
    edit(folder / "tokenizer_config.json", "chat_template")


def drop_end(folder: Path) -> None:
    for name in ("tokenizer_config.json", "config.json", "generation_config.json"):
        edit(folder / name, "eos_token", "eos_token_id")


def edit(file: Path, *keys: str) -> None:
    if file.is_file():
        file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k not in keys}))


def test_a_package_that_is_missing_is_named(qwen, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(EndpointError, match=r"needs torch, which is not installed: pip install 'limbeck\[train\]'"):
        answered(HF(str(qwen)), [question("q")])


def test_a_model_that_is_not_a_plain_llama_answers_too(qwen):
    replies = answered(HF(str(qwen)), [question(text, n=2, max_tokens=6) for text in prompts(3)])
    assert [len(reply.answers) for reply in replies] == [2, 2, 2]


def test_damaged_weights_are_an_error_with_a_name(grouped, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(grouped, folder)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(EndpointError, match=r"The model in .*damaged failed"):
        answered(HF(str(folder)), [question("q")])


def test_a_template_that_objects_refuses_the_row(grouped, tmp_path):
    folder = tmp_path / "strict"
    shutil.copytree(grouped, folder)
    (folder / "chat_template.jinja").write_text("{{ raise_exception('no system turns here') }}")
    with pytest.raises(RefusedError, match="does not accept this conversation: no system turns here"):
        answered(HF(str(folder)), [question("q")])
