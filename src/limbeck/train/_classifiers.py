"""Causal models with one number instead of a next token: at the end of a conversation (reward), or at places in it (steps).

    load_classifier(folder, "sequence")   AutoModelForSequenceClassification, one output: read at the last token
    load_classifier(folder, "token")      AutoModelForTokenClassification, one output: read at any token

    document    <bos> Start with 12 … 17 <eos> <pad>        one token more than is read, so that the value at <eos>
    trained       -     -     -   -    -   -    yes         stands where a next token would be predicted: `predicting_states`

The folder may be a causal language model, whose blocks are taken over and whose head is new, or a classifier that was saved
before, whose head is kept. A new head is drawn from N(0, 1 / (d + 1)), as in Stiennon et al. 2020 (2009.01325), d being the
model's width, so that all values are near 0 at first.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from limbeck.core.errors import InputError, UsageError
from limbeck.core.loading import LOADING
from limbeck.core.row import Row
from limbeck.train import _ranks
from limbeck.train.examples import Example
from limbeck.train.packing import MicroBatch, collate
from limbeck.train.student import LoadedStudent, Precision, predicting_states

if TYPE_CHECKING:
    import torch

Reads = Literal["sequence", "token"]


def load_classifier(path: Path, reads: Reads, *, seed: int, precision: Precision = "float32") -> LoadedStudent:
    """Load a folder as a classifier with one output. Raises InputError where it is none and can not become one."""
    import torch

    model, tokenizer, new = _read(path, reads)
    if head_of(model) is None:
        raise InputError(f"{path} is no decoder: {type(model).__name__} has no head of its own over the last states.")
    if new:
        _draw(head_of(model), seed)
    end = tokenizer.eos_token_id
    pad = next((t for t in (tokenizer.pad_token_id, model.config.pad_token_id, end) if t is not None), None)
    if pad is None:
        raise InputError(f"The tokenizer of {path} has neither a padding nor an end-of-text token; set pad_token.")
    model.config.pad_token_id = pad
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return LoadedStudent(
        model.to(device).train(),
        tokenizer,
        frozenset(),
        pad if end is None else end,
        pad,
        device,
        True,
        False,
        precision,
    )


def head_of(model: Any) -> Any:
    """Return the layer that makes the output out of the last hidden states; None where there is none."""
    return getattr(model, "score", getattr(model, "classifier", None))


def values_of(loaded: LoadedStudent, batch: MicroBatch) -> torch.Tensor:
    """Return the output at each marked place, in the order of the documents: [T]."""
    values_T: torch.Tensor = head_of(loaded.model)(predicting_states(loaded, batch))[:, 0]
    return values_T


def measured(loaded: LoadedStudent, documents: Sequence[Example], micro_tokens: int) -> list[list[float]]:
    """Return the outputs at the marked places of each document, in evaluation mode. All processes call it."""
    from limbeck.train._spread import gathered_weights

    training = loaded.model.training
    loaded.model.eval()
    with gathered_weights(loaded.model):
        found = [_batch(loaded, documents[start:end]) for start, end in _spans(documents, micro_tokens)]
    loaded.model.train(training)
    return [values for several in found for values in several]


def save_classifier(loaded: LoadedStudent, folder: Path) -> None:
    """Write the model and its tokenizer; the folder appears under its name only when it is whole."""
    from limbeck.train.checkpoint import all_weights

    weights = all_weights(loaded.model)
    if not _ranks.first():
        return
    writing = folder.with_name(folder.name + ".writing")
    for old in (writing, folder):
        if old.exists():
            shutil.rmtree(old)
    loaded.model.save_pretrained(writing, state_dict=weights)
    loaded.tokenizer.save_pretrained(writing)
    writing.rename(folder)


def conversation_ids(tokenizer: Any, row: Row) -> list[int]:
    """Return the token ids of a whole conversation, written by the chat template where there is one."""
    turns = [{"role": message.role, "content": message.content} for message in row.messages]
    if tokenizer.chat_template:
        text = tokenizer.apply_chat_template(turns, tokenize=False)
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
    return list(tokenizer("\n\n".join(f"{turn['role']}: {turn['content']}" for turn in turns))["input_ids"])


def _read(path: Path, reads: Reads) -> tuple[Any, Any, bool]:
    """Return model, tokenizer, and whether the head is new."""
    with LOADING:
        import torch
        import transformers
        from transformers.utils import logging

    kind = "AutoModelForSequenceClassification" if reads == "sequence" else "AutoModelForTokenClassification"
    logging.disable_progress_bar()
    before = logging.get_verbosity()
    try:
        with LOADING:
            logging.set_verbosity_error()  # that the head is new is meant, and no reason to warn
            model, told = getattr(transformers, kind).from_pretrained(
                path, num_labels=1, dtype=torch.float32, local_files_only=True, output_loading_info=True
            )
            tokenizer = transformers.AutoTokenizer.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(f"The model in {path} can not become a reward model: {str(error).splitlines()[0]}") from error
    finally:
        logging.set_verbosity(before)
    return model, tokenizer, bool(told["missing_keys"])


def _draw(head: Any, seed: int) -> None:
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        head.weight.copy_(torch.randn(head.weight.shape, generator=generator) / (head.weight.shape[1] + 1) ** 0.5)
        if head.bias is not None:
            head.bias.zero_()


def _spans(documents: Sequence[Example], micro_tokens: int) -> list[tuple[int, int]]:
    """Cut a list into neighbours that fit in a micro-batch, or are one document."""
    spans, start, widest = [], 0, 0
    for place, document in enumerate(documents):
        widest = max(widest, len(document.ids))
        if place > start and (place + 1 - start) * widest > micro_tokens:
            spans.append((start, place))
            start, widest = place, len(document.ids)
    return [*spans, (start, len(documents))] if documents else []


def _batch(loaded: LoadedStudent, documents: Sequence[Example]) -> list[list[float]]:
    import torch

    with torch.no_grad():
        values_T = values_of(loaded, collate([[document] for document in documents], loaded.pad, loaded.device))
    found, start, several = values_T.tolist(), 0, []
    for document in documents:
        marks = sum(document.trained[1:])
        several.append(found[start : start + marks])
        start += marks
    return several


def refuse_adapter(rank: int) -> None:
    """Say that adapters do not go with a new head. Raises UsageError."""
    if rank:
        raise UsageError(
            "lora_rank does not go with a reward model: its head is new and has to be trained; set it to 0."
        )
