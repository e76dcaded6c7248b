"""Explanation tuning: each prompt under a system message that asks for its own kind of explanation.

    system     Think step by step and give a reason for each step.
    user       At first Anna has 12 apples. ...

After Orca (Mukherjee et al. 2023, arXiv 2306.02707): a student that sees only short answers learns the teacher's style
and not its reasoning, so the teacher is asked to explain, in sixteen ways; here the bank is `limbeck.prompts.bank`, in
our own words. Which message a row gets depends on the seed and the row alone, not on its place in the file.

Orca trains on the system message too. Orca 2 (arXiv 2311.11045) takes it away again: `must_erase=True` marks it, so that no
row can be trained on before `prompts.erase` has removed it.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from limbeck.core.errors import UsageError, nearest
from limbeck.core.fingerprint import digest
from limbeck.core.row import Message, Row
from limbeck.core.step import Drop, Each, Made
from limbeck.prompts.bank import BANK, SystemMessage


class Explain(Each):
    """Put a system message of the bank before each prompt; makes new prompt rows, whose parents are the old."""

    styles: tuple[Literal["trace", "answer"], ...] = ("trace",)
    """Which shapes of response to ask for."""
    names: tuple[str, ...] = ()
    """Which messages of the bank to use; default: all of the styles."""
    each_prompt: int = Field(default=1, ge=1)
    """How many different system messages each prompt is put under."""
    must_erase: bool = False
    """Whether the system message has to be erased before training."""
    seed: int = 0
    """Another seed deals the messages out anew."""

    def each(self, row: Row) -> Made:
        """Return the prompt under as many system messages as asked for."""
        if not row.prompt or row.prompt[-1].role != "user":
            return Drop("the row has no user turn to explain")
        bank = self.bank()
        ordered = sorted(bank, key=lambda m: digest([self.seed, row.id, m.name], 8))
        return [self._under(row, message) for message in ordered[: self.each_prompt]]

    def bank(self) -> list[SystemMessage]:
        """Return the messages that the fields leave to choose from."""
        known = {message.name for message in BANK}
        unknown = [name for name in self.names if name not in known]
        if unknown:
            raise UsageError(f"prompts.explain: the bank has no message '{unknown[0]}'.{nearest(unknown[0], known)}")
        wanted = [m for m in BANK if (m.name in self.names if self.names else m.style in self.styles)]
        if not wanted:
            raise UsageError("prompts.explain: no message is left to choose from; name a style or a message.")
        return wanted

    def _under(self, row: Row, message: SystemMessage) -> Row:
        turns, added = with_system(row.prompt, message.text)
        made = row.child(turns, made_by=self.made(system=message.name)).with_labels(system=message.name)
        if not self.must_erase or not added:
            return made
        attached: list[Any] = [*row.extra.get("attached", ()), {"by": self.called(), "text": added}]
        return made.with_extra(attached=attached)


def with_system(messages: tuple[Message, ...], text: str) -> tuple[tuple[Message, ...], str]:
    """Return the turns with `text` as system message, behind one that is there already, and the exact text that was added."""
    if not text:
        return messages, ""
    if messages[0].role == "system":
        added = f"\n\n{text}"
        return (Message(role="system", content=messages[0].content + added), *messages[1:]), added
    return (Message(role="system", content=text), *messages), text
