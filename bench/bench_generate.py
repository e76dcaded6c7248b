"""Sampling from the embedded teacher: our decoder against transformers' `generate` on the same prompts, one thread each."""

from __future__ import annotations

import asyncio

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from limbeck.core.ask import Ask
from limbeck.seeds.tasks import Tasks
from limbeck.teachers.embedded import Embedded
from paired import paired

PROMPTS, SAMPLES, TOKENS = 64, 4, 160
FOLDER = Embedded.folder("")
ROWS = [row for row in Tasks(count=PROMPTS, split="train").rows() if hasattr(row, "messages")]


def ours() -> None:
    """Sample through the teacher, worker processes and all, as a run does."""

    async def go() -> None:
        teacher = Embedded("")
        asks = [Ask(messages=row.messages, teacher="embedded", n=SAMPLES, max_tokens=TOKENS) for row in ROWS]
        await asyncio.gather(*(teacher.answer(ask, range(SAMPLES)) for ask in asks))
        await teacher.close()

    asyncio.run(go())


def theirs() -> None:
    """Sample with `generate` in batches of 64, left-padded, sorted by length."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(FOLDER, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)
    chats = [[{"role": m.role, "content": m.content} for m in row.messages] for row in ROWS]
    texts = sorted(
        (tokenizer.apply_chat_template(c, tokenize=False, add_generation_prompt=True) for c in chats), key=len
    )
    for start in range(0, len(texts), 64 // SAMPLES):
        batch = tokenizer(
            texts[start : start + 64 // SAMPLES], return_tensors="pt", padding=True, add_special_tokens=False
        )
        batch.pop("token_type_ids", None)
        model.generate(**batch, do_sample=True, top_k=0, num_return_sequences=SAMPLES, max_new_tokens=TOKENS)


if __name__ == "__main__":
    paired(f"{PROMPTS * SAMPLES} samples: embedded teacher / generate", ours, theirs, rounds=3)
