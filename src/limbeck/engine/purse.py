"""The money of one teacher: the most a request can cost, reserved before it, and what it did cost, counted after it.

    purse = Purse(teacher, ledger)
    reserved = await purse.reserve(ask, samples)        # waits while calls under way hold what is left of the budget
    …the request…
    purse.pay("sample", reply, seconds=1.2, retries=0, reserved=reserved)

No token is shorter than a byte, so the bytes of a prompt bound its tokens; answers are bounded by `max_tokens`. Without a known
price nothing is reserved, and what is spent is said to be unknown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from limbeck.core.ask import Ask, Reply, Teacher
from limbeck.core.ledger import Ledger, Total, bought
from limbeck.core.prices import Price, price_of
from limbeck.core.row import Usage

PER_MESSAGE = 16
"""Bytes of a chat template around a message, generously."""


class Lease:
    """What the run may spend until it says otherwise, noted on the disk before it is spent.

    A killed run can not know which requests were under way. What it had leased and not accounted for stays counted
    against the cap, so that not even a kill lets a run pass it. A lease is taken in slices of a hundredth of the cap.
    """

    def __init__(self, note: Callable[[float], Awaitable[None]]) -> None:
        self._note = note
        self._usd = 0.0
        self._lock = asyncio.Lock()

    async def cover(self, ledger: Ledger, usd: float) -> None:
        """Make sure that what is spent and set aside is leased; `usd` is the size of one request."""
        if ledger.exposure <= self._usd:
            return
        async with self._lock:
            if ledger.exposure > self._usd:
                assert ledger.cap is not None
                wanted = max(ledger.exposure, min(ledger.cap, ledger.exposure + max(ledger.cap / 100, 8 * usd)))
                await self._note(wanted)
                self._usd = wanted


class Purse:
    """Pays for one teacher's requests out of the run's ledger."""

    def __init__(self, teacher: Teacher, ledger: Ledger, lease: Lease | None = None) -> None:
        self.price = _price(teacher)
        self._ledger = ledger
        self._lease = lease
        self._freed = asyncio.Event()
        ledger.wake.append(self._freed.set)

    async def reserve(self, ask: Ask, samples: Sequence[int]) -> float:
        """Set aside the most a request can cost, in US dollars. Raises BudgetReached where that can never fit."""
        if self.price is None:
            return 0.0
        most = self.price.usd(size(ask), ask.max_tokens * len(samples))
        while not self._ledger.reserve(most):
            self._freed.clear()
            await self._freed.wait()
        if self._lease is not None and self._ledger.cap is not None:
            try:
                await self._lease.cover(self._ledger, most)
            except BaseException:
                self.release(most)
                raise
        return most

    def release(self, reserved: float) -> None:
        """Give a reservation back; whoever waits for money looks again."""
        self._ledger.release(reserved)

    def pay(self, step: str, reply: Reply, *, seconds: float, retries: int, reserved: float) -> Total:
        """Count what a reply did cost, and return it; a server that counts no tokens may have charged all that was reserved."""
        usage, usd = reply.usage, None
        if self.price is not None and (usage.tokens_in or usage.tokens_out):
            usd = self.price.usd(usage.tokens_in, usage.tokens_out, reply.tokens_cached)
        priced = Usage(tokens_in=usage.tokens_in, tokens_out=usage.tokens_out, usd=usd, seconds=seconds)
        total = bought(priced, len(reply.answers), tokens_cached=reply.tokens_cached, retries=retries)
        if usd is None:
            total.at_risk = reserved
        self._ledger.commit(step, total)
        return total


def _price(teacher: Teacher) -> Price | None:
    """Return the teacher's price; that of a batch API where it is one (`discount` is what the provider publishes)."""
    price, discount = price_of(teacher.identity), float(getattr(teacher, "discount", 1.0))
    if price is None or discount == 1.0:
        return price
    return (price if price.batch is not None else replace(price, batch=discount)).batched()


def size(ask: Ask) -> int:
    """Return the bytes of a request's text, which is more than its tokens."""
    total = 64
    for message in ask.messages:
        total += PER_MESSAGE + len(message.content) * (1 if message.content.isascii() else 4)
        total += len(message.tool_calls or "")
    if ask.tools:
        total += len(str(list(ask.tools)))
    if ask.response_format:
        total += len(str(ask.response_format))
    return total
