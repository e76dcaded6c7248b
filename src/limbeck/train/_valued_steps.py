"""Responses whose steps have values, on their way to a process reward model.

    response   1. Start with 12: 12. | 2. Add 5: 12 + 5 = 18. | Answer: 18        ends [20, 42, 53]   values [.875, 0, 0]
    document   <bos> Start … 12 : 12 . \\n 2 … 18 . \\n Answer : 18 <pad>          a mark behind the last token of each step

The values stand in the documents, in the order of their marks; the model's output is read at the token before each mark, and
it has then seen all of the step and nothing behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from limbeck.core.errors import InputError
from limbeck.core.row import Row
from limbeck.train._classifiers import values_of
from limbeck.train._sums import Sums
from limbeck.train.examples import Example
from limbeck.train.packing import MicroBatch
from limbeck.train.student import LoadedStudent

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Valued(Example):
    """A document with the value of each marked place, from 0 to 1."""

    values: tuple[float, ...] = ()


@dataclass(slots=True)
class ValuedSteps:
    """A stream of such documents (`loop.Stream`), and their loss."""

    model: LoadedStudent
    documents: Sequence[Valued]
    sums: Sums = field(default_factory=Sums)

    def take(self, update: int, planned: Sequence[int]) -> Sequence[Example]:
        """Return the planned documents."""
        return [self.documents[i] for i in planned]

    def loss(self, batch: MicroBatch) -> torch.Tensor:
        """Return the cross-entropy between values and outputs, summed over the steps."""
        import torch
        import torch.nn.functional as F

        given = [value for document in batch.documents if isinstance(document, Valued) for value in document.values]
        outputs_T = values_of(self.model, batch)
        values_T = torch.tensor(given, device=outputs_T.device)
        same = ((outputs_T > 0) == (values_T > 0.5)).float().sum().item()
        if self.model.model.training:
            self.sums.add(steps=len(given), accuracy=same)
        return F.binary_cross_entropy_with_logits(outputs_T, values_T, reduction="sum")

    def noted(self) -> dict[str, float]:
        """Return the means over the steps since the last line."""
        return self.sums.means("steps")

    def state(self) -> dict[str, Any]:
        """Return the sums; the documents themselves are the same in every run."""
        return self.sums.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.sums.restore(state)


def document_of(row: Row, model: LoadedStudent, said: str) -> Valued | str:
    """Return the document of a row, or why it can not be one. Raises InputError where its values are none."""
    labels = row.extra.get(said)
    if not isinstance(labels, dict) or not labels.get("values"):
        return f"extra['{said}'] holds no values of steps"
    ends, values = _checked(row, labels, said)
    ids, begins, response = _tokens(row, model.tokenizer)
    # the mark stands behind the last token that begins before the step ends
    marks = [sum(begin < response + end for begin in begins) for end in ends]
    if len(set(marks)) < len(marks) or not marks[0]:
        return "two steps end in the same token"
    trained = tuple(place in set(marks) for place in range(len(ids) + 1))
    return Valued(row.id, (*ids, model.pad), trained, tuple(values))


def _checked(row: Row, labels: dict[str, Any], said: str) -> tuple[list[int], list[float]]:
    ends, values = labels.get("ends") or [], labels["values"]
    right = isinstance(ends, list) and isinstance(values, list) and len(ends) == len(values)
    if not right or not ends or sorted(set(ends)) != ends or not 0 < ends[0] <= ends[-1] <= len(row.response):
        raise InputError(
            f"Row {row.id}: extra['{said}'] must hold `ends`, the characters of the response at which its steps end, rising, "
            "and `values`, one for each; score.process with a teacher writes both."
        )
    if not all(isinstance(value, int | float) and 0 <= value <= 1 for value in values):
        raise InputError(f"Row {row.id}: the values of steps in extra['{said}'] must lie between 0 and 1.")
    return ends, [float(value) for value in values]


def _tokens(row: Row, tokenizer: Any) -> tuple[list[int], list[int], int]:
    """Return the tokens up to the end of the response, the character each begins at, and where the response begins."""
    turns = [{"role": message.role, "content": message.content} for message in row.prompt]
    before = (
        str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
        if tokenizer.chat_template
        else "".join(f"{turn['content']}\n\n" for turn in turns)
    )
    found = tokenizer(before + row.response, add_special_tokens=False, return_offsets_mapping=True)
    return list(found["input_ids"]), [begin for begin, _ in found["offset_mapping"]], len(before)
