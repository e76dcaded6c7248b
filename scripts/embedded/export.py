"""Write a trained model as a folder that transformers loads: half-precision weights, configuration, tokenizer.

The weights are stored in float16 to halve the download; the configuration says float32, so they are computed with at full
precision (half precision is slow on a CPU). Each file appears whole or not at all.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from transformers import LlamaConfig, PreTrainedTokenizerFast

from embedded.tokens import CHAT_TEMPLATE, SPECIAL

SHOWN = (
    "attention_bias", "bos_token_id", "eos_token_id", "head_dim", "hidden_act", "hidden_size", "intermediate_size",
    "max_position_embeddings", "mlp_bias", "model_type", "num_attention_heads", "num_hidden_layers", "num_key_value_heads",
    "pad_token_id", "rms_norm_eps", "rope_parameters", "tie_word_embeddings", "use_cache", "vocab_size",
)  # fmt: skip
"""The parts of a configuration that matter here."""


def export(
    state: dict[str, torch.Tensor], config: LlamaConfig, tokenizer: PreTrainedTokenizerFast, folder: Path
) -> None:
    """Write the folder, the weights last."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = config.to_dict()
    described = {"architectures": ["LlamaForCausalLM"], "dtype": "float32"} | {key: whole[key] for key in SHOWN}
    described["rope_theta"] = whole["rope_parameters"][
        "rope_theta"
    ]  # where programs older than transformers 5 look for it
    write(folder / "config.json", _json(described))
    write(folder / "tokenizer.json", tokenizer.backend_tokenizer.to_str(pretty=False).encode())
    write(folder / "tokenizer_config.json", _json(tokenizer_settings()))
    halved = {name: weight.to(torch.float16).contiguous() for name, weight in state.items()}
    write(folder / "model.safetensors", save(halved, metadata={"format": "pt"}))


def tokenizer_settings() -> dict[str, Any]:
    """The settings that AutoTokenizer reads, the chat template among them."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": SPECIAL[1], "eos_token": SPECIAL[2], "pad_token": SPECIAL[0],
        "additional_special_tokens": SPECIAL[3:], "clean_up_tokenization_spaces": False, "model_max_length": 512,
        "padding_side": "left", "chat_template": CHAT_TEMPLATE,
    }  # fmt: skip


def _json(content: dict[str, Any]) -> bytes:
    """Render a small file."""
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()


def write(path: Path, content: bytes) -> None:
    """Replace a file in one go, so that nobody ever loads half of one."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    part.replace(path)
