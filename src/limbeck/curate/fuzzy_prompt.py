"""Prompts that say nearly the same, by the rule of Self-Instruct: ROUGE-L above .7 with any prompt kept so far.

    kept      Write a short poem about the sea.
    dropped   Write a short poem about the sky.     ROUGE-L .857  "curate.fuzzy_prompt: prompt like that of 5b1e..."
    kept      Name three rivers in Europe.

ROUGE-L of two prompts is the F-measure 2 * LCS / (words of one + words of the other), LCS being the longest common
subsequence of their words (Lin 2004). Rows are taken in order; a row stays when its score with **every prompt kept so far** is at
most `most` (Self-Instruct: Wang et al. 2022, section 2.2, .7). Words are those of the package `rouge_score` that
Self-Instruct uses, without stemming: runs of a-z and 0-9 after lower case. A prompt without one (in Chinese, say)
would score 0 with everything there; here its words are those of `curate._tokens`, one a character for scripts without spaces,
so it is compared; prompts of either kind are never alike. Set `plain=False` to use those words for all prompts. The samples of
one prompt (rows of one `group` with the same prompt) stay or go together; sealed rows always stay.

No pair is compared that can not reach the limit: LCS is at most the number of common words, and an index from words to kept
prompts finds those that share enough, rarest words first: a prompt that shares none of the rarest can not. The decisions are
those of comparing all pairs, which is what the original script does.
"""

from __future__ import annotations

from pydantic import Field

from limbeck.core.row import Row
from limbeck.core.step import Whole
from limbeck.curate._keep import texts


class FuzzyPrompt(Whole):
    """Keep the rows whose prompt is not nearly that of a row kept before."""

    most: float = Field(default=0.7, ge=0.0, lt=1.0)
    """The highest ROUGE-L with a kept prompt at which a row still stays."""
    plain: bool = True
    """Whether words are those of rouge_score (a-z and 0-9), so that decisions are Self-Instruct's."""

    def whole(self, rows: list[Row]) -> list[Row]:
        """Return the rows, those with a prompt like one kept before dropped."""
        from limbeck.curate._rouge import most_alike, words

        # the samples of one prompt stay or go together; sealed rows come first, as nothing may make them go
        prompts: dict[tuple[bool, str, str], list[int]] = {}
        for place, row in enumerate(rows):
            if row.dropped is None:
                key = (not row.sealed, row.group, "\n".join(texts(row, "prompt")))
                prompts.setdefault(key, []).append(place)
        order = sorted(prompts, key=lambda key: key[0])
        found = most_alike(words([key[2] for key in order], plain=self.plain), self.most, [not key[0] for key in order])
        out = list(rows)
        for key, (best, score) in zip(order, found, strict=True):
            kept = rows[prompts[order[best]][0]]
            for place in prompts[key]:
                out[place] = rows[place].with_labels(cluster=kept.id)
                if order[best] != key:
                    why = f"{self.called()}: prompt like that of {kept.id}"
                    out[place] = out[place].with_extra(similarity=round(score, 3)).drop(why)
        return out
