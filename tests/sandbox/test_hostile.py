"""No hostile program gets through, at either level, as root or as an ordinary user; every honest one runs; the detectors work."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hostile_programs import ATTACKS, FUNCTIONS, HONEST, OTHER_TYPES, PROGRAMS
from hostile_world import World
from other_users import ordinary
from sandbox_corpus import ASSERTS, CASES, CHECK, attack, attacks, everything

from limbeck import sandbox
from limbeck.sandbox import pool

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="confinement needs Linux")
SCRIPT = Path(__file__).with_name("sandbox_corpus.py")


@pytest.fixture(autouse=True)
def strongest_level_afterwards():
    yield
    pool.only(None)


@pytest.mark.slow
@pytest.mark.parametrize("level", ["strict+ns", "strict"])
def test_no_hostile_program_succeeds_and_every_honest_one_does(level):
    if why := sandbox.reason(level):
        pytest.skip(f"SKIPPED: {level} can not be had here: {why}")
    pool.only(level)
    outcomes = everything(level)
    assert [one for one in outcomes if one.wrong] == []
    assert len(outcomes) >= 400


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="this is an ordinary user already")
def test_nor_does_one_as_an_ordinary_user():
    if not (python := ordinary()):
        pytest.skip("SKIPPED: no setpriv, or no Python that every user may run.")
    done = subprocess.run([*python, str(SCRIPT), "ranked"], capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "user 65534" in done.stdout


def test_the_corpus_is_as_large_as_it_says():
    assert len(ATTACKS) + len(FUNCTIONS) + len(PROGRAMS) + len(OTHER_TYPES) >= 250
    assert len(HONEST) >= 50
    assert len({(one.kind, one.name) for one in ATTACKS}) == len(ATTACKS)


def test_outside_a_jail_the_tame_ones_do_succeed():
    """What is found closed must be found open where nothing closes it, or the detectors prove nothing."""
    pool.only("rlimit-only")
    tame = [one for one in attacks() if one.tame]
    with World() as world:
        outcomes = [attack(world, one, "rlimit-only") for one in tame]
    harmless = {one.name for one in outcomes if not one.wrong}
    assert len(tame) >= 50
    assert len(harmless) <= len(tame) // 4, harmless


def _naive(source: str, tests: str) -> bool:
    """Judge as is common: source and asserts in one process, a right answer if it ends with 0 and says the word."""
    program = f"{source}\n{tests}\nprint('TOKEN')\n"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=False)
    return done.returncode == 0 and "TOKEN" in done.stdout


def test_a_judge_in_the_same_process_is_fooled():
    tests = "\n".join(f"assert add(*{args}) == {value}" for args, value in CASES)
    names = ["always-equal", "always-equal-int", "always-equal-str", "always-equal-list", "equal-by-metaclass", "lying-class",
             "numpy-like", "mock", "prints-success"]  # fmt: skip
    assert {name for name in names if _naive(FUNCTIONS[name], tests)} == set(names)


def test_a_right_solution_passes_every_judge_of_the_corpus():
    right = "def add(a, b): return a + b"
    assert sandbox.check_function(right, "add", CASES).passed
    assert sandbox.check_asserts(right, ASSERTS).passed
    assert sandbox.check_asserts(right, CHECK, entry_point="add").passed
