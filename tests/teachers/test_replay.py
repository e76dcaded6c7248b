"""The replay teacher: recorded answers from JSONL and Parquet, and a sentence for everything it does not hold."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from limbeck.core.ask import Ask, Reply, Teacher
from limbeck.core.errors import InputError, RefusedError, UsageError
from limbeck.core.row import Message, new_row, to_table
from limbeck.teachers.replay import Replay


def written(folder: Path, records: Sequence[Any]) -> Path:
    file = folder / "answers.jsonl"
    file.write_text("\n\n".join(json.dumps(record) for record in records) + "\n", encoding="utf-8")
    return file


def replayed(rest: object, text: str, samples: Sequence[int] = (0,), system: str = "") -> Reply:
    turns = [Message(role="system", content=system)] if system else []
    ask = Ask(messages=[*turns, Message(role="user", content=text)], teacher="replay", n=len(samples))
    return asyncio.run(Replay(str(rest)).answer(ask, samples))


@pytest.mark.parametrize("prompt", ["prompt", "question", "instruction"])
@pytest.mark.parametrize("response", ["response", "completion", "answer", "solution"])
def test_lines_with_the_same_prompt_are_samples(tmp_path, prompt, response):
    file = written(tmp_path, [{prompt: p, response: r} for p, r in (("a", "one"), ("b", "other"), ("a", "two words"))])
    reply = replayed(file, "a", [1, 0])
    assert [a.text for a in reply.answers] == ["two words", "one"]
    assert reply.usage.tokens_out == 3
    assert replayed(file, "b").text == "other"


def test_conversations_are_matched_whole(tmp_path):
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "a"}]
    file = written(
        tmp_path, [{"messages": [*turns, {"role": "assistant", "content": "one"}]}, {"prompt": turns, "answer": 2}]
    )
    assert [a.text for a in replayed(file, "a", [0, 1], system="Be brief.").answers] == ["one", "2"]
    with pytest.raises(RefusedError, match="no answer to the prompt that begins with 'a'"):
        replayed(file, "a")


def test_rows_of_a_run_are_replayed(tmp_path):
    import pyarrow.parquet as pq

    turns = [Message(role="user", content="a"), Message(role="assistant", content="one")]
    pq.write_table(to_table([new_row(messages=turns, made_by={})]), tmp_path / "kept.parquet")
    assert replayed(tmp_path / "kept.parquet", "a").text == "one"


def test_fields_inside_fields(tmp_path):
    file = written(tmp_path, [{"question": "a", "6b_finetuning": {"solution": "one"}, "ground_truth": "gold"}])
    assert replayed(f"{file}?prompt=question&response=6b_finetuning.solution", "a").text == "one"
    with pytest.raises(
        InputError, match=r"answers.jsonl:1 has no field '6b_finetuning.solutoin'.*Did you mean 'solution'"
    ):
        replayed(f"{file}?response=6b_finetuning.solutoin", "a")


@pytest.mark.real
def test_the_recorded_solutions_of_gsm8k(corpora):
    files = sorted((corpora / "gsm8k").glob("*solutions*.jsonl"))
    if not files:
        pytest.skip(f"SKIPPED: {corpora / 'gsm8k'} holds no recorded solutions.")
    first = json.loads(files[0].read_text(encoding="utf-8").splitlines()[0])
    reply = replayed(f"{files[0]}?prompt=question&response=6b_finetuning.solution", first["question"])
    assert reply.text == first["6b_finetuning"]["solution"]


def test_what_is_not_there_is_refused_in_a_sentence(tmp_path):
    file = written(tmp_path, [{"prompt": "a" * 100, "response": "one"}])
    with pytest.raises(RefusedError, match="no answer to the prompt that begins with 'zzz'"):
        replayed(file, "zzz")
    with pytest.raises(RefusedError, match=r"holds 1 answers to the prompt .*a{60} \.\.\.'.*number 2 was asked for"):
        replayed(file, "a" * 100, [0, 1])


def test_files_that_will_not_do(tmp_path):
    for rest in ("", str(tmp_path / "none.jsonl"), str(tmp_path)):
        with pytest.raises(UsageError, match="There is no file"):
            Replay(rest)
    file = written(tmp_path, [{"prompt": "a", "response": "one"}])
    with pytest.raises(UsageError, match=r"no option 'respnse'\. Did you mean 'response'"):
        Replay(f"{file}?respnse=x")
    for text, what in (("{", "answers.jsonl:1 is not JSON"), ("3", "not a JSON object"), ("", "no records"),
                       ('{"prompt": "a"}', "answers.jsonl:1 has no response"), ('{"a": 1}', "has no prompt")):  # fmt: skip
        file.write_text(text)
        with pytest.raises(InputError, match=what):
            replayed(file, "a")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 not at all")
    with pytest.raises(InputError, match="can not be read as Parquet"):
        replayed(tmp_path / "bad.parquet", "a")


def test_identity_is_the_content_and_the_fields(tmp_path):
    file = written(tmp_path, [{"prompt": "a", "response": "one"}])
    (tmp_path / "copy.jsonl").write_bytes(file.read_bytes())
    assert isinstance(Replay(str(file)), Teacher)
    assert Replay(str(file)).identity == Replay(str(tmp_path / "copy.jsonl")).identity
    assert Replay(str(file)).identity != Replay(f"{file}?response=answer").identity
