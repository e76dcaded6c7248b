"""Decoders: a model and the keys and values of the rows that are being written, for rollouts.

    decoder = decoder_for(model, rows=64)
    logits_RV = decoder.admit([[1, 5, 9], [1, 7]])     # two prompts join; the logits of what comes next in each
    logits_RV = decoder.step(tokens_R)                 # one token for each row that is there
    decoder.keep([3, 1])                               # row 0 is now what was row 3; the others are gone

`Plain` writes out what a model of the Llama layout does (Llama, Qwen2, Mistral without windows) with as few operations
as there are: on a model of a million weights the modules around the arithmetic cost more than the arithmetic. There is no
padding on the left; every row writes at its own position, so a row that ends leaves its place to a new prompt while the
others go on. In 32 bits on a CPU all but the matrix products is compiled (`_compiled_decoder`). Either is used where it gives, on
a try, the logits of the model itself; `Own` (the model's own forward with its cache) serves every other model.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F

from limbeck.core.errors import UsageError

ROOM = 136
"""Positions set aside for each row at first. No power of two: rows would then compete for the same lines of the cache."""
PREFILL_TOKENS = 4096
"""How many prompt tokens go through the layers at once."""
LAYOUT = ("llama", "qwen2", "mistral")
_TRIED: WeakKeyDictionary[Any, dict[type, bool]] = WeakKeyDictionary()
"""Which decoders were found to be right for which models."""


class Decoder(Protocol):
    """What rollouts need of a model."""

    joins: bool
    """Whether prompts may join while rows are running."""

    def admit(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Start a row on each prompt, after the rows that are there; return the logits of the new rows."""
        ...

    def step(self, tokens_R: torch.Tensor) -> torch.Tensor:
        """Give each row its next token; return the logits after it."""
        ...

    def keep(self, rows: Sequence[int]) -> None:
        """Make row i what was row `rows[i]`; all others are gone."""
        ...


def decoder_for(model: Any, rows: int) -> Decoder:
    """Return the fast decoder where it is right for this model, else the one that any model has."""
    kind = _fastest(model)
    return kind(model, rows) if is_plain(model, kind) else Own(model)


def _fastest(model: Any) -> type[Plain]:
    """Return the compiled decoder for 32 bits on a CPU, where there is a compiler."""
    if model.device.type == "cpu" and model.dtype == torch.float32 and find_spec("numba"):
        from limbeck.train._compiled_decoder import Compiled

        return Compiled
    return Plain


def is_plain(model: Any, kind: type[Plain] | None = None) -> bool:
    """Say whether `Plain` (or a `kind` of it) gives the logits of the model itself: by its parts, then by trying both.

    It is tried once for each model, not for each of its rollouts: training changes weights, and not what is computed with them.
    """
    config = model.config
    windows = any(layer != "full_attention" for layer in getattr(config, "layer_types", None) or ())
    if config.model_type not in LAYOUT or windows or _windowed(config):
        return False
    if getattr(config, "hidden_act", "") != "silu" or not _linear(model):
        return False
    found = _TRIED.setdefault(model, {})
    if (kind or Plain) not in found:
        found[kind or Plain] = _agrees(model, kind or Plain)
    return found[kind or Plain]


def _agrees(model: Any, kind: type[Plain]) -> bool:
    ids = [(7 * place + 3) % model.config.vocab_size for place in range(11)]
    with torch.no_grad():
        training = model.training
        model.eval()
        own_1V = model(input_ids=torch.tensor([ids], device=model.device), use_cache=False).logits[:, -1]
        model.train(training)
        tried = kind(model, 1)
        tried.admit([ids[:-1]])
        made_1V = tried.step(torch.tensor(ids[-1:], device=model.device))
    return torch.allclose(
        own_1V.float(), made_1V.float(), rtol=1e-2, atol=1e-2 if own_1V.dtype != torch.float32 else 1e-3
    )


def _windowed(config: Any) -> bool:
    # Qwen2 names a window and switches it off
    return bool(getattr(config, "sliding_window", None)) and getattr(config, "use_sliding_window", True)


def _linear(model: Any) -> bool:
    # an adapter around a projection is another type: its weight alone is not what it computes
    if not hasattr(model.base_model, "layers"):
        return False
    layer = model.base_model.layers[0]
    parts = [
        getattr(getattr(layer, block, None), f"{name}_proj", None)
        for block, names in (("self_attn", "qkvo"), ("mlp", ("gate", "up", "down")))
        for name in names
    ]
    return all(type(part) is torch.nn.Linear for part in parts) and not hasattr(layer.self_attn, "q_norm")


class _Block(NamedTuple):
    """One layer: norms are folded into the matrices behind them, and the attention's scale into the queries."""

    attend_DE: torch.Tensor
    attend_bias_E: torch.Tensor | None
    out_ED: torch.Tensor
    out_bias_D: torch.Tensor | None
    widen_DF: torch.Tensor
    narrow_FD: torch.Tensor


