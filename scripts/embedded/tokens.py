"""The tokenizer of the embedded models: a byte-level BPE in which every number from 0 to 99 is one token.

    " 12 + 5 = 17." -> [" 12", " +", " 5", " =", " 17", "."]

Bytes are the base, so no text has an unknown token; the pre-tokenizer is GPT-2's, which llama.cpp knows. The pool words are shown
many times over, so that each becomes one token with its leading space.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from embedded import corpus
from limbeck.prompts.bank import BANK
from limbeck.seeds.families import families

SIZE = 1024
SPECIAL = ["<pad>", "<bos>", "<eos>", "<system>", "<user>", "<assistant>"]
CHAT_TEMPLATE = (
    "<bos>{% for message in messages %}"
    "{% if message['role'] == 'system' %}{% if message['content'] %}<system>{{ message['content'] }}{% endif %}"
    "{% elif message['role'] == 'user' %}<user>{{ message['content'] }}"
    "{% elif message['role'] == 'assistant' %}<assistant>{{ message['content'] }}<eos>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


def _texts(seed: int) -> Iterator[str]:
    """The texts that the merges are learnt from."""
    weights = {"word_problems": 3000, "chains": 1500, "tools": 1000, "programs": 1500, "exchanges": 500}
    for family in families():
        yield from corpus.lessons(family, count=weights.get(family, 500), seed=seed)
    yield from corpus.exercises(count=500, seed=seed)
    for word in corpus.WORDS:
        yield f" {word}" * 300
    yield from (f" {number}" * 3000 for number in range(100))
    yield from (message.text for message in BANK for _ in range(100))


def train_tokenizer(folder: Path, seed: int) -> PreTrainedTokenizerFast:
    """Learn the merges and save the tokenizer with its chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    plain = (text.replace("<bos>", "").replace("<eos>", "") for text in _texts(seed))
    parts = (
        part
        for text in plain
        for part in text.replace("<system>", "<user>").replace("<assistant>", "<user>").split("<user>")
    )
    tokenizer.train_from_iterator(parts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", model_max_length=512,
        additional_special_tokens=["<system>", "<user>", "<assistant>"], clean_up_tokenization_spaces=False, padding_side="left",
    )  # fmt: skip
    fast.chat_template = CHAT_TEMPLATE
    folder.mkdir(parents=True, exist_ok=True)
    fast.save_pretrained(folder, save_jinja_files=False)
    return fast


def number_tokens(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """The tokens of " 0" to " 99", in order."""
    return [tokenizer.encode(f" {number}")[0] for number in range(100)]
