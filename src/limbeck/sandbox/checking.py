"""Check a program against cases whose expected values it never sees.

    check_function("def add(a, b):\\n    return a + b", "add", [((2, 3), 5), ((-1, 1), 0)]).passed          # True
    check_program("print(int(input()) * 2)", [("4", "8\\n")]).passed                                      # True

The function is called in the candidate's process, with the arguments only; what it returns comes out as plain data, and is compared
here. So an object that says it equals everything, an early exit, a printed "passed" or a rewritten `assert` gains nothing: there
is no verdict in that process to change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from limbeck.sandbox.comparing import TOLERANCE, difference, show
from limbeck.sandbox.inside import values
from limbeck.sandbox.job import HarnessFailure, Job, Result
from limbeck.sandbox.outcome import Execution, Level, Status, Verdict
from limbeck.sandbox.pool import Flavour, best
from limbeck.sandbox.running import ending, execute, in_words
from limbeck.sandbox.session import perform

Case = tuple[Sequence[Any] | Mapping[str, Any], Any]
"""Arguments, by position or by name, and the expected value."""


def check_function(
    source: str,
    name: str,
    cases: Sequence[Case],
    *,
    seconds: float = 2.0,
    memory_mb: int = 256,
    allow: Sequence[str] = (),
    tolerance: float = TOLERANCE,
    level: Level = "strict",
) -> Verdict:
    """Call the function `name` of `source` with each case's arguments and compare what it returns, by exact type.

    Args:
        source: the program's text; it runs as a module, once, before the calls.
        name: the function (or class) to call.
        cases: `(arguments, expected)`; arguments are a sequence, or a mapping of names. Only plain values: None, booleans,
            numbers, text, bytes, lists, tuples, sets, dictionaries, and the library's decimals, fractions, counters, deques, dates.
        seconds: wall-clock seconds for loading and all calls together.
        memory_mb: MiB on top of the interpreter's own.
        allow: packages it may import, read-only.
        tolerance: relative difference at which floats still count as equal.
        level: the weakest confinement that will do.

    Raises:
        SandboxUnavailable: the level can not be had here; nothing was run.
        ValueError: no cases (nothing would be checked), or an argument that is not plain.
    """
    if not cases:
        raise ValueError(f"There is no case to check '{name}' on; a check of nothing would pass everything.")
    flavour = Flavour(level=best(level), packages=tuple(allow))
    work = {"mode": "function", "source": source, "name": name, "calls": [_call(arguments) for arguments, _ in cases]}
    job = Job(work, b"", seconds, memory_mb << 20)
    try:
        result = perform(job, flavour)
    except HarnessFailure as fault:
        return Verdict(status="harness-failure", detail=str(fault), level=flavour.level)
    status, detail = _judge(result, job, cases, tolerance)
    return Verdict(status=status, detail=detail, level=flavour.level, seconds=result.seconds)


def _call(arguments: Sequence[Any] | Mapping[str, Any]) -> list[Any]:
    """Return the form of one call: positional arguments and named ones."""
    try:
        if isinstance(arguments, Mapping):
            return [values.encode(()), values.encode(dict(arguments))]
        if isinstance(arguments, (str, bytes)) or not isinstance(arguments, Sequence):
            raise values.NotPlain(f"{show(arguments)} is not a sequence or mapping of arguments")
        return [values.encode(tuple(arguments)), values.encode({})]
    except values.NotPlain as fault:
        raise ValueError(f"The arguments of a case can not be sent to a candidate: {fault}.") from None


def _judge(result: Result, job: Job, cases: Sequence[Case], tolerance: float) -> tuple[Status, str]:
    """Compare every answer in order; only when all are there and right has the candidate passed."""
    messages = result.frames()
    answers = messages[1:]
    for place, (_, expected) in enumerate(cases):
        where = f"case {place + 1} of {len(cases)}"
        if place >= len(answers) or "value" not in answers[place]:
            return _stopped(result, job, answers[place] if place < len(answers) else {}, where)
        try:
            got = values.decode(answers[place]["value"])
        except values.Malformed as fault:
            return "wrong", f"{where}: {fault}"
        if (why := difference(expected, got, tolerance)) is not None:
            return "wrong", f"{where}: {why}"
    status, detail = ending(result, job)
    if status != "ok":
        return status, f"after the last case: {detail}"
    return ("pass", "") if len(answers) == len(cases) else ("wrong", "it sends more answers than it was asked for")


def _stopped(result: Result, job: Job, message: dict[str, Any], where: str) -> tuple[Status, str]:
    """Say why there is no answer to a case."""
    if "unsendable" in message:
        what = f"{where}: it returned {str(message['unsendable'])[:300]}"
        if message.get("large") is True:
            return "output-limit", f"{what}, which is too large"
        return "wrong", f"{what}, which is not plain data"
    status, detail = ending(result, job)
    if status == "ok":
        return "error", f"{where}: it ended before it answered"
    if isinstance(fault := message.get("fault"), dict):
        detail = in_words(fault)
    return status, f"{where}: {detail}"


def check_program(
    source: str,
    cases: Sequence[tuple[str, str]],
    *,
    seconds: float = 2.0,
    memory_mb: int = 256,
    allow: Sequence[str] = (),
    level: Level = "strict",
) -> Verdict:
    """Run the program once per case and compare its whole stdout; it must also end with exit code 0.

    White space at the ends of lines and empty lines at the end are not compared; everything else is, byte for byte.

    Args:
        source: the program's text; it runs as `__main__`.
        cases: `(stdin, expected stdout)`.
        seconds: wall-clock seconds for each case.
        memory_mb: MiB on top of the interpreter's own.
        allow: packages it may import, read-only.
        level: the weakest confinement that will do.

    Raises:
        SandboxUnavailable: the level can not be had here; nothing was run.
        ValueError: no cases.
    """
    if not cases:
        raise ValueError("There is no case to check the program on; a check of nothing would pass everything.")
    flavour = Flavour(level=best(level), packages=tuple(allow))
    spent = 0.0
    for place, (stdin, expected) in enumerate(cases):
        job = Job(
            {"mode": "program", "source": source},
            stdin.encode("utf-8", "surrogatepass"),
            seconds,
            memory_mb << 20,
        )
        done = execute(job, flavour)
        spent += done.seconds
        status, detail = _judge_output(done, expected)
        if status != "pass":
            where = f"case {place + 1} of {len(cases)}: {detail}"
            return Verdict(status=status, detail=where, level=flavour.level, seconds=spent)
    return Verdict(status="pass", detail="", level=flavour.level, seconds=spent)


def _judge_output(done: Execution, expected: str) -> tuple[Status, str]:
    if done.status != "ok":
        return done.status, done.detail
    wanted = settled(expected.encode("utf-8", "surrogatepass"))
    printed = settled(done.stdout_bytes)
    if wanted == printed:
        return "pass", ""
    return "wrong", f"expected {show(b' / '.join(wanted))[1:]}, printed {show(b' / '.join(printed))[1:]}"


def settled(output: bytes) -> list[bytes]:
    """Return the lines of an output without white space at their ends and without empty lines at the end."""
    lines = [line.rstrip(b" \t\r\f\v") for line in output.split(b"\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines
