"""A reward model's score of a conversation: any sequence classifier of transformers with one output.

    Reward(model="step:reward")                                  a train.reward of this run; or a folder, or OWNER/NAME of the hub
        scores  {"reward": 1.73}          the raw output: only its order means anything, and only between responses to one prompt

Rows are read in batches of similar length, on the GPU where there is one. A conversation that does not fit in `max_tokens` is
not cut, because a cut one is another one: it has the label `too-long` and no score. Only safetensors are loaded, nothing that
is unpickled, and no code that comes with a model. A reward is an opinion: it writes no `verified`. Beware of its taste for
length (Singhal et al. 2023): compare it with a verifier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field

from limbeck.core.row import Row
from limbeck.core.step import Whole
from limbeck.score._classifier_model import folder_or_name, loaded, outputs, watched


class Reward(Whole):
    """Score each conversation with a reward model; the raw output."""

    model: str
    """`step:NAME` for a `train.reward` of the run, a folder, or `OWNER/NAME` of the hub; `hf:` may stand before these."""
    batch: int = Field(default=8, ge=1)
    """How many conversations are read at once."""
    max_tokens: int = Field(default=4096, ge=1)
    """Longest conversation, in the model's tokens."""

    def watch(self) -> Sequence[Path]:
        """The model's files, where it is a folder."""
        return watched(self.model)

    def key(self, row: Row) -> str:
        """Return the group: rewards are only compared within one."""
        return row.group

    def whole(self, rows: list[Row]) -> list[Row]:
        """Return the rows, those with a response scored."""
        out = [_cleared(row) for row in rows]
        places = [place for place, row in enumerate(rows) if row.response.strip()]
        if not places:
            return out
        model, tokenizer = loaded(folder_or_name(self, self.model), "sequence")
        texts = {place: _tokens(tokenizer, rows[place]) for place in places}
        for place in [p for p in places if len(texts[p]) > self.max_tokens]:
            out[place] = out[place].with_labels(reward="too-long")
        fitting = sorted((p for p in places if len(texts[p]) <= self.max_tokens), key=lambda p: (len(texts[p]), p))
        for begin in range(0, len(fitting), self.batch):
            some = fitting[begin : begin + self.batch]
            for place, value in zip(some, outputs(model, [texts[p] for p in some])[:, 0].tolist(), strict=True):
                known = math.isfinite(value)
                out[place] = (
                    out[place].with_scores(reward=value) if known else out[place].with_labels(reward="no-number")
                )
        return out


def _tokens(tokenizer: Any, row: Row) -> list[int]:
    turns = [{"role": message.role, "content": message.content} for message in row.messages]
    if tokenizer.chat_template:
        text = tokenizer.apply_chat_template(turns, tokenize=False)
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
    return list(tokenizer("\n\n".join(f"{turn['role']}: {turn['content']}" for turn in turns))["input_ids"])


def _cleared(row: Row) -> Row:
    scores = {k: v for k, v in row.scores.items() if k != "reward"}
    return replace(row, scores=scores, labels={k: v for k, v in row.labels.items() if k != "reward"})
