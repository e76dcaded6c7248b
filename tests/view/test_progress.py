"""Progress in its three forms, and what happens when it can not be shown."""

from __future__ import annotations

import io
import json

import pytest

from limbeck.core.errors import UsageError
from limbeck.view.progress import JsonLines, Live, Plain, progress, told_progress, told_step

RUN = {"event": "run", "recipe": "quickstart", "folder": "runs/quickstart", "steps": ["problems", "samples", "raw"]}
EVENTS = [
    RUN,
    {"event": "step", "name": "problems", "state": "reused", "rows": {"in": 10, "kept": 10, "dropped": 0}},
    {"event": "step", "name": "samples", "state": "started"},
    {"event": "step", "name": "raw", "state": "started"},
    {
        "event": "progress",
        "name": "samples",
        "done": 4,
        "total": 10,
        "dropped": 1,
        "tokens_out": 90,
        "cached": 2,
        "usd": 0.5,
    },
    {"event": "progress", "name": "raw", "done": 3, "total": None, "note": "loss [1.2]"},
    {"event": "step", "name": "samples", "state": "done", "rows": {"in": 10, "kept": 39, "dropped": 1}, "seconds": 2.5},
    {"event": "step", "name": "raw", "state": "failed", "error": "no rows"},
    {"event": "end", "report": "runs/quickstart/report.html"},
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Closed(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError("the reader went away")


def played(listener) -> str:
    with listener as listen:
        for event in EVENTS:
            listen(event)
    return listener.stream.getvalue()


def test_plain_lines_start_end_and_are_rare_in_between() -> None:
    lines = played(Plain(io.StringIO())).splitlines()
    assert all(line.startswith("limbeck: ") for line in lines)
    assert lines[0] == "limbeck: quickstart, 3 steps, in runs/quickstart"
    assert "limbeck: samples started" in lines
    assert "limbeck: samples done: 10 in, 39 kept, 1 dropped, 2.5 s" in lines
    assert "limbeck: raw failed: no rows" in lines
    assert lines[-1].endswith("report: runs/quickstart/report.html")
    assert not any("4 of 10" in line for line in lines), "progress within five seconds stays quiet"


def test_plain_lines_tell_progress_when_it_is_time() -> None:
    text = played(Plain(io.StringIO(), every=0.0))
    assert "samples 4 of 10 (40\u202f%), $0.50, 1 dropped, 2 from the cache" in text
    assert "raw 3, loss [1.2]" in text
    assert "\x1b" not in text


def test_json_lines_are_the_events() -> None:
    lines = [json.loads(line) for line in played(JsonLines(io.StringIO())).splitlines()]
    assert [{k: v for k, v in line.items() if k != "at"} for line in lines] == EVENTS
    assert [line["at"] for line in lines] == sorted(line["at"] for line in lines)


def test_live_bars_end_as_lines_and_leave_the_terminal_clean() -> None:
    text = played(Live(Terminal()))
    assert "quickstart, 3 steps" in text
    assert "✓ 2/3 samples done: 10 in, 39 kept, 1 dropped" in text
    assert "✗ 3/3 raw failed: no rows" in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h"), "the cursor must come back"


def test_live_bars_close_when_the_run_fails() -> None:
    terminal = Terminal()
    with pytest.raises(KeyError), Live(terminal) as listen:
        for event in EVENTS[:6]:
            listen(event)
        raise KeyError("the run's own failure")
    assert terminal.getvalue().count("\x1b[?25l") == terminal.getvalue().count("\x1b[?25h")


@pytest.mark.parametrize("kind", [Plain, JsonLines])
def test_a_reader_that_went_away_stops_the_showing_and_not_the_run(kind, capsys: pytest.CaptureFixture[str]) -> None:
    with kind(Closed()) as listen:
        for event in EVENTS:
            listen(event)
    said = capsys.readouterr().err
    assert said.count("progress can not be shown any more (BrokenPipeError: the reader went away)") == 1


def test_auto_chooses_by_the_stream() -> None:
    assert isinstance(progress("auto", Terminal()), Live)
    assert isinstance(progress("auto", io.StringIO()), Plain)
    assert isinstance(progress("plain", Terminal()), Plain)
    assert isinstance(progress("json"), JsonLines)
    with pytest.raises(UsageError, match="There are: auto, plain, json, none"):
        progress("loud")  # type: ignore[arg-type]


def test_none_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("none") as listen:
        for event in EVENTS:
            listen(event)
    assert capsys.readouterr() == ("", "")


def test_json_goes_to_stdout_and_the_rest_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("json", "plain"):
        with progress(kind) as listen:
            listen(RUN)
    out, err = capsys.readouterr()
    assert json.loads(out)["recipe"] == "quickstart"
    assert err == "limbeck: quickstart, 3 steps, in runs/quickstart\n"


def test_speed_and_time_left() -> None:
    told = told_progress({"done": 50, "total": 100, "tokens_out": 900}, 10.0)
    assert told == "50 of 100 (50\u202f%), 10 s left, 90 tokens/s, 5.0 rows/s"
    assert told_progress({"done": 0, "total": 0}, 0.0) == "0"
    assert told_step({"state": "started"}) == "started"
