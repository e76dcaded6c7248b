"""Fitting a linear classifier and its calibration, in numpy: small, deterministic, with nothing to tune by hand.

    fit(features, labels, strength=1.0)         weights, bias      L2-regularised logistic regression, by L-BFGS
    platt(margins, labels)                      slope, offset      probabilities = logistic(slope * margin + offset)
    isotonic(margins, labels)                   knots              pool adjacent violators
    ece(probabilities, labels)                  0.021              mean gap between what is said and what is so, in ten bins

The objective is scikit-learn's: 1/2 |w|^2 + strength * sum of log-losses, the bias free. Platt's targets are smoothed by his
own rule, (n+ + 1)/(n+ + 2) and 1/(n- + 2), so that separable labels do not give probabilities of 0 and 1 (Platt 1999;
Niculescu-Mizil & Caruana 2005 compare the two)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from limbeck.core.ngrams import Sparse

Floats = NDArray[np.float64]
Objective = Callable[[Floats], tuple[float, Floats]]
ROUNDS, MEMORY, TOLERANCE = 200, 10, 1e-4


def fit(features: Sparse, labels: Floats, strength: float) -> tuple[Floats, float]:
    """Return weights and bias that minimise the regularised log-loss; columns that no row has weigh 0."""
    used, columns = np.unique(features.columns, return_inverse=True)
    compact = Sparse(features.begins, columns.astype(np.int64), features.values, len(used))

    def objective(point: Floats) -> tuple[float, Floats]:
        weights, margins = point[:-1], compact.dot(point[:-1]) + point[-1]
        loss = strength * float((np.logaddexp(0, margins) - labels * margins).sum()) + 0.5 * float(weights @ weights)
        wrong = strength * (logistic(margins) - labels)
        return loss, np.append(weights + compact.back(wrong), wrong.sum())

    found = minimised(objective, np.zeros(len(used) + 1))
    weights = np.zeros(features.size)
    weights[used] = found[:-1]
    return weights, float(found[-1])


def logistic(margins: Floats) -> Floats:
    """Return 1 / (1 + exp(-margin))."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(margins, -700, 700))))


def minimised(objective: Objective, start: Floats) -> Floats:
    """Return the minimum of a smooth convex function by L-BFGS (Liu & Nocedal 1989) with a backtracking line search."""
    point, (value, slope) = start, objective(start)
    past: deque[tuple[Floats, Floats]] = deque(maxlen=MEMORY)
    for _ in range(ROUNDS):
        if float(np.abs(slope).max(initial=0.0)) < TOLERANCE * max(1.0, abs(value)):
            break
        direction = _direction(slope, past)
        gain, step = float(slope @ direction), 1.0
        if not past:
            step = 1.0 / max(1.0, float(np.abs(slope).sum()))
        while True:
            new = point + step * direction
            new_value, new_slope = objective(new)
            if new_value <= value + 1e-4 * step * gain:
                break
            step /= 2
            if step < 1e-12:
                return point
        if float((new - point) @ (new_slope - slope)) > 1e-12:
            past.append((new - point, new_slope - slope))
        point, value, slope = new, new_value, new_slope
    return point


def _direction(slope: Floats, past: deque[tuple[Floats, Floats]]) -> Floats:
    """Return the quasi-Newton direction from the last moves: the two-loop recursion."""
    found, weights = -slope, []
    for moved, bent in reversed(past):
        weight = float(moved @ found) / float(moved @ bent)
        weights.append(weight)
        found = found - weight * bent
    if past:
        moved, bent = past[-1]
        found = found * (float(moved @ bent) / float(bent @ bent))
    for (moved, bent), weight in zip(past, reversed(weights), strict=True):
        found = found + (weight - float(bent @ found) / float(moved @ bent)) * moved
    return found


def platt(margins: Floats, labels: Floats) -> tuple[float, float]:
    """Return slope and offset of the logistic that turns margins into probabilities."""
    good = float(labels.sum())
    targets = np.where(labels > 0, (good + 1) / (good + 2), 1 / (len(labels) - good + 2))

    def objective(point: Floats) -> tuple[float, Floats]:
        scaled = point[0] * margins + point[1]
        wrong = logistic(scaled) - targets
        loss = float((np.logaddexp(0, scaled) - targets * scaled).sum())
        return loss, np.array([float(wrong @ margins), float(wrong.sum())])

    slope, offset = minimised(objective, np.array([1.0, 0.0]))
    return float(slope), float(offset)


def isotonic(margins: Floats, labels: Floats) -> tuple[list[float], list[float]]:
    """Return margins and the non-decreasing probabilities at them that fit best in squares; between them it is a line."""
    order = np.argsort(margins, kind="stable")
    blocks: list[list[float]] = []  # sum of labels, count, first margin, last margin
    for margin, label in zip(margins[order], labels[order], strict=True):
        blocks.append([float(label), 1.0, float(margin), float(margin)])
        while len(blocks) > 1 and (
            blocks[-2][0] * blocks[-1][1] >= blocks[-1][0] * blocks[-2][1] or blocks[-2][3] == blocks[-1][2]
        ):
            total, count, _, last = blocks.pop()
            blocks[-1] = [blocks[-1][0] + total, blocks[-1][1] + count, blocks[-1][2], last]
    knots, heights = [], []
    for total, count, first, last in blocks:
        for margin in dict.fromkeys((first, last)):
            knots.append(margin)
            heights.append(total / count)
    return knots, heights


def ece(probabilities: Floats, labels: Floats, bins: int = 10) -> float:
    """Return the expected calibration error over equally wide bins (Naeini et al. 2015).

    >>> ece(np.array([0.25, 0.25, 0.25, 0.25]), np.array([0.0, 0.0, 0.0, 1.0]))
    0.0
    """
    place = np.minimum((probabilities * bins).astype(int), bins - 1)
    gaps = [abs(float((probabilities[place == b] - labels[place == b]).sum())) for b in range(bins)]
    return sum(gaps) / len(labels)


def auc(scores: Floats, labels: Floats) -> float:
    """Return the chance that a good row has a higher score than a bad one, ties counted half; NaN without both kinds."""
    good, bad = scores[labels > 0], np.sort(scores[labels <= 0])
    if not len(good) or not len(bad):
        return float("nan")
    below = np.searchsorted(bad, good, "left") + np.searchsorted(bad, good, "right")
    return float(below.sum()) / 2 / len(good) / len(bad)
