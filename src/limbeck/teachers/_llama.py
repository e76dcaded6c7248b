"""A plain Llama in numpy: the fast path for models small enough that every framework costs more than the arithmetic.

    model = Llama(folder, rows=64)
    logits = model.admit([[1, 5, 9], [1, 7]], counts=[4, 4])    # two prompts, four samples of each: eight rows
    logits = model.step(tokens)                                 # one token for each row
    model.keep([7, 1, 2])                                       # row 0 is now what was row 7; the others are gone

There is no padding on the left. Every row writes its keys and values at its own positions, so rows of different lengths
live side by side, a finished row's place is taken by the last row, and new prompts join while old ones still run.
For a 1M-parameter model a step of 64 rows is 2 ms of one core, and a worker process starts in a third of a second: it
loads neither torch nor transformers.

Anything that is not a plain Llama in one safetensors file (biases, scaled positions, quantised weights) is left to
`_torch.py`: `plain(folder)` says which it is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

SMALL = 50_000_000
"""Models with fewer parameters than this run here."""
PREFILL_TOKENS = 2048
"""How many prompt tokens go through the layers at once: bounds the memory of the attention scores."""
ROOM = 200
"""Positions set aside for each row at first. No power of two: the rows would then compete for the same lines of the cache."""
FLOOR = -60.0
"""Attention scores this far below the best weigh 1e-26, nothing in either precision; without a floor they become denormal
numbers, on which the processor is many times slower."""

_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def plain(folder: Path) -> bool:
    """Say whether the model in `folder` is a plain Llama under `SMALL` parameters, in one safetensors file."""
    config, weights = json.loads((folder / "config.json").read_text("utf-8")), folder / "model.safetensors"
    odd = ("attention_bias", "mlp_bias", "quantization_config", "rope_scaling")
    if config.get("model_type") != "llama" or not weights.is_file() or any(config.get(key) for key in odd):
        return False
    rope = config.get("rope_parameters") or {}
    if config.get("hidden_act", "silu") != "silu" or rope.get("rope_type", "default") != "default":
        return False
    entries = _header(weights)[0].values()
    known = all(entry["dtype"] in _DTYPES for entry in entries)
    return known and sum(int(np.prod(entry["shape"])) for entry in entries) < SMALL


class Llama:
    """The model and the keys and values of up to `rows` running rows."""

    joins = True
    """New rows may join while others are running."""

    def __init__(self, folder: Path, rows: int) -> None:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        self.context: int = config.get("max_position_embeddings", 2048)
        self._config, self._stored = config, _read(folder / "model.safetensors")
        self._fast = _Weights(config, self._stored, np.float32)
        self._true: _Weights | None = None
        self._lengths = np.zeros(rows, dtype=np.int64)
        self._count, self._room = 0, ROOM
        self._keys, self._values = (self._fast.cache(rows, self._room) for _ in range(2))

    def admit(self, prompts: Sequence[Sequence[int]], counts: Sequence[int]) -> Array:
        """Start `counts[i]` rows on prompt i, after the rows that are there; return the logits of the new rows."""
        self._grow(max(map(len, prompts)))
        first, found = self._count, []
        for chunk in _chunks(prompts):
            found.append(self._prefill(chunk, self._count))
            self._count += len(chunk)
        self._fan_out(first, counts)
        return np.repeat(np.concatenate(found), counts, axis=0)

    def step(self, tokens: Array) -> Array:
        """Give each row its next token; return the logits after it."""
        rows, at = np.arange(self._count), self._lengths[: self._count]
        self._grow(int(at.max()) + 1)
        hidden = self._fast.layers(tokens[:, None], at[:, None], rows, self._keys, self._values)
        self._lengths[: self._count] += 1
        return self._fast.logits(hidden[:, 0])

    def keep(self, rows: Sequence[int]) -> None:
        """Make row i what was row `rows[i]`; all others are gone."""
        for place, row in enumerate(rows):
            if place != row:
                self._copy(row, [place])
        self._count = len(rows)

    def exact(self, tokens: Sequence[int]) -> Array:
        """Return the logits after each of `tokens`, of this row alone and in double precision: the last word."""
        if self._true is None:
            self._true = _Weights(self._config, self._stored, np.float64)
        keys, values = (self._true.cache(1, len(tokens)) for _ in range(2))
        ids, at = np.array([tokens]), np.arange(len(tokens))[None]
        return self._true.logits(self._true.layers(ids, at, np.zeros(1, dtype=np.int64), keys, values)[0])

    def _prefill(self, prompts: Sequence[Sequence[int]], first: int) -> Array:
        # padded on the right: causal attention never looks there, and decoding overwrites it
        lengths = np.array([len(prompt) for prompt in prompts])
        ids = np.zeros((len(prompts), lengths.max()), dtype=np.int64)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = prompt
        rows, at = np.arange(first, first + len(prompts)), np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
        hidden = self._fast.layers(ids, at, rows, self._keys, self._values)
        self._lengths[rows] = lengths
        return self._fast.logits(hidden[np.arange(len(prompts)), lengths - 1])

    def _fan_out(self, first: int, counts: Sequence[int]) -> None:
        # from the last prompt to the first, so that no prompt is overwritten before it is copied
        ends = first + np.cumsum(counts)
        for prompt in reversed(range(len(counts))):
            places = range(int(ends[prompt]) - counts[prompt], int(ends[prompt]))
            self._copy(first + prompt, [place for place in places if place != first + prompt])
        self._count = int(ends[-1])

    def _copy(self, row: int, places: list[int]) -> None:
        length = self._lengths[row]
        for place in places:
            self._keys[:, place, :, :length] = self._keys[:, row, :, :length]
            self._values[:, place, :, :length] = self._values[:, row, :, :length]
        self._lengths[places] = length

    def _grow(self, needed: int) -> None:
        if needed <= self._room:
            return
        old, self._room = self._room, max(needed + 8, 2 * self._room)
        for name in ("_keys", "_values"):
            wider = self._fast.cache(len(self._lengths), self._room)
            wider[..., :old, :] = getattr(self, name)
            setattr(self, name, wider)


class _Weights:
    """The weights in one precision, laid out for `x @ w`: norms and the attention's scale are folded into them."""

    def __init__(self, config: dict[str, Any], stored: dict[str, Array], dtype: Any) -> None:
        self.dtype, self.epsilon = dtype, config.get("rms_norm_eps", 1e-6)
        self.heads = config["num_attention_heads"]
        self.pairs = config.get("num_key_value_heads") or self.heads
        self.width = config.get("head_dim") or config["hidden_size"] // self.heads
        theta = (config.get("rope_parameters") or {}).get("rope_theta") or config.get("rope_theta") or 10000.0
        self.speeds = theta ** -(np.arange(0, self.width, 2) / self.width)
        self.embed = stored["model.embed_tokens.weight"].astype(dtype)
        head = stored["model.embed_tokens.weight" if config.get("tie_word_embeddings") else "lm_head.weight"]
        self.head = _folded(dtype, stored["model.norm.weight"], head)
        self.blocks = [self._block(stored, f"model.layers.{n}.") for n in range(config["num_hidden_layers"])]

    def _block(self, stored: dict[str, Array], name: str) -> tuple[Array, Array, Array, Array]:
        def of(part: str) -> Array:
            return stored[f"{name}{part}.weight"].astype(np.float64)

        query = of("self_attn.q_proj") / np.sqrt(self.width)
        attend = _folded(self.dtype, of("input_layernorm"), query, of("self_attn.k_proj"), of("self_attn.v_proj"))
        widen = _folded(self.dtype, of("post_attention_layernorm"), of("mlp.gate_proj"), of("mlp.up_proj"))
        out, narrow = (np.ascontiguousarray(of(p).T, self.dtype) for p in ("self_attn.o_proj", "mlp.down_proj"))
        return attend, out, widen, narrow

    def cache(self, rows: int, room: int) -> Array:
        """Return an empty store of keys or values: layers, rows, heads, positions, width."""
        return np.zeros((len(self.blocks), rows, self.pairs, room, self.width), self.dtype)

    def logits(self, hidden: Array) -> Array:
        """Return the logits of final hidden states."""
        return np.asarray(self._normed(hidden) @ self.head)

    def layers(self, tokens: Array, at: Array, rows: Array, keys: Array, values: Array) -> Array:
        """Run `tokens` (rows, n) that stand at positions `at` through all layers, storing keys and values at `rows`."""
        many, count, seen = len(tokens), tokens.shape[1], int(at.max()) + 1
        hidden = self.embed[tokens.reshape(-1)]  # flat: numpy multiplies a stack of matrices one by one
        angles = at.reshape(-1, 1, 1) * self.speeds
        turn = np.cos(angles).astype(self.dtype), np.sin(angles).astype(self.dtype)
        future = self._future(at, seen)
        group = slice(rows[0], rows[-1] + 1)
        for (attend, out, widen, narrow), key, value in zip(self.blocks, keys, values, strict=True):
            mixed = (self._normed(hidden) @ attend).reshape(many * count, -1, self.width)
            turned = _turned(mixed[:, : self.heads + self.pairs], *turn)
            key[rows[:, None], :, at] = turned[:, self.heads :].reshape(many, count, self.pairs, -1)
            value[rows[:, None], :, at] = mixed[:, self.heads + self.pairs :].reshape(many, count, self.pairs, -1)
            query = turned[:, : self.heads].reshape(many, count, self.heads, -1).transpose(0, 2, 1, 3)
            query = query.reshape(many, self.pairs, -1, self.width)
            answer = _attended(query, key[group, :, :seen], value[group, :, :seen], future)
            answer = answer.reshape(many, self.heads, count, -1).transpose(0, 2, 1, 3)
            hidden = hidden + answer.reshape(many * count, -1) @ out
            hidden = hidden + _gated(self._normed(hidden) @ widen) @ narrow
        return hidden.reshape(many, count, -1)

    def _future(self, at: Array, seen: int) -> Array:
        """Return what is added to the attention scores: minus infinity for positions that a token must not see."""
        hidden = np.where(np.arange(seen) > at[:, :, None], -np.inf, 0).astype(self.dtype)[:, None]
        return np.tile(hidden, (1, 1, self.heads // self.pairs, 1)) if self.heads > self.pairs else hidden

    def _normed(self, hidden: Array) -> Array:
        squares = np.einsum("...d,...d->...", hidden, hidden)[..., None] / hidden.shape[-1]
        return np.asarray(hidden / np.sqrt(squares + self.dtype(self.epsilon)))


def _attended(query: Array, key: Array, value: Array, future: Array) -> Array:
    weights = query @ key.transpose(0, 1, 3, 2)
    weights += future
    weights -= weights.max(-1, keepdims=True)
    np.maximum(weights, FLOOR, out=weights)
    np.exp(weights, out=weights)
    weights /= weights.sum(-1, keepdims=True)
    return np.asarray(weights @ value)


def _gated(both: Array) -> Array:
    half = both.shape[-1] // 2
    gate, up = both[..., :half], both[..., half:]
    with np.errstate(over="ignore"):  # exp overflows to infinity, and x / infinity is the 0 that is meant
        return np.asarray(gate / (1 + np.exp(-gate)) * up)


def _turned(x: Array, cosine: Array, sine: Array) -> Array:
    half = x.shape[-1] // 2
    left, right = x[..., :half], x[..., half:]
    return np.concatenate([left * cosine - right * sine, right * cosine + left * sine], axis=-1)


def _folded(dtype: Any, norm: Array, *weights: Array) -> Array:
    joined = np.concatenate([w.astype(np.float64) for w in weights]) * norm.astype(np.float64)
    return np.ascontiguousarray(joined.T, dtype)


def _chunks(prompts: Sequence[Sequence[int]]) -> list[list[Sequence[int]]]:
    chunks: list[list[Sequence[int]]] = [[]]
    for prompt in prompts:
        longest = max([len(prompt), *map(len, chunks[-1])])
        if chunks[-1] and longest * (len(chunks[-1]) + 1) > PREFILL_TOKENS:
            chunks.append([])
        chunks[-1].append(prompt)
    return chunks


def _header(file: Path) -> tuple[dict[str, Any], int]:
    with file.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(size))
    header.pop("__metadata__", None)
    return header, 8 + size


def _read(file: Path) -> dict[str, Array]:
    """Read a safetensors file: eight bytes of length, a JSON header, the tensors. bfloat16 is the upper half of float32."""
    header, start = _header(file)
    data, found = np.memmap(file, np.uint8, "r"), {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        tensor = np.frombuffer(data[start + begin : start + end].tobytes(), _DTYPES[entry["dtype"]])
        if entry["dtype"] == "BF16":
            tensor = (tensor.astype(np.uint32) << 16).view(np.float32)
        found[name] = tensor.reshape(entry["shape"])
    return found
