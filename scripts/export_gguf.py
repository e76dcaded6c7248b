"""Convert one of the embedded models (or any model of the same plain Llama layout) to GGUF, which llama.cpp serves.

    python scripts/export_gguf.py src/limbeck/teachers/weights/teacher teacher.gguf

Two things differ from the layout of transformers: the names, and the order of the rows of the query and key matrices. Transformers
rotates the pairs (i, i + half), llama.cpp the pairs (2i, 2i + 1), so each head's rows are shuffled like a deck of cards:

    0 1 2 3 | 4 5 6 7   ->   0 4 1 5 2 6 3 7

The head is tied to the embedding and therefore left out. The tokenizer travels along (byte-level BPE with GPT-2's pre-tokenizer),
and so does the chat template, which writes the <bos> itself.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors.numpy import load_file

NAMES = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip
WHOLE = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}


def main() -> None:
    """Read the command line and convert."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("to", type=Path)
    options = parser.parse_args()
    convert(options.folder, options.to)


def convert(folder: Path, to: Path) -> None:
    """Write the model in `folder` as one GGUF file, in single precision."""
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(str(to), "llama")
    _describe(writer, config, folder.name)
    _add_tokenizer(writer, folder)
    for name, tensor in load_file(folder / "model.safetensors").items():
        if "q_proj" in name or "k_proj" in name:
            tensor = shuffled(tensor, config["num_attention_heads"])
        writer.add_tensor(gguf_name(name), np.ascontiguousarray(tensor, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_name(name: str) -> str:
    """Translate a parameter's name.

    >>> gguf_name("model.layers.3.self_attn.q_proj.weight")
    'blk.3.attn_q.weight'
    """
    if name in WHOLE:
        return WHOLE[name]
    _, _, layer, *middle, ending = name.split(".")
    return f"blk.{layer}.{NAMES['.'.join(middle)]}.{ending}"


def shuffled(weight: np.ndarray, heads: int) -> np.ndarray:
    """Bring the rows of each head into llama.cpp's order of rotary pairs."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _describe(writer: gguf.GGUFWriter, config: dict[str, Any], name: str) -> None:
    """Write the shape of the model."""
    writer.add_name(f"limbeck-{name}")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def _add_tokenizer(writer: gguf.GGUFWriter, folder: Path) -> None:
    """Write vocabulary, merges, special tokens and chat template."""
    described = json.loads((folder / "tokenizer.json").read_text())
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    numbers: dict[str, int] = described["model"]["vocab"]
    special = {token["content"] for token in described["added_tokens"] if token["special"]}
    tokens = sorted(numbers, key=numbers.__getitem__)
    kinds = [gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL for token in tokens]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(
        [merge if isinstance(merge, str) else " ".join(merge) for merge in described["model"]["merges"]]
    )
    writer.add_bos_token_id(numbers[settings["bos_token"]])
    writer.add_eos_token_id(numbers[settings["eos_token"]])
    writer.add_pad_token_id(numbers[settings["pad_token"]])
    writer.add_add_bos_token(False)
    writer.add_chat_template(settings["chat_template"])


if __name__ == "__main__":
    main()
