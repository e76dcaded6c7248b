"""Fine-tuning the embedded student: `train.sft` against transformers' Trainer, the same traces, the same tokens, one thread."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForSeq2Seq, Trainer, TrainingArguments

from limbeck.core.row import Row
from limbeck.seeds.tasks import Tasks
from limbeck.teachers.embedded import Embedded
from limbeck.train.sft import Sft
from paired import paired

UPDATES, TOKENS, DOCUMENTS = 40, 2000, 18
FOLDER = Embedded.folder("student")
ROWS = [row for row in Tasks(count=800, solved=True).rows() if isinstance(row, Row)]


class Context:
    """As little of a run as `train.sft` needs."""

    seed = 0

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def model(self, spec: str) -> Path:
        """Return the embedded student's folder."""
        return FOLDER

    def progress(self, done: int, total: int, note: str = "") -> None:
        """Tell nobody."""


def ours() -> None:
    """Train with `train.sft`, checkpoint and saving included."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        step = Sft(student="embedded:student", updates=UPDATES, batch_tokens=TOKENS)
        list(step.make(ROWS, Context(Path(folder))))  # type: ignore[arg-type]


def theirs() -> None:
    """Train with Trainer: padded batches of as many documents as fill the same tokens, loss on the response."""
    torch.set_num_threads(1)
    tokenizer, model = (
        AutoTokenizer.from_pretrained(FOLDER),
        AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32),
    )
    arguments: dict[str, Any] = {
        "per_device_train_batch_size": DOCUMENTS,
        "max_steps": UPDATES,
        "learning_rate": 5e-3,
        "use_cpu": True,
    }
    arguments |= {"report_to": [], "save_strategy": "no", "disable_tqdm": True, "logging_strategy": "no"}
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(folder, **arguments)
        collate = DataCollatorForSeq2Seq(tokenizer, padding=True)
        Trainer(
            model, settings, train_dataset=[_encoded(tokenizer, row) for row in ROWS], data_collator=collate
        ).train()


def _encoded(tokenizer: Any, row: Row) -> dict[str, list[int]]:
    turns = [{"role": m.role, "content": m.content} for m in row.messages]
    whole = tokenizer(tokenizer.apply_chat_template(turns, tokenize=False), add_special_tokens=False).input_ids
    prompt = tokenizer.apply_chat_template(turns[:-1], tokenize=False, add_generation_prompt=True)
    cut = len(tokenizer(prompt, add_special_tokens=False).input_ids)
    return {"input_ids": whole, "attention_mask": [1] * len(whole), "labels": [-100] * cut + whole[cut:]}


if __name__ == "__main__":
    paired(f"{UPDATES} updates of about {TOKENS:,} tokens: train.sft / Trainer", ours, theirs, rounds=3)
