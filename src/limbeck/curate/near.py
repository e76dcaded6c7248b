"""Near-duplicates: rows whose texts are the same but for a few words, found by MinHash and checked exactly.

    5b1e  Tom has 12 red apples and gives 3 ...   kept      labels {"cluster": "5b1e..."}
    77c0  tom has 12 red apples, and gives 3 ...  dropped   labels {"cluster": "5b1e..."}   "curate.near: near-duplicate of 5b1e..."
                                                            extra {"similarity": 0.91}
    8a2d  Tom has 15 red apples and gives 4 ...   kept      labels {"cluster": "8a2d..."}

Two texts are near-duplicates when the Jaccard similarity of their sets of shingles (runs of 2 to 5 words, longer for longer
texts) reaches `threshold`. Case, accents, quotes, spaces and most punctuation do not count; **digits and the signs of
formulas do**. Duplicates of duplicates are in one cluster, so a dropped row may be less similar to the kept one than the
threshold says; `extra["similarity"]` tells. How it is done, and what happens in giant buckets: `curate/_near.py`.
Sealed rows are never dropped; rows without a single word are duplicates of none.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pydantic import Field

from limbeck.core.row import Row
from limbeck.core.step import Whole
from limbeck.curate._keep import Keep, Part, kept_of, settled, texts, worth

if TYPE_CHECKING:
    import pyarrow as pa

    from limbeck.curate._near import Clusters, Texts


class Near(Whole):
    """Keep one row of each cluster of near-duplicates."""

    on: Part = "messages"
    """Which part of a conversation is compared."""
    threshold: float = Field(default=0.7, gt=0.0, le=1.0)
    """The Jaccard similarity from which on two texts are near-duplicates; .7 is about one word in thirty changed."""
    shingle: int = Field(default=0, ge=0, le=64)
    """Words in a shingle; 0 chooses by length: 2 for texts under 12 words, 3 under 40, else 5."""
    bands: int = Field(default=32, ge=1, le=256)
    """Bands of the sketch: more of them find pairs further below the threshold, and cost more."""
    rows: int = Field(default=4, ge=1, le=16)
    """Numbers in a band: more of them let fewer dissimilar pairs meet."""
    keep: Keep = "first"
    """Which row of a cluster is kept: the first, the longest, or the one with the best `score`; ties go to the first."""
    score: str = "verified"
    """The score that `keep="best"` looks at; a row without it counts as the worst."""

    def whole(self, rows: list[Row]) -> list[Row]:
        """Return the rows with their clusters, all but one of each cluster dropped."""
        from limbeck.curate._near import Lists

        out = list(rows)
        places = [place for place, row in enumerate(rows) if row.dropped is None]
        alive = [rows[place] for place in places]
        found = self.clusters(Lists([texts(row, self.on) for row in alive]))
        kept = kept_of(found.first.tolist(), [worth(row, self.keep, self.score) for row in alive])
        similarity = found.similarity(kept)
        reason = f"{self.called()}: near-duplicate"
        for mine, best, alike in zip(range(len(alive)), kept, similarity, strict=True):
            evidence = {"similarity": round(alike, 3)}
            out[places[mine]] = settled(alive[mine], alive[best], mine == best, reason, evidence=evidence)
        return out

    def table(self, table: pa.Table) -> pa.Table:
        """Do the same to an Arrow table, without making rows of it."""
        from limbeck.curate._columns import Columns, worths, written

        found = self.clusters(Columns(table, self.on))
        worth_of = worths(table, self.keep, self.score)
        kept = kept_of(found.first.tolist(), worth_of.tolist())
        return written(table, kept, found.similarity(kept), f"{self.called()}: near-duplicate")

    def clusters(self, texts: Texts) -> Clusters:
        """Return the clusters of texts; says on stderr where buckets were too large for all pairs."""
        from limbeck.curate import _near

        shape = _near.Shape(self.threshold, self.shingle, self.bands, self.rows)
        found = _near.clusters(texts, shape, _near.reporter(self.called()))
        if found.crowded:
            print(
                f"limbeck: {self.called()}: {found.crowded} buckets held more than {_near.CROWD} different texts; "
                f"in those each was compared with the {_near.CROWD} most alike, not with all.",
                file=sys.stderr,
            )
        return found
