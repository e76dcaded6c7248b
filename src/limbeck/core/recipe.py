"""The recipe: a plain list of steps, branches by name; and the loop, which is control and not a step.

    def rejection_sampling(prompts: str, teacher: str = "embedded", samples: int = 8) -> Recipe:
        return Recipe(steps=[
            Files(path=prompts),
            Sample(teacher=teacher, n=samples),
            Math(),
            UntilPass(score="math"),
            Exact(),
            Sft(student="embedded:student"),
        ])

Each step reads the rows of the one before it, unless `after` names another (or several: their rows in that order).
A field written `step:NAME` refers to what a step of the same recipe made, for example a trained student as a teacher.

A recipe is stored in the run folder as `recipe.json` and can be run again from there:

    {"name": "rejection_sampling", "params": {"samples": 8}, "steps": [
       {"use": "seeds.files", "name": "files", "after": [], "fields": {"path": "gsm8k/train.jsonl"}}, ...]}
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from limbeck.core.errors import UnknownName, UsageError, nearest
from limbeck.core.step import STEP_PREFIX, Source, Step

_SECRET = re.compile(
    r"\S*://([^/\s@]+@|\S*[?&][^=&\s]*(key|token|secret|password|signature)[^=&\s]*=)\S*", re.IGNORECASE
)
"""An address with credentials, and nothing else: a prompt may speak of addresses."""


@dataclass(frozen=True, kw_only=True)
class Loop:
    """Repeat `steps` for `rounds` rounds, carrying what one round made into the next.

    `carry` maps a name used inside the loop to what it stands for in the first round:
    `carry={"student": "step:warm"}` lets the steps say `teacher="step:student"`; from the second round on it means
    the `student` that the round before made. Round r of a step `sample` is called `sample-r`; rounds count from 1.

    With `reset="base"` (STaR, 2203.14465: always fine-tune the original base, never the last model) a loop whose
    training starts from a carried student is refused; `reset="last"` allows it.
    """

    steps: Sequence[Step]
    rounds: int
    carry: Mapping[str, str] = field(default_factory=dict)
    reset: Literal["base", "last"] = "base"

    def unroll(self) -> list[Step]:
        """Return the plain steps of all rounds, names and references made unique."""
        if self.rounds < 1:
            raise UsageError(f"A loop needs at least one round, not {self.rounds}.")
        names = label([*self.steps])
        missing = set(self.carry) - set(names)
        if missing:
            raise UsageError(f"The loop carries '{sorted(missing)[0]}', but no step in it has that name.")
        self._check_reset()
        return [self._at(round_, index, names) for round_ in range(1, self.rounds + 1) for index in range(len(names))]

    def _check_reset(self) -> None:
        carried = {f"{STEP_PREFIX}{name}" for name in self.carry}
        for step in self.steps:
            if self.reset == "base" and step.fields().get("student") in carried:
                raise UsageError(f"{step.called()} starts from a carried student; use the base, or say reset='last'.")

    def _at(self, round_: int, index: int, names: Sequence[str]) -> Step:
        step = self.steps[index]

        def meant(name: str) -> str:
            if name not in names:
                return name
            if names.index(name) < index:
                return f"{name}-{round_}"
            if round_ > 1:
                return f"{name}-{round_ - 1}"
            if name not in self.carry:
                raise UsageError(f"In the first round '{names[index]}' needs '{name}' of a round before; carry it.")
            return self.carry[name].removeprefix(STEP_PREFIX)

        def swap(value: Any) -> Any:
            if isinstance(value, str) and value.startswith(STEP_PREFIX):
                name = value.removeprefix(STEP_PREFIX)
                first = round_ == 1 and name in self.carry and names.index(name) >= index
                return self.carry[name] if first else STEP_PREFIX + meant(name)
            if isinstance(value, list | tuple):
                return [swap(v) for v in value]
            return {k: swap(v) for k, v in value.items()} if isinstance(value, dict) else value

        after = list(after_of(step)) or ([names[index - 1]] if index and not isinstance(step, Source) else [])
        wired = {"name": f"{names[index]}-{round_}", "after": tuple(meant(name) for name in after)}
        return type(step)(**{k: swap(v) for k, v in step.fields().items()}, **wired)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Steps in order, with the name and the parameters they were made from."""

    steps: Sequence[Step | Loop]
    name: str = "recipe"
    params: Mapping[str, Any] = field(default_factory=dict)

    def resolved(self) -> list[Step]:
        """Return the plain steps: loops unrolled, every step named, every `after` written out. Checks the wiring."""
        flat: list[Step] = []
        for part in self.steps:
            flat.extend(part.unroll() if isinstance(part, Loop) else [part])
        names, out = label(flat), []
        for index, step in enumerate(flat):
            after = after_of(step)
            if not after and index and not isinstance(step, Source):
                after = (names[index - 1],)
            out.append(step.model_copy(update={"name": names[index], "after": after}))
        _check(out)
        return out

    def to_json(self) -> dict[str, Any]:
        """Return the resolved recipe, JSON-able."""
        steps = [
            {"use": s.called(), "name": s.name, "after": list(after_of(s)), "fields": s.fields()}
            for s in self.resolved()
        ]
        return {"name": self.name, "params": dict(self.params), "steps": steps}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Recipe:
        """Rebuild a recipe from what `to_json` gave. Raises UsageError for anything else."""
        from limbeck.core.find import find_step

        try:
            steps = [find_step(s["use"])(**s["fields"], name=s["name"], after=tuple(s["after"])) for s in data["steps"]]
            return cls(steps=steps, name=str(data["name"]), params=dict(data.get("params") or {}))
        except KeyError as error:
            raise UsageError(f"This is not a recipe.json of limbeck: it lacks {error}.") from None
        except (TypeError, AttributeError, ValueError) as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"This is not a recipe.json of limbeck: {error}.") from None


