"""select.first keeps the first k rows of each prompt, in order, and drops the rest with a reason."""

from __future__ import annotations

from limbeck.core.row import Message, Row, new_row
from limbeck.select.first import First


def _rows() -> list[Row]:
    return [
        new_row(messages=[Message(role="user", content=f"{group} {i}")], made_by={"i": i}, group=group)
        for i in range(3)
        for group in ("a", "b")
    ]


def test_keeps_the_first_of_each_group() -> None:
    out = First().whole(_rows())
    assert [(r.group, r.question) for r in out if r.dropped is None] == [("a", "a 0"), ("b", "b 0")]
    assert all(r.dropped == "select.first: a later sample of its prompt" for r in out[2:])


def test_k_counts_per_group() -> None:
    assert sum(r.dropped is None for r in First(k=2).whole(_rows())) == 4
