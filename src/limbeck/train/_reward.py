"""Rewards: a score step, named like any other, applied to what the student has just written.

    reward = Reward("score.math", "verified")
    reward([row with "Answer: 17", row with "Answer: 18"])    ->   [1.0, 0.0]

Training runs in a process of its own, where no engine answers. So the step is found by name (`core.find`, as the engine
finds it), and the little that verifiers ask for is answered here: programs run in the sandbox, slow library calls are
made on the spot, other verifiers are applied in turn. A step that asks a *model* can not be a reward here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from limbeck.core.ask import Apply, Exec, Work
from limbeck.core.errors import StepError, UsageError
from limbeck.core.find import find_step
from limbeck.core.row import Row
from limbeck.core.step import Drop, Each


class Reward:
    """Scores rows with the step `name`, and reads the score called `score`."""

    def __init__(self, name: str, score: str, fields: Mapping[str, Any] | None = None) -> None:
        self.name, self.score = name, score
        self.step = _scorer(name, fields or {})

    def __call__(self, rows: Sequence[Row]) -> list[float]:
        """Return the reward of each row; a row that the step can not judge is worth 0, a crash is not hidden."""
        found = []
        for row in rows:
            made = _applied(self.step, row)
            if not made:
                found.append(0.0)
                continue
            new = sorted(made[0].scores.keys() - row.scores.keys())
            if new and self.score not in made[0].scores:
                raise UsageError(f"{self.name} gives no score '{self.score}', but {', '.join(new)}; set reward_score.")
            found.append(float(made[0].scores.get(self.score, 0.0)))
        return found


def _scorer(name: str, fields: Mapping[str, Any]) -> Each:
    step = find_step(name)(**fields)
    if not isinstance(step, Each):
        raise UsageError(f"{name} can not be a reward: it does not score one row at a time.")
    return step


def _applied(step: Each, row: Row) -> list[Row]:
    """Run a step over one row, answering what it asks for; return the rows it made, without drops."""
    made = step.each(row)
    if hasattr(made, "send"):
        asking, answer = made, None
        while True:
            try:
                request = asking.send(answer)
            except StopIteration as end:
                made = end.value
                break
            answer = _answered(step, request)
    several = [made] if isinstance(made, Row | Drop) else list(made)
    return [one for one in several if isinstance(one, Row)]


def _answered(step: Each, request: Any) -> Any:
    if isinstance(request, Work):
        return request.function(*request.args)
    if isinstance(request, Exec):
        from limbeck.sandbox import run

        return run(request.source, stdin=request.stdin, seconds=request.seconds, memory_mb=request.memory_mb)
    if isinstance(request, Apply):
        other = _scorer(request.step, request.fields)
        return [one for row in request.rows for one in _applied(other, row)]
    raise StepError(
        f"{step.called()} asks a model, which a reward in training can not; take a verifier such as score.math."
    )
