"""What is known of a run under way, gathered from the engine's events, and how it is said.

    running = Running(now=0.0)
    running.see({"event": "progress", "name": "sample", "done": 812, "total": 1500, "dropped": 3, ...}, now=41.0)
    running.step("sample", 41.0)     ["812 of 1,500 (54 %)", "38 s left", "3 dropped", "9.2 rows/s"]
    running.traffic(41.0)            ["$0.38 of $5.00", "64 in flight", "21 requests/s", "1,034 tokens/s", "12 retries"]

What matters most comes first: where there is no room for all, the end is what goes to the next line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from limbeck.view.numbers import count, counted, duration, money, percent
from limbeck.view.pace import Pace

Event = Mapping[str, Any]
_REFUSAL = re.compile(r"(?<=refused: )\S+ refused the request \(status \S+\): ")
STILL = 30.0
"""Seconds without a row after which that is said in the place of a speed."""


@dataclass(slots=True)
class StepState:
    """A step that runs: its last event, and how fast it goes."""

    rows: Pace
    last: Event = field(default_factory=dict)


class Running:
    """A run as told by its events so far."""

    def __init__(self, now: float) -> None:
        self.begun = now
        self.steps: dict[str, StepState] = {}
        """Those under way, in the order they began."""
        self.known: Event = {}
        """The last word on requests and money, which are of the whole run."""
        self._requests, self._tokens = Pace(now), Pace(now)
        self._written: dict[str, float] = {}

    def see(self, event: Event, now: float) -> None:
        """Take in an event."""
        name, state = str(event.get("name", "")), event.get("state")
        if event.get("event") == "step" and state == "started":
            self.steps.setdefault(name, StepState(Pace(now)))
        elif event.get("event") == "step":
            self.steps.pop(name, None)
        elif event.get("event") == "progress":
            step = self.steps.setdefault(name, StepState(Pace(now)))
            step.last = event
            step.rows.see(now, float(progressed(event)))
            self._written[name] = float(event.get("tokens_out") or 0)
            self._tokens.see(now, sum(self._written.values()))
            if "spent" in event or "requests" in event:
                self.known = event
                self._requests.see(now, float(event.get("requests") or 0))

    def step(self, name: str, now: float) -> list[str]:
        """Say how far a step is."""
        step = self.steps[name]
        event, done = step.last, progressed(step.last)
        total, note = event.get("total"), event.get("note")
        out = [f"{count(done)} of {count(total)} ({percent(done / total, 0)})" if total else count(done)]
        left = step.rows.left(now, total - done) if total else None
        still, rate = step.rows.still(now), step.rows.rate(now)
        out += [f"{duration(left)} left"] if left is not None and still < STILL + left else []
        out += [f"{count(event['dropped'])} dropped"] if event.get("dropped") else []
        out += [plain(str(note))] if note else []
        if still > STILL and not (total and done >= total):
            out.append(f"nothing for {duration(still)}")
        elif rate is not None:
            # a step with a note counts what it likes (updates, answers); without one, rows
            out.append(f"{speed(rate)}{'/s' if note else ' rows/s'}")
        out += [f"{count(event['cached'])} from the cache"] if event.get("cached") else []
        return out

    def traffic(self, now: float) -> list[str]:
        """Say what the whole run asks of its teachers, and what that costs."""
        event = self.known
        out = [spending(event)] if spending(event) else []
        if "in_flight" in event:
            out.append(f"{count(event['in_flight'])} in flight")
            rate = self._requests.rate(now)
            out += [f"{speed(rate)} requests/s"] if rate is not None else []
        tokens = self._tokens.rate(now)
        out += [f"{speed(tokens)} tokens/s"] if tokens is not None else []
        out += [counted(event["retries"], "retry", "retries")] if event.get("retries") else []
        return out

    def reasons(self, name: str) -> list[tuple[int, str]]:
        """Return why a step has dropped rows, most often first."""
        step = self.steps.get(name)
        return top_reasons(step.last) if step is not None else []


def progressed(event: Event) -> int:
    """Return how far a step is.

    A source is read far ahead of the steps that work on its rows; where the engine tells how many are through all of them, in
    whatever order, that is what counts.
    """
    return int(event.get("done") or 0) if event.get("through") is None else int(event["through"])


def spending(event: Event) -> str:
    """Say what was spent of what may be.

    >>> spending({"spent": 0.3812, "budget": 5.0}), spending({"spent": 0.0, "budget": None})
    ('$0.38 of $5.00', '')
    """
    spent, cap = event.get("spent"), event.get("budget")
    told = f"{money(spent)} of {money(cap)}" if spent is not None and cap is not None else money(spent) if spent else ""
    unknown = event.get("unpriced")
    price = f"price of {counted(unknown, 'answer')} unknown" if unknown else ""
    return ", ".join(part for part in (told, price) if part)


def top_reasons(event: Event) -> list[tuple[int, str]]:
    """Return counts and reasons, most often first, without the step's name and without what is the same in each refusal.

    >>> top_reasons({"reasons": {"score.math: no reference": 5, "sample: refused: http://h refused the request (status …): no": 2}})
    [(5, 'no reference'), (2, 'refused: no')]
    """
    found = dict(event.get("reasons") or {})
    ordered = sorted(found, key=lambda reason: (-found[reason], reason))
    return [(found[reason], _REFUSAL.sub("", plain(reason.partition(": ")[2] or reason))) for reason in ordered]


def plain(text: str) -> str:
    """Return a text in one line, and without what a terminal would obey: a server may have written it.

    >>> plain("no\\n\\x1b[31mway")
    'no [31mway'
    """
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def speed(rate: float) -> str:
    """Write a number a second: 1,034 or 21 or 9.2 or 0.05."""
    return count(rate) if rate >= 20 else f"{rate:.1f}" if rate >= 0.95 else f"{rate:.2f}"