class Plain:
    """A model of the Llama layout; a copy of its weights is laid out for decoding, so make a new one after every update."""

    joins = True
    set_aside = staticmethod(torch.zeros)
    """Makes room for keys and values; what is masked must be finite."""

    def __init__(self, model: Any, rows: int) -> None:
        config, base = model.config, model.base_model
        self.heads, self.groups = config.num_attention_heads, config.num_key_value_heads
        self.width = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.epsilon = config.rms_norm_eps
        self.embed_VD = model.get_input_embeddings().weight.detach()
        self.head_DV = _folded(base.norm.weight, model.get_output_embeddings().weight)
        self.blocks = [self._block(layer) for layer in base.layers]
        self.device, self.dtype = self.embed_VD.device, self.embed_VD.dtype
        self.turns_SW = torch.empty(0, 0)
        self._speeds, self._stretch = base.rotary_emb.inv_freq.float(), float(base.rotary_emb.attention_scaling)
        self.lengths_R = torch.zeros(rows, dtype=torch.long, device=self.device)
        self.count = self.room = self.seen = 0
        self.keys = self.values = torch.empty(0)
        self._grow(ROOM)

    def _block(self, layer: Any) -> _Block:
        attention, mlp = layer.self_attn, layer.mlp
        scale = self.width**-0.5
        query, key, value = attention.q_proj, attention.k_proj, attention.v_proj
        joined = [query.weight.detach() * scale, key.weight, value.weight]
        biases = None if query.bias is None else torch.cat([query.bias * scale, key.bias, value.bias]).detach()
        return _Block(
            _folded(layer.input_layernorm.weight, *joined),
            biases,
            attention.o_proj.weight.detach().t().contiguous(),
            None if attention.o_proj.bias is None else attention.o_proj.bias.detach(),
            _folded(layer.post_attention_layernorm.weight, mlp.gate_proj.weight, mlp.up_proj.weight),
            mlp.down_proj.weight.detach().t().contiguous(),
        )

    def admit(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Start a row on each prompt; they go through the layers a few thousand tokens at a time."""
        found, start = [], 0
        self._grow(max(map(len, prompts)) + 1)
        while start < len(prompts):
            end, longest = start, 0
            while end < len(prompts):
                longest = max(longest, len(prompts[end]))
                if end > start and longest * (end - start + 1) > PREFILL_TOKENS:
                    break
                end += 1
            found.append(self._prefill(prompts[start:end]))
            start = end
        return torch.cat(found)

    def _prefill(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        # padded on the right: causal attention never looks there, and decoding overwrites it
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        many, longest = len(prompts), int(lengths.max())
        ids = torch.tensor([[*prompt, *[0] * (longest - len(prompt))] for prompt in prompts], device=self.device)
        rows = slice(self.count, self.count + many)
        turn = self.turns_SW[:longest].repeat(many, 1)
        hidden = self.embed_VD[ids.reshape(-1)]
        for place, block in enumerate(self.blocks):
            query, key, value = self._turned(self._projected(hidden, block), turn, (many, longest))
            self.keys[place, rows, ..., :longest] = key.transpose(-1, -2)
            self.values[place, rows, ..., :longest] = value.transpose(-1, -2)
            answer = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=1.0, enable_gqa=True)
            hidden = self._rest(hidden, answer.transpose(1, 2).reshape(many * longest, -1), block)
        self.lengths_R[rows] = lengths.to(self.device)
        self.count += many
        self.seen = max(self.seen, longest)
        last = torch.arange(many) * longest + lengths - 1
        return self._logits(hidden[last.to(self.device)])

    def step(self, tokens_R: torch.Tensor) -> torch.Tensor:
        """Give each row its next token."""
        many, tokens_R = self.count, tokens_R.to(self.device)
        self._grow(self.seen + 1)
        self.seen += 1
        at_R, rows_R = self.lengths_R[:many], torch.arange(many, device=self.device)
        turn = self.turns_SW[at_R]
        future_R1S = torch.zeros(many, 1, self.seen, dtype=self.dtype, device=self.device)
        future_R1S.masked_fill_(torch.arange(self.seen, device=self.device) > at_R[:, None, None], float("-inf"))
        future = future_R1S.repeat_interleave(self.groups, dim=0)
        hidden = self.embed_VD[tokens_R]
        for place, block in enumerate(self.blocks):
            query, key, value = self._turned(self._projected(hidden, block), turn, (many, 1))
            keys, values = self.keys[place, :many], self.values[place, :many]
            keys[rows_R, ..., at_R], values[rows_R, ..., at_R] = key[:, :, 0], value[:, :, 0]
            query = query.reshape(many * self.groups, -1, self.width)
            weights = torch.baddbmm(future, query, keys[..., : self.seen].flatten(0, 1)).softmax(-1)
            answer = torch.bmm(values[..., : self.seen].flatten(0, 1), weights.transpose(1, 2)).transpose(1, 2)
            hidden = self._rest(hidden, answer.reshape(many, -1), block)
        at_R += 1
        return self._logits(hidden)

    def keep(self, rows: Sequence[int]) -> None:
        """Move the rows that stay to the front."""
        moves = [(place, row) for place, row in enumerate(rows) if place != row]
        if moves:
            places, sources = (list(side) for side in zip(*moves, strict=True))
            self.keys[:, places, ..., : self.seen] = self.keys[:, sources, ..., : self.seen]
            self.values[:, places, ..., : self.seen] = self.values[:, sources, ..., : self.seen]
            self.lengths_R[places] = self.lengths_R[sources]
        self.count = len(rows)
        self.seen = int(self.lengths_R[: self.count].max()) if rows else 0

    def _projected(self, hidden: torch.Tensor, block: _Block) -> torch.Tensor:
        mixed = self._normed(hidden) @ block.attend_DE
        return mixed if block.attend_bias_E is None else mixed + block.attend_bias_E

    def _turned(
        self, mixed: torch.Tensor, turn: torch.Tensor, shape: tuple[int, int]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return queries, keys and values as (rows, heads, tokens, width), queries and keys turned to their positions."""
        mixed = mixed.view(len(mixed), -1, self.width)
        turned = mixed[:, : self.heads + self.groups]
        half = self.width // 2
        cosine, sine = turn[:, None, : self.width], turn[:, None, self.width :]
        turned = turned * cosine + torch.cat([turned[..., half:], turned[..., :half]], -1) * sine
        parts = turned[:, : self.heads], turned[:, self.heads :], mixed[:, self.heads + self.groups :]
        query, key, value = (part.reshape(*shape, -1, self.width).transpose(1, 2) for part in parts)
        return query, key, value

    def _rest(self, hidden: torch.Tensor, answer: torch.Tensor, block: _Block) -> torch.Tensor:
        hidden = torch.addmm(hidden, answer, block.out_ED)
        if block.out_bias_D is not None:
            hidden = hidden + block.out_bias_D
        gate, up = (self._normed(hidden) @ block.widen_DF).chunk(2, -1)
        return torch.addmm(hidden, F.silu(gate).mul_(up), block.narrow_FD)

    def _normed(self, hidden: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(hidden, hidden.shape[-1:], None, self.epsilon)

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return (self._normed(hidden) @ self.head_DV).float()

    def _grow(self, needed: int) -> None:
        if needed <= self.room:
            return
        old, self.room = self.room, max(needed + 8, self.room * 3 // 2)
        # positions last: a vector times [width, positions] takes a fifth of the time of one times its transpose
        shape = (len(self.blocks), len(self.lengths_R), self.groups, self.width, self.room)
        for name in ("keys", "values"):
            wider = self.set_aside(shape, dtype=self.dtype, device=self.device)
            if old:
                wider[..., :old] = getattr(self, name)
            setattr(self, name, wider)
        angles = torch.arange(self.room, device=self.device)[:, None].float() * self._speeds
        cosine, sine = angles.cos() * self._stretch, angles.sin() * self._stretch
        # the sine's sign stands in the table, not in the turning
        self.turns_SW = torch.cat([cosine, cosine, -sine, sine], -1).to(self.dtype)


class Own:
    """Any causal model, by its own forward and its own cache; rows are padded on the left and start together."""

    joins = False

    def __init__(self, model: Any) -> None:
        self._model = model
        self._cache: Any = None
        self._mask_RS = torch.empty(0)

    def admit(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Start a row on each prompt; nothing may be running."""
        if self._cache is not None and len(self._mask_RS):
            raise UsageError("Prompts can not join running rows with this model.")
        longest = max(map(len, prompts))
        device = self._model.device
        ids = torch.tensor([[0] * (longest - len(p)) + list(p) for p in prompts], device=device)
        self._mask_RS = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=device)
        self._cache = None
        return self._forward(ids, (self._mask_RS.cumsum(-1) - 1).clamp_min(0))

    def step(self, tokens_R: torch.Tensor) -> torch.Tensor:
        """Give each row its next token."""
        self._mask_RS = F.pad(self._mask_RS, (0, 1), value=1)
        return self._forward(tokens_R[:, None].to(self._model.device), self._mask_RS.sum(-1, keepdim=True) - 1)

    def keep(self, rows: Sequence[int]) -> None:
        """Cut the cache down to the rows that stay."""
        chosen = torch.tensor(list(rows), dtype=torch.long, device=self._mask_RS.device)
        self._mask_RS = self._mask_RS[chosen]
        if rows:
            self._cache.batch_select_indices(chosen)

    def _forward(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        out = self._model(
            input_ids=ids,
            attention_mask=self._mask_RS,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
        )
        self._cache = out.past_key_values
        logits: torch.Tensor = out.logits[:, -1].float()
        return logits


def _folded(norm: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
    """Return the matrices side by side, laid out for x @ W, with the norm's weight multiplied in."""
    return (torch.cat([w.detach() for w in weights]) * norm.detach()).t().contiguous()
