"""The pilot's recipe: the same steps, with a sample of each source's rows, and each ask noted with the row it was for.

    watch = Watch()
    recipe = watch.recipe(made, pilot=16, seed=0)        run it as any other
    watch.seen["sample"][("prompts", 412)]               Seen(asks=1, requests=1, answers=8, tokens_in=97, tokens_out=803, ...)

Steps are values and asks pass through their hands, so watching needs nothing of the engine: each step gets a subclass of its
own class whose `each` passes every ask and reply on. Name, fields, code and so the keys in the cache stay what they are: the
run after the pilot finds its answers there.
"""

from __future__ import annotations

import inspect
import random
import time
import types
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from limbeck.core.ask import Ask, Reply
from limbeck.core.prices import price_of
from limbeck.core.recipe import Recipe
from limbeck.core.row import Row
from limbeck.core.step import Drop, Each, Made, Source, Step
from limbeck.engine.answer import open_teacher
from limbeck.engine.stream import from_source

StepT = TypeVar("StepT", bound=Step)
Root = tuple[str, int] | None
"""A source's name and the number of one of its rows; None where the row can not be followed back."""


@dataclass(slots=True, kw_only=True)
class Seen:
    """What one source row led to in one step."""

    asks: int = 0
    requests: float = 0
    answers: float = 0
    tokens_in: float = 0
    tokens_out: float = 0
    usd: float = 0.0
    unpriced: int = 0
    """Answers whose price is unknown."""
    cpu: float = 0.0
    """Seconds of the step's own work."""


@dataclass(slots=True, kw_only=True)
class Pilot:
    """The rows of a source that are tried: how many the source has in all, and which."""

    size: int
    rows: Sequence[Row]
    places: Sequence[int]


@dataclass(slots=True, kw_only=True)
class Watch:
    """Notes what the steps of a pilot ask and get."""

    pilots: dict[str, Pilot] = field(default_factory=dict)
    seen: dict[str, dict[Root, Seen]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(Seen)))
    spans: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    """When each ask of a step went out and came back, in monotonic seconds."""
    teachers: dict[str, str] = field(default_factory=dict)
    """The teacher that a step asked last."""
    _roots: dict[str, Root] = field(default_factory=dict)
    _identities: dict[str, str] = field(default_factory=dict)

    def recipe(self, recipe: Recipe, *, pilot: int, seed: int | None) -> Recipe:
        """Return the recipe to run in its place, with `pilot` rows of each source: at random, or with no seed the first."""
        steps: list[Step] = []
        for step in recipe.resolved():
            if isinstance(step, Source):
                chosen = choose(from_source(step.rows(), step.shown()), pilot, seed)
                self.pilots[step.name] = chosen
                self._roots |= {row.id: (step.name, i) for row, i in zip(chosen.rows, chosen.places, strict=True)}
                steps.append(_source(step, chosen))
            else:
                steps.append(_each(step, self) if isinstance(step, Each) else step)
        return Recipe(steps=steps, name=recipe.name, params=recipe.params)

    def root(self, row: Row) -> Root:
        """Return the source row that `row` goes back to."""
        if row.id not in self._roots:
            self._roots[row.id] = next((self._roots[p] for p in row.parents if p in self._roots), None)
        return self._roots[row.id]

    def identity(self, teacher: str) -> str:
        """Return a teacher's identity."""
        if teacher not in self._identities:
            own = teacher.startswith("step:")
            self._identities[teacher] = teacher if own else open_teacher(teacher).identity
        return self._identities[teacher]

    def follow(self, made: Any, root: Root) -> None:
        """Remember where the rows that a step made go back to."""
        for part in [made] if isinstance(made, Row | Drop) else made or ():
            if isinstance(part, Row):
                self._roots.setdefault(part.id, root)

    def count(self, step: str, root: Root, ask: Ask, reply: Reply) -> None:
        """Note an ask and its reply."""
        self.teachers[step] = ask.teacher
        seen, usage = self.seen[step][root], reply.usage
        seen.asks += 1
        # the prompt's tokens stand with the first answer of each request
        seen.requests += max(1, sum(answer.usage.tokens_in > 0 for answer in reply.answers))
        seen.answers += len(reply.answers)
        seen.tokens_in += usage.tokens_in
        seen.tokens_out += usage.tokens_out
        if usage.usd:
            seen.usd += usage.usd
            return
        price = price_of(self.identity(ask.teacher))
        seen.unpriced += len(reply.answers) if price is None else 0
        seen.usd += price.usd(usage.tokens_in, usage.tokens_out) if price is not None else 0.0


def choose(rows: Iterator[Row], pilot: int, seed: int | None) -> Pilot:
    """Return `pilot` of the rows, in their order, and how many there are: a reservoir (Vitter 1985), or the first."""
    draw = random.Random(seed)
    kept: list[tuple[int, Row]] = []
    size = 0
    for size, row in enumerate(rows, start=1):
        if len(kept) < pilot:
            kept.append((size - 1, row))
        elif seed is not None and (place := draw.randrange(size)) < pilot:
            kept[place] = (size - 1, row)
    kept.sort(key=lambda pair: pair[0])
    return Pilot(size=size, rows=[row for _, row in kept], places=[place for place, _ in kept])


def _source(step: Source, chosen: Pilot) -> Source:
    def rows(self: Source) -> Iterator[Row | Drop]:
        return iter(chosen.rows)

    def size(self: Source) -> int | None:
        return len(chosen.rows)

    return _like(step, {"rows": rows, "size": size})


def _each(step: Each, watch: Watch) -> Each:
    inner = type(step).each

    def straight(self: Each, row: Row) -> Any:
        begun = time.thread_time()
        made = inner(self, row)
        if isinstance(made, Generator):
            return _through(self.name, made, row, watch)
        root = watch.root(row)
        watch.seen[self.name][root].cpu += time.thread_time() - begun
        made = made if isinstance(made, Row | Drop) else list(made)
        watch.follow(made, root)
        return made

    def asking(self: Each, row: Row) -> Generator[Any, Any, Made]:
        return (yield from _through(self.name, inner(self, row), row, watch))  # type: ignore[arg-type]

    # the engine lets rows wait side by side only where `each` is written as a generator
    return _like(step, {"each": asking if inspect.isgeneratorfunction(inner) else straight})


def _through(name: str, inner: Generator[Any, Any, Made], row: Row, watch: Watch) -> Generator[Any, Any, Made]:
    """Pass asks and replies between a step and the engine, and note them."""
    root = watch.root(row)
    seen = watch.seen[name][root]
    resume: Callable[[Any], Any] = inner.send
    given: Any = None
    try:
        while True:
            begun = time.thread_time()
            try:
                request = resume(given)
            finally:
                seen.cpu += time.thread_time() - begun
            sent = time.monotonic()
            try:
                given, resume = (yield request), inner.send
            except Exception as error:  # noqa: BLE001 - the step itself decides what to do with it
                given, resume = error, inner.throw
                continue
            watch.spans[name].append((sent, time.monotonic()))
            if isinstance(request, Ask) and isinstance(given, Reply):
                watch.count(name, root, request, given)
    except StopIteration as stop:
        watch.follow(stop.value, root)
        return stop.value  # type: ignore[no-any-return]
    finally:
        inner.close()


def _like(step: StepT, changed: Mapping[str, Any]) -> StepT:
    """Return the step as an instance of a subclass of its class, under the same name in the same module."""
    kind = type(step)
    same = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    made = types.new_class(kind.__name__, (kind,), exec_body=lambda space: space.update({**same, **changed}))
    return cast("StepT", made(**{name: getattr(step, name) for name in kind.model_fields}))
