"""A process reward model's opinion of each step of a response, and of the whole by its weakest step.

    response  1. Start with 12: 12.
              2. Add 5: 12 + 5 = 18.
              Answer: 18
    ProcessReward(model="step:process_reward")          a train.process_reward of this run, or a folder of one
        scores  {"process_reward": 0.06}
        extra["process_reward"]  {"ends": [20, 42, 53], "values": [0.94, 0.06, 0.11]}

A value is the model's chance that the response can still come out right, after it has read so far and no further. They become
one score by `combine`: `min` (Math-Shepherd, Wang et al. 2023, 2312.08935), `product` (Let's verify step by step, Lightman et
al. 2023, 2305.20050; it falls with every step, so long responses lose), `last` (then it is an outcome reward model), or `mean`.

    Sample(n=16) > ProcessReward(model=…) > BestOf(score="process_reward")                  best of N by steps

Steps are found as in `score.process`. Rows are read in batches of similar length, on the GPU where there is one; a conversation
that does not fit in `max_tokens` has the label `too-long` and no score."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from pydantic import Field

from limbeck.core.row import Row
from limbeck.core.step import Whole
from limbeck.score._classifier_model import folder_or_name, loaded, outputs, watched
from limbeck.score.process import VALUES, step_ends

COMBINED: dict[str, Callable[[Sequence[float]], float]] = VALUES | {"mean": fmean}


@dataclass(frozen=True, slots=True)
class Read:
    """A conversation's tokens, where its steps end in the response, and the token at which each value is read."""

    ids: list[int]
    ends: list[int]
    places: list[int]


class ProcessReward(Whole):
    """Score each step of a response with a process reward model."""

    model: str
    """`step:NAME` for a `train.process_reward` of the run, a folder, or `OWNER/NAME` of the hub; `hf:` may stand before these."""
    combine: Literal["min", "product", "last", "mean"] = "min"
    """How the values of the steps become one score."""
    batch: int = Field(default=8, ge=1)
    """How many conversations are read at once."""
    max_tokens: int = Field(default=4096, ge=1)
    """Longest conversation, in the model's tokens."""

    def watch(self) -> Sequence[Path]:
        """The model's files, where it is a folder."""
        return watched(self.model)

    def key(self, row: Row) -> str:
        """Return the group: the samples of a prompt are compared with one another."""
        return row.group

    def whole(self, rows: list[Row]) -> list[Row]:
        """Return the rows, those with steps scored."""
        out = [_cleared(row) for row in rows]
        ends = {place: found for place, row in enumerate(rows) if (found := step_ends(row.response))}
        if not ends:
            return out
        model, tokenizer = loaded(folder_or_name(self, self.model), "token")
        read = {place: read_steps(tokenizer, rows[place], found) for place, found in ends.items()}
        for place in [p for p, one in read.items() if len(one.ids) > self.max_tokens]:
            out[place] = out[place].with_labels(process_reward="too-long")
            del read[place]
        order = sorted(read, key=lambda p: (len(read[p].ids), p))
        for begin in range(0, len(order), self.batch):
            some = order[begin : begin + self.batch]
            logits_BS = outputs(model, [read[p].ids for p in some])[:, :, 0]
            for row_S, place in zip(logits_BS, some, strict=True):
                out[place] = self._told(out[place], read[place], row_S[read[place].places].sigmoid().tolist())
        return out

    def _told(self, row: Row, read: Read, values: list[float]) -> Row:
        if not all(map(math.isfinite, values)):
            return row.with_labels(process_reward="no-number")
        row = row.with_extra(process_reward={"ends": read.ends, "values": [round(value, 6) for value in values]})
        return row.with_scores(process_reward=COMBINED[self.combine](values))


def read_steps(tokenizer: Any, row: Row, ends: Sequence[int]) -> Read:
    """Return a conversation's tokens up to the end of its response, and the last token that begins before each end."""
    turns = [{"role": message.role, "content": message.content} for message in row.prompt]
    before = (
        str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
        if tokenizer.chat_template
        else "".join(f"{turn['content']}\n\n" for turn in turns)
    )
    found = tokenizer(before + row.response, add_special_tokens=False, return_offsets_mapping=True)
    begins = [begin for begin, _ in found["offset_mapping"]]
    places = [max(sum(begin < len(before) + end for begin in begins) - 1, 0) for end in ends]
    return Read(list(found["input_ids"]), list(ends), places)


def _cleared(row: Row) -> Row:
    scores = {k: v for k, v in row.scores.items() if k != "process_reward"}
    labels = {k: v for k, v in row.labels.items() if k != "process_reward"}
    extra = {k: v for k, v in row.extra.items() if k != "process_reward"}
    return replace(row, scores=scores, labels=labels, extra=extra)
