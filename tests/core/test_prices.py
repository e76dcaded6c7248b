"""Prices: what the table holds, which entry answers for which name, and the sentences that a wrong price file costs."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.core import prices
from limbeck.core.errors import UsageError
from limbeck.core.prices import FREE, Long, Price, check_file, price_of, table_version, told_unknown
from limbeck.engine.answer import open_teacher

HOME = "https://api.openai.com/v1"
RATES = st.floats(min_value=0, max_value=500, allow_nan=False)
TOKENS = st.integers(min_value=0, max_value=2_000_000)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write a price file and make it the user's own."""

    def write(value: object, name: str = "prices.json") -> Path:
        path = tmp_path / name
        path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
        monkeypatch.setenv("LIMBECK_PRICES", str(path))
        return path

    monkeypatch.delenv("LIMBECK_PRICES", raising=False)
    return write


# -- the table ---------------------------------------------------------------------------------------------------------


def test_every_entry_is_dated_and_says_where_it_was_seen() -> None:
    table = prices._table()
    assert len(table) > 30
    for identity, price in table.items():
        seen = datetime.date.fromisoformat(price.as_of)
        assert seen <= datetime.date.fromisoformat(table_version()), identity
        assert price.source.startswith("https://"), identity
        assert 0 < price.input <= price.output, f"{identity}: answers cost more than prompts everywhere"
        assert price.cached is None or price.cached <= price.input, identity
        assert price.batch in (None, 0.5), identity
        assert price.long is None or (price.long.input > price.input and price.long.above >= 100_000), identity
        assert identity == identity.lower() and identity.count(" ") == 1 and not identity.split()[0].endswith("/")


def test_a_dated_name_costs_what_its_name_without_the_date_does(file) -> None:
    plain = price_of(f"{HOME} gpt-4.1-mini")
    assert plain is not None and plain.usd(1_000_000, 1_000_000) == pytest.approx(2.0)
    assert price_of(f"{HOME} gpt-4.1-mini-2025-04-14") == plain
    haiku = price_of("https://api.anthropic.com/v1 claude-haiku-4-5")
    assert price_of("https://api.anthropic.com/v1 claude-haiku-4-5-20251001") == haiku
    # a snapshot with a price of its own is not the plain name
    old, new = price_of(f"{HOME} gpt-4o-2024-05-13"), price_of(f"{HOME} gpt-4o-2024-11-20")
    assert old is not None and new is not None and (old.input, new.input) == (5, 2.5)


@pytest.mark.parametrize(
    "identity",
    [
        f"{HOME} gpt-4.1-minimal", f"{HOME} gpt-4.1-mini-latest", f"{HOME} gpt-3.5-turbo-0125", f"{HOME} GPT-4.1",
        f"{HOME}/extra gpt-4.1", "http://localhost:8000/v1 gpt-4.1", "https://api.openai.com.evil/v1 gpt-4.1", HOME,
    ],
)  # fmt: skip
def test_what_is_not_known_is_unknown_and_not_nothing(identity: str, file) -> None:
    assert price_of(identity) is None


@pytest.mark.parametrize("identity", ["embedded teacher 1a2b", "hf:9f", "echo:12", "replay:77", "step:student", ""])
def test_what_has_no_endpoint_is_free(identity: str, file) -> None:
    assert price_of(identity) == FREE and FREE.free and FREE.usd(10**9, 10**9, 10**6) == 0


# -- the arithmetic ----------------------------------------------------------------------------------------------------


def test_cached_tokens_cost_less_and_a_long_prompt_more() -> None:
    price = Price(2.0, 8.0, 0.5, 0.5, long=Long(above=200_000, input=4.0, output=12.0, cached=1.0))
    assert price.usd(100_000, 10_000) == pytest.approx(0.2 + 0.08)
    assert price.usd(100_000, 10_000, tokens_cached=60_000) == pytest.approx(0.08 + 0.03 + 0.08)
    assert price.usd(200_000, 0) == pytest.approx(0.4) and price.usd(200_001, 0) == pytest.approx(0.800004)
    assert price.usd(300_000, 1000, 100_000) == pytest.approx(0.8 + 0.1 + 0.012)
    half = price.batched()
    assert half is not None and half.usd(300_000, 1000, 100_000) == pytest.approx(0.912 / 2)
    assert half.batched() == half, "half of half is not asked for"
    assert Price(2.0, 8.0).batched() is None, "an unknown batch price is unknown"


@given(RATES, RATES, st.none() | RATES, TOKENS, TOKENS, st.floats(0, 1))
def test_money_adds_up_over_requests(
    rate: float, out: float, cached: float | None, tokens_in: int, tokens_out: int, share: float
) -> None:
    price, hit = Price(rate, out, cached), int(tokens_in * share)
    once = price.usd(tokens_in, tokens_out, hit)
    assert once >= 0
    assert price.usd(2 * tokens_in, 2 * tokens_out, 2 * hit) == pytest.approx(2 * once)
    apart = price.usd(tokens_in, 0, hit) + price.usd(0, tokens_out)
    assert apart == pytest.approx(once)


# -- a file of one's own -----------------------------------------------------------------------------------------------


