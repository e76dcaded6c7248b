"""How a run under way is shown: a live picture on a terminal, plain lines in a log, JSON lines for a program.

The engine calls a listener with plain dictionaries and knows nothing of terminals:

    {"event": "run", "recipe": "quickstart", "folder": "runs/quickstart", "steps": ["problems", "samples", …]}
    {"event": "step", "name": "samples", "state": "started"}
    {"event": "progress", "name": "samples", "done": 812, "total": 1500, "dropped": 3, "reasons": {"generate.sample: …": 3},
     "tokens_in": 33000, "tokens_out": 91000, "cached": 0, "usd": 0.4, "unpriced": 0, "requests": 840, "in_flight": 64,
     "retries": 12, "spent": 0.4, "budget": 5.0}
    {"event": "stopping", "in_flight": 64}
    {"event": "step", "name": "samples", "state": "done", "rows": {"in": 1500, "kept": 6000, "dropped": 3}, "seconds": 88}
    {"event": "end", "report": "runs/quickstart/report.html"}

In a log that is

    limbeck: quickstart, 31 steps, in runs/quickstart
    limbeck: samples started
    limbeck: samples 812 of 1,500 (54 %), 38 s left, 3 dropped, 9.2 rows/s
    limbeck: $0.40 of $5.00, 64 in flight, 21 requests/s, 1,034 tokens/s, 12 retries
    limbeck: samples done: 1,500 in, 6,000 kept, 3 dropped (3 refused: …), 88 s

JSON goes to stdout, everything else to stderr. A listener that fails would stop a run that is paid for, so a failure
to show something is reported once on stderr and the run goes on unshown.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import IO, TYPE_CHECKING, Literal

from limbeck.core.errors import UsageError
from limbeck.view.board import board
from limbeck.view.numbers import count, counted, duration
from limbeck.view.running import Event, Running, plain, top_reasons

if TYPE_CHECKING:
    from rich.live import Live as LivePicture
    from rich.text import Text

Kind = Literal["auto", "plain", "json", "none"]
QUIET_SECONDS = 5.0
"""A plain log has at most one line per step in so many seconds; in long runs a tenth as many."""


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
    """One line when a step starts and when it ends, and one now and then in between: less often the longer it takes."""

    def __init__(self, stream: IO[str] | None = None, every: float = QUIET_SECONDS) -> None:
        super().__init__(stream)
        self.every = every
        self._running = Running(time.monotonic())
        self._last: dict[str, float] = {}

    def show(self, event: Event) -> None:
        """Write the line of an event, if it is time for one."""
        now = time.monotonic()
        kind, name = event.get("event"), str(event.get("name", ""))
        reasons = top_reasons(event) or self._running.reasons(name)
        self._running.see(event, now)
        if kind == "run":
            self._write(told_run(event))
        elif kind == "step":
            self._last[name] = now
            self._write(f"{name} {told_step(event, reasons)}")
        elif kind == "progress":
            self._between(name, now)
        elif kind == "stopping":
            self._write(told_stopping(event))
        elif kind == "end":
            self._write(told_end(event, now - self._running.begun))

    def _between(self, name: str, now: float) -> None:
        """Write where a step is, and with the first step of a chain what the run asks and costs."""
        quiet = self.every * min(12.0, max(1.0, (now - self._running.begun) / 300))
        if now - self._last.get(name, 0.0) < quiet:
            return
        self._last[name] = now
        self._write(f"{name} {', '.join(self._running.step(name, now))}")
        traffic = self._running.traffic(now)
        if traffic and now - self._last.get("", 0.0) >= quiet:
            self._last[""] = now
            self._write(", ".join(traffic))

    def _write(self, words: str) -> None:
        self.stream.write(f"limbeck: {words}\n")
        self.stream.flush()


class Live(Progress):
    """A picture on a terminal, drawn anew four times a second; ended steps become lines above it."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        from rich.console import Console

        super().__init__(stream)
        self._running = Running(time.monotonic())
        self._lock = threading.Lock()
        """The picture is drawn by a thread of its own."""
        self._steps = self._ended = 0
        self._console = Console(file=self.stream)
        self._live = self._make()

    def _make(self) -> LivePicture:
        from rich.live import Live as LivePicture

        return LivePicture(console=self._console, get_renderable=self._picture, transient=True, refresh_per_second=4)

    def _picture(self) -> Text:
        from rich.text import Text

        size = self._console.size
        with self._lock:
            lines = board(self._running, time.monotonic(), size.width, size.height - 1)
        picture = Text("\n".join(lines), no_wrap=True, overflow="crop")
        picture.highlight_regex("━+╺?", "cyan")
        picture.highlight_regex(r"dropped [\d,]+: .*|[\d,]+ dropped|nothing for [^,]*|price of .* unknown", "yellow")
        return picture

    def show(self, event: Event) -> None:
        """Take an event into the picture, or write it as a line above."""
        kind, name, now = event.get("event"), str(event.get("name", "")), time.monotonic()
        with self._lock:
            reasons = top_reasons(event) or self._running.reasons(name)
            self._running.see(event, now)
        if kind == "run":
            self._steps = len(event.get("steps") or [])
            self._print(told_run(event), bold=True)
            self._live.start()
        elif kind == "step" and event.get("state") != "started":
            self._ended += 1
            mark = {"done": "✓", "reused": "=", "failed": "✗"}.get(str(event.get("state")), "·")
            self._print(f"{mark} {self._ended}/{self._steps or '?'} {name} {told_step(event, reasons)}")
        elif kind == "stopping":
            self._print(told_stopping(event))
        elif kind == "end":
            self.close()
            self._print(told_end(event, now - self._running.begun), bold=True)

    def close(self) -> None:
        """Remove the picture."""
        self._live.stop()

    def _print(self, words: str, bold: bool = False) -> None:
        self._console.print(words, markup=False, highlight=False, style="bold" if bold else None, soft_wrap=True)


def told_run(event: Event) -> str:
    """Say what begins, and where it is written."""
    return f"{event.get('recipe', 'run')}, {len(event.get('steps') or [])} steps, in {event.get('folder', '?')}"


def told_stopping(event: Event) -> str:
    """Say what a stopping run waits for."""
    return (
        f"stopping: {counted(int(event.get('in_flight') or 0), 'request')} under way will be finished and kept; "
        "Ctrl-C again stops now"
    )


def told_step(event: Event, reasons: Sequence[tuple[int, str]] = ()) -> str:
    """Say that a step started or ended, and why most of its dropped rows were dropped.

    >>> told_step({"state": "done", "rows": {"in": 1500, "kept": 6000, "dropped": 2}, "seconds": 88}, [(2, "refused: no")])
    'done: 1,500 in, 6,000 kept, 2 dropped (2 refused: no), 88 s'
    """
    state, rows = str(event.get("state", "")), event.get("rows") or {}
    parts = [f"{count(rows[key])} {key}" for key in ("in", "kept", "dropped") if key in rows]
    if rows.get("dropped") and reasons:
        more = f"; {count(len(reasons) - 2)} more reasons" if len(reasons) > 2 else ""
        parts[-1] += f" ({'; '.join(f'{count(number)} {text}' for number, text in reasons[:2])}{more})"
    parts += [duration(float(event["seconds"]))] if event.get("seconds") is not None else []
    parts += [plain(str(event["error"]))] if event.get("error") else []
    return f"{state}: {', '.join(parts)}" if parts else state


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
