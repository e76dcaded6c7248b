"""Near-duplicates: tokens and clusters against plain Python, what is kept, and what does not depend on the machine."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from near_oracle import all_pairs, closure, edits, real_texts
from near_oracle import tokens as plain_tokens

from limbeck.core.row import Message, Row, from_table, new_row, to_table
from limbeck.curate import _near, _tokens
from limbeck.curate._tokens import tokens
from limbeck.curate.near import Near

TEXT = (
    "Tom has 12 red apples and gives 3 of them to Ann, who eats 2 and gives the rest back to Tom the next day at school, "
    "where they share what is left with the other children of their class."
)


def rows_of(texts: list[str], **fields: Any) -> list[Row]:
    return [
        new_row(messages=[Message(role="user", content=text)], made_by={"n": n}, **fields)
        for n, text in enumerate(texts)
    ]


def kept(texts: list[str], **fields: Any) -> list[int]:
    rows = rows_of(texts)
    out = Near(**fields).whole(rows)
    assert [row.id for row in out] == [row.id for row in rows]
    return [place for place, row in enumerate(out) if row.dropped is None]


def spelled(text: str, **options: bool) -> list[str]:
    """The tokens as they stand in the text."""
    found = tokens([text], spans=True, **options)
    data = text.encode()
    return [data[a:b].decode() for a, b in zip(found.begins, found.ends, strict=True)]


# -- tokens ------------------------------------------------------------------------------------------------------------


def test_tokens_and_their_places() -> None:
    assert spelled("It’s 3 + 5 = 8.") == ["It’s", "3", "+", "5", "=", "8"]
    assert spelled("- 3 apples, **bold** and/or well-known <b>tags</b>: -15, x-1, 50% of x==1") == [
        "3", "apples", "bold", "and", "or", "well", "known", "b", "tags", "b", "-", "15", "x", "-", "1", "50", "%", "of", "x",
        "==", "1",
    ]  # fmt: skip
    assert spelled("你好 world 😀") == ["你", "好", "world", "😀"]
    assert spelled("3 + 5", operators=False) == ["3", "5"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("It’s A\u00a0“test”", 'it\'s a "test"'),
        ("don't", "dont"),
        ("Résumé", "resume\u0301"),
        ("ﬁne Ｆｕｌｌ", "fine full"),
        ("3−5", "3 - 5"),
        ("zero\u200bwidth", "zerowidth"),
        ("STRASSE", "straße"),
    ],
)
def test_the_same_text_in_other_letters(one: str, other: str) -> None:
    assert tokens([one]).hashes.tolist() == tokens([other]).hashes.tolist()


@pytest.mark.parametrize(
    ("one", "other"), [("12", "13"), ("3 + 5", "3 - 5"), ("-15", "15"), ("10²", "102"), ("5%", "5")]
)
def test_what_is_not_the_same(one: str, other: str) -> None:
    assert tokens([one]).hashes.tolist() != tokens([other]).hashes.tolist()


def test_diacritics_are_kept_on_request() -> None:
    same = tokens(["schon schön", "Mu\u0308ll Müll"], diacritics=True).hashes
    assert same[0] != same[1] and same[2] == same[3]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text("ab1 .'’-+=*/<%()\n\u00a0éßﬁİ½√\u0301", max_size=40), max_size=8))
def test_tokens_as_in_plain_python(texts: list[str]) -> None:
    found = tokens(texts)
    words = [plain_tokens(text) for text in texts]
    assert np.diff(found.offsets).tolist() == [len(mine) for mine in words]
    names: dict[str, int] = {}
    for word, hashed in zip((w for mine in words for w in mine), found.hashes.tolist(), strict=True):
        assert names.setdefault(word, hashed) == hashed
    assert len(set(names.values())) == len(names)


def test_any_text_can_be_read_and_long_ones_are_cut_into_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    strange = ["", "\x00", "\ud800 lone", "½" * 50, "a " * 500, "\ufdfa" * 20, chr(0x10FFFF), "𠀀𠀁"]
    whole = tokens(strange, spans=True)
    assert whole.offsets[-1] == whole.hashes.size == whole.ends.size
    assert (whole.begins <= whole.ends).all()
    monkeypatch.setattr(_tokens, "CHUNK", 64)
    monkeypatch.setattr(_tokens, "cores", lambda: 3)
    for one, other in zip(whole, tokens(strange, spans=True), strict=True):
        assert one.tolist() == other.tolist()


# -- the step ----------------------------------------------------------------------------------------------------------


def test_what_is_written_on_rows() -> None:
    changed = TEXT.upper().replace(" AND GIVES 3", ", and gives 3").replace("SCHOOL", "home")
    out = Near().whole(rows_of([TEXT, changed, TEXT.replace("12", "15").replace("3", "4").replace("2", "6"), "other"]))
    assert [row.dropped is None for row in out] == [True, False, True, True]
    assert out[1].dropped == f"curate.near: near-duplicate of {out[0].id}"
    assert out[1].labels["cluster"] == out[0].labels["cluster"] == out[0].id
    assert 0.7 <= out[1].extra["similarity"] < 1
    assert out[3].labels["cluster"] == out[3].id


def test_short_texts_of_other_meaning_stay_apart() -> None:
    texts = [
        "What is 3 + 5?",
        "What is 3 - 5?",
        "What is 5 + 3?",
        "dog bites man",
        "man bites dog",
        "Answer: 17",
        "Answer: 18",
    ]
    assert kept(texts) == list(range(len(texts)))
    assert kept(["What is 3 + 5?", "what is 3+5", "WHAT IS 3 + 5 ?"]) == [0]


def test_texts_on_either_side_of_a_change_of_size() -> None:
    for bound in _near.BOUNDS:
        words = [f"w{n}" for n in range(bound + 6)]
        texts = [" ".join(words[:n]) for n in range(bound - 2, bound + 3)]
        assert kept(texts) == [0], f"texts of {bound - 2} to {bound + 2} words, each one word longer"


def test_without_words_nothing_is_a_duplicate() -> None:
    assert kept(["", "...", "!!", ""]) == [0, 1, 2, 3]
    assert kept([]) == [] and kept(["a"]) == [0] and kept(["a"] * 4) == [0] and kept(["a", "b", "c"]) == [0, 1, 2]
    assert kept(["a b c", "A, b C"], threshold=1.0) == [0]


def test_parts_and_turn_boundaries() -> None:
    def chat(*turns: str) -> Row:
        roles = ("user", "assistant") * len(turns)
        return new_row(messages=[Message(role=r, content=t) for r, t in zip(roles, turns, strict=False)], made_by={})

    rows = [chat(TEXT, "yes"), chat(TEXT, "no"), chat("something else", "yes")]
    assert [row.dropped is None for row in Near(on="prompt").whole(rows)] == [True, False, True]
    assert [row.dropped is None for row in Near(on="response").whole(rows)] == [True, True, False]
    assert [row.dropped is None for row in Near(threshold=1.0).whole([chat("ab", "cd"), chat("a", "bcd")])] == [
        True,
        True,
    ]


@pytest.mark.parametrize(("keep", "place"), [("first", 0), ("longest", 1), ("best", 2)])
def test_which_is_kept(keep: str, place: int) -> None:
    rows = rows_of([TEXT, TEXT + " Yes!", TEXT.lower(), TEXT])
    rows = [row.with_scores(verified=value) for row, value in zip(rows, [0.0, 0.0, 1.0, 1.0], strict=True)]
    out = Near(keep=keep).whole(rows)
    assert [n for n, row in enumerate(out) if row.dropped is None] == [place]


def test_sealed_rows_stay_and_dropped_rows_take_no_part() -> None:
    rows = [rows_of([TEXT])[0].drop("x: y"), *rows_of([TEXT]), *rows_of([TEXT, TEXT.lower()], sealed=True)]
    out = Near().whole(rows)
    assert [row.dropped is None for row in out] == [False, False, True, True]
    assert out[0] == rows[0] and out[1].labels["cluster"] == out[2].id


def test_a_second_pass_changes_nothing(corpora: Path) -> None:
    first = Near().whole(rows_of(real_texts(corpora, 100)))
    stay = [row for row in first if row.dropped is None]
    assert len(stay) < len(first)
    assert all(row.dropped is None for row in Near().whole(stay))


@pytest.mark.parametrize("fields", [{}, {"on": "prompt", "keep": "longest"}, {"on": "response", "keep": "best"}])
def test_a_table_is_done_as_its_rows_are(fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(2)
    words = ["Tom", "has", "12", "red", "Äpfel", "“and”", "gives", "3", "to", "Ann"]
    rows = []
    for number in range(120):
        text = " ".join(draw.choice(words) for _ in range(draw.choice([0, 1, 4, 5])))
        turns = [
            Message(role="user", content=text),
            Message(role="assistant", content=text[::-1] if number % 3 else "yes"),
        ]
        if number % 17 == 0:
            turns = [*turns, Message(role="assistant", content="", tool_calls='[{"name": "add"}]')]
        row = new_row(messages=turns[: draw.choice([0, 1, 2, 2, 3])], made_by={"n": number}, sealed=number % 13 == 0)
        row = row.with_labels(zone="z", answer="a").with_extra(note=number)
        row = row.with_scores(verified=draw.choice([0.0, 1.0, math.nan])) if number % 2 else row
        rows.append(row.drop("x: y") if number % 11 == 0 else row)
    monkeypatch.setattr(_near, "CHUNK", 200)
    whole = pa.concat_tables([to_table(rows[:50]), to_table(rows[45:90]).slice(5), to_table(rows[90:])])
    step = Near(**fields)
    by_rows = [replace(row, scores={}) for row in step.whole(rows)]
    assert [replace(row, scores={}) for row in from_table(step.table(whole))] == by_rows
    assert sum(row.dropped is not None for row in by_rows) > 20
    assert step.table(whole.slice(0, 0)).num_rows == 0


# -- against all pairs -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planted(corpora: Path) -> list[str]:
    draw = random.Random(11)
    originals = [text for text in real_texts(corpora, 40) if len(text.split()) >= 8]
    return [text for original in originals for text in (original, *(changed for _, changed in edits(original, draw)))]


@pytest.mark.real
def test_recall_and_precision_on_planted_near_duplicates(planted: list[str]) -> None:
    pairs = list(all_pairs(planted))
    close = [(one, other) for one, other, alike in pairs if alike >= 0.7]
    found = _near.clusters(_near.Lists([[text] for text in planted]), _near.Shape(0.7, 0, 32, 4)).first
    truth = closure(len(planted), close)
    recall = {
        least: np.mean([found[one] == found[other] for one, other, alike in pairs if alike >= least])
        for least in (0.7, 0.8)
    }
    declared = [(a, b) for a, b in combinations(range(len(planted)), 2) if found[a] == found[b]]
    precision = np.mean([truth[a] == truth[b] for a, b in declared])
    print(f"{len(planted)} texts, {len(close)} pairs: recall {recall}, precision {precision:.4f} of {len(declared)}")
    assert len(close) > 1000
    assert recall[0.7] >= 0.99 and recall[0.8] == 1.0 and precision >= 0.995


@pytest.mark.real
def test_the_same_on_any_number_of_threads_and_from_disk(planted: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    texts, shape = _near.Lists([[text] for text in planted]), _near.Shape(0.6, 0, 32, 4)
    monkeypatch.setattr(_near, "CHUNK", 10_000)
    results = []
    for threads, memory in ((1, "1000"), (4, "1000"), (4, "0")):
        for module in (_near, _tokens):
            monkeypatch.setattr(module, "cores", lambda threads=threads: threads)
        monkeypatch.setenv("LIMBECK_MEMORY_MB", memory)
        found = _near.clusters(texts, shape)
        assert found.sets is not None and isinstance(found.sets.shingles.base, np.memmap) == (memory == "0")
        results.append((found.first.tolist(), found.similarity(found.first.tolist())))
    assert results[0] == results[1] == results[2]


def test_giant_buckets_are_bounded_and_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_near, "CROWD", 8)
    start = " ".join(f"common{n}" for n in range(60))
    # six in ten words are common to all: many meet, none is a near-duplicate but for the planted twins
    texts = [f"{start} " + " ".join(f"own{n}x{m}" for m in range(40)) for n in range(300)]
    texts += [text + " more" for text in texts[:100]]
    assert kept(texts) == list(range(300))
    assert "buckets held more than 8 different texts" in capsys.readouterr().err


def test_ten_thousand_copies_are_no_giant_bucket() -> None:
    found = _near.clusters(_near.Lists([[TEXT]] * 10_000), _near.Shape(0.7, 0, 32, 4))
    assert found.crowded == 0 and not found.first.any()


# -- the machine -------------------------------------------------------------------------------------------------------


def test_importing_the_step_loads_no_compiler() -> None:
    code = "import limbeck.curate.near, sys; print([m for m in ('numba', 'torch', 'scipy', 'llvmlite') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.slow
def test_compiling_is_said_and_kept_even_where_the_package_is_read_only(tmp_path: Path) -> None:
    code = (
        "from limbeck.curate._compile import compiled, announce\nannounce()\n"
        "from limbeck.curate._token_kernel import mixed\nimport numpy as np\nprint(mixed(np.uint64(1)))"
    )

    def run(cache: Path) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)

    first, second = run(tmp_path / "cache"), run(tmp_path / "cache")
    assert "compiling the text kernels, once" in first.stderr and str(tmp_path) in first.stderr
    assert second.stderr == "" and first.stdout == second.stdout
    (tmp_path / "file").write_text("a file, so no folder can be made in it")
    assert "not kept" in run(tmp_path / "file").stderr
