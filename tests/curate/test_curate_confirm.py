"""A teacher's word on doubtful contamination: who is asked, what clears a row, and that nothing else does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driving import drive
from limbeck import apply
from limbeck.core.row import Message, Row, new_row
from limbeck.curate.confirm import Confirm, verdict_in
from limbeck.curate.decontaminate import Decontaminate

ITEM = "Every Monday the harbour master counts 14 ferries before noon and 9 after. How many ferries is that in 6 weeks?"
OTHER = ITEM.replace("14", "21").replace("6", "3")
NO, YES = (json.dumps({"reason": "So.", "same": same}) for same in (False, True))


@pytest.fixture
def exam(tmp_path: Path) -> str:
    file = tmp_path / "exam.jsonl"
    file.write_text(json.dumps({"id": "ferries", "question": ITEM}), encoding="utf-8")
    return str(file)


def found(text: str, exam: str) -> Row:
    row = new_row(messages=[Message(role="user", content=text)], made_by={})
    (out,) = Decontaminate(against=(exam,), drop="nothing").whole([row])
    return out


def finding(**changed: Any) -> Row:
    evidence = {
        "item": "a",
        "set": "s",
        "verdict": "contaminated",
        "by": "meaning",
        "share": 0.84,
        "row": "r",
        "text": "t",
    }
    row = new_row(messages=[Message(role="user", content="r")], made_by={})
    return row.with_labels(contamination="contaminated", matched='["a"]').with_extra(contamination=[evidence | changed])


def test_a_variant_is_asked_about_and_cleared(exam: str) -> None:
    asked: list[str] = []

    def answer(ask: Any, sample: int) -> str:
        asked.append(ask.messages[-1].content)
        return NO

    out = drive(Confirm(teacher="t"), found(OTHER, exam), answer)
    assert out.dropped is None and out.labels["contamination_judge"] == "cleared" and "contamination" not in out.labels
    assert out.extra["contamination"] == [] and out.extra["contamination_cleared"][0]["item"] == "ferries"
    assert json.dumps(OTHER) in asked[0] and json.dumps(ITEM) in asked[0] and "⟦" not in asked[0]


def test_what_is_certain_is_dropped_and_what_is_clean_passes_without_a_question(exam: str) -> None:
    out = drive(Confirm(teacher="t"), found(ITEM, exam))
    assert out.dropped == "curate.confirm: contaminated, exam.jsonl: item ferries (certain)"
    clean = found("How do I tie a bowline?", exam)
    assert drive(Confirm(teacher="t"), clean) == clean


@pytest.mark.parametrize(
    "changed", [{}, {"by": "words", "share": 0.6}, {"by": "words", "share": 1.0, "verdict": "variant"}]
)
def test_doubt_is_meaning_a_variant_or_a_part(changed: dict[str, Any]) -> None:
    assert drive(Confirm(teacher="t"), finding(**changed), [NO]).dropped is None
    assert drive(Confirm(teacher="t"), finding(**changed), [YES]).labels["contamination_judge"] == "same"


def test_every_finding_must_be_cleared() -> None:
    row = finding()
    two = row.with_extra(contamination=[*row.extra["contamination"], {**row.extra["contamination"][0], "item": "b"}])
    assert drive(Confirm(teacher="t"), two, [NO, NO]).dropped is None
    assert drive(Confirm(teacher="t"), two, [NO, YES]).dropped == "curate.confirm: contaminated, s: item b (same)"


@given(st.one_of(st.text(), st.sampled_from(["", "false", "no", "{}", "[]", '{"same": 0, "reason": ""}', f"Sure: {NO}", f"{NO}{NO}",
                                             '{"same": "false", "reason": ""}', '{"same": false}', "null"])))  # fmt: skip
def test_whatever_else_is_said_the_row_stays_flagged(reply: str) -> None:
    out = drive(Confirm(teacher="t"), finding(), [reply])
    assert out.dropped and out.labels == {
        "contamination": "contaminated", "matched": '["a"]', "contamination_judge": "unreadable",
    }  # fmt: skip


def test_replies_are_read_to_the_letter() -> None:
    assert [verdict_in(reply) for reply in (NO, YES, f" {NO}\n", f"```{NO}```")] == [
        "cleared",
        "same",
        "cleared",
        "unreadable",
    ]


@pytest.mark.parametrize(("teacher", "kept"), [("echo", 0), ("echo:" + NO, 1)])
def test_through_the_engine(exam: str, tmp_path: Path, teacher: str, kept: int) -> None:
    result = apply("curate.confirm", [found(OTHER, exam), found(ITEM, exam)], out=tmp_path / "out", teacher=teacher)
    assert len(result.rows("confirm")) == kept
    told = {row.labels["contamination_judge"] for row in result.rows("confirm", dropped=True)}
    assert told == ({"certain"} if kept else {"certain", "unreadable"})
