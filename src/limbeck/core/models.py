"""What a model's name in a step stands for on disk: folders of weights, and what other steps of the run have made.

    folder_of(step, "embedded:student")     …/limbeck/teachers/weights/student
    folder_of(step, "hf:openai-community/gpt2")   the hub's copy on this machine
    folder_of(step, "runs/a/05-student")    as it stands, as is hf:runs/a/05-student
    folder_of(step, "step:student")         <run>/05-student/student, once the engine has said where that step's folder is

A `Make` step asks its context. A step that only reads rows has none, so the engine tells it beforehand with `give`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from limbeck.core.errors import LimbeckError, UsageError
from limbeck.core.find import find_teacher, teacher_names
from limbeck.core.step import STEP_PREFIX, Step

_KEPT = "_folders"


def give(step: Step, folders: Mapping[str, Path]) -> None:
    """Tell a step the folders of the finished steps that it `needs()`, by name. Not configuration: in no fingerprint."""
    step.__dict__[_KEPT] = {name.removeprefix(STEP_PREFIX): Path(folder) for name, folder in folders.items()}


def artefact_of(step: Step, spec: str) -> Path:
    """Return the folder that `spec` names: `step:NAME` for what a step of this run has made, or a path.

    Raises UsageError where there is no such folder.
    """
    if spec.startswith(STEP_PREFIX):
        known: Mapping[str, Path] = step.__dict__.get(_KEPT, {})
        name = spec.removeprefix(STEP_PREFIX)
        if name not in known:
            raise UsageError(f"{step.called()}: '{spec}' can only be read in a run that has made it; name its folder.")
        return known[name]
    path = Path(spec).expanduser()
    if not path.is_dir():
        raise UsageError(f"{step.called()}: there is no folder {path}.")
    return path


def spelled(spec: str) -> str:
    """Return the name of a local model in full: a folder, or `OWNER/NAME` of the hub, stands for itself behind `hf:`.

    >>> spelled("embedded:student"), spelled("openai-community/gpt2")
    ('embedded:student', 'hf:openai-community/gpt2')
    """
    bare = spec and spec.partition(":")[0] not in (*teacher_names(), STEP_PREFIX.rstrip(":"))
    return f"hf:{spec}" if bare else spec


def folder_of(step: Step, spec: str) -> Path:
    """Return the folder of weights (Hugging Face layout) of a local model; see the module for the forms of its name.

    Raises UsageError where there is none, or where the name is that of a model whose weights are elsewhere.
    """
    if spec.startswith(STEP_PREFIX):
        return artefact_of(step, spec) / "student"
    kind, _, rest = spelled(spec).partition(":")
    teacher = find_teacher(kind)
    if not hasattr(teacher, "folder"):
        raise UsageError(
            f"{step.called()}: the weights of '{spec}' are not to be had; name a local model or its folder."
        )
    return Path(teacher.folder(rest))


def files_of(step: Step, spec: str) -> list[Path]:
    """Return the files of a model that matter to a step's fingerprint; none for `step:NAME`, known by its own."""
    if spec.startswith(STEP_PREFIX):
        return []
    try:
        folder = folder_of(step, spec)
    except LimbeckError:  # said when the step runs, in its own words
        return []
    kept = (".safetensors", ".json", ".npz", ".jinja", ".txt", ".model")
    return sorted(file for file in folder.iterdir() if file.is_file() and file.suffix in kept)
