"""Progress in its three forms, what is in them, and what happens when it can not be shown."""

from __future__ import annotations

import io
import json
import random
from itertools import pairwise

import pytest

from limbeck.core.errors import UsageError
from limbeck.view.board import board
from limbeck.view.pace import Pace
from limbeck.view.progress import JsonLines, Live, Plain, progress, told_step
from limbeck.view.running import Running

RUN = {"event": "run", "recipe": "quickstart", "folder": "runs/quickstart", "steps": ["problems", "samples", "raw"]}
PROGRESS = {
    "event": "progress", "name": "samples", "done": 4, "total": 10, "dropped": 3, "tokens_in": 40, "tokens_out": 90, "cached": 2,
    "reasons": {"generate.sample: refused: content policy": 2, "generate.sample: no user turn": 1},
    "usd": 0.5, "unpriced": 0, "requests": 5, "in_flight": 64, "retries": 12, "spent": 0.61, "budget": 5.0,
}  # fmt: skip
EVENTS = [
    RUN,
    {"event": "step", "name": "problems", "state": "reused", "rows": {"in": 10, "kept": 10, "dropped": 0}},
    {"event": "step", "name": "samples", "state": "started"},
    {"event": "step", "name": "raw", "state": "started"},
    PROGRESS,
    {"event": "progress", "name": "raw", "done": 3, "total": None, "note": "loss [1.2]"},
    {"event": "stopping", "in_flight": 1},
    {"event": "step", "name": "samples", "state": "done", "rows": {"in": 10, "kept": 37, "dropped": 3}, "seconds": 2.5},
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


# -- the three forms ---------------------------------------------------------------------------------------------------


def test_plain_lines_start_end_and_are_rare_in_between() -> None:
    lines = played(Plain(io.StringIO())).splitlines()
    assert all(line.startswith("limbeck: ") for line in lines)
    assert lines[0] == "limbeck: quickstart, 3 steps, in runs/quickstart"
    assert "limbeck: samples started" in lines
    told = "10 in, 37 kept, 3 dropped (2 refused: content policy; 1 no user turn), 2.5 s"
    assert f"limbeck: samples done: {told}" in lines
    assert "limbeck: raw failed: no rows" in lines
    assert "limbeck: stopping: 1 request under way will be finished and kept; Ctrl-C again stops now" in lines
    assert lines[-1].endswith("report: runs/quickstart/report.html")
    assert not any("4 of 10" in line for line in lines), "progress within five seconds stays quiet"


def test_plain_lines_tell_progress_and_money_when_it_is_time() -> None:
    text = played(Plain(io.StringIO(), every=0.0))
    assert "limbeck: samples 4 of 10 (40\u202f%), 3 dropped, 2 from the cache\n" in text
    assert "limbeck: $0.61 of $5.00, 64 in flight, 12 retries\n" in text
    assert "limbeck: raw 3, loss [1.2]\n" in text
    assert "\x1b" not in text


def test_plain_lines_get_rarer_in_a_long_run(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("limbeck.view.progress.time.monotonic", lambda: now[0])
    stream = io.StringIO()
    with Plain(stream) as listen:
        listen({"event": "step", "name": "samples", "state": "started"})
        for second in range(4 * 3600):
            now[0] = float(second)
            listen({"event": "progress", "name": "samples", "done": second, "total": 4 * 3600})
    lines = stream.getvalue().splitlines()
    assert 280 < len(lines) < 400, "a line in five seconds at first, one a minute after an hour"
    assert "1.0 rows/s" in lines[100] and " left" in lines[100]


def test_json_lines_are_the_events() -> None:
    lines = [json.loads(line) for line in played(JsonLines(io.StringIO())).splitlines()]
    assert [{k: v for k, v in line.items() if k != "at"} for line in lines] == EVENTS
    assert [line["at"] for line in lines] == sorted(line["at"] for line in lines)


def test_the_live_picture_ends_as_lines_and_leaves_the_terminal_clean() -> None:
    text = played(Live(Terminal()))
    assert "quickstart, 3 steps" in text
    assert "✓ 2/3 samples done: 10 in, 37 kept, 3 dropped (2 refused: content policy" in text
    assert "✗ 3/3 raw failed: no rows" in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1, "the cursor must come back"


def test_the_live_picture_closes_when_the_run_fails() -> None:
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


# -- the picture -------------------------------------------------------------------------------------------------------


def busy_run() -> Running:
    """A run 100 seconds in: two steps of a chain, drops for four reasons, a budget, an odd long name."""
    running = Running(0.0)
    long = "a-step-with-a-name-that-nobody-should-have-given-it-2"
    for name in ("samples", long, "math"):
        running.see({"event": "step", "name": name, "state": "started"}, 0.0)
    reasons = {
        "generate.sample: refused: the server says that this prompt violates its usage policies and will not be answered": 41,
        "generate.sample: gave up after 8 tries: http://localhost:8000/v1 is overloaded (status 503)": 7,
        "generate.sample: the row has no user turn to answer": 2,
        "generate.sample: odd": 1,
    }
    for second in range(1, 101):
        event = {
            **PROGRESS,
            "done": 9 * second,
            "total": 150_000,
            "dropped": 51,
            "reasons": reasons,
            "tokens_out": 1034 * second,
        }
        running.see({**event, "requests": 21 * second}, float(second))
        running.see(
            {"event": "progress", "name": long, "done": 36 * second, "total": None, "dropped": 0}, float(second)
        )
        running.see(
            {"event": "progress", "name": "math", "done": 36 * second, "total": None, "dropped": 0}, float(second)
        )
    return running


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
def test_nothing_that_matters_is_cut_at_any_width(width: int) -> None:
    lines = board(busy_run(), 100.0, width, 24)
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    for part in (
        "samples", "900 of 150,000 (1 %)", "left", "51 dropped", "9.0 rows/s",
        "dropped 41: refused: the", "dropped 7: ga", "3,600", "1:40",
        "$0.61 of $5.00", "64 in flight", "21 requests/s", "1,034 tokens/s", "12 retries", "3 for other reasons",
    ):  # fmt: skip
        assert part in text, part


def test_many_steps_fit_into_a_low_terminal() -> None:
    running = busy_run()
    for n in range(30):
        running.see({"event": "step", "name": f"step-{n}", "state": "started"}, 100.0)
    lines = board(running, 100.0, 80, 12)
    assert len(lines) <= 12 and lines[0] == "and 23 more steps before these" and "step-29" in "\n".join(lines)
    assert "$0.61 of $5.00" in lines[-1] or "$0.61 of $5.00" in lines[-2]


def test_an_unknown_price_and_a_standstill_are_said() -> None:
    running = busy_run()
    running.see({**PROGRESS, "done": 900, "total": 150_000, "spent": 0.0, "budget": None, "unpriced": 40}, 100.25)
    assert running.traffic(100.0)[0] == "price of 40 answers unknown"
    assert "nothing for" not in " ".join(running.step("samples", 110.0))
    told = running.step("samples", 900_000.0)
    assert f"nothing for {(900_000 - 100) // 3600} h" in " ".join(told)


def test_the_head_of_a_chain_counts_what_is_through_all_of_it() -> None:
    running = Running(0.0)
    for second in range(1, 41):
        event = {"event": "progress", "name": "prompts", "done": 600, "total": 600, "through": 10 * second}
        running.see(event, float(second))
    assert running.step("prompts", 40.0) == ["400 of 600 (67\u202f%)", "20 s left", "10.0 rows/s"]
    assert board(running, 40.0, 80, 24)[0].startswith("prompts  " + "━" * 12 + "╺─────  400 of 600")


def test_a_step_says_why_it_dropped_rows_when_it_ends() -> None:
    event = {"state": "done", "rows": {"in": 9, "kept": 0, "dropped": 9}, "seconds": 1.0}
    told = told_step(event, [(5, "a: b"), (3, "c"), (1, "d")])
    assert told == "done: 9 in, 0 kept, 9 dropped (5 a: b; 3 c; 1 more reasons), 1.0 s"
    assert told_step({"state": "started"}) == "started"
    stream = io.StringIO()
    with Plain(stream) as listen:
        listen({"event": "step", "name": "verified", **event, "reasons": {"select.until_pass: did not pass": 9}})
    assert stream.getvalue() == "limbeck: verified done: 9 in, 0 kept, 9 dropped (9 did not pass), 1.0 s\n"


def test_what_a_server_wrote_is_not_obeyed_by_the_terminal() -> None:
    running = Running(0.0)
    bad = {"generate.sample: refused: http://h/v1 refused the request (status …): \x1b]0;owned\x07no\n\x1b[2Jmore": 1}
    running.see({"event": "step", "name": "s", "state": "started"}, 0.0)
    running.see({"event": "progress", "name": "s", "done": 1, "dropped": 1, "reasons": bad}, 1.0)
    lines = board(running, 1.0, 80, 24)
    assert lines[1] == "    dropped 1: refused: ]0;owned no [2Jmore"
    assert all(line.isprintable() for line in lines)


# -- pace --------------------------------------------------------------------------------------------------------------


def lived(counts: list[float], step: float = 0.25, total: float = 10_000) -> list[float | None]:
    """Return what is told as time left after each quarter of a second."""
    pace, told = Pace(0.0), []
    for place, count in enumerate(counts, start=1):
        pace.see(place * step, count)
        told.append(pace.left(place * step, total - count))
    return told


def test_a_steady_step_counts_down_steadily() -> None:
    told = lived([10 * 0.25 * n for n in range(1, 1200)])
    assert told[6] is None, "not in the first seconds"
    for place, left in enumerate(told[40:], start=41):
        assert left == pytest.approx(1000 - 0.25 * place, rel=0.06)


def test_bursts_do_not_make_it_jump() -> None:
    """Rows are written in the order of their source: fifty at once, every five seconds."""
    told = [left for left in lived([50 * (n // 20) for n in range(1, 1200)])[120:] if left is not None]
    for place, (before, after) in enumerate(pairwise(told)):
        assert abs(after - before) < 0.03 * before + 0.3, place
    truth = [1000 - 0.25 * (n + 121) for n in range(len(told))]
    assert all(left == pytest.approx(real, rel=0.25, abs=8) for left, real in zip(told, truth, strict=True))


def test_rows_from_the_cache_do_not_promise_an_early_end() -> None:
    """A resumed run: 5,000 rows in half a second, then ten a second."""
    told = lived([min(5000, 2500 * n) + 10 * 0.25 * max(0, n - 2) for n in range(1, 400)])
    after_ten_seconds = told[40]
    assert after_ten_seconds is not None and after_ten_seconds == pytest.approx(490, rel=0.35)
    assert told[200] == pytest.approx(450, rel=0.1)


def test_a_slower_endpoint_shows_within_a_minute_and_a_noisy_one_stays_calm() -> None:
    counts = [40 * 0.25 * n if n < 400 else 4000 + 10 * 0.25 * (n - 400) for n in range(1, 1000)]
    told = lived(counts)
    assert told[390] == pytest.approx(152, rel=0.1) and told[640] == pytest.approx(540, rel=0.15)
    draw, count, noisy = random.Random(0), 0.0, []
    for _ in range(800):
        count += draw.choice([0, 0, 1, 2, 7])
        noisy.append(count)
    told = lived(noisy)[100:]
    known = [left for left in told if left is not None]
    jumps = [abs(b - a) / a for a, b in pairwise(known)]
    assert max(jumps) < 0.05


def test_a_very_slow_step_has_a_rate_too() -> None:
    pace = Pace(0.0)
    for n in range(1, 60):
        pace.see(120.0 * n, n)
    assert pace.rate(120.0 * 59 + 60) == pytest.approx(1 / 120, rel=0.2)
    assert pace.still(120.0 * 59 + 60) == 60.0
    assert Pace(0.0).rate(50.0) is None and Pace(0.0).left(50.0, 10) is None
