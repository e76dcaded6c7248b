"""Rules on texts: the measures by hand, the rules on their own examples, and precision and recall on planted faults."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_quality import FOREIGN, RULES, plant, real_answers, row_of

from limbeck.core.errors import UsageError
from limbeck.core.row import Message, Row, new_row
from limbeck.score._heuristics_language import language_of
from limbeck.score._heuristics_measures import REPEATED, measures
from limbeck.score._heuristics_phrases import filler, refusal, self_reference, truncated
from limbeck.score._heuristics_rules import instance_fault, instruction_fault, lima_faults
from limbeck.score.heuristics import SOUP, Heuristics


def judged(response: str, prompt: str = "Tell me how it is done.", **fields: object) -> Row:
    made = Heuristics(**fields).each(row_of(prompt, response))
    assert isinstance(made, Row) and made.dropped is None
    return made


@pytest.mark.parametrize(("row", "score"), Heuristics.validate())
def test_texts_without_fault_score_one_and_planted_faults_zero(row: Row, score: float) -> None:
    made = Heuristics().each(row)
    assert isinstance(made, Row) and made.scores["heuristics"] == score, made.labels
    assert (made.labels["heuristics"] == "fine") == (score == 1.0) == ("heuristics_why" not in made.labels)


def test_the_measures_are_gophers() -> None:
    found = measures("# Title\n- one two\n- one two...\n\nthe end of it …")
    assert found["words"] == 13 and found["bullet_lines"] == 0.5 and found["ellipsis_lines"] == 0.5
    assert found["stop_words"] == 2 and found["symbols_per_word"] == pytest.approx(2 / 13)
    assert found["alphabetic_words"] == pytest.approx(9 / 13)
    lines = measures("aaaa\nbb\naaaa\naaaa")
    assert lines["duplicate_lines"] == 0.5 and lines["duplicate_line_characters"] == pytest.approx(8 / 14)
    paragraphs = measures("a b\n\nc\n\na b")
    assert paragraphs["duplicate_paragraphs"] == pytest.approx(1 / 3)
    # "x y" thrice: 6 of 7 characters; twice would not count
    assert measures("x y x y x y z")["top_2_gram"] == pytest.approx(6 / 7)
    assert measures("x y x y z")["top_2_gram"] == 0.0


def test_words_in_duplicate_n_grams_count_once_and_the_first_occurrence_not() -> None:
    assert measures("a b c d e f a b c d e f")["duplicate_5_grams"] == pytest.approx(6 / 12)
    assert measures("a b c d e f a b c d e f")["duplicate_10_grams"] == 0.0
    assert measures("a a a a a a a")["duplicate_5_grams"] == pytest.approx(6 / 7)


def test_a_loop_is_four_turns_of_the_same_words() -> None:
    assert measures("go on " * 4)["loop"] == 1.0
    assert measures("go on " * 3 + "and then stop")["loop"] == 0.0
    assert measures("Well then: " + "so it is, " * 5 + "indeed.")["loop"] == pytest.approx(15 / 18)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=300))
def test_shares_lie_between_0_and_1_and_nothing_raises(text: str) -> None:
    found = measures(text)
    assert all(0 <= found[name] <= 1 for name in [*REPEATED, "loop", "bullet_lines", "ellipsis_lines"])
    made = judged(text)
    assert set(made.scores.values()) and made.messages[-1].content == made.response
    assert judged(text) == made


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry to hear that you can't sleep. Try to read a book.",
        "I can't wait to see you!",
        "If I can't come, I will call you.",
        "You can't divide by zero, so there is no answer.",
        "The court was unable to provide a reason.",
        "Dear Sir, we regret that the train is late.",
    ],
)
def test_what_only_looks_like_a_refusal_is_none(text: str) -> None:
    assert refusal(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "As an AI company, DeepMind plays Go.",
        "As a language, Latin is dead.",
        "I am an aid worker.",
        "My knowledge grows.",
    ],
)
def test_what_is_about_models_is_no_boilerplate(text: str) -> None:
    assert self_reference(text) is None


def test_filler_stands_at_the_ends() -> None:
    assert filler("Sure! Here is a list:\n- a") and filler("a\nI hope this helps!")
    assert filler("Certainty is rare. Let me know, she said, what you have found.") is None


@pytest.mark.parametrize(
    "text",
    ["Paris", "1. eggs\n2. milk", "```\nx = [\n```", "Roses are red\nViolets are blue", "The sum is 5 + 7 = 12",
     "Dear Ann. All is well.\nYours sincerely, Bob", "https://example.org/a", "He said \"no.\"", "Show him in"],
)  # fmt: skip
def test_these_ends_are_ends(text: str) -> None:
    assert truncated(text) is None


@pytest.mark.parametrize(
    "text",
    ["Add the flour, the eggs and the", "First, cut the", "We have, as you know,", "def f(x):\n    return (",
     "All is well. Then we went to see the old", "```python\nprint(1)"],
)  # fmt: skip
def test_these_ends_are_none(text: str) -> None:
    assert truncated(text) is not None


def test_sampling_that_ended_at_the_limit_is_truncated_whatever_it_looks_like() -> None:
    made = Heuristics().each(row_of("?", "All is well.").with_labels(finish="length"))
    assert isinstance(made, Row) and made.scores["rule_truncated"] == 0.0
    assert "token limit" in made.labels["heuristics_why"]


def test_self_instructs_filter_by_its_published_cases() -> None:
    assert instruction_fault("Name three colours.") == "the instruction has 3 words"
    assert instruction_fault("word " * 151) == "the instruction has 151 words"
    assert instruction_fault("Draw a map of old France.") == "the instruction speaks of 'draw'"
    assert instruction_fault("Write a program that sorts numbers.") is not None
    assert instruction_fault('"Quoted" instructions are left out.') is not None
    assert instruction_fault("Überhaupt alles was anders beginnt.") is not None
    assert instruction_fault("Explain how mapmakers of profile work.") is None
    assert instance_fault("a", "a ") and instance_fault("a", " ") and instance_fault("a", "as follows:")
    assert instance_fault("a", "b") is None


def test_lima_wants_long_impersonal_answers() -> None:
    assert not lima_faults("x" * 1200, 1200, 4096)
    assert [f.split(":")[0] for f in lima_faults("I said, as mentioned above, no.", 1200, 4096)] == [
        "31 characters",
        "first person",
        "refers to something else",
    ]


def test_limits_and_rules_are_fields() -> None:
    assert judged("Paris.").scores["rule_gopher"] == 0.0
    assert judged(SOUP, least={"words": 5}).scores["rule_gopher"] == 1.0
    assert judged(SOUP, rules=("gopher",)).labels["heuristics"] == "gopher"
    assert judged("Wir gehen, und das ist nicht gut.", language="en").labels["heuristics"] == "language"
    assert judged(SOUP + " Bon appetit!", phrases=("BON appetit",)).labels["heuristics"] == "boilerplate"
    assert "text_words" not in judged(SOUP, details=False).scores
    with pytest.raises(UsageError, match=r"no measure 'wrds'\. Did you mean 'words'"):
        Heuristics(least={"wrds": 5})
    with pytest.raises(UsageError, match="language is not known"):
        Heuristics(language="xx")


def test_prompts_can_be_looked_at_instead() -> None:
    bare = new_row(
        messages=(Message(role="user", content="As an AI language model, I wonder what to say now."),), made_by={}
    )
    made = Heuristics(on="prompt").each(bare)
    assert (
        isinstance(made, Row)
        and made.labels["heuristics"] == "boilerplate"
        and made.scores["rule_self_instruct"] == 1.0
    )


def test_scoring_again_leaves_nothing_stale() -> None:
    old = judged("Yes. " * 40)
    again = Heuristics(details=False, rules=("empty",)).each(old.with_scores(verified=1.0))
    assert isinstance(again, Row) and again.labels == {"heuristics": "fine"} and again.scores["verified"] == 1.0
    assert not any(name.startswith("text_") for name in again.scores)


@pytest.mark.parametrize(("code", "text"), FOREIGN.items())
def test_languages_are_told_apart(code: str, text: str) -> None:
    assert language_of(text) == code


def test_precision_and_recall_on_planted_faults(corpora: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers, rng, step = real_answers(corpora), random.Random(0), Heuristics(language="en", details=False)
    sample = rng.sample(answers, 1100)
    clean, rest = sample[:600], sample[600:]
    wrong: dict[str, int] = dict.fromkeys(RULES, 0)
    for prompt, answer in clean:
        made = step.each(row_of(prompt, answer))
        assert isinstance(made, Row)
        for fault, rule in RULES.items():
            wrong[fault] += made.scores[f"rule_{rule}"] == 0.0
    least = {"refusal": 0.99, "boilerplate": 0.99, "truncated": 0.75, "repeated": 0.99, "foreign": 0.99}
    for place, (fault, rule) in enumerate(RULES.items()):
        planted = [row_of(p, plant(fault, a, rng)) for p, a in rest[place * 100 : place * 100 + 100]]
        found = sum(step.each(row).scores[f"rule_{rule}"] == 0.0 for row in planted)  # type: ignore[union-attr]
        recall, precision = found / len(planted), found / (found + wrong[fault])
        with capsys.disabled():
            print(f"\n  {fault:12} recall {recall:.3f}  precision {precision:.3f} (100 planted, 600 clean)", end="")
        assert recall >= least[fault] and precision >= 0.9, fault
