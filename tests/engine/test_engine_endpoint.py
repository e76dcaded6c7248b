"""An endpoint: what is tried again and how often, what ends a row and what ends the run, and money that never passes the cap."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from limbeck.core.ask import Answer, Ask, Reply
from limbeck.core.errors import BudgetReached, BusyError, DeniedError, EndpointError, RefusedError
from limbeck.core.ledger import Ledger, Total, read
from limbeck.core.row import Message, Usage
from limbeck.engine.answer import Answerer
from limbeck.engine.cache import Cache
from limbeck.engine.endpoint import Endpoint
from limbeck.engine.limits import Limits
from limbeck.engine.patience import TRIES, GaveUp, Patience

QUICK = Patience(first=0.001, longest=0.002, quiet=5.0)
Script = Callable[[str, int], BaseException | None]


class Scripted:
    """A remote teacher that does what a script says to the n-th attempt at a prompt, and counts."""

    identity = "http://scripted/v1 m"
    remote = True

    def __init__(self, script: Script, seconds: float = 0.001) -> None:
        self.script, self.seconds = script, seconds
        self.attempts: Counter[str] = Counter()
        self.charged = 0.0

    async def answer(self, ask: Ask, samples: Sequence[int]) -> Reply:
        prompt = ask.messages[-1].content
        self.attempts[prompt] += 1
        attempt = self.attempts[prompt]
        await asyncio.sleep(self.seconds)
        error = self.script(prompt, attempt)
        if error is not None:
            raise error
        self.charged += 10 * 1e-6 * 1.0 + 20 * 1e-6 * 2.0
        return Reply(answers=(Answer(text="yes", tokens_out=20),), usage=Usage(tokens_in=10, tokens_out=20))

    async def close(self) -> None:
        """Nothing is open."""


def ask(prompt: str) -> Ask:
    return Ask(messages=[Message(role="user", content=prompt)], teacher="t", max_tokens=100)


def send(
    script: Script, prompts: Sequence[str], ledger: Ledger | None = None, **more: Any
) -> tuple[list[Any], Scripted]:
    teacher = Scripted(script)

    async def main() -> list[Any]:
        endpoint = Endpoint(teacher, Limits(), ledger or Ledger(), more.pop("patience", QUICK), **more)
        requests = [endpoint.send("s", ask(p), [0], f"{i:08x}") for i, p in enumerate(prompts)]
        return await asyncio.gather(*requests, return_exceptions=True)

    return asyncio.run(main()), teacher


def stopped_by(script: Script, count: int = 1, **more: Any) -> tuple[BaseException | None, Scripted]:
    """Send requests until one of them ends the run; return its error. The others wait at a closed gate."""
    teacher = Scripted(script)

    async def main() -> BaseException | None:
        endpoint = Endpoint(teacher, Limits(), Ledger(), more.pop("patience", QUICK))
        tasks = [asyncio.create_task(endpoint.send("s", ask(str(i)), [0], f"{i:08x}")) for i in range(count)]
        waiting = set(tasks)
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_EXCEPTION)
            ended = [e for task in done if isinstance(e := task.exception(), EndpointError)]
            if ended:
                break
        for task in waiting:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return ended[0] if ended else None

    return asyncio.run(main()), teacher


def first(count: int, error: Callable[[], BaseException]) -> Script:
    return lambda prompt, attempt: error() if attempt <= count else None


@pytest.mark.parametrize("kind", ["rate", "overloaded", "server", "timeout", "connection", "garbled"])
def test_what_may_pass_next_time_is_tried_again(kind: str) -> None:
    found, teacher = send(first(2, lambda: BusyError("not now", kind=kind)), ["a", "b"])
    assert [total.retries for _, total in found] == [2, 2] and teacher.attempts == {"a": 3, "b": 3}


def test_a_refusal_is_tried_once() -> None:
    found, teacher = send(lambda p, n: RefusedError("policy") if p == "bad" else None, ["a", "bad", "c"])
    assert isinstance(found[1], RefusedError) and teacher.attempts == {"a": 1, "bad": 1, "c": 1}


@pytest.mark.parametrize("kind", ["server", "timeout", "garbled", "rate"])
def test_a_row_whose_tries_are_used_up_is_given_up_and_the_others_go_on(kind: str) -> None:
    found, teacher = send(lambda p, n: BusyError("broken", kind=kind) if p == "bad" else None, ["a", "bad", "c"])
    assert isinstance(found[1], GaveUp) and str(found[1]) == f"gave up after {TRIES[kind]} tries: broken"
    assert teacher.attempts["bad"] == TRIES[kind] and teacher.attempts["c"] == 1


def test_an_endpoint_that_fails_every_row_stops_the_run() -> None:
    error, _ = stopped_by(lambda p, n: BusyError("down", kind="server"), 40)
    assert "so it is the endpoint and not the rows" in str(error)


def test_an_endpoint_that_is_silent_too_long_stops_the_run() -> None:
    patience = Patience(first=0.01, longest=0.05, quiet=0.3)
    error, _ = stopped_by(lambda p, n: BusyError("slow down", kind="rate"), patience=patience)
    assert "Nothing has passed for" in str(error)


def test_nothing_listening_is_said_after_two_tries() -> None:
    error, teacher = stopped_by(lambda p, n: BusyError("Nothing answers at http://x.", kind="unreachable"))
    assert str(error) == "Nothing answers at http://x." and teacher.attempts["0"] == 2


def test_403_drops_the_row_where_others_pass() -> None:
    found, teacher = send(lambda p, n: DeniedError("no") if p == "bad" else None, ["bad", "a", "bad2", "c"])
    assert isinstance(found[0], RefusedError) and teacher.attempts["bad"] == 1 and isinstance(found[1], tuple)


def test_403_on_every_row_stops_the_run() -> None:
    error, teacher = stopped_by(lambda p, n: DeniedError("no"), 300)
    assert "No row has passed" in str(error) and sum(teacher.attempts.values()) <= 64 + 20


def test_waiting_follows_retry_after_and_is_the_same_every_time() -> None:
    patience = Patience()
    waits = [patience.wait(BusyError("x"), "0000abcd", attempt) for attempt in range(1, 9)]
    assert waits == [patience.wait(BusyError("x"), "0000abcd", attempt) for attempt in range(1, 9)]
    assert all(0.25 * 2**i <= w <= 0.75 * 2**i or w <= 45 for i, w in enumerate(waits)) and waits[-1] >= 15
    assert waits != [patience.wait(BusyError("x"), "1234abcd", attempt) for attempt in range(1, 9)]
    assert 7.0 <= patience.wait(BusyError("x", 7.0), "0000abcd", 1) <= 8.0


# -- money -------------------------------------------------------------------------------------------------------------

PRICES = {"openai:m@http://scripted/v1": {"input": 1.0, "output": 2.0}}


@pytest.fixture
def prices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "prices.json").write_text(json.dumps(PRICES))
    monkeypatch.setenv("LIMBECK_PRICES", str(tmp_path / "prices.json"))


@pytest.mark.parametrize("cap", [0.0005, 0.002, 0.01])
def test_the_cap_is_never_passed_with_many_requests_under_way(cap: float, prices: None) -> None:
    ledger = Ledger(cap=cap)
    found, teacher = send(lambda p, n: None, [str(i) for i in range(500)], ledger)
    assert any(isinstance(error, BudgetReached) for error in found)
    assert teacher.charged <= cap and ledger.spent == pytest.approx(teacher.charged)
    worst = (64 + 16 + 3) * 1e-6 + 100 * 2e-6
    assert teacher.charged > cap - worst - 5e-5, "and it is used up but for one request's worst case"


def test_a_reply_that_never_came_stays_counted_against_the_cap(prices: None) -> None:
    ledger = Ledger(cap=1.0)
    send(first(1, lambda: BusyError("cut", kind="connection")), ["a"], ledger)
    total = ledger.totals["s"]
    assert total.lost == 1 and total.at_risk > 0.0002 and ledger.spent == pytest.approx(total.usd + total.at_risk)
    send(first(1, lambda: BusyError("no", kind="rate")), ["b"], ledger)
    assert ledger.totals["s"].lost == 1, "what was turned away costs nothing"


def test_what_a_killed_session_has_spent_is_found_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.open({})
    ledger.commit("s", Total(calls=1, answers=2, usd=0.5))
    ledger.close()
    again = Ledger(tmp_path / "ledger.jsonl", cap=2.0)
    again.open({"s": Total(calls=3, answers=6, usd=1.25)}, leased=1.5)
    assert again.before["s"].usd == 1.25 and again.before["s"].answers == 6 and again.spent == 1.5
    again.close()
    assert read(tmp_path / "ledger.jsonl")["s"].usd == 1.25
    third = Ledger(tmp_path / "ledger.jsonl")
    third.open({"s": Total(calls=3, answers=6, usd=1.25)}, leased=1.5)
    assert third.spent == 1.5 and len((tmp_path / "ledger.jsonl").read_text().splitlines()) == 3, (
        "nothing counted twice"
    )


def test_halting_lets_what_is_under_way_end_and_nothing_else_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = Scripted(lambda p, n: None, seconds=0.1)
    cache = Cache(tmp_path / "calls.sqlite")

    async def main() -> tuple[int, int]:
        answerer = Answerer(cache, Ledger(), lambda name: tmp_path, limits=Limits(concurrency=4))
        answerer._teachers["t"] = teacher
        tasks = [asyncio.create_task(answerer.answer("s", ask(str(i)))) for i in range(20)]
        await asyncio.sleep(0.05)
        answerer.halt()
        under_way = answerer.in_flight
        while answerer.in_flight:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return under_way, answerer.ledger.totals["s"].answers

    under_way, answers = asyncio.run(main())
    cache.close()
    assert under_way == answers == sum(teacher.attempts.values()) == 4
