"""A trained linear classifier of texts: what it consists of, how it judges, and its form on disk.

    quality.json     {"form": 1, "features": {"kind": "ngrams", "size": 262144}, "part": "response", "bias": -0.31,
                      "calibration": {"kind": "platt", "slope": 1.2, "offset": 0.05}, "card": {...}}
    weights.npz      columns, weights: only those that are not 0

It is read without unpickling anything. `probability` = calibrated(bias + the row's n-grams times the weights).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.core.errors import InputError
from limbeck.core.ngrams import Sparse, hashed, of_vectors
from limbeck.core.row import Row

FORM = 1
FILES = ("quality.json", "weights.npz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Classifier:
    """Weights, what they are weights of, and how margins become probabilities."""

    weights: NDArray[np.float64]
    bias: float
    vector: str = ""
    """The extra that holds a row's embedding; empty for hashed n-grams of its text."""
    part: str = "response"
    """Which text of a row is judged: `response`, `prompt` (the last user turn) or `both`."""
    calibration: Mapping[str, Any] = field(default_factory=lambda: {"kind": "none"})
    card: Mapping[str, Any] = field(default_factory=dict)

    def probability(self, rows: Sequence[Row]) -> list[float]:
        """Return for each row the probability that it is of the good kind; NaN for one that can not be judged."""
        features = features_of(rows, part=self.part, vector=self.vector, size=len(self.weights))
        found = calibrated(features.dot(self.weights) + self.bias, self.calibration)
        empty = np.diff(features.begins) == 0
        return [math.nan if bare else float(value) for bare, value in zip(empty, found, strict=True)]

    def save(self, folder: Path) -> None:
        """Write the two files; `quality.json` last, so that where it stands all is there."""
        columns = np.flatnonzero(self.weights)
        with (folder / "weights.npz").open("wb") as file:
            np.savez_compressed(file, columns=columns, weights=self.weights[columns])
        kind = {"kind": "vector", "extra": self.vector} if self.vector else {"kind": "ngrams"}
        told = {"form": FORM, "features": {**kind, "size": len(self.weights)}, "part": self.part, "bias": self.bias}
        told |= {"calibration": dict(self.calibration), "card": dict(self.card)}
        writing = folder / "quality.json.writing"
        writing.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        writing.replace(folder / "quality.json")


def load_classifier(folder: Path) -> Classifier:
    """Read what `save` wrote. Raises InputError for anything else."""
    try:
        told = json.loads((folder / "quality.json").read_text(encoding="utf-8"))
        if told["form"] != FORM:
            raise InputError(f"The classifier in {folder} has form {told['form']}; this version reads form {FORM}.")
        weights = np.zeros(int(told["features"]["size"]))
        with np.load(folder / "weights.npz", allow_pickle=False) as held:
            weights[held["columns"]] = held["weights"]
        return Classifier(
            weights=weights,
            bias=float(told["bias"]),
            vector=str(told["features"].get("extra", "")),
            part=str(told["part"]),
            calibration=told["calibration"],
            card=told["card"],
        )
    except (OSError, ValueError, KeyError, IndexError, TypeError) as problem:
        if isinstance(problem, InputError):
            raise
        raise InputError(
            f"{folder} holds no classifier of train.quality (quality.json and weights.npz): {type(problem).__name__}: {problem}."
        ) from None


def text_of(row: Row, part: str) -> str:
    """Return the text of a row that is judged."""
    return {"response": row.response, "prompt": row.question, "both": f"{row.question}\n\n{row.response}"}[part]


def features_of(rows: Sequence[Row], *, part: str, vector: str, size: int) -> Sparse:
    """Return the features of rows: hashed n-grams, or the embeddings in `extra[vector]`. Raises InputError for odd ones."""
    if not vector:
        return hashed((text_of(row, part) for row in rows), size)
    return of_vectors(np.array([embedding(row, vector, size) for row in rows], dtype=np.float64).reshape(-1, size))


def embedding(row: Row, vector: str, size: int = 0) -> list[float]:
    """Return the embedding in `extra[vector]`. Raises InputError where it is missing, no list of numbers, or not of `size`."""
    found = row.extra.get(vector)
    if not isinstance(found, list) or not found or not all(isinstance(x, int | float) for x in found):
        raise InputError(f"Row {row.id} has no list of numbers in extra['{vector}'].")
    if size and len(found) != size:
        raise InputError(f"Row {row.id} has {len(found)} numbers in extra['{vector}']; {size} are wanted.")
    return [float(x) for x in found]


def calibrated(margins: NDArray[np.float64], calibration: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return margins as probabilities: logistic, logistic after a line (Platt), or along monotone steps (isotonic)."""
    if calibration["kind"] == "isotonic":
        return np.asarray(np.interp(margins, calibration["margins"], calibration["probabilities"]))
    if calibration["kind"] == "platt":
        margins = calibration["slope"] * margins + calibration["offset"]
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(margins, -700, 700))))
