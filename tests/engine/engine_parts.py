"""A user's own file: the steps, the teacher and the recipes with which the engine is tested.

The teacher appends a line to the file TEACHER_CALLS when a request reaches it, so that a test can count what was
bought, in this process or in one that was killed. What it does is said by the words of the question.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from limbeck import Ask, Drop, Each, Loop, Make, Message, Recipe, Reply, Row, Source, Usage, Whole
from limbeck.core import errors
from limbeck.core.ask import Answer
from limbeck.core.row import new_row
from limbeck.core.step import Asking, Context, Made

TEACHER = f"{Path(__file__).resolve()}:Teach"


def note(variable: str, text: str) -> None:
    """Append a line to the file that an environment variable names; whole, whatever happens to the process."""
    path = os.environ.get(variable)
    if path:
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, (text + "\n").encode())
        os.close(handle)


class Numbers(Source):
    """Questions with a number in them; every `bad`-th record can not be read."""

    count: int = 10
    bad: int = 0
    words: str = "what is"
    sealed: bool = False
    same: bool = False
    explode: int = -1

    def rows(self) -> Iterator[Row | Drop]:
        for i in range(self.count):
            if i == self.explode:
                raise ValueError("the well is dry")
            if self.bad and i % self.bad == self.bad - 1:
                yield Drop(f"record {i} can not be read")
            else:
                text = f"{self.words} {0 if self.same else i}"
                made = self.made(number=i)
                yield new_row(messages=[Message(role="user", content=text)], made_by=made, sealed=self.sealed)


class Answered(Each):
    """Each question is answered `n` times."""

    teacher: str = TEACHER
    n: int = 1
    temperature: float = 1.0

    def each(self, row: Row) -> Asking:
        reply = yield Ask(messages=row.prompt, teacher=self.teacher, n=self.n, temperature=self.temperature)
        return [
            row.child(
                [*row.messages, Message(role="assistant", content=answer.text)],
                made_by=self.made(sample=index, temperature=self.temperature),
                usage=answer.usage,
            )
            for index, answer in enumerate(reply.answers)
        ]


class Odd(Each):
    """Score 1 where the answer is odd."""

    weight: float = 1.0

    def each(self, row: Row) -> Made:
        return row.with_scores(odd=self.weight * (int(row.response.split()[1]) % 2))


class OnlyOdd(Each):
    """Drop what is even."""

    def each(self, row: Row) -> Made:
        return row if row.scores["odd"] else Drop(f"{row.response} is even")


class Half(Whole):
    """Keep every second row; slowly, if asked to."""

    seconds: float = 0.0
    explode: bool = False

    def whole(self, rows: list[Row]) -> list[Row]:
        note("MARKS", "half")
        time.sleep(self.seconds)
        if self.explode:
            raise ValueError("nothing is whole")
        return [row.drop("half: every second") if i % 2 else row for i, row in enumerate(rows)]


class Broken(Each):
    """Fails on rows, each in the way that its number says."""

    every: int = 1
    asks: bool = False
    kind: str = "ValueError"

    def each(self, row: Row) -> Made | Asking:
        number = int(row.question.split()[-1])
        if number % self.every == 0:
            if self.kind == "none":
                return None  # type: ignore[return-value]
            if self.kind == "text":
                return "text"  # type: ignore[return-value]
            if self.kind == "json":
                return row.with_extra(bad={1, 2})
            raise {"ValueError": ValueError, "KeyError": KeyError, "OSError": OSError}[self.kind](
                f"row {number} is odd"
            )
        return row


class BrokenAsker(Answered):
    """Reads every answer wrongly."""

    def each(self, row: Row) -> Asking:
        yield Ask(messages=row.prompt, teacher=self.teacher)
        raise KeyError("choices")


class Catches(Answered):
    """Makes do without an answer when a request is refused."""

    def each(self, row: Row) -> Asking:
        try:
            reply = yield Ask(messages=row.prompt, teacher=self.teacher)
        except errors.RefusedError as error:
            return row.with_labels(refused=str(error))
        return row.with_labels(answer=reply.text)


class Unseal(Each):
    """Forgets the seal, as a careless step might."""

    child: bool = True

    def each(self, row: Row) -> Made:
        made_by = self.made()
        if not self.child:
            return new_row_like(row)
        return new_row(messages=row.messages, parents=(row.id,), group=row.group, made_by=made_by)


def new_row_like(row: Row) -> Row:
    """Return the same row, its seal broken."""
    from dataclasses import replace

    return replace(row, sealed=False)


class Count(Make):
    """Counts the rows, in the engine's own process."""

    apply: str = ""

    def make(self, rows: list[Row], context: Context) -> Iterable[Row]:
        note("MARKS", "count")
        if self.apply:
            rows = context.apply(self.apply, rows)
        (context.folder / "count.txt").write_text(f"{len(rows)} {context.seed}")
        context.progress(1, 1)
        return [row for row in rows if self.apply]


