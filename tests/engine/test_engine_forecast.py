"""The plan: its statistics against simulation, and what it says of a recipe against what the run then takes, over real HTTP."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import random
import statistics
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck import api
from limbeck.core.errors import BudgetReached
from limbeck.core.recipe import Recipe
from limbeck.curate.exact import Exact
from limbeck.engine.forecast.time import Asked, asked
from limbeck.engine.forecast.totals import Span, Stratum, drawn, draws_to_pass, student, total
from limbeck.engine.forecast.watch import choose
from limbeck.engine.limits import Limits
from limbeck.generate.sample import Sample
from limbeck.score.math import Math
from limbeck.seeds.files import Files
from limbeck.select.until_pass import UntilPass
from limbeck.view.forecast import lines

PRICE = {"input": 2.0, "output": 10.0}

# -- statistics --------------------------------------------------------------------------------------------------------


@given(st.lists(st.booleans(), min_size=1, max_size=6))
def test_expected_draws_are_the_mean_over_all_orders(passed: list[bool]) -> None:
    orders = list(itertools.permutations(range(len(passed))))
    lengths, times = [], [0] * len(passed)
    for order in orders:
        first = next((n for n, place in enumerate(order) if passed[place]), len(passed) - 1)
        lengths.append(first + 1)
        for place in order[: first + 1]:
            times[place] += 1
    assert draws_to_pass(len(passed), sum(passed)) == pytest.approx(statistics.fmean(lengths))
    assert drawn(passed) == pytest.approx([count / len(orders) for count in times])
    assert sum(drawn(passed)) == pytest.approx(draws_to_pass(len(passed), sum(passed)))


def test_expected_draws_are_right_for_prompts_of_different_difficulty() -> None:
    """Half the prompts pass always and half nearly never: 1 / mean pass rate would say 2 draws."""
    draw, samples, rates = random.Random(0), 8, [1.0, 0.02] * 3000
    truth = statistics.fmean(sum((1 - p) ** k for k in range(samples)) for p in rates)
    told, lived = [], []
    for p in rates:
        told.append(draws_to_pass(samples, sum(draw.random() < p for _ in range(samples))))
        lived.append(next((k for k in range(1, samples + 1) if draw.random() < p), samples))
    assert truth == pytest.approx(4.23, abs=0.01)
    assert statistics.fmean(told) == pytest.approx(truth, abs=0.05)
    assert statistics.fmean(lived) == pytest.approx(truth, abs=0.05)


@pytest.mark.parametrize(("rows", "pilot"), [(200, 16), (40, 20)])
def test_the_interval_holds_the_truth_as_often_as_it_says(rows: int, pilot: int) -> None:
    draw, held = random.Random(1), 0
    for _ in range(600):
        values = [draw.gammavariate(4.0, 50.0) for _ in range(rows)]
        span = total([Stratum(size=rows, values=draw.sample(values, pilot))])
        assert span.low is not None and span.high is not None
        held += span.low <= sum(values) <= span.high
    assert 0.91 <= held / 600 <= 0.98


def test_two_sources_are_strata_and_a_whole_pilot_is_exact() -> None:
    assert total([Stratum(size=3, values=[1, 2, 9])]) == Span(value=12, low=12, high=12)
    both = total([Stratum(size=3, values=[1, 2, 9]), Stratum(size=100, values=[2, 2, 2])])
    assert both == Span(value=212, low=212, high=212)
    spread = total([Stratum(size=3, values=[1, 2, 9]), Stratum(size=100, values=[1, 3])])
    assert spread.value == 212 and spread.low is not None and spread.low >= 16, "the pilot itself has taken 16"
    assert total([Stratum(size=100, values=[5])]) == Span(value=500), "one row says nothing of others"
    assert total([Stratum(size=0, values=[])]) == Span(value=0, low=0, high=0)


def test_quantiles_of_student() -> None:
    for freedom, known in ((1, 12.706), (5, 2.571), (10, 2.228), (15, 2.131), (30, 2.042), (120, 1.980)):
        assert student(freedom) == pytest.approx(known, abs=2e-3)


def test_a_random_pilot_is_fair_and_in_order_and_first_rows_are_the_first() -> None:
    from limbeck.core.row import Message, new_row

    def rows() -> Iterator[Any]:
        return iter([new_row(messages=[Message(role="user", content=str(n))], made_by={"n": n}) for n in range(30)])

    counts = [0] * 30
    for seed in range(300):
        chosen = choose(rows(), 6, seed)
        assert chosen.size == 30 and list(chosen.places) == sorted(set(chosen.places)) and len(chosen.rows) == 6
        assert [row.question for row in chosen.rows] == [str(place) for place in chosen.places]
        for place in chosen.places:
            counts[place] += 1
    assert max(counts) < 95 and min(counts) > 30, "each row is taken about 60 times"
    assert list(choose(rows(), 6, None).places) == [0, 1, 2, 3, 4, 5]
    assert choose(rows(), 99, 0).places == list(range(30))


# -- time --------------------------------------------------------------------------------------------------------------


def _asked(requests: float = 6000, *, flying: int = 16, waves: int = 2, remote: bool = True, bought: int = -1) -> Asked:
    spans = [(2.0 * wave, 2.0 * wave + 2.0) for wave in range(waves) for _ in range(flying)]
    made = len(spans) if bought < 0 else bought
    count = Span(value=requests, low=requests, high=requests)
    return Asked(
        requests=count, tokens=Span(value=100 * requests), bought=made, latency=2.0, spans=spans, remote=remote
    )


def test_time_is_latency_over_width_up_to_the_pilots_own_throughput() -> None:
    told = asked(_asked(), Limits(concurrency=100))
    assert told is not None and told.value == pytest.approx(6000 * 2.0 / 100)
    assert told.high == pytest.approx(6000 * 4.0 / 32), "16 in flight, as the pilot had"
    narrow = asked(_asked(), Limits(concurrency=4))
    assert narrow is not None and narrow.value == narrow.high == pytest.approx(750), "the pilot knows better"
    assert asked(_asked(bought=0), Limits()) is None, "answers from the cache tell no time"
    few = asked(_asked(3), Limits(concurrency=100))
    assert few is not None and few.value == 2.0, "never less than one answer takes"


def test_time_respects_the_rate_limits() -> None:
    slow = asked(_asked(), Limits(concurrency=100, rpm=600))
    assert slow is not None and slow.value == pytest.approx(600) and slow.low == pytest.approx(600)
    tokens = asked(_asked(), Limits(concurrency=100, tpm=60_000))
    assert tokens is not None and tokens.value == pytest.approx(600)


def test_a_local_models_start_is_paid_once() -> None:
    spans = [(0.0, 10.0 + 0.5 * n) for n in range(21)]
    count = Span(value=1000, low=1000, high=1000)
    local = Asked(requests=count, tokens=Span(value=0), bought=21, latency=0, spans=spans, remote=False)
    told = asked(local, Limits())
    assert told is not None and told.value == pytest.approx(500, rel=0.1) and told.high == pytest.approx(1000 * 20 / 21)


# -- against a real server ---------------------------------------------------------------------------------------------


def _luck(*words: object) -> float:
    """A number from 0 to 1 that depends on the words alone."""
    return int.from_bytes(hashlib.blake2b(repr(words).encode(), digest_size=6).digest()) / 2**48


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A server whose answers are right more or less often, and longer when wrong, depending on the question."""
    spec = spec_from_file_location("fault_server", Path(__file__).parents[1] / "teachers" / "fault_server.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules.setdefault("fault_server", module_from_spec(spec))
    if not hasattr(module, "FaultServer"):
        spec.loader.exec_module(module)

    def decide(body: dict[str, Any]) -> Any:
        question = body["messages"][-1]["content"]
        choices, out = [], 0
        for n in range(body.get("n", 1)):
            right = _luck(question, "rate") ** 2 > _luck(question, body.get("seed", 0) + n)
            text = "Answer: 7" if right else "Let me see. Perhaps it is so. Answer: 8"
            out += 5 if right else 20
            choices.append({"index": n, "finish_reason": "stop", "message": {"role": "assistant", "content": text}})
        usage = {"prompt_tokens": 10 + len(question), "completion_tokens": out}
        return module.Say(text=json.dumps({"choices": choices, "usage": usage}), seconds=0.01)

    with module.FaultServer() as running:
        running.decide = decide
        yield running


def _recipe(tmp_path: Path, server: Any, *, rows: int = 80, n: int = 6, seed: int = 0) -> Recipe:
    path = tmp_path / "prompts.jsonl"
    words = ["Say seven " * (1 + i % 9) + f"({i})" for i in range(rows)]
    path.write_text("".join(json.dumps({"prompt": w, "reference": "7"}) + "\n" for w in words))
    steps = [
        Files(name="prompts", path=(str(path),)),
        Sample(teacher=f"openai:m@{server.url}", n=n, seed=seed),
        Math(),
        UntilPass(name="verified"),
        Exact(name="corpus"),
    ]
    return Recipe(steps=steps, name="planned")


def _priced(tmp_path: Path, server: Any) -> Path:
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({f"openai:m@{server.url}": PRICE}))
    return path


