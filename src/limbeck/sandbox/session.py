"""One job from beginning to end, seen from outside: hand it over, feed it, collect what it says up to the caps, end it.

    job = Job({"mode": "program", "source": "print(input())"}, stdin=b"hello")
    perform(job, flavour)       # Result(reason=b"x", exit_code=0, stdout=b"hello\\n", ...)

The thread that called waits in one poll. What it keeps is bounded whatever the program does: 1 MiB each of stdout and stderr, and
4 MiB of messages.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time

from limbeck.sandbox.inside import frames
from limbeck.sandbox.inside.supervise import BROKEN, KILLED
from limbeck.sandbox.inside.zygote import PEER, REPLY, REQUEST, STDIN, TESTS
from limbeck.sandbox.job import HarnessFailure, Job, Result
from limbeck.sandbox.pool import START_SECONDS, Flavour, Zygote, lease, lease_container

CAP = 1 << 20
"""Bytes of stdout, and of stderr."""
MESSAGES_CAP = 4 << 20
"""Bytes of all messages together; one is at most `frames.MAX_FRAME`."""
GRACE = 5.0
"""Seconds after the deadline at which the zygote itself is given up."""
CHUNK = 1 << 16


def perform(job: Job, flavour: Flavour) -> Result:
    """Run a job; a failure of the sandbox is tried once more. Raises HarnessFailure, SandboxUnavailable."""
    try:
        return _once(job, flavour)
    except HarnessFailure:
        if job.peer is not None:
            raise  # the other end of the line is spoilt too
        return _once(job, flavour)


def _once(job: Job, flavour: Flavour) -> Result:
    if flavour.level == "docker":
        return _inside_container([job], [flavour])[0]
    with lease(flavour) as zygote, contextlib.closing(Exchange(job, zygote, select.poll())) as exchange:
        _drive([exchange])
        return exchange.result


def perform_both(candidate: Job, flavour: Flavour, tests: Job, tests_flavour: Flavour) -> tuple[Result, Result]:
    """Run a candidate and its tests side by side. Both zygotes are taken before either starts, so neither's clock runs idle."""
    if flavour.level == "docker":
        served, tested = _inside_container([candidate, tests], [flavour, tests_flavour])
        return served, tested
    with lease(flavour) as first, lease(tests_flavour) as second:
        poll = select.poll()
        mine, theirs = Exchange(candidate, first, poll), Exchange(tests, second, poll)
        with contextlib.closing(mine), contextlib.closing(theirs):
            _drive([mine, theirs])
            return mine.result, theirs.result


def _inside_container(jobs: list[Job], flavours: list[Flavour]) -> list[Result]:
    """Have one job, or a candidate and its tests, run by the sandbox that is inside a container."""
    with lease_container() as worker:
        request = [{**job.packed(), **vars(flavour)} for job, flavour in zip(jobs, flavours, strict=True)]
        reply = worker.ask({"jobs": request}, max(job.seconds for job in jobs) + GRACE + START_SECONDS)
    if "refused" in reply:
        raise ValueError(str(reply["refused"]))
    if "results" not in reply:
        raise HarnessFailure(str(reply.get("failed")))
    return [Result.unpacked(one) for one in reply["results"]]


def _drive(exchanges: list[Exchange]) -> None:
    """Bring jobs that share a poll to their ends."""
    for exchange in exchanges:
        exchange.start()
    under_way = list(exchanges)
    while under_way:
        left = max(0.0, min(exchange.until for exchange in under_way) - time.monotonic())
        events = under_way[0].poll.poll(left * 1000 + 1)
        if not events and left <= 0:
            raise HarnessFailure("the zygote does not answer")
        for descriptor, event in events:
            for exchange in under_way:
                if exchange.handle(descriptor, event):
                    under_way.remove(exchange)
                    break


