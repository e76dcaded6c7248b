"""A plain Llama for training, with the parameter names of transformers' LlamaForCausalLM, and how its weights begin.

Two heads of the first layer begin as *previous-token heads*: at every position they attend one and two places back. Copying
(finding what followed the last occurrence of a word) is built on such heads, and a model this small needs long to find them by
itself. The trick is weights only: channel 0 of the embedding is the same constant c for every token, so a query and a key made
of that channel alone differ by nothing but the rotation of their position, and

    score(i, j) = sum over the fast rotary pairs of s^2 c^2 cos((i - j - D) w)    which peaks at j = i - D.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig

FAST_PAIRS = 5
"""How many of the fastest rotary pairs carry the offset."""
WIDTH_OF_INITIALS = 0.6
PERIODS = (2, 5, 10, 20, 50, 100, 200)
CIRCLE = 0.1
"""Radius of the number circles; other channels of the embedding have a spread of 0.05."""


def config_of(*, width: int, layers: int, heads: int, inner: int, vocabulary: int) -> LlamaConfig:
    """Describe a model; special tokens are numbered as in `tokens.SPECIAL`."""
    return LlamaConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=heads, max_position_embeddings=512, rms_norm_eps=1e-5, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip


class Norm(nn.Module):
    """Root-mean-square norm with a gain."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, hidden: Tensor) -> Tensor:
        """Scale every vector to unit mean square, then by the gain."""
        return functional.rms_norm(hidden, self.weight.shape, self.weight, 1e-5)


class Attention(nn.Module):
    """Causal attention with rotary positions in the half-split layout."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads = config.num_attention_heads
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(width, width, bias=False) for _ in range(4))

    def forward(self, hidden: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Let every position gather from those before it."""
        batch, time, width = hidden.shape
        query, key, value = (
            project(hidden).view(batch, time, self.heads, -1).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = functional.scaled_dot_product_attention(
            rotate(query, cos, sin), rotate(key, cos, sin), value, is_causal=True
        )
        gathered: Tensor = self.o_proj(mixed.transpose(1, 2).reshape(batch, time, width))
        return gathered


class Gated(nn.Module):
    """The SwiGLU feed-forward block."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Transform every position by itself."""
        transformed: Tensor = self.down_proj(functional.silu(self.gate_proj(hidden)) * self.up_proj(hidden))
        return transformed


class Block(nn.Module):
    """One layer."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = Norm(config.hidden_size), Norm(config.hidden_size)
        self.self_attn, self.mlp = Attention(config), Gated(config)

    def forward(self, hidden: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Attend, then transform, each added to what came in."""
        attended: Tensor = hidden + self.self_attn(self.input_layernorm(hidden), cos, sin)
        transformed: Tensor = attended + self.mlp(self.post_attention_layernorm(attended))
        return transformed


class Body(nn.Module):
    """Embedding, layers and final norm: `model.` in the names of transformers."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = Norm(config.hidden_size)


class Llama(nn.Module):
    """The whole model; the head is the embedding."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.model = Body(config)
        head = config.hidden_size // config.num_attention_heads
        angles = torch.outer(torch.arange(config.max_position_embeddings).float(), frequencies(head)).repeat(1, 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def hidden(self, ids: Tensor) -> Tensor:
        """The final hidden states, before the head."""
        hidden = self.model.embed_tokens(ids)
        cos, sin = self.cos[: ids.shape[1]], self.sin[: ids.shape[1]]  # type: ignore[index]
        for layer in self.model.layers:
            hidden = layer(hidden, cos, sin)
        return self.model.norm(hidden)  # type: ignore[no-any-return]

    def loss(self, ids: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        """Cross-entropy on the labelled tokens only; the head is not run on the others, which saves a third of its time."""
        wanted = labels[:, 1:] >= 0
        logits = self.hidden(ids[:, :-1])[wanted] @ self.model.embed_tokens.weight.T
        return functional.cross_entropy(logits, labels[:, 1:][wanted], label_smoothing=smoothing)


def frequencies(head: int) -> Tensor:
    """The rotary frequencies of a head of that size, fastest first."""
    return 1.0 / 10000.0 ** (torch.arange(0, head, 2).float() / head)


def rotate(hidden: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (i, i + half) by the angle of their position."""
    left, right = hidden.chunk(2, dim=-1)
    return hidden * cos + torch.cat([-right, left], dim=-1) * sin


@torch.no_grad()
def initialise(model: Llama, config: LlamaConfig, seed: int, numbers: list[int] | None = None) -> None:
    """Draw the first weights, then plant the two previous-token heads and, if their tokens are given, the number circles."""
    generator = torch.Generator().manual_seed(seed)
    width, layers = config.hidden_size, config.num_hidden_layers
    for name, weight in model.named_parameters():
        if "embed" in name:
            weight.normal_(0, 0.05, generator=generator)
            weight[:, 0] = 0.05 * math.sqrt(width) * 0.5
        elif "o_proj" in name or "down_proj" in name:
            weight.normal_(
                0, WIDTH_OF_INITIALS / math.sqrt(weight.shape[1]) / math.sqrt(2 * layers), generator=generator
            )
        elif weight.dim() == 2:
            weight.normal_(0, WIDTH_OF_INITIALS / math.sqrt(width), generator=generator)
    if numbers:
        plant_number_circles(model.model.embed_tokens.weight, numbers)
    plant_previous_token_heads(model, width // config.num_attention_heads, width)


def plant_previous_token_heads(model: Llama, head: int, width: int) -> None:
    """Make heads 0 and 1 of the first layer look one and two tokens back."""
    attention = model.model.layers[0].self_attn
    constant = 0.5 * math.sqrt(width) / math.sqrt(1.25)
    strength = math.sqrt(12 * math.sqrt(head)) / constant
    speed = frequencies(head)
    for place, offset in enumerate((1, 2)):
        rows = slice(place * head, (place + 1) * head)
        query, key = attention.q_proj.weight[rows], attention.k_proj.weight[rows]  # type: ignore[union-attr,index]
        query *= 0.05
        key *= 0.05
        for pair in range(FAST_PAIRS):
            key[pair, 0] = strength
            query[pair, 0] = strength * math.cos(offset * speed[pair])
            query[pair + head // 2, 0] = -strength * math.sin(offset * speed[pair])


def plant_number_circles(embedding: Tensor, numbers: list[int]) -> None:
    """Place the token of each number n on circles of several periods: (cos 2 pi n / p, sin 2 pi n / p).

    A trained model arrives at such circles by itself, because a sum is then a sum of angles, but only after a long time.
    """
    for place, period in enumerate(PERIODS):
        angles = 2 * math.pi * torch.arange(len(numbers)) / period
        embedding[numbers, 1 + 2 * place] = CIRCLE * angles.cos()
        embedding[numbers, 2 + 2 * place] = CIRCLE * angles.sin()
