"""The plan: what a recipe will take - rows, calls, tokens, money, time - from a pilot on a few of its rows.

    plan = forecast(recipe, pilot=16, seed=0)
    plan.steps[1]        Estimate(step="sample", rows=59784, calls=7473, tokens_out=6.1e6, usd=9.9, low={"usd": 9.1, ...}, ...)
    plan.total.usd       9.9
    plan.first_pass      what changes if each prompt's sampling stops at its first answer that passes
    plan.notes           what was assumed, in sentences

The pilot is a run like any other, on `pilot` rows of each source, in a folder that is thrown away. Its answers are in the cache:
the real run does not buy them again, and a second plan costs nothing (nor can it measure time: `seconds` is None then). Steps that
train, and what needs them, are listed but not measured.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from limbeck.core.prices import price_of, table_version, told_unknown
from limbeck.core.recipe import Recipe
from limbeck.core.step import Whole
from limbeck.engine.estimate import Estimate, Plan
from limbeck.engine.forecast.first import Stopping, stopping
from limbeck.engine.forecast.steps import Pilot, Spans
from limbeck.engine.forecast.totals import Span
from limbeck.engine.forecast.watch import Watch
from limbeck.engine.limits import Limits
from limbeck.engine.local import LocalRun

COUNTS = ("rows", "calls", "answers", "tokens_in", "tokens_out")


def forecast(
    recipe: Recipe,
    *,
    pilot: int = 16,
    seed: int | None = 0,
    budget: float | None = None,
    limits: Limits | None = None,
    listen: Callable[[dict[str, Any]], None] = lambda event: None,
    drive: Callable[[Coroutine[Any, Any, None]], None] = asyncio.run,
) -> Plan:
    """Try a recipe on `pilot` rows of each source, and say what all rows will take.

    Args:
        recipe: what to plan.
        pilot: how many rows of each source to try.
        seed: which rows, at random; None takes the first ones.
        budget: a cap on what the pilot may spend, in US dollars.
        limits: what the run will be allowed at an endpoint; default: what the environment says.
        listen: is told of the pilot's progress.
        drive: how to run the engine's coroutine to its end.

    Raises:
        LimbeckError: whatever stops a run; BudgetReached for the pilot's own cap.
    """
    watch = Watch()
    tried = watch.recipe(recipe, pilot=pilot, seed=seed)
    with tempfile.TemporaryDirectory(prefix="limbeck-plan-") as scratch:
        capped: dict[str, Any] = {} if budget is None else {"budget": budget}
        own = int(recipe.params.get("seed", 0) or 0)
        told = _renaming(listen, f"a pilot of {recipe.name}")
        job = LocalRun(
            tried, Path(scratch) / "pilot", listen=told, seed=own, streaming_only=True, limits=limits, **capped
        )
        drive(job.run())
        return _plan(recipe.name, Pilot(watch, job.nodes, job.limits), random_rows=seed is not None)


def _renaming(listen: Callable[[dict[str, Any]], None], name: str) -> Callable[[dict[str, Any]], None]:
    """Return a listener under whose eyes the run has another name, and a folder that is not worth naming."""

    def told(event: dict[str, Any]) -> None:
        listen({**event, "recipe": name, "folder": "a temporary folder"} if event.get("event") == "run" else event)

    return told


def _plan(name: str, pilot: Pilot, *, random_rows: bool) -> Plan:
    spans = {step: pilot.spans(node) for step, node in pilot.nodes.items()}
    steps = [_estimate(step, pilot, found) for step, found in spans.items()]
    stopped = stopping(pilot)
    fewer = {} if stopped is None else stopped.spans
    instead = {step: {**(spans[step] or {}), **found} for step, found in fewer.items()}
    return Plan(
        recipe=name,
        steps=steps,
        total=_total(pilot, spans),
        first_pass=[_estimate(step, pilot, found) for step, found in instead.items()],
        first_pass_total=_total(pilot, {**spans, **instead}) if instead else None,
        samples={} if stopped is None else _samples(stopped),
        pilot={source: (len(p.rows), p.size) for source, p in pilot.watch.pilots.items()},
        paid=pilot.paid(),
        unknown=[told_unknown(identity) for identity in pilot.identities() if price_of(identity) is None],
        notes=_notes(pilot, spans, random_rows=random_rows),
    )


def _estimate(step: str, pilot: Pilot, found: Spans | None) -> Estimate:
    use = pilot.nodes[step].step.shown()
    if found is None:
        return Estimate(step=step, use=use, measured=False, usd=None, seconds=None)
    known = {name: span for name, span in found.items() if span is not None}
    values: dict[str, Any] = {name: round(known[name].value) for name in COUNTS if name in known}
    values |= {name: known[name].value if name in known else None for name in ("usd", "seconds")}
    low = {name: span.low for name, span in known.items() if span.low is not None}
    high = {name: span.high for name, span in known.items() if span.high is not None}
    return Estimate(step=step, use=use, low=low, high=high, **values)


def _total(pilot: Pilot, spans: Mapping[str, Spans | None]) -> Estimate:
    """Return the sum of the measured steps; rows do not add up, and streaming steps of one chain share their time."""
    known = {step: found for step, found in spans.items() if found is not None}
    summed: Spans = {name: pilot.added(known, name) for name in (*COUNTS[1:], "usd")}
    summed["seconds"] = pilot.time(known)
    first = next(iter(spans))
    return replace(_estimate(first, pilot, summed), step="total", use="")


def _samples(stopped: Stopping) -> dict[str, float]:
    need: Span = stopped.needed
    ends = {} if need.low is None or need.high is None else {"low": need.low, "high": need.high}
    return {"made": stopped.made, "needed": need.value, **ends}


def _notes(pilot: Pilot, spans: Mapping[str, Spans | None], *, random_rows: bool) -> list[str]:
    rows = ", ".join(f"{len(p.rows):,} of {p.size:,} rows of {name}" for name, p in pilot.watch.pilots.items())
    how = "taken at random" if random_rows else "the first ones, which may not be like the rest"
    out = [f"Estimated from {rows}, {how}; ranges are 95 % intervals over rows (Student's t, finite population)."]
    remote = [step for step in pilot.watch.teachers if pilot.remote(step)]
    if remote and any(found is not None and found["seconds"] is not None for found in spans.values()):
        out.append(
            f"Time: at {pilot.limits.concurrency} requests in flight with the pilot's latency; the upper end is the pilot's own "
            "throughput."
        )
    untimed = [step for step, found in spans.items() if found is not None and found["seconds"] is None]
    if any(pilot.batched(step) for step in untimed):
        out.append("Time is not known where a batch API answers: within a day, in a batch of any size.")
    if not all(pilot.batched(step) for step in untimed):
        out.append("Time is not known where all answers of the pilot came from the cache.")
    if any(isinstance(n.step, Whole) and spans[name] is not None for name, n in pilot.nodes.items()):
        out.append("Whole-table steps are scaled as if each row stood alone; a deduplication finds more in more rows.")
    priced = [i for i in pilot.identities() if (p := price_of(i)) is not None and not p.free]
    if priced:
        out.append(f"Prices: {'; '.join(_dated(identity) for identity in priced)} (table of {table_version()}).")
    return out


def _dated(identity: str) -> str:
    price = price_of(identity)
    assert price is not None
    seen = f", seen {price.as_of} at {price.source}" if price.as_of else ", from your price file"
    return f"{identity.partition(' ')[2]} ${price.input:g} in and ${price.output:g} out a million tokens{seen}"
