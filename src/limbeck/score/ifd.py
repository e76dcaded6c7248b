"""Instruction-following difficulty: how little a prompt helps a model to foresee the response.

    Ifd(scorer="hf:openai-community/gpt2")
        scores  {"ifd": 0.62, "ifd_given": 9.3, "ifd_alone": 15.0}        9.3 / 15.0: the prompt helps
        labels  {"ifd": "scored"}        "cut" where the row was longer than `max_tokens`

    IFD(x, y) = PPL(y | x) / PPL(y)          the ratio of two perplexities, each exp of a mean over the same tokens

Near 1, or over it, the response does not follow from the prompt: answers that were shuffled among prompts lie there. Low, it
was foreseeable and teaches little. Superfiltering (Li et al. 2024, arXiv 2402.00530) leaves out IFD >= 1 and keeps the highest
5 to 15 % of the rest, scored by a small model for a large student: `Threshold(score="ifd", most=0.99)`, then `TopK(score="ifd",
scope="overall")`. The highest that are left are noise as well as difficulty: look at them before training.

What differs from the paper's code: the boundary comes from the tokens' offsets instead of from a count of the prompt's tokens;
both perplexities are over the same tokens (theirs are cut to length one by one); text alone stands behind the beginning-of-text
token, so that its first token counts in both; and the prompt is written by the model's own chat template where it has one. Of
code and very short answers IFD says little.

Rows are read together, in batches of like length; equal tables give equal scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import Field

from limbeck.core.models import files_of, folder_of
from limbeck.core.row import Row
from limbeck.core.step import Whole
from limbeck.score._likelihood import Scorer, Template


class Ifd(Whole):
    """Score each response by how little its prompt helps a language model to foresee it: PPL(y | x) / PPL(y)."""

    scorer: str = "embedded"
    """Which causal language model: `embedded`, `embedded:student`, `step:NAME`, `hf:NAME` or a folder; a small one will do."""
    template: Template = "chat"
    """How the prompt is written: by the model's chat template where it has one, or plain, turns apart by empty lines."""
    max_tokens: int = Field(default=1024, ge=8)
    """Longest row in tokens; of a longer one first the prompt's beginning is cut, down to half, then the response's end."""
    batch_tokens: int = Field(default=8192, ge=1)
    """Most tokens in one batch, padding included."""

    def watch(self) -> Sequence[Path]:
        """The model's files."""
        return files_of(self, self.scorer)

    def whole(self, rows: list[Row]) -> list[Row]:
        """Return the rows, those with a response scored."""
        out = [_cleared(row) for row in rows]
        places = [place for place, row in enumerate(rows) if row.response.strip()]
        if not places:
            return out
        scorer = Scorer(folder_of(self, self.scorer), template=self.template)
        encoded = {place: scorer.response(rows[place], self.max_tokens) for place in places}
        found = {place: one for place, one in encoded.items() if one is not None}
        given = scorer.losses([one.given for one in found.values()], self.batch_tokens)
        alone = scorer.losses([one.alone for one in found.values()], self.batch_tokens)
        for (place, one), with_prompt, without in zip(found.items(), given, alone, strict=True):
            out[place] = _scored(out[place], with_prompt, without, cut=one.cut)
        return out


def _scored(row: Row, given: float, alone: float, *, cut: bool) -> Row:
    # the ratio from the difference of the means: exp of each may be too large for a number where their ratio is not
    if not (math.isfinite(given) and math.isfinite(alone)) or max(given, alone, abs(given - alone)) > 700:
        return row.with_labels(ifd="no-number")
    scores = {"ifd": math.exp(given - alone), "ifd_given": math.exp(given), "ifd_alone": math.exp(alone)}
    return row.with_scores(**scores).with_labels(ifd="cut" if cut else "scored")


def _cleared(row: Row) -> Row:
    scores = {k: v for k, v in row.scores.items() if k not in ("ifd", "ifd_given", "ifd_alone")}
    return replace(row, scores=scores, labels={k: v for k, v in row.labels.items() if k != "ifd"})
