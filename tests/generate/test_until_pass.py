"""generate.until_pass: what it keeps is what keeping the first passing one of N keeps, and it costs what theory says."""

from __future__ import annotations

import random
from collections.abc import Generator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import limbeck
from limbeck.core.ask import Answer, Apply, Ask, Reply
from limbeck.core.errors import UsageError
from limbeck.core.find import find_step
from limbeck.core.recipe import Recipe
from limbeck.core.row import Message, Row, Usage, new_row
from limbeck.core.step import Drop
from limbeck.curate.exact import Exact
from limbeck.engine.rundir import read_rows
from limbeck.generate.sample import Sample
from limbeck.generate.until_pass import UntilPass, costs, expected_draws
from limbeck.score.math import Math
from limbeck.seeds.tasks import Tasks
from limbeck.select.until_pass import UntilPass as KeepFirst

PROMPT = new_row(
    messages=(Message(role="user", content="What is 1 + 2?"),), task={"kind": "math", "reference": "3"}, made_by={}
)


class Stream:
    """A prompt's endless stream of samples: sample k is right where `right` says so. Counts what was drawn."""

    def __init__(self, right: Sequence[bool]) -> None:
        self.right = right
        self.drawn: list[int] = []

    def answer(self, ask: Ask) -> Reply:
        places = range(ask.first, ask.first + ask.n)
        self.drawn += places
        texts = [f"Sample {k}.\nAnswer: {3 if self.right[k] else 4}" for k in places]
        return Reply(answers=tuple(Answer(text=t, tokens_out=5) for t in texts), usage=Usage(tokens_out=5 * ask.n))

    def run(self, step: Any, row: Row = PROMPT) -> Any:
        """Drive a step by hand, as the engine does."""
        made = step.each(row)
        if not isinstance(made, Generator):
            return made
        try:
            request = next(made)
            while True:
                request = made.send(self.answer(request) if isinstance(request, Ask) else self.applied(request))
        except StopIteration as end:
            return end.value

    def applied(self, request: Apply) -> list[Row]:
        step = verifier(request.step, tuple(request.fields.items()))
        return [step.each(row) for row in request.rows]


@lru_cache
def verifier(name: str, fields: tuple[tuple[str, Any], ...]) -> Any:
    return find_step(name)(**dict(fields))


def kept(rows: list[Row]) -> list[str]:
    return [r.response for r in rows if r.dropped is None]


@given(st.lists(st.booleans(), min_size=8, max_size=8), st.integers(1, 8), st.integers(1, 3))
def test_it_keeps_what_keeping_one_of_n_keeps(right: list[bool], most: int, at_once: int) -> None:
    sequential, whole = Stream(right), Stream(right)
    rows = sequential.run(UntilPass(teacher="t", most=most, at_once=at_once))
    everything = [Math().each(row) for row in whole.run(Sample(teacher="t", n=most))]
    assert kept(rows) == kept(KeepFirst().whole(everything))  # type: ignore[arg-type]
    needed = right[:most].index(True) + 1 if True in right[:most] else most
    assert sequential.drawn == list(range(len(rows))), "each sample is drawn once, in order"
    assert len(rows) == min(most, -(-needed // at_once) * at_once)
    assert [r.response for r in rows] == [r.response for r in everything][: len(rows)]  # type: ignore[union-attr]
    assert costs(rows).draws == len(rows) and costs(rows).keep_all == most
    assert sum("draws" in r.extra for r in rows) == 1
    assert {r.group for r in rows} == {PROMPT.group}


def test_reasons_and_costs_are_written_on_the_rows() -> None:
    rows = Stream([False, False, True, True]).run(UntilPass(teacher="t", most=4, at_once=4))
    assert [r.dropped for r in rows] == [
        "generate.until_pass: did not pass",
        "generate.until_pass: did not pass",
        None,
        "generate.until_pass: not needed: an earlier sample passed",
    ]
    assert rows[2].extra["draws"] == {"needed": 3, "made": 4, "most": 4}
    assert rows[2].labels["verdict"] == "pass" and rows[2].scores["verified"] == 1.0
    failed = Stream([False] * 3).run(UntilPass(teacher="t", most=3))
    assert failed[-1].extra["draws"] == {"needed": None, "made": 3, "most": 3}
    both = costs([*rows, *failed])
    assert (both.prompts, both.solved, both.draws, both.keep_all, both.share) == (2, 1, 7, 7, 1.0)


def test_it_spends_nothing_where_nothing_can_pass() -> None:
    stream = Stream([False] * 8)
    bare = new_row(messages=PROMPT.messages, task={"kind": "math"}, made_by={})
    rows = stream.run(UntilPass(teacher="t", most=8), bare)
    assert stream.drawn == [0] and rows[0].dropped == "generate.until_pass: not scored"
    assert isinstance(stream.run(UntilPass(teacher="t"), new_row(messages=(), made_by={})), Drop)
    with pytest.raises(UsageError, match="temperature"):
        UntilPass(teacher="t", temperature=0.0)


def test_options_reach_the_verifier() -> None:
    stream = Stream([False] * 4)
    assert kept(stream.run(UntilPass(teacher="t", most=4, options={"tolerance": 0.5}))) == ["Sample 0.\nAnswer: 4"]


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.5, 0.8, 1.0])
def test_the_number_of_draws_is_the_expected_one(rate: float) -> None:
    drawn, most, prompts = random.Random(7), 16, 400
    step = UntilPass(teacher="t", most=most)
    streams = [[drawn.random() < rate for _ in range(most)] for _ in range(prompts)]
    total = costs(row for right in streams for row in Stream(right).run(step))
    theory = expected_draws(rate, most)
    needed = [right.index(True) + 1 if True in right else most for right in streams]
    assert total.draws == sum(needed)
    spread = (sum((n - theory) ** 2 for n in needed) / prompts / prompts) ** 0.5
    assert abs(total.draws / prompts - theory) <= 4 * spread + 1e-9
    assert total.keep_all == most * prompts