class Train(Make):
    """Trains, so to speak: a checkpoint for each step, in a process of its own."""

    isolated = True
    steps: int = 3
    seconds: float = 0.0
    fails: str = ""
    student: str = ""
    rows_of: str = ""

    def make(self, rows: list[Row], context: Context) -> Iterable[Row]:
        note("MARKS", f"train {os.getpid()}")
        print("a library that prints must not disturb the protocol")
        for step in range(self.steps):
            checkpoint = context.folder / f"checkpoint-{step}"
            if not checkpoint.exists():
                time.sleep(self.seconds)
                checkpoint.write_text("weights")
                note("MARKS", f"step {step}")
            context.progress(step + 1, self.steps, "loss 0.5")
        self._fail(context)
        if self.student:
            (context.folder / "base.txt").write_text(context.artefact(self.student).name)
        if self.rows_of:
            (context.folder / "others.txt").write_text(str(len(context.rows(self.rows_of))))
        (context.folder / "trained.txt").write_text(str(len(rows)))
        return []

    def _fail(self, context: Context) -> None:
        if self.fails == "exit":
            os._exit(7)
        elif self.fails == "apply":
            context.apply("score.math", [])
        elif self.fails == "disk":
            raise OSError(28, "No space left on device")
        elif self.fails == "file":
            raise FileNotFoundError(2, "No such file", "spelling.txt")
        elif self.fails:
            kind = getattr(errors, self.fails, ValueError)
            raise kind(f"a {self.fails} from the worker.")


class Teach:
    """Answers `answer N S` after a moment; at most four requests are under way at once."""

    identity = "teach-1"

    def __init__(self, rest: str) -> None:
        self.gate = asyncio.Semaphore(4)

    async def answer(self, ask: Ask, samples: Sequence[int]) -> Reply:
        words = ask.messages[-1].content.split()
        async with self.gate:
            note("TEACHER_CALLS", f"{ask.temperature:g} {ask.messages[-1].content} {list(samples)}")
            await asyncio.sleep(random.random() * float(os.environ.get("TEACHER_SECONDS", "0.002")))
        if words[0] == "refuse" and int(words[-1]) % 3 == 0:
            raise errors.RefusedError("it is against the policy")
        if words[0] == "endpoint" and int(words[-1]) == 5:
            raise errors.EndpointError("http://gone answered nothing; is the server running?")
        if words[0] == "few":
            return Reply(answers=())
        texts = [f"answer {words[-1]} {sample}" for sample in samples]
        usage = Usage(tokens_in=5, tokens_out=3 * len(texts), usd=0.001 * len(texts), seconds=random.random())
        return Reply(answers=tuple(Answer(text=t, tokens_out=3) for t in texts), usage=usage)

    async def close(self) -> None:
        note("MARKS", "closed")


class Other(Teach):
    """Another model."""

    identity = "teach-2"


def pipeline(
    count: int = 30,
    n: int = 2,
    temperature: float = 1.0,
    weight: float = 1.0,
    bad: int = 7,
    words: str = "what is",
    seconds: float = 0.0,
) -> Recipe:
    """The usual: questions, answers, scores, a choice, a barrier, an artefact."""
    return Recipe(
        steps=[
            Numbers(count=count, bad=bad, words=words),
            Answered(n=n, temperature=temperature),
            Odd(weight=weight),
            OnlyOdd(),
            Half(seconds=seconds),
            Count(),
        ]
    )


def training(count: int = 6, seconds: float = 0.0, steps: int = 3, fails: str = "", sealed: bool = False) -> Recipe:
    """Questions, and training on them in a worker process."""
    return Recipe(steps=[Numbers(count=count, sealed=sealed), Train(seconds=seconds, steps=steps, fails=fails)])


def rounds(number: int = 2) -> Recipe:
    """A loop: answer the same questions, train, and again."""
    steps = [Answered(name="sample", after="numbers"), Half(name="half"), Train(name="student", steps=1)]
    return Recipe(steps=[Numbers(count=4), Loop(steps=steps, rounds=number)])


def source_only(count: int = 3, explode: int = -1) -> Recipe:
    """A source and nothing else."""
    return Recipe(steps=[Numbers(count=count, explode=explode)])


def asking(words: str = "what is", count: int = 30, teacher: str = TEACHER) -> Recipe:
    """Questions and answers."""
    return Recipe(steps=[Numbers(count=count, words=words), Answered(teacher=teacher)])


def parts(count: int = 3) -> Recipe:
    """What the file is run as when no recipe is named."""
    return source_only(count)


engine_parts = parts
