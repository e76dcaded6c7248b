"""From rows to token ids with the trained ones marked: the prompt never, the response and its end-of-text always.

The student's own chat template writes the conversation; what it writes up to the point where the assistant begins to
speak is the prompt, exactly as it is at inference:

    text     <bos>Start with 12. Add 5.\\n<sep>12 + 5 = 17.\\nAnswer: 17<eos>
    tokens   <bos> Start  with  12  .  Add  5  .  \\n  <sep>  12   +    5    =    17   .    \\n  Answer  :    17  <eos>
    trained    -     -     -    -   -   -   -  -   -    -    yes  yes  yes  yes  yes  yes  yes  yes    yes  yes  yes

Three pitfalls are met here once and for all. A token may straddle the boundary between prompt and response: then prompt
and response are encoded apart, as they are when the model generates. Padding may be the end-of-text token (trl#6357:
the end was masked with the padding and students never stopped): no mask here is ever derived from a token's identity.
And what a template writes after the end of the last turn (a line feed, say) is never generated, so it is cut off.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from limbeck.core.errors import InputError, SealedError, UsageError
from limbeck.core.row import Message, Row

Turns = Literal["last", "all"]


@dataclass(frozen=True, slots=True)
class Example:
    """One document: its token ids, and for each whether the student is trained to produce it."""

    row: str
    """The id of the row it was made from."""
    ids: tuple[int, ...]
    trained: tuple[bool, ...]

    @property
    def targets(self) -> int:
        """How many tokens are trained on."""
        return sum(self.trained)


def check_rows(rows: Sequence[Row], *, responses: bool = True) -> None:
    """Refuse, in one sentence and before anything is loaded, rows that must not or can not be trained on.

    `responses` says whether each must have a response; without, prompts are enough. Raises SealedError for evaluation rows
    and UsageError or InputError for the rest.
    """
    if not rows:
        raise UsageError(
            "There is nothing to train on: no row reached this step. Look at the dropped rows of the steps before."
        )
    for row in rows:
        if row.sealed:
            raise SealedError(
                f"Row {row.id} is sealed: it belongs to an evaluation set, or was made from one, and is not trained on."
            )
        if row.extra.get("attached"):
            raise UsageError(
                f"Row {row.id} still carries text that must be erased before training "
                f"({_attached_by(row)}); put prompts.erase before this step."
            )
        if responses and not (row.has_response and (row.response.strip() or row.messages[-1].tool_calls)):
            raise InputError(
                f"Row {row.id} has no response to train on: its last turn is not a written assistant turn. "
                "Generate responses first, or map the column that holds them."
            )


def _attached_by(row: Row) -> str:
    attached = row.extra["attached"]
    names = (
        [str(item.get("by", "?")) for item in attached if isinstance(item, dict)] if isinstance(attached, list) else []
    )
    return "added by " + ", ".join(dict.fromkeys(names)) if names else "extra['attached'] is not empty"


def encode(
    rows: Sequence[Row],
    tokenizer: Any,
    stops: Collection[int],
    *,
    end: int,
    turns: Turns = "last",
    max_length: int = 0,
    given: Sequence[int] | None = None,
) -> tuple[list[Example], dict[str, str]]:
    """Turn rows into examples; return them with the reasons, by row id, of the rows that can not become one.

    `stops` are the ids that end a turn at inference; `end` is appended where the template writes none. `turns` says
    whether the last assistant turn is trained on, or all of them (conversations with tools). `max_length` 0 is no limit;
    longer rows are left out, never cut: a cut response has no end. `given[i]`, where it is said, is how many first
    messages of row i are the prompt: every assistant turn after them is trained on, whatever `turns` says.
    """
    speaks = [_speaking(row, turns, given[i] if given else None) for i, row in enumerate(rows)]
    pieces = [_pieces(row, tokenizer, turn) for row, turn in zip(rows, speaks, strict=True)]
    whole = _ids(tokenizer, ["".join(text for text, _ in parts) for parts in pieces])
    heads = _ids(tokenizer, [parts[0][0] for parts in pieces])
    examples: list[Example] = []
    reasons: dict[str, str] = {}
    for row, parts, ids, head in zip(rows, pieces, whole, heads, strict=True):
        simple = len(parts) == 2 and ids[: len(head)] == head
        spans = [(head, False), (ids[len(head) :], True)] if simple else _apart(tokenizer, parts)
        example = _example(row.id, spans, stops, end)
        reason = _unfit(example, spans, stops, max_length)
        if reason:
            reasons[row.id] = reason
        else:
            examples.append(example)
    return examples, reasons


def encode_prompts(rows: Sequence[Row], tokenizer: Any) -> list[tuple[int, ...]]:
    """Return the token ids of each row's prompt, up to where the assistant begins to speak, as at inference."""
    texts = [_render(tokenizer, [_turn(m) for m in row.prompt], _tools(row), speak=True) for row in rows]
    return [tuple(ids) for ids in _ids(tokenizer, texts)]


