"""Driving a step by hand, as the engine would: its requests are answered until it says what the row becomes.

drive(Code(), row)                                          checks in the sandbox are made on the spot
drive(Judge(teacher="t"), row, replies=["4", "5"])           asks are answered with these texts, in turn
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Any

from limbeck.core.ask import Answer, Apply, Ask, Exec, Reply, Work
from limbeck.core.find import find_step
from limbeck.core.row import Row
from limbeck.core.step import Each

Replies = Iterable[str] | Callable[[Ask, int], str]
"""Texts in the order they are asked for, or a function of the request and the sample's number."""


def drive(step: Each, row: Row, replies: Replies = ()) -> Row:
    """Return the one row that `row` becomes under a step; its requests are answered here."""
    made = settled(step.each(row), replies)
    assert isinstance(made, Row), made
    return made


def settled(made: Any, replies: Replies = ()) -> Any:
    """Return what an `each` returned, or what it returns once its requests are answered."""
    if not isinstance(made, Generator):
        return made
    answer = replies if callable(replies) else _in_turn(replies)
    try:
        request = next(made)
        while True:
            try:
                reply = _answered(request, answer)
            except Exception as error:  # noqa: BLE001 - the step may catch it, as under the engine
                request = made.throw(error)
            else:
                request = made.send(reply)
    except StopIteration as stop:
        return stop.value


def _in_turn(texts: Iterable[str]) -> Callable[[Ask, int], str]:
    rest = iter(texts)
    return lambda ask, sample: next(rest)


def _answered(request: Any, answer: Callable[[Ask, int], str]) -> Any:
    if isinstance(request, Work):
        return request.function(*request.args)
    if isinstance(request, Ask):
        samples = range(request.first, request.first + request.n)
        return Reply(answers=tuple(Answer(text=answer(request, sample)) for sample in samples))
    if isinstance(request, Apply):
        step = find_step(request.step)(**request.fields)
        return [drive(step, row, answer) for row in request.rows]  # type: ignore[arg-type]
    assert isinstance(request, Exec)
    from limbeck import sandbox

    return sandbox.run(request.source, stdin=request.stdin, seconds=request.seconds, memory_mb=request.memory_mb)