def test_the_plan_holds_what_the_run_then_takes(tmp_path: Path, server: Any) -> None:
    recipe, file = _recipe(tmp_path, server), _priced(tmp_path, server)
    plan = api.plan(recipe, pilot=20, prices=file)
    asked_for = len(server.seen)
    assert asked_for == 20 and plan.pilot == {"prompts": (20, 80)} and plan.unknown == []
    result = api.run(recipe, out=tmp_path / "run", prices=file, report=False)
    assert len(server.seen) == 80, "the pilot's answers are not bought again"
    paid = [body["body"]["messages"][-1]["content"] for body in server.seen]
    assert len(set(paid)) == 80
    truth = {"tokens_in": sum(10 + len(q) for q in paid), "answers": 480, "calls": 80}
    rows = {name: step["rows"]["kept"] for name, step in result.steps.items()}
    by_name = {e.step: e for e in plan}
    sample = by_name["sample"]
    assert (sample.calls, sample.answers, sample.rows) == (80, 480, 480) and sample.low["calls"] == 80
    assert sample.low["tokens_in"] <= truth["tokens_in"] <= sample.high["tokens_in"]
    out = sum(row.usage.tokens_out for row in result.rows("sample"))
    assert sample.low["tokens_out"] <= out <= sample.high["tokens_out"] < 1.5 * out
    usd = (truth["tokens_in"] * PRICE["input"] + out * PRICE["output"]) / 1e6
    assert plan.total.low["usd"] <= usd <= plan.total.high["usd"] and plan.total.usd == pytest.approx(usd, rel=0.2)
    assert plan.paid is not None and 0 < plan.paid < plan.total.low["usd"]
    verified = by_name["verified"]
    assert verified.low["rows"] <= rows["verified"] <= verified.high["rows"]
    assert sample.seconds is not None and 0 < sample.low["seconds"] <= sample.seconds <= sample.high["seconds"]


