"""Two processes train the student that one trains: as copies and in shards, with every objective, through a kill, on gloo."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_students import Here, copying, make_model, make_tokenizer
from two_processes import KILLED, Two, cases, run

from limbeck.core.errors import SealedError, StepError, UsageError
from limbeck.core.find import find_step, step_names
from limbeck.train import worker
from limbeck.train._spread import _blocks, _shares
from limbeck.train._trains import Trains
from limbeck.train.sft import Sft

NAMES = ["sft", "a document an update", "data", "on-policy", "reward", "preference", "reward model"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
THREADS = os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    """A student beside one with dropout, and a teacher."""
    top = tmp_path_factory.mktemp("models")
    for name, changes in {"base": {}, "dropout": {"attention_dropout": 0.1}}.items():
        make_model(**changes).save_pretrained(top / name)
        make_tokenizer().save_pretrained(top / name)
    given = {"student": "embedded:student", "updates": 60, "batch_tokens": 400, "learning_rate": 1e-2}
    (top / "teacher").mkdir()
    list(Sft(**given).make(copying(400), Here(top / "teacher", top / "base")))
    return top / "base", top / "teacher" / "student"


@pytest.fixture(scope="module")
def two(tmp_path_factory, folders) -> Path:
    """What two processes have made of every case, and of the student with dropout."""
    out, script = tmp_path_factory.mktemp("two"), Path(__file__).with_name("two_processes.py")
    command = [*TORCHRUN, str(script), str(out), *map(str, folders)]
    done = subprocess.run(command, env=THREADS, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.fixture(scope="module")
def one(tmp_path_factory, folders) -> Path:
    out = tmp_path_factory.mktemp("one")
    for name, (step, rows) in cases().items():
        run(step, rows, out / name, *folders)
    return out


def curve(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def weights(folder: Path) -> dict:
    return load_file(next(folder.glob("*/model.safetensors")))


@pytest.mark.parametrize("how", ["", " in shards"])
@pytest.mark.parametrize("name", NAMES)
def test_two_processes_train_the_student_of_one(one, two, name, how):
    """Weights to rounding, and every line of the curve; AdamW turns rounding of a tiny gradient into up to its rate."""
    ours, theirs = weights(one / name), weights(two / f"{name}{how}")
    assert list(ours) == list(theirs), "tied weights are written once"
    before = make_model().state_dict()
    assert max((ours[n] - before[n]).abs().max() for n in ours if n in before) > 5e-4, "nothing was trained"
    for part, tensor in ours.items():
        assert (tensor - theirs[part]).abs().max() < 2e-5, part
    assert len(curve(one / name)) == len(curve(two / f"{name}{how}")) >= 2
    for line, other in zip(curve(one / name), curve(two / f"{name}{how}"), strict=True):
        assert other == pytest.approx(line, rel=1e-4, abs=1e-5)
    told = [json.loads((folder / "train.json").read_text()) for folder in (one / name, two / f"{name}{how}")]
    assert [t["processes"] for t in told] == [1, 2]
    for measure in ("updates", "tokens", "trained_tokens", "parameters"):
        assert told[0][measure] == told[1][measure]


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


ENGINE = "import subprocess, sys, time; subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE); time.sleep(600)"


def test_who_waits_is_killed_its_processes_end_and_the_rerun_is_bit_equal(two, folders, tmp_path):
    """Dropout makes each process's own generator matter."""
    step, rows, context = Sft(**KILLED, processes=2), copying(100), Two(tmp_path, folders[0], teacher=folders[1])
    job = worker._written(step, rows, context)
    command = worker._command(2, job)
    process = subprocess.Popen(
        [sys.executable, "-c", ENGINE, *command], env=THREADS, start_new_session=True, stdout=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 200
        while not list((tmp_path / "checkpoints").glob("update-000000[123]*.pt")) and time.monotonic() < deadline:
            time.sleep(0.001)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        while alive(process.pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not alive(process.pid), "processes that nobody waits for went on"
    finally:
        if alive(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
    assert not (tmp_path / "student").exists()
    assert list(step.make(rows, context)) == rows
    assert 14 <= json.loads((tmp_path / "train.json").read_text())["resumed_at"] < 40
    assert [p.name for p in sorted(tmp_path.rglob("job/*"))] == ["job.json", "log.txt", "rows.parquet"]
    assert context.told[-1][:2] == (40, 40)
    ours, theirs = (folder / "student" / "model.safetensors" for folder in (tmp_path, two / "dropout"))
    assert ours.read_bytes() == theirs.read_bytes()
    assert curve(tmp_path) == curve(two / "dropout")


def test_errors_of_the_processes_are_those_of_the_step(folders, tmp_path, monkeypatch):
    """With a starter of one's own, which is given the rest of the command."""
    alone = "RANK=0 LOCAL_RANK=0 WORLD_SIZE=1 MASTER_ADDR=127.0.0.1 MASTER_PORT=0"
    monkeypatch.setenv(worker.COMMAND, f"env {alone} {sys.executable}")
    step = Sft(student="embedded:student", processes=2)
    sealed = [replace(row, sealed=True) for row in copying(3)]
    with pytest.raises(SealedError, match="belongs to an evaluation set"):
        list(step.make(sealed, Here(tmp_path, folders[0])))
    monkeypatch.setenv(worker.COMMAND, f"{sys.executable} -c 'raise SystemExit(3)'")
    with pytest.raises(StepError, match=r"ended with code 3 in 2 processes; see .*log\.txt"):
        list(step.make(copying(3), Here(tmp_path, folders[0])))


def test_documents_are_dealt_whole_and_evenly():
    shares = _shares([9, 1, 1, 1, 8, 2], 3)
    assert sorted(place for share in shares for place in share) == list(range(6))
    assert shares == [[0], [4], [1, 2, 3, 5]]
    assert _shares([5], 3) == [[0], [], []]


def test_a_model_without_layers_can_not_be_sharded():
    with pytest.raises(UsageError, match="Linear shows no list of layers"):
        _blocks(torch.nn.Linear(2, 2))


def test_every_step_of_the_loop_runs_on_several_processes():
    """`make` decides where `train` runs; a step that defines `make` itself would ignore the option `processes`."""
    found = [step for step in map(find_step, step_names()) if issubclass(step, Trains)]
    assert len(found) >= 3
    assert [step.called() for step in found if step.make is not Trains.make or step.train is Trains.train] == []
