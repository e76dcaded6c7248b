"""How a run under way is shown: live bars on a terminal, plain lines in a log, JSON lines for a program.

The engine calls a listener with plain dictionaries and knows nothing of terminals:

    {"event": "run", "recipe": "quickstart", "folder": "runs/quickstart", "steps": ["problems", "samples", …]}
    {"event": "step", "name": "samples", "state": "started"}
    {"event": "progress", "name": "samples", "done": 812, "total": 1500, "dropped": 3, "tokens_out": 91000, "usd": 0.4}
    {"event": "step", "name": "samples", "state": "done", "rows": {"in": 1500, "kept": 6000, "dropped": 0}, "seconds": 88}
    {"event": "end", "seconds": 412.0, "report": "runs/quickstart/report.html"}

In a log that is

    limbeck: quickstart, 31 steps, in runs/quickstart
    limbeck: samples started
    limbeck: samples 812 of 1,500 (54 %), 38 s left, $0.40, 3 dropped, 1,034 tokens/s, 9.2 rows/s
    limbeck: samples done: 1,500 in, 6,000 kept, 0 dropped, 88 s

JSON goes to stdout, everything else to stderr. A listener that fails would stop a run that is paid for, so a failure
to show something is reported once on stderr and the run goes on unshown.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Literal

from limbeck.core.errors import UsageError
from limbeck.view.numbers import count, duration, money, percent

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

Event = Mapping[str, Any]
Kind = Literal["auto", "plain", "json", "none"]
QUIET_SECONDS = 5.0
"""A plain log has at most one line per step in so many seconds."""


class Progress:
    """A listener for the engine's events, and a context manager around the run. This one shows nothing."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self.stream = stream or sys.stderr
        self.broken = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._safely(self.close)

    def __call__(self, event: Event) -> None:
        """Show an event. Never raises: what can not be shown is said once, and the run goes on."""
        self._safely(lambda: self.show(event))

    def show(self, event: Event) -> None:
        """Show one event; a rendering overrides this."""

    def close(self) -> None:
        """Leave the terminal as it was."""

    def _safely(self, act: Callable[[], None]) -> None:
        if self.broken:
            return
        try:
            act()
        except Exception as error:  # noqa: BLE001 - whatever a terminal or a pipe does, it must not end a paid run
            self.broken = True
            self._complain(error)

    def _complain(self, error: Exception) -> None:
        try:
            sys.stderr.write(
                f"limbeck: progress can not be shown any more ({type(error).__name__}: {error}); the run goes on.\n"
            )
        except (OSError, ValueError):
            # stderr itself is closed: there is nobody left to tell
            return


class JsonLines(Progress):
    """Every event as one line of JSON, as it came, with the time since the start."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        super().__init__(stream or sys.stdout)
        self._begun = time.monotonic()

    def show(self, event: Event) -> None:
        """Write the event."""
        line = {**event, "at": round(time.monotonic() - self._begun, 3)}
        self.stream.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
        self.stream.flush()


class Plain(Progress):
    """One line when a step starts and when it ends, and one now and then in between."""

    def __init__(self, stream: IO[str] | None = None, every: float = QUIET_SECONDS) -> None:
        super().__init__(stream)
        self.every = every
        self._begun = time.monotonic()
        self._since: dict[str, float] = {}
        self._last: dict[str, float] = {}

    def show(self, event: Event) -> None:
        """Write the line of an event, if it is time for one."""
        now = time.monotonic()
        kind, name = event.get("event"), str(event.get("name", ""))
        if kind == "run":
            self._write(
                f"{event.get('recipe', 'run')}, {len(event.get('steps') or [])} steps, in {event.get('folder', '?')}"
            )
        elif kind == "step":
            self._since.setdefault(name, now)
            self._last[name] = now
            self._write(f"{name} {told_step(event)}")
        elif kind == "progress" and now - self._last.get(name, 0.0) >= self.every:
            self._last[name] = now
            self._write(f"{name} {told_progress(event, now - self._since.setdefault(name, now))}")
        elif kind == "end":
            self._write(told_end(event, now - self._begun))

    def _write(self, words: str) -> None:
        self.stream.write(f"limbeck: {words}\n")
        self.stream.flush()


class Live(Progress):
    """Bars on a terminal: one for every step that is running, with rows, speed, drops, cost and the time left."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        super().__init__(stream)
        self._begun = time.monotonic()
        self._steps = 0
        self._ended = 0
        self._bars = self._make()
        self._tasks: dict[str, TaskID] = {}

    def _make(self) -> Bars:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars
        from rich.table import Column

        return Bars(
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, max_width=28)),
            BarColumn(bar_width=18),
            TextColumn("{task.fields[told]}", markup=False, style="dim", table_column=Column(no_wrap=True, ratio=1)),
            TimeElapsedColumn(),
            console=Console(file=self.stream),
            transient=True,
            refresh_per_second=4,
            expand=True,
        )

    def show(self, event: Event) -> None:
        """Start, move or end the bar of a step; ended steps become a line above the bars."""
        kind, name = event.get("event"), str(event.get("name", ""))
        if kind == "run":
            self._steps = len(event.get("steps") or [])
            self._print(f"{event.get('recipe', 'run')}, {self._steps} steps, in {event.get('folder', '?')}", bold=True)
            self._bars.start()
        elif kind == "step" and event.get("state") == "started":
            self._task(name)
        elif kind == "step":
            self._end(name, event)
        elif kind == "progress":
            task = self._bars.tasks[self._bars.task_ids.index(self._task(name))]
            told = told_progress(event, task.elapsed or 0.0)
            self._bars.update(self._tasks[name], completed=event.get("done") or 0, total=event.get("total"), told=told)
        elif kind == "end":
            self.close()
            self._print(told_end(event, time.monotonic() - self._begun), bold=True)

    def close(self) -> None:
        """Remove the bars."""
        self._bars.stop()

    def _task(self, name: str) -> TaskID:
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=None, told="")
        return self._tasks[name]

    def _end(self, name: str, event: Event) -> None:
        self._ended += 1
        if name in self._tasks:
            self._bars.remove_task(self._tasks.pop(name))
        mark = {"done": "✓", "reused": "=", "failed": "✗"}.get(str(event.get("state")), "·")
        self._print(f"{mark} {self._ended}/{self._steps or '?'} {name} {told_step(event)}")

    def _print(self, words: str, bold: bool = False) -> None:
        self._bars.console.print(words, markup=False, highlight=False, style="bold" if bold else None, soft_wrap=True)


