"""Streaming: order, faults, drops, and the sharing of calls; no disk, no process, a teacher in memory."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from engine_parts import Answered, Broken, BrokenAsker, Catches, Numbers, Odd, OnlyOdd

from limbeck.core.ask import Answer, Apply, Ask, Exec, Reply, Work
from limbeck.core.errors import EndpointError, RefusedError, StepError, TeacherError
from limbeck.core.ledger import Ledger
from limbeck.core.row import Row, Usage
from limbeck.core.step import Asking, Drop, Each
from limbeck.engine.answer import Answerer
from limbeck.engine.cache import Cache
from limbeck.engine.stream import WINDOW, Chain, from_source


def numbers(count: int, words: str = "what is") -> list[Row]:
    return [row for row in Numbers(count=count, words=words).rows() if isinstance(row, Row)]


async def reply(step: str, ask: Ask) -> Reply:
    await asyncio.sleep(random.random() * 0.003)
    word = ask.messages[-1].content.split()[-1]
    if word == "13":
        raise RefusedError("unlucky")
    return Reply(answers=tuple(Answer(text=f"answer {word} {i}") for i in range(ask.n)))


def run(steps: Sequence[Each], rows: Any, ask: Any = reply) -> list[list[Row]]:
    out: list[list[Row]] = [[] for _ in steps]
    chain = Chain(steps, [s.called() for s in steps], ask)
    asyncio.run(chain.run(rows, lambda index, made: out[index].extend(made)))
    return out


def test_rows_come_out_in_the_order_of_the_source_whatever_answered_first() -> None:
    first, second, third = run([Answered(n=3), Odd(), OnlyOdd()], numbers(200))
    kept = [r for r in first if r.dropped is None]
    assert [(r.question, r.response.split()[-1]) for r in kept] == [
        (f"what is {i}", str(s)) for i in range(200) if i != 13 for s in range(3)
    ]
    assert [r.dropped for r in first if r.dropped] == ["engine_parts.py:Answered: refused: unlucky"]
    assert [r.id for r in second] == [r.id for r in kept] == [r.id for r in third]
    assert third[0].dropped == "engine_parts.py:OnlyOdd: answer 0 0 is even"


def test_a_row_that_fails_costs_that_row() -> None:
    (rows,) = run([Broken(every=3)], numbers(60))
    assert [r.dropped is None for r in rows] == [i % 3 != 0 for i in range(60)]
    assert rows[3].dropped == "engine_parts.py:Broken: failed: ValueError: row 3 is odd"


@pytest.mark.parametrize("step", [Broken(), BrokenAsker(), Broken(kind="none"), Broken(kind="text")])
def test_a_step_that_fails_on_its_first_twenty_rows_is_broken(step: Each) -> None:
    with pytest.raises(
        StepError, match=r"failed on each of its first 20 rows; the last time with (Value|Key|Type)Error: "
    ):
        run([step], numbers(3000))


def test_a_broken_step_is_found_early_even_when_a_thousand_rows_are_under_way() -> None:
    asked = 0

    async def counting(step: str, ask: Ask) -> Reply:
        nonlocal asked
        asked += 1
        return await reply(step, ask)

    with pytest.raises(StepError):
        run([BrokenAsker()], numbers(20_000), counting)
    assert asked < 3000


def test_fewer_than_twenty_failures_are_dropped_rows() -> None:
    (rows,) = run([Broken()], numbers(19))
    assert len(rows) == 19 and all(r.dropped for r in rows)


def test_what_a_step_gives_must_be_rows() -> None:
    (rows,) = run([Broken(kind="text")], numbers(3))
    assert rows[0].dropped is not None and "a step must give rows or drops, not str" in rows[0].dropped


def test_a_step_may_make_do_without_a_refused_answer() -> None:
    (rows,) = run([Catches()], numbers(20))
    assert [r.labels.get("refused") for r in rows if r.dropped is None].count("unlucky") == 1 and len(rows) == 20


def test_an_endpoint_at_fault_stops_everything() -> None:
    async def gone(step: str, ask: Ask) -> Reply:
        raise EndpointError("http://gone answers nothing.")

    with pytest.raises(EndpointError, match="http://gone answers nothing"):
        run([Answered()], numbers(50), gone)


def test_a_step_is_sent_what_its_program_printed_and_what_its_work_returned() -> None:
    class Runs(Each):
        def each(self, row: Row) -> Asking:
            ran = yield Exec(source="print(1 + 1)")
            power = yield Work(pow, (2, 10))
            return row.with_labels(printed=ran.stdout.strip(), power=str(power))

    rows = run([Runs()], numbers(3))[0]
    assert [(r.labels["printed"], r.labels["power"]) for r in rows] == [("2", "1024")] * 3


def test_what_a_step_applies_is_another_step_by_name() -> None:
    class Checks(Each):
        def each(self, row: Row) -> Asking:
            rows = yield Apply(step="score.exact", rows=[replace(row, task={"reference": "x"})])
            return rows

    rows = run([Checks()], numbers(2))[0]
    assert ["exact" in r.scores for r in rows] == [True, True]


def test_one_row_may_become_none_or_many() -> None:
    class Grow(Each):
        def each(self, row: Row) -> list[Row | Drop]:
            number = int(row.question.split()[-1])
            return [*[row] * number, *([Drop("two is enough")] if number == 2 else [])]

    rows, last = run([Grow(), Odd2()], numbers(4))
    assert len(rows) == 0 + 1 + 3 + 3 and len(last) == 6


class Odd2(Each):
    """Passes rows on."""

    def each(self, row: Row) -> Row:
        return row


def test_the_source_is_never_read_more_than_a_window_ahead() -> None:
    """Of twenty thousand rows a thousand are held, whatever the order of the answers."""
    read = landed = ahead = 0
    (row,) = numbers(1)

    def source() -> Iterator[Row]:
        nonlocal read
        for _ in range(20_000):
            read += 1
            yield row

    def emit(index: int, rows: Sequence[Row]) -> None:
        nonlocal landed, ahead
        landed += 1
        ahead = max(ahead, read - landed)

    async def at_once(step: str, ask: Ask) -> Reply:
        await asyncio.sleep(0)
        return Reply(answers=(Answer(text="answer 1 1"),))

    asyncio.run(Chain([Catches()], ["a"], at_once).run(source(), emit))
    assert landed == 20_000 and ahead <= WINDOW


def test_a_source_that_fails_is_one_sentence() -> None:
    with pytest.raises(StepError, match=r"engine_parts\.py:Numbers failed after 5 rows: ValueError: the well is dry"):
        list(from_source(Numbers(explode=5).rows(), "engine_parts.py:Numbers"))


def test_a_bad_record_is_a_dropped_row_of_its_own() -> None:
    rows = list(from_source(Numbers(count=4, bad=2).rows(), "n"))
    assert [r.dropped for r in rows] == [None, "n: record 1 can not be read", None, "n: record 3 can not be read"]
    assert len({r.id for r in rows}) == 4


# -- answering ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def answerer(tmp_path: Path) -> Iterator[Answerer]:
    cache = Cache(tmp_path / "calls.sqlite")
    yield Answerer(cache, Ledger(), lambda name: tmp_path)
    cache.close()


def asks(count: int, same: bool, **changes: Any) -> list[Ask]:
    rows = list(Numbers(count=count, same=same, words=changes.pop("words", "what is")).rows())
    teacher = Answered().teacher
    return [Ask(messages=r.messages, teacher=teacher, **changes) for r in rows if isinstance(r, Row)]


def answer(answerer: Answerer, *requests: Ask) -> list[Reply | BaseException]:
    async def all_at_once() -> list[Reply | BaseException]:
        return await asyncio.gather(*(answerer.answer("step", ask) for ask in requests), return_exceptions=True)

    return asyncio.run(all_at_once())


def calls_in(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_rows_that_ask_the_same_at_the_same_time_share_one_call(answerer: Answerer, calls: Path) -> None:
    replies = answer(answerer, *asks(50, same=True, n=2))
    assert len(calls_in(calls)) == 1 and len({r.answers for r in replies if isinstance(r, Reply)}) == 1
    assert answerer.ledger.totals["step"].answers == 2 and answerer.ledger.totals["step"].cached == 98


def test_only_the_samples_that_are_missing_are_bought(answerer: Answerer, calls: Path) -> None:
    (two,) = answer(answerer, *asks(1, same=True, n=2))
    (five,) = answer(answerer, *asks(1, same=True, n=5))
    assert isinstance(two, Reply) and isinstance(five, Reply)
    assert five.answers[:2] == two.answers and five.cached == 2 and calls_in(calls)[1].endswith("[2, 3, 4]")


def test_different_sampling_is_a_different_answer(answerer: Answerer, calls: Path) -> None:
    for changes in ({}, {"temperature": 0.5}, {"seed": 1}, {"max_tokens": 7}):
        answer(answerer, *asks(1, same=True, **changes))
    assert len(calls_in(calls)) == 4


def test_what_a_call_costs_is_shared_among_its_answers(answerer: Answerer) -> None:
    (reply_,) = answer(answerer, *asks(1, same=True, n=4))
    assert isinstance(reply_, Reply)
    assert [a.usage.tokens_in for a in reply_.answers] == [5, 0, 0, 0] and sum(
        a.usage.tokens_out for a in reply_.answers
    ) == 12
    assert reply_.usage.usd == pytest.approx(0.004)
    assert sum((a.usage for a in reply_.answers), Usage()).seconds == pytest.approx(reply_.usage.seconds)


def test_a_refusal_is_shared_too_and_is_not_stored(answerer: Answerer, calls: Path) -> None:
    found = answer(answerer, *asks(5, same=True, words="refuse"))
    assert all(isinstance(r, RefusedError) for r in found) and len(calls_in(calls)) == 1
    answer(answerer, *asks(1, same=True, words="refuse"))
    assert len(calls_in(calls)) == 2


def test_a_teacher_that_gives_too_few_answers_is_told_apart(answerer: Answerer) -> None:
    (found,) = answer(answerer, *asks(1, same=True, words="few"))
    assert isinstance(found, TeacherError) and "gave 0 answers where 1 were asked for" in str(found)
