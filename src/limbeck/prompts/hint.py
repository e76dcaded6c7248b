"""Attaching the answer as a hint, so that a model can find the way to an answer it did not reach alone.

    user      Start with 3. Double it. What do you get?
              Hint: the answer is 6.
    attached  [{"by": "prompts.hint", "text": "\\nHint: the answer is 6."}]

The rationalisation of STaR (Zelikman et al. 2022, arXiv 2203.14465). What is trained on must not contain the hint: the exact
text is recorded, training refuses rows that still carry it, and `prompts.erase` takes it away.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from limbeck.core.row import Row
from limbeck.core.step import Drop, Each, Made
from limbeck.prompts.bank import hinted


class Hint(Each):
    """Add the reference answer to the last user turn; makes a new prompt row, without any response."""

    most: int = 200
    """A longer reference is no hint but a solution: the row is dropped."""

    def each(self, row: Row) -> Made:
        """Return the prompt with its hint."""
        answer = row.reference
        if answer is None or not answer.strip():
            return Drop("the row has no reference answer to hint at")
        if len(answer) > self.most:
            return Drop(f"the reference is {len(answer)} characters long, over {self.most}")
        if not row.prompt or row.prompt[-1].role != "user":
            return Drop("the row has no user turn to put the hint in")
        last = row.prompt[-1]
        content = hinted(last.content, answer)
        if not content.startswith(last.content) or content == last.content:
            return Drop("the hint could not be added behind the prompt")
        attached: list[Any] = [
            *row.extra.get("attached", ()),
            {"by": self.called(), "text": content[len(last.content) :]},
        ]
        turns = (*row.prompt[:-1], replace(last, content=content))
        return fresh(row.child(turns, made_by=self.made())).with_extra(attached=attached)


def fresh(row: Row) -> Row:
    """Return the row without labels that spoke of an earlier response."""
    return replace(
        row, labels={k: v for k, v in row.labels.items() if k not in ("verdict", "answer", "detail", "finish")}
    )