def told_step(event: Event) -> str:
    """Say that a step started or ended.

    >>> told_step({"state": "done", "rows": {"in": 1500, "kept": 6000, "dropped": 0}, "seconds": 88})
    'done: 1,500 in, 6,000 kept, 0 dropped, 88 s'
    """
    state, rows = str(event.get("state", "")), event.get("rows") or {}
    parts = [f"{count(rows[key])} {key}" for key in ("in", "kept", "dropped") if key in rows]
    parts += [duration(float(event["seconds"]))] if event.get("seconds") is not None else []
    parts += [str(event["error"])] if event.get("error") else []
    return f"{state}: {', '.join(parts)}" if parts else state


def told_progress(event: Event, seconds: float) -> str:
    """Say how far a step is: rows, drops, speed, cost and the time left.

    >>> told_progress({"done": 50, "total": 100, "dropped": 2, "tokens_out": 900}, 10.0)
    '50 of 100 (50\\u202f%), 10 s left, 2 dropped, 90 tokens/s, 5.0 rows/s'
    """
    done, total = int(event.get("done") or 0), event.get("total")
    parts = [f"{count(done)} of {count(total)} ({percent(done / total, 0)})" if total else count(done)]
    # what matters most comes first, because a narrow terminal cuts the end
    parts += (
        [f"{duration(seconds * (total - done) / done)} left"] if total and 0 < done < total and seconds >= 1 else []
    )
    parts += [money(float(event["usd"]))] if event.get("usd") else []
    parts += [f"{count(event['dropped'])} dropped"] if event.get("dropped") else []
    parts += [str(event["note"])] if event.get("note") else []
    parts += [f"{count(event['tokens_out'] / seconds)} tokens/s"] if seconds >= 1 and event.get("tokens_out") else []
    # a step with a note counts what it likes (updates, answers); without one, rows
    unit = "/s" if event.get("note") else " rows/s"
    parts += [f"{done / seconds:.1f}{unit}"] if seconds >= 1 and done else []
    parts += [f"{count(event['cached'])} from the cache"] if event.get("cached") else []
    return ", ".join(parts)


def told_end(event: Event, seconds: float) -> str:
    """Say that the run is over, and where its report lies."""
    took = float(event["seconds"]) if event.get("seconds") is not None else seconds
    return f"done in {duration(took)}" + (f"; report: {event['report']}" if event.get("report") else "")


def progress(kind: Kind = "auto", stream: IO[str] | None = None) -> Progress:
    """Return the listener called `kind`; `auto` is bars on a terminal and plain lines elsewhere."""
    if kind == "none":
        return Progress(stream)
    if kind == "json":
        return JsonLines(stream)
    if kind not in ("auto", "plain"):
        raise UsageError(f"There is no progress '{kind}'. There are: auto, plain, json, none.")
    target = stream or sys.stderr
    return Live(stream) if kind == "auto" and target.isatty() else Plain(stream)
