"""One endpoint and model: requests go out through it, are tried again, paid for, and counted.

    endpoint = Endpoint(teacher, limits, ledger, patience)
    reply, cost = await endpoint.send("sample", ask, samples=[0, 1, 2], request="9f3a…")   # raises what ends the row or the run
    cost.usd, cost.tokens_out, cost.retries                                               # in the ledger already

A request passes the gate (adaptive concurrency, rates), reserves the most it can cost under the budget, is made, and gives
the rest of the reservation back. A reply that never came may have been charged all the same: its reservation stays counted
as money at risk, so that the cap holds whatever the provider does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from limbeck.core.ask import Ask, Reply, Teacher
from limbeck.core.errors import BusyError, DeniedError, EndpointError, RefusedError, TeacherError
from limbeck.core.ledger import Ledger, Total
from limbeck.engine.limits import Gate, Limits
from limbeck.engine.patience import Health, Patience
from limbeck.engine.purse import Lease, Purse, size

MAYBE_CHARGED = ("timeout", "connection", "garbled")
ENOUGH_DENIED = 20


class _Stopping(Exception):
    """The run stops, and this request has not gone out."""


class Endpoint:
    """A remote teacher behind a gate, with a price and a memory of what it lets pass."""

    def __init__(
        self,
        teacher: Teacher,
        limits: Limits,
        ledger: Ledger,
        patience: Patience,
        *,
        tolerate: float = 0.0,
        lease: Lease | None = None,
        lost: Callable[[str, Total], None] | None = None,
    ) -> None:
        self.teacher = teacher
        self.purse = Purse(teacher, ledger, lease)
        self.gate = Gate(limits)
        self.health = Health(patience, tolerate)
        self.answered = self.retries = 0
        self._patience = patience
        self._lost = lost or ledger.commit
        self._undecided = 0
        self._denied = 0
        self._about_key: EndpointError | None = None
        self._news = asyncio.Event()
        self._mean_out: float | None = None

    async def send(self, step: str, ask: Ask, samples: Sequence[int], request: str) -> tuple[Reply, Total]:
        """Make one request until it is answered; `request` is its digest. What it cost is in the ledger when this returns.

        Raises RefusedError for the row, EndpointError or BudgetReached for the run.
        """
        attempt, tokens = 0, size(ask) // 4
        self._undecided += 1
        try:
            while True:
                attempt += 1
                try:
                    return await self._once(step, ask, samples, tokens, attempt)
                except BusyError as error:
                    await self._bear(error, request, attempt)
                except DeniedError as error:
                    await self._judge(error)
                except EndpointError:
                    self.gate.closed = True  # about every request: nothing more goes out until the run has stopped
                    raise
                except _Stopping:  # while it waited for money; it has not gone out, and will not
                    await asyncio.get_running_loop().create_future()
        finally:
            self._undecided -= 1
            self._tell()

    async def _once(
        self, step: str, ask: Ask, samples: Sequence[int], tokens: int, attempt: int
    ) -> tuple[Reply, Total]:
        estimate = tokens + self._expected_out(ask) * len(samples)
        await self.gate.enter(estimate, again=attempt > 1)
        sent = time.monotonic()
        try:
            reserved = await self.purse.reserve(ask, samples)
            try:
                if self.gate.closed:
                    raise _Stopping
                sent = time.monotonic()
                reply = await self.teacher.answer(ask, samples)
                seconds = time.monotonic() - sent
                total = self.purse.pay(step, reply, seconds=seconds, retries=attempt - 1, reserved=reserved)
            except BaseException as error:
                self._if_lost(step, error, reserved)
                raise
            finally:
                self.purse.release(reserved)  # after the commit: between the two nothing else may fit under the cap
        except BusyError as error:
            if error.kind in ("rate", "overloaded", "timeout"):
                self.gate.busy(sent, error.retry_after)
            raise
        finally:
            self.gate.leave()
        self._learn(reply, sent, estimate)
        return reply, total

    def _learn(self, reply: Reply, sent: float, estimate: int) -> None:
        self.gate.passed(sent)
        if reply.pause > 0:
            self.gate.pause(reply.pause)
        self.health.good()
        self.answered += 1
        self._tell()
        usage = reply.usage
        self.gate.correct(usage.tokens_in + usage.tokens_out - estimate)
        each = usage.tokens_out / max(1, len(reply.answers))
        self._mean_out = each if self._mean_out is None else 0.95 * self._mean_out + 0.05 * each

    def _expected_out(self, ask: Ask) -> int:
        return ask.max_tokens if self._mean_out is None else min(ask.max_tokens, int(self._mean_out) + 1)

    def _if_lost(self, step: str, error: BaseException, reserved: float) -> None:
        """Count a request whose reply never came, but which the provider may have charged."""
        cut = isinstance(error, asyncio.CancelledError)
        if cut or (isinstance(error, BusyError) and error.kind in MAYBE_CHARGED):
            self._lost(step, Total(lost=1, at_risk=reserved))

    async def _bear(self, error: BusyError, request: str, attempt: int) -> None:
        pause = self._patience.wait(error, request, attempt)
        final: TeacherError | None = self.health.verdict(error, attempt, pause)
        if isinstance(final, EndpointError):
            self.gate.closed = True
        if final is not None:
            raise final from None
        self.retries += 1
        await asyncio.sleep(pause)

    async def _judge(self, error: DeniedError) -> None:
        """Wait until another row shows whether 403 is about this row or about the key."""
        self._denied += 1
        self._tell()
        try:
            while not self.health.answered:
                if self._about_key is None and self._denied >= min(self._undecided, ENOUGH_DENIED):
                    self._about_key = EndpointError(f"{error} No row has passed, so it is about the key or the model.")
                    self.gate.closed = True
                    self._news.set()
                if self._about_key is not None:
                    raise EndpointError(str(self._about_key))
                self._news.clear()
                await self._news.wait()
        finally:
            self._denied -= 1
        raise RefusedError(str(error))

    def _tell(self) -> None:
        if self._denied:
            self._news.set()
