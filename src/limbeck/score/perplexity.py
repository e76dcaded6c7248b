"""Perplexity: how surprised a language model is by a text, a token.

    Perplexity(scorer="hf:openai-community/gpt2")                    of the response, behind its prompt
        scores  {"perplexity": 9.3, "perplexity_tokens": 212}
        labels  {"perplexity": "scored"}           "cut" where the row was longer than `max_tokens`
    Perplexity(scorer="hf:openai-community/gpt2", of="text")         of the whole conversation as plain text, behind nothing

    PPL = exp( -1/n * sum of log p(token | all before it) )

It falls with length and with repetition, and it differs between tokenizers: compare only figures of one model. As a filter it
is used from both sides: web pages of high perplexity are noise (CCNet, Wenzek et al. 2020, arXiv 1911.00359), very low ones are
boilerplate.

Rows are read together, in batches of like length; equal tables give equal scores. How prompts are written, where the boundary
lies and how long rows are cut is the same as in `score.ifd`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from limbeck.core.models import files_of, folder_of
from limbeck.core.row import Row
from limbeck.core.step import Whole
from limbeck.score._likelihood import Encoded, Scorer, Template


class Perplexity(Whole):
    """Score each row by the perplexity of its text under a language model."""

    scorer: str = "embedded"
    """Which causal language model: `embedded`, `embedded:student`, `step:NAME`, `hf:NAME` or a folder."""
    of: Literal["response", "text"] = "response"
    """What is scored: the response behind its prompt, or all turns as one plain text."""
    template: Template = "chat"
    """How the prompt is written: by the model's chat template where it has one, or plain, turns apart by empty lines."""
    max_tokens: int = Field(default=1024, ge=8)
    """Longest row in tokens; of a longer one first the prompt's beginning is cut, down to half, then the end."""
    batch_tokens: int = Field(default=8192, ge=1)
    """Most tokens in one batch, padding included."""

    def watch(self) -> Sequence[Path]:
        """The model's files."""
        return files_of(self, self.scorer)

    def whole(self, rows: list[Row]) -> list[Row]:
        """Return the rows, those with a text scored."""
        out = [_cleared(row) for row in rows]
        places = [place for place, row in enumerate(rows) if self._text(row).strip()]
        if not places:
            return out
        scorer = Scorer(folder_of(self, self.scorer), template=self.template)
        encoded = {place: self._encoded(scorer, rows[place]) for place in places}
        found = {place: one for place, one in encoded.items() if one is not None}
        losses = scorer.losses([one.given for one in found.values()], self.batch_tokens)
        for (place, one), loss in zip(found.items(), losses, strict=True):
            if not loss < 700:  # not a number, or exp of it is too large for one
                out[place] = out[place].with_labels(perplexity="no-number")
                continue
            scores = {"perplexity": math.exp(loss), "perplexity_tokens": float(one.given.counted)}
            out[place] = out[place].with_scores(**scores).with_labels(perplexity="cut" if one.cut else "scored")
        return out

    def _text(self, row: Row) -> str:
        return row.response if self.of == "response" else "\n\n".join(turn.content for turn in row.messages)

    def _encoded(self, scorer: Scorer, row: Row) -> Encoded | None:
        if self.of == "response":
            return scorer.response(row, self.max_tokens)
        return scorer.text(self._text(row), self.max_tokens)


def _cleared(row: Row) -> Row:
    scores = {k: v for k, v in row.scores.items() if k not in ("perplexity", "perplexity_tokens")}
    return replace(row, scores=scores, labels={k: v for k, v in row.labels.items() if k != "perplexity"})
