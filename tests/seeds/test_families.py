"""The task families: true, seeded, split by construction, and varied."""

import json
import random
import re
import subprocess
import sys

import pytest

from limbeck.sandbox import interpret
from limbeck.seeds.families import families, problems, split_of
from limbeck.seeds.families.programs import _cases, _mutants, sketch
from limbeck.seeds.families.tools import TOOLS

MATH = ("word_problems", "chains", "exchanges")
EQUATION = re.compile(r"(\d+) ([-+*/]) (\d+) = (\d+)")


def test_the_families_are_the_files_of_the_folder():
    assert families() == ["chains", "exchanges", "programs", "tools", "word_problems"]


def test_an_unknown_name_is_answered_with_what_there_is():
    with pytest.raises(ValueError, match="the families are chains"):
        problems("riddles", count=1, seed=0)
    with pytest.raises(ValueError, match="from 2 to 5"):
        problems("chains", count=1, seed=0, difficulty=(1, 9))
    with pytest.raises(ValueError, match="train and test"):
        problems("chains", count=1, seed=0, split="dev")


@pytest.mark.parametrize("family", families())
def test_the_same_seed_gives_the_same_problems(family):
    first, again = (list(problems(family, count=30, seed=3)) for _ in range(2))
    assert first == again
    assert first != list(problems(family, count=30, seed=4))


def test_another_process_gives_the_same_problems():
    code = "from limbeck.seeds.families import problems; print([p.prompt for p in problems('tools', count=5, seed=1)])"
    outputs = {
        subprocess.run([sys.executable, "-c", code], env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
                       capture_output=True, text=True, check=True).stdout for seed in ("1", "2")
    }  # fmt: skip
    assert outputs == {f"{[problem.prompt for problem in problems('tools', count=5, seed=1)]}\n"}


@pytest.mark.parametrize("family", families())
def test_the_splits_are_disjoint_and_prompts_do_not_repeat(family):
    train = [problem.prompt for problem in problems(family, count=100, seed=0)]
    test = [problem.prompt for problem in problems(family, count=100, seed=0, split="test")]
    assert {split_of(prompt) for prompt in train} == {"train"}
    assert {split_of(prompt) for prompt in test} == {"test"}
    assert len(set(train)) == len(train) and len(set(test)) == len(test)


@pytest.mark.parametrize("family", families())
def test_a_task_is_ready_for_json_and_says_what_it_is(family):
    for problem in problems(family, count=50, seed=5):
        assert json.loads(json.dumps(problem.task)) == problem.task
        assert problem.task["family"] == problem.family == family
        assert problem.task["difficulty"] == problem.difficulty
        assert problem.task["skills"] == list(problem.skills)
        assert problem.task["kind"] in ("math", "program", "tools")


@pytest.mark.parametrize("family", families())
def test_a_difficulty_range_is_kept(family):
    assert {problem.difficulty for problem in problems(family, count=40, seed=5, difficulty=(2, 3))} == {2, 3}


@pytest.mark.parametrize("family", MATH)
def test_every_line_of_the_working_is_true(family):
    for problem in problems(family, count=300, seed=6):
        lines = problem.response.split("\n")
        assert lines[-1] == f"Answer: {problem.answer}" == f"Answer: {problem.task['reference']}"
        for left, sign, right, result in EQUATION.findall(problem.response):
            a, b = int(left), int(right)
            assert int(result) == {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else None}[sign]
        assert all(0 <= int(number) <= 99 for number in re.findall(r"\d+", problem.response))


@pytest.mark.parametrize("family", MATH)
def test_the_working_quotes_the_prompt(family):
    for problem in problems(family, count=200, seed=7):
        for line in problem.response.split("\n")[:-1]:
            clause = line.partition(". ")[2].partition(": ")[0]
            assert clause in problem.prompt


@pytest.mark.parametrize("family", ("word_problems", "chains"))
def test_the_steps_are_the_totals(family):
    for problem in problems(family, count=100, seed=8):
        totals = [int(line.rstrip(".").split()[-1]) for line in problem.response.split("\n")[:-1]]
        assert totals == problem.task["steps"]
        assert len(totals) == problem.difficulty + 1 == len(problem.skills) + 1


def test_a_reference_program_passes_its_cases_and_its_mutants_fail():
    for problem in problems("programs", count=40, seed=9):
        cases = problem.task["cases"]
        assert len(cases) >= 5
        assert all(interpret.call(problem.response, "f", args) == expected for args, expected in cases)
        assert problem.task["steps"][-1] == cases[0][1]


def test_cases_tell_careless_programs_apart():
    rng, found = random.Random(1), 0
    while found < 20:
        drawn = sketch(rng, 2)
        cases = _cases(rng, drawn)
        found += bool(cases)
        for mutant in _mutants(drawn) if cases else []:
            assert any(_differs(mutant, args, expected) for args, expected in cases)


def _differs(source, args, expected):
    try:
        return interpret.call(source, "f", args) != expected
    except interpret.Rejected:
        return True


def test_a_tool_call_fits_its_schema():
    types = {"integer": int, "number": float, "string": str, "boolean": bool}
    for problem in problems("tools", count=200, seed=11):
        reference = problem.task["reference"]
        assert json.loads(problem.response) == reference
        schema = next(tool for tool in problem.task["tools"] if tool["name"] == reference["name"])["parameters"]
        assert set(schema["required"]) <= set(reference["arguments"]) <= set(schema["properties"])
        for name, value in reference["arguments"].items():
            assert type(value) is types[schema["properties"][name]["type"]]
        assert 2 <= len(problem.task["tools"]) <= 4 <= len(TOOLS)


@pytest.mark.parametrize("family", families())
def test_prompts_are_varied(family):
    openings = {" ".join(problem.prompt.split()[:3]) for problem in problems(family, count=200, seed=12)}
    assert len(openings) > (20 if family in ("word_problems", "exchanges", "chains") else 3)
