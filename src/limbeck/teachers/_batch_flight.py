"""One batch under way: it is looked at now and then until it has ended, and then its results are handed over, each by itself.

    flight = Flight(entry, provider, journal, poll=30.0)
    flight.take(slot)            # somebody waits for one of its answers: before, during or after
    outcome = await slot.outcome     # a Piece, or the error that came back for this one request

Looks are `poll` seconds apart at first and ten times that after a while. An endpoint that can not be reached is asked again for
an hour: the batch goes on without us. Results are fetched once into a file beside the journal, however often they are read.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from limbeck.core.ask import Ask
from limbeck.core.errors import (
    BusyError,
    DeniedError,
    EndpointError,
    LimbeckError,
    RefusedError,
    StorageError,
    TeacherError,
)
from limbeck.teachers._batch_journal import Entry, Journal, Place, part_of
from limbeck.teachers._batch_provider import Piece, Provider, State

log = logging.getLogger("limbeck.teachers.batch")

GROWTH, SLOWEST = 1.2, 10.0
OUT_OF_REACH_SECONDS = 3600.0
BREATH = 200
"""Lines of results between two chances for others to work."""


@dataclass
class Slot:
    """Somebody who waits for one answer."""

    ask: Ask
    place: Place
    outcome: asyncio.Future[Piece | LimbeckError] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    seen: set[str] = field(default_factory=set)
    """Tags of the batches that had no answer for it."""
    bought: int = 0
    """In how many batches it was asked anew."""

    def settle(self, outcome: Piece | LimbeckError) -> None:
        """Hand the outcome over, unless nobody waits any more."""
        if not self.outcome.done():
            self.outcome.set_result(outcome)


class Crowded(BusyError):
    """A batch that the provider would take if less were queued."""


class Flight:
    """A batch under way or ended."""

    def __init__(self, entry: Entry, provider: Provider, journal: Journal, poll: float) -> None:
        self.entry = entry
        self.waiting: dict[str, list[Slot]] = {}
        """By custom id."""
        self.ended = False
        self._provider = provider
        self._journal = journal
        self._poll = poll
        self._places = entry.places
        self._lines: dict[str, int] | None = None
        """Where each custom id's line begins in the file of results."""
        self._called = asyncio.Event()

    def take(self, slot: Slot) -> None:
        """Let `slot` wait for its answer."""
        self.waiting.setdefault(self._places[slot.place], []).append(slot)
        self._called.set()

    async def run(self) -> None:
        """Watch the batch to its end and serve whoever waits, for ever. Raises Crowded, EndpointError or StorageError."""
        while True:
            await self._called.wait()
            self._called.clear()
            held = self._lines is not None and self._journal.results(self.entry).exists()
            if not held and not await self._fetch():
                return
            await self._serve()

    async def _fetch(self) -> bool:
        """Wait for the end and bring the results here; False where none of the candidates was this batch."""
        target = self._journal.results(self.entry)
        while not target.exists():
            candidates = [self.entry.batch] if self.entry.batch else self.entry.maybe
            if not candidates:
                await self._drop()
                self._lose("its batch was never begun")
                return False
            state = await self._end_of(candidates[0])
            if state.problem:
                await self._drop()
                told = f"{candidates[0]} was not accepted: {state.problem}"
                raise Crowded(told) if state.crowded else EndpointError(f"The batch {told}")
            await self._download(state, target, candidates[0])
        self._lines = dict(await self._index(target))
        self.ended = True
        return True

    async def _end_of(self, batch: str) -> State:
        """Look at a batch until it has ended."""
        pause, shown, reached = self._poll, None, time.monotonic()
        while True:
            try:
                state = await self._provider.state(batch)
                reached = time.monotonic()
            except BusyError as error:
                state = None
                if pause == self._poll or pause >= self._poll * SLOWEST:
                    log.warning("Batch %s can not be looked at, and goes on: %s", batch, error)
                if time.monotonic() - reached > OUT_OF_REACH_SECONDS:
                    raise EndpointError(
                        f"{error} The batch {batch} goes on there: run the same command again."
                    ) from None
            except EndpointError as error:
                raise await self._gone(error, batch) from None
            if state is not None and state != shown:
                shown = state
                log.info("Batch %s: %d of %d answered, %d failed.", batch, state.done, state.total, state.failed)
            if state is not None and state.ended:
                return state
            await asyncio.sleep(pause)
            pause = min(pause * GROWTH, self._poll * SLOWEST)

    async def _download(self, state: State, target: Path, batch: str) -> None:
        part = part_of(target)
        try:
            await self._provider.caller.insist(lambda: self._fill(state, part))
            if not self.entry.batch and not await self._is_ours(part):
                self.entry.maybe.remove(batch)
                return
            part.replace(target)
        except EndpointError as error:
            raise await self._gone(error, batch) from None
        except OSError as error:
            raise StorageError(f"{target} can not be written ({error.strerror}): make space and run again.") from None
        finally:
            part.unlink(missing_ok=True)
        if not self.entry.batch:
            async with self._journal.locked():
                self.entry.batch, self.entry.maybe = batch, []
                self._journal.save(self.entry)

    async def _fill(self, state: State, part: Path) -> None:
        part.write_bytes(b"")
        for path in state.results:
            await self._provider.caller.save(path, part)
            with part.open("ab") as file:
                file.write(b"\n")  # between two files, should the first not end with one

    async def _is_ours(self, part: Path) -> bool:
        return any(name in self.entry.requests for name, _ in await self._index(part))

    async def _index(self, path: Path) -> list[tuple[str, int]]:
        found = []
        for number, (place, raw) in enumerate(_lines(path)):
            with suppress(ValueError, KeyError, TypeError):
                found.append((str(json.loads(raw)["custom_id"]), place))
            if number % BREATH == 0:
                await asyncio.sleep(0)
        return found

    async def _serve(self) -> None:
        """Hand over what is waited for, a request at a time."""
        served = 0
        with self._journal.results(self.entry).open("rb") as file:
            while self.waiting:
                name = next(iter(self.waiting))
                self._hand_over(name, file)
                del self.waiting[name]
                served += 1
                if served % BREATH == 0:
                    await asyncio.sleep(0)

    def _hand_over(self, name: str, file: BinaryIO) -> None:
        slots, samples = self.waiting[name], self.entry.requests[name][1]
        outcomes = self._outcomes(self._line(name, file), slots[0].ask, samples)
        for slot in slots:
            outcome = outcomes[samples.index(slot.place[1])]
            if not isinstance(outcome, Piece):
                slot.seen.add(self.entry.tag)
            slot.settle(outcome)

    def _line(self, name: str, file: BinaryIO) -> bytes | None:
        if self._lines is None or name not in self._lines:
            return None
        file.seek(self._lines[name])
        return file.readline()

    def _outcomes(self, raw: bytes | None, ask: Ask, samples: Sequence[int]) -> list[Piece | LimbeckError]:
        """Return what each sample of a request became: an answer, a refusal, BusyError to ask again, or what stops the run."""
        outcome: LimbeckError = BusyError("its batch ended without a result for it")
        try:
            if raw is not None:
                pieces = self._provider.pieces(raw, ask, samples)[: len(samples)]
                few = BusyError("the reply held fewer answers than were asked for")
                return [*pieces, *[few] * (len(samples) - len(pieces))]
        except (RefusedError, DeniedError) as error:
            # what an earlier run saw refused is worth asking again
            outcome = BusyError(str(error)) if self.entry.over else error
        except TeacherError as error:
            outcome = error
        except (ValueError, KeyError, TypeError, AttributeError):
            outcome = BusyError("its line in the results can not be read")
        return [outcome] * len(samples)

    async def _gone(self, error: EndpointError, batch: str) -> LimbeckError:
        """Say what to do about a batch that the provider does not know; one that is over is simply forgotten."""
        if "status 404" not in str(error):
            return error
        if self.entry.over:
            await self._drop()
            return BusyError(f"the results of {batch} are gone")
        return EndpointError(
            f"{error} The batch {batch} was bought earlier, as {self._journal.path(self.entry)} tells: use the key it was "
            "bought with, or delete that file to buy its answers anew."
        )

    async def _drop(self) -> None:
        async with self._journal.locked():
            self._journal.remove(self.entry)

    def _lose(self, why: str) -> None:
        for slots in self.waiting.values():
            for slot in slots:
                slot.seen.add(self.entry.tag)
                slot.settle(BusyError(why))
        self.waiting.clear()


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    place = 0
    with path.open("rb") as file:
        for raw in file:
            if raw.strip():
                yield place, raw
            place += len(raw)