def test_expected_draws() -> None:
    assert [round(expected_draws(p, 16), 2) for p in (0.5, 0.8, 0.2)] == [2.0, 1.25, 4.86]
    assert round(expected_draws(0.05, 16), 1) == 11.2 and expected_draws(0.0, 16) == 16.0
    for wrong in ((1.5, 4), (0.5, 0)):
        with pytest.raises(ValueError, match="not defined"):
            expected_draws(*wrong)


TEACHER = '''
import asyncio, hashlib
from limbeck import Reply, Usage
from limbeck.core.ask import Answer

class Coin:
    """Right on sample k of a prompt where a hash of both says so: half of the time, or hardly ever."""
    identity = "coin 1"
    calls = 0
    def __init__(self, rest=""): pass
    async def answer(self, ask, samples):
        texts = []
        for k in samples:
            with open(LOG, "a") as log:
                log.write(f"{k}\\n")
            drawn = hashlib.blake2b(f"{ask.messages[-1].content} {k}".encode()).digest()
            texts.append(f"Sample {k}. {drawn.hex()[:8]}\\nAnswer: {1 if drawn[0] < 90 else 0}")
        cost = Usage(tokens_in=5, tokens_out=3 * len(texts))
        return Reply(answers=tuple(Answer(text=t, tokens_out=3) for t in texts), usage=cost)
    async def close(self): pass
'''


def test_in_a_run_it_shares_its_answers_with_a_run_that_keeps_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "drawn.txt"
    (tmp_path / "coin.py").write_text(f"LOG = {str(log)!r}\n" + TEACHER)
    (tmp_path / "prompts.jsonl").write_text(
        "".join(f'{{"prompt": "Toss {i}", "reference": "1"}}\n' for i in range(60)), encoding="utf-8"
    )
    from limbeck.seeds.files import Files

    source = Files(name="prompts", path=(str(tmp_path / "prompts.jsonl"),))
    teacher = f"{tmp_path / 'coin.py'}:Coin"
    limbeck.run(Recipe(steps=[source, UntilPass(name="one", teacher=teacher, most=8)]), out=tmp_path / "a")
    drawn = len(log.read_text().split())
    limbeck.run(
        Recipe(steps=[source, Sample(name="all", teacher=teacher, n=8), Math(name="judged"), KeepFirst(name="one")]),
        out=tmp_path / "b",
    )
    both = len(log.read_text().split())
    first, second = (
        {r.question: r.response for r in read_rows(next((tmp_path / run).glob("*-one")) / "kept.parquet")}
        for run in "ab"
    )
    assert first == second and 40 < len(first) <= 60
    assert both == 60 * 8, "the samples of the first run are not bought again"
    rows = [
        r for part in ("kept", "dropped") for r in read_rows(next((tmp_path / "a").glob("*-one")) / f"{part}.parquet")
    ]
    assert costs(rows).draws == drawn == len(rows) and costs(rows).keep_all == both
    assert costs(rows).share < 0.5


def test_the_embedded_teacher_gives_the_same_data_for_fewer_draws(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    source = Tasks(name="problems", family=("chains",), count=24, seed=3)
    sampling: dict[str, Any] = {"teacher": "embedded", "max_tokens": 96}
    recipes = {
        "few": [source, UntilPass(name="one", most=4, **sampling), Exact(name="corpus")],
        "all": [source, Sample(name="s", n=4, **sampling), Math(name="m"), KeepFirst(name="one"), Exact(name="corpus")],
    }
    found = {}
    for name, steps in recipes.items():
        limbeck.run(Recipe(steps=steps), out=tmp_path / name)
        corpus = next((tmp_path / name).glob("*-corpus"))
        found[name] = sorted((r.question, r.response) for r in read_rows(corpus / "kept.parquet"))
    assert found["few"] == found["all"] and len(found["few"]) > 8
