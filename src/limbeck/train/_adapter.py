"""LoRA: only small matrices beside the frozen ones are trained, and multiplied in when the student is saved.

    q_proj.weight  W [32, 32], frozen      lora_A [8, 32], random     lora_B [32, 8], zeros at first
    answer         x W' + (alpha / rank) x A' B'                      so at first the student is unchanged
    saved          W + (alpha / rank) B A                             an ordinary model, nothing beside it

Low-rank adaptation (Hu et al. 2021, 2106.09685), by the `peft` library. The student's memory for gradients and for the
optimiser shrinks with the trained weights. The merged weights are computed in float32 from the whole ones, wherever those
are spread, and the model in training is left as it is.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck.core.errors import UsageError

if TYPE_CHECKING:
    import torch

NAME = "default"
"""What peft calls the one adapter."""


def adapt(model: Any, *, rank: int, alpha: float, modules: Sequence[str], seed: int) -> Any:
    """Put an adapter around linear layers of `model`, in place, and freeze the rest; return peft's view of the model.

    `modules` are ends of names such as `q_proj`; none means all linear layers but the head. Raises UsageError.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise UsageError("lora_rank needs the library `peft`; install it with: pip install peft") from error
    import torch

    torch.manual_seed(seed)
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha or 2 * rank,  # type: ignore[arg-type]
        target_modules=list(modules) or "all-linear",
        task_type="CAUSAL_LM",
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on layouts it finds odd and handles
            return get_peft_model(model, config)
    except ValueError as error:
        raise UsageError(f"lora_modules {list(modules)} fit no layer of the student: {error}") from error


def merged(model: Any, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights of an ordinary model: each adapter multiplied into the matrix that it stands beside."""
    from peft.tuners.lora import LoraLayer

    layers = {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}
    found = {name.replace(".base_layer.", "."): tensor for name, tensor in weights.items() if ".lora_" not in name}
    for name, module in layers.items():
        down, up = (weights[f"{name}.{part}.{NAME}.weight"].float() for part in ("lora_A", "lora_B"))
        change = module.scaling[NAME] * (up @ down)
        before = weights[f"{name}.base_layer.weight"]
        # GPT-2 keeps its matrices transposed
        turned = change.T if getattr(module, "fan_in_fan_out", False) else change
        found[f"{name}.weight"] = (before.float() + turned.to(before.device)).to(before.dtype)
    return found


def save_adapter(view: Any, weights: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Write the adapter alone, in peft's layout, for whoever serves many of them on one base."""
    view.save_pretrained(folder, state_dict={f"base_model.model.{name}": w for name, w in weights.items()})
