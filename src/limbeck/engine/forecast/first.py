"""What stopping at the first pass would save: each prompt's samples drawn one by one until one passes.

    prompt 93ab   8 samples, 2 pass    3.0 draws expected
    prompt 77c0   8 samples, none      8 draws: all in vain
    prompt 1e5f   8 samples, all       1 draw

Where a recipe samples n answers to each prompt and `select.until_pass` then keeps the first that passes, the pilot knows for
each prompt how many of its n passed. The expected number of draws is averaged over all orders of the samples, so that it is
right for prompts of different difficulty (see `totals.draws_to_pass`); so are the tokens, because answers that pass
are often shorter. One by one each draw is a request of its own and pays for the prompt again, and a judge between sampling and
selection sees only what is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import nan

from limbeck.core.prices import price_of
from limbeck.core.recipe import after_of
from limbeck.core.row import Row
from limbeck.core.step import Each, Source
from limbeck.engine.forecast.steps import Pilot, Spans
from limbeck.engine.forecast.totals import Span, drawn, draws_to_pass
from limbeck.engine.forecast.watch import Root, Seen
from limbeck.engine.plan import Node
from limbeck.engine.rundir import read_rows

UNTIL_PASS = "select.until_pass"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """How many answers a prompt gets now and would get, and what the steps concerned would take."""

    made: float
    needed: Span
    spans: Mapping[str, Spans]


@dataclass(frozen=True, slots=True)
class _Drawn:
    draws: float = 0.0
    tokens: float = 0.0

    def plus(self, draws: float, tokens: float) -> _Drawn:
        return _Drawn(self.draws + draws, self.tokens + tokens)


def stopping(pilot: Pilot) -> Stopping | None:
    """Return what stopping at the first pass would change; None where nothing is sampled several times and selected so."""
    for select in pilot.nodes.values():
        if select.step.called() == UNTIL_PASS and select.folder.summary():
            path = _path(pilot, select)
            if path:
                return _stopping(pilot, select, path)
    return None


def _path(pilot: Pilot, select: Node) -> list[Node]:
    """Return the step that samples and those between it and the selection, in order; empty if there is none."""
    path: list[Node] = []
    node = select
    while len(after_of(node.step)) == 1:
        node = pilot.nodes[after_of(node.step)[0]]
        if not isinstance(node.step, Each) or isinstance(node.step, Source):
            return []
        path.insert(0, node)
        if any(s.answers > s.asks for s in pilot.seen(node.name).values()):
            return path
    return []


def _stopping(pilot: Pilot, select: Node, path: Sequence[Node]) -> Stopping:
    sampling, seen = path[0], pilot.seen(path[0].name)
    of = _draws(pilot, select, seen)
    prompts = pilot.sum(sampling.step, {root: float(s.asks) for root, s in seen.items()}).value or 1.0
    answers = pilot.sum(sampling.step, {root: float(s.answers) for root, s in seen.items()}).value
    needed = pilot.sum(sampling.step, {root: d.draws for root, d in of.items()}).times(1 / prompts)
    spans = {sampling.name: _spans(pilot, sampling, {root: _sampled(s, of[root]) for root, s in seen.items()})}
    for node in path[1:]:
        judged = pilot.seen(node.name)
        if any(s.asks for s in judged.values()):
            shares = {root: of[root].draws / seen[root].answers for root in judged if root in of and seen[root].answers}
            less = {root: _part(s, shares.get(root, 1.0)) for root, s in judged.items()}
            spans[node.name] = _spans(pilot, node, less)
    return Stopping(made=answers / prompts, needed=_within(needed, 1.0, answers / prompts), spans=spans)


def _within(span: Span, least: float, most: float) -> Span:
    """Return the span with its ends cut: each prompt is drawn for once, and never more often than the recipe samples."""
    if span.low is None or span.high is None:
        return span
    return replace(span, low=min(span.value, max(span.low, least)), high=max(span.value, min(span.high, most)))


def _draws(pilot: Pilot, select: Node, seen: Mapping[Root, Seen]) -> dict[Root, _Drawn]:
    """Return for each source row the draws expected, and the tokens in what is drawn."""
    score, least = (select.step.fields()[name] for name in ("score", "least"))
    of = dict.fromkeys(seen, _Drawn())
    prompts = dict.fromkeys(seen, 0)
    for rows in _groups(select):
        root = pilot.watch.root(rows[0])
        if root not in seen:
            continue
        made = seen[root]
        mean = made.tokens_out / max(1, made.answers)
        lost = max(0, round(made.answers / max(1, made.asks)) - len(rows))  # dropped on the way: not passed
        passed = [row.scores.get(score, nan) >= least for row in rows] + [False] * lost
        tokens = [row.usage.tokens_out or mean for row in rows] + [mean] * lost
        spent = sum(share * count for share, count in zip(drawn(passed), tokens, strict=True))
        of[root] = of[root].plus(draws_to_pass(len(passed), sum(passed)), spent)
        prompts[root] += 1
    for root, made in seen.items():  # prompts of which no sample came as far as the selection: all in vain
        vain = max(0, made.asks - prompts[root]) / max(1, made.asks)
        of[root] = of[root].plus(vain * made.answers, vain * made.tokens_out)
    return of


def _groups(select: Node) -> list[list[Row]]:
    groups: dict[str, list[Row]] = {}
    for name in ("kept", "dropped"):
        for row in read_rows(select.folder.path / f"{name}.parquet"):
            groups.setdefault(row.group, []).append(row)
    return list(groups.values())


def _sampled(seen: Seen, now: _Drawn) -> Seen:
    """Return what one source row would lead to if its samples were drawn one by one."""
    prompt = seen.tokens_in / max(1.0, seen.requests)
    return replace(seen, requests=now.draws, answers=now.draws, tokens_in=now.draws * prompt, tokens_out=now.tokens)


def _part(seen: Seen, share: float) -> Seen:
    """Return what one source row would lead to in a step that sees a share of its samples."""
    names = ("requests", "answers", "tokens_in", "tokens_out", "usd", "cpu")
    return replace(seen, **{name: share * getattr(seen, name) for name in names})


def _spans(pilot: Pilot, node: Node, less: Mapping[Root, Seen]) -> Spans:
    before = pilot.spans(node)
    assert before is not None
    step, out = node.step, {}
    for name, counted in (("calls", "requests"), *((n, n) for n in ("answers", "tokens_in", "tokens_out"))):
        out[name] = pilot.sum(step, {root: getattr(s, counted) for root, s in less.items()})
    usd = {root: _usd(pilot, node.name, pilot.seen(node.name)[root], s) for root, s in less.items()}
    before_answers = before["answers"]
    assert before_answers is not None
    several = any(s.answers > s.asks for s in pilot.seen(node.name).values())  # the sampling step itself, not a judge
    least = pilot.sum(step, {root: float(s.asks) for root, s in less.items()}).value if several else 0.0
    for name in ("calls", "answers"):
        out[name] = _within(out[name], least, before_answers.value)
    spans: Spans = {**out, "rows": out["answers"], "usd": pilot.usd(node, usd)}
    # what is generated takes the time; more and smaller requests for the same tokens do not take more of it
    written = before["tokens_out"]
    ratio = out["tokens_out"].value / written.value if written is not None and written.value else 1.0
    spans["seconds"] = None if before["seconds"] is None else before["seconds"].times(ratio)
    return spans


def _usd(pilot: Pilot, step: str, before: Seen, after: Seen) -> float:
    """Return the dollars of `after`, at the price that `before` was bought at (which may be a batch's, or partly cached)."""
    price = price_of(pilot.watch.identity(pilot.watch.teachers[step]))
    if price is None:
        return 0.0
    listed = price.usd(int(before.tokens_in), int(before.tokens_out))
    return before.usd * price.usd(round(after.tokens_in), round(after.tokens_out)) / listed if listed else 0.0