def test_a_second_plan_buys_nothing_and_says_the_same(tmp_path: Path, server: Any) -> None:
    recipe, file = _recipe(tmp_path, server), _priced(tmp_path, server)
    first, again = (api.plan(recipe, pilot=10, prices=file) for _ in range(2))
    assert len(server.seen) == 10
    assert again.total.usd == pytest.approx(first.total.usd) and again.paid == pytest.approx(first.paid)
    assert [e.tokens_out for e in again] == [e.tokens_out for e in first]
    assert again.total.seconds is None and any("came from the cache" in note for note in again.notes)
    other = api.plan(recipe, pilot=10, pilot_seed=1, prices=file)
    assert 10 < len(server.seen) <= 20 and other.total.usd != first.total.usd


def test_stopping_at_the_first_pass_is_what_drawing_one_by_one_takes(tmp_path: Path, server: Any) -> None:
    """The pilot is all rows: what is left to chance is only the order of the samples."""
    recipe = _recipe(tmp_path, server, rows=40)
    plan = api.plan(recipe, pilot=40, prices=_priced(tmp_path, server))
    samples = [json.loads(line) for line in (tmp_path / "prompts.jsonl").read_text().splitlines()]
    draw, lengths, tokens_in, tokens_out = random.Random(5), [], [], []
    of = {s["body"]["messages"][-1]["content"]: s["body"].get("seed", 0) for s in server.seen}
    for _ in range(400):
        calls = into = out = 0
        for sample in samples:
            question = sample["prompt"]
            rights = [_luck(question, "rate") ** 2 > _luck(question, of[question] + n) for n in range(6)]
            draw.shuffle(rights)
            made = (rights.index(True) if any(rights) else 5) + 1
            calls, into = calls + made, into + made * (10 + len(question))
            # the server counts tokens for a whole request; its answers share them evenly
            out += sum(5 if right else 20 for right in rights[:made])
        lengths.append(calls), tokens_in.append(into), tokens_out.append(out)
    [stopped] = plan.first_pass
    assert stopped.step == "sample" and plan.samples["made"] == 6
    assert stopped.calls == stopped.answers == pytest.approx(statistics.fmean(lengths), rel=0.02)
    assert plan.samples["needed"] == pytest.approx(stopped.calls / 40, abs=0.02)
    assert stopped.tokens_in == pytest.approx(statistics.fmean(tokens_in), rel=0.02)
    assert stopped.tokens_out < plan.steps[1].tokens_out
    expected = (stopped.tokens_in * PRICE["input"] + stopped.tokens_out * PRICE["output"]) / 1e6
    assert stopped.usd == pytest.approx(expected, rel=0.02)
    assert plan.first_pass_total is not None and plan.first_pass_total.usd == stopped.usd


