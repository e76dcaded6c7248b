"""What other trainers read from an export is what train.sft and train.preference would have trained on, token for token."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tiny_students import copying, make_model, make_tokenizer, row_of

from limbeck import api
from limbeck.core.row import Message, Row, new_row, to_table
from limbeck.train.examples import encode
from limbeck.train.preference import _encoded
from limbeck.train.student import load_student

HARD = ["a\u2028b\x85c\nd\r\n", 'quote " and \\ and \t', "émoji 🙂 \x7f", "null", "123", " ", "{{ jinja }}", "<eos>"]
CALL = '[{"id": "1", "type": "function", "function": {"name": "add", "arguments": "{\\"a\\": 2}"}}]'
PAIR = {"rejected": [{"role": "assistant", "content": "It is red today."}], "pair": {"shared": 1}}


def talks() -> list[Row]:
    """Texts that files and templates trip over, a system turn, several turns, and a call of a tool."""
    rows = [row_of(("user", text), ("assistant", text[::-1])) for text in HARD]
    rows.append(
        row_of(("system", "Be brief."), ("user", "Hi"), ("assistant", "Ho"), ("user", "Hu"), ("assistant", "Ha"))
    )
    turns = [
        Message(role="user", content="2+2?"),
        Message(role="assistant", content="", tool_calls=CALL),
        Message(role="tool", content="4", name="add"),
        Message(role="assistant", content="4"),
    ]
    return [*rows, new_row(messages=turns, made_by={})]


def exported(tmp_path: Path, rows: list[Row], format_: str) -> Path:
    pq.write_table(to_table(rows), tmp_path / "kept.parquet")
    return api.export(tmp_path, format_)[0]


def turns_of(messages: list[dict[str, Any]]) -> list[Message]:
    """Turns as a loader gives them: what a turn has not may be missing, or there as None."""
    calls = [m.get("tool_calls") for m in messages]
    return [
        Message(role=m["role"], content=m["content"], name=m.get("name"), tool_calls=json.dumps(c) if c else None)
        for m, c in zip(messages, calls, strict=True)
    ]


def from_sharegpt(record: dict[str, Any]) -> list[Message]:
    roles = {"human": "user", "gpt": "assistant", "observation": "tool"}
    system = [Message(role="system", content=record["system"])] if record.get("system") else []
    turns = [*system]
    for turn in record["conversations"]:
        if turn["from"] == "function_call":
            calls = [call | {"arguments": json.dumps(call["arguments"])} for call in json.loads(turn["value"])]
            told = json.dumps([{"id": "1", "type": "function", "function": call} for call in calls])
            turns.append(Message(role="assistant", content="", tool_calls=told))
        else:
            turns.append(Message(role=roles[turn["from"]], content=turn["value"]))
    return turns


BACK: dict[str, Callable[[dict[str, Any]], list[Message]]] = {
    "trl": lambda record: turns_of([*record["prompt"], *record["completion"]]),
    "axolotl": lambda record: turns_of(record["messages"]),
    "openai": lambda record: turns_of(record["messages"]),
    "hf": lambda record: turns_of(record["messages"]),
    "llamafactory": from_sharegpt,
}


@pytest.mark.parametrize("format_", BACK)
def test_the_real_loader_gives_back_every_turn(tmp_path, format_):
    datasets = pytest.importorskip("datasets", reason="SKIPPED: `datasets` is not installed.")
    rows = talks()
    path = exported(tmp_path, rows, format_)
    kind, files = ("parquet", str(path / "*.parquet")) if format_ == "hf" else ("json", str(path))
    data = datasets.load_dataset(kind, data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    named = format_ != "llamafactory"  # it has no names of tools at their results
    told = [[m if named else replace(m, name=None) for m in row.messages] for row in rows]
    assert [BACK[format_](record) for record in data] == told


def test_arguments_of_any_types_fit_into_one_table(tmp_path):
    rows = []
    for value in (1, "x", {"y": [1]}):
        call = json.dumps([{"id": "1", "type": "function", "function": {"name": "f", "arguments": {"a": value}}}])
        turns = [Message(role="user", content="?"), Message(role="assistant", content="", tool_calls=call)]
        rows.append(new_row(messages=turns, made_by={}))
    table = pq.read_table(exported(tmp_path, rows, "hf") / "train.parquet").to_pylist()
    texts = [row["messages"][1]["tool_calls"][0]["function"]["arguments"] for row in table]
    assert [json.loads(text) for text in texts] == [{"a": 1}, {"a": "x"}, {"a": {"y": [1]}}]


@pytest.fixture(scope="module")
def trl() -> Any:
    return pytest.importorskip("trl", reason="SKIPPED: `trl` is not installed.")


def loaded(tmp_path: Path, rows: list[Row]) -> Any:
    """By the function that `trl sft` and `trl dpo` load their data with."""
    from trl.scripts.utils import DatasetConfig, DatasetMixtureConfig, get_dataset

    path = str(exported(tmp_path, rows, "trl"))
    return get_dataset(DatasetMixtureConfig(datasets=[DatasetConfig(path="json", data_files=path)]))["train"]


@pytest.mark.filterwarnings("ignore")
def test_trl_fine_tunes_on_the_same_tokens(trl, tmp_path, student):
    rows, own = copying(12), load_student(student)
    settings = trl.SFTConfig(output_dir=str(tmp_path), report_to=[], use_cpu=True, bf16=False)
    data = loaded(tmp_path, rows)
    theirs = trl.SFTTrainer(make_model(), args=settings, train_dataset=data, processing_class=make_tokenizer())
    ours, _ = encode(rows, own.tokenizer, own.stops, end=own.end)
    for example, record in zip(ours, theirs.train_dataset, strict=True):
        assert list(example.ids) == record["input_ids"]
        assert list(example.trained) == [label != -100 for label in record["labels"]]


@pytest.mark.filterwarnings("ignore")
def test_trl_prefers_on_the_same_tokens(trl, tmp_path, student):
    rows, own = [replace(row, extra=PAIR) for row in copying(12)], load_student(student)
    settings = trl.DPOConfig(output_dir=str(tmp_path), report_to=[], use_cpu=True, bf16=False)
    theirs = trl.DPOTrainer(
        make_model(),
        ref_model=make_model(),
        args=settings,
        train_dataset=loaded(tmp_path, rows),
        processing_class=make_tokenizer(),
    )
    ours, reasons = _encoded(rows, own, 256)
    assert not reasons
    for pair, record in zip(ours, theirs.train_dataset, strict=True):
        for side, name in ((pair.chosen, "chosen_ids"), (pair.rejected, "rejected_ids")):
            assert list(side.ids) == record["prompt_ids"] + record[name]
            assert side.targets == len(record[name])


def test_llamafactory_gets_pairs_with_both_sides(tmp_path):
    turns = [Message(role="user", content="What colour is the sky?"), Message(role="assistant", content="Blue.")]
    row = new_row(messages=turns, made_by={}, extra=PAIR)
    record = json.loads(exported(tmp_path, [row], "llamafactory").read_text())
    assert record == {
        "conversations": [{"from": "human", "value": "What colour is the sky?"}],
        "chosen": {"from": "gpt", "value": "Blue."},
        "rejected": {"from": "gpt", "value": "It is red today."},
    }
