"""The driver in a candidate's process: reads the job, runs the source, and sends plain data out. It is told no expected value.

    {"mode": "program",  "source": ...}                              run it as a script; its output and exit code are all there is
    {"mode": "function", "source": ..., "name": "f", "calls": [...]} call f with each and send each value: {"value": form}
    {"mode": "serve",    "source": ...}                              answer another process's requests until it hangs up

The candidate shares this interpreter and may change anything in it, this driver included; all it can reach by that is to send other
values than its functions return, which is no more than it could do by returning them.
"""

from __future__ import annotations

import atexit
import os
import random
import sys
import threading
import types
from typing import Any

from limbeck.sandbox.inside import frames, served, values
from limbeck.sandbox.inside.faults import describe

WIRE, PEER = 3, 4
"""The descriptors of the parent and, for `serve`, of the tests' process."""
READY = frames.pack({"ready": True})
"""Said before a line of the candidate's has run: from here on the jail holds."""


def main() -> None:
    """Run the job that waits on the wire; never returns."""
    code = 1
    try:
        job = frames.read(WIRE, frames.MAX_JOB)
        frames.write_packed(WIRE, READY)
        random.seed(0)  # one seed for all: the same program prints the same
        code = _MODES[job["mode"]](job)
    finally:
        os._exit(code)


def _load(source: str, name: str) -> dict[str, Any]:
    """Run the source as a module of that name and return its names."""
    module = types.ModuleType(name)
    sys.modules[name] = module
    code = compile(source, "<program>", "exec", dont_inherit=True)
    exec(code, module.__dict__)  # noqa: S102 - this is the jail, and what it was built to hold
    return module.__dict__


def _program(job: dict[str, Any]) -> int:
    """Run a script to its end, as `python program.py` would, and return its exit code."""
    code = 0
    try:
        _load(job["source"], "__main__")
    except SystemExit as leaving:
        code = _exit_code(leaving)
    except BaseException as fault:  # noqa: BLE001 - whatever the program raises is its result
        code = 1
        frames.write(WIRE, {"fault": describe(fault)})
        _show(fault)
    return _finish(code)


def _exit_code(leaving: SystemExit) -> int:
    if leaving.code is None:
        return 0
    if isinstance(leaving.code, int):
        return leaving.code & 0xFF
    print(leaving.code, file=sys.stderr)
    return 1


def _show(fault: BaseException) -> None:
    """Print the traceback, without this driver's frames."""
    trace = fault.__traceback__
    for _ in range(2):
        trace = trace.tb_next if trace is not None else None
    sys.excepthook(type(fault), fault.with_traceback(trace), trace)


def _finish(code: int) -> int:
    """End as an interpreter ends: wait for threads, run what was registered for the end, write out what is buffered."""
    for step in (threading._shutdown, atexit._run_exitfuncs, _flush):  # type: ignore[attr-defined]
        try:
            step()
        except BaseException as fault:  # noqa: BLE001 - the candidate's own functions
            sys.excepthook(type(fault), fault, fault.__traceback__)
            code = code or (120 if step is _flush else 0)
    return code


def _flush() -> None:
    for stream in (sys.stderr, sys.stdout):
        if stream is not None and not stream.closed:
            stream.flush()


def _function(job: dict[str, Any]) -> int:
    """Call the named function with each set of arguments and send what it returns, one message a call."""
    try:
        function = _load(job["source"], "candidate")[job["name"]]
    except BaseException as fault:  # noqa: BLE001 - whatever the program raises is its result
        frames.write(WIRE, {"fault": describe(fault)})
        return 1
    for call in job["calls"]:
        positional, named = values.decode(call[0]), values.decode(call[1])
        try:
            frames.write_packed(WIRE, served.packed({"value": values.encode(function(*positional, **named))}))
        except values.NotPlain as fault:
            frames.write(WIRE, served.unsendable(fault))
            return 1
        except BaseException as fault:  # noqa: BLE001 - as above
            frames.write(WIRE, {"fault": describe(fault)})
            return 1
    return 0


def _serve(job: dict[str, Any]) -> int:
    """Load the source and answer the tests' process."""
    try:
        names = _load(job["source"], "candidate")
    except BaseException as fault:  # noqa: BLE001 - as above
        frames.write(WIRE, {"fault": describe(fault)})
        return 1
    served.serve(PEER, names)
    return 0


_MODES = {"program": _program, "function": _function, "serve": _serve}
