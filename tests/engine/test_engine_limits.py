"""The gate: places, rates and pauses, against servers that take only so much."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from limbeck.core.errors import UsageError
from limbeck.engine import limits
from limbeck.engine.limits import START, Gate, Limits, Trial


def test_no_more_requests_are_under_way_than_allowed() -> None:
    async def main() -> int:
        gate, most, now = Gate(Limits(concurrency=5)), 0, 0

        async def one() -> None:
            nonlocal most, now
            await gate.enter(1)
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.001)
            now -= 1
            gate.leave()
            gate.passed(time.monotonic())

        await asyncio.gather(*(one() for _ in range(60)))
        assert gate.in_flight == 0
        return most

    assert asyncio.run(main()) == 5


class Simulated(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer: what happens does not depend on how busy the machine is."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        wait = self._selector.select  # type: ignore[attr-defined]

        def select(timeout: float | None = None) -> Any:
            self.now += timeout or 0.0
            return wait(0)

        self._selector.select = select  # type: ignore[attr-defined]

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulated]:
    loop = Simulated()
    monkeypatch.setattr(limits, "time", SimpleNamespace(monotonic=loop.time))
    yield loop
    loop.close()


async def load(gate: Gate, capacity: int, requests: int, *, noise: float = 0.0, seed: int = 0) -> list[int]:
    """Send requests to a server that turns away what is over its capacity, and some at random; return the limits seen."""
    inside, chance, seen, loop = 0, random.Random(seed), [], asyncio.get_running_loop()

    async def one() -> None:
        nonlocal inside
        while True:
            await gate.enter(1)
            sent = loop.time()
            inside += 1
            turned_away = inside > capacity or chance.random() < noise
            await asyncio.sleep(0.01 + 0.01 * chance.random())
            inside -= 1
            gate.leave()
            seen.append(int(gate.limit))
            if not turned_away:
                gate.passed(sent)
                return
            gate.busy(sent, None)
            await asyncio.sleep(0.01)

    await asyncio.gather(*(one() for _ in range(requests)))
    return seen


@pytest.mark.parametrize("seed", range(8))
def test_the_limit_finds_what_a_server_takes(clock: Simulated, seed: int) -> None:
    seen = clock.run_until_complete(load(Gate(Limits(concurrency=256)), capacity=40, requests=1500, seed=seed))
    settled = seen[len(seen) // 2 :]
    assert 27 <= sum(settled) / len(settled) <= 50, sum(settled) / len(settled)


def test_a_server_that_takes_all_is_asked_as_fast_as_allowed(clock: Simulated) -> None:
    gate = Gate(Limits(concurrency=200))
    clock.run_until_complete(load(gate, capacity=10**6, requests=1500))
    assert gate.limit == 200


@pytest.mark.parametrize("noise", [0.03, 0.1, 0.2])
@pytest.mark.parametrize("seed", range(8))
def test_random_refusals_do_not_throttle_a_server_that_has_room(clock: Simulated, noise: float, seed: int) -> None:
    """Some turned away at random, which is not for the load: halving on each would end at one request at a time."""
    gate = Gate(Limits(concurrency=64))
    seen = clock.run_until_complete(load(gate, capacity=10**6, requests=3000, noise=noise, seed=seed))
    settled = seen[len(seen) // 4 :]
    assert sum(settled) / len(settled) > 40, sum(settled) / len(settled)


def test_a_trial_tells_the_load_from_chance() -> None:
    for expected, turned_away in (("noise", [True, False] * 20), ("load", [False] * 40), ("worse", [True] * 9)):
        trial = Trial(64.0, 0.25) if expected != "worse" else Trial(64.0, 0.02)
        verdicts = [trial.learn(away) for away in turned_away]
        assert expected in verdicts, verdicts


def test_a_burst_decreases_once_however_many_requests_it_hits() -> None:
    gate = Gate(Limits(concurrency=256))
    sent = time.monotonic()
    for _ in range(START):
        gate.busy(sent, None)
    assert gate.limit == START / 2
    for _ in range(START):  # the rest of the same burst: sent before the decrease
        gate.busy(sent, None)
    assert gate.limit == START / 2


def test_growth_after_a_decrease_is_fast_up_to_where_it_broke() -> None:
    gate = Gate(Limits(concurrency=1000))
    sent = time.monotonic()
    for _ in range(START):
        gate.busy(sent, None)
    gate.in_flight = 10**6  # a full gate
    rounds = 0
    while gate.limit < 0.9 * START:
        rounds += 1
        for _ in range(int(gate.limit)):
            gate.passed(time.monotonic())
    assert rounds <= 6
    before = gate.limit
    for _ in range(int(gate.limit)):
        gate.passed(time.monotonic())
    assert gate.limit - before < 1.5, "near the ceiling one place a round"


def test_a_pause_holds_everybody() -> None:
    async def main() -> float:
        gate = Gate(Limits())
        gate.pause(0.2)
        begun = time.monotonic()
        await asyncio.gather(gate.enter(1), gate.enter(1))
        return time.monotonic() - begun

    assert asyncio.run(main()) >= 0.19


def test_retry_after_pauses_all_only_when_most_are_turned_away() -> None:
    gate = Gate(Limits())
    for _ in range(9):
        gate.passed(time.monotonic())
    for _ in range(4):
        gate.busy(time.monotonic(), 60.0)
    assert gate._wait() <= 0
    for _ in range(8):
        gate.busy(time.monotonic(), 60.0)
    assert gate._wait() > 50


def test_requests_a_minute_are_kept() -> None:
    async def main() -> float:
        gate, begun = Gate(Limits(rpm=1200)), time.monotonic()  # twenty a second, one second's worth at once

        async def one() -> None:
            await gate.enter(1)
            gate.leave()

        await asyncio.gather(*(one() for _ in range(30)))
        return time.monotonic() - begun

    assert 0.4 <= asyncio.run(main()) < 2.0


def test_tokens_a_minute_are_kept_and_corrected() -> None:
    async def main() -> tuple[float, float]:
        gate = Gate(Limits(tpm=6000))  # a hundred a second
        await gate.enter(100)
        first = gate._wait()
        gate.correct(200)
        return first, gate._wait()

    before, after = asyncio.run(main())
    assert before <= 0.0 and 1.5 < after <= 2.1


def test_a_closed_gate_lets_nobody_in_and_a_cancelled_wait_takes_no_place() -> None:
    async def main() -> None:
        gate = Gate(Limits(concurrency=1))
        await gate.enter(1)
        waiting = [asyncio.create_task(gate.enter(1)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        gate.leave()
        await asyncio.sleep(0)
        assert waiting[1].done() and not waiting[2].done() and gate.in_flight == 1
        gate.closed = True
        gate.leave()
        await asyncio.sleep(0.01)
        assert not waiting[2].done() and gate.in_flight == 0
        waiting[2].cancel()

    asyncio.run(main())


def test_a_place_given_to_a_cancelled_request_is_given_back() -> None:
    async def main() -> None:
        gate = Gate(Limits(concurrency=1))
        await gate.enter(1)
        waiting = asyncio.create_task(gate.enter(1))
        await asyncio.sleep(0)
        gate.leave()  # the place is the waiting one's now
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert gate.in_flight == 0

    asyncio.run(main())


def test_limits_come_from_the_environment_and_options_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Limits.given() == Limits(concurrency=256)
    monkeypatch.setenv("LIMBECK_CONCURRENCY", "8")
    monkeypatch.setenv("LIMBECK_RPM", "60")
    assert Limits.given() == Limits(concurrency=8, rpm=60) and Limits.given(concurrency=3).concurrency == 3
    monkeypatch.setenv("LIMBECK_TPM", "lots")
    with pytest.raises(UsageError, match="LIMBECK_TPM is 'lots', which is no positive number"):
        Limits.given()
