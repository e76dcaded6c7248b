"""The rest of the ground: canonical JSON and hashes, errors, the ledger, asks, options and the catalogue."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.core import errors, fingerprint, options
from limbeck.core.ask import Ask
from limbeck.core.catalogue import catalogue
from limbeck.core.errors import BudgetReached, UnknownName, UsageError
from limbeck.core.ledger import FIELDS, Ledger, Total, bought, read
from limbeck.core.row import Message, Usage

# -- hashes ------------------------------------------------------------------------------------------------------------


@given(st.dictionaries(st.text(), st.integers() | st.text(), max_size=5))
def test_equal_values_have_one_canonical_text(value: dict[str, Any]) -> None:
    backwards = dict(reversed(value.items()))
    assert fingerprint.canonical(value) == fingerprint.canonical(backwards)
    assert (
        fingerprint.digest(value) == fingerprint.digest(backwards) and json.loads(fingerprint.canonical(value)) == value
    )


def test_the_hash_is_what_it_always_was() -> None:
    assert fingerprint.digest({"b": [1, "ü"], "a": None}) == "987a9008d9c5720d6ba6517476011f34"
    assert fingerprint.digest("\ud800") != fingerprint.digest("\ud801")


def test_a_folder_is_hashed_with_the_names_in_it(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    first = fingerprint.file_digest(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert fingerprint.file_digest(tmp_path) != first and len(fingerprint.file_digest(tmp_path / "b", 8)) == 16


# -- errors ------------------------------------------------------------------------------------------------------------


def _returned(error: Any) -> Any:
    return pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes


KINDS = [v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, errors.LimbeckError)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_survives_the_way_out_of_a_worker(kind: type[errors.LimbeckError]) -> None:
    back = _returned(kind("It is full: make space."))
    assert type(back) is kind and str(back) == "It is full: make space." and back.exit_code == kind.exit_code


def test_patience_survives_too() -> None:
    assert _returned(errors.BusyError("wait", 2.5)).retry_after == 2.5


def test_each_error_is_what_a_reader_expects_of_it() -> None:
    assert issubclass(errors.UsageError, ValueError) and issubclass(errors.EndpointError, ConnectionError)
    assert [
        errors.LimbeckError.exit_code,
        UsageError.exit_code,
        BudgetReached.exit_code,
        errors.ToleranceExceeded.exit_code,
    ] == [1, 2, 3, 4]


# -- the ledger --------------------------------------------------------------------------------------------------------


def test_the_ledger_adds_up_and_writes_one_line_a_step(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.commit("sample", bought(Usage(tokens_in=5, tokens_out=7, usd=0.5, seconds=1), 2, tokens_cached=4, retries=1))
    ledger.cached("sample", 3)
    ledger.commit("judge", bought(Usage(tokens_in=1, usd=None), 1))
    ledger.commit("idle", Total())
    assert ledger.close_step("sample").calls == 1 and ledger.close_step("sample").cached == 3 and ledger.spent == 0.5
    ledger.close()
    lines = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == ["sample", "judge"], (
        "each step once; what a stopped run cost is written too"
    )
    sample = {"answers": 2, "tokens_in": 5, "tokens_out": 7, "tokens_cached": 4, "usd": 0.5, "retries": 1, "session": 1}
    assert lines[0] | sample == lines[0]
    assert lines[1]["unpriced"] == 1 and lines[1]["usd"] == 0, "an unknown price is counted as unknown"


def test_sessions_add_up_and_a_torn_line_is_left_out(tmp_path: Path) -> None:
    for _ in range(3):
        ledger = Ledger(tmp_path / "ledger.jsonl")
        ledger.open({})
        ledger.commit("sample", Total(calls=1, answers=2, usd=0.25))
        ledger.cached("sample", 5)
        ledger.close()
    with (tmp_path / "ledger.jsonl").open("a") as file:
        file.write('{"session": 4, "step": "sam')
    total = read(tmp_path / "ledger.jsonl")["sample"]
    assert (total.calls, total.answers, total.usd, total.cached) == (3, 6, 0.75, 5), (
        "what was cached once is cached again"
    )
    (tmp_path / "ledger.jsonl").write_text("{no json\n")
    with pytest.raises(errors.StorageError, match="is damaged"):
        read(tmp_path / "ledger.jsonl")


def test_adding_totals_leaves_no_field_out() -> None:
    one = Total(**{name: index for index, name in enumerate(FIELDS, start=1)})
    two = Total()
    two.add(one)
    two.add(one)
    assert [getattr(two, name) for name in FIELDS] == [2 * index for index in range(1, len(FIELDS) + 1)]


def test_a_cap_refuses_before_the_call() -> None:
    ledger = Ledger(cap=1.0)
    assert ledger.reserve(0.6) and not ledger.reserve(0.6), "what is under way may yet cost less"
    ledger.commit("a", Total(usd=0.5))
    ledger.release(0.6)
    with pytest.raises(BudgetReached, match=r"budget of \$1 is reached: \$0\.5000 are spent, .* Everything is kept"):
        ledger.reserve(0.6)
    assert ledger.reserve(0.5)


# -- asks --------------------------------------------------------------------------------------------------------------


def test_an_asks_payload_is_all_that_matters_and_nothing_else() -> None:
    ask = Ask(messages=[Message(role="user", content="q")], teacher="a", n=2, stop=("x",))
    assert ask.payload() == Ask(messages=(Message(role="user", content="q"),), teacher="b", n=5, stop=("x",)).payload()
    changes: list[dict[str, Any]] = [
        {"temperature": 0.5}, {"top_p": 0.5}, {"max_tokens": 1}, {"seed": 1}, {"logprobs": 2}, {"stop": ()},
        {"tools": [{"a": 1}]}, {"response_format": {"type": "json_object"}}, {"messages": [Message(role="user", content="r")]},
        {"messages": [Message(role="user", content="q", name="n")]},
    ]  # fmt: skip
    payloads = {
        fingerprint.digest(Ask(**({"messages": ask.messages, "teacher": "a", "stop": ("x",)} | c)).payload())
        for c in changes
    }
    assert len(payloads | {fingerprint.digest(ask.payload())}) == len(changes) + 1
    json.dumps(ask.payload())


# -- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (int, "8", 8), (float, "1e-5", 1e-5), (bool, "true", True), (bool, "false", False), (str, "a,b", "a,b"),
        (int | None, "none", None), (int | None, "3", 3), (str | None, "None", None), (tuple[str, ...], "a, b", ("a", "b")),
        (tuple[int, ...], "1,2", (1, 2)), (tuple[str, ...], "a", ("a",)), (list[float], "0.5", [0.5]),
        (Sequence[str], "a,b", ["a", "b"]), (str | tuple[str, ...], "a", "a"), (str | tuple[str, ...], "a,b", ("a", "b")),
        (dict[str, int], '{"a": 1}', {"a": 1}), (Mapping[str, str], '{"a": "b"}', {"a": "b"}),
        (tuple[str, ...] | None, "none", None), (Literal["x", "y"], "x", "x"), (Path, "/a", Path("/a")), (Any, "x", "x"),
    ],
)  # fmt: skip
def test_words_are_read_as_their_annotation_says(kind: Any, text: str, value: Any) -> None:
    assert options.parse(kind, text, "--x") == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (int, "x"),
        (int, "1.5"),
        (bool, "maybe"),
        (dict[str, int], "{nonsense"),
        (dict[str, int], "x"),
        (Literal["a"], "b"),
        (tuple[int, ...], "1,x"),
    ],
)
def test_words_that_do_not_fit_name_the_option(kind: Any, text: str) -> None:
    with pytest.raises(UsageError, match="--x can not be"):
        options.parse(kind, text, "--x")


def test_a_parameter_without_annotation_is_read_as_its_default_is() -> None:
    def mine(count=3, rate=0.5, strict=False, name="x", extra=None):
        return None

    given = {"count": "4", "rate": "0.1", "strict": "true", "name": "5", "extra": "6"}
    read = options.recipe_options(mine, "mine", given)
    assert read == {"count": 4, "rate": 0.1, "strict": True, "name": "5", "extra": "6"}
    assert options.recipe_options(mine, "mine", {"count": 7, "extra": [1]}) == {"count": 7, "extra": [1]}


def test_unknown_and_missing_parameters() -> None:
    def mine(n_samples: int, rounds: int = 2) -> None: ...

    with pytest.raises(UnknownName, match=r"The recipe mine has no parameter 'round'\. Did you mean 'rounds'\?"):
        options.recipe_options(mine, "mine", {"n_samples": 1, "round": 2})
    with pytest.raises(UsageError, match=r"The recipe mine needs --n-samples\."):
        options.recipe_options(mine, "mine", {})


@pytest.mark.parametrize(
    ("words", "plain", "found"),
    [
        (["--a", "1", "f", "--b=2"], ["f"], {"a": "1", "b": "2"}),
        (["f", "--flag", "g"], ["f", "g"], {"flag": "true"}),
        (["--flag", "false", "g"], ["g"], {"flag": "false"}),
        (["--two-words", "-1"], [], {"two_words": "-1"}),
        (["--flag", "--a", "x=y"], [], {"flag": "true", "a": "x=y"}),
        (["--a="], [], {"a": ""}),
        (["-"], ["-"], {}),
    ],
)
def test_words_are_parted(words: list[str], plain: list[str], found: dict[str, str]) -> None:
    assert options.split_words(words, {"flag"}) == (plain, found)


def test_short_options_are_refused() -> None:
    with pytest.raises(UsageError, match="'-n' is not an option; write --NAME VALUE"):
        options.split_words(["-n", "4"])


# -- the catalogue -----------------------------------------------------------------------------------------------------


def test_the_catalogue_lists_everything_with_a_sentence() -> None:
    found = catalogue()
    assert list(found) == ["recipes", "steps", "teachers"] and catalogue("steps") == {"steps": found["steps"]}
    assert all(text for entries in found.values() for text in entries.values())


def test_a_step_is_listed_with_its_options_and_their_docs() -> None:
    (title, entries), *_ = catalogue("score.math").items()
    assert title.startswith("score.math: ") and all(key.startswith("--") for key in entries)
    assert not {"--name", "--after"} & entries.keys()


def test_a_users_own_file_is_listed_without_docstrings(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from limbeck import Each, Recipe\nclass StepOne(Each):\n"
        "    a: int = 1\n    'How many.'\n    b: str\ndef own(n: int = 2, m='x'): ...\n"
    )
    (step,) = catalogue(f"{tmp_path}/own.py:StepOne").values()
    assert step == {"--a": "int, default 1. How many.", "--b": "str, required."}
    (recipe,) = catalogue(f"{tmp_path}/own.py:own").values()
    assert recipe == {"--n": "int, default 2", "--m": "str, default 'x'"}


def test_what_is_not_listed_names_the_nearest_of_all_kinds() -> None:
    for wrong, right in (
        ("strar", "star"),
        ("score.mth", "score.math"),
        ("embeded", "embedded"),
        ("recipe", "recipes"),
    ):
        with pytest.raises(UnknownName, match=f"There is no recipe, step or teacher '{wrong}'. Did you mean '{right}'"):
            catalogue(wrong)


def test_code_version_covers_the_helpers_a_step_imports() -> None:
    """Editing `score/_answers.py` must rerun `score.math`, and so must what `_answers.py` itself imports."""
    from limbeck.core import fingerprint
    from limbeck.core.find import PACKAGE

    reached = [PACKAGE / "score" / "math.py"]
    for file in reached:
        reached += [f for f in fingerprint._helpers(file) if f not in reached]
    assert {"_answers.py", "_numbers.py"} <= {f.name for f in reached}
    assert not any("core" in f.parts for f in reached)
    assert "word_problems.py" in {f.name for f in fingerprint._helpers(PACKAGE / "seeds" / "tasks.py")}
