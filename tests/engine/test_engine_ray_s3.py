"""A run whose folder is a bucket: against a local S3 server, with nothing of it left on the machine that goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import clusters
from clusters import Mock, load, paid, rows_of, run_local, run_ray, write_prompts
from limbeck import Recipe, api
from limbeck.core.errors import StorageError, UsageError
from limbeck.core.find import find_step
from limbeck.engine.cluster.store import Folder, Store, open_store
from running import PARTS

pytestmark = clusters.GROUP


@pytest.fixture(scope="module", autouse=True)
def cluster() -> None:
    clusters.start_cluster()


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    return clusters.start_s3()


@pytest.fixture
def mock() -> Iterator[Mock]:
    with Mock(latency=0.01) as server:
        yield server


@pytest.mark.parametrize("kind", ["folder", "file://", "s3://"])
def test_all_stores_do_the_same(kind: str, tmp_path: Path, bucket: str) -> None:
    address = {"folder": str(tmp_path / "a b"), "file://": f"file://{tmp_path}/a%20b", "s3://": f"{bucket}/a"}[kind]
    store: Store = open_store(address)
    assert list(store.names("")) == [] and not store.exists("x/1.json")
    store.write("x/1.json", b"one")
    store.write("x/1.json", b"two")
    store.write("x/0.json", b"nought")
    store.write("y.json", b"")
    assert list(store.names("x")) == ["x/0.json", "x/1.json"] and store.read("x/1.json") == b"two"
    assert list(store.names("")) == ["x/0.json", "x/1.json", "y.json"] and store.exists("y.json")
    with store.open("x/0.json") as file:
        file.seek(2)
        assert file.read() == b"ught"
    store.delete("x/0.json")
    store.delete("x/0.json")
    assert list(store.names("x")) == ["x/1.json"]
    with pytest.raises(FileNotFoundError):
        store.read("x/0.json")
    with pytest.raises(FileNotFoundError):
        store.open("x/0.json").read()
    assert isinstance(store, Folder) is (kind != "s3://")


def test_stores_that_can_not_be_used_say_so(bucket: str) -> None:
    with pytest.raises(StorageError, match=r"s3://no-such-bucket/x could not be used: .* Check the bucket"):
        open_store("s3://no-such-bucket/x").write("a", b"a")
    with pytest.raises(UsageError, match="gopher:// can not be used here"):
        open_store("gopher://there/x")


def test_a_run_in_a_bucket_goes_on_on_another_machine_without_asking_again(
    bucket: str, tmp_path: Path, mock: Mock, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = str(write_prompts(tmp_path / "p.jsonl", 60))
    local, _ = run_local(load(prompts, f"openai:m@{mock.url}"), tmp_path / "local")
    asked = mock.stats()["arrived"]
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "one.sqlite"))
    out = f"{bucket}/deep/run"
    job, _ = run_ray(load(prompts, f"openai:m@{mock.url}"), out, shard_rows=20)
    assert rows_of(job.folder.path) == rows_of(local.folder.path) and mock.stats()["arrived"] == 2 * asked
    store = open_store(out)
    names = set(store.names(""))
    assert {"recipe.json", "ledger.jsonl", "02-sample/done", "02-sample/kept.parquet", "04-twice/step.json"} <= names
    assert sum(name.startswith("shards/chains/") and name.endswith(".json") for name in names) == 3
    assert sum(name.startswith("shards/log/") for name in names) >= 3
    # another machine: neither the working copy nor the cache; the last two steps were never finished
    shutil.rmtree(job.folder.path)
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "two.sqlite"))
    for step in ("02-sample", "03-long", "04-twice"):
        store.delete(f"{step}/done")
    victim = next(name for name in sorted(names) if name.startswith("shards/chains/") and name.endswith(".json"))
    store.delete(victim)
    job, _ = run_ray(load(prompts, f"openai:m@{mock.url}"), out, shard_rows=20)
    assert rows_of(job.folder.path) == rows_of(local.folder.path)
    assert mock.stats()["arrived"] == 2 * asked, "the answers of the shard that was lost stand in its log"
    assert json.loads(store.read(victim))["rows"] == [20, 20]
    assert paid(job, "sample").answers == 60
    shutil.rmtree(job.folder.path)  # and once more, when there is nothing to do
    job, events = run_ray(load(prompts, f"openai:m@{mock.url}"), out, shard_rows=20)
    assert {e["state"] for e in events if e["event"] == "step"} == {"reused"}
    assert rows_of(job.folder.path) == rows_of(local.folder.path)


def test_what_was_trained_answers_on_the_machines_of_the_cluster(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    tasks, sft, sample = (find_step(name) for name in ("seeds.tasks", "train.sft", "generate.sample"))
    steps = [
        tasks(name="solved", family=("chains",), count=8, solved=True),
        sft(name="student", student="embedded:student", updates=2),
        tasks(name="asked", family=("chains",), count=6, seed=1),
        sample(teacher="step:student", max_tokens=12),
    ]
    recipe = Recipe(steps=steps, name="train")
    run_local(recipe, tmp_path / "local")
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "other.sqlite"))
    job, _ = run_ray(recipe, f"{bucket}/trained", shard_rows=3)
    here, there = rows_of(tmp_path / "local"), rows_of(job.folder.path)
    assert here == there and len(list(open_store(f"{bucket}/trained/04-sample").names(""))) >= 4


def test_artefacts_and_reports_reach_the_bucket(bucket: str, tmp_path: Path) -> None:
    numbers, train = find_step(f"{PARTS}:Numbers"), find_step(f"{PARTS}:Train")
    result = api.run(Recipe(steps=[numbers(count=5), train(steps=2)], name="train"), out=f"{bucket}/t", backend="ray")
    store = open_store(f"{bucket}/t")
    assert store.read("02-train/trained.txt") == b"5" and store.exists("02-train/checkpoint-1")
    assert store.read("report.html") == (result.folder / "report.html").read_bytes()