class Exchange:
    """The parent's side of one job under way."""

    def __init__(self, job: Job, zygote: Zygote, poll: select.poll) -> None:
        self.job = job
        self.zygote = zygote
        self.owned: set[int] = set()
        self.result = Result()
        self.poll = poll
        self.readers: dict[int, tuple[bytearray, int, str]] = {}
        self.writers: dict[int, memoryview] = {}
        self.until = 0.0
        self.asked_to_end = False

    def start(self) -> None:
        """Make the descriptors, hand the child's ends to the zygote, and begin."""
        job, result = self.job, self.result
        wire, theirs = socket.socketpair()
        mine = self._own(wire.detach())
        passed = [theirs.detach(), self._output(result.stdout, "stdout"), self._output(result.stderr, "stderr")]
        which = TESTS if job.tests else 0
        if job.stdin:
            which |= STDIN
            passed.append(self._input(job.stdin))
        if job.peer is not None:
            which |= PEER
            passed.append(job.peer.detach())
        try:
            socket.send_fds(self.zygote.line, [REQUEST.pack(b"J", job.seconds, job.memory, job.disk, which)], passed)
        except OSError as fault:
            raise HarnessFailure(f"the zygote is gone: {fault}") from None
        finally:
            for descriptor in passed:
                os.close(descriptor)
        os.set_blocking(mine, False)
        self.readers[mine] = (result.messages, MESSAGES_CAP, "messages")
        self.writers[mine] = memoryview(frames.pack(job.work))
        self._write(mine)
        self.poll.register(mine, select.POLLIN | (select.POLLOUT if mine in self.writers else 0))
        self.poll.register(self.zygote.line, select.POLLIN)
        self.until = time.monotonic() + job.seconds + GRACE

    def _own(self, descriptor: int) -> int:
        """Remember a descriptor that must be closed, whatever happens."""
        self.owned.add(descriptor)
        return descriptor

    def close(self) -> None:
        """Close what is still open on this side."""
        for descriptor in self.owned:
            os.close(descriptor)
        self.owned.clear()

    def _output(self, into: bytearray, name: str) -> int:
        """Make a pipe the child writes to; return the child's end."""
        mine, theirs = os.pipe()
        self._own(mine)
        os.set_blocking(mine, False)
        self.readers[mine] = (into, CAP, name)
        self.poll.register(mine, select.POLLIN)
        return theirs

    def _input(self, data: bytes) -> int:
        """Make a pipe the child reads from; return the child's end."""
        theirs, mine = os.pipe()
        self._own(mine)
        os.set_blocking(mine, False)
        self.writers[mine] = memoryview(data)
        self._write(mine)
        if mine in self.writers:
            self.poll.register(mine, select.POLLOUT)
        return theirs

    def handle(self, descriptor: int, event: int) -> bool:
        """Deal with an event if it is this job's; True when the job is over and all it wrote is collected."""
        if descriptor == self.zygote.line.fileno():
            self._finish()
            return True
        if descriptor in self.writers and event & (select.POLLOUT | select.POLLERR | select.POLLHUP):
            self._write(descriptor)
        if descriptor in self.readers and event & (select.POLLIN | select.POLLHUP | select.POLLERR):
            self._read(descriptor)
        return False

    def _write(self, descriptor: int) -> None:
        """Write as much as is taken; when all is written, or nobody reads any more, stop."""
        left = self.writers[descriptor]
        with contextlib.suppress(OSError):  # the program has closed its end: what it does not read it need not be sent
            try:
                while left:
                    left = left[os.write(descriptor, left[:CHUNK]) :]
            except BlockingIOError:
                self.writers[descriptor] = left
                return
        del self.writers[descriptor]
        if descriptor in self.readers:
            with contextlib.suppress(OSError):  # not registered yet
                self.poll.modify(descriptor, select.POLLIN)
            return
        with contextlib.suppress(KeyError):
            self.poll.unregister(descriptor)
        self.owned.remove(descriptor)
        os.close(descriptor)

    def _read(self, descriptor: int) -> None:
        """Take what is there; at the cap, have the job ended and take no more."""
        into, cap, name = self.readers[descriptor]
        try:
            more = os.read(descriptor, CHUNK)
        except BlockingIOError:
            return
        except OSError:
            more = b""
        if not more:
            self.poll.unregister(descriptor)
            del self.readers[descriptor]
            return
        room = cap - len(into)
        into += more[:room]
        if len(more) > room:
            self._overflow(name)

    def _overflow(self, name: str) -> None:
        self.result.overflow = self.result.overflow or name
        for descriptor in list(self.readers):
            with contextlib.suppress(KeyError):
                self.poll.unregister(descriptor)
        self.readers.clear()
        self.end_job()

    def end_job(self) -> None:
        """Have the zygote kill the job."""
        if not self.asked_to_end:
            self.asked_to_end = True
            with contextlib.suppress(OSError):
                self.zygote.line.sendall(REQUEST.pack(b"K", 0.0, 0, 0, 0))

    def _finish(self) -> None:
        """Read the zygote's reply, and what is still in the pipes."""
        try:
            reply = self.zygote.line.recv(REPLY.size, socket.MSG_WAITALL)
        except OSError as fault:
            raise HarnessFailure(f"the zygote ended: {fault}") from None
        if len(reply) < REPLY.size:
            raise HarnessFailure("the zygote ended")
        result = self.result
        result.reason, result.exit_code, result.cpu_seconds, result.seconds = REPLY.unpack(reply)
        if result.reason == BROKEN or (result.reason == KILLED and not self.asked_to_end):
            raise HarnessFailure("the zygote could not start the job")
        while self.readers and not result.overflow:
            before = len(result.stdout) + len(result.stderr) + len(result.messages), len(self.readers)
            for descriptor in list(self.readers):
                if descriptor in self.readers:
                    self._read(descriptor)
            if before == (len(result.stdout) + len(result.stderr) + len(result.messages), len(self.readers)):
                break
        for descriptor in {*self.readers, *self.writers, self.zygote.line.fileno()}:
            with contextlib.suppress(KeyError):
                self.poll.unregister(descriptor)
