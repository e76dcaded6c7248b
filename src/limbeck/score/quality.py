"""Quality by a classifier that `train.quality` has made: the probability that a teacher would have called the row good.

    Quality(classifier="step:quality")            or the folder of a finished run, runs/edu/03-quality
        scores  {"quality": 0.93}            calibrated: of rows scored .9, nine in ten should be good
        labels  {"quality": "scored"}        "no-text" and no score where there is nothing to judge

After phi-1 (Gunasekar et al. 2023, arXiv 2306.11644) and FineWeb-Edu (Penedo et al. 2024, arXiv 2406.17557): a strong model
labels a sample, a cheap one scores the rest. What it has learned is on the card in its folder, with precision and recall on
rows it was not trained on. It is no better than its labels, and knows only texts like theirs: score another kind of text, and
the figures on the card say nothing. It drops nothing; `Threshold(score="quality", least=0.5)` does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from limbeck.core.classifier import FILES, Classifier, load_classifier
from limbeck.core.models import artefact_of
from limbeck.core.row import Row
from limbeck.core.step import Each, Made


class Quality(Each):
    """Score each row with a trained classifier; a probability."""

    classifier: str
    """Which one: `step:NAME` for a `train.quality` step of the run, or the folder of one."""

    def watch(self) -> Sequence[Path]:
        """The classifier's files."""
        return (
            [] if self.classifier.startswith("step:") else [Path(self.classifier).expanduser() / name for name in FILES]
        )

    def each(self, row: Row) -> Made:
        """Score one row."""
        folder = artefact_of(self, self.classifier)
        (value,) = _loaded(folder, *(_changed(folder / name) for name in FILES)).probability([row])
        scores = {k: v for k, v in row.scores.items() if k != "quality"}
        row = replace(row, scores=scores)
        if math.isnan(value):
            return row.with_labels(quality="no-text")
        return row.with_scores(quality=value).with_labels(quality="scored")


@lru_cache(maxsize=4)
def _loaded(folder: Path, *changed: int) -> Classifier:
    return load_classifier(folder)


def _changed(file: Path) -> int:
    return file.stat().st_mtime_ns if file.is_file() else 0
