"""The process that runs a local model: requests come in on standard input, answers go out on standard output, as JSON lines.

    python -m limbeck.teachers._worker FOLDER
    <- {"number": 1, "payload": {"messages": [...], "temperature": 1.0, ...}, "samples": [0, 1]}
    -> {"job": 1, "sample": 0, "text": "3 + 4 = 7.", "finish": "stop", "tokens_in": 12, "tokens_out": 9, ...}

It ends when its input does, which the operating system sees to even when the parent is killed outright; an interrupt from
the keyboard is the parent's affair.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from limbeck.core.errors import LimbeckError

Inbox = queue.SimpleQueue[dict[str, Any]]


def main() -> None:
    """Load the model of the folder in the first argument and answer until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="surrogatepass")
    os.dup2(2, 1)  # whatever a library prints must not end up among the answers
    inbox: Inbox = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(inbox,), daemon=True).start()
    try:
        _serve(Path(sys.argv[1]), inbox, out)
    except BrokenPipeError:
        os._exit(0)  # the parent is gone
    except LimbeckError as error:
        _send(out, {"failed": str(error)})
    except Exception as error:  # noqa: BLE001 - the parent raises it where somebody is waiting for an answer
        _send(out, {"failed": f"The model in {sys.argv[1]} failed: {type(error).__name__}: {error}."})


def _listen(inbox: Inbox) -> None:
    for line in sys.stdin:
        inbox.put(json.loads(line))
    os._exit(0)


def _serve(folder: Path, inbox: Inbox, out: TextIO) -> None:
    from limbeck.teachers._decode import Decoder, Job
    from limbeck.teachers._words import Words

    decoder = Decoder(_model(folder), Words(folder), rows=ROWS)
    while True:
        while not (decoder.busy and inbox.empty()):
            decoder.add(Job(**inbox.get()))
        for outcome in decoder.step():
            _send(out, asdict(outcome))
        out.flush()


ROWS = 64
"""Rows of a batch: more no longer fit the processor's cache with their keys and values, fewer waste its width."""


def _model(folder: Path) -> Any:
    from limbeck.teachers._llama import Llama, plain

    if plain(folder):
        return Llama(folder, rows=ROWS)
    from limbeck.teachers._torch import Torch

    return Torch(folder)


def _send(out: TextIO, message: dict[str, Any]) -> None:
    out.write(json.dumps(message) + "\n")
    if "failed" in message:
        out.flush()


if __name__ == "__main__":
    main()