def test_ones_own_file_goes_before_the_table(file) -> None:
    path = file(
        {
            "openai:m@http://user:secret@localhost:8000/v1/": {"input": 0.15, "output": 0.6, "cached": 0.075},
            "openai:gpt-4.1-mini": {"input": 0.1, "output": 0.2},
            "openai:gpt-4o": {"input": 1, "output": 1},
            "https://api.other.example/v1 big": {"input": 0, "output": 0},
            "anthropic:new": {"input": 1, "output": 2, "batch": 0.25, "as_of": "2030-01-01", "source": "a contract"},
        }
    )
    assert check_file(path) == 5
    local = price_of("http://localhost:8000/v1 m")
    assert local is not None and local.usd(1_000_000, 1_000_000, 1_000_000) == pytest.approx(0.675)
    for model in ("gpt-4.1-mini", "gpt-4.1-mini-2025-04-14"):
        assert (own := price_of(f"{HOME} {model}")) is not None and own.input == 0.1
    # what the file says of gpt-4o says nothing of a snapshot that has a price of its own
    assert (snapshot := price_of(f"{HOME} gpt-4o-2024-05-13")) is not None and snapshot.input == 5
    assert (other := price_of("https://api.other.example/v1 big")) is not None and other.free
    new = price_of("https://api.anthropic.com/v1 new")
    assert new == Price(1.0, 2.0, None, 0.25, "2030-01-01", "a contract")
    assert price_of(f"{HOME} gpt-4.1") is not None, "the table still answers for what the file does not name"


@pytest.mark.parametrize(
    "spec",
    [
        "openai:m", "openai:m@http://localhost:8000/v1", "openai:m@http://localhost:8000/v1/", "anthropic:c", "batch:openai:m",
        "openai:m@http://localhost:8000/v1/completions", "openai:m@http://localhost:8000/v1/chat/completions",
        "openai:a/b:c@https://LLM.example.org", "openai:llama3.2:3b@http://localhost:11434/v1", "batch:anthropic:c",
        "anthropic:c@http://localhost:4000", "anthropic:c@http://localhost:4000/v1", "openai:m@http://[::1]:80/v1",
    ],
)  # fmt: skip
def test_a_teacher_in_the_file_is_the_teacher_in_a_recipe(spec: str) -> None:
    assert prices._identity(spec, "prices.json") == open_teacher(spec).identity


def test_toml_is_read_too(file) -> None:
    file('["openai:m@http://localhost:8000/v1"]\ninput = 0.15\noutput = 1\n', "prices.toml")
    assert price_of("http://localhost:8000/v1 m") == Price(0.15, 1.0)


GOOD = {"input": 1, "output": 2}
WRONG: list[tuple[object, str]] = [
    (
        {"openai:m": {**GOOD, "input": -0.1}},
        "openai:m: input is -0.1; it must be a number, US dollars per million tokens",
    ),
    ({"openai:m": {**GOOD, "output": "2"}}, "openai:m: output is '2'; it must be a number"),
    ({"openai:m": {**GOOD, "cached": True}}, "openai:m: cached is True; it must be a number"),
    ({"openai:m": {**GOOD, "batch": -1}}, "openai:m: batch is -1; it must be a number, a factor"),
    ('{"openai:m": {"input": NaN, "output": 1}}', "openai:m: input is nan; it must be a number"),
    ('{"openai:m": {"input": Infinity, "output": 1}}', "openai:m: input is inf; it must be a number"),
    ({"openai:m": {**GOOD, "imput": 1}}, "openai:m: there is no 'imput' in a price. Did you mean 'input'?"),
    ({"openai:m": {"input": 1}}, "openai:m: 'output' is missing; it is in US dollars per million tokens"),
    ({"openai:m": 3}, 'openai:m must have prices such as {"input": 0.15, "output": 0.6}, not 3.'),
    ({"openai:m": {**GOOD, "long": 5}}, "openai:m: long must be such as"),
    ({"openai:m": {**GOOD, "long": {**GOOD, "from": 0}}}, "openai:m: long: from is 0; it must be a number of tokens."),
    ({"openai:m": {**GOOD, "long": {**GOOD, "form": 9}}}, "there is no 'form' in a price. Did you mean 'from'?"),
    ({"embedded": GOOD}, "'embedded' is no teacher that charges; write it as in a recipe: openai:MODEL"),
    ({"openai:": GOOD}, "'openai:' is no teacher that charges"),
    ({"openai:m": GOOD, f"{HOME}/ m": GOOD}, "gives the price of https://api.openai.com/v1/ m twice"),
    ([GOOD], "must hold teachers and their prices"),
    ("{", "is not JSON: "),
]


@pytest.mark.parametrize(("value", "told"), WRONG, ids=[told[-30:] for _, told in WRONG])
def test_what_is_wrong_in_the_file_is_one_sentence(value: object, told: str, file) -> None:
    path = file(value)
    with pytest.raises(UsageError) as caught:
        price_of(f"{HOME} gpt-4.1")
    said = str(caught.value)
    assert str(path) in said and told in said and said.endswith((".", "?", ")")), said


def test_a_file_that_is_written_again_is_read_again(file) -> None:
    file({"openai:m": GOOD})
    assert price_of(f"{HOME} m") == Price(1.0, 2.0)
    file({"openai:m": {**GOOD, "input": 1.25}})
    assert price_of(f"{HOME} m") == Price(1.25, 2.0)


def test_a_file_that_is_not_there_or_not_toml(file, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = file("a = ", "prices.toml")
    with pytest.raises(UsageError, match="is not TOML: "):
        price_of(f"{HOME} gpt-4.1")
    monkeypatch.setenv("LIMBECK_PRICES", str(path) + "x")
    with pytest.raises(UsageError, match="can not be read: No such file"):
        price_of(f"{HOME} gpt-4.1")


def test_the_advice_for_an_unknown_price_is_a_file_that_works(file) -> None:
    for identity in ("http://localhost:8000/v1 qwen", f"{HOME} gpt-99", "https://api.anthropic.com/v1 new"):
        told = told_unknown(identity)
        file(told[told.index("{") : told.rindex("}") + 1])
        assert price_of(identity) == Price(0.15, 0.6), told
