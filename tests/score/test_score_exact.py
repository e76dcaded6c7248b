"""The exact-match verifier."""

from __future__ import annotations

import pytest

from limbeck.core.row import Message, Row, new_row
from limbeck.score.exact import Exact


def judge(response: str, reference: object, **fields: bool) -> Row:
    turns = (Message(role="user", content="?"), Message(role="assistant", content=response))
    judged = Exact(**fields).each(new_row(messages=turns, task={"reference": reference}, made_by={}))
    assert isinstance(judged, Row)
    return judged


@pytest.mark.parametrize(
    ("response", "reference", "passes"),
    [
        ("Yes", "yes", True),
        ("“Yes”", "yes", False),
        ('"Yes".', "yes", True),
        ("yes no", "yes", False),
        ("ｙｅｓ", "yes", True),
        ("Answer: no", "yes", False),
        ("Answer: yes", "yes", True),
        ("Paris", ["London", "Paris"], True),
        ("Rome", ["London", "Paris"], False),
        ("5", 5, True),
        ("x1", "x2", False),
        ("a\n b", "a b", True),
    ],
)
def test_matches(response: str, reference: object, passes: bool) -> None:
    assert judge(response, reference).scores == {"exact": float(passes), "verified": float(passes)}


def test_case_may_count() -> None:
    assert judge("yes", "Yes", case=True).scores["verified"] == 0.0
    assert judge("Yes", "Yes", case=True).scores["verified"] == 1.0
