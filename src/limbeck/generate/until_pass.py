"""Sampling until an answer passes: the same data as keeping the first passing one of N, for a fraction of the draws.

    prompt row   user: Start with 12. Add 5.                        at most 8 draws
    child rows   assistant: …Answer: 18    dropped  "generate.until_pass: did not pass"
                 assistant: …Answer: 17    kept     extra {"draws": {"needed": 2, "made": 2, "most": 8}}
                 the other six are never asked for

Draws are independent, so the first of them that passes does not depend on those that would have followed: the kept rows
are those of `generate.sample` with n=8, the verifier and `select.until_pass`, one by one and to the letter, since both take
the same samples of the same prompt. What differs is the cost: (1 − (1 − p)^N) / p draws at a pass rate of p instead of
N, that is 2.0 instead of 16 at p = 0.5, and 11.2 at p = 0.05. It holds for verifiers that say yes or no (rejection
sampling as in RFT, arXiv 2308.01825, and Llama 3, arXiv 2407.21783); the best of N by a reward takes all N.

    >>> from limbeck.generate.until_pass import expected_draws
    >>> round(expected_draws(0.5, 16), 2), round(expected_draws(0.05, 16), 1)
    (2.0, 11.2)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from limbeck.core.ask import Apply
from limbeck.core.row import Row
from limbeck.core.step import Asking, Drop, Each
from limbeck.generate.sample import Sample


class UntilPass(Each):
    """Ask the teacher for one answer after another until the verifier accepts one, at most `most` times."""

    teacher: str
    """Which model: `embedded`, `openai:MODEL`, or `step:NAME` for a student of this run."""
    verifier: str = "score.math"
    """The score step that judges each answer, by name."""
    options: Mapping[str, Any] = Field(default_factory=dict)
    """Options of the verifier, such as {"tolerance": 0.01}."""
    score: str = "verified"
    """Which of the verifier's scores decides."""
    least: float = 1.0
    """The score that passes."""
    most: int = Field(default=8, ge=1)
    """The most draws for a prompt: the N of "keep one of N"."""
    at_once: int = Field(default=1, ge=1)
    """Draws that are asked for together: more are faster where answers are slow, and a few of them are wasted."""
    temperature: float = Field(default=1.0, gt=0.0)
    """Above 0: greedy answers are all alike, and the second would fail like the first."""
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    """Nucleus sampling; 1 samples from the whole distribution."""
    max_tokens: int = Field(default=512, ge=1)
    """Longest answer; a longer one is cut, and has the label `finish=length`."""
    stop: tuple[str, ...] = ()
    """Texts that end an answer."""
    system: str = ""
    """A system message for prompts that have none; it stays in the rows."""
    seed: int = 0
    """Another seed is another set of answers."""
    reasoning: bool = True
    """Whether reasoning that the teacher reports separately is kept, as a `<think>` block before the answer."""

    def each(self, row: Row) -> Asking:
        """Draw and judge until one passes; every answer becomes a row, and only the first that passes is kept."""
        judged: list[Row] = []
        while len(judged) < self.most:
            drawn = yield from self._sampler().draw(row, len(judged), min(self.at_once, self.most - len(judged)))
            if isinstance(drawn, Drop):
                return drawn
            judged += yield Apply(step=self.verifier, rows=drawn, fields=dict(self.options))  # type: ignore[arg-type]
            if any(self._passes(r) for r in judged) or judged[-1].labels.get("verdict") == "unreadable-reference":
                break
        return self._settled(judged)

    def _sampler(self) -> Sample:
        # the model is frozen, and making a step and its fingerprint costs more than a draw
        if "_sample" not in self.__dict__:
            self.__dict__["_sample"] = Sample(n=1, **{name: getattr(self, name) for name in SHARED})
        return self.__dict__["_sample"]  # type: ignore[no-any-return]

    def _passes(self, row: Row) -> bool:
        return row.dropped is None and row.scores.get(self.score, float("-inf")) >= self.least

    def _settled(self, judged: list[Row]) -> list[Row]:
        """Drop all but the first row that passes, and write on the last one that counts what was drawn."""
        first = next((place for place, row in enumerate(judged) if self._passes(row)), None)
        marked = len(judged) - 1 if first is None else first
        draws = {"needed": None if first is None else first + 1, "made": len(judged), "most": self.most}
        out = []
        for place, row in enumerate(judged):
            row = row.with_extra(draws=draws) if place == marked else row
            if place != first:
                late = first is not None and place > first
                scored = self.score in row.scores
                why = "not needed: an earlier sample passed" if late else "did not pass" if scored else "not scored"
                row = row.drop(f"{self.called()}: {why}")
            out.append(row)
        return out


SHARED = ("teacher", "temperature", "top_p", "max_tokens", "stop", "system", "seed", "reasoning")


@dataclass(frozen=True, slots=True)
class Costs:
    """What sequential sampling drew, and what keeping one of N would have drawn for the same rows."""

    prompts: int
    solved: int
    draws: int
    keep_all: int

    @property
    def share(self) -> float:
        """The draws made as a share of those that keeping one of N needs."""
        return self.draws / self.keep_all if self.keep_all else 1.0


def costs(rows: Iterable[Row]) -> Costs:
    """Add up the draws written on rows, kept and dropped alike, of this step or of `select.until_pass`.

    Rows of `select.until_pass` were all drawn (`made`); of them `draws` says how many would have been enough.
    """
    found = [row.extra["draws"] for row in rows if "draws" in row.extra]
    return Costs(
        prompts=len(found),
        solved=sum(d["needed"] is not None for d in found),
        draws=sum(d["made"] if "most" in d else d["needed"] or d["made"] for d in found),
        keep_all=sum(d.get("most", d["made"]) for d in found),
    )


def expected_draws(rate: float, most: int) -> float:
    """Return the expected number of draws until a pass, at most `most`, at a pass rate: (1 − (1 − p)^N) / p.

    Raises ValueError for a rate outside of [0, 1].
    """
    if not 0.0 <= rate <= 1.0 or most < 1:
        raise ValueError(f"a pass rate of {rate} with at most {most} draws is not defined")
    return float(most) if rate == 0.0 else (1.0 - (1.0 - rate) ** most) / rate
