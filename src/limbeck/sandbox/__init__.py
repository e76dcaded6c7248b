"""Running what a model wrote: `run` a program, or check one against cases or tests that it never gets to see.

    from limbeck import sandbox
    sandbox.run("print(6 * 7)").stdout                                                      # "42\\n"
    sandbox.check_function("def f(x): return x + 1", "f", [((1,), 2), ((5,), 6)]).passed    # True
    sandbox.check_program("print(input().upper())", [("a", "A\\n")]).passed                  # True
    sandbox.check_asserts("def f(x): return x + 1", ["assert f(1) == 2"]).passed            # True

Needs Linux 5.13 or newer for confinement (levels `strict` and `strict+ns`), no root, no container and no package. Elsewhere nothing
is run unless `level="rlimit-only"` is asked for, or a backend: `level="bubblewrap"`, `level="docker"`. `docs/sandbox.md` says what
each level holds and what it does not. `interpret` is something else: a walk over a tiny subset of Python that needs no process.
"""

from limbeck.sandbox.asserting import check_asserts
from limbeck.sandbox.checking import check_function, check_program
from limbeck.sandbox.outcome import Execution, Level, SandboxUnavailable, Verdict
from limbeck.sandbox.pool import close, reason
from limbeck.sandbox.running import run

__all__ = [
    "Execution", "Level", "SandboxUnavailable", "Verdict",
    "check_asserts", "check_function", "check_program", "close", "reason", "run",
]  # fmt: skip
