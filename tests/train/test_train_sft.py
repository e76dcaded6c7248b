"""Sft on a real tiny Llama: it learns, it goes on bit for bit after a kill, and its loss is what it says it is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tiny_students import WORDS, Here, copying, make_model, make_tokenizer, row_of

from limbeck.core.errors import InputError, SealedError, StepError, UsageError
from limbeck.train.sft import Sft
from limbeck.train.student import load_student, summed_loss

FAST = {"updates": 40, "batch_tokens": 400, "learning_rate": 1e-2, "student": "embedded:student"}


def curve(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]


def weights(folder: Path) -> bytes:
    return (folder / "student" / "model.safetensors").read_bytes()


def accuracy(folder: Path, rows) -> float:
    """Greedy answers of a saved student, through plain transformers."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    right = 0
    for row in rows:
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": row.question}], add_generation_prompt=True, return_tensors="pt"
        )["input_ids"]
        out = model.generate(ids, max_new_tokens=8, do_sample=False, attention_mask=torch.ones_like(ids))
        right += tokenizer.decode(out[0, ids.shape[1] :]) == row.response + "<eos>"
    return right / len(rows)


def test_it_learns_to_copy(here, student):
    rows, unseen = copying(400), copying(30, seed=99)
    context = here("run")
    kept = list(Sft(**FAST | {"updates": 150}).make(rows, context))
    assert kept == rows
    losses = [line["loss"] for line in curve(context.folder)]
    assert losses[-1] < 0.3 < 2 < losses[0]
    assert accuracy(student, unseen) == 0
    assert accuracy(context.folder / "student", unseen) > 0.9


def test_what_is_written(here):
    context = here("run")
    list(Sft(**FAST).make(copying(50), context))
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {
        f.name for f in (context.folder / "student").iterdir()
    }
    lines = curve(context.folder)
    assert [line["update"] for line in lines] == [10, 20, 30, 40]
    assert set(lines[0]) == {"update", "loss", "lr", "tokens", "seconds"}
    summary = json.loads((context.folder / "train.json").read_text())
    assert summary["updates"] == 40 and summary["tokens"] == lines[-1]["tokens"] <= 40 * 400
    assert summary["last_loss"] < summary["first_loss"]
    assert context.told[-1][:2] == (40, 40)
    assert not list(context.folder.rglob("*.writing"))
    assert json.loads((context.folder / "student" / "generation_config.json").read_text())["eos_token_id"] in (2, [2])


def test_one_seed_one_student_and_another_seed_another(here):
    rows = copying(60)
    folders = [here(name) for name in ("a", "b", "c")]
    for context, seed in zip(folders, (0, 0, 1), strict=True):
        list(Sft(**FAST | {"updates": 5, "seed": seed}).make(rows, context))
    a, b, c = (weights(context.folder) for context in folders)
    assert a == b != c


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_micro_batches_and_packing_do_not_change_the_training(here, optimizer):
    """The same updates, whole, split into many micro-batches, and packed: the same student up to rounding."""
    rows, made = copying(60, length=8), []
    for name, extra in {"whole": {}, "split": {"micro_tokens": 60}, "packed": {"pack_width": 64}}.items():
        context = here(name)
        list(Sft(**FAST | {"updates": 6, "optimizer": optimizer, "learning_rate": 1e-3} | extra).make(rows, context))
        made.append((load_student(context.folder / "student").model.state_dict(), curve(context.folder)))
    for state, lines in made[1:]:
        assert lines[0]["loss"] == pytest.approx(made[0][1][0]["loss"], rel=1e-4)
        for name, tensor in state.items():
            assert torch.allclose(tensor, made[0][0][name], atol=3e-4), name
    assert json.loads((here("packed").folder / "train.json").read_text())["packed"] is True


