"""The batch APIs, at half the price and within a day: `batch:openai:MODEL` and `batch:anthropic:MODEL`, also with `@http://...`.

    batch:openai:gpt-4.1-mini                      api.openai.com, with the key in OPENAI_API_KEY
    batch:anthropic:claude-haiku-4-5               api.anthropic.com, with the key in ANTHROPIC_API_KEY
    batch:openai:m@https://llm.example.org/v1      any server with the same files and batches

Thousands of asks at once are collected until none has come for two seconds, sent as one batch (or several, by the provider's
limits), looked at every LIMBECK_BATCH_POLL seconds (30, slowly growing), and answered one by one. The identity is that of
the live teacher: answers bought by batch serve a live run later, and the other way round.

Nothing is bought twice: what is asked for is written down beside the cache before it is sent (`_batch_journal.py`). After a kill
the same asks wait at the batch that is under way, or take their answers from the one that has ended. Requests that expired, were
cancelled or failed on the provider's side go into the next batch; after three batches the row is dropped, with the reason.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from copy import copy

from limbeck.core.ask import Ask, Reply
from limbeck.core.errors import BusyError, DeniedError, EndpointError, LimbeckError, RefusedError, UsageError, nearest
from limbeck.core.fingerprint import digest
from limbeck.core.row import Usage
from limbeck.teachers._batch_anthropic import AnthropicBatches
from limbeck.teachers._batch_desk import Desk, settle
from limbeck.teachers._batch_flight import Slot
from limbeck.teachers._batch_journal import Journal, default_folder
from limbeck.teachers._batch_openai import OpenAIBatches
from limbeck.teachers._batch_provider import Piece, Provider, poll_seconds

PROVIDERS: dict[str, Callable[[str, float], Provider]] = {"openai": OpenAIBatches, "anthropic": AnthropicBatches}
ROUNDS = 3
QUIET_SECONDS = 2.0


class Batch:
    """A model behind a provider's batch API."""

    remote = False
    """Requests need no gate, no rate limits and no retries: they wait in a batch."""
    priced = True
    """Answers cost money all the same: the price of the live teacher of this identity, times `discount`."""
    discount = 0.5
    window = 50_000
    """Rows under way at once: a batch is worth while when it is large."""

    def __init__(
        self, rest: str, *, quiet: float | None = None, poll: float | None = None, most: int | None = None
    ) -> None:
        """Take `openai:MODEL` or `anthropic:MODEL`.

        `quiet` is how many seconds without a new ask end the collecting (2, or `poll` if that is less), `poll` how many
        lie between two looks at a batch (LIMBECK_BATCH_POLL), `most` how many requests go into one batch (the provider's limit).
        """
        kind, _, model = rest.partition(":")
        if kind not in PROVIDERS:
            raise UsageError(
                f"batch: needs a provider: batch:openai:MODEL or batch:anthropic:MODEL.{nearest(kind, PROVIDERS)}"
            )
        poll = poll_seconds() if poll is None else poll
        self._provider = PROVIDERS[kind](model, poll)
        self.identity = self._provider.identity
        self._quiet = min(QUIET_SECONDS, poll) if quiet is None else quiet
        self._desk = Desk(self._provider, Journal(default_folder(), f"{kind} {self.identity}"), poll)
        self._desk.most = min(most or self._provider.most, self._provider.most)
        self._wanted: list[Slot] = []
        self._answered = False
        self._full = asyncio.Event()
        self._collector: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"Batch({self.identity})"

    async def answer(self, ask: Ask, samples: Sequence[int]) -> Reply:
        """Wait for each sample's answer; what a batch could not answer goes into the next.

        Raises RefusedError where the first sample is refused, denied or not answered in three batches (a later one ends
        the reply before it), EndpointError and StorageError for the whole run.
        """
        begun, key = time.monotonic(), digest(ask.payload())
        slots = [Slot(ask, (key, sample)) for sample in samples]
        try:
            self._put(slots)
            alone = len(slots) == 1  # the usual case: a task less for each of fifty thousand rows
            each = (self._answer(slot) for slot in slots)
            outcomes = [await next(each)] if alone else await asyncio.gather(*each)
        finally:
            for slot in slots:
                slot.outcome.cancel()
        pieces = _leading(outcomes)
        usage = Usage(
            tokens_in=sum(piece.tokens_in for piece in pieces),
            tokens_out=sum(piece.answer.tokens_out for piece in pieces),
            seconds=time.monotonic() - begun,
        )
        cached = sum(piece.tokens_cached for piece in pieces)
        return Reply(answers=tuple(p.answer for p in pieces), usage=usage, teacher=ask.teacher, tokens_cached=cached)

    async def close(self) -> None:
        """Leave batches under way to the provider, and say so; close the connections."""
        if self._collector is not None:
            self._collector.cancel()
            await asyncio.gather(self._collector, return_exceptions=True)
        await self._desk.close()
        await self._provider.caller.close()

    async def _answer(self, slot: Slot) -> Piece | LimbeckError:
        """Wait for one answer, in one batch after another."""
        while True:
            outcome = await slot.outcome
            if isinstance(outcome, Piece):
                self._answered = True
                return outcome
            if isinstance(outcome, DeniedError):
                return RefusedError(str(outcome))
            if not isinstance(outcome, BusyError):
                return outcome
            if slot.bought >= ROUNDS:
                return self._give_up(outcome)
            slot.outcome = asyncio.get_running_loop().create_future()
            self._put([slot])

    def _give_up(self, error: BusyError) -> LimbeckError:
        """Return what ends a row that three batches did not answer; or the run, where they answered no row at all."""
        told = f"{self.identity} gave no answer in {ROUNDS} batches; the last time: {error}"
        return RefusedError(told) if self._answered else EndpointError(f"{told} No other row was answered either.")

    def _put(self, slots: list[Slot]) -> None:
        """Lay slots ready for the next batch."""
        self._wanted += slots
        if len(self._wanted) >= self._desk.most * self._provider.most_samples:
            self._full.set()
        if self._collector is None or self._collector.done():
            self._collector = asyncio.create_task(self._collect())

    async def _collect(self) -> None:
        while self._wanted:
            await self._until_quiet()
            slots, self._wanted = self._wanted, []
            self._full.clear()
            try:
                await self._desk.send(slots)
            except Exception as error:  # noqa: BLE001 - whoever waits is told; a collector that dies would leave them waiting
                settle(slots, error)

    async def _until_quiet(self) -> None:
        """Wait until no more is wanted for a while, or enough is wanted to fill a batch."""
        seen = -1
        while seen != len(self._wanted) and not self._full.is_set():
            seen = len(self._wanted)
            try:
                await asyncio.wait_for(self._full.wait(), self._quiet)
            except TimeoutError:
                await asyncio.sleep(0)  # whoever was kept from asking by a busy loop asks now


def _leading(outcomes: Sequence[Piece | LimbeckError]) -> list[Piece]:
    """Return the answers before the first error; raise it where there are none, and always when it is about the run."""
    for outcome in outcomes:
        if isinstance(outcome, LimbeckError) and not isinstance(outcome, RefusedError):
            raise copy(outcome)
    pieces: list[Piece] = []
    for outcome in outcomes:
        if isinstance(outcome, LimbeckError):
            if not pieces:
                raise copy(outcome)
            break
        pieces.append(outcome)
    return pieces
