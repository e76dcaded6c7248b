"""The decoder for small models on a CPU: matrix products by torch, all between them by the kernels of `_decode_kernel`.

    prompts [1, 5, 9] and [1, 7]    rows 0 0 0 1 1    places 0 1 2 0 1      five tokens, no padding
    a step of two rows              rows 0 1          places 3 2            two tokens

A prompt is so many tokens of one row, and a step one token of each: to the kernels it is the same. Only the last token of each
prompt goes on behind the last layer's attention. A row keeps its place in memory from its first token to its last; what moves
when others end is the list that says which places are in use.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from limbeck.train._decode_kernel import attend, draw, gate, normalise
from limbeck.train._decoder import Plain, _Block

ENTRY_TOKENS = 512
"""How many prompt tokens go through the layers at once: more would not stay in the processor's cache between operations."""


class Compiled(Plain):
    """A model of the Llama layout in 32 bits on a CPU."""

    set_aside = staticmethod(torch.empty)

    def __init__(self, model: Any, rows: int) -> None:
        super().__init__(model, rows)
        self.slots = np.arange(rows)
        """Where each row's keys and values lie, of the rows that are there; behind them the places that are free."""
        self._scratch(max(self.room, self.blocks[0].widen_DF.shape[1], self.head_DV.shape[1]))

    def admit(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Start a row on each prompt; they go through the layers some hundred tokens at a time."""
        self._grow(max(map(len, prompts)) + 1)
        found, waiting = [], 0
        for end in range(1, len(prompts) + 1):
            tokens = sum(map(len, prompts[waiting : end + 1]))
            if end == len(prompts) or tokens > ENTRY_TOKENS:
                found.append(self._prefill(prompts[waiting:end]))
                waiting = end
        return torch.cat(found)

    def step(self, tokens_R: torch.Tensor) -> torch.Tensor:
        """Give each row its next token."""
        self._grow(self.seen + 1)
        self.seen += 1
        places_R = self.lengths_R[: self.count]
        logits = self._logits(self._through(tokens_R, self.slots[: self.count], places_R.numpy()))
        places_R += 1
        return logits

    def draw(
        self, logits_RV: torch.Tensor, chances_R: torch.Tensor, temperature: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw a token a row among all; return the tokens and their log-probabilities at temperature 1."""
        tokens_R, scores_R = torch.empty(len(logits_RV), dtype=torch.long), torch.empty(len(logits_RV))
        given = logits_RV.contiguous().numpy(), chances_R.numpy(), temperature
        draw(*given, tokens_R.numpy(), scores_R.numpy(), self._bits, self._powers)
        return tokens_R, scores_R

    def _prefill(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        lengths = np.array([len(prompt) for prompt in prompts])
        ids = torch.tensor([token for prompt in prompts for token in prompt])
        rows = np.repeat(self.slots[self.count : self.count + len(prompts)], lengths)
        places = np.concatenate([np.arange(length) for length in lengths])
        self.lengths_R[self.count : self.count + len(prompts)] = torch.from_numpy(lengths)
        self.count += len(prompts)
        self.seen = max(self.seen, int(lengths.max()))
        return self._logits(self._through(ids, rows, places, torch.from_numpy(np.cumsum(lengths) - 1)))

    def _through(self, ids_T: torch.Tensor, rows: Any, places: Any, ends: torch.Tensor | None = None) -> torch.Tensor:
        """Return the last hidden states of tokens, of those at `ends` where that is given."""
        hidden: torch.Tensor = self.embed_VD[ids_T]
        keys, values, turns = self.keys.numpy(), self.values.numpy(), self.turns_SW.numpy()
        answer = torch.empty(len(ids_T), self.heads * self.width)
        for layer, block in enumerate(self.blocks):
            mixed = self._projected(hidden, block).numpy()
            attend(mixed, rows, places, turns, keys[layer], values[layer], answer.numpy(), self._bits, self._powers)
            if ends is not None and layer == len(self.blocks) - 1:
                hidden, answer = hidden[ends], answer[ends]
            hidden = self._rest(hidden, answer, block)
        return hidden

    def _rest(self, hidden: torch.Tensor, answer: torch.Tensor, block: _Block) -> torch.Tensor:
        hidden = torch.addmm(hidden, answer, block.out_ED)
        if block.out_bias_D is not None:
            hidden += block.out_bias_D
        both = self._normed(hidden) @ block.widen_DF
        gated = torch.empty(len(both), both.shape[1] // 2)
        gate(both.numpy(), gated.numpy(), self._bits, self._powers)
        return torch.addmm(hidden, gated, block.narrow_FD)

    def _normed(self, hidden: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = torch.empty_like(hidden)
        normalise(hidden.numpy(), self.epsilon, out.numpy())
        return out

    def _grow(self, needed: int) -> None:
        super()._grow(needed)
        if hasattr(self, "_bits") and self.room > len(self._bits):
            self._scratch(self.room)

    def _scratch(self, size: int) -> None:
        """Set memory aside in which kernels make powers of two: the same as whole numbers and as floats."""
        self._bits = np.empty(size, np.int32)
        self._powers = self._bits.view(np.float32)
