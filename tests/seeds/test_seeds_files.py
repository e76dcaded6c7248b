"""Reading files: formats, fields, the map, bad lines, our own rows, and real corpora."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limbeck.core.errors import InputError, UsageError
from limbeck.core.row import Message, Row, Usage, new_row, to_table
from limbeck.seeds.files import Files, labels


def lines(folder: Path, *records: Any, name: str = "rows.jsonl") -> str:
    path = folder / name
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records), encoding="utf-8")
    return str(path)


def rows(path: str | tuple[str, ...], **fields: Any) -> list[Row]:
    out = list(Files(path=path, **fields).rows())
    assert all(isinstance(r, Row) for r in out)
    return out  # type: ignore[return-value]


def one(folder: Path, record: dict[str, Any], **fields: Any) -> Row:
    (row,) = rows(lines(folder, record), **fields)
    return row


RECORDS = [
    {"prompt": f"What is {n} + {n}?", "response": f"It is {2 * n}.", "reference": str(2 * n), "level": "easy"}
    for n in range(5)
]


def write(folder: Path, kind: str) -> Path:
    path = folder / f"rows{kind}"
    if kind.startswith((".jsonl", ".ndjson")):
        text = "".join(json.dumps(r) + "\n" for r in RECORDS)
    elif kind.startswith(".json"):
        text = json.dumps(RECORDS, indent=1)
    else:
        text = ""
    if kind == ".parquet":
        pq.write_table(pa.Table.from_pylist(RECORDS), path)
    elif kind == ".arrow":
        table = pa.Table.from_pylist(RECORDS)
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    elif kind in (".csv", ".tsv"):
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer_ = csv.DictWriter(stream, list(RECORDS[0]), delimiter="\t" if kind == ".tsv" else ",")
            writer_.writeheader()
            writer_.writerows(RECORDS)
    elif kind.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "kind", [".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".jsonl.gz", ".json.gz"]
)
def test_every_format_gives_the_same_rows(tmp_path: Path, kind: str) -> None:
    found = rows(str(write(tmp_path, kind)))
    assert [(r.question, r.response, r.reference, r.extra) for r in found] == [
        (r["prompt"], r["response"], r["reference"], {"level": "easy"}) for r in RECORDS
    ]
    assert all(r.dropped is None for r in found)


@pytest.mark.parametrize(
    ("record", "question", "response", "reference"),
    [
        ({"question": "Q", "answer": "48/2 = 24\n#### 24"}, "Q", "48/2 = 24\n#### 24", "24"),
        ({"question": "Q", "answer": "18"}, "Q", "18", "18"),
        ({"question": "Q", "answer": 18}, "Q", "18", "18"),
        ({"question": "Q", "answer": "long " * 100}, "Q", "long " * 100, None),
        ({"question": "Q", "solution": "S", "answer": "18"}, "Q", "S", "18"),
        ({"prompt": "Q", "response": "R", "answer": "A"}, "Q", "R", "A"),
        ({"prompt": "Q", "response": "R", "reference": "A"}, "Q", "R", "A"),
        ({"prompt": "Q", "ground_truth": "So\n#### 18"}, "Q", "", "18"),
        ({"instruction": "Do", "input": "this", "output": "R"}, "Do\n\nthis", "R", None),
        ({"instruction": "Do", "input": "", "output": "R"}, "Do", "R", None),
        ({"text": "Q"}, "Q", "", None),
        ({"prompt": "Q", "completion": "R"}, "Q", "R", None),
        ({"output": "R", "reference": "A"}, "", "R", "A"),
        ({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "R"}]}, "Q", "R", None),
        ({"messages": [{"role": "user", "content": "Q"}], "response": "R"}, "Q", "R", None),
        (
            {"prompt": [{"role": "user", "content": "Q"}], "completion": [{"role": "assistant", "content": "R"}]},
            "Q",
            "R",
            None,
        ),
    ],
)
def test_usual_fields_are_understood(
    tmp_path: Path, record: dict[str, Any], question: str, response: str, reference: str | None
) -> None:
    row = one(tmp_path, record)
    assert (row.question, row.response, row.reference) == (question, response, reference)
    assert row.extra == {}


def test_prompts_keep_the_answer_as_the_reference_only(tmp_path: Path) -> None:
    for record in (
        {"question": "Q", "answer": "So\n#### 24"},
        {"question": "Q", "solution": "So\n#### 24"},
        {"instruction": "Q", "output": "24"},
    ):
        row = one(tmp_path, record, as_prompts=True)
        assert [m.role for m in row.messages] == ["user"]
        assert row.reference == "24"
    row = one(tmp_path, {"question": "Q", "solution": "S", "answer": "24"}, as_prompts=True)
    assert (row.response, row.reference) == ("", "24")
    row = one(
        tmp_path,
        {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "24"}]},
        as_prompts=True,
    )
    assert (row.response, row.reference) == ("", "24")


def test_system_id_and_unknown_fields(tmp_path: Path) -> None:
    row = one(tmp_path, {"system": "S", "prompt": "Q", "id": 7, "grade": {"a": [1]}, "none": None})
    assert [m.role for m in row.messages] == ["system", "user"]
    assert row.extra == {"id": "7", "grade": {"a": [1]}, "none": None}
    assert row.made_by == '{"file":"rows.jsonl","line":1,"step":"seeds.files"}'


def test_tool_calls_and_other_dialects_of_turns(tmp_path: Path) -> None:
    calls = [{"function": {"name": "f", "arguments": "{}"}}]
    turns = [
        {"role": "developer", "content": "S"},
        {"from": "human", "value": "Q"},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "content": [{"type": "text", "text": "4"}], "name": "f"},
        {"from": "gpt", "value": "R"},
    ]
    row = one(tmp_path, {"talk": turns}, map={"messages": "talk"})
    assert [m.role for m in row.messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert json.loads(row.messages[2].tool_calls or "") == calls
    assert row.messages[3] == Message(role="tool", content="4", name="f")


def test_the_map_goes_into_objects_and_names_every_target(tmp_path: Path) -> None:
    record = {
        "q": {"text": "Q"},
        "a.b": "R",
        "meta": {"gold": 5, "level": 3, "rest": 1},
        "sure": 0.5,
        "tests": [[[1], 2]],
    }
    mapping = {
        "prompt": "q.text",
        "response": "a.b",
        "reference": "meta.gold",
        "label.level": "meta.level",
        "score.judge": "sure",
        "task.cases": "tests",
    }
    row = one(tmp_path, record, map=mapping, kind="program")
    assert (row.question, row.response) == ("Q", "R")
    assert row.task == {"reference": 5, "cases": [[[1], 2]], "kind": "program"}
    assert row.labels == {"level": "3"}
    assert row.scores == {"judge": 0.5}
    assert row.extra == {"meta": {"rest": 1}}


def test_a_star_gives_a_row_for_each_key(tmp_path: Path) -> None:
    record = {
        "question": "Q",
        "truth": "5",
        "small": {"solution": "4", "ok": False, "x": 1},
        "large": {"solution": "5", "ok": True},
        "n": 2,
    }
    found = rows(lines(tmp_path, record), map={"response": "*.solution", "label.claimed": "*.ok", "reference": "truth"})
    assert [(r.response, r.labels) for r in found] == [
        ("4", {"claimed": "false", "source": "small"}),
        ("5", {"claimed": "true", "source": "large"}),
    ]
    assert [r.extra for r in found] == [{"n": 2, "small": {"x": 1}}, {"n": 2}]
    assert len({r.group for r in found}) == 1
    assert len({r.id for r in found}) == 2


def test_rows_of_one_prompt_share_the_group(tmp_path: Path) -> None:
    found = rows(
        lines(
            tmp_path,
            {"prompt": "Q", "response": "1"},
            {"prompt": "Q", "response": "2"},
            {"prompt": "P"},
            {"response": "3"},
            {"response": "3"},
        )
    )
    assert found[0].group == found[1].group != found[2].group
    assert found[3].group != found[4].group, "rows without a prompt are no samples of one prompt"
    assert len({r.id for r in found}) == 5


BAD = [
    '{"prompt": "torn',
    "",
    "[1, 2]",
    '"text"',
    '{"prompt": 5}',
    '{"prompt": "Q", "score": NaN}',
    '{"prompt": "Q", "n": 1e999}',
    "\x00",
    '{"other": 1}',
    '{"messages": "x"}',
    '{"messages": [{"role": "pirate", "content": "x"}]}',
    '{"messages": [{"role": "user"}]}',
    "{" * 5000,
    '{"prompt": {"a": 1}}',
]


def test_bad_lines_are_dropped_with_their_text_and_the_rest_goes_on(tmp_path: Path) -> None:
    records = [part for bad in BAD for part in ({"prompt": "good"}, bad)]
    found = rows(lines(tmp_path, *records, {"prompt": "good"}))
    assert len(found) == 2 * len(BAD) + 1
    for number, row in enumerate(found, start=1):
        if number % 2:
            assert row.dropped is None and row.question == "good"
        else:
            assert row.dropped is not None and row.dropped.startswith(f"seeds.files: rows.jsonl line {number}: ")
            assert json.loads(row.made_by)["line"] == number
            assert row.extra["raw"].strip() == BAD[number // 2 - 1].strip() or json.loads(
                row.extra["raw"]
            ) == json.loads(BAD[number // 2 - 1])


def test_bytes_that_are_not_utf8_cost_one_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"prompt": "a"}\n{"prompt": "\xff\xfe"}\r\n{"prompt": "b"}')
    found = rows(str(path))
    assert [r.question for r in found] == ["a", "", "b"]
    assert "UTF-8" in (found[1].dropped or "")


def test_a_bad_table_row_costs_one_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b'question,answer\n"a ""b""\nc",1\nonly\nx,2,3\n\xff,4\nd,5\n')
    found = rows(str(path))
    assert [r.question for r in found] == ['a "b"\nc', "", "", "", "d"]
    assert [r.dropped is None for r in found] == [True, False, False, False, True]
    assert "1 fields, the header has 2" in (found[1].dropped or "")


@pytest.mark.parametrize("cut", [0.3, 0.7, 0.95])
def test_a_torn_file_gives_what_it_has(tmp_path: Path, cut: float) -> None:
    plain = json.dumps([{"prompt": f"question number {n}"} for n in range(2000)])
    path = tmp_path / "rows.json"
    path.write_text(plain[: int(len(plain) * cut)])
    found = rows(str(path))
    assert len(found) > 2000 * cut - 5
    assert [r.dropped is not None for r in found] == [False] * (len(found) - 1) + [True]
    packed = gzip.compress(
        "".join(json.dumps({"prompt": f"question {n * 7919 % 10007}"}) + "\n" for n in range(5000)).encode()
    )
    squeezed = tmp_path / "rows.jsonl.gz"
    squeezed.write_bytes(packed[: int(len(packed) * cut)])
    found = rows(str(squeezed))
    assert len(found) > 100 and found[-1].dropped is not None


def test_a_json_object_is_looked_through_for_its_list(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({"canary": "x", "examples": [{"prompt": "a"}, {"prompt": "b"}]}, indent=2))
    assert [r.question for r in rows(str(path))] == ["a", "b"]
    path.write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    assert [r.question for r in rows(str(path))] == ["a", "b"]
    path.write_text(json.dumps({"prompt": "a"}))
    assert [r.question for r in rows(str(path))] == ["a"]


def test_long_json_lists_are_read_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([{"prompt": f"{n} " + "é" * 3000} for n in range(1500)], ensure_ascii=False))
    assert path.stat().st_size > 4 << 20
    stream = Files(path=str(path)).rows()
    assert [next(stream).question[:2] for _ in range(2)] == ["0 ", "1 "]  # type: ignore[union-attr]
    assert sum(1 for _ in stream) == 1498


def test_our_own_rows_come_back_as_they_were(tmp_path: Path) -> None:
    made = [
        new_row(
            messages=(
                Message(role="user", content=f"Q{n}"),
                Message(role="assistant", content="R", tool_calls="[]", name="x"),
            ),
            task={"reference": [n, 1.5, None]},
            labels={"a": "b"},
            usage=Usage(tokens_in=3, usd=0.1),
            made_by={"n": n},
            parents=("p",),
            extra={"attached": [{"by": "x", "text": "y"}]},
            sealed=n == 1,
        ).with_scores(math=1.0)
        for n in range(3)
    ]
    step = tmp_path / "run" / "02-math"
    step.mkdir(parents=True)
    pq.write_table(to_table(made), step / "kept.parquet")
    pq.write_table(to_table([made[0].drop("x: y")]), step / "dropped.parquet")
    assert rows(str(step / "kept.parquet")) == made
    assert rows(str(step)) == made
    assert all(r.sealed for r in rows(str(step), sealed=True))
    (again,) = rows(str(step / "dropped.parquet"))
    assert again.dropped is None and again.extra["dropped_before"] == "x: y"
    with pytest.raises(UsageError, match="own rows, which need no map"):
        rows(str(step / "kept.parquet"), map={"prompt": "q"})
    with pytest.raises(InputError, match=r"is a run; name one of its steps, for example .*02-math"):
        rows(str(tmp_path / "run"))


def test_folders_globs_splits_and_several_files(tmp_path: Path) -> None:
    for name in (
        "a/train.jsonl",
        "a/test.jsonl",
        "b/train-00000-of-00002.jsonl",
        "b/train-00001-of-00002.jsonl",
        "c/x/rows.jsonl",
        "c/y/rows.jsonl",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"prompt": name}) + "\n")
    (tmp_path / "b" / "dataset_info.json").write_text("{}")
    (tmp_path / "b" / "README.md").write_text("no data")
    with pytest.raises(InputError, match=r"several splits \(test, train\)"):
        rows(str(tmp_path / "a"))
    assert [r.question for r in rows(str(tmp_path / "a"), split="test")] == ["a/test.jsonl"]
    assert len(rows(str(tmp_path / "b"))) == 2
    assert len(rows(str(tmp_path / "b"), split="train")) == 2
    with pytest.raises(InputError, match="no file of the split 'test'"):
        rows(str(tmp_path / "b"), split="test")
    assert [r.question for r in rows(str(tmp_path / "*" / "train*.jsonl"))] == [
        "a/train.jsonl",
        *(f"b/train-0000{n}-of-00002.jsonl" for n in (0, 1)),
    ]
    both = rows((str(tmp_path / "c/x/rows.jsonl"), str(tmp_path / "c/y/rows.jsonl")))
    assert [json.loads(r.made_by)["file"] for r in both] == ["x/rows.jsonl", "y/rows.jsonl"]
    assert len(rows(str(tmp_path / "c"), limit=1)) == 1
    assert str(tmp_path) not in str(to_table(both).to_pylist()), "no absolute path may reach a row"
    assert labels([Path("/a/x.csv"), Path("/b/y.csv")]) == ["x.csv", "y.csv"]


def test_rows_do_not_depend_on_where_the_file_lies(tmp_path: Path) -> None:
    (tmp_path / "far" / "away").mkdir(parents=True)
    here = rows(lines(tmp_path, {"prompt": "Q"}))
    assert here == rows(lines(tmp_path / "far" / "away", {"prompt": "Q"}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "rows.jsonl is empty"),
        ("\n", "rows.jsonl is empty"),
        ('{"query": "Q", "label": "A"}\n', "it has: query, label. Say which is which, for example --map prompt=query"),
        ("not json\n", "holds nothing that can be read; the first problem: rows.jsonl line 1: this is not JSON"),
    ],
)
def test_files_without_rows_are_errors_that_say_what_to_do(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(content)
    with pytest.raises(InputError) as error:
        rows(str(path))
    assert message in str(error.value)


def test_a_file_of_another_kind_is_refused_before_it_is_read_to_the_end(tmp_path: Path) -> None:
    path = lines(tmp_path, *({"query": "Q"} for _ in range(3000)))
    read = 0
    with pytest.raises(InputError, match="--map prompt=query"):
        for _ in Files(path=path).rows():
            read += 1
    assert read <= 1000


def test_wrong_paths_and_maps_are_explained(tmp_path: Path) -> None:
    lines(tmp_path, {"prompt": "Q"}, name="train.jsonl")
    with pytest.raises(InputError, match=r"Did you mean 'train.jsonl'\?"):
        rows(str(tmp_path / "trian.jsonl"))
    with pytest.raises(InputError, match="No file fits the pattern"):
        rows(str(tmp_path / "*.xyz"))
    with pytest.raises(UsageError, match=r"can not map to 'propmt'. Did you mean 'prompt'"):
        Files(path="x", map={"propmt": "q"})
    with pytest.raises(UsageError, match="at most one star"):
        Files(path="x", map={"prompt": "*.*"})
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(InputError, match=r"torn.parquet can not be read as Parquet"):
        rows(str(tmp_path / "torn.parquet"))


TEXT = st.text(min_size=1, max_size=30).filter(lambda t: t.strip())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5))
def test_any_text_survives_the_way_through_a_file(tmp_path: Path, pairs: list[tuple[str, str]]) -> None:
    records = [{"prompt": p, "response": r} for p, r in pairs]
    found = rows(lines(tmp_path, *records))
    assert [(r.question, r.response) for r in found] == pairs
    pq.write_table(to_table(found), tmp_path / "own.parquet")
    if all(t.isprintable() for pair in pairs for t in pair):
        assert rows(str(tmp_path / "own.parquet")) == found


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(st.binary(max_size=300), st.sampled_from(["jsonl", "json", "csv", "jsonl.gz", "tsv"]))
def test_arbitrary_bytes_never_raise_anything_but_an_input_error(tmp_path: Path, content: bytes, kind: str) -> None:
    path = tmp_path / f"rows.{kind}"
    path.write_bytes(content)
    try:
        found = rows(str(path))
    except InputError:
        return
    assert found


@pytest.mark.real
def test_real_corpora(corpora: Path) -> None:
    gold = rows(str(corpora / "gsm8k" / "train.jsonl"))
    assert len(gold) == 7473 and gold[0].reference == "72" and gold[0].response.endswith("#### 72")
    mapping = {
        "response": "*.solution",
        "label.claimed": "*.is_correct",
        "reference": "ground_truth",
        "prompt": "question",
    }
    solved = rows(str(corpora / "gsm8k" / "example_model_solutions.jsonl"), map=mapping)
    assert len(solved) == 5276
    assert {r.labels["source"] for r in solved} == {
        "6b_finetuning",
        "6b_verification",
        "175b_finetuning",
        "175b_verification",
    }
    assert len({r.group for r in solved}) == 1319
    assert len(rows(str(corpora / "humaneval" / "HumanEval.jsonl.gz"))) == 164
    assert len(rows(str(corpora / "gpteacher" / "Codegen" / "codegen-instruct.json"))) == 4535
    assert len(rows(str(corpora / "bbh" / "word_sorting.json"), map={"prompt": "input", "reference": "target"})) == 250


def test_folders_that_datasets_saved_are_read(tmp_path: Path) -> None:
    for split in ("train", "test"):
        folder = tmp_path / split
        folder.mkdir()
        table = pa.Table.from_pylist([{"prompt": f"{split} {n}"} for n in range(3)])
        with (
            pa.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as sink,
            pa.ipc.new_stream(sink, table.schema) as writer,
        ):
            writer.write_table(table)
        (folder / "state.json").write_text("{}")
        (folder / "dataset_info.json").write_text("{}")
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert [r.question for r in rows(str(tmp_path), split="train")] == ["train 0", "train 1", "train 2"]
    with pytest.raises(InputError, match="several splits"):
        rows(str(tmp_path))
