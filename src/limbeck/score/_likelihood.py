"""How likely a local model finds a text: mean negative log-likelihoods of the tokens behind a boundary, in batches.

    prompt     <bos><user>Start with 12. Add 5.<assistant>
    response   12 + 5 = 17.
    tokens     … <assistant> | 1   2   Ġ+  Ġ5  Ġ=  Ġ17  .          the boundary, found by the tokens' offsets in the text
    given      the mean over the tokens behind the boundary, with the prompt before them
    alone      the mean over *the same* tokens, with nothing but <bos> before them

The boundary is where the characters of the response begin. Encoding the prompt by itself and counting its tokens gives another
place whenever a token would straddle the boundary; here a token counts if its first character is one of the response, and both
readings use the very tokens of the joint text, so that their ratio compares like with like.

Length: at most `max_tokens`, and never more than the model has positions. Of a longer row the prompt gives way first, from its
beginning (the first token stays, it may be the beginning-of-text token), down to half of the room; then the response, at its end.

Memory: a batch is at most `batch_tokens` tokens with its padding, and logits are made for a window of it at a time (LOGITS),
with the keys and values of the windows before kept. Rows of like length share a batch, so equal tables give equal batches and
equal figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from limbeck.core.errors import UsageError
from limbeck.core.loading import LOADING
from limbeck.core.row import Row

Template = Literal["chat", "plain"]
LOGITS = 1 << 25
"""How many logits are held at once, on a processor; 128 MiB of them. A GPU holds sixteen times as many."""
NARROW = 16
"""The narrowest window."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Token ids and where those begin that count."""

    ids: tuple[int, ...]
    first: int

    @property
    def counted(self) -> int:
        """How many tokens count."""
        return len(self.ids) - self.first


@dataclass(frozen=True, slots=True)
class Encoded:
    """A response as two readings of the same tokens: behind its prompt, and alone."""

    given: Reading
    alone: Reading
    cut: bool
    """Whether the row was longer than `max_tokens`."""


