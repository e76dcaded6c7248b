"""Answering asks: the cache first, then the teacher; each answer is bought once, stored, and then acted on.

Two rows that ask the same thing at the same time share one call. The teachers of a run are opened on first use, by
name: `embedded`, `openai:MODEL@http://host/v1`, `replay:FILE`, or `step:NAME` for a student that the run has made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from limbeck.core.ask import Answer, Ask, Reply, Teacher
from limbeck.core.errors import TeacherError, UsageError
from limbeck.core.find import find_teacher, own_file, teacher_names
from limbeck.core.ledger import Ledger
from limbeck.core.row import Usage
from limbeck.core.step import STEP_PREFIX
from limbeck.engine.cache import Cache, keys


def open_teacher(spec: str) -> Teacher:
    """Make the teacher that `spec` names: a kind, and what it needs after a colon."""
    kind, _, rest = spec.partition(":")
    if kind not in teacher_names() and own_file(spec):
        return find_teacher(spec)("")  # type: ignore[no-any-return]
    return find_teacher(kind)(rest)  # type: ignore[no-any-return]


def model_folder(spec: str) -> Path:
    """Return the folder of weights of a local model: `embedded:student`, `hf:PATH`. Raises UsageError for others."""
    kind, _, rest = spec.partition(":")
    teacher = find_teacher(kind)
    if not hasattr(teacher, "folder"):
        raise UsageError(
            f"'{spec}' has no weights to train: a student is `embedded:student`, `hf:PATH` or `step:NAME`."
        )
    return Path(teacher.folder(rest))


class Answerer:
    """Answers the asks of a run; `student` turns the name of a finished step into its folder of weights."""

    def __init__(self, cache: Cache, ledger: Ledger, student: Callable[[str], Path]) -> None:
        self.cache = cache
        self.ledger = ledger
        self._student = student
        self._teachers: dict[str, Teacher] = {}
        self._flying: dict[str, asyncio.Future[Answer]] = {}

    def teacher(self, spec: str) -> Teacher:
        """Return the open teacher called `spec`."""
        if spec not in self._teachers:
            real = f"hf:{self._student(spec)}" if spec.startswith(STEP_PREFIX) else spec
            self._teachers[spec] = open_teacher(real)
        return self._teachers[spec]

    async def answer(self, step: str, ask: Ask) -> Reply:
        """Return the reply to an ask of `step`, buying only the samples that the cache and the air do not hold."""
        teacher = self.teacher(ask.teacher)
        wanted = keys(teacher.identity, ask)
        known = self.cache.get(wanted)
        shared = {key: self._flying[key] for key in wanted if key not in known and key in self._flying}
        missing = [i for i, key in enumerate(wanted) if key not in known and key not in shared]
        bought = await self._buy(step, teacher, ask, wanted, missing) if missing else {}
        waited = {key: await future for key, future in shared.items()}
        self.ledger.commit(step, Usage(), answers=0, cached=len(wanted) - len(bought))
        answers = tuple({**known, **waited, **bought}[key] for key in wanted)
        total = sum((a.usage for a in answers), Usage())
        return Reply(answers=answers, usage=total, teacher=ask.teacher, cached=len(wanted) - len(bought))

    async def _buy(
        self, step: str, teacher: Teacher, ask: Ask, wanted: list[str], missing: list[int]
    ) -> dict[str, Answer]:
        loop = asyncio.get_running_loop()
        futures = {wanted[i]: loop.create_future() for i in missing}
        self._flying.update(futures)
        try:
            reply = await teacher.answer(ask, missing)
            if len(reply.answers) != len(missing):
                raise TeacherError(
                    f"{ask.teacher} gave {len(reply.answers)} answers where {len(missing)} were asked for."
                )
            bought = dict(zip(futures, _shares(reply), strict=True))
            # counted before it is stored: what is interrupted between the two was paid for all the same
            paid = sum((a.usage for a in bought.values()), Usage())
            self.ledger.commit(step, paid, answers=len(bought), cached=0)
            await self.cache.put(bought.items())
        except BaseException as error:
            for future in futures.values():
                _fail(future, error)
            raise
        finally:
            for key in futures:
                del self._flying[key]
        for key, future in futures.items():
            future.set_result(bought[key])
        return bought

    async def close(self) -> None:
        """Close every teacher that was opened."""
        for teacher in self._teachers.values():
            await teacher.close()
        self._teachers.clear()


def _shares(reply: Reply) -> Sequence[Answer]:
    """Divide what the call cost among its answers: the prompt's tokens to the first, time and money evenly."""
    count, usage = len(reply.answers), reply.usage
    return [
        replace(
            answer,
            usage=Usage(
                tokens_in=usage.tokens_in if index == 0 else 0,
                tokens_out=answer.tokens_out,
                usd=usage.usd / count,
                seconds=usage.seconds / count,
            ),
        )
        for index, answer in enumerate(reply.answers)
    ]


def _fail(future: asyncio.Future[Answer], error: BaseException) -> None:
    if isinstance(error, asyncio.CancelledError):
        future.cancel()
        return
    future.set_exception(error)
    future.exception()  # marks it as seen: often nobody else waits for this key
