"""Export: kept rows in the formats that trainers read.

    trl            {"prompt": [turns], "completion": [turns]}            the loss is on the completion only
                   {"prompt": [turns], "chosen": [turns], "rejected": [turns]}     rows of `select.pairs`
    axolotl        {"messages": [...]}                                   type: chat_template
    llamafactory   {"conversations": [{"from": "human", "value": …}]}    sharegpt; calls of tools as function_call
                   {"conversations": […], "chosen": turn, "rejected": turn}        rows of `select.pairs`, of one turn each
    openai         {"messages": [...]}                                   the fine-tuning API
    hf             a folder of Parquet with `messages`, for datasets.load_dataset("parquet", data_dir=…)

Sealed rows are refused: an evaluation set must not become training data by way of a file.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from limbeck.core.errors import InputError, SealedError, UnknownName, nearest
from limbeck.core.row import Message, Row
from limbeck.engine.rundir import read_rows, storing


def export(source: Path, format_: str, out: Path | None) -> tuple[Path, int]:
    """Write the kept rows of a step's folder (or a Parquet file of rows); returns where, and how many.

    Raises UnknownName for a format that does not exist, InputError for a folder without rows, SealedError for
    evaluation rows.
    """
    if format_ not in FORMATS:
        raise UnknownName(f"There is no export format '{format_}'.{nearest(format_, FORMATS)}")
    path = source / "kept.parquet" if source.is_dir() else source
    if not path.is_file():
        raise InputError(f"{source} holds no kept.parquet; name the folder of a finished step.")
    rows = list(read_rows(path))
    sealed = next((row for row in rows if row.sealed), None)
    if sealed is not None:
        raise SealedError(
            f"{path} holds sealed evaluation rows ({sealed.id} is one); they are not exported for training."
        )
    records = [FORMATS[format_](row) for row in rows]
    target = out or path.parent / (f"export-{format_}" + ("" if format_ == "hf" else ".jsonl"))
    with storing(target):
        _write(target, records, format_)
    return target, len(records)


def _write(target: Path, records: list[dict[str, Any]], format_: str) -> None:
    if format_ == "hf":
        import pyarrow as pa
        import pyarrow.parquet as pq

        target.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(records), target / "train.parquet")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def _turn(message: Message, *, written: bool = False) -> dict[str, Any]:
    """Return a turn; with `written`, the arguments of tool calls are JSON text, as the OpenAI format has them."""
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls is not None:
        turn["tool_calls"] = json.loads(message.tool_calls)
        for call in turn["tool_calls"] if written else ():
            function = call.get("function", call)
            if not isinstance(function.get("arguments", ""), str):
                function["arguments"] = json.dumps(function["arguments"], ensure_ascii=False)
    if message.name is not None:
        turn["name"] = message.name
    return turn


def _messages(row: Row) -> dict[str, Any]:
    return {"messages": [_turn(m) for m in row.messages]}


def _written(row: Row) -> dict[str, Any]:
    # as text, too, arguments of different types fit into one column of a table
    return {"messages": [_turn(m, written=True) for m in row.messages]}


def _trl(row: Row) -> dict[str, Any]:
    pair = row.extra.get("pair")
    if isinstance(pair, dict) and "rejected" in row.extra:
        turns, shared = [_turn(m) for m in row.messages], int(pair["shared"])
        return {"prompt": turns[:shared], "chosen": turns[shared:], "rejected": list(row.extra["rejected"])}
    return {"prompt": [_turn(m) for m in row.prompt], "completion": [_turn(m) for m in row.messages[len(row.prompt) :]]}


def _sharegpt(row: Row) -> dict[str, Any]:
    pair = row.extra.get("pair")
    shared = int(pair["shared"]) if isinstance(pair, dict) and "rejected" in row.extra else len(row.messages)
    record: dict[str, Any] = {"conversations": [_said(m, row) for m in row.messages[:shared] if m.role != "system"]}
    if shared < len(row.messages):
        rejected = [Message(**turn) for turn in row.extra["rejected"]]
        sides = {"chosen": row.messages[shared:], "rejected": rejected}
        if any(len(turns) != 1 for turns in sides.values()):
            raise InputError(
                f"Row {row.id} prefers several turns, llamafactory takes one on each side; export it as trl."
            )
        record |= {name: _said(turns[0], row) for name, turns in sides.items()}
    system = next((m.content for m in row.messages if m.role == "system"), None)
    record |= {} if system is None else {"system": system}
    return record | ({"tools": json.dumps(row.task["tools"], ensure_ascii=False)} if row.task.get("tools") else {})


def _said(message: Message, row: Row) -> dict[str, Any]:
    names = {"user": "human", "assistant": "gpt", "tool": "observation"}
    if message.tool_calls:
        return {"from": "function_call", "value": _calls(message, row)}
    return {"from": names[message.role], "value": message.content}


def _calls(message: Message, row: Row) -> str:
    """Return the calls of a turn as LLaMA-Factory reads them: name and arguments, the arguments as an object."""
    if message.content.strip():
        raise InputError(
            f"Row {row.id} has a turn with both text and a tool call, for which the format llamafactory has no place; "
            "export it as openai."
        )
    calls = [call.get("function", call) for call in json.loads(message.tool_calls or "[]")]
    found = [
        {"name": c["name"], "arguments": json.loads(a) if isinstance(a := c.get("arguments", {}), str) else a}
        for c in calls
    ]
    return json.dumps(found, ensure_ascii=False)


FORMATS: dict[str, Callable[[Row], dict[str, Any]]] = {
    "trl": _trl,
    "axolotl": _messages,
    "llamafactory": _sharegpt,
    "openai": _written,
    "hf": _written,
}
