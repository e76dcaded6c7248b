"""train.cache_logits and train.distill reading it: the file says what the teacher says, and no other's file is taken."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_students import Here, copying, make_model, make_tokenizer, row_of

from limbeck.core.errors import InputError, UsageError
from limbeck.train._logit_store import LogitWriter, StoredTop, document_key
from limbeck.train.cache_logits import CacheLogits
from limbeck.train.distill import Distill
from limbeck.train.examples import Example, encode
from limbeck.train.sft import Sft
from limbeck.train.student import load_student, load_teacher

STUDENT = {"student": "embedded:student"}
GIVEN = STUDENT | {"updates": 12, "batch": 8, "learning_rate": 2e-3, "log_every": 1, "prefix": "data"}
VOCABULARY = 400


@dataclass
class Run(Here):
    """A context in which `embedded` is the teacher and `step:opinions` the cache."""

    teacher: Path | None = None
    opinions: Path | None = None

    def model(self, spec: str) -> Path:
        return self.teacher if spec == "embedded" else super().model(spec)

    def artefact(self, name: str) -> Path:
        return self.opinions


@pytest.fixture(scope="session")
def teacher(tmp_path_factory, student) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    given = STUDENT | {"updates": 60, "batch_tokens": 400, "learning_rate": 1e-2}
    list(Sft(**given).make(copying(300), Here(folder, student)))
    return folder / "student"


@pytest.fixture
def run(tmp_path, student, teacher):
    def make(name: str, opinions: Path | None = None) -> Run:
        (tmp_path / name).mkdir(exist_ok=True)
        return Run(tmp_path / name, student, teacher=teacher, opinions=opinions)

    return make


def cached(run, name="cache", rows=None, **fields) -> Path:
    context = run(name)
    list(CacheLogits(**STUDENT | {"teacher": "embedded"} | fields).make(rows or copying(40), context))
    return context.folder


def distilled(run, name, opinions=None, rows=None, **fields) -> tuple[list[float], dict, Path]:
    context = run(name, opinions)
    teacher = "step:opinions" if opinions else "embedded"
    list(Distill(**GIVEN | {"teacher": teacher} | fields).make(rows or copying(40), context))
    losses = [json.loads(line)["loss"] for line in (context.folder / "curve.jsonl").read_text().splitlines()]
    return losses, load_student(context.folder / "student").model.state_dict(), context.folder


def furthest(one: dict, other: dict) -> float:
    return max((one[name] - other[name]).abs().max().item() for name in one)


@pytest.mark.parametrize("divergence", ["forward", "reverse", "jsd"])
def test_the_whole_vocabulary_is_the_teacher_itself(run, divergence):
    near, with_cache, _ = distilled(run, "near", cached(run, k=VOCABULARY), divergence=divergence)
    far, with_teacher, _ = distilled(run, "far", divergence=divergence)
    assert near == pytest.approx(far, rel=2e-4, abs=2e-6)
    assert furthest(with_cache, with_teacher) < 2e-4


def test_few_tokens_are_close_and_the_rest_is_one_more(run):
    far, with_teacher, _ = distilled(run, "far", divergence="forward")
    apart = {}
    for k in (32, 2):
        near, with_cache, folder = distilled(run, f"near{k}", cached(run, f"cache{k}", k=k), divergence="forward")
        # merging tokens adds no divergence; later losses are those of other weights
        assert near[0] <= far[0] + 1e-5
        apart[k] = max(abs(a - b) / b for a, b in zip(near, far, strict=True))
        told = json.loads((folder / "train.json").read_text())
        assert told["cache"]["k"] == k and told["teacher"] == "step:opinions"
        assert furthest(with_cache, with_teacher) > 0
    assert apart[32] < 0.01 < apart[2], "more tokens are closer"


def test_half_precision_is_half_as_large_and_close(run):
    far, _, _ = distilled(run, "far", cached(run, "one", k=32), divergence="forward")
    near, _, _ = distilled(run, "near", cached(run, "half", k=32, log_probs="float16"), divergence="forward")
    assert near == pytest.approx(far, rel=0.02)
    sizes = [next(run(n).folder.glob("logits/part-*")).stat().st_size for n in ("one", "half")]
    assert sizes[1] < 0.75 * sizes[0]


def test_what_is_on_disk_is_what_the_teacher_says(run, teacher):
    folder, rows = cached(run, k=5), copying(40)
    model = load_teacher(teacher)
    documents, _ = encode(rows, model.tokenizer, model.stops, end=model.end)
    stored = StoredTop(folder / "logits")
    assert stored.header["documents"] == len({document_key(d) for d in documents})
    for document, (ids, log_probs) in zip(documents[:5], stored.top(documents[:5]), strict=True):
        with torch.no_grad():
            scores = model.model(torch.tensor([document.ids])).logits[0].double().log_softmax(-1)
        places = [i for i, trained in enumerate(document.trained) if trained]
        assert ids.shape == log_probs.shape == (len(places), 5)
        for place, own, values in zip(places, ids, log_probs, strict=True):
            best = scores[place - 1].topk(5)
            assert own.tolist() == best.indices.tolist() and values == pytest.approx(best.values.numpy(), abs=1e-4)


def test_a_writer_that_is_stopped_goes_on_after_its_last_part(run, monkeypatch):
    from limbeck.train import _logit_store, cache_logits

    monkeypatch.setattr(cache_logits, "TOGETHER", 8)
    monkeypatch.setattr(_logit_store, "PART_SECONDS", 0.0)
    asked: list[int] = []
    top = cache_logits.LocalTop.top

    def stops(self, documents):
        asked.append(len(documents))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return top(self, documents)

    monkeypatch.setattr(cache_logits.LocalTop, "top", stops)
    with pytest.raises(KeyboardInterrupt):
        cached(run, "cut", k=8)
    with pytest.raises(InputError, match="no finished cache"):
        distilled(run, "early", rows=copying(40), teacher=f"cache:{run('cut').folder / 'logits'}")
    cut, whole = cached(run, "cut", k=8), cached(run, "whole", k=8)
    documents = json.loads((whole / "logits" / "header.json").read_text())["documents"]
    assert sum(asked[:2]) + sum(asked[3 : len(asked) // 2 + 1]) < 2 * documents
    assert [h["rows"] for h in map(read, (cut, whole))] == [read(whole)["rows"]] * 2
    assert distilled(run, "a", cut)[0] == distilled(run, "b", whole)[0]


def read(folder: Path) -> dict:
    return json.loads((folder / "logits" / "header.json").read_text())


class TestForeignCaches:
    """Each is refused before anything is trained, and the sentence says why."""

    def test_other_rows_and_templates(self, run):
        folder = cached(run, k=4, rows=copying(10, seed=1))
        with pytest.raises(InputError, match=r"of 40 documents are not in the cache .* other rows"):
            distilled(run, "a", folder, rows=copying(40, seed=2))
        template = run("b").folder / "other.jinja"
        template.write_text(make_tokenizer().chat_template.replace("<user>", "<user> "))
        with pytest.raises(InputError, match="another chat template"):
            distilled(run, "b", folder, rows=copying(10, seed=1), chat_template=str(template))

    def test_another_tokenizer(self, run):
        folder = cached(run, k=4)
        file = folder / "logits" / "tokenizer" / "tokenizer.json"
        record = json.loads(file.read_text())
        record["model"]["merges"] = [m for m in record["model"]["merges"] if "".join(m) != "Ġred"]
        file.write_text(json.dumps(record))
        with pytest.raises(UsageError, match=r"different tokenizers: of '.*' token \d+ is"):
            distilled(run, "a", folder)

    def test_on_policy(self, run):
        folder = cached(run, k=4)
        with pytest.raises(UsageError, match="set prefix to 'data'"):
            distilled(run, "a", folder, prefix="student")

    def test_a_part_of_another_cache_and_a_part_that_is_missing(self, run):
        mine, other = cached(run, "mine", k=4), cached(run, "other", k=5)
        part = next((mine / "logits").glob("part-*"))
        kept = part.read_bytes()
        shutil.copy(next((other / "logits").glob("part-*")), part)
        with pytest.raises(InputError, match="belongs to another cache"):
            StoredTop(mine / "logits")
        part.unlink()
        with pytest.raises(InputError, match="a part is missing"):
            StoredTop(mine / "logits")
        part.write_bytes(kept[: len(kept) // 2])
        with pytest.raises(InputError, match="can not be read"):
            StoredTop(mine / "logits")
        (mine / "logits" / "header.json").write_text('{"format": 99}')
        with pytest.raises(InputError, match="has format 99"):
            StoredTop(mine / "logits")

    def test_names(self, run, tmp_path):
        with pytest.raises(UsageError, match="write teacher as"):
            CacheLogits(**STUDENT, teacher="anthropic:x")
        with pytest.raises(InputError, match="no finished cache of logits"):
            distilled(run, "a", teacher=f"cache:{tmp_path}")

    def test_a_wider_teacher(self, run, tmp_path):
        make_model(vocab_size=416).save_pretrained(tmp_path / "wide")
        make_tokenizer().save_pretrained(tmp_path / "wide")
        folder = cached(run, k=416, teacher=f"hf:{tmp_path / 'wide'}")
        with pytest.raises(UsageError, match="400 logits and the teacher 416"):
            distilled(run, "a", folder)
        losses, _, _ = distilled(run, "b", folder, shared_vocabulary=True, updates=2)
        assert all(np.isfinite(losses))


def test_resumed_training_is_bit_equal(run):
    folder = cached(run, k=16)
    whole = distilled(run, "whole", folder, updates=20, checkpoint_every="6")[2]
    cut = run("cut", folder)
    step = Distill(**GIVEN | {"teacher": "step:opinions", "updates": 20, "checkpoint_every": "6"})
    seen: list[int] = []

    def stop(done: int, total: int, note: str = "") -> None:
        seen.append(done)
        if done == 14:
            raise KeyboardInterrupt

    cut.progress = stop
    with pytest.raises(KeyboardInterrupt):
        list(step.make(copying(40), cut))
    list(step.make(copying(40), run("cut", folder)))
    assert json.loads((cut.folder / "train.json").read_text())["resumed_at"] == 12
    one, other = ((f / "student" / "model.safetensors").read_bytes() for f in (whole, cut.folder))
    assert one == other


def test_rows_that_do_not_fit_are_dropped_with_the_reason(run):
    rows = copying(10)
    long = row_of(("user", "Say red."), ("assistant", "red " * 90))
    made = list(CacheLogits(**STUDENT, teacher="embedded", max_length=60).make([*rows, long], run("cache")))
    assert [row.dropped for row in made[:-1]] == [None] * 10 and "over max_length 60" in made[-1].dropped


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=12),
    st.integers(1, 6),
    st.sampled_from([300, 65535, 65536, 200_000]),
    st.sampled_from(["float16", "float32"]),
    st.integers(1, 4000),
    st.integers(0, 2**32),
)
def test_written_and_read_is_the_same(tmp_path_factory, lengths, k, vocabulary, precision, part_bytes, seed):
    """Whatever the lengths, the vocabulary and the size of parts; fewer than k tokens come back as -1."""
    rng, folder = np.random.default_rng(seed), tmp_path_factory.mktemp("store")
    writer = LogitWriter(folder, "mine", k, vocabulary, precision, part_bytes=part_bytes)
    documents, wanted = [], []
    for place, length in enumerate(lengths):
        documents.append(Example(f"r{place}", (place, *range(length)), (False, *[True] * length)))
        ids = rng.integers(0, vocabulary, (length, k))
        ids[rng.random(ids.shape) < 0.2] = -1
        values = -rng.exponential(5, ids.shape).astype(precision).astype(np.float32)
        wanted.append((ids, values))
        writer.add(documents[-1], ids, values)
    writer.close({"teacher": "t"})
    order = rng.permutation(len(documents))
    got = StoredTop(folder).top([documents[i] for i in order])
    for i, (ids, values) in zip(order, got, strict=True):
        assert (ids == wanted[i][0]).all() and (values == wanted[i][1]).all()
