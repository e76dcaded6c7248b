"""What distillation minimises on a micro-batch: a divergence from the teacher, or that and a reward.

    loss            sum over tokens of D(student, teacher)
    with a reward   sum over tokens of kl * D(student, teacher) - min(r A, clip(r) A)     r = q(token) / q when it was written

A is the advantage of the document the token stands in. The ratio r is 1 when the rollouts are fresh (its gradient is then
that of REINFORCE) and is clipped as in PPO (1707.06347) where the student has moved on since. The divergence is summed over
the whole vocabulary at each token: an estimate from the sampled token alone has the same mean and much more noise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from limbeck.train import losses
from limbeck.train._likeliest import Likeliest, tensors
from limbeck.train._prefixes import Tally, Written
from limbeck.train.packing import MicroBatch
from limbeck.train.student import LoadedStudent, predicting_logits, predicting_states

CLIP = 0.2
"""How far the ratio may be from 1 before a token stops pulling further."""


@dataclass(slots=True)
class Objective:
    """The loss of a micro-batch, for one student and one teacher."""

    student: LoadedStudent
    teacher: LoadedStudent | Likeliest
    options: dict[str, Any]
    """The options of `losses.divergence`, or of `losses.top_k_divergence` where the teacher tells its likeliest tokens."""
    rewarded: bool
    kl: float
    tally: Tally
    lost: dict[str, float] = field(default_factory=dict)
    """The mean mass outside of the shared vocabulary, of the last micro-batch, where there is a restriction."""

    def loss(self, batch: MicroBatch) -> torch.Tensor:
        """Return the summed loss of the trained tokens."""
        if not self.rewarded:
            return self._divergence(batch)
        logits_TV = predicting_logits(self.student, batch).float()
        loss = -_surrogate(logits_TV, batch)
        if self.kl:
            apart = self._apart(logits_TV, batch)
            self.tally.divergence += apart.item()
            loss = loss + self.kl * apart
        self.tally.trained += len(batch.targets_T)
        return loss

    def _divergence(self, batch: MicroBatch) -> torch.Tensor:
        student, teacher = self.student, self.teacher
        if not student.separable or (isinstance(teacher, LoadedStudent) and not teacher.separable):
            return self._apart(predicting_logits(student, batch), batch)
        head = student.model.get_output_embeddings()
        bias = getattr(head, "bias", None)
        if not isinstance(teacher, LoadedStudent):
            ids, log_probs = self._likeliest(teacher, batch)
            states_TD = predicting_states(student, batch)
            return losses.fused_top_k_divergence(
                states_TD,
                head.weight,
                log_probs,
                ids,
                batch.targets_T,
                student_bias=bias,
                reduction="sum",
                **self.options,
            )
        with torch.no_grad():
            teacher_TD = predicting_states(teacher, batch)
        other = teacher.model.get_output_embeddings()
        return losses.fused_divergence(
            predicting_states(student, batch),
            head.weight,
            teacher_TD,
            other.weight,
            batch.targets_T,
            student_bias=bias,
            teacher_bias=getattr(other, "bias", None),
            reduction="sum",
            **self._options(),
        )

    def _apart(self, logits_TV: torch.Tensor, batch: MicroBatch) -> torch.Tensor:
        """Return the divergence of the student's logits from the teacher, summed."""
        if not isinstance(self.teacher, LoadedStudent):
            ids, log_probs = self._likeliest(self.teacher, batch)
            return losses.top_k_divergence(logits_TV, log_probs, ids, batch.targets_T, reduction="sum", **self.options)
        with torch.no_grad():
            teacher_TV = predicting_logits(self.teacher, batch)
        return losses.divergence(logits_TV, teacher_TV, batch.targets_T, reduction="sum", **self._options())

    def _likeliest(self, teacher: Likeliest, batch: MicroBatch) -> tuple[torch.Tensor, torch.Tensor]:
        return tensors(teacher.top(batch.documents), self.student.width, self.student.device)

    def _options(self) -> dict[str, Any]:
        return self.options | ({"lost": self.lost} if self.options["shared"] is not None else {})


def _surrogate(logits_TV: torch.Tensor, batch: MicroBatch) -> torch.Tensor:
    """Return what the reward wants to be large: the advantages, weighed by how likely the tokens are now."""
    scores_T = logits_TV.log_softmax(-1).gather(1, batch.targets_T[:, None])[:, 0]
    advantages: list[float] = []
    before: list[float] = []
    for document in batch.documents:
        assert isinstance(document, Written)
        advantages += [document.advantage] * len(document.logprobs)
        before += document.logprobs
    ratio_T = (scores_T - torch.tensor(before, device=scores_T.device)).exp()
    advantage_T = torch.tensor(advantages, device=scores_T.device)
    clipped_T = ratio_T.clamp(1 - CLIP, 1 + CLIP)
    return torch.minimum(ratio_T * advantage_T, clipped_T * advantage_T).sum()
