"""The law of the budget: money spent never passes the cap, whatever is in flight, and going on counts nothing twice.

Spending is counted outside: the tokens that the server reported, times the prices of a file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from load_server import FULL, Mock, command, durable, files_of, write_prompts

from running import kill, limbeck, sentence, start, wait_for

PROMPTS = 2000 if FULL else 1200
INPUT, OUTPUT = 10.0, 1000.0
"""US dollars per million tokens: an answer costs about 1.6 cents, and may cost 3.6."""


def usd(stats: dict[str, Any], kind: str = "tokens") -> float:
    return float(stats[f"{kind}_in"] * INPUT + stats[f"{kind}_out"] * OUTPUT) / 1e6


class Bought:
    """A run against a server that charges, with a price file."""

    def __init__(self, folder: Path, mock: Mock) -> None:
        self.folder, self.mock = folder, mock
        self.prompts = write_prompts(folder / "prompts.jsonl", PROMPTS)
        self.prices = folder / "prices.json"
        self.prices.write_text(json.dumps({f"openai:m@{mock.url}": {"input": INPUT, "output": OUTPUT}}))
        self.full = PROMPTS * 0.016

    def words(self, budget: float, name: str = "run") -> list[str]:
        more = ("--quiet", "--budget", f"{budget:g}", "--max-tokens", 32)
        return command(self.mock, self.prompts, self.folder / name, *more)

    def settings(self, name: str = "run") -> dict[str, str]:
        cache = str(self.folder / f"{name}.sqlite")
        return {"LIMBECK_PRICES": str(self.prices), "LIMBECK_CONCURRENCY": "200", "LIMBECK_CACHE": cache}

    def run(self, budget: float, name: str = "run") -> Any:
        return limbeck(*self.words(budget, name), cwd=self.folder, **self.settings(name))

    def ledger(self, name: str = "run") -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / name / "ledger.jsonl").read_text().splitlines()]


def test_the_cap_holds_with_200_in_flight_and_the_rerun_goes_on(tmp_path: Path) -> None:
    with Mock(latency=0.2) as mock:
        bought = Bought(tmp_path, mock)
        cap = round(bought.full * 0.8, 2)
        told = sentence(bought.run(cap), 3)
        assert "--budget" in told and "kept" in told
        stats = mock.stats()
        assert stats["peak_in_flight"] > 150, "many were in flight"
        assert usd(stats, "worst_tokens") <= cap, "the cap held"
        assert usd(stats) > cap - 0.05 and stats["answered"] < PROMPTS, (
            "it was the cap that stopped it, and not long before"
        )
        assert durable(tmp_path / "run.sqlite") == stats["answered"]
        sentence(bought.run(cap), 3)
        assert mock.stats()["arrived"] - stats["arrived"] <= 1 and usd(mock.stats(), "worst_tokens") <= cap
        for budget in (1.1 * cap, 10 * bought.full):
            done = bought.run(budget)
            assert usd(mock.stats(), "worst_tokens") <= budget
        assert done.returncode == 0, done.stderr
        stats = mock.stats()
        assert stats["repeats"] == 0 and stats["answered"] == PROMPTS
        lines = bought.ledger()
        assert sum(line["usd"] for line in lines) == pytest.approx(usd(stats), abs=1e-6)
        assert sum(line["answers"] for line in lines) == PROMPTS
        assert sum(line["tokens_out"] for line in lines) == stats["tokens_out"]
        (summary,) = (tmp_path / "run").glob("0*-sample/step.json")
        assert json.loads(summary.read_text())["usage"]["usd"] == pytest.approx(usd(stats), abs=1e-6)
        assert bought.run(10 * bought.full, "whole").returncode == 0
        assert files_of(tmp_path / "run") == files_of(tmp_path / "whole")


def test_the_cap_holds_where_the_server_charges_for_what_never_came(tmp_path: Path) -> None:
    """Cut connections, broken JSON and hangs may be charged for: they count against the cap at their most."""
    rates = {"cut": 0.05, "garbled": 0.05, "hang": 0.01, "429": 0.05, "halfclose": 0.03}
    with Mock(latency=0.02, rates=rates, retry_after="0.1") as mock:
        bought = Bought(tmp_path, mock)
        cap = round(bought.full * 0.4, 2)
        done = limbeck(*bought.words(cap), cwd=tmp_path, **bought.settings(), LIMBECK_TIMEOUT="1")
        assert "--budget" in sentence(done, 3)
        stats = mock.stats()
        assert stats["outcomes"]["cut"] > 3 and usd(stats, "worst_tokens") <= cap
        assert usd(stats) > 0.3 * cap


def test_the_cap_holds_over_a_kill(tmp_path: Path) -> None:
    """What was in flight at the kill may have been charged for, though nobody will ever know."""
    with Mock(latency=0.2) as mock:
        bought = Bought(tmp_path, mock)
        cap = round(bought.full * 0.5, 2)
        process = start(*bought.words(cap), cwd=tmp_path, **bought.settings())
        wait_for(lambda: mock.stats()["answered"] > PROMPTS // 8, process=process)
        kill(process)
        sentence(bought.run(cap), 3)
        stats = mock.stats()
        assert stats["lost"] > 0 and usd(stats) <= cap
        lines = bought.ledger()
        known, risk = (sum(line[name] for line in lines) for name in ("usd", "at_risk"))
        worst = usd(stats, "worst_tokens")
        print(
            f"cap {cap}: the ledger has {known:.2f} and {risk:.2f} at risk; charged were {usd(stats):.2f} to {worst:.2f}"
        )
        assert known <= usd(stats) + 1e-6 and worst <= known + risk <= cap


def test_a_cap_over_an_unknown_price_is_refused(tmp_path: Path) -> None:
    with Mock(latency=0.0) as mock:
        bought = Bought(tmp_path, mock)
        done = limbeck(*bought.words(5.0), cwd=tmp_path, LIMBECK_CACHE=str(tmp_path / "calls.sqlite"))
        told = sentence(done, 2)
        assert "price" in told and "unknown" in told and mock.stats()["arrived"] == 0