def after_of(step: Step) -> tuple[str, ...]:
    """Return a step's `after` as a tuple of names."""
    return (step.after,) if isinstance(step.after, str) and step.after else tuple(step.after)


def label(steps: Sequence[Step]) -> list[str]:
    """Return a name for each step: its own, or its short one (`sample`), numbered where it repeats (`sample-2`)."""
    taken = {s.name for s in steps if s.name}
    names: list[str] = []
    for step in steps:
        short = step.called().split(":")[-1].rsplit(".", 1)[-1].lower()
        name, count = step.name or short, 1
        while not step.name and (name in taken or name in names):
            count += 1
            name = f"{short}-{count}"
        if name in names:
            raise UsageError(f"Two steps of the recipe are named '{name}'; give one of them another name.")
        names.append(name)
    return names


def _check(steps: Sequence[Step]) -> None:
    if not steps:
        raise UsageError("The recipe has no steps.")
    known: list[str] = []
    for step in steps:
        if not re.fullmatch(r"\w[\w.+-]*", step.name):
            raise UsageError(
                f"'{step.name}' can not name a step, which is also a folder: use letters, digits, '-' and '_'."
            )
        _refuse_secrets(step)
        for name in (*after_of(step), *step.needs()):
            if name not in known:
                later = (
                    " It stands later in the recipe; move it up."
                    if name in [s.name for s in steps]
                    else nearest(name, known)
                )
                raise UnknownName(
                    f"Step '{step.name}' ({step.called()}) refers to '{name}', which is no step before it.{later}"
                )
        if not after_of(step) and not isinstance(step, Source):
            raise UsageError(
                f"Step '{step.name}' ({step.called()}) has no rows to read: the recipe must begin with a source."
            )
        known.append(step.name)


def _refuse_secrets(step: Step) -> None:
    """Refuse an address with credentials: the fields of a step are stored, hashed, shown and published with the run."""
    for option, value in step.fields().items():
        if any(_SECRET.fullmatch(text) for text in _texts(value)):
            raise UsageError(
                f"Step '{step.name}': the address in the option '{option}' holds a password or a key, and what a recipe "
                "says is stored with the run. Take it out of the address and put it into LIMBECK_API_KEY."
            )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)
