"""HumanEval and MBPP, judged as their publishers mean it: every canonical solution passes, and a broken version of each fails."""

import gzip
import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from mutate import endless, mutants

from limbeck import sandbox

pytestmark = [
    pytest.mark.real,
    pytest.mark.filterwarnings(
        "ignore:invalid escape sequence"
    ),  # in the corpora's sources, which are parsed here to be broken
]
LOOPS = int(os.environ.get("LIMBECK_ALL_MUTANTS", "0")) or 20
"""One problem in so many is also judged on an endless version; LIMBECK_ALL_MUTANTS=1 takes them all, which takes minutes."""


def _human_eval(corpora):
    with gzip.open(corpora / "humaneval" / "HumanEval.jsonl.gz", "rt") as file:
        for row in map(json.loads, file):
            source = row["prompt"] + row["canonical_solution"]
            yield row["task_id"], source, [row["prompt"], row["test"]], row["entry_point"]


def _mbpp(corpora):
    with (corpora / "mbpp" / "mbpp.jsonl").open() as file:
        for row in map(json.loads, file):
            setup = [row["test_setup_code"]] if row["test_setup_code"] else []
            yield f"MBPP/{row['task_id']}", row["code"], setup + row["test_list"] + row["challenge_test_list"], None


def _problems(corpora, name):
    found = list(_human_eval(corpora) if name == "humaneval" else _mbpp(corpora))
    assert len(found) == {"humaneval": 164, "mbpp": 974}[name]
    return found


def _each(function, problems):
    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(function, problems))


@pytest.mark.parametrize("name", ["humaneval", pytest.param("mbpp", marks=pytest.mark.slow)])
def test_every_canonical_solution_passes(corpora, name):
    def failure(problem):
        task, source, tests, entry = problem
        verdict = sandbox.check_asserts(source, tests, entry_point=entry, seconds=20.0)
        return None if verdict.passed else (task, verdict)

    assert [one for one in _each(failure, _problems(corpora, name)) if one] == []


@pytest.mark.parametrize("name", ["humaneval", pytest.param("mbpp", marks=pytest.mark.slow)])
def test_a_broken_version_of_every_solution_fails(corpora, name):
    def survivor(problem):
        """Return the task if no mutant of it fails; a mutant that passes may be equal to the original, so the next is tried."""
        task, source, tests, entry = problem
        for mutant in mutants(source):
            verdict = sandbox.check_asserts(mutant, tests, entry_point=entry, seconds=1.0)
            assert verdict.status != "harness-failure", verdict
            if not verdict.passed:
                return None
        return task

    assert [task for task in _each(survivor, _problems(corpora, name)) if task] == []


@pytest.mark.parametrize("name", ["humaneval", "mbpp"])
def test_an_endless_version_times_out(corpora, name):
    def status(problem):
        _, source, tests, entry = problem
        return sandbox.check_asserts(endless(source), tests, entry_point=entry, seconds=0.25).status

    assert set(_each(status, _problems(corpora, name)[::LOOPS])) == {"timeout"}
