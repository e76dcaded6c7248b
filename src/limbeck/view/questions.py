"""The same test problem, answered by every model: what the accuracies look like in words.

    choose(run, accuracy) -> [Question(text="A farmer…", reference="42", kind="the best student right, the base wrong",
                                       answers=[("base", "arm…", Shown(...)), ("raw traces", ...), ("teacher", ...)])]

One problem for each pattern of right and wrong that says something, the one with the smallest id; one model per arm,
its first run. The patterns include those that do not flatter the best student.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from limbeck.core.row import Row, from_table
from limbeck.view.accuracy import Accuracy, Arm
from limbeck.view.run_folder import Run
from limbeck.view.samples import LONGEST, Shown, shown, visible

LIMIT = 2000
Marks = dict[str, bool]


@dataclass(frozen=True, kw_only=True)
class Question:
    """One test problem with an answer per arm."""

    text: str
    reference: str | None
    kind: str
    answers: tuple[tuple[Arm, Shown], ...]


def choose(run: Run, accuracy: Accuracy) -> list[Question]:
    """Choose up to four problems that every arm has answered."""
    answers: dict[str, dict[str, Row]] = {}
    arms = [arm for arm in accuracy.arms if accuracy.sources.get(arm.name)]
    for arm in arms:
        stage = run.stage(accuracy.sources[arm.name][0])
        table = stage.table("kept", most=LIMIT) if stage else None
        for row in from_table(table) if table is not None else []:
            answers.setdefault(row.group, {}).setdefault(arm.name, row)
    whole = {group: told for group, told in sorted(answers.items()) if len(told) == len(arms)}
    out: list[Question] = []
    seen: set[str] = set()
    for kind, fits in _patterns(accuracy, arms):
        found = next((g for g, told in whole.items() if g not in seen and fits(_marks(told))), None)
        if found is not None:
            seen.add(found)
            out.append(_question(kind, whole[found], arms))
    return out


def _marks(told: dict[str, Row]) -> Marks:
    return {name: row.scores.get("verified", 0.0) >= 0.5 for name, row in told.items()}


def _patterns(accuracy: Accuracy, arms: list[Arm]) -> list[tuple[str, Callable[[Marks], bool]]]:
    students = [arm for arm in arms if arm.role in ("student", "other")]
    if not students or len(arms) < 2:
        return []
    best = max(students, key=lambda arm: arm.mean).name
    others = [arm.name for arm in arms if arm.name != best]
    rivals = [arm.name for arm in students if arm.name != best]
    return [
        (
            f"{best} right, every other student wrong",
            lambda m: m[best] and bool(rivals) and not any(m[r] for r in rivals),
        ),
        (f"{best} wrong, another student right", lambda m: not m[best] and any(m[r] for r in rivals)),
        ("everyone right", lambda m: all(m.values())),
        ("no student right", lambda m: not any(m[arm.name] for arm in students)),
        (f"{best} right, another wrong", lambda m: m[best] and not all(m[o] for o in others)),
    ][:5]


def _question(kind: str, told: dict[str, Row], arms: list[Arm]) -> Question:
    first = told[arms[0].name]
    return Question(
        text=visible(first.question)[:LONGEST],
        reference=first.reference and visible(first.reference)[:300],
        kind=kind,
        answers=tuple((arm, shown(told[arm.name])) for arm in arms),
    )