def test_the_first_loss_is_the_mean_cross_entropy_of_the_trained_tokens(here, student, tokenizer):
    """Against transformers' own loss with hand-made labels, all rows in one update."""
    rows, context = copying(12), here("run")
    list(Sft(**FAST | {"updates": 1, "batch_tokens": 10_000, "log_every": 1}).make(rows, context))
    total, count, model = 0.0, 0, load_student(student).model.eval()
    for row in rows:
        prompt = tokenizer(f"<bos><user>{row.question}<assistant>", add_special_tokens=False)["input_ids"]
        whole = tokenizer(f"<bos><user>{row.question}<assistant>{row.response}<eos>", add_special_tokens=False)[
            "input_ids"
        ]
        labels = torch.tensor([[-100] * len(prompt) + whole[len(prompt) :]])
        n = len(whole) - len(prompt)
        with torch.no_grad():
            total += model(input_ids=torch.tensor([whole]), labels=labels).loss.item() * n
        count += n
    # the plan may take a row twice to fill the update; with room to spare it takes whole epochs
    summary = json.loads((context.folder / "train.json").read_text())
    assert summary["trained_tokens"] % count == 0 or summary["trained_tokens"] > count
    assert curve(context.folder)[0]["loss"] == pytest.approx(total / count, rel=0.03)


