"""One step's share of a plan: the pilot's values for each source row, scaled to all rows.

pilot.spans(pilot.nodes["sample"])      {"rows": Span(59784, ...), "calls": Span(7473, ...), "usd": Span(9.9, 9.1, 10.7), ...}
pilot.time(spans)                       the steps of one chain stream side by side; chains come one after the other
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from limbeck.core.find import find_teacher, teacher_names
from limbeck.core.recipe import after_of
from limbeck.core.step import Each, Source, Step, Whole
from limbeck.engine.forecast.time import Asked, asked
from limbeck.engine.forecast.totals import Span, Stratum, total
from limbeck.engine.forecast.watch import Root, Seen, Watch
from limbeck.engine.limits import Limits
from limbeck.engine.plan import Node

TO_BEGIN = 0.1
"""Seconds that a whole-table step takes for a table of a few rows: a thread, imports, two files."""
Spans = dict[str, Span | None]
"""A step's estimates by name; None where one can not be known."""


class Pilot:
    """A pilot that was run: what was seen of it, and its steps."""

    def __init__(self, watch: Watch, nodes: Mapping[str, Node], limits: Limits) -> None:
        self.watch, self.nodes, self.limits = watch, nodes, limits

    def spans(self, node: Node) -> Spans | None:
        """Return what a step will take; None if the pilot did not run it."""
        summary = node.folder.summary()
        if not summary:
            return None
        seen = self.seen(node.name)
        out: Spans = {"rows": self.sum(node.step, self._kept(node))}
        for name, counted in (("calls", "requests"), *((n, n) for n in ("answers", "tokens_in", "tokens_out"))):
            out[name] = self.sum(node.step, {root: float(getattr(s, counted)) for root, s in seen.items()})
        out["usd"] = self.usd(node, {root: s.usd for root, s in seen.items()})
        out["seconds"] = self._seconds(node, out, summary)
        return out

    def seen(self, step: str) -> Mapping[Root, Seen]:
        """Return what each source row led to in a step."""
        return self.watch.seen.get(step, {})

    def usd(self, node: Node, values: Mapping[Root, float]) -> Span | None:
        """Return the sum of dollars, or None where the price of an answer was unknown."""
        return None if any(s.unpriced for s in self.seen(node.name).values()) else self.sum(node.step, values)

    def sum(self, step: Step, values: Mapping[Root, float]) -> Span:
        """Return the sum over all rows of the sources that `step` goes back to, from the values of those that were tried."""
        pilots = {name: self.watch.pilots[name] for name in self.sources(step)}
        tried = sum(len(pilot.rows) for pilot in pilots.values()) or 1
        spread = values.get(None, 0.0) / tried  # of rows that can not be followed back: an equal part to each
        return total(
            [
                Stratum(size=pilot.size, values=[values.get((name, place), 0.0) + spread for place in pilot.places])
                for name, pilot in pilots.items()
            ]
        )

    def sources(self, step: Step) -> list[str]:
        """Return the names of the sources whose rows reach a step."""
        if isinstance(step, Source):
            return [step.name]
        above = [name for before in after_of(step) for name in self.sources(self.nodes[before].step)]
        return list(dict.fromkeys(above))

    def remote(self, step: str) -> bool:
        """Whether the teacher that a step asks is an endpoint."""
        return self._is(step, "remote")

    def batched(self, step: str) -> bool:
        """Whether the teacher that a step asks is a batch API: what it answers takes as long for few as for many."""
        return self._is(step, "priced") and not self.remote(step)

    def _is(self, step: str, what: str) -> bool:
        kind = self.watch.teachers.get(step, "").partition(":")[0]
        return kind in teacher_names() and bool(getattr(find_teacher(kind), what, False))

    def identities(self) -> list[str]:
        """Return the identities of the teachers that were asked."""
        return list(dict.fromkeys(self.watch.identity(teacher) for teacher in self.watch.teachers.values()))

    def paid(self) -> float | None:
        """Return the dollars that the pilot's answers have cost, None where a price is unknown."""
        every = [seen for step in self.watch.seen.values() for seen in step.values()]
        return None if any(seen.unpriced for seen in every) else math.fsum(seen.usd for seen in every)

    def added(self, spans: Mapping[str, Spans], name: str) -> Span | None:
        """Return the sum over steps. The rows of the pilot are common to them, so their errors add up as they stand."""
        parts = [found[name] for found in spans.values() if name in found]
        return _added(parts)

    def time(self, spans: Mapping[str, Spans]) -> Span | None:
        """Return the time of all steps: side by side within a chain, except for what asks the same teacher."""
        chains: dict[str, dict[str, list[Span | None]]] = {}
        for step, found in spans.items():
            by = self.watch.teachers.get(step, "")
            chains.setdefault(self._chain(step), {}).setdefault(by, []).append(found["seconds"])
        return _added([_longest([_added(parts) for parts in chain.values()]) for chain in chains.values()])

    def _chain(self, step: str) -> str:
        above = after_of(self.nodes[step].step)
        streams = isinstance(self.nodes[step].step, Each) and len(above) == 1
        joins = streams and isinstance(self.nodes[above[0]].step, Each | Source)
        return self._chain(above[0]) if joins else step

    def _kept(self, node: Node) -> dict[Root, float]:
        counts: dict[Root, float] = {}
        for row in node.folder.read():
            root = self.watch.root(row)
            counts[root] = counts.get(root, 0.0) + 1
        return counts

    def _seconds(self, node: Node, spans: Spans, summary: Mapping[str, Any]) -> Span | None:
        if isinstance(node.step, Whole):
            pilots = [self.watch.pilots[name] for name in self.sources(node.step)]
            tried = sum(len(pilot.rows) for pilot in pilots) or 1
            scale = sum(pilot.size for pilot in pilots) / tried
            return Span(value=summary["seconds"] + max(0.0, summary["seconds"] - TO_BEGIN) * (scale - 1))
        work = self.sum(node.step, {root: s.cpu for root, s in self.seen(node.name).items()})
        if not self.watch.spans.get(node.name):
            return work
        if self.batched(node.name):
            return None
        waiting = asked(self._asked(node.name, spans, summary.get("usage") or {}), self.limits)
        return None if waiting is None else _longest([waiting, work])

    def _asked(self, name: str, spans: Spans, usage: Mapping[str, Any]) -> Asked:
        marks, asks = self.watch.spans[name], sum(s.asks for s in self.seen(name).values())
        calls, into, out = (spans[key] or Span(value=0.0) for key in ("calls", "tokens_in", "tokens_out"))
        programs = len(marks) - asks  # run in the sandbox: they take time, and no call
        bought = int(usage.get("calls") or 0) + programs
        remote = self.remote(name)
        waited = float(usage.get("seconds") or 0.0) if remote else math.fsum(end - begin for begin, end in marks)
        made = calls if asks else self.sum(self.nodes[name].step, {None: float(programs)})
        return Asked(
            requests=made,
            tokens=Span(value=into.value + out.value),
            bought=bought,
            latency=waited / max(1, bought),
            spans=marks,
            remote=remote,
        )


def _added(parts: Iterable[Span | None]) -> Span | None:
    known = list(parts)
    if any(part is None for part in known):
        return None
    return Span(
        value=math.fsum(p.value for p in known if p is not None),
        low=_ends(known, "low"),
        high=_ends(known, "high"),
    )


def _ends(parts: Iterable[Span | None], end: str) -> float | None:
    ends = [p.value if getattr(p, end) is None else getattr(p, end) for p in parts if p is not None]
    return math.fsum(ends)


def _longest(parts: Sequence[Span | None]) -> Span | None:
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    lows, highs = ([p.value if (e := getattr(p, end)) is None else e for p in known] for end in ("low", "high"))
    return Span(value=max(part.value for part in known), low=max(lows), high=max(highs))
