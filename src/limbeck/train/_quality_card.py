"""The card of a quality classifier: what it was made of, and what it does on rows that it was not trained on.

    threshold   precision              recall                 kept
    0.5         0.952 (0.903-0.977)    0.897 (0.838-0.936)    0.471

Intervals are Wilson's at 95 %, over rows; several answers to one prompt are not independent, so where prompts have many they are
too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.train._quality_fit import auc, ece

Floats = NDArray[np.float64]
THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)
Z = 1.959963984540054
"""The normal quantile of 95 % intervals."""


def wilson(right: float, total: float) -> dict[str, float | None]:
    """Return the share with Wilson's 95 % interval; None for a share of nothing.

    >>> wilson(9, 10)
    {'mean': 0.9, 'low': 0.5958, 'high': 0.9821}
    """
    if not total:
        return {"mean": None, "low": None, "high": None}
    p, scale = right / total, 1 + Z * Z / total
    centre, half = p + Z * Z / (2 * total), Z * math.sqrt(p * (1 - p) / total + (Z / (2 * total)) ** 2)
    low, high = max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)
    return {"mean": round(p, 4), "low": round(low, 4), "high": round(high, 4)}


def measured(raw: Floats, probabilities: Floats, labels: Floats) -> dict[str, Any]:
    """Return how good probabilities are on held-out rows; `raw` are those before calibration."""
    found = auc(probabilities, labels)
    return {
        "rows": len(labels),
        "good": int(labels.sum()),
        "auc": None if math.isnan(found) else round(found, 4),
        "brier": round(float(((probabilities - labels) ** 2).mean()), 4),
        "ece_before": round(ece(raw, labels), 4),
        "ece": round(ece(probabilities, labels), 4),
        "thresholds": [_at(threshold, probabilities, labels) for threshold in THRESHOLDS],
    }


def _at(threshold: float, probabilities: Floats, labels: Floats) -> dict[str, Any]:
    kept = probabilities >= threshold
    right = float(labels[kept].sum())
    return {
        "threshold": threshold,
        "precision": wilson(right, float(kept.sum())),
        "recall": wilson(right, float(labels.sum())),
        "kept": round(float(kept.mean()), 4),
    }


def written(card: Mapping[str, Any]) -> str:
    """Return the card as a page."""
    held = card["held_out"]
    lines = [
        "# A quality classifier",
        "",
        f"Good means: `{card['score']}` of at least {card['least']:g}. Labels: {card['labels']}. It reads {card['reads']}.",
        f"Trained on {card['trained']['rows']} rows ({card['trained']['good']} good); held out {held['rows']} ({held['good']} "
        "good), divided by prompt, so that no prompt is on both sides. Regularisation chosen by cross-validation: "
        f"strength {card['strength']:g}.",
        "",
        f"On the rows held out: AUC {held['auc']}, Brier score {held['brier']}, expected calibration error {held['ece']} "
        f"(before calibration {held['ece_before']}).",
        "",
        "| threshold | precision | recall | kept |",
        "|---|---|---|---|",
    ]
    for row in held["thresholds"]:
        lines.append(f"| {row['threshold']} | {_shown(row['precision'])} | {_shown(row['recall'])} | {row['kept']} |")
    lines += ["", "Intervals: Wilson, 95 %, over rows."]
    if card["leans"]:
        lines += ["", "## What it leans on", "", f"Towards good: {_listed(card['leans']['good'])}", ""]
        lines += [f"Towards bad: {_listed(card['leans']['bad'])}"]
    return "\n".join(lines) + "\n"


def _shown(found: Mapping[str, float | None]) -> str:
    return "-" if found["mean"] is None else f"{found['mean']:.3f} ({found['low']:.3f} to {found['high']:.3f})"


def _listed(words: list[str]) -> str:
    return ", ".join(f"`{word.replace('`', chr(39))}`" for word in words) or "nothing"