def _speaking(row: Row, turns: Turns, given: int | None) -> list[int]:
    """Return the places of the assistant turns that are trained on."""
    places = [i for i, m in enumerate(row.messages) if m.role == "assistant" and i >= (given or 0)]
    return places if turns == "all" or given is not None else places[-1:]


def _pieces(row: Row, tokenizer: Any, speaks: Sequence[int]) -> list[tuple[str, bool]]:
    """Cut the rendered conversation into text that is given and text that the assistant writes, in turn."""
    messages, tools = [_turn(m) for m in row.messages], _tools(row)
    pieces, done = [], ""
    for index in speaks:
        before = _render(tokenizer, messages[:index], tools, speak=True)
        after = _render(tokenizer, messages[: index + 1], tools, speak=False)
        if not before.startswith(done) or not after.startswith(before):
            raise UsageError(
                f"The student's chat template does not write the conversation of row {row.id} turn after turn (the text "
                "before the response is not how the whole begins), so prompt and response can not be told apart; "
                "give another one with chat_template."
            )
        pieces += [(before[len(done) :], False), (after[len(before) :], True)]
        done = after
    return pieces


def _tools(row: Row) -> list[Any] | None:
    """Return the tool definitions, in the OpenAI form, of a conversation that used them; others were held without any."""
    used = any(m.tool_calls or m.role == "tool" for m in row.messages)
    found = row.task.get("tools") if used else None
    return [tool if "function" in tool else {"type": "function", "function": tool} for tool in found] if found else None


def _turn(message: Message) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        turn["tool_calls"] = json.loads(message.tool_calls)
    if message.name:
        turn["name"] = message.name
    return turn


def _render(tokenizer: Any, messages: list[dict[str, Any]], tools: Any, *, speak: bool) -> str:
    text = tokenizer.apply_chat_template(messages, tools=tools, tokenize=False, add_generation_prompt=speak)
    return str(text)


def _ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    # the template has written the special tokens already
    return [list(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]


def _apart(tokenizer: Any, parts: list[tuple[str, bool]]) -> list[tuple[list[int], bool]]:
    encoded = _ids(tokenizer, [text for text, _ in parts])
    return [(ids, trained) for ids, (_, trained) in zip(encoded, parts, strict=True)]


def _example(row: str, spans: Sequence[tuple[list[int], bool]], stops: Collection[int], end: int) -> Example:
    """Join the spans; train each up to its stop token; end the document there, or append the end-of-text token."""
    ids: list[int] = []
    trained: list[bool] = []
    for place, (span, speaks) in enumerate(spans):
        last = max((i for i, token in enumerate(span) if token in stops), default=-1) if speaks else -1
        written = span
        if speaks and place == len(spans) - 1:
            written = span[: last + 1] if last >= 0 else [*span, end]
        ids += written
        upto = last + 1 if last >= 0 else len(written)
        trained += [speaks and i < upto for i in range(len(written))]
    return Example(row, tuple(ids), tuple(trained))


def _unfit(
    example: Example, spans: Sequence[tuple[list[int], bool]], stops: Collection[int], max_length: int
) -> str | None:
    """Say why a document can not be trained on, or return None."""
    if max_length and len(example.ids) > max_length:
        return f"{len(example.ids)} tokens are over max_length {max_length}"
    if any(speaks and sum(token in stops for token in span) > 1 for span, speaks in spans):
        return "the response itself contains the student's end-of-turn token"
    return None
