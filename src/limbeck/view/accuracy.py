"""What was measured: every model's accuracy, its seeds, its families, and the differences that are resolved.

    read(run) -> Accuracy(
        arms=[Arm(name="base", role="base", mean=.08, low=.05, high=.11, runs=(.08,)),
              Arm(name="raw traces", role="student", mean=.41, low=.38, high=.44, runs=(.40, .42, .41)), ...],
        pairs=[Pair(left="raw traces", right="verified traces", mean=.09, low=.04, high=.14, resolved=True)],
        story="base < raw traces < verified traces")

It comes from `compare.json`; models that were evaluated but not compared (often the teacher) are added from their own
`results.json`. Without a comparison the results alone are shown, and no difference is claimed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from limbeck.view.run_folder import Run, Stage


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One model, or one way of training under several seeds."""

    name: str
    role: str
    """`base`, `student`, `teacher` or `other`."""
    mean: float
    low: float | None = None
    high: float | None = None
    runs: tuple[float, ...] = ()
    prompts: int = 0
    families: Mapping[str, float]
    difficulties: Mapping[str, float]
    decoding: str = ""
    cut: float = 0.0
    """Mean number of answers that the token limit cut."""
    tokens_out: float | None = None
    paint: str = "base"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two arms against each other; `mean` is right minus left, as a share."""

    left: str
    right: str
    mean: float
    low: float
    high: float
    resolved: bool
    hint: bool = False
    """Resolved alone, but not after Holm's correction for the number of pairs."""


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Everything that was measured, in the order of the comparison."""

    arms: tuple[Arm, ...] = ()
    pairs: tuple[Pair, ...] = ()
    story: str = ""
    cautions: tuple[str, ...] = ()
    """What the comparison itself warns of."""
    sources: Mapping[str, tuple[str, ...]]
    """Arm -> the names of the evaluations behind it."""

    def of(self, role: str) -> list[Arm]:
        """Return the arms in a role."""
        return [arm for arm in self.arms if arm.role == role]

    @property
    def families(self) -> list[str]:
        """The task families that were evaluated."""
        return sorted({family for arm in self.arms for family in arm.families})

    @property
    def splits(self) -> list[tuple[str, list[str], str]]:
        """The tables that split accuracy further: (title, lines, attribute of an arm)."""
        levels = sorted({d for arm in self.arms for d in arm.difficulties}, key=lambda d: (len(d), d))
        whole = [("By family of problem", self.families, "families"), ("By difficulty", levels, "difficulties")]
        return [split for split in whole if len(split[1]) > 1]


def read(run: Run) -> Accuracy:
    """Gather what was measured in a run."""
    measured = [stage for stage in run.stages if _share(stage.results.get("accuracy")) is not None]
    judge = next((stage for stage in run.stages if stage.compare.get("arms")), None)
    compared = [a for a in (judge.compare["arms"] if judge else []) if _share(a.get("accuracy")) is not None]
    sources: dict[str, tuple[str, ...]] = {}
    arms: list[Arm] = []
    for told in compared:
        name = str(told.get("name"))
        behind = _behind(name, judge, measured)
        sources[name] = tuple(stage.name for stage in behind)
        arms.append(_arm(name, told, behind, run))
    taken = {name for names in sources.values() for name in names}
    for label, behind in _by_label([s for s in measured if s.name not in taken]).items():
        sources[label] = tuple(stage.name for stage in behind)
        arms.append(_arm(label, _pooled(behind), behind, run))
    arms = _painted(arms)
    pairs = [p for p in (_pair(t) for t in (judge.compare.get("pairs") if judge else None) or []) if p]
    roles = {arm.name: ("student", "other", "base", "teacher").index(arm.role) for arm in arms}
    # what the run is about comes first: the ways of training among themselves, then the base, then the teacher
    pairs.sort(key=lambda p: max(roles.get(p.left, 9), roles.get(p.right, 9)))
    found = judge.compare if judge else {}
    return Accuracy(
        arms=tuple(arms),
        pairs=tuple(pairs),
        story=str(found.get("story") or ""),
        cautions=_cautions(found),
        sources=sources,
    )


def _cautions(compare: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what the comparison says beyond its pairs."""
    said = {pair.get("sentence") for pair in compare.get("pairs") or []}
    return tuple(str(s) for s in compare.get("sentences") or [] if s not in said)