RESUMABLE = FAST | {"updates": 60, "log_every": 3, "checkpoint_every": "7"}
KILLED = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tiny_students import Here, copying
import torch
torch.set_num_threads(1)
from limbeck.train.sft import Sft
list(Sft(**json.loads(sys.argv[4])).make(copying(100), Here(Path(sys.argv[2]), Path(sys.argv[3]))))
"""


def test_killed_and_run_again_is_bit_equal_to_uninterrupted(tmp_path):
    """SIGKILL a real process after some checkpoints; the rerun ends in the same bytes. Dropout makes the RNG matter."""
    base, cut, whole = tmp_path / "base", tmp_path / "cut", tmp_path / "whole"
    make_model(attention_dropout=0.1).save_pretrained(base)
    make_tokenizer().save_pretrained(base)
    cut.mkdir()
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(cut), str(base), json.dumps(RESUMABLE)]
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE)
    far, deadline = "update-000000[2345]*.pt", time.monotonic() + 300
    while not list((cut / "checkpoints").glob(far)) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.001)
    assert list((cut / "checkpoints").glob(far)), "no checkpoint to be killed after"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"
    assert not (cut / "student").exists()
    for folder in (cut, whole):
        folder.mkdir(exist_ok=True)
        list(Sft(**RESUMABLE).make(copying(100), Here(folder, base)))
    assert weights(cut) == weights(whole)
    timeless = [[{k: v for k, v in line.items() if k != "seconds"} for line in curve(f)] for f in (cut, whole)]
    assert timeless[0] == timeless[1] and len(timeless[0]) == 20
    starts = [json.loads((f / "train.json").read_text())["resumed_at"] for f in (cut, whole)]
    assert starts[0] >= 20 and starts[1] == 0, "the rerun began anew instead of going on"


def test_a_checkpoint_of_other_settings_is_not_used(here):
    rows, context, fresh = copying(50), here("run"), here("fresh")
    list(Sft(**FAST | {"updates": 10, "checkpoint_every": "5"}).make(rows, context))
    other = FAST | {"updates": 10, "checkpoint_every": "5", "learning_rate": 1e-3}
    list(Sft(**other).make(rows, context))
    list(Sft(**other).make(rows, fresh))
    assert weights(context.folder) == weights(fresh.folder)
    assert len(curve(context.folder)) == 1


def test_rows_that_are_too_long_are_dropped_with_the_reason_and_the_rest_trained_on(here):
    long = row_of(("user", "Say " + " ".join(WORDS * 9) + "."), ("assistant", "It is brown."))
    out = list(Sft(**FAST | {"updates": 2, "max_length": 60}).make([*copying(20), long], here("run")))
    assert [row.dropped for row in out[:-1]] == [None] * 20
    assert out[-1].id == long.id and out[-1].dropped.startswith("train.sft: ") and "max_length 60" in out[-1].dropped


def test_refusals(here, student, tmp_path):
    sealed = row_of(("user", "Say red."), ("assistant", "red"), sealed=True)
    with pytest.raises(SealedError):
        list(Sft(**FAST).make([*copying(3), sealed], here("a")))
    with pytest.raises(UsageError, match="No row can be trained on"):
        list(Sft(**FAST | {"max_length": 3}).make(copying(3), here("b")))
    with pytest.raises(InputError, match="holds no student"):
        list(Sft(**FAST | {"student": f"hf:{tmp_path}"}).make(copying(3), here("c")))
    with pytest.raises(UsageError, match="embedded:student, hf:PATH or step:NAME"):
        Sft(student="gpt2")
    with pytest.raises(UsageError, match="checkpoint_every"):
        Sft(student="embedded:student", checkpoint_every="often")
    with pytest.raises(StepError, match=r"not a number.*learning rate"):
        list(Sft(**FAST | {"learning_rate": 1e30, "clip": 0.0}).make(copying(20), here("d")))


def test_students_that_could_never_work_are_refused(tmp_path):
    def saved(name: str, model, tokenizer) -> Path:
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        return tmp_path / name

    endless = make_tokenizer()
    endless.eos_token = None
    with pytest.raises(UsageError, match="no end-of-text token"):
        load_student(saved("endless", make_model(eos_token_id=None), endless))
    silent = make_tokenizer()
    silent.chat_template = None
    folder = saved("silent", make_model(), silent)
    with pytest.raises(UsageError, match="no chat template"):
        load_student(folder)
    plain = load_student(folder, chat_template="plain").tokenizer
    asked = plain.apply_chat_template(
        [{"role": "user", "content": "Say red."}], tokenize=False, add_generation_prompt=True
    )
    assert asked == "<bos>User:\nSay red.\nAssistant:\n"
    with pytest.raises(UsageError, match="no file"):
        load_student(folder, chat_template="nowhere.jinja")
    with pytest.raises(UsageError, match="do not belong together"):
        load_student(saved("small", make_model(vocab_size=300), make_tokenizer()))


def _gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    tokens = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    return GPT2LMHeadModel(GPT2Config(vocab_size=400, n_positions=128, n_embd=32, n_layer=2, n_head=2, **tokens))


def _gemma2():
    # logits capped and layers with a sliding window: neither short cut applies
    from transformers import Gemma2Config, Gemma2ForCausalLM

    shape = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
    }
    tokens = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    return Gemma2ForCausalLM(
        Gemma2Config(vocab_size=400, head_dim=16, sliding_window=8, final_logit_softcapping=30.0, **shape, **tokens)
    )


@pytest.mark.parametrize(
    ("make", "separable", "packable"), [(make_model, True, True), (_gpt2, True, True), (_gemma2, False, False)]
)
def test_short_cuts_are_tried_on_the_model_and_the_loss_is_right_either_way(here, tmp_path, make, separable, packable):
    torch.manual_seed(0)
    make().save_pretrained(tmp_path / "other")
    make_tokenizer().save_pretrained(tmp_path / "other")
    student = load_student(tmp_path / "other")
    assert (student.separable, student.packable) == (separable, packable)
    context = here("run")
    list(Sft(**FAST | {"student": f"hf:{tmp_path / 'other'}", "pack_width": 64}).make(copying(60), context))
    losses = [line["loss"] for line in curve(context.folder)]
    assert losses[-1] < losses[0] - 0.5
    assert json.loads((context.folder / "train.json").read_text())["packed"] is packable


def test_the_summed_loss_equals_transformers(student):
    from limbeck.train.examples import Example
    from limbeck.train.packing import collate

    loaded = load_student(student)
    document = Example("a", (1, 3, 9, 8, 4, 7, 6, 2), (False,) * 5 + (True,) * 3)
    labels = torch.tensor([[-100] * 5 + [7, 6, 2]])
    loaded.model.eval()
    with torch.no_grad():
        theirs = loaded.model(input_ids=torch.tensor([document.ids]), labels=labels).loss.item() * 3
        ours = summed_loss(loaded, collate([[document]], pad=0)).item()
    assert ours == pytest.approx(theirs, rel=1e-5)
