"""Which row of a cluster stays, and what is written on all of them: the same for every step that looks for duplicates.

    rows       a (sealed no)   b (no)   c (yes)      one cluster
    kept       c; a and b dropped: "curate.near: near-duplicate of c"; all three carry labels {"cluster": "c"}

An evaluation row (`sealed`) is never dropped. Where a cluster holds some, all of them stay and every other row goes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from limbeck.core.row import Message, Row

Keep = Literal["first", "longest", "best"]
"""The first row of a cluster, the one with the most text, or the one with the best score; ties go to the first."""
Part = Literal["messages", "prompt", "response"]
"""What of a conversation is compared: all turns, the turns before the response, or the response."""


def turns(row: Row, part: Part) -> Sequence[Message]:
    """Return the turns of the row that are compared."""
    if part == "messages":
        return row.messages
    return row.prompt if part == "prompt" else row.messages[-1:] if row.has_response else ()


def texts(row: Row, part: Part) -> list[str]:
    """Return the texts of those turns, tool calls among them."""
    return [text for turn in turns(row, part) for text in (turn.content, turn.tool_calls) if text]


def worth(row: Row, keep: Keep, score: str) -> float:
    """Return what the row is worth to the policy: the most is kept."""
    if row.sealed:
        return math.inf
    if keep == "longest":
        return float(sum(len(turn.content) for turn in row.messages))
    value = row.scores.get(score, -math.inf) if keep == "best" else 0.0
    return -math.inf if math.isnan(value) else value


def kept_of(first: Sequence[int], worths: Sequence[float]) -> list[int]:
    """Return for every place the place that is kept of its cluster; `first` names the cluster by its first place."""
    best: dict[int, int] = {}
    for place, cluster in enumerate(first):
        if worths[place] > worths[best.setdefault(cluster, place)]:
            best[cluster] = place
    return [best[cluster] for cluster in first]


def settled(
    row: Row, kept: Row, stays: bool, reason: str, *, cluster: str = "", evidence: Mapping[str, Any] | None = None
) -> Row:
    """Return the row with its cluster (named after the kept row unless told otherwise), dropped unless it stays or is sealed."""
    row = row.with_labels(cluster=cluster or kept.id)
    if stays or row.sealed:
        return row
    return row.with_extra(**(evidence or {})).drop(f"{reason} of {kept.id}")
