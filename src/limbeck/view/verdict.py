"""The plain-language verdict, and what a run does not show.

    sentences(run, accuracy) -> [
        "Trained on verified traces, the student answers 50.1 % of 300 test problems; untrained it answers 8.0 %, "
        "and its teacher 71.3 %.",
        "Verified traces beat raw traces by 9.0 points (95 % interval 4.1 to 14.0).",
        "Raw traces against answers only: not resolved (0.4 points, 95 % interval −3.1 to 3.9)."]

Nothing here praises. A difference whose interval holds nought is `not resolved`, never `the same`.
"""

from __future__ import annotations

from limbeck.view.accuracy import Accuracy, Arm, Pair
from limbeck.view.numbers import count, counted, listed, opening, percent, points, short
from limbeck.view.run_folder import Run

SMALL = 100_000_000


def sentences(run: Run, accuracy: Accuracy) -> list[str]:
    """Return the verdict in at most four sentences."""
    out = []
    if run.unfinished:
        left = counted(len(run.unfinished), "step is", "steps are")
        out.append(f"This run is not finished: {left} still to come, so everything below is provisional.")
    if not accuracy.arms:
        return [*out, _without(run)]
    students = accuracy.of("student") or accuracy.of("other")
    out.append(_levels(accuracy, students))
    names = [arm.name for arm in students]
    between = [p for p in accuracy.pairs if p.left in names and p.right in names]
    neighbours = [p for p in between if abs(names.index(p.left) - names.index(p.right)) == 1]
    told = sorted(neighbours or between or accuracy.pairs, key=lambda p: _place(p, names), reverse=True)[:2]
    return out + [told_pair(pair) for pair in told]


def _place(pair: Pair, names: list[str]) -> int:
    return max((names.index(n) for n in (pair.left, pair.right) if n in names), default=-1)


def told_pair(pair: Pair) -> str:
    """Say one difference."""
    span = f"95 % interval {points(pair.low)} to {points(pair.high)}"
    if pair.low == pair.high == 0:
        return f"{opening(pair.right)} and {pair.left} did equally on every test problem; that resolves nothing."
    if not pair.resolved:
        return f"{opening(pair.right)} against {pair.left}: not resolved ({points(pair.mean)} points, {span})."
    ahead, behind = (pair.right, pair.left) if pair.mean >= 0 else (pair.left, pair.right)
    low, high = (pair.low, pair.high) if pair.mean >= 0 else (-pair.high, -pair.low)
    span = f"95\u202f% interval {points(low)} to {points(high)}"
    hint = " It would not survive a correction for the number of pairs: take it as a hint." if pair.hint else ""
    return f"{opening(ahead)} beat {behind} by {points(abs(pair.mean))} points ({span}).{hint}"


def _levels(accuracy: Accuracy, students: list[Arm]) -> str:
    base, teacher = accuracy.of("base"), accuracy.of("teacher")
    if not students:
        return f"{listed([f'{opening(a.name)} answers {percent(a.mean)} of the test problems correctly' for a in accuracy.arms])}."
    best = max(students, key=lambda arm: arm.mean)
    of = f"{count(best.prompts)} test problems" if best.prompts else "the test problems"
    level = len({arm.mean for arm in students}) == 1 and len(students) > 1
    on = "Whatever it is trained on" if level else f"Trained on {best.name}"
    said = f"{on}, the student answers {percent(best.mean)} of {of} correctly"
    rest = [f"untrained it answers {percent(base[0].mean)}"] if base else []
    rest += [f"its teacher answers {percent(teacher[0].mean)}"] if teacher else []
    gain = next((p for p in accuracy.pairs if base and {p.left, p.right} == {base[0].name, best.name}), None)
    doubt = " Whether training helped at all is not resolved." if gain and not gain.resolved else ""
    return f"{said}; {' and '.join(rest)}.{doubt}" if rest else f"{said}."


def _without(run: Run) -> str:
    done = [stage for stage in run.stages if stage.state == "done" and stage.kept]
    if not done:
        return "No rows have been made yet, and no model has been evaluated."
    return f"No model was evaluated in this run; its last finished step, {done[-1].name}, kept {counted(done[-1].kept, 'row')}."


def limits(run: Run, accuracy: Accuracy, note_of_costs: bool) -> list[str]:
    """Return what a careful reader should not conclude from this run, as far as the run itself tells."""
    steps = {stage.step for stage in run.stages}
    return [
        *_about_measurement(accuracy),
        *_about_data(run, accuracy, steps),
        *_about_students(run),
        *(
            ["What the calls cost is not known for every step, because a teacher's price was not told."]
            if note_of_costs
            else []
        ),
        *(
            [f"The run is not finished: {listed([s.name for s in run.unfinished][:6])} still to come."]
            if run.unfinished
            else []
        ),
    ]


def _about_measurement(accuracy: Accuracy) -> list[str]:
    out = []
    students = accuracy.of("student")
    seeds = max((len(arm.runs) for arm in students), default=0)
    if students and seeds < 2:
        out.append("Each student was trained once. How much another seed would change the result was not measured.")
    elif students and seeds < 5:
        out.append(
            f"Each arm was trained with {seeds} seeds. So few tell that luck plays a part, and only roughly how large a part."
        )
    hints = [pair for pair in accuracy.pairs if pair.hint]
    if len(accuracy.pairs) > 1:
        after = (
            f"; {counted(len(hints), 'resolved difference does', 'resolved differences do')} not survive that correction"
            if hints
            else ""
        )
        out.append(
            f"{len(accuracy.pairs)} pairs were compared and the intervals are not corrected for that{after}. Among twenty "
            "such intervals about one misses the truth."
        )
    if accuracy.arms:
        out.append(
            "“Not resolved” does not mean equal: a smaller difference may exist, and more prompts or seeds would show it."
        )
        if any(arm.low == arm.high for arm in accuracy.arms if arm.low is not None):
            out.append(
                "An interval without width means that every problem came out alike, not that the value is certain."
            )
        out.append(
            "The intervals cover the sampling of test problems like these. They say nothing about other kinds of problem."
        )
    return out


def _about_data(run: Run, accuracy: Accuracy, steps: set[str]) -> list[str]:
    out = []
    if any(step.startswith("seeds.") and step != "seeds.files" for step in steps):
        kinds = f"{counted(len(accuracy.families), 'family', 'families')} of " if accuracy.families else ""
        out.append(
            f"The problems are generated by {kinds}templates, for training and test alike (test problems are separate, sealed "
            "rows). Gains here are gains on these families and are no evidence about natural text."
        )
    if any(step.startswith("score.") for step in steps):
        out.append(
            "“Right” means that the final answer equals the reference. A right answer may stand after wrong reasoning."
        )
    teachers = {str(s.fields["teacher"]) for s in run.stages if s.fields.get("teacher")}
    teachers = {t for t in teachers if not t.startswith("step:")}
    if len(teachers) == 1:
        out.append(
            f"There was one teacher ({next(iter(teachers))}). Another may err in other ways and rank the arms differently."
        )
    if run.stages and not any(step.endswith("decontaminate") for step in steps) and accuracy.arms:
        out.append(
            "No step compared the training rows with the test problems, beyond the seal on the test rows themselves."
        )
    return out


def _about_students(run: Run) -> list[str]:
    sizes = [int(p) for s in run.stages if isinstance(p := s.train.get("parameters"), int | float) and p]
    if not sizes or max(sizes) >= SMALL:
        return []
    return [
        f"The student has {short(max(sizes))} parameters. At this size it learns a narrow task by heart or by rule; "
        "what helps it need not help a large model."
    ]
