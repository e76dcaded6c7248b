"""Ctrl-C and SIGTERM: the first asks a run to end in good order, the second to end now.

    with interrupts(run.interrupt):
        await …                       # the callback is called in the loop, once for each signal

In a thread that is not the main one (a notebook, a server) there are no signals to catch, and nothing is done.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from limbeck.core.errors import LimbeckError

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(LimbeckError):
    """The run was asked to stop, and has stopped in good order."""

    exit_code = 130


@contextmanager
def interrupts(asked: Callable[[], None]) -> Iterator[None]:
    """Call `asked` for each SIGINT and SIGTERM instead of ending the process; as before, afterwards."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in SIGNALS}
    caught = [number for number in SIGNALS if before[number] is not signal.SIG_IGN]
    for number in caught:
        loop.add_signal_handler(number, asked)
    try:
        yield
    finally:
        for number in caught:
            loop.remove_signal_handler(number)
            signal.signal(number, before[number])
