"""Problems of reasoning-gym, scored strictly: the full mark or none, and only for tasks whose scorer can be trusted.

    task      {"kind": "tasks", "dataset": "chain_sum", "reference": "13", "metadata": {"difficulty": {}, …}}
    response  "4 + 9 = 13, so the answer is 13."        pass
              "13 or 14"                                no-answer: two candidates
              "130"                                     wrong, although the package's own scorer gives a part of the mark

A dump of reasoning-gym's own entries (`question`, `answer`, `metadata` with its `source_dataset`) is read as it stands. The
package's scorers give part of the mark for an answer that is long, near, or merely holds the right one; here only the full mark
of a stripped answer counts.

`ALLOWED` names the tasks that may be used. Each was tested on version 0.1.25: questions under 350 characters, answers of at
most 17, the same problems for the same seed, its own answer scores 1 and others' answers 0, also after a trip through JSON.
Left out with reason: `game_of_life_halting` (every answer scores 1), `time_intervals` ("99 days or 7" scores 1),
`prime_factorization` (raises), `bitwise_arithmetic` (evaluates text of the row), `list_functions` (differs between runs), and
five without an answer of their own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from limbeck.core.errors import UsageError
from limbeck.core.row import Message, Row, new_row
from limbeck.core.step import Each, Made
from limbeck.score._answers import find, visible
from limbeck.score._verdict import judged

ALLOWED = frozenset(
    [
        "base_conversion",
        "basic_arithmetic",
        "bf",
        "calendar_arithmetic",
        "chain_sum",
        "coin_flip",
        "complex_arithmetic",
        "count_bits",
        "count_primes",
        "decimal_arithmetic",
        "decimal_chain_sum",
        "dice",
        "family_relationships",
        "gcd",
        "lcm",
        "leg_counting",
        "letter_counting",
        "maze",
        "number_format",
        "number_sequence",
        "products",
        "simple_equations",
        "simple_geometry",
        "spell_backward",
        "syllogism",
    ]
)
MAX_ANSWER = 200
"""Characters; the longest right answer of an allowed task is far shorter."""
TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)


class Tasks(Each):
    """Compare the response's answer with a reasoning-gym problem, by the package's own rule for it; 1 for the full mark, else 0."""

    def each(self, row: Row) -> Made:
        """Score one response."""
        entry = entry_of(row)
        if entry is None:
            return judged(row, "tasks", "unreadable-reference")
        name = entry["metadata"]["source_dataset"]
        if name not in ALLOWED:
            return judged(
                row, "tasks", "unreadable-reference", detail=f"the task '{name}' is not among those that are trusted"
            )
        answers = candidates(row.response)
        if not answers:
            return judged(row, "tasks", "no-answer")
        try:
            right = next((answer for answer in answers if _scorer(name)(answer, entry) == 1.0), None)
        except UsageError:
            raise
        except Exception as problem:  # noqa: BLE001 - a scorer of the package that fails on an odd answer
            return judged(row, "tasks", "error", answer=answers[0], detail=f"{type(problem).__name__}: {problem}"[:300])
        return judged(row, "tasks", "wrong" if right is None else "pass", answer=right or answers[0])

    @classmethod
    def validate(cls) -> list[tuple[Row, float]]:  # type: ignore[override]
        """Return gold responses (1.0) and planted errors (0.0)."""
        return [(_example(response), score) for response, score in EXAMPLES]


def entry_of(row: Row) -> dict[str, Any] | None:
    """Return the problem as reasoning-gym has it, or None if the row holds none."""
    given: Mapping[str, Any] = {**row.extra, **row.task}
    metadata, answer = given.get("metadata") or {}, given.get("reference", given.get("answer"))
    if not isinstance(metadata, Mapping) or not isinstance(answer, str) or not answer.strip():
        return None
    name = given.get("dataset") or metadata.get("source_dataset")
    if not isinstance(name, str):
        return None
    return {"question": row.question, "answer": answer, "metadata": {**metadata, "source_dataset": name}}


def candidates(response: str) -> list[str]:
    """Return the one answer that a response gives, in the forms it may be meant: all of a short response, and what it states."""
    text = visible(response)
    if text is None or not text.strip():
        return []
    tagged = [found.strip() for found in TAGGED.findall(text)]
    if tagged:
        return tagged[:1] if len({one.casefold() for one in tagged}) == 1 and len(tagged[0]) <= MAX_ANSWER else []
    whole = text.strip()
    stated = find(response, lambda a, b: a.strip().casefold() == b.strip().casefold())
    short = [whole] if len(whole) <= MAX_ANSWER and "\n" not in whole else []
    return list(dict.fromkeys([*short, *([stated.strip()] if stated else [])]))


@lru_cache(maxsize=64)
def _scorer(name: str) -> Callable[[str, dict[str, Any]], float]:
    try:
        import reasoning_gym  # type: ignore[import-untyped]
    except ImportError:
        raise UsageError("score.tasks needs the package reasoning-gym: pip install reasoning-gym.") from None
    return reasoning_gym.get_score_answer_fn(name)  # type: ignore[no-any-return]


EXAMPLES = (
    ("13", 1.0),
    (" 13\n", 1.0),
    ("4 + 9 = 13, so the answer is 13.", 1.0),
    ("<think>14?</think><answer>13</answer>", 1.0),
    ("130", 0.0),
    ("13 or 14", 0.0),
    ("1 3", 0.0),
    ("<answer>13</answer><answer>14</answer>", 0.0),
    ("The sum is thirteen", 0.0),
    ("", 0.0),
)


def _example(response: str) -> Row:
    turns = (Message(role="user", content="State the result: 4 + 9 ="), Message(role="assistant", content=response))
    task = {"kind": "tasks", "dataset": "chain_sum", "reference": "13", "metadata": {"expression": "4 + 9"}}
    return new_row(messages=turns, task=task, made_by={"step": "score.tasks", "use": "validate"})
