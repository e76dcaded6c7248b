"""Answers recorded in a file: `replay:FILE`, to run a recipe again without its teacher, or on somebody else's samples.

    replay:answers.jsonl                        {"prompt": "Start with 3. Add 4.", "response": "3 + 4 = 7."}
    replay:kept.parquet                         rows of a run: their messages, the last turn being the answer
    replay:gsm8k.jsonl?prompt=question&response=6b_finetuning.solution      a field inside another

One line is one sample: several lines with the same prompt are its samples 0, 1, 2 ... in the order of the file. A prompt that is
not in the file, or a sample too many, is a refused request: that row is dropped with the reason, the others go on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from limbeck.core.ask import Answer, Ask, Reply
from limbeck.core.errors import InputError, RefusedError, UsageError, nearest
from limbeck.core.fingerprint import canonical, digest, file_digest
from limbeck.core.row import Usage

PROMPTS = ("messages", "prompt", "question", "instruction", "problem", "text")
RESPONSES = ("response", "completion", "answer", "output", "solution")


class Replay:
    """Answers from a JSONL or Parquet file."""

    def __init__(self, rest: str) -> None:
        file, _, options = rest.partition("?")
        self._fields = _options(options)
        self._file = Path(file).expanduser()
        if not file or not self._file.is_file():
            raise UsageError(f"There is no file '{file}' to replay: write replay:FILE with a JSONL or Parquet file.")
        self.identity = f"replay:{digest([file_digest(self._file), self._fields])}"
        self._answers: dict[str, list[str]] = {}

    async def answer(self, ask: Ask, samples: Sequence[int]) -> Reply:
        """Look each sample up. Raises RefusedError where the file has no such prompt or too few samples of it."""
        if not self._answers:
            self._answers = _read(self._file, self._fields)
        recorded = self._answers.get(_key(ask.payload()["messages"]))
        begin = _beginning(ask.messages[-1].content if ask.messages else "")
        if recorded is None:
            raise RefusedError(f"{self._file.name} holds no answer to the prompt that begins with '{begin}'.")
        if max(samples, default=0) >= len(recorded):
            raise RefusedError(
                f"{self._file.name} holds {len(recorded)} answers to the prompt that begins with '{begin}', and answer "
                f"number {max(samples) + 1} was asked for: ask for fewer samples, or record more."
            )
        answers = tuple(Answer(text=text, tokens_out=len(text.split())) for text in (recorded[i] for i in samples))
        return Reply(answers=answers, usage=Usage(tokens_out=sum(a.tokens_out for a in answers)), teacher=ask.teacher)

    async def close(self) -> None:
        """Nothing is open."""


def _options(text: str) -> dict[str, str]:
    options = dict(parse_qsl(text, keep_blank_values=True))
    for name in options:
        if name not in ("prompt", "response"):
            raise UsageError(f"replay: has no option '{name}'.{nearest(name, ('prompt', 'response'))}")
    return options


def _read(file: Path, fields: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line, record in _records(file):
        prompt, response = _pair(record, fields, f"{file}:{line}")
        found.setdefault(_key(prompt), []).append(response)
    if not found:
        raise InputError(f"{file} holds no records: there is nothing to replay.")
    return found


def _records(file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if file.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            yield from enumerate(pq.read_table(file).to_pylist(), start=1)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{file} can not be read as Parquet: {error}.") from None
        return
    with file.open(encoding="utf-8") as stream:
        for line, text in enumerate(stream, start=1):
            if not text.strip():
                continue
            try:
                record = json.loads(text)
            except ValueError as error:
                raise InputError(f"{file}:{line} is not JSON: {error}.") from None
            if not isinstance(record, dict):
                raise InputError(f"{file}:{line} is not a JSON object.")
            yield line, record


def _pair(record: Mapping[str, Any], fields: Mapping[str, str], where: str) -> tuple[Any, str]:
    """Return the prompt (text or turns) and the response of a record."""
    prompt = _field(record, fields.get("prompt"), PROMPTS, where, "prompt")
    turns = prompt if isinstance(prompt, list) else None
    ends_in_answer = bool(turns) and isinstance(turns[-1], dict) and turns[-1].get("role") == "assistant"  # type: ignore[index]
    if turns and ends_in_answer and "response" not in fields:
        return turns[:-1], str(turns[-1].get("content") or "")
    response = _field(record, fields.get("response"), RESPONSES, where, "response")
    return prompt, response if isinstance(response, str) else canonical(response)


def _field(record: Mapping[str, Any], path: str | None, usual: Sequence[str], where: str, what: str) -> Any:
    if path is None:
        name = next((name for name in usual if record.get(name) is not None), None)
        if name is None:
            raise InputError(f"{where} has no {what} (looked for {', '.join(usual)}): name its field, ?{what}=FIELD.")
        return record[name]
    value: Any = record
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            options = value if isinstance(value, Mapping) else ()
            raise InputError(f"{where} has no field '{path}' ('{part}' is missing).{nearest(part, options)}")
        value = value[part]
    return value


def _key(prompt: Any) -> str:
    """Return what a prompt is looked up by: a text is one user turn; of turns, role and content count."""
    if isinstance(prompt, list):
        return digest([[turn.get("role"), turn.get("content") or ""] for turn in prompt])
    return digest([["user", str(prompt)]])


def _beginning(text: str) -> str:
    return text if len(text) <= 60 else text[:60] + " ..."
