"""curate.leaks: rows by item, items by row, and a score with and without the leaked items."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from limbeck.api import run
from limbeck.core.errors import InputError
from limbeck.core.recipe import Recipe
from limbeck.core.row import Message, Row, new_row, to_table
from limbeck.curate.decontaminate import Decontaminate
from limbeck.curate.leaks import Leaks
from limbeck.seeds.files import Files

QUESTIONS = [
    "A robe takes 2 bolts of blue fiber and half that much white fiber. How many bolts in total does it take?",
    "Every Monday the harbour master counts 14 ferries before noon and 9 after. How many ferries is that a week?",
    "What would a lighthouse keeper say to a foggy evening in November?",
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("eval.jsonl").write_text(
        "\n".join(json.dumps({"id": f"q{n}", "question": q}) for n, q in enumerate(QUESTIONS))
    )
    corpus = [
        QUESTIONS[0],
        QUESTIONS[0].upper(),
        QUESTIONS[1].replace("14", "17").replace("9", "4"),
        "Paint me a fence.",
    ]
    Path("corpus.jsonl").write_text("\n".join(json.dumps({"prompt": text, "response": "Well."}) for text in corpus))
    return tmp_path


def leaks(folder: Path, **fields: object) -> Path:
    steps = [
        Files(path="corpus.jsonl"),
        Decontaminate(against=("eval.jsonl",)),
        Leaks(of="step:decontaminate", **fields),  # type: ignore[arg-type]
    ]
    return run(Recipe(steps=steps), out=folder / "run").path("leaks")


def test_both_ways_with_clean_items_and_scores(folder: Path) -> None:
    Path("scores.jsonl").write_text(
        "\n".join(json.dumps({"item": f"q{n}", "score": s}) for n, s in enumerate((1, 1, 0)))
    )
    out = leaks(folder, against=("eval.jsonl",), scores="scores.jsonl")
    told = json.loads((out / "leaks.json").read_text())
    assert told["rows"] == 4 and told["verdicts"] == {"contaminated": 2, "variant": 1}
    assert told["sets"] == {"eval.jsonl": {"items": 3, "contaminated": 1, "variant": 1, "template": 0, "rows": 3}}
    assert told["scores"] == {"clean": {"items": 1, "mean": 0.0}, "leaked": {"items": 2, "mean": 1.0}}
    lines = [json.loads(line) for line in (out / "items.jsonl").read_text().splitlines()]
    assert [(line["item"], line["verdict"], len(line["rows"])) for line in lines] == [
        ("q0", "contaminated", 2),
        ("q1", "variant", 1),
        ("q2", "clean", 0),
    ]
    page = (out / "evidence.md").read_text()
    assert "| eval.jsonl | 3 | 1 | 1 | 0 | 3 |" in page and f"⟦{QUESTIONS[0][:-1]}⟧?" in page
    assert page.index("## contaminated") < page.index("## variant: eval.jsonl, item q1 (100 % of its prompt, by words)")


def test_without_the_sets_only_what_was_hit_is_told(folder: Path) -> None:
    out = leaks(folder)
    assert json.loads((out / "leaks.json").read_text())["sets"]["eval.jsonl"]["items"] is None
    assert [json.loads(line)["item"] for line in (out / "items.jsonl").read_text().splitlines()] == ["q0", "q1"]


def test_scores_of_nothing_searched_for_are_refused(folder: Path) -> None:
    Path("scores.jsonl").write_text('{"item": "other", "score": 1}\n')
    with pytest.raises(InputError, match=r"No score in scores.jsonl belongs to an item that was searched for"):
        leaks(folder, scores="scores.jsonl")
    Path("scores.jsonl").write_text('{"item": "q0"}\n')
    with pytest.raises(InputError, match=r"scores.jsonl line 1 is no score of an item"):
        leaks(folder, scores="scores.jsonl")


def test_sealed_rows_are_items_and_outcomes_name_them_by_row(folder: Path) -> None:
    test = [new_row(messages=[Message(role="user", content=q)], made_by={"q": q}, sealed=True) for q in QUESTIONS]
    texts = (f"Quote: {QUESTIONS[2]}", "Paint me a fence.")
    corpus = [new_row(messages=[Message(role="user", content=text)], made_by={"text": text}) for text in texts]
    _write("test.parquet", test), _write("corpus.parquet", corpus)
    scores = [json.dumps({"prompt": row.id, "scores": [1.0, 0.0]}) for row in test]
    Path("outcomes.jsonl").write_text("\n".join(scores))
    steps = [
        Files(name="test", path="test.parquet", sealed=True),
        Files(name="corpus", path="corpus.parquet"),
        Decontaminate(after=("corpus", "test")),
        Leaks(of="step:decontaminate", scores="outcomes.jsonl"),
    ]
    done = run(Recipe(steps=steps), out=folder / "run")
    told = json.loads((done.path("leaks") / "leaks.json").read_text())
    assert told["verdicts"] == {"contaminated": 1} and told["sets"]["sealed rows"]["items"] == 3
    assert told["scores"] == {"clean": {"items": 2, "mean": 0.5}, "leaked": {"items": 1, "mean": 0.5}}
    assert len(done.rows("decontaminate")) == 1 and len(done.rows("decontaminate", dropped=True)) == 4


def _write(name: str, rows: list[Row]) -> None:
    pq.write_table(to_table(rows), name)
