"""Every error a user can meet, each a full sentence: what is wrong, where, and what to do next.

    LimbeckError                     exit 1
    ├── UsageError (ValueError)      exit 2   a command, option or recipe is wrong
    │   ├── UnknownName (LookupError)         no such step, recipe, teacher or option; names the nearest
    │   └── WrongFolder                       a run folder that belongs to something else
    ├── InputError (ValueError)               a file or a row can not be read
    ├── SealedError (PermissionError)         evaluation rows, or what descends from them, on their way into training
    ├── TeacherError (RuntimeError)
    │   ├── EndpointError (ConnectionError)   the endpoint itself: unreachable, wrong key, no such model; stops the run
    │   ├── BusyError                         try again later: 408, 409, 429, 5xx, timeouts, cut connections
    │   ├── DeniedError (PermissionError)     403: the row is dropped if other rows pass, else the run stops
    │   └── RefusedError                      this one request will never be answered; the row is dropped
    ├── StepError (RuntimeError)              a step failed; carries the step's name
    ├── StorageError (OSError)                the disk is full or not writable; a damaged cache
    ├── BudgetReached                exit 3
    └── ToleranceExceeded            exit 4

Each class also inherits its standard-library ancestor, so `except ValueError` does what a reader expects, and
carries only its message, so it survives pickling on the way out of a worker process.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LimbeckError(Exception):
    """The root of all errors that are meant to be read by a person; `exit_code` is what the command line returns."""

    exit_code = 1


class UsageError(LimbeckError, ValueError):
    """A command, an option or a recipe is wrong; nothing has been started."""

    exit_code = 2


class UnknownName(UsageError, LookupError):
    """A step, recipe, teacher or option that does not exist; the message names the nearest one that does."""


class WrongFolder(UsageError):
    """The run folder was made by another recipe, or is not a run folder."""


class InputError(LimbeckError, ValueError):
    """A file or a row can not be read as what it should be."""


class SealedError(LimbeckError, PermissionError):
    """Rows of an evaluation set, or descendants of them, were about to be trained on."""


class TeacherError(LimbeckError, RuntimeError):
    """A model could not answer."""


class EndpointError(TeacherError, ConnectionError):
    """The endpoint itself is at fault (unreachable, wrong key, no such model): every other row would fail too."""


class BusyError(TeacherError):
    """The endpoint could not answer this time; the engine tries again.

    `retry_after` is its own wish in seconds, or None. `kind` says what happened: `rate` (429), `overloaded` (503, 529),
    `server` (other 5xx, 408, 409, 425), `timeout`, `connection` (cut or reset), `garbled` (no JSON, no choices),
    `unreachable` (nothing listens, no such host).
    """

    def __init__(self, message: str, retry_after: float | None = None, kind: str = "server") -> None:
        super().__init__(message, retry_after, kind)
        self.retry_after = retry_after
        self.kind = kind

    def __str__(self) -> str:
        return str(self.args[0])


class DeniedError(TeacherError, PermissionError):
    """403: about the key or about this one prompt, depending on the provider; only the other rows can tell."""

    def __str__(self) -> str:
        return str(self.args[0])


class RefusedError(TeacherError):
    """This request will never be answered (a policy, a limit, a malformed prompt): tried once, then the row is dropped."""


class StepError(LimbeckError, RuntimeError):
    """A step failed on its own account."""


class StorageError(LimbeckError, OSError):
    """The disk is full, a folder is not writable, or a file of ours is damaged."""


class BudgetReached(LimbeckError):
    """The cap on spending was reached; everything paid for is kept."""

    exit_code = 3


class ToleranceExceeded(LimbeckError):
    """More rows were dropped than the declared tolerance allows; everything is kept."""

    exit_code = 4


def nearest(name: str, options: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the option closest to `name`, else the list of options, ready to append.

    >>> nearest("tolernce", ["tolerance", "strict"])
    " Did you mean 'tolerance'?"
    >>> nearest("zzz", ["b", "a"])
    ' There are: a, b.'
    """
    choices = sorted(set(options))
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    if close:
        return f" Did you mean '{close[0]}'?"
    return f" There are: {', '.join(choices)}." if choices else ""