def _arm(name: str, told: Mapping[str, Any], behind: Sequence[Stage], run: Run) -> Arm:
    accuracy = told.get("accuracy")
    low, high = (accuracy.get("low"), accuracy.get("high")) if isinstance(accuracy, dict) else (None, None)
    runs = tuple(float(r) for r in told.get("runs") or [])
    return Arm(
        name=name,
        role=_role(name, behind, run),
        mean=_share(accuracy) or 0.0,
        low=low,
        high=high,
        runs=runs or tuple(_share(stage.results.get("accuracy")) or 0.0 for stage in behind),
        prompts=int(told.get("prompts") or max((int(s.results.get("prompts") or 0) for s in behind), default=0)),
        families=_split(behind, "by_family"),
        difficulties=_split(behind, "by_difficulty"),
        cut=_mean([s.results.get("cut") for s in behind]) or 0.0,
        decoding=_decoding(behind),
        tokens_out=_mean([s.results.get("tokens_out_mean") for s in behind]),
    )


def _behind(name: str, judge: Stage | None, measured: Sequence[Stage]) -> list[Stage]:
    """Find the evaluations of an arm: as the comparison's own field names them, else by their label."""
    named = (judge.fields.get("arms") if judge else None) or {}
    listed = named.get(name) if isinstance(named, dict) else None
    if listed:
        wanted = {str(n).removeprefix("step:") for n in ([listed] if isinstance(listed, str) else listed)}
        return [stage for stage in measured if stage.name in wanted]
    return [
        stage for stage in measured if name in (_label(stage), _plain(_label(stage)), stage.name, _plain(stage.name))
    ]


def _by_label(measured: Sequence[Stage]) -> dict[str, list[Stage]]:
    groups: dict[str, list[Stage]] = {}
    for stage in measured:
        groups.setdefault(_label(stage), []).append(stage)
    return groups


def _label(stage: Stage) -> str:
    return str(stage.results.get("label") or stage.fields.get("label") or stage.name)


def _plain(label: str) -> str:
    # "raw traces, seed 2" and "raw traces 2" are runs of the arm "raw traces"
    return re.sub(r"[\s,_-]*(seed|run)?[\s_-]*\d+$", "", label)


def _pooled(behind: Sequence[Stage]) -> dict[str, Any]:
    if len(behind) == 1:
        return {"accuracy": behind[0].results["accuracy"]}
    # several runs without a comparison: the mean is honest, an interval would be a guess
    return {"accuracy": {"mean": _mean([_share(s.results.get("accuracy")) for s in behind])}}


def _role(name: str, behind: Sequence[Stage], run: Run) -> str:
    models = {str(stage.results.get("model") or stage.fields.get("model") or "") for stage in behind}
    if any(model.startswith("step:") for model in models):
        return "student"
    params = run.recipe.get("params") or {}
    if "teacher" in name.lower() or (models and models <= {str(params.get("teacher", "")), "embedded"}):
        return "teacher"
    known = {str(params.get("student", "")), "embedded:student"}
    if name.lower() in ("base", "untrained", "before") or (models and models <= known):
        return "base"
    return "other" if models else "student"


def _painted(arms: Sequence[Arm]) -> list[Arm]:
    from dataclasses import replace

    out, number = [], 0
    for arm in arms:
        paint = arm.role
        if arm.role in ("student", "other"):
            paint, number = f"arm-{number % 8}", number + 1
        out.append(replace(arm, paint=paint))
    return out


def _pair(told: Mapping[str, Any]) -> Pair | None:
    span = told.get("difference")
    if not isinstance(span, dict) or not all(isinstance(span.get(k), int | float) for k in ("mean", "low", "high")):
        return None
    left, right = str(told.get("left")), str(told.get("right"))
    mean, low, high = float(span["mean"]), float(span["low"]), float(span["high"])
    holm = told.get("p_holm")
    return Pair(
        left=left,
        right=right,
        mean=mean,
        low=low,
        high=high,
        resolved=bool(told.get("resolved")),
        hint=bool(told.get("resolved")) and isinstance(holm, int | float) and holm > 0.05,
    )


def _split(behind: Sequence[Stage], by: str) -> dict[str, float]:
    """Return the mean accuracy over the runs for each family or difficulty."""
    told = [stage.results.get(by) or {} for stage in behind]
    means = {name: _mean([_share(t.get(name)) for t in told]) for name in dict.fromkeys(n for t in told for n in t)}
    return {name: value for name, value in means.items() if value is not None}


def _decoding(behind: Sequence[Stage]) -> str:
    if not behind:
        return ""
    temperatures = {stage.results.get("temperature") for stage in behind}
    samples = {stage.results.get("samples") or 1 for stage in behind}
    if temperatures == {0} or temperatures == {0.0}:
        return "greedy"
    said = ", ".join(f"temperature {t:g}" for t in sorted(t for t in temperatures if isinstance(t, int | float)))
    most = max(int(s) for s in samples)
    return f"{said}, {most} samples each" if said and most > 1 else said


def _share(value: Any) -> float | None:
    value = value.get("mean") if isinstance(value, dict) else value
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _mean(values: Sequence[Any]) -> float | None:
    known = [float(v) for v in values if isinstance(v, int | float)]
    return sum(known) / len(known) if known else None
