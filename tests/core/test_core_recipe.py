"""Recipes: how steps are wired by place and by name, how a loop is written out, and that a stored recipe is the recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from limbeck import Each, Loop, Recipe, Source
from limbeck.core.errors import UnknownName, UsageError
from limbeck.core.find import find_step
from limbeck.core.recipe import after_of, label

FILE = Path(__file__).resolve()


class Start(Source):
    """A source."""

    count: int = 1


class Step(Each):
    """A step that may refer to others."""

    teacher: str = "embedded"
    student: str = ""
    others: tuple[str, ...] = ()
    table: dict[str, str] = Field(default_factory=dict)


class Other(Each):
    """Another."""


def wiring(*steps: Any) -> dict[str, tuple[str, ...]]:
    return {s.name: after_of(s) for s in Recipe(steps=steps).resolved()}


def refusal(*steps: Any) -> str:
    with pytest.raises(UsageError) as caught:
        Recipe(steps=steps).resolved()
    return str(caught.value)


def test_each_step_reads_the_one_before_it() -> None:
    assert wiring(Start(), Step(), Other()) == {"start": (), "step": ("start",), "other": ("step",)}


def test_steps_that_repeat_are_numbered_and_given_names_win() -> None:
    steps = [Start(), Step(), Step(), Step(name="step-2"), Step()]
    assert label(steps) == ["start", "step", "step-3", "step-2", "step-4"]


def test_branches_are_by_name_and_may_join() -> None:
    found = wiring(Start(), Step(name="a"), Step(name="b", after="start"), Other(after=("a", "b")))
    assert found["b"] == ("start",) and found["other"] == ("a", "b")


def test_a_second_source_begins_a_branch_of_its_own() -> None:
    assert wiring(Start(), Step(), Start(name="more"), Other())["more"] == ()


def test_references_in_any_field_are_checked() -> None:
    assert wiring(Start(), Step(name="a"), Other(), Step(teacher="step:a", others=("step:other",)))
    assert "refers to 'b', which is no step before it" in refusal(Start(), Step(table={"x": "step:b"}))


def test_what_refers_to_nothing_names_the_nearest() -> None:
    assert refusal(Start(), Step(name="verified"), Other(after="verfied")).endswith("Did you mean 'verified'?")
    assert "'nowhere'" in refusal(Start(), Step(teacher="step:nowhere"))


def test_what_refers_forward_is_told_to_move() -> None:
    told = refusal(Start(), Step(teacher="step:later"), Other(name="later"))
    assert told.endswith("It stands later in the recipe; move it up.")
    assert "refers to 'step'" in refusal(Start(), Step(after="step"))


def test_two_steps_of_one_name_an_empty_recipe_and_one_without_a_source_are_refused() -> None:
    assert "Two steps of the recipe are named 'a'" in refusal(Start(), Step(name="a"), Other(name="a"))
    assert refusal() == "The recipe has no steps."
    assert "must begin with a source" in refusal(Step())


@pytest.mark.parametrize("name", ["a/b", "../up", ".hidden", "two words", "-x", "a\x00b"])
def test_a_name_that_can_be_no_folder_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="can not name a step"):
        Recipe(steps=[Start(), Step(name=name)]).resolved()


def star(**changes: Any) -> Loop:
    steps = [
        Step(name="sample", after="start", teacher="step:student"),
        Other(name="check"),
        Step(name="student", student="embedded"),
    ]
    return Loop(**{"steps": steps, "rounds": 3, "carry": {"student": "step:warm"}, **changes})


def test_a_loop_is_written_out_with_names_references_and_what_it_carries() -> None:
    steps = {s.name: s for s in Recipe(steps=[Start(), Step(name="warm"), star()]).resolved()}
    assert list(steps)[2:] == [f"{n}-{r}" for r in (1, 2, 3) for n in ("sample", "check", "student")]
    assert steps["sample-1"].teacher == "step:warm" and steps["sample-3"].teacher == "step:student-2"  # type: ignore[attr-defined]
    assert all(after_of(steps[f"sample-{r}"]) == ("start",) for r in (1, 2, 3))
    assert after_of(steps["check-2"]) == ("sample-2",) and after_of(steps["student-3"]) == ("check-3",)


def test_a_loop_may_start_from_a_model_that_is_no_step() -> None:
    steps = star(carry={"student": "embedded:student"}).unroll()
    assert steps[0].teacher == "embedded:student" and steps[3].teacher == "step:student-1"  # type: ignore[attr-defined]


def test_a_loop_may_carry_rows() -> None:
    loop = Loop(steps=[Step(name="a", after="b"), Other(name="b")], rounds=2, carry={"b": "start"})
    assert wiring(Start(), loop) == {"start": (), "a-1": ("start",), "b-1": ("a-1",), "a-2": ("b-1",), "b-2": ("a-2",)}


def test_references_inside_lists_and_tables_are_carried_too() -> None:
    first = Step(name="s", others=("step:t", "step:start"), table={"k": "step:t"})
    steps = Loop(steps=[first, Other(name="t")], rounds=2, carry={"t": "step:start"}).unroll()
    assert steps[0].others == ("step:start", "step:start") and steps[0].table == {"k": "step:start"}  # type: ignore[attr-defined]
    assert steps[2].others == ("step:t-1", "step:start") and steps[2].table == {"k": "step:t-1"}  # type: ignore[attr-defined]


def test_what_a_loop_needs_of_a_round_before_must_be_carried() -> None:
    with pytest.raises(UsageError, match="needs 'student' of a round before; carry it"):
        star(carry={}).unroll()
    with pytest.raises(UsageError, match="carries 'studnet', but no step in it has that name"):
        star(carry={"studnet": "step:warm"}).unroll()
    with pytest.raises(UsageError, match="at least one round, not 0"):
        star(rounds=0).unroll()


def test_training_from_the_last_student_must_be_said() -> None:
    steps = [Step(name="sample"), Step(name="student", student="step:student")]
    loop: dict[str, Any] = {"steps": steps, "rounds": 2, "carry": {"student": "embedded:student"}}
    with pytest.raises(UsageError, match="starts from a carried student; use the base, or say reset='last'"):
        Loop(**loop).unroll()
    found = Loop(**loop, reset="last").unroll()
    assert [s.student for s in found[1::2]] == ["embedded:student", "step:student-1"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "address", ["http://user:word@host/v1", "https://host/v1?api_key=x", "https://host?a=1&Access-Token=x"]
)
def test_an_address_with_credentials_is_refused_wherever_it_stands(address: str) -> None:
    for fields in ({"teacher": f"openai:m@{address}"}, {"others": ("a", address)}, {"table": {"k": address}}):
        told = refusal(Start(), Step(**fields))
        assert "holds a password or a key" in told and "word@" not in told and "x" not in told.split("'")[3]


def test_a_stored_recipe_is_the_recipe() -> None:
    recipe = Recipe(
        steps=[Start(count=3), Step(name="warm"), star(), Other(after=("warm", "check-2"))],
        name="mine",
        params={"n": 1},
    )
    stored = json.loads(json.dumps(recipe.to_json()))
    again = Recipe.from_json(stored)
    assert again.to_json() == stored and again.name == "mine" and again.params == {"n": 1}
    assert [s.fingerprint() for s in again.resolved()] == [s.fingerprint() for s in recipe.resolved()]
    assert stored["steps"][0]["use"] == f"{FILE}:Start" and stored["steps"][0]["fields"] == {"count": 3}
    assert find_step(f"{FILE}:Start").__name__ == "Start"


def test_a_stored_recipe_without_parameters_is_read() -> None:
    steps = Recipe(steps=[Start()]).to_json()["steps"]
    assert Recipe.from_json({"name": "a", "params": None, "steps": steps}).params == {}
    with pytest.raises(UnknownName, match=r"There is no step 'score\.nothing'"):
        Recipe.from_json({"name": "a", "steps": [steps[0] | {"use": "score.nothing"}]})


@pytest.mark.parametrize(
    "data",
    [
        {},
        [],
        "text",
        {"steps": 3},
        {"steps": [{}]},
        {"steps": [1]},
        {"steps": []},
        {"steps": [{"use": f"{FILE}:Start", "fields": 3}]},
    ],
)
def test_what_is_no_stored_recipe_is_one_sentence(data: Any) -> None:
    with pytest.raises(UsageError, match=r"This is not a recipe\.json of limbeck: "):
        Recipe.from_json(data)
