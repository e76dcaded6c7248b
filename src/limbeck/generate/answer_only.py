"""Cutting a response down to its final answer: the control of every claim about traces.

    parent   assistant: 1. Start with 12: 12.\\n2. Add 5: 12 + 5 = 17.\\nAnswer: 17
    child    assistant: Answer: 17

Whether a student gains from the *working* is only known next to a student that saw the same prompts and the same final
answers without it (Hsieh et al. 2023, arXiv 2305.02301; Mukherjee et al. 2023, arXiv 2306.02707). The answer is the one a
verifier has read (`labels["answer"]`), else what follows the marker on the last line that has it. Programs and tool
calls are their own answers.
"""

from __future__ import annotations

from dataclasses import replace

from limbeck.core.row import Row
from limbeck.core.step import Drop, Each, Made

WHOLE_KINDS = ("program", "tools")
"""Kinds of tasks whose response is the answer."""


class AnswerOnly(Each):
    """Make a child row whose response is the final answer alone; scores go with it."""

    marker: str = "Answer:"
    """What stands before the final answer, in the old response and in the new."""

    def each(self, row: Row) -> Made:
        """Return the row's child with the bare answer."""
        if not row.has_response:
            return Drop("the row has no response")
        answer = self._answer(row)
        if answer is None:
            return Drop("the response has no final answer that a verifier read or the marker points to")
        last = replace(row.messages[-1], content=answer)
        child = row.child((*row.prompt, last), made_by=self.made())
        return replace(child, scores=dict(row.scores))

    def _answer(self, row: Row) -> str | None:
        known = row.labels.get("answer", "").strip()
        if row.task.get("kind") in WHOLE_KINDS:
            return known or row.response
        lines = [line for line in row.response.splitlines() if line.strip().startswith(self.marker)]
        answer = known or (lines[-1].strip().removeprefix(self.marker).strip() if lines else "")
        return f"{self.marker} {answer}".strip() if answer else None
