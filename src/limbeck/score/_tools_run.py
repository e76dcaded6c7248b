"""Executing tool calls: the task's own implementations, in the sandbox, in the order of the calls.

    tools   [{"name": "add", "parameters": {…}, "implementation": "def add(a, b):\\n    return a + b"}]
    calls   [{"name": "add", "arguments": {"a": 2, "b": 3}}]
    Ran(results=[5], fault="")

All calls of a row run in one process, so that what one call leaves behind is there for the next. The calls go in as JSON over
standard input and never become source; the results come back as JSON, the last line of standard output.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from limbeck.score._code_run import Limits, run_program
from limbeck.score._tools_calls import Call, Malformed, definitions, parsed

DRIVER = """
def __run_calls():
    import json, sys
    results = []
    for call in json.loads(sys.stdin.read()):
        results.append(globals()[call["name"]](**call["arguments"]))
    sys.stdout.write("\\n" + json.dumps(results, allow_nan=False))
__run_calls()
"""


class Ran(NamedTuple):
    """What came of running the calls."""

    results: list[Any]
    fault: str = ""
    """Why the calls did not run through, or the empty string."""
    status: str = "ok"
    level: str = ""


def implementations(tools: Any) -> dict[str, str]:
    """Return the source of each tool that carries one, by name."""
    return {
        inner["name"]: inner["implementation"]
        for inner in definitions(tools or ())
        if isinstance(inner, dict) and isinstance(inner.get("implementation"), str)
    }


def run_calls(sources: Mapping[str, str], calls: Sequence[Call], limits: Limits) -> Ran:
    """Run the calls one after the other. Raises UsageError where they can not be confined."""
    source = "\n\n".join([*dict.fromkeys(sources.values()), DRIVER])
    stdin = json.dumps([{"name": call["name"], "arguments": call["arguments"]} for call in calls])
    done = run_program(source, stdin, limits)
    if done.status != "ok":
        return Ran([], done.detail[:300] or done.status, done.status, done.level)
    try:
        results = parsed(done.stdout.rsplit("\n", 1)[-1])
    except Malformed as problem:
        return Ran([], f"the results can not be read: {problem}", "error", done.level)
    if not isinstance(results, list) or len(results) != len(calls):
        return Ran([], "not every call gave a result", "error", done.level)
    return Ran(results, level=done.level)
