"""A reward model's score of a conversation: any sequence classifier of transformers with one output.

    Reward(model="hf:runs/first/04-reward_model/model")          a folder, or OWNER/NAME of the hub
        scores  {"reward": 1.73}          the raw output: only its order means anything, and only between responses to one prompt

Rows are read in batches of similar length, on the GPU where there is one. A conversation that does not fit in `max_tokens` is
not cut, because a cut one is another one: it has the label `too-long` and no score. Only safetensors are loaded, nothing that
is unpickled, and no code that comes with a model. A reward is an opinion: it writes no `verified`. Beware of its taste for
length (Singhal et al. 2023): compare it with a verifier."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from limbeck.core.errors import UsageError
from limbeck.core.loading import LOADING
from limbeck.core.row import Row
from limbeck.core.step import Whole


class Reward(Whole):
    """Score each conversation with a reward model; the raw output."""

    model: str
    """Folder of the model, or `OWNER/NAME` of the hub; `hf:` may stand before either."""
    batch: int = Field(default=8, ge=1)
    """How many conversations are read at once."""
    max_tokens: int = Field(default=4096, ge=1)
    """Longest conversation, in the model's tokens."""

    def watch(self) -> Sequence[Path]:
        """The model's files, where it is a folder."""
        folder = Path(self._where).expanduser()
        return sorted(folder.glob("*")) if folder.is_dir() else ()

    def key(self, row: Row) -> str:
        """Return the group: rewards are only compared within one."""
        return row.group

    def whole(self, rows: list[Row]) -> list[Row]:
        """Return the rows, those with a response scored."""
        out = [_cleared(row) for row in rows]
        places = [place for place, row in enumerate(rows) if row.response.strip()]
        if not places:
            return out
        model, tokenizer = _loaded(self._where)
        texts = {place: _tokens(tokenizer, rows[place]) for place in places}
        for place in [p for p in places if len(texts[p]) > self.max_tokens]:
            out[place] = out[place].with_labels(reward="too-long")
        fitting = sorted((p for p in places if len(texts[p]) <= self.max_tokens), key=lambda p: (len(texts[p]), p))
        for begin in range(0, len(fitting), self.batch):
            some = fitting[begin : begin + self.batch]
            for place, value in zip(some, _outputs(model, [texts[p] for p in some]), strict=True):
                known = math.isfinite(value)
                out[place] = (
                    out[place].with_scores(reward=value) if known else out[place].with_labels(reward="no-number")
                )
        return out

    @property
    def _where(self) -> str:
        return self.model.removeprefix("hf:")


def _loaded(where: str) -> tuple[Any, Any]:
    """Return model and tokenizer. Raises UsageError where there is no such model, or it has not one output."""
    try:
        with LOADING:
            import torch
            from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
    except ImportError:
        raise UsageError("score.reward needs torch and transformers: pip install 'limbeck[train]'.") from None
    path = str(Path(where).expanduser())
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        if config.num_labels != 1:
            raise UsageError(f"{where} has {config.num_labels} outputs; a reward model for score.reward has one.")
        with LOADING:
            model = AutoModelForSequenceClassification.from_pretrained(
                path, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
            )
    except (OSError, ValueError) as problem:
        if isinstance(problem, UsageError):
            raise
        raise UsageError(f"There is no reward model {where}: {str(problem).splitlines()[0]}") from None
    if model.config.pad_token_id is None:  # the last token that is no padding is where a decoder's score is read
        model.config.pad_token_id = (
            tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        )
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval(), tokenizer


def _tokens(tokenizer: Any, row: Row) -> list[int]:
    turns = [{"role": message.role, "content": message.content} for message in row.messages]
    if tokenizer.chat_template:
        text = tokenizer.apply_chat_template(turns, tokenize=False)
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
    return list(tokenizer("\n\n".join(f"{turn['role']}: {turn['content']}" for turn in turns))["input_ids"])


def _outputs(model: Any, several: list[list[int]]) -> Iterator[float]:
    """Return the model's one output for each token sequence."""
    import torch

    longest, pad = max(map(len, several)), model.config.pad_token_id or 0
    ids = torch.tensor([tokens + [pad] * (longest - len(tokens)) for tokens in several])
    mask = torch.tensor([[1] * len(tokens) + [0] * (longest - len(tokens)) for tokens in several])
    with torch.inference_mode():
        logits = model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device)).logits
    return iter(logits[:, 0].float().cpu().tolist())


def _cleared(row: Row) -> Row:
    from dataclasses import replace

    scores = {k: v for k, v in row.scores.items() if k != "reward"}
    return replace(row, scores=scores, labels={k: v for k, v in row.labels.items() if k != "reward"})
