"""The shape of a run: repeated seeds folded into one knot, knots in reading order, each in a lane.

Nine trainings that differ in their seed alone would make an unreadable picture; they are one knot with nine stages:

    Knot(stages=(train-raw-1, train-raw-2, train-raw-3), title="train-raw ×3", lane=1, parents=(2,))

Two stages fold when they run the same step, with the same fields but for the seed, the label and the steps they name,
on rows of the same knots, with models of the same knots.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from limbeck.core.fingerprint import digest
from limbeck.view.run_folder import Stage

FREE_FIELDS = ("seed", "label", "name", "title")
"""Fields in which stages may differ and still be told as one."""


@dataclass(kw_only=True)
class Knot:
    """One line of the picture: a stage, or the same stage under several seeds."""

    stages: list[Stage]
    parents: list[int] = field(default_factory=list)
    """Positions of the knots whose rows it reads."""
    uses: list[int] = field(default_factory=list)
    """Positions of the knots whose model or artefact it uses."""
    lane: int = 0

    @property
    def count(self) -> int:
        """How many stages are folded into it."""
        return len(self.stages)

    @property
    def finished(self) -> list[Stage]:
        """Those of its stages that are done."""
        return [stage for stage in self.stages if stage.state == "done"]

    @property
    def title(self) -> str:
        """What its stages are called, without the counting number they differ in."""
        if self.count == 1:
            return self.stages[0].name
        common = _common([stage.name for stage in self.stages])
        return re.sub(r"[\W_]+(seed|s|r)?$", "", common) or self.stages[0].name

    def mean(self, what: str) -> int:
        """Return the mean over its finished stages of `kept`, `dropped` or `read` rows."""
        return round(sum(int(getattr(stage, what)) for stage in self.finished) / max(1, len(self.finished)))


def fold(stages: Sequence[Stage]) -> list[Knot]:
    """Fold repeated stages into knots, put the knots in reading order and give each a lane."""
    keys: dict[str, str] = {}
    groups: dict[str, list[Stage]] = {}
    for stage in stages:
        key = _key(stage, keys)
        keys[stage.name] = key
        groups.setdefault(key, []).append(stage)
    parents = {k: _unique(keys[n] for s in g for n in s.after if n in keys) for k, g in groups.items()}
    uses = {k: _unique(keys[n] for s in g for n in s.needs if n in keys) for k, g in groups.items()}
    order = _reading_order(list(groups), parents, uses, _late(groups, parents))
    place = {key: index for index, key in enumerate(order)}
    knots = [
        Knot(stages=groups[k], parents=[place[p] for p in parents[k]], uses=[place[u] for u in uses[k]]) for k in order
    ]
    _lanes(knots)
    return knots


def _key(stage: Stage, keys: dict[str, str]) -> str:
    def folded(name: str) -> str:
        return keys.get(name, name)

    fields = json.dumps({k: v for k, v in stage.fields.items() if k not in FREE_FIELDS}, sort_keys=True, default=str)
    # a reference to a folded stage counts as a reference to its knot
    fields = re.sub(r'"step:([^"]*)"', lambda m: f'"knot:{folded(m.group(1))}"', fields)
    after, needs = sorted({folded(n) for n in stage.after}), sorted({folded(n) for n in stage.needs})
    root = stage.name if not stage.after else ""
    return digest([stage.step, root, after, needs, fields])


def _late(groups: dict[str, list[Stage]], parents: dict[str, list[str]]) -> set[str]:
    """Return evaluations, and the sources that lead to evaluations only: they are told last."""
    late = {key for key, group in groups.items() if group[0].room == "evaluate"}
    children = {key: [k for k in groups if key in parents[k]] for key in groups}
    return late | {key for key in groups if children[key] and all(child in late for child in children[key])}


def _reading_order(
    keys: list[str], parents: dict[str, list[str]], uses: dict[str, list[str]], late: set[str]
) -> list[str]:
    """Order knots so that each follows what it reads and uses, and a branch is told to its end before the next."""
    order: list[str] = []
    waiting = list(keys)

    def rank(key: str) -> tuple[bool, int, int]:
        # the child of the latest knot that still has one: depth first
        nearest = max((order.index(p) for p in parents[key] if p in order), default=-1)
        return key not in late, nearest, -keys.index(key)

    while waiting:
        ready = [k for k in waiting if all(p in order for p in (*parents[k], *uses[k]))] or waiting[:1]
        best = max(ready, key=rank)
        order.append(best)
        waiting.remove(best)
    return order


def _lanes(knots: list[Knot]) -> None:
    """Give each knot the lane of its first parent if that lane is free from there on, else a new one."""
    last_child = {i: max((c for c, k in enumerate(knots) if i in k.parents), default=i) for i in range(len(knots))}
    for index, knot in enumerate(knots):
        busy = {
            knots[i].lane
            for i in range(index)
            if last_child[i] > index or (last_child[i] == index and i not in knot.parents)
        }
        wanted = [knots[p].lane for p in knot.parents[:1]]
        free = [lane for lane in (*wanted, *range(len(knots) + 1)) if lane not in busy]
        knot.lane = free[0]


def _unique(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))


def _common(names: Sequence[str]) -> str:
    """Return the beginning that all names share."""
    low, high = min(names), max(names)
    return low[: next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))]
