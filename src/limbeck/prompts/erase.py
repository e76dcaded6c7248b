"""Erasing attached text, so that it is provably absent from what is trained on.

    before  user       Start with 3. Double it. What do you get?\\nHint: the answer is 6.
            assistant  1. Start with 3: 3. ...
            attached   [{"by": "prompts.hint", "text": "\\nHint: the answer is 6."}]
    after   user       Start with 3. Double it. What do you get?
            assistant  1. Start with 3: 3. ...
            attached   []        erased [{"by": "prompts.hint", "digest": "9c41..."}]

Only prompts are edited, never a response. A row whose response repeats the text, or where the text can not be found as it
was attached, is dropped: it can not be shown to be clean. The new row names the old one as its parent, so the run still
knows that there was a hint. STaR (arXiv 2203.14465) erases hints; Orca 2 (arXiv 2311.11045) erases system messages and puts a
general one in their place: `system="You are a cautious assistant."`.
"""

from __future__ import annotations

from dataclasses import replace

from limbeck.core.fingerprint import digest
from limbeck.core.row import Message, Row
from limbeck.core.step import Drop, Each, Made


class Erase(Each):
    """Take all attached text out of the prompt; rows that carry none pass as they are."""

    system: str = ""
    """A general system message to put first where text was erased; default: none."""

    def each(self, row: Row) -> Made:
        """Return the row without what was attached to it, or drop it."""
        attached = list(row.extra.get("attached", ()))
        if not attached:
            return row
        turns = row.messages
        for item in reversed(attached):
            found = _without(turns, item["text"])
            if found is None:
                return Drop(f"the text attached by {item['by']} is not in the prompt as it was attached")
            turns = found
        if self.system and (not turns or turns[0].role != "system"):
            turns = (Message(role="system", content=self.system), *turns)
        left = next((item["by"] for item in attached if _holds(turns, item["text"])), None)
        if left is not None:
            return Drop(f"the text attached by {left} is repeated elsewhere in the conversation")
        record = [{"by": item["by"], "digest": digest(item["text"], 8)} for item in attached]
        made = row.child(turns, made_by=self.made(erased=record))
        erased = [*row.extra.get("erased", ()), *record]
        return replace(made, scores=dict(row.scores)).with_extra(attached=[], erased=erased)


def _without(messages: tuple[Message, ...], text: str) -> tuple[Message, ...] | None:
    """Return the turns with the last occurrence of `text` in a prompt turn removed, or None if it is in none."""
    for place in range(len(messages) - 1, -1, -1):
        turn = messages[place]
        if turn.role == "assistant" or text not in turn.content:
            continue
        head, _, tail = turn.content.rpartition(text)
        changed = (replace(turn, content=head + tail),) if head + tail or turn.role != "system" else ()
        return (*messages[:place], *changed, *messages[place + 1 :])
    return None


def _holds(messages: tuple[Message, ...], text: str) -> bool:
    # without the line break it was attached by: a response may quote the hint inside a line
    bare = text.strip()
    return any(bare in part for m in messages for part in (m.content, m.tool_calls or "", m.name or ""))
