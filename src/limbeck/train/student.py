"""The student: a causal language model and its tokenizer, loaded from and saved to a Hugging Face folder.

    loaded = load_student(Path("qwen-0.5b"))           # any causal LM that transformers can load
    loaded.stops                                       # {151645, 151643}: the ids that end a turn at inference
    save_student(loaded, folder / "student")           # config.json model.safetensors tokenizer.json …

What would fail silently later is checked when the student is loaded: it has an end-of-text token, a chat template and
embeddings for all its tokens. Two properties that make training fast are not assumed but *tried* on the model itself:

* `separable`: head(backbone(x)) equals model(x), so that logits are computed for trained tokens only. (Models that
  scale or cap their logits are not.)
* `packable`: under a block-diagonal mask a document's output does not change with its neighbour and equals its output
  alone. (Models with other attention, and those that ignore the mask, are not.)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from limbeck.core.errors import InputError, UsageError
from limbeck.core.loading import LOADING
from limbeck.train.examples import Example
from limbeck.train.packing import MicroBatch, collate

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "bfloat16"]

PLAIN_TEMPLATE = (
    "{{ bos_token or '' }}{% for m in messages %}{{ m['role'] | capitalize }}:{{ '\n' + m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{{ '\n' }}{% endif %}"
)
"""For base models that have no template of their own; saved with the student."""

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


@dataclass(frozen=True, slots=True)
class LoadedStudent:
    """A model in float32 on its device, its tokenizer, and what was found out about them."""

    model: Any
    tokenizer: Any
    stops: frozenset[int]
    """The ids that end a turn at inference."""
    end: int
    """The id that is appended where the template writes no end of its own."""
    pad: int
    device: str
    separable: bool
    packable: bool
    precision: Precision = "float32"
    """What the model computes in; its weights and all losses are in float32."""
    adapter: Any = None
    """peft's view of the model, where only an adapter is trained."""

    @property
    def width(self) -> int:
        """How many logits the model has: its vocabulary with the padding."""
        return int(self.model.get_output_embeddings().weight.shape[0])


def load_student(path: Path, *, chat_template: str = "") -> LoadedStudent:
    """Load the model and the tokenizer of a Hugging Face folder, check them and try them.

    `chat_template` replaces the student's own: `plain`, or the path of a Jinja file. Raises InputError or UsageError.
    """
    if not (path / "config.json").is_file() or not any((path / name).is_file() for name in WEIGHTS):
        raise InputError(f"{path} holds no student: a Hugging Face folder has config.json and model.safetensors.")
    model, tokenizer = _read(path)
    if chat_template:
        tokenizer.chat_template = PLAIN_TEMPLATE if chat_template == "plain" else _template_file(chat_template)
    stops = _stops(model, tokenizer)
    _check(path, model, tokenizer, stops)
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else min(stops)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end
    with _still(model):
        separable, packable = _separable(model, pad, device), _packable(model, pad, device)
    return LoadedStudent(model, tokenizer, stops, end, pad, device, separable, packable)


def load_teacher(path: Path) -> LoadedStudent:
    """Load a model that is only read from: evaluation mode, no gradients; it needs no chat template. Raises InputError."""
    if not (path / "config.json").is_file() or not any((path / name).is_file() for name in WEIGHTS):
        raise InputError(f"{path} holds no model: a Hugging Face folder has config.json and model.safetensors.")
    model, tokenizer = _read(path)
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    stops = _stops(model, tokenizer)
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else min(stops, default=0)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end
    with _still(model):
        separable, packable = _separable(model, pad, device), _packable(model, pad, device)
    model.eval().requires_grad_(False)
    return LoadedStudent(model, tokenizer, stops, end, pad, device, separable, packable)


def _read(path: Path) -> tuple[Any, Any]:
    with LOADING:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        with LOADING:
            model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, local_files_only=True)
            tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"The student in {path} can not be loaded: {str(error).splitlines()[0]}") from error
    return model, tokenizer


def _template_file(name: str) -> str:
    path = Path(name).expanduser()
    if not path.is_file():
        raise UsageError(f"chat_template is '{name}', which is no file; give the path of a Jinja template, or 'plain'.")
    return path.read_text(encoding="utf-8")


def _stops(model: Any, tokenizer: Any) -> frozenset[int]:
    """Collect the end tokens that the tokenizer and the model's own settings name."""
    found: set[int] = set()
    generation = getattr(model, "generation_config", None)
    for value in (
        tokenizer.eos_token_id,
        getattr(model.config, "eos_token_id", None),
        getattr(generation, "eos_token_id", None),
    ):
        found.update([value] if isinstance(value, int) else value or [])
    return frozenset(found)


def _check(path: Path, model: Any, tokenizer: Any, stops: frozenset[int]) -> None:
    rows = model.get_input_embeddings().weight.shape[0]
    if not stops:
        raise UsageError(
            f"The student in {path} has no end-of-text token, so it could never learn to stop; "
            "set eos_token in its tokenizer_config.json."
        )
    if max(stops) >= rows or len(tokenizer) > rows:
        raise UsageError(
            f"The student in {path} has embeddings for {rows} tokens, but its tokenizer goes up to "
            f"{max(len(tokenizer) - 1, *stops)}; they do not belong together."
        )
    if not tokenizer.chat_template:
        raise UsageError(
            f"The student in {path} has no chat template; name one with chat_template: 'plain', or a Jinja file. "
            "It is saved with the student."
        )


