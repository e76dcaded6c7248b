"""curate.decontaminate on a handful of items: verdicts, evidence, options, and what it refuses."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limbeck.core.errors import InputError, UsageError
from limbeck.core.row import Message, Row, from_table, new_row, to_table
from limbeck.curate.decontaminate import Decontaminate

DUCKS = (
    "Janet's ducks lay 16 eggs per day. She eats three for breakfast and sells the rest at the market for $2 per egg."
)
ROBE = "A robe takes 2 bolts of blue fiber and half that much white fiber. How many bolts in total does it take?"
SHORT = "Write a function to find the surface area of a sphere."
CHINESE = "小明有三个苹果，他又买了五个苹果，请问他现在一共有多少个苹果？"
PHRASE, WORD = "Translate Zanzibar ferries", "Bonjour"
ANSWER = (
    "Janet keeps sixteen eggs less three for her own breakfast which leaves thirteen fresh eggs every single day, "
    "and at two dollars apiece the farmers market therefore pays her twenty six dollars daily, so that a whole week "
    "of selling brings home 182."
)
ITEMS = [
    {"id": "ducks", "question": DUCKS, "answer": ANSWER},
    {"id": "robe", "question": ROBE, "answer": "#### 3"},
    {"question": SHORT},
    {"question": "Write a function to find the volume of a cone."},
    {"question": "Write a function to find the area of a trapezium."},
    {"question": CHINESE},
    {"question": PHRASE},
    {"question": WORD},
    {"question": "???"},
]


def row(*turns: str, **fields: Any) -> Row:
    roles = ("user", "assistant")
    messages = [Message(role=roles[at % 2], content=text) for at, text in enumerate(turns)]
    return new_row(messages=messages, made_by={"text": turns}, **fields)


@pytest.fixture
def items(tmp_path: Path) -> str:
    file = tmp_path / "eval.jsonl"
    file.write_text("\n".join(json.dumps(item, ensure_ascii=False) for item in ITEMS) + "\n", encoding="utf-8")
    return str(file)


def run(rows: list[Row], items: str, **fields: Any) -> list[Row]:
    out = Decontaminate(against=(items,), **fields).whole(rows)
    assert [r.id for r in out] == [r.id for r in rows]
    return out


def verdict(text: str, items: str, **fields: Any) -> tuple[str, list[str]]:
    (out,) = run([row(text)], items, **fields)
    return out.labels.get("contamination", ""), json.loads(out.labels.get("matched", "[]"))


@pytest.mark.parametrize(
    ("text", "expected", "matched"),
    [
        (DUCKS, "contaminated", ["ducks"]),
        (f"Please solve this.\n\n{ROBE.upper()}\n\nThink first.", "contaminated", ["robe"]),
        (json.dumps({"q": DUCKS.replace("'", "’")}), "contaminated", ["ducks"]),
        (f"<p>{ROBE.replace(' and ', '&nbsp;and <b>')}</b></p>", "contaminated", ["robe"]),
        ("# " + ROBE.replace(" blue", "\n#   blue"), "contaminated", ["robe"]),
        (DUCKS.replace("16", "18").replace("$2", "$5"), "variant", ["ducks"]),
        (SHORT, "contaminated", ["eval.jsonl:3"]),
        ("Write a function to find the surface area of a doughnut and of a pyramid.", "", []),
        ("Write a function to find the nearest post office.", "", []),
        (f"题目：{CHINESE}谢谢。", "contaminated", ["eval.jsonl:6"]),
        ("小明有三个哥哥，他们都喜欢游泳。", "", []),
        (f"Ok: {PHRASE}!", "contaminated", ["eval.jsonl:7"]),
        ("bonjour.", "contaminated", ["eval.jsonl:8"]),
        ("Bonjour tout le monde", "", []),
        ("Sixteen ducks walk per day to the market.", "", []),
        ("", "", []),
    ],
)
def test_verdicts(text: str, expected: str, matched: list[str], items: str) -> None:
    assert verdict(text, items) == (expected, matched)


def test_items_are_found_in_any_turn_and_answers_alone(items: str) -> None:
    hidden = row("Tell me a riddle.", f"Here is one: {ROBE}", "Thanks.")
    solved = row("What does she earn?", ANSWER)
    number = row("How many?", "#### 3")
    told = run([hidden, solved, number], items)
    assert [r.labels.get("matched") for r in told] == ['["robe"]', '["ducks"]', None]
    assert [e["part"] for r in told[:2] for e in r.extra["contamination"]] == ["prompt", "answer"]
    assert told[0].extra["contamination"][0]["spans"][0][0] == 1, "the second turn"


def test_the_evidence_shows_both_texts_with_the_span_marked(items: str) -> None:
    text = f"Ünïcode first — then: {ROBE} Thank you."
    (out,) = run([row(text)], items)
    (match,) = out.extra["contamination"]
    ((turn, begin, end),) = match["spans"]
    assert (turn, text[begin:end]) == (0, ROBE.removesuffix("?"))
    assert match["row"] == f"Ünïcode first — then: ⟦{ROBE[:-1]}⟧? Thank you." and match["text"] == f"⟦{ROBE[:-1]}⟧?"
    assert (match["item"], match["set"], match["by"], match["share"]) == ("robe", "eval.jsonl", "words", 1.0)
    assert out.dropped == "curate.decontaminate: contaminated, eval.jsonl: 100 % of the prompt of item robe"


@pytest.mark.parametrize(
    ("drop", "gone"), [("contaminated", [True, False]), ("variant", [True, True]), ("nothing", [False, False])]
)
def test_what_is_dropped(drop: str, gone: list[bool], items: str) -> None:
    out = run([row(ROBE), row(ROBE.replace("2", "7"))], items, drop=drop)
    assert [r.dropped is not None for r in out] == gone
    assert [r.labels["contamination"] for r in out] == ["contaminated", "variant"]


def test_what_many_items_share_is_a_template_and_is_never_dropped(tmp_path: Path) -> None:
    stem = "Alice, Bob and Claire are friends who trade books all afternoon. At the end of the semester, who holds the book on"
    file = tmp_path / "shuffled.jsonl"
    file.write_text(
        "\n".join(json.dumps({"prompt": f"{stem} {word} history?"}) for word in ("Roman", "Greek", "Maya", "Inca"))
    )
    out = run([row(f"{stem} tidal power?"), row(f"{stem} Maya history?")], str(file), drop="variant")
    assert [r.labels["contamination"] for r in out] == ["template", "contaminated"]
    assert out[0].dropped is None and json.loads(out[1].labels["matched"])[0] == "shuffled.jsonl:3"


def test_sealed_rows_of_the_run_are_items_and_leave_the_corpus(items: str) -> None:
    test = row(ROBE, sealed=True, extra={"id": "robe-7"})
    step = Decontaminate()
    out = step.whole([row("Hello there, how are you today?"), test, row(f"Well: {ROBE}")])
    assert [r.dropped for r in out] == [
        None,
        "curate.decontaminate: an evaluation item, no part of the corpus",
        "curate.decontaminate: contaminated, sealed rows: 100 % of the prompt of item robe-7",
    ]
    assert step.key(out[0]) == step.key(out[2]) == "" and Decontaminate(against=(items,)).key(out[0]) == out[0].id
    with pytest.raises(UsageError, match="no row is sealed and no evaluation set is named"):
        step.whole([row("Hello")])


def test_the_count_of_what_can_not_be_searched_for_is_printed(items: str, capsys: pytest.CaptureFixture[str]) -> None:
    run([row(ROBE), row("?!")], items)
    told = capsys.readouterr().err
    assert (
        "9 items of 1 set; 1 of fewer than 5 words are searched for as whole turns only, 1 without a word can not be"
        in told
    )
    assert "2 rows; eval.jsonl: 1 contaminated (1 item)" in told


def test_rows_already_dropped_are_not_touched(items: str) -> None:
    gone = row(ROBE).drop("x: y")
    assert run([gone], items) == [gone]


def test_a_slice_of_a_table_is_read_where_it_lies(items: str) -> None:
    rows = [row("nothing to see here at all", "no"), row("", ROBE), row(DUCKS), row("and nothing here either")]
    step = Decontaminate(against=(items,))
    whole, part = step.table(to_table(rows)), step.table(to_table(rows).slice(1, 2))
    assert from_table(part) == from_table(whole)[1:3] and from_table(whole)[0] == rows[0]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(5)), cut=st.integers(0, 5))
def test_rows_do_not_influence_each_other(order: list[int], cut: int, items: str) -> None:
    rows = [row(DUCKS), row(ROBE.replace("2", "9")), row(SHORT), row("Good morning to all of you."), row(WORD)]
    alone = {r.id: out for r in rows for out in run([r], items)}
    shuffled = [rows[at] for at in order]
    out = [*run(shuffled[:cut], items), *run(shuffled[cut:], items)]
    assert out == [alone[r.id] for r in shuffled]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**9), before=st.text(max_size=80), after=st.text(max_size=80))
def test_an_item_is_found_whatever_stands_around_it_and_however_it_is_set(
    seed: int, before: str, after: str, items: str
) -> None:
    rng = random.Random(seed)
    words = [rng.choice((str.upper, str.lower, str.title, str))(word) for word in ROBE.split()]
    text = "".join(word + rng.choice((" ", "\n", "  ", "\u00a0", ", ", " **", "\t")) for word in words)
    assert verdict(f"{before}\n{text}\n{after}", items)[1] == ["robe"]


@pytest.mark.parametrize("rule", ["gpt3-13gram", "tulu3-8gram-50", "any-8gram", "open-thoughts-ratio"])
def test_published_rules_by_name(rule: str, items: str) -> None:
    if rule == "open-thoughts-ratio":
        pytest.importorskip("rapidfuzz", reason="SKIPPED: rapidfuzz is not installed.")
    half = f"Janet's ducks lay 16 eggs per day. She {'sings ' * 30}"
    assert verdict(ROBE, items, rule=rule) == ("contaminated", ["robe"])
    assert verdict("Bonjour", items, rule=rule)[0] == ("contaminated" if rule == "open-thoughts-ratio" else "")
    assert verdict(half, items, rule=rule)[0] == ("contaminated" if rule == "any-8gram" else "")
    assert verdict(half, items)[0] == "", "eight words of an item and then something else are not the item"


def test_files_of_every_kind_and_fields_of_any_name(tmp_path: Path) -> None:
    import gzip

    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"ctx": [ROBE], "uid": [17]}), tmp_path / "one.parquet")
    with gzip.open(tmp_path / "two.jsonl.gz", "wt") as stream:
        stream.write(
            json.dumps({"messages": [{"role": "user", "content": DUCKS}, {"role": "assistant", "content": "26"}]})
        )
    (tmp_path / "three.json").write_text(json.dumps({"examples": [{"input": SHORT, "target": "4"}]}))
    step = Decontaminate(against=(str(tmp_path),), item_fields={"prompt": "ctx", "id": "uid"})
    out = step.whole([row(text) for text in (ROBE, DUCKS, SHORT)])
    assert [r.labels["matched"] for r in out] == ['["17"]', '["two.jsonl.gz:1"]', '["three.json:1"]']
    assert sorted(f.name for f in step.watch()) == ["one.parquet", "three.json", "two.jsonl.gz"]


def test_sets_called_alike_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    for folder, text in (("ducks", DUCKS), ("robes", ROBE)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "test.jsonl").write_text(json.dumps({"question": text}))
    out = Decontaminate(against=(str(tmp_path / "*/test.jsonl"),)).whole([row(DUCKS), row(ROBE)])
    assert [r.labels["matched"] for r in out] == ['["ducks/test.jsonl:1"]', '["robes/test.jsonl:1"]']


def test_what_can_not_be_read_is_refused_and_never_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "torn.jsonl"
    file.write_text('{"question": "Is it so?"}\n{"questi')
    with pytest.raises(InputError, match=r"torn.jsonl line 2 is not JSON .* would go unnoticed"):
        Decontaminate(against=(str(file),)).whole([row("x")])
    file.write_text('{"other": "Is it so?"}\n')
    with pytest.raises(
        InputError, match=r"No evaluation item was found in .*torn.jsonl: none of its records has a prompt"
    ):
        Decontaminate(against=(str(file),)).whole([row("x")])
    with pytest.raises(InputError, match=r"no evaluation set .*torm.jsonl. Did you mean 'torn.jsonl'"):
        Decontaminate(against=(str(tmp_path / "torm.jsonl"),)).watch()
    with pytest.raises(UsageError, match="after=: let this step come after the corpus and the sealed set"):
        Decontaminate(against=("step:test",))


def test_json_lines_under_the_name_json_are_read_and_a_torn_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "eval.json"
    file.write_text("\n".join(json.dumps({"question": text}) for text in (DUCKS, ROBE)))
    assert verdict(ROBE, str(file)) == ("contaminated", ["eval.json:2"])
    file.write_text(json.dumps([{"question": DUCKS}], indent=1)[:-3])
    with pytest.raises(InputError, match=r"eval.json is not JSON .* would go unnoticed"):
        verdict(DUCKS, str(file))
