"""The engine against a bare asyncio loop: 20,000 echo answers through sample, score and select, all written to Parquet.

The loop does nothing but call the teacher; the ratio is what rows, cache, reasons and files cost on top.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from pathlib import Path

from limbeck import api
from limbeck.core.ask import Ask
from limbeck.core.recipe import Recipe
from limbeck.core.row import Message
from limbeck.generate.sample import Sample
from limbeck.score.exact import Exact
from limbeck.seeds.tasks import Tasks
from limbeck.select.until_pass import UntilPass
from limbeck.teachers.echo import Echo
from paired import paired

PROMPTS, SAMPLES = 5000, 4


def ours() -> None:
    """Run the recipe in a fresh folder with a fresh cache."""
    folder = Path(tempfile.mkdtemp())
    os.environ["LIMBECK_CACHE"] = str(folder / "calls.sqlite")
    steps = [Tasks(count=PROMPTS), Sample(teacher="echo", n=SAMPLES), Exact(), UntilPass()]
    api.run(Recipe(steps=steps, name="bench"), out=folder / "run", report=False)
    shutil.rmtree(folder)


def bare() -> None:
    """Ask the same teacher the same number of times and throw the answers away."""

    async def go() -> None:
        teacher = Echo("")
        rows = list(Tasks(count=PROMPTS).rows())
        turns = [[Message(role="user", content=getattr(row, "question", ""))] for row in rows]
        asks = [Ask(messages=messages, teacher="echo", n=SAMPLES) for messages in turns]
        await asyncio.gather(*(teacher.answer(ask, range(SAMPLES)) for ask in asks))

    asyncio.run(go())


if __name__ == "__main__":
    paired(f"{PROMPTS * SAMPLES:,} answers: whole run / bare loop", ours, bare, rounds=3)
