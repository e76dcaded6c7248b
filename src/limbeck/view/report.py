"""The report: one HTML file that tells the whole run, opens from the disk and asks the network for nothing.

    write(Path("runs/quickstart")) -> Path("runs/quickstart/report.html")

A newcomer reads the verdict on top; an expert finds the intervals, the funnel with every reason, the cost of every
step, the curves of every seed, and samples chosen by rule. It states what the run does not show. It is written as
readily for a run that is not finished. All text of models is escaped by the template, and the page forbids every
script but its own, so a planted one has no way to run.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from limbeck.view import accuracy as measurement
from limbeck.view import charts, costs, diversity, numbers, questions, run_folder, samples, verdict
from limbeck.view.accuracy import Accuracy
from limbeck.view.funnel import funnel
from limbeck.view.graph import Knot, fold
from limbeck.view.run_folder import Run, Stage

STATIC = Path(__file__).parent / "static"
WIDE, SLIM = 760.0, 343.0
RESPONSES_READ = 5_000


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One drawing in two widths; the page shows the one that fits."""

    wide: str
    slim: str


def write(run: Path, paid: Mapping[str, Mapping[str, Any]] | None = None) -> Path:
    """Write `report.html` into a run folder and return its path. Raises WrongFolder if it is not one.

    `paid` is what each step has cost over all sessions; default: what the folder says.
    """
    page = run / "report.html"
    temporary = page.with_name("report.html.tmp")
    temporary.write_bytes(render(run_folder.read(run, paid)).encode("utf-8", "replace"))
    temporary.replace(page)
    return page


def render(run: Run) -> str:
    """Return the page as text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from limbeck.view._page import PageCache

    environment = Environment(
        loader=FileSystemLoader(STATIC),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        bytecode_cache=PageCache(STATIC),
    )
    for name in ("count", "percent", "points", "duration", "money", "brief", "short", "counted", "listed", "opening"):
        environment.filters[name] = getattr(numbers, name)
    return environment.get_template("report.html").render(**content(run))


def content(run: Run) -> dict[str, Any]:
    """Gather all that the template needs."""
    accuracy, knots = measurement.read(run), fold(run.stages)
    lines = costs.lines(knots)
    script = (STATIC / "report.js").read_text(encoding="utf-8")
    sets, compared = varieties(run, accuracy, knots)
    return {
        "run": run,
        "style": (STATIC / "report.css").read_text(encoding="utf-8"),
        "script": script,
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "asked": asked(run),
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "verdict": verdict.sentences(run, accuracy),
        "accuracy": accuracy,
        "told_pair": verdict.told_pair,
        "accuracy_figure": _accuracy_figure(accuracy),
        "span": charts.span,
        "pair_reach": (
            min((p.low for p in accuracy.pairs), default=0.0),
            max((p.high for p in accuracy.pairs), default=0.0),
        ),
        "sampled": sampled(run),
        "funnel_figure": _twice(lambda width: funnel(knots, width=width)) if knots else None,
        "costs": lines,
        "cost_total": costs.total(lines, run.other),
        "curves": _curves(run, accuracy, knots),
        "questions": questions.choose(run, accuracy),
        "cards": samples.choose(run, arms_of(run, accuracy, knots)),
        "varieties": sets,
        "words_compared": compared,
        "read_limit": RESPONSES_READ
        if any(s.kept > RESPONSES_READ or s.dropped > RESPONSES_READ for s in run.stages)
        else 0,
        "any_cut": any(arm.cut >= 0.5 for arm in accuracy.arms),
        "lengths": _lengths(sets, accuracy),
        "limits": verdict.limits(run, accuracy, any(cost.usd is None for cost in lines)),
    }


def asked(run: Run) -> list[tuple[str, str]]:
    """Return what was asked and where it ran, as (name, value)."""
    params = dict(run.recipe.get("params") or {})
    teachers = [str(s.fields["teacher"]) for s in run.stages if s.fields.get("teacher")]
    students = [str(s.fields["student"]) for s in run.stages if s.fields.get("student")]
    out = [("Teacher", ", ".join(dict.fromkeys(t for t in teachers if not t.startswith("step:"))))] if teachers else []
    out += [("Student", ", ".join(dict.fromkeys(students)))] if students else []
    sizes = [float(p) for s in run.stages if isinstance(p := s.train.get("parameters"), int | float)]
    if sizes:
        out[-1] = (out[-1][0], f"{out[-1][1]} ({numbers.short(max(sizes))} parameters)")
    rest = {k: v for k, v in params.items() if k not in ("teacher", "student")}
    out += [("Parameters", ", ".join(f"{k} {_plain(v)}" for k, v in rest.items()))] if rest else []
    return out + _machine(run.env)


def _machine(env: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Put what is usual into two lines; what else the engine noted keeps a line of its own."""
    known = {"system", "cpus", "python", "packages"}
    where = [_plain(env["system"])] if "system" in env else []
    where += [numbers.counted(env["cpus"], "CPU")] if isinstance(env.get("cpus"), int) else []
    where += [f"Python {env['python']}"] if "python" in env else []
    out = [("Machine", ", ".join(where))] if where else []
    out += [("Packages", _plain(env["packages"]))] if env.get("packages") else []
    return [(str(k).replace("_", " ").capitalize(), _plain(v)) for k, v in env.items() if k not in known] + out


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_plain(v) for v in value)
    return str(value)


def arms_of(run: Run, accuracy: Accuracy, knots: Sequence[Knot]) -> dict[str, str]:
    """Return the arm that each training step belongs to; without an evaluation, what its knot is called."""
    names = {stage.name: knot.title for knot in knots for stage in knot.stages if stage.room == "train"}
    for arm, evaluations in accuracy.sources.items():
        for evaluation in (run.stage(name) for name in evaluations):
            for need in evaluation.needs if evaluation else ():
                if need in names:
                    names[need] = arm
    return names


