"""Parts for the tests of training: tiny real models, a real tokenizer, rows, and a context run by hand."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

from limbeck.core.row import Message, Row, new_row

TEMPLATE = (
    "<bos>{% for m in messages %}{% if m['role'] == 'user' %}<user>{{ m['content'] }}"
    "{% elif m['role'] == 'tool' %}<user>{{ m['content'] }}"
    "{% elif m['role'] == 'assistant' %}<assistant>{{ m['content'] }}<eos>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
WORDS = ["red", "blue", "green", "pink", "grey", "gold", "black", "white", "brown", "lilac"]


@dataclass
class Here:
    """The context of a step run by hand: a folder, a student, and what progress was told."""

    folder: Path
    student: Path
    seed: int = 0
    told: list[tuple[int, int, str]] = field(default_factory=list)

    def model(self, spec: str) -> Path:
        assert spec.startswith(("hf:", "embedded:")), spec
        return Path(spec.removeprefix("hf:")) if spec.startswith("hf:") else self.student

    def progress(self, done: int, total: int, note: str = "") -> None:
        self.told.append((done, total, note))

    def apply(self, step: str, rows, **fields):
        raise AssertionError("an isolated step can not apply another")

    def artefact(self, name: str) -> Path:
        raise AssertionError(name)

    def rows(self, name: str) -> list[Row]:
        raise AssertionError(name)


def row_of(*turns: tuple[str, str], **given) -> Row:
    messages = tuple(Message(role=role, content=content) for role, content in turns)
    return new_row(messages=messages, made_by={"step": "test"}, **given)


def copying(count: int, seed: int = 0, length: int = 4) -> list[Row]:
    """Rows of a task that a tiny model learns in seconds: say the first word again, then the last."""
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        words = [rng.choice(WORDS) for _ in range(rng.randint(2, length))]
        rows.append(row_of(("user", "Say " + " ".join(words) + "."), ("assistant", f"It is {words[-1]}.")))
    return rows


def make_tokenizer():
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<bos>", "<eos>", "<user>", "<assistant>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    texts = [f"Say {a} {b}. It is {b}." for a in WORDS for b in WORDS] * 5 + [f" {n}" for n in range(30)] * 50
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>")
    fast.chat_template = TEMPLATE
    return fast


def make_model(**changes):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    shape = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
    }
    settings = {
        "vocab_size": 400,
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
        "initializer_range": 0.1,
    }
    tokens = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    return LlamaForCausalLM(LlamaConfig(**(shape | settings | tokens | changes)))
