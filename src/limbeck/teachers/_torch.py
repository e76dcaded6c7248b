"""Any causal language model that transformers can load, behind the interface that the decoder needs.

Rows are padded on the left, so no row can join while others run: a batch runs to its end and shrinks as rows finish.
The small plain Llamas of this package take the faster way in `_llama.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.core.loading import LOADING

Array = NDArray[Any]

EXACT = 300_000_000
"""Up to this many parameters a second copy in double precision decides close calls."""


class Torch:
    """A model loaded by transformers, on the GPU where there is one."""

    joins = False

    def __init__(self, folder: Path) -> None:
        with LOADING:
            import torch
            from transformers import AutoModelForCausalLM
            from transformers.utils import logging

            logging.disable_progress_bar()
            loaded = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32)
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model: Any = loaded.eval().requires_grad_(False).to(self._device)
        config = self._model.config.get_text_config()
        self.context: int = getattr(config, "max_position_embeddings", None) or 1 << 20
        self._small = sum(p.numel() for p in self._model.parameters()) <= EXACT
        self._true: Any = None
        self._cache: Any = None
        self._mask: Any = None

    def admit(self, prompts: Sequence[Sequence[int]], counts: Sequence[int]) -> Array:
        """Start `counts[i]` rows on prompt i; return their logits. No other rows may be running."""
        import torch

        longest = max(map(len, prompts))
        ids = torch.tensor([[0] * (longest - len(p)) + list(p) for p in prompts], device=self._device)
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=self._device)
        self._cache, self._mask = None, mask
        logits = self._forward(ids, (mask.cumsum(1) - 1).clamp(min=0))
        rows = torch.repeat_interleave(torch.arange(len(prompts)), torch.tensor(counts)).to(self._device)
        self._select(rows)
        return np.asarray(logits[rows.cpu().numpy()])

    def step(self, tokens: Array) -> Array:
        """Give each row its next token; return the logits after it."""
        import torch

        at = self._mask.sum(1, keepdim=True)
        self._mask = torch.cat([self._mask, torch.ones_like(self._mask[:, :1])], dim=1)
        return self._forward(torch.from_numpy(tokens)[:, None].to(self._device), at)

    def keep(self, rows: Sequence[int]) -> None:
        """Make row i what was row `rows[i]`; all others are gone."""
        import torch

        if rows:
            self._select(torch.tensor(rows, device=self._device))
        else:
            self._cache = self._mask = None

    def exact(self, tokens: Sequence[int]) -> Array:
        """Return the logits after each of `tokens`, of this row alone, in double precision if the model is small."""
        import copy

        import torch

        if self._true is None:
            self._true = copy.deepcopy(self._model).double() if self._small else self._model
        with torch.inference_mode():
            logits = self._true(torch.tensor([tokens], device=self._device), use_cache=False).logits[0]
        return np.asarray(logits.cpu().numpy())

    def _forward(self, ids: Any, at: Any) -> Array:
        import torch

        with torch.inference_mode():
            out = self._model(
                ids,
                attention_mask=self._mask,
                position_ids=at,
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
            )
        self._cache = out.past_key_values
        return np.asarray(out.logits[:, -1].float().cpu().numpy())

    def _select(self, rows: Any) -> None:
        self._mask = self._mask[rows]
        self._cache.batch_select_indices(rows)
