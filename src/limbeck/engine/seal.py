"""The seal: evaluation rows, and everything made from them, can not be trained on.

A row's own `sealed` flag is inherited by its children, but a step may forget it. So before any `make` step that does
not declare `reads_sealed` (what trains must not, a user's own trainer included) the engine walks the parents of its
rows through the run's files, back to the sources, and looks for a sealed ancestor.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from limbeck.core.errors import SealedError
from limbeck.core.row import Row


def check(step: str, rows: Iterable[Row], files: Sequence[Path]) -> None:
    """Raise SealedError if a row is sealed or descends from a sealed row of `files` (the run's Parquet files)."""
    parents, sealed = _lineage(files)
    for row in rows:
        culprit = row.id if row.sealed else _sealed_ancestor((row.id, *row.parents), parents, sealed)
        if culprit is not None:
            raise SealedError(
                f"{step} was handed row {row.id}, which belongs to or descends from the sealed evaluation row "
                f"{culprit}. Sealed rows can be evaluated and compared against, never trained on: read another branch."
            )


def _sealed_ancestor(first: Sequence[str], parents: dict[str, Sequence[str]], sealed: set[str]) -> str | None:
    stack, seen = list(first), set(first)
    while stack:
        name = stack.pop()
        if name in sealed:
            return name
        fresh = [p for p in parents.get(name, ()) if p not in seen]
        seen.update(fresh)
        stack.extend(fresh)
    return None


def _lineage(files: Sequence[Path]) -> tuple[dict[str, Sequence[str]], set[str]]:
    import pyarrow.parquet as pq

    parents: dict[str, Sequence[str]] = {}
    sealed: set[str] = set()
    for file in files:
        columns = pq.read_table(file, columns=["id", "parents", "sealed"]).to_pydict()
        for name, above, closed in zip(columns["id"], columns["parents"], columns["sealed"], strict=True):
            parents[name] = above
            if closed:
                sealed.add(name)
    return parents, sealed
