"""The seal and the exports: evaluation rows never become training data, and what is exported is what trainers read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from engine_parts import Answered, Count, Numbers, Train, Unseal

from limbeck import Message, Recipe, api
from limbeck.core.errors import InputError, SealedError, UnknownName
from limbeck.core.find import step_names
from limbeck.core.row import Row, new_row, to_table
from limbeck.core.step import Make
from limbeck.engine import seal


def file_of(folder: Path, name: str, *rows: Row) -> Path:
    pq.write_table(to_table(rows), folder / name)
    return folder / name


def row(text: str, *parents: Row, sealed: bool = False) -> Row:
    ids = tuple(p.id for p in parents)
    return new_row(messages=[Message(role="user", content=text)], parents=ids, made_by={}, sealed=sealed)


def test_a_sealed_row_is_found_however_far_back(tmp_path: Path) -> None:
    test, train = row("test", sealed=True), row("train")
    child = row("child", train, test)
    grandchild, clean = row("grandchild", child), row("clean", train)
    files = [file_of(tmp_path, "1.parquet", test, train), file_of(tmp_path, "2.parquet", child, grandchild, clean)]
    seal.check("sft", [clean, train], files)
    for bad in (test, child, grandchild):
        with pytest.raises(SealedError, match=f"sft was handed row {bad.id}, which .* sealed evaluation row {test.id}"):
            seal.check("sft", [clean, bad], files)


def test_a_row_whose_seal_was_broken_is_known_by_its_id(tmp_path: Path) -> None:
    test = row("test", sealed=True)
    with pytest.raises(SealedError):
        seal.check("sft", [replace(test, sealed=False)], [file_of(tmp_path, "1.parquet", test)])


def test_parents_in_a_circle_end(tmp_path: Path) -> None:
    left, right = row("left"), row("right")
    left, right = replace(left, parents=(right.id,)), replace(right, parents=(left.id,))
    seal.check("sft", [left], [file_of(tmp_path, "1.parquet", left, right)])


def trainers() -> list[str]:
    return [n for n in step_names() if n.startswith("train.")]


@pytest.mark.parametrize("name", trainers())
@pytest.mark.parametrize("how", ["sealed", "forgotten", "broken"])
def test_no_train_step_is_ever_handed_a_sealed_row_or_its_descendant(tmp_path: Path, name: str, how: str) -> None:
    from limbeck.core.find import find_step

    kind = find_step(name)
    assert issubclass(kind, Make) and not kind.reads_sealed
    between: list[Any] = {"sealed": [], "forgotten": [Answered(), Unseal()], "broken": [Unseal(child=False)]}[how]
    fields: dict[str, Any] = {f: "embedded:student" for f, v in kind.model_fields.items() if v.is_required()}
    recipe = Recipe(steps=[Numbers(count=3, sealed=True), *between, kind(**fields)])
    with pytest.raises(SealedError, match="never trained on: read another branch"):
        api.run(recipe, out=tmp_path / "run", report=False)
    assert not list((tmp_path / "run").glob("*-*/worker.log")), "the trainer was not even started"


@pytest.mark.parametrize("own", [Count(), Train(), Train(after="clean", rows_of="step:sealed")])
def test_a_users_own_make_step_is_closed_to_sealed_rows_until_it_says_otherwise(tmp_path: Path, own: Make) -> None:
    recipe = Recipe(steps=[Numbers(name="clean", count=2), Numbers(name="sealed", count=3, sealed=True), own])
    with pytest.raises(SealedError, match="never trained on"):
        api.run(recipe, out=tmp_path / "run", report=False)


def test_only_what_measures_may_read_sealed_rows() -> None:
    from limbeck.core.find import find_step

    makes = [kind for name in step_names() if issubclass(kind := find_step(name), Make)]
    reading = {kind.called() for kind in makes if kind.reads_sealed}
    assert {"evaluate.run", "evaluate.compare"} <= reading
    assert {name.partition(".")[0] for name in reading} <= {"evaluate", "audit", "curate"}, "no trainer among them"


# -- export ------------------------------------------------------------------------------------------------------------


def rows() -> list[Row]:
    turns = [
        Message(role="system", content="Be brief."),
        Message(role="user", content="2+2? ü"),
        Message(role="assistant", content="", tool_calls='[{"id": "1", "function": {"name": "add"}}]'),
        Message(role="tool", content="4", name="add"),
        Message(role="assistant", content="4"),
    ]
    return [new_row(messages=turns, made_by={}), new_row(messages=turns[1:2] + turns[4:], made_by={})]


def exported(tmp_path: Path, format_: str) -> list[dict[str, Any]]:
    file_of(tmp_path, "kept.parquet", *rows())
    path, count = api.export(tmp_path, format_)
    assert count == 2 and path.name == f"export-{format_}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_trl(tmp_path: Path) -> None:
    first, second = exported(tmp_path, "trl")
    assert second == {
        "prompt": [{"role": "user", "content": "2+2? ü"}],
        "completion": [{"role": "assistant", "content": "4"}],
    }
    assert [m["role"] for m in first["prompt"]] == ["system", "user", "assistant", "tool"]
    assert (
        first["prompt"][2]["tool_calls"] == [{"id": "1", "function": {"name": "add"}}]
        and first["prompt"][3]["name"] == "add"
    )


@pytest.mark.parametrize("format_", ["openai", "axolotl"])
def test_openai_and_axolotl(tmp_path: Path, format_: str) -> None:
    assert exported(tmp_path, format_)[1] == {
        "messages": [{"role": "user", "content": "2+2? ü"}, {"role": "assistant", "content": "4"}]
    }


def test_llamafactory(tmp_path: Path) -> None:
    first, second = exported(tmp_path, "llamafactory")
    assert second == {"conversations": [{"from": "human", "value": "2+2? ü"}, {"from": "gpt", "value": "4"}]}
    assert first["system"] == "Be brief." and [t["from"] for t in first["conversations"]] == [
        "human",
        "function_call",
        "observation",
        "gpt",
    ]


def test_hf_is_a_folder_of_parquet(tmp_path: Path) -> None:
    file_of(tmp_path, "kept.parquet", *rows())
    path, _ = api.export(tmp_path / "kept.parquet", "hf", tmp_path / "out")
    table = pq.read_table(path / "train.parquet")
    assert table.column_names == ["messages"] and table.to_pylist()[1]["messages"][0]["content"] == "2+2? ü"


def test_what_can_not_be_exported_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"There is no export format 'trll'\. Did you mean 'trl'"):
        api.export(tmp_path, "trll")
    with pytest.raises(InputError, match=r"holds no kept\.parquet; name the folder of a finished step"):
        api.export(tmp_path, "trl")
    (tmp_path / "kept.parquet").write_text("no parquet")
    with pytest.raises(InputError, match="can not be read as rows"):
        api.export(tmp_path, "trl")
    file_of(tmp_path, "kept.parquet", *rows(), row("test", sealed=True))
    with pytest.raises(SealedError, match="holds sealed evaluation rows"):
        api.export(tmp_path, "trl")
    assert [f.name for f in tmp_path.iterdir()] == ["kept.parquet"]


@pytest.mark.parametrize("format_", ["trl", "hf"])
def test_the_real_loader_reads_it(tmp_path: Path, format_: str) -> None:
    datasets = pytest.importorskip("datasets", reason="SKIPPED: `datasets` is not installed.")
    file_of(tmp_path, "kept.parquet", *rows())
    path, _ = api.export(tmp_path, format_)
    kind, files = ("parquet", str(path / "*.parquet")) if format_ == "hf" else ("json", str(path))
    data = datasets.load_dataset(kind, data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert len(data) == 2 and set(data.column_names) in ({"messages"}, {"prompt", "completion"})
