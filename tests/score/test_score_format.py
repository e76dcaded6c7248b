"""The instruction checker: every instruction of IFEval with planted passes and failures, and the files of IFEval as they stand."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.core.row import Message, Row, new_row
from limbeck.score._format_checks import CHECKS, Unreadable
from limbeck.score._format_language import COMMON, looks_like
from limbeck.score._format_text import sentences, words
from limbeck.score.format import ALL, Format, fault

WORDS = {"relation": "at least", "num_words": 5}
PLANTED: list[tuple[str, dict[str, Any], list[str], list[str]]] = [
    (
        "keywords:existence",
        {"keywords": ["cat", "mat"]},
        ["The Cat sat on the mat."],
        ["The cat sat.", "A category, a matter."],
    ),
    (
        "keywords:frequency",
        {"keyword": "war", "frequency": 2, "relation": "at least"},
        ["War, war!"],
        ["war and warriors"],
    ),
    (
        "keywords:frequency",
        {"keyword": "war", "frequency": 2, "relation": "less than"},
        ["war and warriors"],
        ["War, war!"],
    ),
    ("keywords:forbidden_words", {"forbidden_words": ["rock"]}, ["It rocks."], ["A Rock!"]),
    (
        "keywords:letter_frequency",
        {"letter": "t", "let_frequency": 2, "let_relation": "less than"},
        ["Two."],
        ["To it."],
    ),
    (
        "keywords:letter_frequency",
        {"letter": "!", "let_frequency": 2, "let_relation": "at least"},
        ["Oh! Ah!"],
        ["Oh!"],
    ),
    (
        "language:response_language",
        {"language": "fi"},
        ["Hän on hyvin iloinen, mutta minä en ole."],
        ["She is very glad.", "!"],
    ),
    ("language:response_language", {"language": "mr"}, ["मी एक विद्यार्थी आहे आणि तो नाही"], ["मैं एक छात्र हूँ और वह नहीं है"]),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 2, "relation": "at least"},
        ["Go. Now!"],
        ["Mr. J. Lee paid 3.5 e.g. today"],
    ),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 3, "relation": "less than"},
        ["1. Go.\n2. Stay."],
        ["Go. Stay! Why?"],
    ),
    (
        "length_constraints:number_paragraphs",
        {"num_paragraphs": 2},
        ["a\n***\nb", "***\na\n***\nb\n***"],
        ["a\n\nb", "a\n***\n***\nb", "a***b"],
    ),
    ("length_constraints:number_words", WORDS, ["one two three four five"], ["It's well-known, isn't it?"]),
    ("length_constraints:number_words", {"relation": "less than", "num_words": 3}, ["It's 3.5"], ["a b c"]),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "then"},
        ["First.\n\n**Then** so.", "First.\n\n\nThen: so."],
        ["Then.\n\nFirst.", "First.\n\nThen.\n\nLast.", "First.\nThen."],
    ),
    (
        "detectable_content:number_placeholders",
        {"num_placeholders": 2},
        ["[name] of [the city]"],
        ["[name] [1] [x] [here](there)", "[ ] []"],
    ),
    (
        "detectable_content:postscript",
        {"postscript_marker": "P.S."},
        ["Bye.\n\nP.S. Write.", "Bye.\n**p.s.**\nWrite."],
        ["Bye. P.S.", "U.S.P.S. is it.", "P.S."],
    ),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, ["P.P.S: One more."], ["P.S. One."]),
    (
        "detectable_format:number_bullet_lists",
        {"num_bullets": 2},
        ["* a\n* b", "- a\n  - b\n---"],
        ["* a", "*a*\n*b*", "- a\n- b\n- c"],
    ),
    (
        "detectable_format:constrained_response",
        {},
        ["My answer is maybe."],
        ["Maybe.", "My answer is yes. My answer is no."],
    ),
    (
        "detectable_format:number_highlighted_sections",
        {"num_highlights": 2},
        ["*a b* and **c**"],
        ["*a", "* a\n* b", "2 * 3 * 4 * 5", "****"],
    ),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "SECTION", "num_sections": 2},
        ["SECTION 1\na\nSECTION 2\nb", "## SECTION I\n## SECTION II"],
        ["See SECTION 1 and SECTION 2.", "SECTION 1\nSECTION 1", "Section 1\nSection 2"],
    ),
    (
        "detectable_format:json_format",
        {},
        ['{"a": 1}', "```json\n[1]\n```"],
        ["26", '{"a": NaN}', 'Sure: {"a": 1}', "{'a': 1}", "[" * 9999],
    ),
    ("detectable_format:title", {}, ["<<Joy>>\nText"], ["<Joy>", "<< >>", "<<a\nb>>"]),
    (
        "combination:two_responses",
        {},
        ["One.\n******\nTwo.", "******One.******Two."],
        ["One.", "One.******one", "a******b******c", "a*******b", "a******"],
    ),
    (
        "combination:repeat_prompt",
        {"prompt_to_repeat": "Write a  poem."},
        ["Write a poem.\nRoses.", "write a poem. Roses."],
        ["Roses.", "Write a poem.", "Sure! Write a poem. Roses."],
    ),
    (
        "startend:end_checker",
        {"end_phrase": "Any questions?"},
        ["Yes. Any questions?", '"Any Questions?"'],
        ["Any questions? No.", "Any questions"],
    ),
    ("startend:quotation", {}, ['"All of it."', "“All of it.”"], ['"All" of it.', '"', '""', "All"]),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        ["NASA and WELL-KNOWN"],
        ["I saw A NASA."],
    ),
    (
        "change_case:english_capital",
        {},
        ["THIS IS THE ONE.", "YES"],
        ["This is.", "DAS IST DER WEG UND DIE WAHRHEIT FÜR MICH.", "12"],
    ),
    (
        "change_case:english_lowercase",
        {},
        ["this is the one."],
        ["This is.", "das ist der weg und die wahrheit für mich.", "12"],
    ),
    ("punctuation:no_comma", {}, ["One; two."], ["One, two.", "一，二", "مرحبا، نعم"]),
    (
        "json:schema",
        {
            "schema": {
                "type": "object",
                "required": ["n"],
                "properties": {"n": {"type": "integer"}},
                "additionalProperties": False,
            }
        },
        ['{"n": 3}', '```\n{"n": 3}\n```'],
        ['{"n": "3"}', '{"n": true}', '{"n": 3, "m": 4}', '{"n": 3, "n": 4}', "", "{", "[" * 99999],
    ),
    (
        "json:schema",
        {"schema": {"$ref": "#/$defs/a", "$defs": {"a": {"type": "string", "enum": ["x"]}}}},
        ['"x"'],
        ['"y"', "1"],
    ),
    ("markdown:has", {"element": "heading", "at_least": 1}, ["# A\ntext"], ["#A", "```\n# A\n```", "# A\n```\n"]),
    ("markdown:has", {"element": "table"}, ["| a | b |\n|---|---|\n| 1 | 2 |"], ["a | b", "| a |\n|no|"]),
    (
        "markdown:has",
        {"element": "code", "at_least": 1, "at_most": 1},
        ["```py\nx\n```"],
        ["`x`", "```\na\n```\n```\nb\n```"],
    ),
    ("markdown:has", {"element": "link"}, ["[a](http://b)"], ["[a]", "![a](b)"]),
    ("markdown:has", {"element": "numbered", "at_least": 2}, ["1. a\n2) b"], ["1. a", "1.a\n2.b"]),
    ("markdown:has", {"element": "bullet", "at_least": 2}, ["- a\n- b"], ["- a"]),
    ("markdown:has", {"element": "emphasis"}, ["*a*"], ["a"]),
    (
        "citations:valid",
        {"sources": 3, "at_least": 2},
        ["So [1]. And [2, 3].", "So [1-3]."],
        ["So [1].", "So [1] and [4].", "So [0][1]", "So [1](x) [2](y)"],
    ),
    (
        "citations:valid",
        {"sources": 2, "every_paragraph": True},
        ["One two three four five six [1].\n\nOne two three four five six [2]."],
        ["One two three four five six [1].\n\nOne two three four five six."],
    ),
    ("length:between", {"unit": "characters", "at_most": 5}, ["abcde\n"], ["abcdef"]),
    ("length:between", {"unit": "words", "at_least": 2, "at_most": 3}, ["a b"], ["a", "a b c d"]),
    ("length:between", {"unit": "paragraphs", "at_least": 2}, ["a\n\nb"], ["a\nb"]),
    ("length:between", {"unit": "lines", "at_most": 2}, ["a\n\nb"], ["a\nb\nc"]),
    ("length:between", {"unit": "sentences", "at_most": 1}, ["A b c."], ["A. B! Go on."]),
]


def test_every_constraint_has_planted_passes_and_failures() -> None:
    assert {name for name, *_ in PLANTED} == set(ALL) and len(CHECKS) == 25
    assert all(passing and failing for _, _, passing, failing in PLANTED)


@pytest.mark.parametrize(("name", "arguments", "passing", "failing"), PLANTED, ids=[n for n, *_ in PLANTED])
def test_planted(name: str, arguments: dict[str, Any], passing: list[str], failing: list[str]) -> None:
    for text in passing:
        assert fault(text, name, arguments) == "", text
    for text in failing:
        assert fault(text, name, arguments) != "", text


def judge(response: str, *wanted: dict[str, Any], **fields: Any) -> Row:
    turns = (Message(role="user", content="?"), Message(role="assistant", content=response))
    judged = Format(**fields).each(new_row(messages=turns, task={"constraints": list(wanted)}, made_by={}))
    assert isinstance(judged, Row)
    return judged


NO_COMMA, LONG = {"id": "punctuation:no_comma"}, {"id": "length_constraints:number_words", **WORDS}


def test_validate() -> None:
    for row, score in Format.validate():
        judged = Format().each(row)
        assert isinstance(judged, Row)
        assert judged.scores["format"] == judged.scores["verified"] == score, (row.response, judged.labels)
        assert (judged.labels["verdict"] == "pass") == (score == 1.0)


def test_constraints_may_stand_in_the_task_or_among_the_extras() -> None:
    turns = (Message(role="user", content="?"), Message(role="assistant", content="One, two."))
    for where in ({"task": {"constraints": [NO_COMMA]}}, {"extra": {"constraints": [NO_COMMA]}}):
        judged = Format().each(new_row(messages=turns, made_by={}, **where))  # type: ignore[arg-type]
        assert isinstance(judged, Row) and judged.labels["verdict"] == "wrong"


def test_the_share_of_constraints_met_is_a_score_of_its_own() -> None:
    judged = judge(
        "One, two.", NO_COMMA, LONG, {"id": "startend:quotation"}, {"id": "keywords:existence", "keywords": ["one"]}
    )
    assert judged.scores == {"format": 0.0, "verified": 0.0, "format_share": 0.25}
    assert judged.labels["verdict"] == "wrong"
    assert judged.labels["detail"].startswith(
        "punctuation:no_comma: it has a comma; length_constraints:number_words: it has 2 words"
    )


@pytest.mark.parametrize(
    "wanted",
    [
        [],
        [{"id": "no:such"}],
        [{"id": "length_constraints:number_words"}],
        [{**LONG, "more": 1}],
        [{**LONG, "relation": "roughly"}],
        [{**LONG, "num_words": "5"}],
        [{"id": "keywords:existence", "keywords": "word"}],
        [{"id": "keywords:existence", "keywords": [3]}],
        [{"id": "language:response_language", "language": "tlh"}],
        [{"id": "keywords:letter_frequency", "letter": "ab", "let_frequency": 1}],
        [{"id": "json:schema", "schema": {"type": "nonsense"}}],
        [{"id": "json:schema", "schema": {"$ref": "https://example.invalid/schema.json"}}],
        [{"id": "markdown:has", "element": "song"}],
        [{"id": "length:between", "unit": "yards"}],
        [{"id": "length:between", "unit": "words", "at_least": 1.5}],
        [{}],
        ["text"],
    ],
)
def test_a_constraint_that_can_not_be_read_is_never_a_pass(wanted: list[Any]) -> None:
    judged = judge("{}", *wanted)
    assert judged.labels["verdict"] == "unreadable-reference" and judged.scores == {}


@pytest.mark.parametrize("response", ["", "  \n", "<think>One two three four five"])
def test_an_empty_response_follows_nothing(response: str) -> None:
    judged = judge(response, NO_COMMA)
    assert judged.labels["verdict"] == "no-answer" and judged.scores["format"] == 0.0


def test_the_loose_reading_forgives_a_first_line_a_last_line_and_stars() -> None:
    text = "Sure, here it is:\nno commas *here*\nGlad to help, bye"
    assert judge(text, NO_COMMA).scores["format"] == 0.0
    assert judge(text, NO_COMMA, loose=True).scores["format"] == 1.0
    assert judge("a, b", NO_COMMA, loose=True).scores["format"] == 0.0


def test_ifeval_prompts_are_read_as_they_stand(corpora: Path) -> None:
    seen: set[str] = set()
    for line in (corpora / "ifeval" / "input_data.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        row = new_row(
            messages=(
                Message(role="user", content=record["prompt"]),
                Message(role="assistant", content="Nothing of it."),
            ),
            extra={key: record[key] for key in ("instruction_id_list", "kwargs")},
            made_by={},
        )
        judged = Format().each(row)
        assert isinstance(judged, Row) and "format" in judged.scores, record["key"]
        seen |= set(record["instruction_id_list"])
    assert seen == set(CHECKS)


def test_gpt4_follows_about_three_prompts_in_four(corpora: Path) -> None:
    """Published: 76.9 % prompt-level strict for these GPT-4 responses; the checkers differ on purpose in a few places."""
    folder = corpora / "ifeval"
    given_ = [
        json.loads(x)
        for x in (folder / "input_response_data_gpt4_20231107_145030.jsonl").read_text("utf-8").splitlines()
    ]
    answers = {record["prompt"]: record["response"] for record in given_}
    scores = []
    for line in (folder / "input_data.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        turns = (
            Message(role="user", content=record["prompt"]),
            Message(role="assistant", content=answers[record["prompt"]]),
        )
        task = {"instruction_id_list": record["instruction_id_list"], "kwargs": record["kwargs"]}
        judged = Format().each(new_row(messages=turns, task=task, made_by={}))
        assert isinstance(judged, Row)
        scores.append(judged.scores["format"])
    assert len(scores) == 540 and 0.74 < sum(scores) / len(scores) < 0.80


@given(st.text(max_size=200))
def test_no_text_makes_a_check_raise(text: str) -> None:
    for name, arguments, _, _ in PLANTED:
        assert isinstance(fault(text, name, arguments), str)


@given(st.lists(st.from_regex(r"[A-Za-z]{2,8}", fullmatch=True), max_size=20))
def test_words_that_are_joined_are_counted_again(parts: list[str]) -> None:
    assert words(" ".join(parts)) == parts
    assert sentences(" ".join(f"{part}ing." for part in parts)) == len(parts)


@pytest.mark.parametrize("language", sorted(COMMON))
def test_every_language_knows_its_own_words_and_no_others(language: str) -> None:
    text = " ".join(COMMON[language].split())
    assert looks_like(text, language) is True
    assert [other for other in COMMON if other != language and looks_like(text, other)] == []


def test_an_unknown_name_is_said() -> None:
    with pytest.raises(Unreadable, match="there is no constraint 'a:b'"):
        fault("x", "a:b", {})


@pytest.mark.parametrize("unit", ["[", "*", "|", "|-", "<<", "`", "\n", "- ", '{"a":', "1. ", "(", "a.", "#"])
def test_a_long_odd_response_does_not_hold_up_the_run(unit: str) -> None:
    """With a pattern that costs the square of the length one of these took 12 seconds."""
    text, before = unit * (40_000 // len(unit)), time.process_time()
    for name, arguments, _, _ in PLANTED:
        fault(text, name, arguments)
    assert time.process_time() - before < 4
