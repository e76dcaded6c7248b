"""The desk: answers that are wanted go in; each joins a batch that is under way already, or goes into a new one.

    desk = Desk(provider, journal, poll=30.0)
    await desk.send(slots)          # returns when each slot waits at a batch, or has its outcome
    await desk.close()

In order, under the journal's lock: batches whose ids were lost by a kill are looked for in the provider's list; slots whose
answers were asked for before wait there; the rest is divided into requests (the samples of one prompt share one where the API
can) and these into batches. Of a new batch first its requests are written down, then it is uploaded, then it is written down
that it is about to begin, then it is begun, then its id is written down.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from limbeck.core.errors import BusyError, DeniedError, EndpointError, LimbeckError, RefusedError
from limbeck.core.fingerprint import digest
from limbeck.teachers._batch_flight import Crowded, Flight, Slot
from limbeck.teachers._batch_journal import Entry, Journal
from limbeck.teachers._batch_provider import TRIES, Provider

log = logging.getLogger("limbeck.teachers.batch")

CLOSE_SECONDS = 5.0
NOT_BEGUN = ("rate", "unreachable")
"""Kinds of BusyError after which it is certain that no batch was begun."""


class Request(NamedTuple):
    """One request of a new batch, and who waits for it."""

    name: str
    key: str
    samples: tuple[int, ...]
    line: bytes
    slots: list[Slot]


class Desk:
    """All batches of one endpoint and model in this process."""

    def __init__(self, provider: Provider, journal: Journal, poll: float) -> None:
        self.most = provider.most
        """Requests in one batch; halved when the provider has no room for so many."""
        self._provider = provider
        self._journal = journal
        self._poll = poll
        self._nonce = secrets.token_hex(8)
        """Part of every custom id: a batch that holds one of ours was begun here."""
        self._flights: dict[str, tuple[Flight, asyncio.Task[None]]] = {}
        self._resent: set[asyncio.Task[None]] = set()

    async def send(self, slots: Sequence[Slot]) -> None:
        """Let each slot wait at a batch. Raises EndpointError or StorageError, with which the rest of the slots is left."""
        async with self._journal.locked():
            await self._recover()
            new = [slot for slot in slots if not slot.outcome.done() and not self._join(slot)]
            for requests in self._batches(self._requests(new)):
                await self._begin(requests)

    async def close(self) -> None:
        """Stop looking. What is under way goes on at the provider, and what was handed over whole is marked so."""
        tasks = [*self._resent, *(task for _, task in self._flights.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        flights = [flight for flight, _ in self._flights.values()]
        self._tell([flight for flight in flights if not flight.ended])
        self._flights.clear()
        with suppress(TimeoutError):  # another process is sending: what is not marked is only kept longer
            await asyncio.wait_for(self._finish([f.entry for f in flights if f.ended and not f.waiting]), CLOSE_SECONDS)

    async def _finish(self, entries: list[Entry]) -> None:
        if entries:
            async with self._journal.locked():
                for entry in entries:
                    self._journal.finish(entry)

    def _tell(self, flights: list[Flight]) -> None:
        if flights:
            names = ", ".join(flight.entry.batch or "(id not known yet)" for flight in flights)
            count, shown = sum(len(flight.entry.requests) for flight in flights), self._provider.identity
            told = "%d requests go on at %s (%s): they are paid for. The same command collects their answers."
            log.warning(told, count, shown, names)

    async def _recover(self) -> None:
        """Find the batches that a killed process began, or was about to."""
        for entry in [e for e in self._journal.entries.values() if not e.batch and not e.maybe]:
            found = await self._found(entry) if entry.creating else []
            if found:
                log.info("A batch that was interrupted while it was begun is found again: %s.", ", ".join(found))
                self._journal.save(entry)
            else:
                self._journal.remove(entry)

    async def _found(self, entry: Entry) -> list[str]:
        """Look for an entry's batch in the provider's list, once the list had time to show it, and note what was found."""
        await asyncio.sleep(max(0.0, min(self._poll, entry.creating + self._poll - time.time())))
        known = {other.batch for other in self._journal.entries.values()}
        found = [batch for batch in await self._provider.find(entry) if batch not in known]
        if self._provider.sure:
            entry.batch = found[0] if found else ""
        else:
            entry.maybe = found
        return found

    def _join(self, slot: Slot) -> bool:
        """Let a slot wait at the batch that has asked for its answer, if there is one that has not failed it."""
        entry = self._journal.holder(slot.place)
        if entry is None or entry.tag in slot.seen:
            return False
        self._flight(entry).take(slot)
        return True

    def _requests(self, slots: Sequence[Slot]) -> Iterator[Request]:
        """Divide slots into requests; those that can not be asked get their refusal."""
        waiting: dict[str, dict[int, list[Slot]]] = {}
        for slot in slots:
            key, sample = slot.place
            waiting.setdefault(key, {}).setdefault(sample, []).append(slot)
        for key, of_sample in waiting.items():
            ordered = sorted(of_sample)
            for start in range(0, len(ordered), self._provider.most_samples):
                samples = tuple(ordered[start : start + self._provider.most_samples])
                request = self._request(key, samples, [slot for sample in samples for slot in of_sample[sample]])
                if request is not None:
                    yield request

    def _request(self, key: str, samples: tuple[int, ...], slots: list[Slot]) -> Request | None:
        name = digest([self._nonce, key, samples])
        try:
            line = self._provider.line(name, slots[0].ask, samples)
            if len(line) > self._provider.most_bytes:
                raise RefusedError(f"A request of {len(line):,} bytes is too large for any batch.")
        except RefusedError as error:
            for slot in slots:
                slot.settle(error)
            return None
        return Request(name, key, samples, line, slots)

    def _batches(self, requests: Iterator[Request]) -> Iterator[list[Request]]:
        batch: list[Request] = []
        size = 0
        for request in requests:
            full = len(batch) >= self.most or size + len(request.line) + 1 > self._provider.most_bytes
            if batch and full:
                yield batch
                batch, size = [], 0
            batch.append(request)
            size += len(request.line) + 1
        if batch:
            yield batch

    async def _begin(self, requests: list[Request]) -> None:
        """Buy one batch, written down before and after."""
        lines = [request.line for request in requests]
        entry = Entry(self._journal.identity, {request.name: (request.key, request.samples) for request in requests})
        entry.newest = await self._provider.newest()
        self._journal.save(entry)
        try:
            entry.file = await self._provider.upload(lines)
        except EndpointError:
            self._journal.remove(entry)
            raise
        entry.creating = time.time()
        self._journal.save(entry)
        await self._create(entry, lines)
        self._journal.save(entry)
        log.info("Batch %s is begun with %d requests.", entry.batch or "(id not known yet)", len(lines))
        for slot in (slot for request in requests for slot in request.slots):
            slot.bought += 1
            self._flight(entry).take(slot)

    async def _create(self, entry: Entry, lines: list[bytes]) -> None:
        """Begin the batch; when it is unclear whether it was begun, the provider's list is asked before it is tried again.

        Raises EndpointError. The entry stays where a batch may have been begun, for the next run to find.
        """
        for attempt in range(1, TRIES + 1):
            try:
                entry.batch = await self._provider.create(entry, lines)
                return
            except BusyError as error:
                if attempt == TRIES:
                    raise EndpointError(
                        f"{error} (tried {attempt} times) Run the same command again to go on."
                    ) from None
                await asyncio.sleep(self._provider.caller.wait(error, attempt))
                unclear = error.kind not in NOT_BEGUN
                entry.creating = time.time()
                if unclear and await self._found(entry):
                    return
            except (RefusedError, DeniedError, EndpointError) as error:
                self._journal.remove(entry)
                raise EndpointError(str(error)) from None

    def _flight(self, entry: Entry) -> Flight:
        known = self._flights.get(entry.tag)
        if known is not None and not known[1].done():
            return known[0]
        flight = Flight(entry, self._provider, self._journal, self._poll)
        task = asyncio.create_task(flight.run())
        task.add_done_callback(lambda task: self._landed(flight, task))
        self._flights[entry.tag] = flight, task
        return flight

    def _landed(self, flight: Flight, task: asyncio.Task[None]) -> None:
        """Deal with a flight that came to its end otherwise than by serving everybody."""
        if task.cancelled():
            return
        if self._flights.get(flight.entry.tag, (None,))[0] is flight:
            del self._flights[flight.entry.tag]
        error = task.exception()
        slots = [slot for slots in flight.waiting.values() for slot in slots]
        if isinstance(error, Crowded):
            again = asyncio.create_task(self._crowded(flight, str(error), slots))
            self._resent.add(again)
            again.add_done_callback(lambda done: self._resend_failed(done, slots))
        elif error is not None:
            settle(slots, error, flight.entry.tag)

    async def _crowded(self, flight: Flight, told: str, slots: list[Slot]) -> None:
        """Send the requests of a batch again that the provider had no room for: after others, or in smaller batches."""
        others = [other for other, _ in self._flights.values() if not other.ended]
        size = len(flight.entry.requests)
        log.info("The provider has no room for %d requests now: %s", size, told)
        if not others and size == 1:
            raise EndpointError(f"The batch {told}")
        if not others:
            self.most = min(self.most, (size + 1) // 2)
        while not any(other.ended for other in others) and any(self._is_up(other) for other in others):
            await asyncio.sleep(self._poll)
        for slot in slots:
            slot.bought -= 1
        await self.send(slots)

    def _is_up(self, flight: Flight) -> bool:
        return not flight.ended and any(flight is other for other, _ in self._flights.values())

    def _resend_failed(self, task: asyncio.Task[None], slots: list[Slot]) -> None:
        self._resent.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            settle(slots, error)


def settle(slots: Sequence[Slot], error: BaseException, tag: str = "") -> None:
    """Give every slot the error that ended its batch; a fault of ours stops the run with a sentence, too."""
    known = error if isinstance(error, LimbeckError) else _fault(error)
    for slot in slots:
        slot.seen.add(tag)
        slot.settle(known)


def _fault(error: BaseException) -> EndpointError:
    return EndpointError(f"Asking for batches failed with {type(error).__name__}: {error}. Run the same command again.")
