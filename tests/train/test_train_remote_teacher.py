"""train.distill and train.cache_logits with a teacher behind a server: it says the same there as here."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from prompt_server import serving
from tiny_students import Here, copying, make_model, make_tokenizer

from limbeck.core.errors import EndpointError, StepError, UsageError
from limbeck.core.row import Row
from limbeck.seeds.tasks import Tasks
from limbeck.teachers.embedded import Embedded
from limbeck.train._logit_store import StoredTop
from limbeck.train._remote_teacher import RemoteTop
from limbeck.train.cache_logits import CacheLogits
from limbeck.train.distill import Distill
from limbeck.train.examples import encode
from limbeck.train.student import load_student, load_teacher

STUDENT = {"student": "embedded:student"}
GIVEN = STUDENT | {"updates": 5, "batch": 6, "learning_rate": 2e-3, "log_every": 1, "max_tokens": 10}
VOCABULARY = 400


@dataclass
class Run(Here):
    teacher: Path | None = None

    def model(self, spec: str) -> Path:
        return self.teacher if spec == "embedded" else super().model(spec)


@pytest.fixture(scope="session")
def teacher(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    torch.manual_seed(7)
    model = make_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def run(tmp_path, student, teacher):
    def make(name: str) -> Run:
        (tmp_path / name).mkdir(exist_ok=True)
        return Run(tmp_path / name, student, teacher=teacher)

    return make


def distilled(run, name, **fields) -> tuple[list[float], dict]:
    context = run(name)
    rows = copying(12) if fields.get("prefix") == "data" else [replace(r, messages=r.messages[:1]) for r in copying(12)]
    list(Distill(**GIVEN | fields).make(rows, context))
    losses = [json.loads(line)["loss"] for line in (context.folder / "curve.jsonl").read_text().splitlines()]
    return losses, json.loads((context.folder / "train.json").read_text())


@pytest.mark.parametrize("way", ["prompt_logprobs", "echo"])
def test_a_server_that_tells_everything_is_the_teacher_itself(run, teacher, way):
    """On the student's own texts: five updates of reverse KL, from the weights and over HTTP."""
    near, _ = distilled(run, "near", teacher="embedded")
    with serving(teacher, way, busy=2) as server:
        far, told = distilled(run, "far", teacher=f"openai:m@{server.address}", teacher_k=VOCABULARY)
    assert far == pytest.approx(near, rel=1e-3, abs=1e-5)
    assert told["teacher_way"] == way and told["teacher_requests"] == 30
    sent = [body for path, body in server.asked if path == "/v1/completions"]
    assert all(body["model"] == "m" and all(isinstance(i, int) for i in body["prompt"]) for body in sent[2:])


def test_twenty_tokens_with_a_reward(run, teacher):
    """The divergence beside a reward is measured by the same few tokens."""
    given = {"reward": "score.exact", "samples": 3, "kl": 0.5, "divergence": "forward"}
    near, _ = distilled(run, "near", teacher="embedded", **given)
    with serving(teacher) as server:
        far, _ = distilled(run, "far", teacher=f"openai:m@{server.address}", **given)
    assert all(a <= b + 1e-4 for a, b in zip(far[:1], near[:1], strict=True)) and far[0] > 0.2 * near[0]


def test_a_cache_written_from_a_server_is_the_one_written_from_the_weights(run, teacher):
    given, found = STUDENT | {"k": 8}, []
    with serving(teacher) as server:
        for name, spec in (("here", "embedded"), ("there", f"openai:m@{server.address}")):
            list(CacheLogits(**given, teacher=spec).make(copying(12), run(name)))
            found.append(StoredTop(run(name).folder / "logits"))
    model = load_student(run("here").student)
    documents, _ = encode(copying(12), model.tokenizer, model.stops, end=model.end)
    for (ids, values), (others, other_values) in zip(*(stored.top(documents) for stored in found), strict=True):
        assert np.allclose(values, other_values, atol=1e-4) and (ids == others).mean() > 0.99
    assert found[1].header["teacher"].startswith("openai:m@") and found[1].header["teacher_requests"] <= 12


def test_another_tokenizer_is_found_out_by_asking(run, teacher, tmp_path):
    record = json.loads(make_tokenizer().backend_tokenizer.to_str())
    record["model"]["merges"] = [m for m in record["model"]["merges"] if "".join(m) != "Ġred"]
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    make_model().save_pretrained(tmp_path / "other")
    changed = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(record)), eos_token="<eos>")
    changed.save_pretrained(tmp_path / "other")
    for spells in (True, False):  # by /tokenize, and by the ids that come with log-probabilities
        with (
            serving(tmp_path / "other", spells=spells) as server,
            pytest.raises(UsageError, match="different tokenizers"),
        ):
            distilled(run, f"a{spells}", teacher=f"openai:m@{server.address}")


@pytest.mark.parametrize(
    ("way", "options", "error", "words"),
    [
        ("neither", {}, EndpointError, r"gives no log-probabilities of a prompt \(prompt_logprobs: .*echo: "),
        ("echo", {"spells": False}, UsageError, "does not say how it cuts text"),
        ("echo", {"busy": 10_000}, StepError, "did not answer 8 times"),
    ],
)
def test_servers_that_can_not(run, teacher, way, options, error, words):
    with serving(teacher, way, **options) as server, pytest.raises(error, match=words):
        distilled(run, "a", teacher=f"openai:m@{server.address}")


def test_a_teacher_that_only_writes():
    with pytest.raises(UsageError, match="can not tell the log-probabilities"):
        RemoteTop("echo:x", 4)


@pytest.fixture
def address(tmp_path_factory):
    for package in ("gguf", "xllamacpp"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"SKIPPED: {package} is not installed, so no llama.cpp is asked: pip install gguf xllamacpp")
    import xllamacpp

    scripts = str(Path(__file__).parents[2] / "scripts")
    sys.path.insert(0, scripts)
    try:
        from export_gguf import convert
    finally:
        sys.path.remove(scripts)
    path = tmp_path_factory.mktemp("gguf") / "teacher.gguf"
    convert(Embedded.folder(""), path)
    options = xllamacpp.CommonParams()
    options.model.path, options.n_ctx, options.port, options.n_gpu_layers = str(path), 1024, 0, 0
    options.n_parallel, options.warmup, options.cpuparams.n_threads = 2, False, 1
    server = xllamacpp.Server(options)
    yield server.listening_address + "/v1"
    del server


@pytest.mark.real
def test_llama_cpp_says_what_the_weights_say(address, tmp_path):
    """llama.cpp's own server with the embedded teacher in half precision: it is asked place by place."""
    rows = [r for r in Tasks(family=("chains",), count=3, seed=4, solved=True).rows() if isinstance(r, Row)]
    context = Run(tmp_path, Embedded.folder("student"))
    list(CacheLogits(**STUDENT, teacher=f"openai:m@{address}", k=5).make(rows, context))
    stored, model = StoredTop(tmp_path / "logits"), load_teacher(Embedded.folder(""))
    assert stored.header["teacher_way"] == "next"
    documents, _ = encode(rows, model.tokenizer, model.stops, end=model.end)
    for document, (ids, log_probs) in zip(documents, stored.top(documents), strict=True):
        with torch.no_grad():
            scores = model.model(torch.tensor([document.ids])).logits[0].log_softmax(-1)
        places = [i - 1 for i, trained in enumerate(document.trained) if trained]
        own = scores[places].gather(1, torch.from_numpy(ids)).numpy()
        likely = log_probs > -6
        assert np.abs(own - log_probs)[likely].max() < 0.05 and (ids >= 0).all()
