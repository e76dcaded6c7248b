"""Distil on real tiny Llamas: the student nears its teacher on either prefix, refuses what does not fit, survives a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from tiny_students import Here, copying, make_model, make_tokenizer, row_of

from limbeck.core.errors import InputError, SealedError, StepError, UsageError
from limbeck.train._prefixes import _advantages
from limbeck.train._reward import Reward
from limbeck.train._tokens_match import first_difference
from limbeck.train.distill import Distill
from limbeck.train.sft import Sft
from limbeck.train.student import load_student

FAST = {
    "student": "embedded:student",
    "updates": 30,
    "batch": 8,
    "learning_rate": 5e-3,
    "log_every": 5,
    "max_tokens": 12,
}


@dataclass
class Two(Here):
    """A context that knows a teacher too."""

    teacher: Path | None = None

    def model(self, spec: str) -> Path:
        return self.teacher if spec == "embedded" else super().model(spec)


@pytest.fixture(scope="session")
def teacher(tmp_path_factory, student) -> Path:
    """The student of these tests after it has learnt the task."""
    folder = tmp_path_factory.mktemp("teacher")
    given = {"student": "embedded:student", "updates": 150, "batch_tokens": 400, "learning_rate": 1e-2}
    list(Sft(**given).make(copying(400), Here(folder, student)))
    return folder / "student"


@pytest.fixture
def two(tmp_path, student, teacher):
    def make(name: str) -> Two:
        (tmp_path / name).mkdir(exist_ok=True)
        return Two(tmp_path / name, student, teacher=teacher)

    return make


def prompts(count: int, seed: int = 0):
    return [replace(row, messages=row.messages[:1]) for row in copying(count, seed)]


def curve(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]


def weights(folder: Path) -> bytes:
    return (folder / "student" / "model.safetensors").read_bytes()


def summary(folder: Path) -> dict:
    return json.loads((folder / "train.json").read_text())


@pytest.mark.parametrize(
    "options",
    [
        {"divergence": "reverse"},
        {"divergence": "forward"},
        {"divergence": "jsd", "prefix": "mixed", "rescale": True},
        {"divergence": "forward", "prefix": "data"},
    ],
)
def test_the_student_nears_the_teacher(two, options):
    context = two("run")
    rows = prompts(60) if options.get("prefix", "student") == "student" else copying(60)
    kept = list(Distill(teacher="embedded", **FAST | {"updates": 60} | options).make(rows, context))
    assert kept == rows
    lines = curve(context.folder)
    # a student that can write nothing yet learns slowly from its own writing alone
    most = 0.8 if options["divergence"] == "reverse" else 0.5
    assert lines[-1]["loss"] < most * lines[0]["loss"]
    assert ("rollout_length" in lines[0]) == (options.get("prefix") != "data")
    told = summary(context.folder)
    share = {"mixed": 0.5, "data": 0}.get(options.get("prefix"), 1)
    assert told["rollouts"] == pytest.approx(60 * 8 * share, rel=0.15)


def test_the_loss_is_the_divergence_on_what_the_student_wrote(two):
    """One update, one prompt, greedy: written again by generate and compared by hand, in 64 bits."""
    context, row = two("run"), prompts(1)[0]
    given = {"updates": 1, "batch": 1, "temperature": 0.0, "log_every": 1, "divergence": "reverse"}
    list(Distill(teacher="embedded", **FAST | given).make([row], context))
    one, other = load_student(context.student), load_student(context.teacher)
    text = f"<bos><user>{row.question}<assistant>"
    ids = torch.tensor([one.tokenizer(text, add_special_tokens=False)["input_ids"]])
    model = one.model.eval()
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12, eos_token_id=2, pad_token_id=0
    )
    with torch.no_grad():
        q, p = (m(out).logits[0, ids.shape[1] - 1 : -1].double().log_softmax(-1) for m in (model, other.model.eval()))
    expected = (q.exp() * (q - p)).sum(-1).mean().item()
    assert curve(context.folder)[0]["loss"] == pytest.approx(expected, rel=1e-5)
    assert summary(context.folder)["rollout_tokens"] == out.shape[1] - ids.shape[1]


def test_a_student_that_is_its_teacher_has_nothing_to_learn(two):
    context = two("run")
    list(
        Distill(**FAST | {"student": f"hf:{context.teacher}", "updates": 2, "log_every": 1}, teacher="embedded").make(
            prompts(9), context
        )
    )
    assert curve(context.folder)[0]["loss"] == pytest.approx(0, abs=1e-6)


def test_splitting_and_packing_do_not_change_an_update(two):
    made = []
    for name, extra in {"whole": {}, "split": {"micro_tokens": 40}, "packed": {"pack_width": 80}}.items():
        given = FAST | {"updates": 3, "learning_rate": 1e-3} | extra
        list(Distill(teacher="embedded", **given).make(prompts(30), two(name)))
        made.append(load_student(two(name).folder / "student").model.state_dict())
    for name, tensor in made[0].items():
        assert all(torch.allclose(tensor, other[name], atol=3e-4) for other in made[1:]), name


class TestReward:
    """Reward minus kl times the divergence: a word that a verifier likes."""

    GIVEN = FAST | {"reward": "score.exact", "samples": 8, "batch": 32, "updates": 40}

    def rows(self):
        # the teacher repeats the last word; the verifier wants "It is red." whatever was asked
        return [replace(r, task={"kind": "exact", "reference": "It is red."}) for r in prompts(40)]

    def run(self, two, name, **given):
        context = two(name)
        step = Distill(teacher="embedded", **self.GIVEN | {"student": f"hf:{context.teacher}"} | given)
        list(step.make(self.rows(), context))
        return curve(context.folder)

    def test_it_rises_and_the_divergence_holds_it_back(self, two):
        free = self.run(two, "free", kl=0.0, temperature=1.5)
        held = self.run(two, "held", kl=20.0, temperature=1.5)
        assert free[-1]["reward"] > free[0]["reward"] + 0.25
        assert held[-1]["reward"] < free[-1]["reward"] - 0.2
        assert free[-1]["divergence"] == 0 < held[-1]["divergence"]

    def test_rollouts_of_several_updates(self, two):
        again = self.run(two, "again", kl=0.05, temperature=1.5, refresh=4)
        assert again[-1]["reward"] > again[0]["reward"]

    def test_advantages(self):
        assert _advantages([1.0, 0.0, 0.0, 0.0], 4) == pytest.approx([3**0.5, *[-(3**-0.5)] * 3], rel=1e-3)
        assert _advantages([1.0, 1.0], 2) == [0.0, 0.0]

    def test_verifiers_that_run_code_and_those_that_ask_a_model(self):
        row = row_of(
            ("user", "Add."),
            ("assistant", "```python\ndef add(a, b):\n    return a + b\n```"),
            task={"kind": "code", "tests": ["assert add(1, 2) == 3"], "entry_point": "add"},
        )
        wrong = replace(
            row,
            messages=(
                row.messages[0],
                replace(row.messages[1], content="```python\ndef add(a, b):\n    return a\n```"),
            ),
        )
        assert Reward("score.code", "verified")([row, wrong]) == [1.0, 0.0]
        with pytest.raises(StepError, match="asks a model"):
            Reward("score.judge", "judge_overall", {"teacher": "embedded"})([row])
        with pytest.raises(UsageError, match="gives no score 'reward'"):
            Reward("score.code", "reward")([row])
        with pytest.raises(UsageError, match="does not score one row at a time"):
            Reward("select.pairs", "verified")


def test_rows_are_checked(two):
    with pytest.raises(InputError, match="no response"):
        list(Distill(teacher="embedded", **FAST, prefix="data").make(prompts(3), two("a")))
    with pytest.raises(SealedError):
        list(Distill(teacher="embedded", **FAST).make([row_of(("user", "Say red."), sealed=True)], two("b")))
    long = row_of(("user", "Say " + "red " * 70 + "."))
    out = list(
        Distill(teacher="embedded", **FAST | {"updates": 1, "max_length": 60}).make([*prompts(9), long], two("c"))
    )
    assert [r.dropped for r in out[:-1]] == [None] * 9 and "no room for an answer" in out[-1].dropped
    for options, words in (
        ({"reward": "score.math"}, "samples of 2 or more"),
        ({"batch": 9, "samples": 2}, "multiple of samples"),
        ({"teacher": "anthropic:big"}, "write teacher as"),
        ({"reward": "score.math", "samples": 2, "temperature": 0.0}, "temperature above 0"),
    ):
        with pytest.raises(UsageError, match=words):
            Distill(**{"teacher": "embedded"} | FAST | options)


class TestThatTheTwoFit:
    """Tokenizers, ends, templates and vocabularies are held against each other before anything is trained."""

    def other(self, tmp_path, model=None, tokenizer=None) -> Path:
        (model or make_model()).save_pretrained(tmp_path / "other")
        (tokenizer or make_tokenizer()).save_pretrained(tmp_path / "other")
        return tmp_path / "other"

    def refused(self, two, folder, words, **given):
        with pytest.raises(UsageError, match=words):
            list(Distill(teacher=f"hf:{folder}", **FAST | given).make(prompts(3), two("run")))

    def test_another_tokenizer_of_the_same_size(self, two, tmp_path):
        record = json.loads(make_tokenizer().backend_tokenizer.to_str())
        # the same tokens, of which one is never made
        record["model"]["merges"] = [m for m in record["model"]["merges"] if "".join(m) != "Ġred"]
        from tokenizers import Tokenizer
        from transformers import PreTrainedTokenizerFast

        changed = PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer.from_str(json.dumps(record)),
            bos_token="<bos>",
            eos_token="<eos>",
            pad_token="<pad>",
        )
        assert len(changed) == len(make_tokenizer()) and changed.get_vocab() == make_tokenizer().get_vocab()
        said = first_difference(make_tokenizer(), changed, [row.question for row in copying(50)])
        assert said and "to the student and" in said
        self.refused(two, self.other(tmp_path, tokenizer=changed), r"different tokenizers: of '.*' token \d+ is")

    def test_an_id_that_means_something_else(self, two, tmp_path):
        record = json.loads(make_tokenizer().backend_tokenizer.to_str())
        vocabulary = record["model"]["vocab"]
        (a, i), (b, j) = list(vocabulary.items())[300:302]
        vocabulary[a], vocabulary[b] = j, i
        from tokenizers import Tokenizer
        from transformers import PreTrainedTokenizerFast

        changed = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(record)), eos_token="<eos>")
        self.refused(two, self.other(tmp_path, tokenizer=changed), rf"the token {min(i, j)} is")

    def test_another_end_of_turn(self, two, tmp_path):
        model = make_model()
        model.generation_config.eos_token_id = [2, 4]
        folder = self.other(tmp_path, model)
        self.refused(two, folder, "ends its turn with '<eos>' and the teacher with '<eos>', '<assistant>'")
        list(Distill(teacher=f"hf:{folder}", **FAST | {"updates": 1}, prefix="data").make(copying(9), two("data")))

    def test_another_template(self, two, tmp_path):
        tokenizer = make_tokenizer()
        tokenizer.chat_template = tokenizer.chat_template.replace("<user>", "<user> ")
        folder = self.other(tmp_path, tokenizer=tokenizer)
        self.refused(two, folder, "chat template writes")
        list(
            Distill(teacher=f"hf:{folder}", **FAST | {"updates": 1}, other_template=True).make(prompts(9), two("other"))
        )

    def test_a_padded_vocabulary(self, two, tmp_path):
        folder = self.other(tmp_path, make_model(vocab_size=416))
        self.refused(two, folder, "400 logits and the teacher 416")
        context = two("run")
        list(Distill(teacher=f"hf:{folder}", **FAST | {"updates": 2}, shared_vocabulary=True).make(prompts(9), context))
        outside = summary(context.folder)["mass_outside"]
        assert 0 < outside["teacher"] < 1


RESUMABLE = FAST | {
    "updates": 60,
    "log_every": 3,
    "checkpoint_every": "9",
    "teacher": "embedded",
    "prefix": "mixed",
    "refresh": 4,
    "divergence": "jsd",
}
KILLED = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from test_train_distill import Two, copying
from limbeck.train.distill import Distill
folder, base, teacher = map(Path, sys.argv[2:5])
list(Distill(**json.loads(sys.argv[5])).make(copying(60), Two(folder, base, teacher=teacher)))
"""


