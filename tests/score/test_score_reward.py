"""The reward model: a tiny one, made here, saved to disk and read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from limbeck.core.errors import UsageError
from limbeck.core.row import Message, Row, new_row
from limbeck.score.reward import Reward

torch = pytest.importorskip("torch")
TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }} {% endfor %}"


def row(response: str, question: str = "say red") -> Row:
    turns = (Message(role="user", content=question), Message(role="assistant", content=response))
    return new_row(messages=turns, made_by={})


def save(folder: Path, *, labels: int = 1, template: str | None = TEMPLATE, pad: bool = True) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForSequenceClassification, PreTrainedTokenizerFast

    words = ["<pad>", "<eos>", "<unk>", "user", "assistant", ":", "say", "red", "blue", "green", "."]
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<eos>", pad_token="<pad>" if pad else None
    )
    fast.chat_template = template
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=128, num_labels=labels, pad_token_id=0 if pad else None,
    )  # fmt: skip
    LlamaForSequenceClassification(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("reward"))


def directly(folder: Path, text: str) -> float:
    from transformers import AutoTokenizer, LlamaForSequenceClassification

    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(f"user: say red assistant: {text} ", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        return float(LlamaForSequenceClassification.from_pretrained(folder).eval()(input_ids=ids).logits[0, 0])


def test_the_score_is_the_models_output_whatever_else_is_in_the_batch(model: Path) -> None:
    texts = ["red", "blue . green . red red red", "green", "red blue", "red . . . . . . . ."]
    together = Reward(model=f"hf:{model}", batch=2).whole([row(text) for text in texts])
    alone = [Reward(model=str(model)).whole([row(text)])[0] for text in texts]
    for text, a, b in zip(texts, together, alone, strict=True):
        assert (
            a.scores["reward"]
            == pytest.approx(b.scores["reward"], abs=1e-5)
            == pytest.approx(directly(model, text), abs=1e-5)
        )
        assert "verified" not in a.scores and a.dropped is None
    assert len({round(r.scores["reward"], 6) for r in alone}) == len(texts)


def test_a_model_without_a_padding_token(tmp_path: Path) -> None:
    folder = save(tmp_path, pad=False, template=None)
    rows = [row("red"), row("blue . green . red"), row("green")]
    together = Reward(model=str(folder)).whole(rows)
    alone = [Reward(model=str(folder)).whole([one])[0] for one in rows]
    assert [r.scores["reward"] for r in together] == pytest.approx([r.scores["reward"] for r in alone], abs=1e-5)


def test_rows_that_are_not_scored(model: Path) -> None:
    bare = new_row(messages=(Message(role="user", content="say red"),), made_by={})
    none, empty, long, stale = Reward(model=str(model), max_tokens=12).whole(
        [bare, row(" "), row("red " * 20), row("red").with_scores(reward=9.0, math=1.0)]
    )
    assert none.scores == empty.scores == {} and long.scores == {} and long.labels["reward"] == "too-long"
    assert stale.scores["math"] == 1.0 and stale.scores["reward"] != 9.0


def test_what_is_no_reward_model(tmp_path: Path, model: Path) -> None:
    two = save(tmp_path / "two", labels=2)
    with pytest.raises(UsageError, match="has 2 outputs"):
        Reward(model=str(two)).whole([row("red")])
    with pytest.raises(UsageError, match="There is no reward model"):
        Reward(model=str(tmp_path / "none")).whole([row("red")])
    (tmp_path / "pickled").mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "pickled" / name).write_bytes((model / name).read_bytes())
    planted: dict[str, Any] = {}
    torch.save(planted, tmp_path / "pickled" / "pytorch_model.bin")
    with pytest.raises(UsageError, match="There is no reward model"):
        Reward(model=str(tmp_path / "pickled")).whole([row("red")])


def test_another_model_in_the_same_folder_is_another_step(tmp_path: Path) -> None:
    folder = save(tmp_path / "m")
    before = Reward(model=str(folder)).fingerprint()
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert Reward(model=str(folder)).fingerprint() != before
