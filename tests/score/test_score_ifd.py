"""Likelihoods against the model itself, IFD on shuffled responses, and what neither batch nor window may change."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from planted_quality import row_of, shuffled

from limbeck import api
from limbeck.core import models
from limbeck.core.errors import UsageError
from limbeck.core.row import Message, Row, new_row
from limbeck.score import _likelihood
from limbeck.score._likelihood import Scorer, fitted
from limbeck.score.ifd import Ifd
from limbeck.score.perplexity import Perplexity
from limbeck.seeds.tasks import Tasks

torch = pytest.importorskip("torch")
STUDENT = "embedded:student"


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return list(Tasks(count=60, solved=True, seed=3).rows())


@pytest.fixture(scope="module")
def student() -> Scorer:
    return Scorer(models.folder_of(Ifd(), STUDENT))


def directly(scorer: Scorer, ids: list[int], first: int) -> float:
    """The mean negative log-likelihood as the definition says it: one row, no padding, no windows, in double precision."""
    with torch.no_grad():
        logits = scorer.model(torch.tensor([ids])).logits[0].double()
    told = logits.log_softmax(-1)
    return -sum(float(told[place - 1, ids[place]]) for place in range(first, len(ids))) / (len(ids) - first)


def test_ifd_is_the_ratio_of_two_perplexities_over_the_same_tokens(rows: list[Row], student: Scorer) -> None:
    made = Ifd(scorer=STUDENT).whole(rows[:9])
    for row, scored in zip(rows, made, strict=False):
        before = student.tokenizer.apply_chat_template(
            [{"role": "user", "content": row.question}], tokenize=False, add_generation_prompt=True
        )
        prompt = student.tokenizer(before, add_special_tokens=False)["input_ids"]
        answer = student.tokenizer(row.response, add_special_tokens=False)["input_ids"]
        given = math.exp(directly(student, [*prompt, *answer], len(prompt)))
        alone = math.exp(directly(student, [student.tokenizer.bos_token_id, *answer], 1))
        assert scored.scores["ifd_given"] == pytest.approx(given, rel=1e-4)
        assert scored.scores["ifd_alone"] == pytest.approx(alone, rel=1e-4)
        assert scored.scores["ifd"] == pytest.approx(given / alone, rel=1e-4) and scored.labels["ifd"] == "scored"


def test_neither_batches_nor_windows_change_what_is_found(
    rows: list[Row], student: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [student.response(row, 1024) for row in rows]
    readings = [one.given for one in found if one is not None]
    alone = student.losses(readings, 1)
    assert student.losses(readings, 8192) == pytest.approx(alone, rel=1e-4)
    monkeypatch.setattr(_likelihood, "LOGITS", 1)  # the narrowest windows: 16 tokens at a time
    assert student.losses(readings, 2048) == pytest.approx(alone, rel=1e-4)
    assert student.losses(readings, 2048) == student.losses(readings, 2048)


def test_a_token_that_straddles_the_boundary_is_the_prompts(student: Scorer) -> None:
    """In the plain form the prompt's last character and the response's first may share a token: it must not count."""
    plain = Scorer(models.folder_of(Ifd(), STUDENT), template="plain")
    seen = []
    for before, after in (("apple", "s and pears"), ("12 + ", "5 = 17"), ("How man", "y apples?")):
        ids, first = plain._encode(before, after, special=False)
        offsets = plain.tokenizer(before + after, add_special_tokens=False, return_offsets_mapping=True)[
            "offset_mapping"
        ]
        assert [begin >= len(before) for begin, _ in offsets].index(True) == first
        seen.append(first != len(plain.tokenizer(before, add_special_tokens=False)["input_ids"]))
        assert plain._encode(before, after, special=True) == ([plain.start, *ids], first + 1)
    assert any(seen), "none of these straddles, so the test says nothing"


def test_the_rule_for_long_rows() -> None:
    context, counted = list(range(100)), list(range(100, 140))
    for most in range(8, 160):
        kept, response = fitted(context, counted, most)
        assert len(kept) + len(response) == min(most, 140) and kept[0] == 0
        assert kept[1:] == context[len(context) - len(kept) + 1 :] and response == counted[: len(response)]
        assert len(response) == 40 or len(kept) <= max(most // 2, 1)


def test_long_rows_are_cut_by_that_rule_and_say_so(rows: list[Row]) -> None:
    (made,) = Ifd(scorer=STUDENT, max_tokens=16).whole([row_of("word " * 200, "12 + 5 = 17. " * 20)])
    assert made.labels["ifd"] == "cut" and made.scores["ifd"] > 0
    (over,) = Ifd(scorer=STUDENT, max_tokens=100_000).whole([row_of("word " * 900, "12 + 5 = 17. " * 20)])
    assert over.labels["ifd"] == "cut", "no model reads more than its positions"
    (long,) = Perplexity(scorer=STUDENT, max_tokens=16).whole([rows[0]])
    assert long.labels["perplexity"] == "cut" and long.scores["perplexity_tokens"] <= 15


def test_shuffled_responses_are_found(capsys: pytest.CaptureFixture[str]) -> None:
    rows, wrong = shuffled(list(Tasks(count=150, solved=True, seed=7).rows()), 0.2)
    made = Ifd(scorer=STUDENT).whole(rows)
    values = [row.scores["ifd"] for row in made]
    bad, good = [values[i] for i in wrong], [v for i, v in enumerate(values) if i not in wrong]
    above = sum(b > g for b in bad for g in good) / len(bad) / len(good)
    flagged = [i for i, value in enumerate(values) if value >= 0.5]
    recall, precision = len(wrong & set(flagged)) / len(wrong), len(wrong & set(flagged)) / len(flagged)
    with capsys.disabled():
        print(f"\n  shuffled: IFD >= .5 recall {recall:.3f}  precision {precision:.3f}  AUC {above:.3f}", end="")
    assert above >= 0.98 and recall >= 0.75 and precision >= 0.95


def test_a_small_and_a_large_model_agree_on_what_is_hard() -> None:
    """Superfiltering's claim: the order that a weak model gives is much like a strong one's."""
    rows = list(Tasks(count=60, solved=True, seed=11).rows())
    orders = []
    for model in (STUDENT, "embedded"):
        values = [row.scores["ifd_alone"] for row in Ifd(scorer=model).whole(rows)]
        orders.append(sorted(range(len(values)), key=values.__getitem__))
    ranks = [{place: rank for rank, place in enumerate(order)} for order in orders]
    n = len(rows)
    spearman = 1 - 6 * sum((ranks[0][i] - ranks[1][i]) ** 2 for i in range(n)) / (n * (n * n - 1))
    assert spearman > 0.5


def test_rows_without_a_response_and_stale_scores() -> None:
    bare = new_row(messages=(Message(role="user", content="5 + 5?"),), made_by={})
    none, blank, stale = Ifd(scorer=STUDENT).whole(
        [bare, row_of("a", " "), row_of("5 + 5?", "10").with_scores(ifd=9.0, math=1.0).with_labels(ifd="cut")]
    )
    assert none.scores == blank.scores == {} and "ifd" not in none.labels
    assert stale.scores["math"] == 1.0 and stale.scores["ifd"] != 9.0 and stale.labels["ifd"] == "scored"
    assert Ifd(scorer=STUDENT).whole([bare]) == [bare]
    (alone,) = Ifd(scorer=STUDENT).whole([row_of("", "10 apples")])
    assert alone.scores["ifd"] > 0


def test_perplexity_of_a_response_and_of_a_text(rows: list[Row], student: Scorer) -> None:
    row = rows[1]
    (made,) = Perplexity(scorer=STUDENT).whole([row])
    (scored,) = Ifd(scorer=STUDENT).whole([row])
    assert made.scores["perplexity"] == pytest.approx(scored.scores["ifd_given"], rel=1e-5)
    (text,) = Perplexity(scorer=STUDENT, of="text").whole([row])
    ids = student.tokenizer(f"{row.question}\n\n{row.response}", add_special_tokens=False)["input_ids"]
    wanted = math.exp(directly(student, [student.tokenizer.bos_token_id, *ids], 1))
    assert text.scores["perplexity"] == pytest.approx(wanted, rel=1e-4)
    assert text.scores["perplexity_tokens"] == len(ids)


def test_noise_is_more_perplexing_than_what_the_model_knows(rows: list[Row]) -> None:
    noise = [row_of(row.question, row.response[::-1]) for row in rows[:20]]
    made = Perplexity(scorer=STUDENT).whole([*rows[:20], *noise])
    assert max(r.scores["perplexity"] for r in made[:20]) < min(r.scores["perplexity"] for r in made[20:])


def save(folder: Path, *, bos: bool) -> Path:
    """Make a small GPT-2 without a chat template, whose texts begin with the end-of-text token, or with nothing."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    words = ["<end>", "<unk>", "say", "red", "blue", "green", "."]
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<end>" if bos else None)
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(words), n_embd=16, n_layer=2, n_head=2, n_positions=64)
    GPT2LMHeadModel(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("bos", [True, False])
def test_a_base_model_without_template_and_without_a_token_to_begin_with(bos: bool, tmp_path: Path) -> None:
    folder = save(tmp_path / "gpt2", bos=bos)
    (made,) = Ifd(scorer=str(folder)).whole([row_of("say red", "red blue green .")])
    scorer = Scorer(folder)
    answer = [3, 4, 5, 6]
    given = [0, 2, 3, *answer] if bos else [2, 3, *answer]
    first = 3  # without a beginning, the first token of the response is context, in both readings
    assert made.scores["ifd_given"] == pytest.approx(math.exp(directly(scorer, given, first)), rel=1e-4)
    lone, begin = ([0, *answer], 1) if bos else (answer, 1)
    assert made.scores["ifd_alone"] == pytest.approx(math.exp(directly(scorer, lone, begin)), rel=1e-4)


def test_models_are_found_by_name_and_watched(tmp_path: Path) -> None:
    step = Ifd(scorer="step:student")
    with pytest.raises(UsageError, match="can only be read in a run that has made it"):
        step.whole([row_of("a", "b")])
    folder = save(tmp_path / "run" / "student", bos=True)
    models.give(step, {"student": tmp_path / "run"})
    assert step.whole([row_of("say red", "red")])[0].scores["ifd"] > 0
    assert step.fingerprint() == Ifd(scorer="step:student").fingerprint() and step.needs() == ("student",)
    before = Ifd(scorer=str(folder)).fingerprint()
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert Ifd(scorer=str(folder)).fingerprint() != before


def test_a_base_model_of_a_folder_in_a_run(tmp_path: Path) -> None:
    folder = save(tmp_path / "gpt2", bos=True)
    result = api.apply(Ifd(scorer=str(folder)), [row_of("say red", "red blue green")], out=tmp_path / "run")
    (made,) = result.rows("ifd")
    assert made.scores == Ifd(scorer=f"hf:{folder}").whole([row_of("say red", "red blue green")])[0].scores


def test_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no causal language model"):
        Ifd(scorer=str(tmp_path / "empty")).whole([row_of("a", "b")])
    with pytest.raises(UsageError, match=r"weights of 'openai:x' are not to be had"):
        Ifd(scorer="openai:x").whole([row_of("a", "b")])
    pickled = save(tmp_path / "pickled", bos=True)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(UsageError, match="holds no causal language model"):
        Ifd(scorer=str(pickled)).whole([row_of("a", "b")])
