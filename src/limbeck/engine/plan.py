"""What a run has to do: each step's fingerprint, whether it is done, and why not.

A step's full fingerprint covers its own (fields, code, files it reads), those of the steps whose rows or artefacts it
uses, and the identity of the models it names; so a change anywhere reruns what depends on it and nothing else.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from limbeck.core.ask import Teacher
from limbeck.core.errors import UnknownName
from limbeck.core.find import find_step
from limbeck.core.fingerprint import code_version, digest
from limbeck.core.recipe import Recipe, after_of
from limbeck.core.step import STEP_PREFIX, Each, Make, Source, Step
from limbeck.engine.answer import open_teacher
from limbeck.engine.rundir import RunFolder, StepFolder

_MODEL_FIELDS = ("teacher", "student", "model")
_STEP_NAME = re.compile(r"[a-z]+\.[a-z_]+")


@dataclass
class Node:
    """A step of the recipe with its place on disk and its fingerprint."""

    index: int
    step: Step
    folder: StepFolder
    fingerprint: str
    inputs: dict[str, str] = field(default_factory=dict)
    """The fingerprints of the steps it reads, by name."""
    models: list[str] = field(default_factory=list)
    """The identities of the models it names."""

    @property
    def name(self) -> str:
        """The step's name in the recipe."""
        return self.step.name

    @property
    def done(self) -> bool:
        """Whether the folder holds the completed result of exactly this step."""
        return self.folder.print_done() == self.fingerprint

    def record(self) -> dict[str, Any]:
        """Return what `step.json` says of the step itself."""
        return {
            "step": self.step.called(),
            "name": self.name,
            "after": list(after_of(self.step)),
            "needs": list(self.step.needs()),
            "fields": self.step.fields(),
            "fingerprint": self.fingerprint,
            "code": code_version(type(self.step)),
            "inputs": self.inputs,
        }


def nodes(recipe: Recipe, folder: RunFolder) -> dict[str, Node]:
    """Return the steps of the recipe by name, in order, with folders and fingerprints."""
    found: dict[str, Node] = {}
    for index, step in enumerate(recipe.resolved(), start=1):
        inputs = {name: found[name].fingerprint for name in (*after_of(step), *step.needs())}
        models = _identities(step)
        own = {"step": step.fingerprint(), "inputs": inputs, "models": models, "applies": applied(step)}
        found[step.name] = Node(index, step, folder.step(index, step.name), digest(own), inputs, models)
    return found


def check_models(recipe: Recipe) -> None:
    """Raise UsageError or EndpointError for a teacher or student that does not exist, before a folder is touched."""
    for step in recipe.resolved():
        _identities(step)


def chains(found: dict[str, Node]) -> list[list[Node]]:
    """Return what is left to do as units: chains of streaming steps fused, every other step alone; in recipe order."""
    units: list[list[Node]] = []
    for node in found.values():
        if node.done:
            continue
        last = units_by_tail(units).get(after_of(node.step)[0]) if len(after_of(node.step)) == 1 else None
        if isinstance(node.step, Each) and last is not None and _joins(node, last, found):
            last.append(node)
        else:
            units.append([node])
    return units


def _joins(node: Node, unit: list[Node], found: dict[str, Node]) -> bool:
    """Whether a streaming step may run fused with the unit it reads from.

    Not if it also needs a step that is still to run: that one may itself wait for this unit (prompts, a student trained
    on answers to them, then that student's own answers to the same prompts), and the two would wait for ever.
    """
    if not isinstance(unit[-1].step, Each | Source):
        return False
    awaited = {name for member in unit for name in member.inputs}
    others = node.inputs.keys() - {member.name for member in unit} - awaited
    return all(found[name].done for name in others)


def units_by_tail(units: list[list[Node]]) -> dict[str, list[Node]]:
    """Return the units by the name of their last step."""
    return {unit[-1].name: unit for unit in units}


def why(node: Node) -> str:
    """Say in one sentence why a step will run again, or that it will not."""
    if node.done:
        return "done; nothing that it depends on has changed"
    was = node.folder.summary()
    if node.folder.print_done() is None or not was:
        return "begun but not finished" if node.folder.print_begun() else "not run yet"
    now = node.record()
    if was["step"] != now["step"]:
        return f"it is now {now['step']}, not {was['step']}"
    changed = [k for k in {**was["fields"], **now["fields"]} if was["fields"].get(k) != now["fields"].get(k)]
    if changed:
        parts = (f"{k}: {was['fields'].get(k)!r} -> {now['fields'].get(k)!r}" for k in sorted(changed))
        return f"its options changed ({'; '.join(parts)})"
    for name, fingerprint in now["inputs"].items():
        if was.get("inputs", {}).get(name) != fingerprint:
            return f"what it reads from '{name}' changed"
    return "its code changed" if was.get("code") != now["code"] else "a file or model that it reads changed"


def remote_models(recipe: Recipe) -> list[str]:
    """Return the identities of the models that are asked over a network, for money perhaps."""
    found: dict[str, None] = {}
    for step in recipe.resolved():
        for teacher in _models(step):
            if getattr(teacher, "remote", False) or getattr(teacher, "priced", False):
                found[teacher.identity] = None
    return list(found)


def _identities(step: Step) -> list[str]:
    return [teacher.identity for teacher in _models(step)]


def applied(step: Step) -> dict[str, str]:
    """Return the code versions of the steps that fields such as `verifier="score.math"` name."""
    named = [v for v in step.fields().values() if isinstance(v, str) and _STEP_NAME.fullmatch(v)]
    found = {}
    for name in named:
        with suppress(UnknownName):  # a word with a dot in it, and no step
            found[name] = code_version(find_step(name))
    return found


def _models(step: Step) -> list[Teacher]:
    fields = step.fields()
    # a `model` is asked only by what makes or measures; elsewhere it is an encoder or the like, in words of its own
    names = _MODEL_FIELDS if isinstance(step, Make) else _MODEL_FIELDS[:-1]
    specs = [fields[name] for name in names if isinstance(fields.get(name), str) and fields[name]]
    return [open_teacher(spec) for spec in specs if not spec.startswith(STEP_PREFIX)]
