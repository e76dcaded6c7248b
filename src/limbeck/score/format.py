"""Checking instructions that a machine can check: length, format, keywords, JSON schemas, Markdown, citations.

    task      {"kind": "format", "constraints": [
                  {"id": "length_constraints:number_words", "relation": "less than", "num_words": 20},
                  {"id": "punctuation:no_comma"}]}
    response  "Yes, of course."
        scores  {"format": 0.0, "verified": 0.0, "format_share": 0.5}
        labels  {"verdict": "wrong", "detail": "punctuation:no_comma: it has a comma"}

All 25 instructions of IFEval (Zhou et al. 2023, "Instruction-Following Evaluation for Large Language Models") are known by
their published names, and its files are read as they stand: `instruction_id_list` and `kwargs` in the task or among a row's
extras. Beyond them: `json:schema`, `markdown:has`, `citations:valid`, `length:between` (see `_format_more.py`). Where the
published checkers accept what the instruction forbids, these differ; every difference and its reason stands in
`docs/verifiers.md`.

`format` is 1 only if every constraint is met (IFEval's prompt-level strict accuracy); `format_share` is the share of them that is.
A constraint that is not known, or whose arguments can not be read, makes the whole row `unreadable-reference`: never a pass.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from limbeck.core.row import Message, Row, new_row
from limbeck.core.step import Each, Made
from limbeck.score._answers import visible
from limbeck.score._format_checks import CHECKS, Unreadable
from limbeck.score._format_more import MORE
from limbeck.score._verdict import judged

ALL: dict[str, Callable[..., str]] = CHECKS | MORE
Constraint = tuple[str, Mapping[str, Any]]


class Format(Each):
    """Check that a response follows all machine-checkable instructions of its task; 1 for all of them, 0 otherwise."""

    loose: bool = False
    """Whether a response may also pass without its first line, its last line or its asterisks (IFEval's loose accuracy)."""

    def each(self, row: Row) -> Made:
        """Score one response."""
        text = visible(row.response)
        try:
            wanted = constraints(row)
            if not wanted:
                return _shared(judged(row, "format", "unreadable-reference"), None)
            if text is None or not text.strip():
                return _shared(judged(row, "format", "no-answer"), 0.0)
            variants = list(_variants(text)) if self.loose else [text]
            faults = [min((fault(one, *constraint) for one in variants), key=len) for constraint in wanted]
        except Unreadable as problem:
            return _shared(judged(row, "format", "unreadable-reference", detail=str(problem)), None)
        told = "; ".join(f"{name}: {found}" for (name, _), found in zip(wanted, faults, strict=True) if found)
        scored = judged(row, "format", "wrong" if told else "pass", detail=told)
        return _shared(scored, faults.count("") / len(faults))

    @classmethod
    def validate(cls) -> list[tuple[Row, float]]:  # type: ignore[override]
        """Return gold responses (1.0) and planted errors (0.0)."""
        return [(_example(response, *wanted), score) for response, wanted, score in EXAMPLES]


def constraints(row: Row) -> list[Constraint]:
    """Return names and arguments of a row's constraints, from our own form or from IFEval's fields. Raises Unreadable."""
    own = row.task.get("constraints", row.extra.get("constraints"))
    if own is not None:
        if not isinstance(own, list) or not all(
            isinstance(one, dict) and isinstance(one.get("id"), str) for one in own
        ):
            raise Unreadable("'constraints' must be a list of objects with an 'id'")
        return [(one["id"], {k: v for k, v in one.items() if k != "id"}) for one in own]
    where = row.task if "instruction_id_list" in row.task else row.extra
    names, arguments = where.get("instruction_id_list") or [], where.get("kwargs") or []
    if not isinstance(names, list) or not isinstance(arguments, list) or len(names) != len(arguments):
        raise Unreadable("'instruction_id_list' and 'kwargs' must be lists of the same length")
    if not all(isinstance(one, dict) for one in arguments):
        raise Unreadable("every item of 'kwargs' must be an object")
    # some copies of the data set carry all arguments of all instructions in every record, those of others as null
    return [(name, {k: v for k, v in one.items() if v is not None}) for name, one in zip(names, arguments, strict=True)]


def fault(text: str, name: str, arguments: Mapping[str, Any]) -> str:
    """Return how a text fails one constraint, as a phrase, or the empty string. Raises Unreadable."""
    check = ALL.get(name)
    if check is None:
        raise Unreadable(f"there is no constraint '{name}'")
    try:
        inspect.signature(check).bind(text, **arguments)
        return check(text, **arguments)
    except (TypeError, AttributeError) as problem:
        raise Unreadable(f"{name} can not take {dict(arguments)!r}: {problem}"[:300]) from None


def _variants(text: str) -> Iterator[str]:
    """Yield the eight texts of IFEval's loose accuracy: with and without first line, last line and asterisks."""
    lines = text.split("\n")
    for kept in (lines, lines[1:], lines[:-1], lines[1:-1]):
        joined = "\n".join(kept).strip()
        yield from (one for one in (joined, joined.replace("*", "")) if one.strip())  # nothing left is no response


def _shared(row: Row, share: float | None) -> Row:
    return row if share is None else row.with_scores(format_share=share)


WORDS = {"id": "length_constraints:number_words", "relation": "less than", "num_words": 4}
PLACE = {
    "id": "json:schema",
    "schema": {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}},
}
EXAMPLES: tuple[tuple[str, tuple[dict[str, Any], ...], float], ...] = (
    ("One two three.", (WORDS,), 1.0),
    ("One two three four.", (WORDS,), 0.0),
    ("<think>One, two, three and four.</think>One two.", (WORDS, {"id": "punctuation:no_comma"}), 1.0),
    ("One, two.", (WORDS, {"id": "punctuation:no_comma"}), 0.0),
    ('```json\n{"city": "Oslo"}\n```', (PLACE,), 1.0),
    ('{"city": 7}', (PLACE,), 0.0),
    ('Sure! {"city": "Oslo"}', (PLACE,), 0.0),
    ("Ja, das ist ein guter Tag und wir sind froh.", ({"id": "language:response_language", "language": "de"},), 1.0),
    ("Yes, this is a good day and we are glad of it.", ({"id": "language:response_language", "language": "de"},), 0.0),
    ("My answer is yes.", ({"id": "detectable_format:constrained_response"},), 1.0),
    ("My answer is yes. My answer is no.", ({"id": "detectable_format:constrained_response"},), 0.0),
    ("", (WORDS,), 0.0),
)


def _example(response: str, *wanted: dict[str, Any]) -> Row:
    turns = (Message(role="user", content="Follow the instructions."), Message(role="assistant", content=response))
    return new_row(
        messages=turns,
        task={"kind": "format", "constraints": list(wanted)},
        made_by={"step": "score.format", "use": "validate"},
    )
