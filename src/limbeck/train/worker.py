"""One of several processes that train a student together; torchrun starts it with a job that the step has written.

    Sft(student=…, processes=2)  ->  07-sft/job/job.json  {"use": "train.sft", "fields": {…}, "models": {…}, …}
                                     07-sft/job/rows.parquet
    torchrun --standalone --nproc-per-node 2 -m limbeck.train.worker 07-sft/job/job.json
                                 ->  07-sft/student/ …  and job/made.parquet, the rows that the step returns

Every process reads the job and calls the step; the loop and its parts share the work (`_spread`), and the first process
alone writes. The step in the run waits, passes progress on, and returns the rows. `launch` is its side, `main` the other.

More machines need only a folder that all of them see, and a way to be started: the environment variable LIMBECK_TORCHRUN
replaces the beginning of the command, up to `-m`: "srun torchrun --nnodes 4 --nproc-per-node 8 --rdzv-backend c10d …".
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck.core import errors
from limbeck.core.errors import StepError
from limbeck.core.find import find_step
from limbeck.core.row import Row, from_table, to_table
from limbeck.core.step import STEP_PREFIX, Context, Make
from limbeck.train import _ranks

if TYPE_CHECKING:
    from limbeck.train._trains import Trains

COMMAND = "LIMBECK_TORCHRUN"
SPECS = ("embedded", "hf:", STEP_PREFIX)
"""How the names of models begin whose folders the run knows."""
WATCH = "--end-with-input"
"""The processes end when their standard input closes: the step that waits for them is gone, however it went."""


def launch(step: Trains, rows: Sequence[Row], context: Context) -> Iterable[Row]:
    """Run a training step on `step.processes` processes; return the rows that it returns. Raises what it raises."""
    job = _written(step, rows, context)
    made, log = job.with_name("made.parquet"), job.with_name("log.txt")
    made.unlink(missing_ok=True)
    with log.open("wb") as stream:
        process = subprocess.Popen(
            _command(step.processes, job),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stream,
            env=os.environ | {"OMP_NUM_THREADS": _threads(step.processes), "TOKENIZERS_PARALLELISM": "false"},
        )
        _watched(process, context)
    if process.returncode or not made.is_file():
        raise StepError(
            f"{step.called()} ended with code {process.returncode} in {step.processes} processes; see {log}."
        )
    found = _read(made)
    made.unlink()
    return found


def _written(step: Trains, rows: Sequence[Row], context: Context) -> Path:
    """Write what the processes need to know into the step's folder."""
    import pyarrow.parquet as pq

    folder = context.folder / "job"
    folder.mkdir(exist_ok=True)
    pq.write_table(to_table(rows), folder / "rows.parquet")
    fields = step.fields()
    specs = [value for value in fields.values() if isinstance(value, str) and value.startswith(SPECS)]
    job = {
        "use": step.called(),
        "fields": fields,
        "folder": str(context.folder.resolve()),
        "seed": context.seed,
        "models": {spec: str(context.model(spec)) for spec in specs},
        "folders": {name: str(context.artefact(name)) for name in step.needs()},
    }
    path = folder / "job.json"
    path.write_text(json.dumps(job, indent=1) + "\n", encoding="utf-8")
    return path


def _command(processes: int, job: Path) -> list[str]:
    worker = ["-m", "limbeck.train.worker", str(job)]
    if COMMAND in os.environ:  # on other machines there may be no input to watch
        return [*shlex.split(os.environ[COMMAND]), *worker]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return [*torchrun, *worker, WATCH]


def _threads(processes: int) -> str:
    """Share the threads of this process out among those it starts."""
    import torch

    return str(max(1, torch.get_num_threads() // processes))


def _listen(process: subprocess.Popen[bytes], context: Context) -> None:
    """Pass progress on until the processes close their output; raise the first error that one of them tells."""
    assert process.stdout is not None
    for line in process.stdout:
        if not line.startswith(b'{"limbeck": '):
            continue  # what a library prints
        what, told = json.loads(line)["limbeck"]
        if what == "progress":
            context.progress(*told)
        elif what == "system":
            raise OSError(*told)
        else:
            raise getattr(errors, what, StepError)(told)


def _watched(process: subprocess.Popen[bytes], context: Context) -> None:
    """Follow the processes to their end, and take them along where that comes here first."""
    assert process.stdin is not None and process.stdout is not None
    try:
        _listen(process, context)
        process.wait()
    except BaseException:
        process.terminate()  # torchrun then ends its own; so does the closed input, should torchrun not
        raise
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait()


class JobContext:
    """The context of a step in one of several processes: what the job says, and nothing else."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.folder, self.seed = Path(job["folder"]), int(job["seed"])
        self._models: dict[str, str] = job["models"]
        self._folders: dict[str, str] = job["folders"]

    def apply(self, step: str, rows: Sequence[Row], **fields: Any) -> list[Row]:
        """Not to be had here."""
        raise StepError(f"A step that trains on several processes can not apply {step}.")

    def model(self, spec: str) -> Path:
        """Return the folder of weights that `spec` names."""
        return Path(self._models[spec])

    def artefact(self, name: str) -> Path:
        """Return the folder of a finished step."""
        return Path(self._folders[name.removeprefix(STEP_PREFIX)])

    def rows(self, name: str) -> list[Row]:
        """Return the kept rows of a finished step."""
        return _read(self.artefact(name) / "kept.parquet")

    def progress(self, done: int, total: int, note: str = "") -> None:
        """Tell the step that waits."""
        if _ranks.first():
            _say("progress", [done, total, note])


def main() -> None:
    """Do the job named on the command line as one of the processes that torchrun has started."""
    path = Path(sys.argv[1])
    if WATCH in sys.argv[2:]:
        threading.Thread(target=_watch, daemon=True).start()
    job = json.loads(path.read_text(encoding="utf-8"))
    step = find_step(job["use"])(**job["fields"])
    assert isinstance(step, Make), job["use"]
    _ranks.join()
    try:
        made = list(step.make(_read(path.with_name("rows.parquet")), JobContext(job)))
        if _ranks.first():
            _write(made, path.with_name("made.parquet"))
    except errors.LimbeckError as error:
        _fail(type(error).__name__, str(error))
    except OSError as error:  # a full disk, say: the engine knows what to do
        _fail("system", [error.errno, error.strerror, error.filename])
    _ranks.leave()


def _fail(what: str, told: Any) -> None:
    _say(what, told)
    os._exit(1)  # the others may be waiting for this process; torchrun ends them


def _say(what: str, told: Any) -> None:
    # one write: lines of several processes go into one pipe
    os.write(1, (json.dumps({"limbeck": [what, told]}) + "\n").encode())


def _read(path: Path) -> list[Row]:
    import pyarrow.parquet as pq

    return from_table(pq.read_table(path))


def _write(rows: Sequence[Row], path: Path) -> None:
    import pyarrow.parquet as pq

    writing = path.with_suffix(".writing")
    pq.write_table(to_table(rows), writing)
    writing.replace(path)


def _watch() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
