"""Answering asks: the cache first, then the teacher; each answer is bought once, stored, and then acted on.

Two rows that ask the same thing at the same time share one call. The teachers of a run are opened on first use, by
name: `embedded`, `openai:MODEL@http://host/v1`, `replay:FILE`, or `step:NAME` for a student that the run has made.
Remote ones are asked through an `Endpoint`, which knows about limits, patience and money.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from limbeck.core.ask import Answer, Ask, Reply, Teacher
from limbeck.core.errors import TeacherError, UsageError
from limbeck.core.find import find_teacher, own_file, teacher_names
from limbeck.core.ledger import Ledger, Total, bought
from limbeck.core.row import Usage
from limbeck.core.step import STEP_PREFIX
from limbeck.engine.cache import Cache, keys
from limbeck.engine.endpoint import Endpoint
from limbeck.engine.limits import Limits
from limbeck.engine.patience import Patience
from limbeck.engine.purse import Lease, Purse


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
    """Answers the asks of a run; `student` turns the name of a finished step into its folder of weights.

    `run` is the run's own id, under which the cache keeps what it has spent.
    """

    def __init__(
        self,
        cache: Cache,
        ledger: Ledger,
        student: Callable[[str], Path],
        *,
        run: str = "",
        limits: Limits | None = None,
        patience: Patience | None = None,
        tolerate: float = 0.0,
    ) -> None:
        self.cache = cache
        self.ledger = ledger
        self.endpoints: dict[str, Endpoint] = {}
        """The remote ones, by identity: two names of the same model share one."""
        self._student = student
        self._run = run
        self._limits, self._patience, self._tolerate = limits or Limits.given(), patience or Patience(), tolerate
        self._teachers: dict[str, Teacher] = {}
        self._purses: dict[str, Purse] = {}
        self._flying: dict[tuple[str, int], asyncio.Future[Answer]] = {}
        self._lease = Lease(lambda usd: cache.lease(run, usd))
        self._halted = False

    def teacher(self, spec: str) -> Teacher:
        """Return the open teacher called `spec`."""
        if spec not in self._teachers:
            real = f"hf:{self._student(spec)}" if spec.startswith(STEP_PREFIX) else spec
            self._teachers[spec] = open_teacher(real)
        return self._teachers[spec]

    @property
    def in_flight(self) -> int:
        """How many paid requests are under way."""
        return sum(endpoint.gate.in_flight for endpoint in self.endpoints.values())

    def halt(self) -> None:
        """Let no new request out: what is under way ends and is stored, everything else waits to be cancelled."""
        self._halted = True
        for endpoint in self.endpoints.values():
            endpoint.gate.closed = True

    async def answer(self, step: str, ask: Ask) -> Reply:
        """Return the reply to an ask of `step`, buying only the samples that the cache and the air do not hold."""
        teacher = self._teachers.get(ask.teacher) or self.teacher(ask.teacher)
        wanted = keys(teacher.identity, ask)
        known = self.cache.get(wanted, ask.max_tokens)
        cached = len(known)
        if cached:
            self._count_known(step, teacher, cached)
        if len(known) < len(wanted):
            known |= await self._others(step, teacher, ask, wanted, known)
        answers = tuple(known[key] for key in wanted)
        usage = answers[0].usage if len(answers) == 1 else sum((a.usage for a in answers), Usage())
        return Reply(answers=answers, usage=usage, teacher=ask.teacher, cached=cached)

    def _count_known(self, step: str, teacher: Teacher, count: int) -> None:
        self.ledger.cached(step, count)
        endpoint = self.endpoints.get(teacher.identity)
        if endpoint is not None:
            endpoint.health.passed += count

    async def _others(
        self, step: str, teacher: Teacher, ask: Ask, wanted: list[str], known: dict[str, Answer]
    ) -> dict[str, Answer]:
        """Return the answers that the cache does not hold: those under way for another row, and those to be bought."""
        limit = ask.max_tokens
        shared, missing = {}, []
        for place, key in enumerate(wanted):
            if key not in known:
                flying = self._flying.get((key, limit))
                if flying is not None:
                    shared[key] = flying
                else:
                    missing.append(ask.first + place)
        bought_now = await self._buy(step, teacher, ask, wanted, missing) if missing else {}
        waited = {key: await asyncio.shield(future) for key, future in shared.items()}
        if waited:
            self.ledger.cached(step, len(waited))
        return bought_now | waited

    async def _buy(
        self, step: str, teacher: Teacher, ask: Ask, wanted: list[str], missing: list[int]
    ) -> dict[str, Answer]:
        loop = asyncio.get_running_loop()
        key_of = {sample: wanted[sample - ask.first] for sample in missing}
        futures = {key: loop.create_future() for key in key_of.values()}
        self._flying.update({(key, ask.max_tokens): future for key, future in futures.items()})
        try:
            if self._halted:
                await loop.create_future()  # for ever: the run is stopping, and will cancel this
            got = await self._get(step, teacher, ask, key_of)
        except BaseException as error:
            for future in futures.values():
                _fail(future, error)
            raise
        finally:
            for key in futures:
                del self._flying[key, ask.max_tokens]
        for key, future in futures.items():
            future.set_result(got[key])
        return got

    async def _get(self, step: str, teacher: Teacher, ask: Ask, key_of: dict[int, str]) -> dict[str, Answer]:
        """Make one request, and one for each answer that a server without `n` leaves out; all are stored as they come."""
        samples = list(key_of)
        got = await self._request(step, teacher, ask, samples, key_of)
        if not got:
            raise TeacherError(f"{ask.teacher} gave 0 answers where {len(samples)} were asked for.")
        rest = [s for s in samples if key_of[s] not in got]
        if not rest:
            return got
        singles = [asyncio.ensure_future(self._request(step, teacher, ask, [s], key_of)) for s in rest]
        try:
            for single in await asyncio.gather(*singles):
                got |= single
        finally:
            for task in singles:
                task.cancel()
            await asyncio.gather(*singles, return_exceptions=True)
        return got

    async def _request(
        self, step: str, teacher: Teacher, ask: Ask, samples: list[int], key_of: dict[int, str]
    ) -> dict[str, Answer]:
        if getattr(teacher, "remote", False):
            reply, total = await self._endpoint(teacher).send(step, ask, samples, key_of[samples[0]])
        elif getattr(teacher, "priced", False):
            reply, total = await self._pay_for(step, teacher, ask, samples)
        else:
            reply = await teacher.answer(ask, samples)
            total = bought(reply.usage, len(reply.answers))
            self.ledger.commit(step, total)
        if len(reply.answers) > len(samples):
            raise TeacherError(f"{ask.teacher} gave {len(reply.answers)} answers where {len(samples)} were asked for.")
        got = dict(zip((key_of[s] for s in samples), _shares(reply, total), strict=False))
        await self.cache.put(list(got.items()), ask.max_tokens, (self._run, step, total))
        return got

    def _endpoint(self, teacher: Teacher) -> Endpoint:
        endpoint = self.endpoints.get(teacher.identity)
        if endpoint is None:
            endpoint = Endpoint(
                teacher,
                self._limits,
                self.ledger,
                self._patience,
                tolerate=self._tolerate,
                lease=self._lease,
                lost=self._lose,
            )
            endpoint.gate.closed = self._halted
            self.endpoints[teacher.identity] = endpoint
        return endpoint

    def _lose(self, step: str, total: Total) -> None:
        self.ledger.commit(step, total)
        self.cache.note((self._run, step, total))

    async def _pay_for(self, step: str, teacher: Teacher, ask: Ask, samples: list[int]) -> tuple[Reply, Total]:
        """Ask a teacher that has a price but no gate: a batch, which waits for hours and is never turned away."""
        purse = self._purses.setdefault(teacher.identity, Purse(teacher, self.ledger, self._lease))
        reserved = await purse.reserve(ask, samples)
        try:
            reply = await teacher.answer(ask, samples)
            return reply, purse.pay(step, reply, seconds=reply.usage.seconds, retries=0, reserved=reserved)
        finally:
            purse.release(reserved)

    async def close(self) -> None:
        """Close every teacher that was opened."""
        for teacher in self._teachers.values():
            await teacher.close()
        self._teachers.clear()


def _shares(reply: Reply, total: Total) -> Sequence[Answer]:
    """Divide what the call cost among its answers: the prompt's tokens to the first, money evenly, no seconds."""
    count = len(reply.answers)
    usd = None if total.unpriced else total.usd / count if count else 0.0
    tokens_in = [total.tokens_in] + [0] * count
    return [
        _with_usage(answer, Usage(tokens_in=n, tokens_out=answer.tokens_out, usd=usd))
        for answer, n in zip(reply.answers, tokens_in, strict=False)
    ]


def _with_usage(answer: Answer, usage: Usage) -> Answer:
    # what `dataclasses.replace` does, at a third of its price: this runs for every answer
    return Answer(
        text=answer.text,
        finish=answer.finish,
        tokens_out=answer.tokens_out,
        tool_calls=answer.tool_calls,
        reasoning=answer.reasoning,
        logprobs=answer.logprobs,
        usage=usage,
    )


def _fail(future: asyncio.Future[Answer], error: BaseException) -> None:
    if isinstance(error, asyncio.CancelledError):
        future.cancel()
        return
    future.set_exception(error)
    future.exception()  # marks it as seen: often nobody else waits for this key
