"""LoRA on real tiny models: only adapters train, the merged student answers as the unmerged one, and a kill changes nothing."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_students import Here, copying, make_tokenizer

from limbeck.core.errors import UsageError
from limbeck.train.distill import Distill
from limbeck.train.preference import Preference
from limbeck.train.sft import Sft

pytest.importorskip("peft", reason="SKIPPED: `peft` is not installed.")

LORA = {"student": "embedded:student", "lora_rank": 4, "learning_rate": 1e-2, "updates": 12}
IDS = torch.tensor([[1, 3, 9, 40, 77, 4, 60, 61]])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "student" / "model.safetensors")


def pairs(count: int):
    wrong = {"rejected": [{"role": "assistant", "content": "It is red today."}], "pair": {"shared": 1}}
    return [replace(row, extra=wrong) for row in copying(count)]


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(IDS).logits


def test_only_the_adapter_is_trained_and_kept(here, student):
    context, before = here("run"), load_file(student / "model.safetensors")
    list(Sft(**LORA, checkpoint_every="6").make(copying(60), context))
    after = weights(context.folder)
    assert list(after) == list(before)
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed == {name for name in after if "_proj" in name}
    (kept,) = (context.folder / "checkpoints").iterdir()
    saved = torch.load(kept, weights_only=True)["model"]
    assert saved and all(".lora_" in name for name in saved)
    told = json.loads((context.folder / "train.json").read_text())
    assert told["trained_parameters"] == sum(t.numel() for t in saved.values()) < told["parameters"] / 2
    assert told["last_loss"] < told["first_loss"]


def _gpt2(folder: Path) -> Path:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    tokens = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    GPT2LMHeadModel(
        GPT2Config(vocab_size=400, n_positions=128, n_embd=32, n_layer=2, n_head=2, **tokens)
    ).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft's use of transformers
@pytest.mark.parametrize("layout", ["llama", "gpt2"])
def test_the_merged_student_answers_as_the_base_with_the_adapter(here, student, tmp_path, layout):
    """GPT-2's matrices are transposed, and its blocks have biases."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = student if layout == "llama" else _gpt2(tmp_path / "gpt2")
    context = here("run")
    list(Sft(**LORA | {"student": f"hf:{base}"}).make(copying(40), context))
    plain = AutoModelForCausalLM.from_pretrained(base)
    untrained = logits(plain)
    unmerged = logits(PeftModel.from_pretrained(plain, context.folder / "adapter"))
    merged = logits(AutoModelForCausalLM.from_pretrained(context.folder / "student"))
    assert torch.allclose(merged, unmerged, atol=1e-5)
    assert not torch.allclose(merged, untrained, atol=0.1)


def test_named_modules_alone_are_adapted(here, student):
    context, before = here("run"), load_file(student / "model.safetensors")
    list(Sft(**LORA, lora_modules=("q_proj", "v_proj"), lora_alpha=4.0).make(copying(40), context))
    changed = {n for n, tensor in weights(context.folder).items() if not torch.equal(tensor, before[n])}
    assert changed == {name for name in before if "q_proj" in name or "v_proj" in name}


def test_the_reference_of_preferences_is_the_base(here):
    """The adapter is off while the reference is computed: the same numbers as without one, and a first margin of 0."""
    whole, adapted = here("whole"), here("adapted")
    given = {"student": "embedded:student", "updates": 4, "batch": 8, "log_every": 1}
    list(Preference(**given).make(pairs(20), whole))
    list(Preference(**given, lora_rank=4).make(pairs(20), adapted))
    scores = [json.loads((c.folder / "reference.json").read_text())["scores"] for c in (whole, adapted)]
    assert scores[0] == scores[1]
    lines = [json.loads(line) for line in (adapted.folder / "curve.jsonl").read_text().splitlines()]
    assert lines[0]["margin"] == pytest.approx(0, abs=1e-5) and lines[-1]["margin"] > 0


@dataclass
class Stopping(Here):
    """A context in which training ends, as if killed, when it tells of update `stop`."""

    stop: int = 0

    def progress(self, done: int, total: int, note: str = "") -> None:
        if self.stop and done >= self.stop and note.startswith("loss"):
            raise KeyboardInterrupt


@pytest.mark.parametrize("method", ["sft", "distill", "preference"])
def test_stopped_and_run_again_is_bit_equal_to_uninterrupted(tmp_path, student, method):
    given = LORA | {"log_every": 1, "checkpoint_every": "5"}
    step, rows = {
        "sft": (Sft(**given, batch_tokens=200), copying(40)),
        "distill": (
            Distill(**given, teacher="embedded:student", batch=4, max_tokens=8, kl=1.0),
            [replace(row, messages=row.messages[:1]) for row in copying(40)],
        ),
        "preference": (Preference(**given, batch=4), pairs(20)),
    }[method]
    folders = tmp_path / "cut", tmp_path / "whole"
    for folder in folders:
        folder.mkdir()
    with pytest.raises(KeyboardInterrupt):
        list(step.make(rows, Stopping(folders[0], student, stop=8)))
    for folder in folders:
        list(step.make(rows, Here(folder, student)))
    assert json.loads((folders[0] / "train.json").read_text())["resumed_at"] == 5
    for name in ("student/model.safetensors", "adapter/adapter_model.safetensors"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def test_refusals(here, monkeypatch):
    with pytest.raises(UsageError, match="fit no layer of the student"):
        list(Sft(**LORA, lora_modules=("nowhere",)).make(copying(3), here("a")))
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UsageError, match="pip install peft"):
        list(Sft(**LORA).make(copying(3), here("b")))
