"""The cost section: sums over sessions, unknown prices, what may have been charged, and small numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from run_maker import make

from limbeck.view import run_folder
from limbeck.view.numbers import brief, money, ranged
from limbeck.view.report import content, render, write

LINE = {
    "calls": 10, "answers": 40, "cached": 0, "tokens_in": 400, "tokens_out": 4000, "tokens_cached": 100, "usd": 0.05,
    "unpriced": 0, "seconds": 20.0, "retries": 3, "lost": 1, "at_risk": 0.002,
}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of three sessions: the second was killed, and its line was written by the third."""
    folder = make(tmp_path / "resumed")
    lines = [
        {"session": 1, "step": "samples", **LINE},
        {"session": 2, "step": "samples", "recovered": True, **LINE, "retries": 0, "lost": 0, "at_risk": 0},
        {"session": 2, "step": "(under way when killed)", "recovered": True, "at_risk": 0.5},
        {"session": 3, "step": "samples", **LINE, "cached": 80},
    ]
    (folder / "ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_sessions_are_added_up_and_cached_answers_are_not(run: Path) -> None:
    found = content(run_folder.read(run))
    samples = next(cost for cost in found["costs"] if cost.title == "samples")
    assert (samples.calls, samples.answers, samples.cached) == (30, 120, 80)
    assert (samples.tokens_in, samples.tokens_out, samples.tokens_cached) == (1200, 12000, 300)
    assert samples.usd == pytest.approx(0.15) and (samples.retries, samples.lost) == (6, 2)
    assert samples.usd_per_row == pytest.approx(0.15 / samples.kept)
    assert samples.seconds_per_row == pytest.approx(samples.seconds / samples.kept)
    total = found["cost_total"]
    assert total.usd == pytest.approx(0.15), "the other steps ran on this machine"
    assert total.at_risk == pytest.approx(0.504), "of lost requests, and of those under way at the kill"


def test_the_page_shows_them(run: Path) -> None:
    page = render(run_folder.read(run))
    for told in ("Sent again", "Lost", "of these cached", "Time per kept row", "may have cost up to $0.50 more"):
        assert told in page, told
    quiet = render(run_folder.read(make(run.parent / "quiet")))
    for untold in ("Sent again", ">Lost<", "of these cached", "may have cost"):
        assert untold not in quiet, untold


def test_an_unknown_price_makes_the_sum_unknown(run: Path) -> None:
    with (run / "ledger.jsonl").open("a") as file:
        file.write(json.dumps({"session": 4, "step": "samples", **LINE, "unpriced": 4}) + "\n")
    found = content(run_folder.read(run))
    assert next(cost for cost in found["costs"] if cost.title == "samples").usd is None
    assert found["cost_total"].usd is None
    assert "a price that was not told is unknown" in render(run_folder.read(run))


def test_what_is_handed_over_goes_before_the_ledger(run: Path) -> None:
    page = write(run, {"samples": {**LINE, "answers": 98_765, "usd": 77.0}})
    text = page.read_text()
    assert "98,765" in text and "$77.00" in text


def test_a_damaged_ledger_is_named_and_the_rest_is_shown(run: Path) -> None:
    (run / "ledger.jsonl").write_text('{"session": 1\n{"step": "samples"}\n')
    found = run_folder.read(run)
    assert any("ledger.jsonl" in note for note in found.notes)
    assert content(found)["costs"]


def test_small_numbers_are_not_rounded_to_nothing() -> None:
    assert money(0.0000124) == "$0.000012" and money(0.00035) == "$0.00035" and money(0.0999) == "$0.0999"
    assert money(0.1) == "$0.10" and money(1e-9) == "$0.0000000010"
    assert (
        brief(0.0021) == "2.1 ms" and brief(0.25) == "250 ms" and brief(None) == "–" and brief(4210.0) == "1 h 10 min"
    )
    assert ranged(9.61, 10.52, money) == "$9.61–10.52" and ranged(1.0, 1.0, money) == ""
    assert ranged(None, 2.0, money) == "" and ranged(0.0, 2.0, money) == "$0–2.00"
