"""What a teacher says of which only the k likeliest tokens are known, asked for document by document.

    document   <bos> … <sep> 12 + 5 = 17 <eos>         six tokens are trained on
    top(...)   ids        [[91, 13], [10, 88], …]      [6, k]: for each of them the k tokens the teacher thinks likeliest *there*
               log-probs  [[-0.1, -2.4], …]            [6, k]: natural logarithms of the teacher's whole softmax

Three teachers are asked this way: a file (`_logit_store`), a server (`_remote_teacher`), and, to write such files, a model
whose weights are here (`LocalTop`). Where a row has fewer than k, ids are -1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from limbeck.train.examples import Example

if TYPE_CHECKING:
    from limbeck.train.student import LoadedStudent

Ids = np.ndarray[Any, np.dtype[np.int64]]
LogProbs = np.ndarray[Any, np.dtype[np.float32]]


class Likeliest(Protocol):
    """A teacher that tells its k likeliest tokens."""

    def top(self, documents: Sequence[Example]) -> list[tuple[Ids, LogProbs]]:
        """Return for each document the ids and log-probabilities, [T, k] both, at its T trained tokens in their order."""
        ...

    def told(self) -> dict[str, Any]:
        """Return what train.json says of the teacher."""
        ...


@dataclass(slots=True)
class LocalTop:
    """A model whose weights are here."""

    teacher: LoadedStudent
    k: int
    micro_tokens: int = 16384

    def top(self, documents: Sequence[Example]) -> list[tuple[Ids, LogProbs]]:
        """Run the model over the documents, those of like length together."""
        import torch

        from limbeck.train.packing import collate, micro_batches
        from limbeck.train.student import predicting_logits

        found: dict[Example, tuple[Ids, LogProbs]] = {}
        for rows in micro_batches(documents, width=0, micro_tokens=self.micro_tokens):
            batch = collate(rows, self.teacher.pad, self.teacher.device)
            with torch.no_grad():
                scores_TV = predicting_logits(self.teacher, batch).float().log_softmax(-1)
            likeliest = scores_TV.topk(min(self.k, scores_TV.shape[1]))
            ids, log_probs = likeliest.indices.cpu().numpy(), likeliest.values.cpu().numpy()
            start = 0
            for document in batch.documents:
                end = start + sum(document.trained[1:])
                found[document] = ids[start:end], log_probs[start:end]
                start = end
        return [found[document] for document in documents]

    def told(self) -> dict[str, Any]:
        """Return nothing: the step that asks knows the model."""
        return {}


def tensors(found: Sequence[tuple[Ids, LogProbs]], width: int, device: str) -> tuple[Any, Any]:
    """Return ids and log-probabilities of documents one after the other, as tensors; ids from `width` on become -1.

    The student has no logit for such an id: its probability falls to the rest, as that of every token that is not named.
    """
    import torch

    most = max(ids.shape[1] for ids, _ in found)
    ids = np.concatenate([_widened(one, most, -1) for one, _ in found])
    log_probs = np.concatenate([_widened(one, most, -np.inf) for _, one in found])
    ids = np.where(ids < width, ids, -1)
    return torch.from_numpy(ids).to(device), torch.from_numpy(log_probs).to(device)


def _widened(rows: np.ndarray[Any, Any], width: int, fill: float) -> np.ndarray[Any, Any]:
    short = width - rows.shape[1]
    return np.pad(rows, ((0, 0), (0, short)), constant_values=fill) if short else rows