@contextmanager
def _still(model: Any) -> Iterator[None]:
    """Without gradients and without dropout, then back to training."""
    import torch

    model.eval()
    with torch.no_grad():
        yield
    model.train()


def _probe(pad: int, device: str, *, neighbour: int) -> MicroBatch:
    """Two documents in one row, the second behind a first that is made of the token `neighbour`."""
    first = Example("probe", (neighbour,) * 5, (True,) * 5)
    second = Example("probe", (1, 2, 3, 1), (True,) * 4)
    return collate([[first, second]], pad, device)


def _separable(model: Any, pad: int, device: str) -> bool:
    import torch

    head = model.get_output_embeddings()
    if head is None or model.base_model is model:
        return False
    ids = _probe(pad, device, neighbour=2).ids_BS
    # small logits would pass a cap unchanged; a power of two makes them large and is taken back without rounding
    head.weight.mul_(1024.0)
    states = getattr(model.base_model(input_ids=ids), "last_hidden_state", None)
    same = states is not None and torch.allclose(head(states), model(input_ids=ids).logits, rtol=1e-4, atol=1e-2)
    head.weight.mul_(1 / 1024.0)
    return same


def _packable(model: Any, pad: int, device: str) -> bool:
    import inspect

    import torch

    if "position_ids" not in inspect.signature(model.forward).parameters or _windowed(model.config):
        return False
    packed, other = _probe(pad, device, neighbour=2), _probe(pad, device, neighbour=3)
    alone = model(input_ids=packed.ids_BS[:, 5:]).logits
    seen = [
        model(input_ids=b.ids_BS, attention_mask=b.mask_B1SS, position_ids=b.positions_BS, use_cache=False).logits[
            :, 5:
        ]
        for b in (packed, other)
    ]
    # beside a neighbour and alone may differ by rounding; a changed neighbour must change nothing
    return torch.equal(seen[0], seen[1]) and torch.allclose(seen[0], alone, rtol=1e-4, atol=1e-4)


def _windowed(config: Any) -> bool:
    # a mask of ours would replace the layers' own windows
    return any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or ())


def predicting_states(student: LoadedStudent, batch: MicroBatch) -> torch.Tensor:
    """Return the last hidden states of a separable model at the positions whose next token is trained on: [T, D]."""
    with _computing(student):
        states_BSD: torch.Tensor = student.model.base_model(**_given(batch)).last_hidden_state
    return states_BSD[batch.predicts_BS].float()


def predicting_logits(student: LoadedStudent, batch: MicroBatch) -> torch.Tensor:
    """Return the logits at the positions whose next token is trained on: [T, V], no others where the model allows it."""
    with _computing(student):
        if student.separable:
            logits_TV: torch.Tensor = student.model.get_output_embeddings()(predicting_states(student, batch))
            return logits_TV
        whole_BSV: torch.Tensor = student.model(**_given(batch)).logits
    return whole_BSV[batch.predicts_BS]


def _computing(student: LoadedStudent) -> AbstractContextManager[Any]:
    if student.precision == "float32":
        return nullcontext()
    import torch

    return torch.autocast(torch.device(student.device).type, torch.bfloat16)


def _given(batch: MicroBatch) -> dict[str, Any]:
    given: dict[str, Any] = {"input_ids": batch.ids_BS, "use_cache": False}
    if batch.mask_B1SS is not None:
        given |= {"attention_mask": batch.mask_B1SS, "position_ids": batch.positions_BS}
    return given


def summed_loss(student: LoadedStudent, batch: MicroBatch) -> torch.Tensor:
    """Return the cross-entropy of the trained tokens, summed, in float32; the caller divides by the whole update's count."""
    import torch.nn.functional as F

    return F.cross_entropy(predicting_logits(student, batch).float(), batch.targets_T, reduction="sum")


def save_student(student: LoadedStudent, folder: Path) -> None:
    """Write the student as a Hugging Face folder; it appears under its name only when it is whole.

    An adapter is merged into it, and stands beside it alone in `adapter`. Of several processes all call it, one writes.
    """
    import shutil

    from transformers import GenerationConfig

    from limbeck.train import _ranks
    from limbeck.train._adapter import merged, save_adapter
    from limbeck.train.checkpoint import all_weights

    weights = all_weights(student.model)
    if not _ranks.first():
        return
    writing = folder.with_name(folder.name + ".writing")
    for old in (writing, folder):
        if old.exists():
            shutil.rmtree(old)
    if student.adapter is not None:
        save_adapter(student.adapter, weights, folder.with_name("adapter"))
        weights = merged(student.model, weights)
    # defaults of the original, such as top_p 0.95, would silently change how the student is sampled (trl#6337)
    student.model.generation_config = GenerationConfig(
        bos_token_id=student.tokenizer.bos_token_id, eos_token_id=sorted(student.stops), pad_token_id=student.pad
    )
    student.model.save_pretrained(writing, state_dict=weights)
    student.tokenizer.save_pretrained(writing)
    writing.rename(folder)