def test_an_unknown_price_is_said_and_how_to_give_it(tmp_path: Path, server: Any) -> None:
    plan = api.plan(_recipe(tmp_path, server), pilot=4)
    assert plan.total.usd is None and plan.steps[1].usd is None and plan.steps[0].usd == 0.0 and plan.paid is None
    assert plan.steps[1].tokens_out > 0 and len(plan.unknown) == 1
    text = "\n".join(lines(plan.record()))
    assert "unknown" in text and f'"openai:m@{server.url}": {{"input": 0.15' in text.replace("\n", " ")
    # told later, the answers that were bought at an unknown price are priced too
    priced = api.plan(_recipe(tmp_path, server), pilot=4, prices=_priced(tmp_path, server))
    assert priced.total.usd is not None and priced.total.usd > 0 and len(server.seen) == 4


def test_the_pilot_keeps_its_own_budget(tmp_path: Path, server: Any) -> None:
    recipe, file = _recipe(tmp_path, server), _priced(tmp_path, server)
    with pytest.raises(BudgetReached):
        api.plan(recipe, pilot=60, budget=0.045, prices=file)
    assert 0 < len(server.seen) < 60


def test_the_recipes_own_seed_reaches_the_recipe_and_the_pilots_does_not(tmp_path: Path, server: Any) -> None:
    api.plan(_recipe(tmp_path, server, seed=3), pilot=3, pilot_seed=None)
    seen = {body["body"]["messages"][-1]["content"][-3:] for body in server.seen}
    assert seen == {"(0)", "(1)", "(2)"}, "without a seed the first rows are tried"
    seeds = {body["body"]["seed"] for body in server.seen}
    server.seen.clear()
    api.plan(_recipe(tmp_path, server, seed=4), pilot=3, pilot_seed=None)
    assert len(server.seen) == 3 and seeds.isdisjoint(body["body"]["seed"] for body in server.seen)


def test_a_plan_fits_into_a_hundred_columns(tmp_path: Path, server: Any) -> None:
    plan = api.plan(_recipe(tmp_path, server), pilot=12, prices=_priced(tmp_path, server))
    told = lines(plan.record())
    assert max(map(len, told)) <= 100
    table = " ".join(told)
    for word in ("prompts", "sample", "total", "Stopping at the first answer that passes", "will not be bought again"):
        assert word in table, word
    assert "$0.0" in table and json.loads(json.dumps(plan.record()))["total"]["usd"] == plan.total.usd


def test_steps_that_train_are_listed_and_not_measured(tmp_path: Path) -> None:
    from limbeck.train.sft import Sft

    base = _recipe(tmp_path, type("Server", (), {"url": "http://x"})())
    steps = [
        base.steps[0],
        Sample(teacher="echo:Answer: 7", n=2),
        Math(),
        Sft(name="student", student="embedded:student"),
    ]
    plan = api.plan(Recipe(steps=steps, name="trained"), pilot=4)
    student_line = plan.steps[-1]
    assert (student_line.measured, student_line.usd, student_line.seconds) == (False, None, None)
    assert plan.total.usd == 0.0 and not plan.first_pass and math.isfinite(plan.total.seconds or 0)
    assert any("not measured" in line for line in lines(plan.record()))