class Scorer:
    """A causal language model in float32 with its tokenizer, on the GPU where there is one."""

    def __init__(self, folder: Path, *, template: Template = "chat") -> None:
        self.model, self.tokenizer = _loaded(folder)
        self.template = template
        config = self.model.config.get_text_config()
        self.context = int(getattr(config, "max_position_embeddings", 0) or 1 << 20)
        self.vocabulary = int(config.vocab_size)
        # what stands before a text that has nothing before it; GPT-2 ends and begins texts with the same token
        self.start = next(
            (t for t in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id) if t is not None), None
        )

    def response(self, row: Row, max_tokens: int) -> Encoded | None:
        """Encode a row's response; None if no token begins in it."""
        before, special = self._prompt(row)
        ids, first = self._encode(before, row.response, special)
        most = min(max_tokens, self.context)
        # where nothing can stand before a text alone, its first token is context in both readings
        context, counted = (
            (ids[:first], ids[first:]) if self.start is not None else (ids[: first + 1], ids[first + 1 :])
        )
        lone = [self.start] if self.start is not None else ids[first : first + 1]
        if not counted or not context:
            return None
        kept, response = fitted(context, counted, most)
        cut = len(kept) + len(response) < len(context) + len(counted)
        return Encoded(_reading(kept, response), _reading(lone, response), cut)

    def text(self, text: str, max_tokens: int) -> Encoded | None:
        """Encode a text that stands alone; None if it has too few tokens."""
        ids = list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        context, counted = ([self.start], ids) if self.start is not None else (ids[:1], ids[1:])
        kept = counted[: min(max_tokens, self.context) - 1]
        if not kept:
            return None
        reading = _reading(context, kept)
        return Encoded(reading, reading, len(kept) < len(counted))

    def losses(
        self, readings: Sequence[Reading], batch_tokens: int, told: Callable[[int], None] = lambda done: None
    ) -> list[float]:
        """Return for each reading the mean negative log-likelihood (nats a token) of the tokens that count."""
        found = [0.0] * len(readings)
        order = sorted(range(len(readings)), key=lambda place: (len(readings[place].ids), place))
        while order:
            longest = len(readings[order[-1]].ids)
            some = [order.pop() for _ in range(min(len(order), max(1, batch_tokens // longest)))]
            for place, value in zip(some, self._batch([readings[p] for p in some]), strict=True):
                found[place] = value
            told(len(readings) - len(order))
        return found

    def _prompt(self, row: Row) -> tuple[str, bool]:
        """Return the text before the response, and whether special tokens have still to be put before it."""
        turns = [{"role": message.role, "content": message.content} for message in row.prompt]
        if self.template == "chat" and self.tokenizer.chat_template and turns:
            return str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)), False
        return "".join(f"{turn['content']}\n\n" for turn in turns), True

    def _encode(self, before: str, response: str, special: bool) -> tuple[list[int], int]:
        found = self.tokenizer(before + response, add_special_tokens=False, return_offsets_mapping=True)
        ids, offsets = list(found["input_ids"]), found["offset_mapping"]
        first = next((place for place, (begin, _) in enumerate(offsets) if begin >= len(before)), len(ids))
        return ([self.start, *ids], first + 1) if special and self.start is not None else (ids, first)

    def _batch(self, readings: Sequence[Reading]) -> list[float]:
        import torch

        longest = max(len(reading.ids) for reading in readings)
        device = self.model.device
        ids_BS = torch.tensor([[*r.ids, *[0] * (longest - len(r.ids))] for r in readings], device=device)
        mask_BS = torch.tensor([[1] * len(r.ids) + [0] * (longest - len(r.ids)) for r in readings], device=device)
        with torch.inference_mode():
            lost_BS = self._token_losses(ids_BS, mask_BS)
        # a token's loss stands one place before it, with the token that predicts it
        return [
            float(lost_BS[place, r.first - 1 : len(r.ids) - 1].sum()) / r.counted for place, r in enumerate(readings)
        ]

    def _token_losses(self, ids_BS: Any, mask_BS: Any) -> Any:
        """Return the loss of each next token in double precision, window by window, so that logits never fill the memory."""
        import torch
        import torch.nn.functional as F

        rows, length = ids_BS.shape
        room = LOGITS * (16 if ids_BS.is_cuda else 1)
        width = max(NARROW, room // (rows * self.vocabulary))
        cache, parts = None, []
        for begin in range(0, length - 1, width):
            end = min(begin + width, length - 1)
            out = self.model(
                input_ids=ids_BS[:, begin:end],
                attention_mask=mask_BS[:, :end],
                past_key_values=cache,
                use_cache=end < length - 1,
            )
            cache = getattr(out, "past_key_values", None)
            wanted = ids_BS[:, begin + 1 : end + 1]
            lost = F.cross_entropy(out.logits.float().flatten(0, 1), wanted.flatten(), reduction="none")
            parts.append(lost.view(rows, -1).double().cpu())
        return torch.cat(parts, dim=1)


def fitted(context: Sequence[int], counted: Sequence[int], most: int) -> tuple[list[int], list[int]]:
    """Return context and counted tokens cut to `most` together, by the rule of this module.

    >>> fitted([1, 2, 3, 4], [7, 8, 9], 6)
    ([1, 3, 4], [7, 8, 9])
    >>> fitted([1, 2, 3, 4], [7, 8, 9, 10, 11], 4)
    ([1, 4], [7, 8])
    """
    room = min(len(context), max(most // 2, most - len(counted)))
    kept = list(context) if len(context) <= room else [context[0], *context[len(context) - room + 1 :]]
    return kept, list(counted[: most - len(kept)])


def _reading(context: Sequence[Any], counted: Sequence[int]) -> Reading:
    return Reading((*context, *counted), len(context))


def _loaded(folder: Path) -> tuple[Any, Any]:
    """Return model and tokenizer of a folder; only safetensors, no code that comes with a model. Raises UsageError."""
    try:
        with LOADING:
            import torch
            from transformers import AutoModelForCausalLM, AutoTokenizer
            from transformers.utils import logging
    except ImportError:
        raise UsageError("Likelihoods need torch and transformers: pip install 'limbeck[train]'.") from None
    logging.disable_progress_bar()
    try:
        with LOADING:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            model = AutoModelForCausalLM.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
            )
    except (OSError, ValueError, KeyError) as problem:
        raise UsageError(f"{folder} holds no causal language model: {str(problem).splitlines()[0]}") from None
    if not tokenizer.is_fast:
        raise UsageError(f"The tokenizer of {folder} gives no offsets, so prompt and response can not be told apart.")
    return model.eval().requires_grad_(False).to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer
