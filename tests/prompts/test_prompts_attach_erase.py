"""Attaching and erasing: system messages and hints, and the proof that what was erased is gone."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.core.errors import UsageError
from limbeck.core.row import Message, Row, new_row
from limbeck.core.step import Drop
from limbeck.prompts.bank import BANK
from limbeck.prompts.erase import Erase
from limbeck.prompts.explain import Explain
from limbeck.prompts.hint import Hint

TEXT = st.text(max_size=40)


def prompt(question: str = "Start with 3. Double it.", reference: object = "6", system: str = "") -> Row:
    turns = ([Message(role="system", content=system)] if system else []) + [Message(role="user", content=question)]
    return new_row(messages=turns, task={"reference": reference}, labels={"family": "x"}, made_by={"step": "test"})


def answered(row: Row, text: str) -> Row:
    return row.child(
        (*row.messages, Message(role="assistant", content=text)), made_by={"step": "generate.sample"}
    ).with_scores(verified=1.0)


def test_the_hint_is_added_and_recorded() -> None:
    row = Hint().each(prompt())
    assert isinstance(row, Row)
    assert row.question == "Start with 3. Double it.\nHint: the answer is 6."
    assert row.extra["attached"] == [{"by": "prompts.hint", "text": "\nHint: the answer is 6."}]
    assert row.parents == (prompt().id,) and row.group == prompt().group


def test_the_hint_replaces_a_failed_response() -> None:
    failed = answered(prompt(), "Answer: 5").with_labels(verdict="wrong", answer="5", finish="stop")
    row = Hint().each(failed)
    assert isinstance(row, Row)
    assert not row.has_response and row.scores == {} and row.labels == {"family": "x"}


@pytest.mark.parametrize("reference", [None, "", "x" * 500])
def test_without_a_short_reference_there_is_no_hint(reference: object) -> None:
    assert isinstance(Hint().each(prompt(reference=reference)), Drop)


def test_erasing_restores_the_prompt_and_remembers_the_hint() -> None:
    hinted = Hint().each(prompt())
    assert isinstance(hinted, Row)
    sampled = answered(hinted, "3 * 2 = 6.\nAnswer: 6")
    clean = Erase().each(sampled)
    assert isinstance(clean, Row)
    assert clean.prompt == prompt().messages and clean.response == "3 * 2 = 6.\nAnswer: 6"
    assert clean.extra["attached"] == [] and [e["by"] for e in clean.extra["erased"]] == ["prompts.hint"]
    assert clean.parents == (sampled.id,) and clean.group == sampled.group and clean.scores == {"verified": 1.0}
    assert "Hint: the answer" not in str(clean)


@given(TEXT, st.text(min_size=1, max_size=20).filter(lambda t: t.strip()), TEXT, TEXT, st.booleans())
def test_erase_undoes_attach_or_drops(
    question: str, reference: str, response: str, system: str, explained: bool
) -> None:
    start = prompt(question, reference, system)
    row = start
    if explained:
        (row,) = Explain(must_erase=True).each(row)  # type: ignore[misc]
    hinted = Hint().each(row)
    assert isinstance(hinted, Row)
    texts = [item["text"].strip() for item in hinted.extra["attached"]]
    clean = Erase().each(answered(hinted, response))
    if isinstance(clean, Drop):
        assert any(text in part for text in texts for part in (question, response, system, reference))
        return
    assert isinstance(clean, Row)
    assert clean.prompt == start.messages
    assert not any(text in m.content for text in texts for m in clean.messages)
    assert clean.extra["attached"] == []


def test_a_response_that_repeats_the_hint_is_dropped() -> None:
    hinted = Hint().each(prompt())
    assert isinstance(hinted, Row)
    leak = Erase().each(answered(hinted, "As you say, Hint: the answer is 6. Answer: 6"))
    assert isinstance(leak, Drop) and "repeated elsewhere" in leak.why


def test_a_changed_prompt_can_not_be_shown_to_be_clean() -> None:
    hinted = Hint().each(prompt())
    assert isinstance(hinted, Row)
    reworded = replace(hinted, messages=(Message(role="user", content="Start with 3. The answer is 6, by the way."),))
    assert isinstance(Erase().each(reworded), Drop)


def test_rows_without_attachments_pass_unchanged() -> None:
    row = answered(prompt(), "6")
    assert Erase().each(row) is row


def test_a_general_system_message_takes_the_place_of_the_erased() -> None:
    (row,) = Explain(must_erase=True, names=("detailed",)).each(prompt())  # type: ignore[misc]
    assert isinstance(row, Row) and row.messages[0].role == "system"
    clean = Erase(system="Be careful.").each(answered(row, "6"))
    assert isinstance(clean, Row)
    assert [m.content for m in clean.messages] == ["Be careful.", "Start with 3. Double it.", "6"]


def test_system_messages_are_dealt_evenly_and_by_the_row_alone() -> None:
    step = Explain(seed=1)
    rows = [prompt(f"Question {n}") for n in range(600)]
    dealt = [step.each(r)[0].labels["system"] for r in rows]  # type: ignore[index, union-attr]
    assert dealt == [step.each(r)[0].labels["system"] for r in rows]  # type: ignore[index, union-attr]
    counts = Counter(dealt)
    traces = [m.name for m in BANK if m.style == "trace"]
    assert set(counts) == set(traces) and max(counts.values()) < 2 * 600 / len(traces)
    other = [Explain(seed=2).each(r)[0].labels["system"] for r in rows]  # type: ignore[index, union-attr]
    assert sum(a != b for a, b in zip(dealt, other, strict=True)) > 300


def test_each_prompt_may_go_under_several_messages() -> None:
    made = Explain(each_prompt=3, styles=("trace", "answer")).each(prompt())
    assert isinstance(made, list) and len({r.labels["system"] for r in made}) == 3 and len({r.id for r in made}) == 3


def test_an_own_system_message_is_kept() -> None:
    (row,) = Explain(names=("detailed",)).each(prompt(system="You are Ben."))  # type: ignore[misc]
    assert isinstance(row, Row)
    assert row.messages[0].content == "You are Ben.\n\nAnswer in detail and leave nothing out."


def test_wrong_names_are_explained() -> None:
    with pytest.raises(UsageError, match="Did you mean 'detailed'"):
        Explain(names=("detaild",)).each(prompt())
