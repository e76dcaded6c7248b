"""A classifier of quality, in the way of phi-1 and FineWeb-Edu: a teacher labels a sample, a linear model learns to do it for all.

    Quality(teacher="openai:MODEL", sample=2000)              rows are judged (score.judge, "educational value"), then learnt from
    Quality(score="verified", least=1.0)                      rows that carry a score already
        quality.json  weights.npz  card.md                    what `score.quality` reads, and what to read before believing it

    rows with labels -+- 4/5 by prompt -- cross-validation: strength of the regularisation, margins of unseen rows -> calibration
                      +- 1/5 -- held out: precision and recall by threshold, AUC, calibration error: the card

phi-1 (Gunasekar et al. 2023, arXiv 2306.11644) took a random forest on embeddings of a code model and asked for "educational
value"; FineWeb-Edu (Penedo et al. 2024, arXiv 2406.17557) a linear layer on Snowflake's embeddings, grades of 0 to 5, kept from
3. Here it is logistic regression on hashed words and pairs of words, which needs no model and no download, or on embeddings
that rows bring along (`vector`). Length is no feature: rows of words are brought to length 1. The grade is a yes or no at
`least`, as phi-1's was.

The rows it returns are those it learnt from, with their labels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from limbeck.core.classifier import Classifier, calibrated, embedding, features_of, text_of
from limbeck.core.errors import UsageError
from limbeck.core.ngrams import Sparse, ngram_hashes, words_of
from limbeck.core.row import Row
from limbeck.core.step import Context, Make
from limbeck.train._quality_card import measured, written
from limbeck.train._quality_fit import fit, isotonic, logistic, platt

Floats = NDArray[np.float64]
EDUCATIONAL = (
    "How much would a student who wants to learn the subject gain from this text? 1: nothing (advertising, noise, a bare answer); "
    "3: it teaches something, though unevenly; 5: it is clear, right and complete, like a good textbook."
)
STRENGTHS = (1.0, 10.0, 100.0)
FOLDS = 5
FEWEST = 20
"""Labelled rows, and FOLDS of either kind, without which there is nothing to learn."""


class Quality(Make):
    """Train a linear classifier of good and bad rows from labels that rows carry or that a teacher gives."""

    teacher: str = ""
    """Who labels a sample, by `score.judge`; empty where rows carry labels already."""
    sample: int = Field(default=1000, ge=FEWEST)
    """How many rows the teacher labels."""
    rubric: str = EDUCATIONAL
    """The question that the teacher answers with 1 to 5."""
    score: str = "judge"
    """The score that says what is good; a teacher's grades of 1 to 5 are 0 to 1 in `judge`. Rows without it are not learnt from."""
    least: float = 0.5
    """From which score on a row is good; .5 is a grade of 3."""
    part: Literal["response", "prompt", "both"] = "response"
    """Which text is judged: the last assistant turn, the last user turn, or both."""
    vector: str = ""
    """Learn from embeddings, lists of numbers in this extra of the rows, instead of from words."""
    size: int = Field(default=1 << 18, ge=16, le=1 << 24)
    """Columns that words and pairs of words are hashed into."""
    calibration: Literal["platt", "isotonic", "none"] = "platt"
    """How margins become probabilities; isotonic wants a thousand labels and more."""
    held_out: float = Field(default=0.2, gt=0, lt=1)
    """The share of prompts that is kept for the card."""
    seed: int = 0
    """Which rows are sampled and which are held out."""

    def make(self, rows: list[Row], context: Context) -> Iterable[Row]:
        """Label, train, calibrate, measure, save; return the rows that were learnt from."""
        known = self._labelled(rows, context)
        labels = np.array([float(row.scores[self.score] >= self.least) for row in known])
        held = np.array([self._draw(row.group, "held out") < self.held_out for row in known], dtype=bool)
        self._check(labels, held)
        size = len(embedding(known[0], self.vector)) if self.vector else self.size
        features = features_of(known, part=self.part, vector=self.vector, size=size)
        seen, unseen = np.flatnonzero(~held), np.flatnonzero(held)
        train = features.take(seen.tolist())
        folds = np.array([int(self._draw(known[place].group, "fold") * FOLDS) for place in seen])
        strength, margins = crossed(train, labels[seen], folds)
        calibration = _calibration(self.calibration, margins, labels[seen])
        weights, bias = fit(train, labels[seen], strength)
        test = features.take(unseen.tolist()).dot(weights) + bias
        card = {
            "score": self.score,
            "least": self.least,
            "labels": f"{self.teacher}, by score.judge" if self.teacher else "carried by the rows",
            "reads": f"the embeddings in `{self.vector}`"
            if self.vector
            else f"words and pairs of words of the {self.part}",
            "strength": strength,
            "trained": {"rows": len(seen), "good": int(labels[seen].sum())},
            "held_out": measured(logistic(test), calibrated(test, calibration), labels[unseen]),
            "leans": {} if self.vector else self._leans([known[p] for p in seen], weights),
        }
        made = Classifier(
            weights=weights, bias=bias, vector=self.vector, part=self.part, calibration=calibration, card=card
        )
        made.save(context.folder)
        (context.folder / "card.md").write_text(written(card), encoding="utf-8")
        return known

    def _labelled(self, rows: Sequence[Row], context: Context) -> list[Row]:
        if self.teacher:
            drawn = sorted(rows, key=lambda row: (self._draw(row.id, "sample"), row.id))[: self.sample]
            judge: dict[str, Any] = {"teacher": self.teacher, "aspects": ("value",), "rubric": {"value": self.rubric}}
            rows = context.apply("score.judge", drawn, overall=False, **judge)
        scored = [row for row in rows if row.dropped is None and math.isfinite(row.scores.get(self.score, math.nan))]
        return [row for row in scored if self.vector or words_of(text_of(row, self.part))]

    def _check(self, labels: Floats, held: NDArray[np.bool_]) -> None:
        good = int(labels.sum())
        if len(labels) < FEWEST or min(good, len(labels) - good) < FOLDS:
            raise UsageError(
                f"train.quality needs at least {FEWEST} rows with the score '{self.score}', {FOLDS} of them good and {FOLDS} bad; "
                f"there are {len(labels)}, {good} of them good (at least {self.least:g})."
            )
        seen = labels[~held]
        if not held.any() or min(seen.sum(), len(seen) - seen.sum()) < 1:
            raise UsageError(
                "train.quality needs rows of several prompts: held-out rows are divided from the rest by prompt."
            )

    def _draw(self, name: str, use: str) -> float:
        """Return a number in [0, 1) that belongs to a row or group and to this use of it."""
        found = blake2b(f"{self.seed}\x00{use}\x00{name}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return int.from_bytes(found, "big") / 2**64

    def _leans(self, rows: Sequence[Row], weights: Floats, count: int = 15) -> dict[str, list[str]]:
        """Return the words and pairs that count most for and against: hashing forgets them, the texts do not."""
        seen: dict[int, str] = {}
        for row in rows:
            words = words_of(text_of(row, self.part))
            grams = [*words, *(" ".join(pair) for pair in itertools.pairwise(words))]
            for column, gram in zip((ngram_hashes(words) % np.uint64(self.size)).tolist(), grams, strict=True):
                seen.setdefault(column, gram)
        order = sorted(seen, key=lambda column: (-float(weights[column]), column))
        good = [seen[c] for c in order[:count] if weights[c] > 0]
        return {"good": good, "bad": [seen[c] for c in order[::-1][:count] if weights[c] < 0]}


def crossed(features: Sparse, labels: Floats, folds: NDArray[Any]) -> tuple[float, Floats]:
    """Return the strength of least log-loss on rows left out in turn, and the margins that those rows then get."""
    best = (math.inf, STRENGTHS[0], np.zeros(len(labels)))
    for strength in STRENGTHS:
        margins = np.zeros(len(labels))
        for fold in range(FOLDS):
            left = np.flatnonzero(folds == fold)
            rest = np.flatnonzero(folds != fold)
            if len(left) and len(rest):
                weights, bias = fit(features.take(rest.tolist()), labels[rest], strength)
                margins[left] = features.take(left.tolist()).dot(weights) + bias
        loss = float((np.logaddexp(0, margins) - labels * margins).mean())
        if loss < best[0]:
            best = (loss, strength, margins)
    return best[1], best[2]


def _calibration(kind: str, margins: Floats, labels: Floats) -> dict[str, Any]:
    if kind == "platt":
        slope, offset = platt(margins, labels)
        return {"kind": "platt", "slope": slope, "offset": offset}
    if kind == "isotonic":
        knots, heights = isotonic(margins, labels)
        return {"kind": "isotonic", "margins": knots, "probabilities": heights}
    return {"kind": "none"}
