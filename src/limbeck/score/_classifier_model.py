"""A classifier of transformers with one output, read from a folder: for a whole conversation, or for places in it.

    model, tokenizer = loaded("runs/first/04-reward/model", "sequence")       reward models: AutoModelForSequenceClassification
    model, tokenizer = loaded("runs/first/05-process/model", "token")         process reward models: AutoModelForTokenClassification

Only safetensors are loaded, nothing that is unpickled, and no code that comes with a model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from limbeck.core.errors import UsageError
from limbeck.core.loading import LOADING
from limbeck.core.models import artefact_of
from limbeck.core.step import Step


def folder_or_name(step: Step, spec: str) -> str:
    """Return where transformers finds a model: the folder of `step:NAME`, a folder, or `OWNER/NAME` of the hub."""
    if spec.startswith("step:"):
        return str(artefact_of(step, spec) / "model")
    return str(Path(spec.removeprefix("hf:")).expanduser())


def watched(spec: str) -> list[Path]:
    """Return the model's files, where it is a folder; a step of the run is known by its own fingerprint."""
    folder = Path(spec.removeprefix("hf:")).expanduser()
    return sorted(folder.glob("*")) if folder.is_dir() else []


def loaded(where: str, reads: Literal["sequence", "token"]) -> tuple[Any, Any]:
    """Return model and tokenizer. Raises UsageError where there is no such model, or it has not one output."""
    try:
        with LOADING:
            import torch
            import transformers
    except ImportError:
        raise UsageError("Reward models need torch and transformers: pip install 'limbeck[train]'.") from None
    kind = "AutoModelForSequenceClassification" if reads == "sequence" else "AutoModelForTokenClassification"
    try:
        with LOADING:
            config = transformers.AutoConfig.from_pretrained(where, trust_remote_code=False)
            tokenizer = transformers.AutoTokenizer.from_pretrained(where, trust_remote_code=False)
        other = "ForTokenClassification" if reads == "sequence" else "ForSequenceClassification"
        if any(name.endswith(other) for name in config.architectures or ()):
            raise UsageError(
                f"{where} is a {config.architectures[0]}: score.reward reads models of whole conversations (train.reward), "
                "score.process_reward those of steps (train.process_reward)."
            )
        if config.num_labels != 1:
            raise UsageError(f"{where} has {config.num_labels} outputs; a reward model has one.")
        with LOADING:
            model = getattr(transformers, kind).from_pretrained(
                where, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
            )
    except (OSError, ValueError) as problem:
        if isinstance(problem, UsageError):
            raise
        raise UsageError(f"There is no reward model {where}: {str(problem).splitlines()[0]}") from None
    if model.config.pad_token_id is None:  # the last token that is no padding is where a decoder's score is read
        model.config.pad_token_id = (
            tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        )
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval(), tokenizer


def outputs(model: Any, several: list[list[int]]) -> Any:
    """Return the logits of token sequences read together, padded at their right."""
    import torch

    longest, pad = max(map(len, several)), model.config.pad_token_id or 0
    ids = torch.tensor([tokens + [pad] * (longest - len(tokens)) for tokens in several])
    mask = torch.tensor([[1] * len(tokens) + [0] * (longest - len(tokens)) for tokens in several])
    with torch.inference_mode():
        return model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device)).logits.float().cpu()
