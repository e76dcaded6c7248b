"""The teacher that ships with the package: a one-million-parameter transformer that really learns and really errs.

    embedded            the teacher: word problems, chains, programs, tool calls, with its random and its systematic errors
    embedded:student    the smaller base model that recipes train

It was trained once by a script of this repository on the package's own task families; what it can do is written on the
card beside its weights. It runs offline in worker processes, at some thousand tokens a second and core.
"""

from __future__ import annotations

from pathlib import Path

from limbeck.core.errors import EndpointError, UnknownName, nearest
from limbeck.teachers._local import Local

WEIGHTS = Path(__file__).resolve().parent / "weights"


class Embedded(Local):
    """Answers from the weights that ship with the package."""

    def __init__(self, rest: str) -> None:
        super().__init__(self.folder(rest))

    @staticmethod
    def folder(rest: str) -> Path:
        """Return the folder of weights that `embedded` or `embedded:REST` names. Raises UnknownName for others."""
        name = rest or "teacher"
        names = ("teacher", "student")
        if name not in names:
            raise UnknownName(f"There is no embedded model '{name}'.{nearest(name, names)}")
        if not (WEIGHTS / name / "config.json").is_file():
            raise EndpointError(
                f"The weights of embedded:{name} are missing from {WEIGHTS}: install the package again."
            )
        return WEIGHTS / name