def test_killed_and_run_again_is_bit_equal_to_uninterrupted(tmp_path, teacher):
    """SIGKILL between two generations, with rollouts waiting: checkpoints come every 9 updates, rollouts every 4."""
    base, cut, whole = tmp_path / "base", tmp_path / "cut", tmp_path / "whole"
    make_model(attention_dropout=0.1).save_pretrained(base)
    make_tokenizer().save_pretrained(base)
    cut.mkdir()
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(cut), str(base), str(teacher)]
    process = subprocess.Popen(
        [*command, json.dumps(RESUMABLE)], env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE
    )
    far, deadline = "update-000000[234]*.pt", time.monotonic() + 300
    while not list((cut / "checkpoints").glob(far)) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.001)
    found = list((cut / "checkpoints").glob(far))
    assert found, "no checkpoint to be killed after"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"
    for folder in (cut, whole):
        folder.mkdir(exist_ok=True)
        list(Distill(**RESUMABLE).make(copying(60), Two(folder, base, teacher=teacher)))
    assert weights(cut) == weights(whole)
    timeless = [[{k: v for k, v in line.items() if k != "seconds"} for line in curve(f)] for f in (cut, whole)]
    assert timeless[0] == timeless[1] and len(timeless[0]) == 20
    starts = [summary(f)["resumed_at"] for f in (cut, whole)]
    assert starts[0] >= 20 and starts[1] == 0
    buffered = torch.load(max((whole / "checkpoints").glob("*.pt")), weights_only=True)["state"]
    assert list(buffered["stream"]["buffer"]) == [54, 55], "the last checkpoint held no rollouts"