def sampled(run: Run) -> dict[str, Any] | None:
    """Return how often the teacher's samples were right, as they were drawn for training."""
    scored = next((s for s in run.stages if s.room == "score" and s.state == "done" and s.kept), None)
    table = scored.table("kept", ["labels"], most=RESPONSES_READ) if scored else None
    if table is None:
        return None
    verdicts = [dict(labels or ()).get("verdict") for labels in table["labels"].to_pylist()]
    judged = [v for v in verdicts if v in ("pass", "wrong", "no-answer", "error")]
    warm = next((s.fields.get("temperature") for s in run.stages if s.room == "generate"), None)
    return {"rows": len(judged), "right": judged.count("pass") / len(judged), "temperature": warm} if judged else None


def _twice(draw: Any) -> Figure:
    return Figure(wide=draw(WIDE), slim=draw(SLIM))


def _accuracy_figure(accuracy: Accuracy) -> Figure | None:
    rows = [
        charts.Dot(label=arm.name, mean=arm.mean, low=arm.low, high=arm.high, runs=arm.runs, paint=arm.paint)
        for arm in accuracy.arms
    ]
    return (
        _twice(lambda width: charts.dots(rows, width=width, title="Share of test problems answered correctly"))
        if rows
        else None
    )


def _curves(run: Run, accuracy: Accuracy, knots: Sequence[Knot]) -> dict[str, Any] | None:
    """Draw the loss of every training, arms coloured as everywhere, seeds thin."""
    arms, paints = arms_of(run, accuracy, knots), {arm.name: arm.paint for arm in accuracy.arms}
    trained = [stage for stage in run.stages if stage.curve]
    if not trained:
        return None
    for name in dict.fromkeys(arms[s.name] for s in trained):
        paints.setdefault(name, f"arm-{len(paints) % 8}")
    several = len(trained) > len({arms[stage.name] for stage in trained})
    series = [
        charts.Line(label=f"{arms[s.name]}: {s.name}", points=_losses(s), paint=paints[arms[s.name]], faint=several)
        for s in trained
    ]
    figure = _twice(
        lambda width: charts.lines(
            series,
            width=width,
            height=300 if width > 500 else 240,
            title="Training loss",
            across="updates",
            up="loss per token",
        )
    )
    return {
        "figure": figure,
        "legend": [(n, paints[n]) for n in dict.fromkeys(arms[s.name] for s in trained)],
        "several": several,
    }


def _losses(stage: Stage) -> tuple[tuple[float, float], ...]:
    return tuple(
        (float(line["update"]), float(line["loss"]))
        for line in stage.curve
        if isinstance(line.get("update"), int | float) and isinstance(line.get("loss"), int | float)
    )


def varieties(run: Run, accuracy: Accuracy, knots: Sequence[Knot]) -> tuple[list[diversity.Variety], int]:
    """Measure the responses as sampled, every training set, and all that was dropped; and over how many word pairs."""
    arms = arms_of(run, accuracy, knots)
    fed = {s.after: arms[s.name] for s in reversed(run.stages) if s.room == "train" and s.after}
    pool = samples.pool(run)
    sources = {"all samples": [(pool, "kept")]} if pool and pool.room in ("score", "generate") else {}
    for after, arm in reversed(fed.items()):
        sources[f"kept: {arm}"] = [(stage, "kept") for name in after if (stage := run.stage(name))]
    gone = [s for s in run.stages if s.room not in ("evaluate", "train", "seeds") and s.dropped]
    sources["dropped in some branch"] = [(stage, "dropped") for stage in gone]
    read = {name: _responses(stages) for name, stages in sources.items()}
    read = {name: rows for name, rows in read.items() if rows}
    size = diversity.common_size([response for _, response in rows] for rows in read.values()) if read else 0
    return [_variety(name, rows, size) for name, rows in read.items()], size


def _responses(sources: Sequence[tuple[Stage, str]]) -> list[tuple[str, str]]:
    """Return (group, response) of every row that has a response, each row once."""
    rows: dict[str, tuple[str, str]] = {}
    for stage, which in sources:
        table = stage.table(which, ["id", "group", "messages"], most=RESPONSES_READ)
        for record in table.to_pylist() if table is not None else []:
            last = record["messages"][-1] if record["messages"] else None
            if last is not None and last["role"] == "assistant":
                rows[record["id"]] = (record["group"], last["content"] or "")
    # ids are hashes: in their order every set is as good as shuffled, so equal parts of two sets can be compared
    return [rows[identity] for identity in sorted(rows)]


def _variety(name: str, rows: Sequence[tuple[str, str]], size: int) -> diversity.Variety:
    texts = [response for _, response in rows]
    measured = diversity.measure(name, texts, (group for group, _ in rows))
    return replace(measured, distinct_2=diversity.distinct_pairs(texts, size))


def _lengths(sets: Sequence[diversity.Variety], accuracy: Accuracy) -> Figure | None:
    if not sets:
        return None
    edges = diversity.bins(one.lengths for one in sets)
    paints = {f"kept: {arm.name}": arm.paint for arm in accuracy.arms} | {"dropped in some branch": "base"}
    shapes = [
        charts.Shape(label=one.name, shares=diversity.shares(one.lengths, edges), paint=paints.get(one.name, "shade"))
        for one in sets
    ]
    return _twice(
        lambda width: charts.histogram(shapes, edges, width=width, title="Words per response", across="words")
    )
